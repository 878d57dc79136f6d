"""A PyTorch network as an ONNX graph, with marks that say where its places went.

The exporter that comes with PyTorch (torch.onnx, dynamo) does the work. The first axis of every input stays free.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fewbit.errors import FewbitError, UnsupportedModel, UsageError
from fewbit.graph.marks import Marked, marked
from fewbit.graph.model import Model
from fewbit.graph.scopes import named_by_modules, with_batch
from fewbit.torch.reads import in_mode
from fewbit.torch.tree import reason

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


class _Tensors(nn.Module):
    """A network that answers nothing but its tensors: numbers and None have no place in a graph."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *inputs: Any) -> tuple[Tensor, ...]:
        """What the network takes."""
        return tuple(x for x in torch.utils._pytree.tree_leaves(self.inner(*inputs)) if isinstance(x, Tensor))


def to_onnx(net: nn.Module, sample: Sequence[Any], names: Sequence[str] = ()) -> Marked:
    """Export a network with marks, in evaluation mode.

    Args:
        net: it is put back into the mode that it was in.
        sample: what forward takes, in order; the first axis of a tensor counts samples.
        names: of the inputs; by default those of the arguments of forward.

    Raises:
        UnsupportedModel: the exporter of PyTorch cannot do it; the message says what it told.
        UsageError: the network cannot take the sample.
    """
    return marked(_exported(net, sample, names))


def module_to_onnx(net: nn.Module, sample: Sequence[Any]) -> Model:
    """Export a network without marks; nodes are called like the modules they come from. See `to_onnx`."""
    return named_by_modules(_exported(net, sample))


def program_to_onnx(program: torch.export.ExportedProgram) -> Model:
    """Turn an exported program into ONNX, with the shapes that it was exported with.

    Raises:
        UnsupportedModel: the exporter of PyTorch cannot do it.
    """
    with _told("the program"), _quiet():
        made = torch.onnx.export(program, (), dynamo=True, opset_version=OPSET, verbose=False)
    assert made is not None
    return named_by_modules(with_batch(made.model_proto))


def _exported(net: nn.Module, sample: Sequence[Any], names: Sequence[str] = ()) -> Any:
    """What PyTorch's exporter makes of a network."""
    with _told(type(net).__name__), in_mode(net, False):
        several = tuple(_several(x) for x in sample)
        leaves = torch.utils._pytree.tree_leaves(_tried(net, several))
        names = list(names) or _arguments(net, len(several))
        outputs = _named(sum(isinstance(x, Tensor) for x in leaves), names)
        whole = net if all(isinstance(x, Tensor) for x in leaves) else _Tensors(net).eval()
        shapes = tuple({0: torch.export.Dim.AUTO} if isinstance(x, Tensor) and x.ndim else None for x in several)
        with _quiet():
            program = torch.onnx.export(
                whole, several, dynamo=True, opset_version=OPSET, dynamic_shapes=_dynamic(whole, shapes),
                output_names=outputs, input_names=names, verbose=False, keep_initializers_as_inputs=False,
            )  # fmt: skip
        assert program is not None
        proto = with_batch(program.model_proto)
        _check_batch(net, several, [x for x in leaves if isinstance(x, Tensor)], proto)
        return proto


def _check_batch(net: nn.Module, several: Sequence[Any], leaves: Sequence[Tensor], proto: Any) -> None:
    """Raise if the number of samples has been written into the graph, though the network takes any.

    Python code that counts samples (`for i in range(x.shape[0])`) is unrolled by the exporter without a word.

    Args:
        several: what the network was exported on. leaves: what it answered to that.
    """
    fixed = [
        i for i, (x, out) in enumerate(zip(leaves, proto.graph.output, strict=False))
        if x.ndim and (dims := out.type.tensor_type.shape.dim) and dims[0].dim_value == len(x)
    ]  # fmt: skip
    if not fixed:
        return
    more = tuple(torch.cat([x, x[:1]]) if isinstance(x, Tensor) and x.ndim else x for x in several)
    try:
        again = [x for x in torch.utils._pytree.tree_leaves(_tried(net, more)) if isinstance(x, Tensor)]
    except UsageError:  # it takes so many and no others: what was exported is right
        return
    for i in fixed:
        if i < len(again) and len(again[i]) > len(leaves[i]):
            raise UnsupportedModel(
                f"{type(net).__name__} counts its samples in Python, so that what is exported would always be for "
                f"{len(leaves[i])} of them; compute on whole tensors instead"
            )


@contextlib.contextmanager
def _told(what: str) -> Iterator[None]:
    """Errors of PyTorch's exporter, as ours."""
    try:
        yield
    except (torch.onnx.errors.OnnxExporterError, torch.onnx.OnnxExporterError) as e:
        raise UnsupportedModel(f"PyTorch cannot export {what} to ONNX: {_innermost(e)}") from e


def _several(x: Any) -> Any:
    """A sample of one is doubled: the exporter takes an axis of 1 for one that is always 1."""
    return torch.cat([x, x]) if isinstance(x, Tensor) and x.ndim and len(x) == 1 else x


def _tried(net: nn.Module, several: Sequence[Any]) -> Any:
    try:
        with torch.no_grad():
            return net(*several)
    except FewbitError:
        raise
    except Exception as e:  # whatever forward raises
        shapes = ", ".join(str(tuple(x.shape)) if isinstance(x, Tensor) else repr(x) for x in several)
        raise UsageError(
            f"{type(net).__name__} cannot take {shapes}, where the first axis counts samples: {reason(e)}"
        ) from e


def _arguments(net: nn.Module, count: int) -> list[str]:
    """Names of what forward takes, as the exporter would give them."""
    names: list[str] = []
    for p in inspect.signature(net.forward).parameters.values():
        if p.kind is p.VAR_POSITIONAL:
            names += [f"{p.name}_{i}" for i in range(count - len(names))]
        elif p.kind is not p.VAR_KEYWORD:
            names.append(p.name)
    return names[:count]


def _dynamic(net: nn.Module, shapes: tuple[Any, ...]) -> Any:
    return (shapes,) if isinstance(net, _Tensors) else shapes  # it takes all of them as one *inputs


def _named(count: int, taken: Sequence[str]) -> list[str]:
    """Names of the outputs, none of which an input has."""
    names = ["output"] if count == 1 else [f"output_{i}" for i in range(count)]
    while set(names) & set(taken):
        names = [f"{name}_made" for name in names]
    return names


def _innermost(e: BaseException) -> str:
    """The operator that is meant, and what the exception says that all others came from."""
    operator = ""
    while (cause := e.__cause__ or e.__context__) is not None:
        found = re.search(r"target=torch\.ops\.([\w.]+)", str(e))
        operator, e = f"{found[1]}: " if found else operator, cause
    told = operator + reason(e)
    if "data-dependent" in told:
        told += "; what numbers decide (if, while, .item()) has no place in a graph: use torch.where, or torch.cond"
    return told


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep to ourselves what the exporter prints and warns of; what goes wrong is in its exception."""
    log, level = logging.getLogger("torch.onnx"), logging.getLogger("torch.onnx").level
    log.setLevel(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
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
    """What a network answers in evaluation mode: its tensors, as arrays.

    Raises:
        UsageError: it cannot take that.
    """
    with in_mode(net, False):
        leaves = torch.utils._pytree.tree_leaves(_tried(net, inputs))
    return [x.detach().cpu().numpy() for x in leaves if isinstance(x, Tensor)]
