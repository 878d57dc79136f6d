"""Inputs and outputs with 4 axes as NHWC instead of NCHW, or the other way round.

    before   x (N, C, H, W) ─ Conv ─ …          after   x (N, H, W, C) ─ Transpose(0, 3, 1, 2) ─ Conv ─ …

ONNX computes in NCHW. A network that was made from an NHWC one begins with such a Transpose already; that, or channels
that can only be the last axis, tell that it takes NHWC as it is. Models are changed in place.
"""

from __future__ import annotations

import onnx_ir as ir

from fewbit.graph.edges import new_input, new_output
from fewbit.graph.model import Model, attr, dims

LAYOUTS = ("NCHW", "NHWC")
TO_NCHW, TO_NHWC = (0, 3, 1, 2), (0, 2, 3, 1)
CHANNELS = (1, 3, 4)
"""Of pictures."""


def inputs_as(model: Model, layout: str) -> list[str]:
    """Let inputs with 4 axes have a layout; returns their names, those that had it included."""
    found = []
    for value in [v for v in model.graph.inputs if v.name not in model.graph.initializers]:
        if value.shape is None or len(value.shape) != 4:
            continue
        found.append(str(value.name))
        if _input_layout(value) == layout or value.dtype is None:
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


def _input_layout(value: ir.Value) -> str:
    readers = [node for node, _ in value.uses()]
    if readers and all(n.op_type == "Transpose" and tuple(attr(n, "perm", ())) == TO_NCHW for n in readers):
        return "NHWC"
    shape = dims(value) or ()
    return "NHWC" if shape[3] in CHANNELS and shape[1] not in CHANNELS and shape[1] is not None else "NCHW"


def _output_layout(value: ir.Value) -> str:
    maker = value.producer()
    from_nchw = maker is not None and maker.op_type == "Transpose" and tuple(attr(maker, "perm", ())) == TO_NHWC
    return "NHWC" if from_nchw else "NCHW"
