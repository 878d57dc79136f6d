"""Inputs and outputs with 4 axes as NHWC instead of NCHW, or the other way round.

    before   x (N, C, H, W) ─ Conv ─ …          after   x (N, H, W, C) ─ Transpose(0, 3, 1, 2) ─ Conv ─ …

ONNX computes in NCHW: what a Conv, a pool … reads is NCHW. A network that was made from an NHWC one begins with such a
Transpose already. Where neither tells, channels that can only be the last axis do; that it is a guess is then said.
Models are changed in place.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import onnx_ir as ir

from fewbit.errors import FewbitWarning
from fewbit.graph.edges import new_input, new_output
from fewbit.graph.model import Model, attr, dims

LAYOUTS = ("NCHW", "NHWC")
TO_NCHW, TO_NHWC = (0, 3, 1, 2), (0, 2, 3, 1)
CHANNELS = (1, 3, 4)
"""Of pictures."""
SPATIAL = frozenset(
    "Conv ConvTranspose ConvInteger QLinearConv BatchNormalization InstanceNormalization GroupNormalization LRN "
    "MaxPool AveragePool LpPool GlobalMaxPool GlobalAveragePool GlobalLpPool DepthToSpace SpaceToDepth".split()
)
"""Operators that read NCHW."""
PASSING = frozenset(
    "Cast Identity QuantizeLinear DequantizeLinear Add Sub Mul Div Neg Abs Sqrt Pow Exp Log Relu LeakyRelu Clip "
    "Sigmoid Tanh HardSigmoid HardSwish Elu Selu Softplus PRelu Sum Max Min Concat Slice Split Pad "
    "Resize Upsample".split()
)
"""Operators behind which axes are where they were."""


def inputs_as(model: Model, layout: str) -> list[str]:
    """Let inputs with 4 axes have a layout; returns their names, those that had it included.

    One that is an output as well stays as it is; that, and where the layout was guessed, is warned of.
    """
    found = []
    for value in [v for v in model.graph.inputs if v.name not in model.graph.initializers]:
        if value.shape is None or len(value.shape) != 4:
            continue
        found.append(str(value.name))
        had, sure = _input_layout(value)
        if value.is_graph_output():
            if had != layout:
                _warn(f"input {value.name!r} is an output as well; it stays {had}")
            continue
        if not sure and (had, layout) != ("NCHW", "NCHW"):
            shape = [str(d) for d in value.shape]
            _warn(f"no layer tells the layout of input {value.name!r} ({', '.join(shape)}); it is taken for {had}")
        if had == layout or value.dtype is None:
            continue
        there, back = (TO_NHWC, TO_NCHW) if layout == "NHWC" else (TO_NCHW, TO_NHWC)
        new_input(
            model, value, "Transpose", dtype=value.dtype, shape=_permuted(value.shape, there), attributes={"perm": back}
        )
    return found


def outputs_as(model: Model, layout: str) -> list[str]:
    """Let outputs with 4 axes have a layout; returns their names, those that had it included."""
    found = []
    for value in list(dict.fromkeys(model.graph.outputs)):
        if value.shape is None or len(value.shape) != 4 or value.is_graph_input():
            continue
        found.append(str(value.name))
        if _output_layout(value) == layout or value.dtype is None:
            continue
        there = TO_NHWC if layout == "NHWC" else TO_NCHW
        new_output(
            model,
            value,
            "Transpose",
            dtype=value.dtype,
            shape=_permuted(value.shape, there),
            attributes={"perm": there},
        )
    return found


def _permuted(shape: ir.Shape, perm: tuple[int, ...]) -> ir.Shape:
    return ir.Shape([shape[i] for i in perm])


def _warn(text: str) -> None:
    warnings.warn(text, FewbitWarning, stacklevel=5)


def _input_layout(value: ir.Value) -> tuple[str, bool]:
    """Layout, and whether a layer tells it: the nearest ones, first those that read NCHW."""
    seen, values = {value}, [value]
    while values:
        readers = [node for v in values for node, i in v.uses() if i == 0 or node.op_type in PASSING]
        if any(n.op_type in SPATIAL or _turns(n, TO_NHWC) for n in readers):
            return "NCHW", True
        if any(_turns(n, TO_NCHW) for n in readers):
            return "NHWC", True
        values = [v for v in _outputs(n for n in readers if n.op_type in PASSING) if v not in seen]
        seen.update(values)
    shape = dims(value) or ()
    return ("NHWC" if shape[3] in CHANNELS and shape[1] not in CHANNELS and shape[1] is not None else "NCHW"), False


def _outputs(nodes: Iterable[ir.Node]) -> list[ir.Value]:
    return list(dict.fromkeys(n.outputs[0] for n in nodes))


def _turns(node: ir.Node | None, perm: tuple[int, ...]) -> bool:
    return node is not None and node.op_type == "Transpose" and tuple(attr(node, "perm", ())) == perm


def _output_layout(value: ir.Value) -> str:
    maker = value.producer()
    while maker is not None and maker.op_type in PASSING and maker.inputs[0] is not None:
        maker = maker.inputs[0].producer()
    return "NHWC" if _turns(maker, TO_NHWC) else "NCHW"
