"""A PyTorch network as an ONNX graph, with marks that say where its places went.

The exporter that comes with PyTorch (torch.onnx, dynamo) does the work. The first axis of every input stays free.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fewbit.errors import UnsupportedModel, UsageError
from fewbit.graph.marks import Marked, marked

OPSET = 18
"""What the exporter writes without converting."""


class Mark(nn.Module):
    """Says, in an exported graph, where its input went."""

    def __init__(self, label: str) -> None:
        super().__init__()
        self.label = label

    def forward(self, x: Tensor) -> Tensor:
        """x, of any shape."""
        return mark(x, self.label)


def mark(x: Tensor, label: str) -> Tensor:
    """x, unchanged; exported as `fewbit::Mark`."""
    if not torch.compiler.is_exporting():
        return x
    return torch.onnx.ops.symbolic(
        "fewbit::Mark", (x,), attrs={"label": label}, dtype=x.dtype, shape=x.shape, version=1
    )


def to_onnx(net: nn.Module, sample: Sequence[Any], names: Sequence[str] = ()) -> Marked:
    """Export a network in evaluation mode.

    Args:
        net: it is put back into the mode that it was in.
        sample: what forward takes, in order; the first axis of a tensor counts samples.
        names: of the inputs; by default those of the arguments of forward.

    Raises:
        UnsupportedModel: the exporter of PyTorch cannot do it; the message says what it told.
    """
    training = [m for m in net.modules() if m.training]
    net.eval()
    try:
        several = tuple(_several(x) for x in sample)
        with torch.no_grad():
            out = net(*several)
        outputs = _named(out)
        shapes = tuple({0: torch.export.Dim.AUTO} if isinstance(x, Tensor) and x.ndim else None for x in several)
        with _quiet():
            program = torch.onnx.export(
                net, several, dynamo=True, opset_version=OPSET, dynamic_shapes=shapes, output_names=outputs,
                input_names=list(names) or None, verbose=False, keep_initializers_as_inputs=False,
            )  # fmt: skip
        assert program is not None
        return marked(program.model_proto)
    except (torch.onnx.errors.OnnxExporterError, torch.onnx.OnnxExporterError) as e:
        why = str(e).strip().splitlines()
        raise UnsupportedModel(f"PyTorch cannot export {type(net).__name__} to ONNX: {why[0] if why else e}") from e
    finally:
        for m in training:
            m.training = True


def _several(x: Any) -> Any:
    """A sample of one is doubled: the exporter takes an axis of 1 for one that is always 1."""
    return torch.cat([x, x]) if isinstance(x, Tensor) and x.ndim and len(x) == 1 else x


def _named(out: Any) -> list[str]:
    """Names of the outputs."""
    count = len(torch.utils._pytree.tree_leaves(out))
    return ["output"] if count == 1 else [f"output_{i}" for i in range(count)]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep to ourselves what the exporter prints and warns of when all goes well."""
    log, level = logging.getLogger("torch.onnx"), logging.getLogger("torch.onnx").level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def arguments(sample: Any) -> tuple[Any, ...]:
    """What forward takes, as a tuple; arrays become tensors.

    Raises:
        UsageError: there is no tensor among it.
    """
    several = tuple(sample) if isinstance(sample, tuple | list) else (sample,)
    found = tuple(torch.from_numpy(x) if isinstance(x, np.ndarray) else x for x in several)
    if not any(isinstance(x, Tensor) for x in found):
        raise UsageError(
            f"sample is {type(sample).__name__}; it must be a tensor, or a tuple of what forward takes, with samples "
            "along the first axis"
        )
    return found


def simulated(net: nn.Module, inputs: Sequence[Any]) -> list[np.ndarray[Any, Any]]:
    """What a network answers in evaluation mode, as arrays."""
    training = [m for m in net.modules() if m.training]
    net.eval()
    try:
        with torch.no_grad():
            out = net(*inputs)
    finally:
        for m in training:
            m.training = True
    return [x.detach().cpu().numpy() for x in torch.utils._pytree.tree_leaves(out)]
