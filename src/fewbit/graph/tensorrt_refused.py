"""What TensorRT refuses, or would compute wrongly: rules about single Q and DQ, and about what stands around them.

Taken from its documentation of explicit quantization, and from what its ONNX parser asserts, versions 8 to 11. The
strictest version counts, so that what passes here is taken by all.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from fewbit.graph.model import Model, attr, dims, op_name
from fewbit.graph.tensorrt_layer import arriving_axis, layer, layers, wanted_axis
from fewbit.graph.tensorrt_rule import (
    ILLEGAL,
    WEIGHTED,
    Found,
    dequantized,
    everywhere,
    integer,
    made_by,
    maker,
    numbers,
    of,
    on_weight,
    pairs,
    readers,
    rule,
)

LEAST_OPSET = 13

NO_IMPORTER = frozenset("QLinearConv QLinearMatMul ConvInteger MatMulInteger DynamicQuantizeLinear".split())
"""Quantized operators of the ONNX standard that its parser does not know."""

OF_RUNTIMES = ("ai.onnx.", "com.microsoft.", "com.ms.")
"""How domains begin whose operators are of ONNX Runtime, or of ONNX beside its standard: the parser knows none."""

PLUGINS = frozenset("EfficientNMS_TRT MultilevelCropAndResize_TRT PyramidROIAlign_TRT".split())
"""Operators, of whatever domain, that its parser finds among the plugins that come with TensorRT."""

CONVOLUTIONS = ("Conv", "ConvTranspose")

SCALES = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


def _storage(node: ir.Node) -> ir.DataType | None:
    """Type of the integers of a Q or DQ."""
    if op_name(node) == "DequantizeLinear":
        value = of(node, 0)
        return value.dtype if value is not None else None
    zero = of(node, 2)
    if zero is not None and zero.dtype is not None:
        return zero.dtype
    named = int(attr(node, "output_dtype", 0))
    return ir.DataType(named) if named else ir.DataType.UINT8


@rule("opset", ILLEGAL)
def opset(model: Model) -> Iterator[Found]:
    """Q and DQ with an axis came with opset 13; save the model with that or a newer one."""
    first = next(pairs(model), None)
    if first is not None and model.opset < LEAST_OPSET:
        yield first, f"the model is at opset {model.opset}"


@rule("operator", ILLEGAL)
def operator(model: Model) -> Iterator[Found]:
    """It imports Q and DQ around standard operators only; quantize the float network, as exported, for tensorrt."""
    for node in everywhere(model):
        if op_name(node) in NO_IMPORTER or (_foreign(node) and _of_runtime(node)):
            yield node, f"operator {op_name(node)}"


@rule("plugin", ILLEGAL)
def plugin(model: Model) -> Iterator[Found]:
    """An operator outside of the ONNX standard needs a plugin, of which nothing is known here; use standard ones."""
    for node in everywhere(model):
        if _foreign(node) and not _of_runtime(node):
            yield node, f"operator {op_name(node)}"


def _of_runtime(node: ir.Node) -> bool:
    return f"{node.domain}.".startswith(OF_RUNTIMES)


def _foreign(node: ir.Node) -> bool:
    """Whether an operator is neither of the ONNX standard, nor a plugin that comes with TensorRT."""
    return op_name(node) != node.op_type and node.op_type not in PLUGINS


@rule("integer-type", ILLEGAL)
def integer_type(model: Model) -> Iterator[Found]:
    """Integers of activations and weights are int8; quantize again with target tensorrt."""
    for node in pairs(model):
        kind = _storage(node)
        if kind not in (ir.DataType.INT8, ir.DataType.INT32, None):
            yield node, f"{str(kind).lower()} integers"


@rule("float-bias", ILLEGAL)
def float_bias(model: Model) -> Iterator[Found]:
    """A bias is a float constant, which it rounds by itself; put the bias in as it was before it was quantized."""
    for node in pairs(model):
        if _storage(node) == ir.DataType.INT32:
            yield node, "a DQ of int32"
    for node in everywhere(model):
        bias = of(node, 2) if op_name(node) in WEIGHTED else None
        dq = dequantized(bias)
        if dq is not None and _storage(dq) != ir.DataType.INT32:
            yield dq, f"Q or DQ on the bias of {node.name}"


@rule("zero-point-missing", ILLEGAL)
def zero_point_missing(model: Model) -> Iterator[Found]:
    """Its parser asks for three inputs up to version 8, and without the third a Q makes uint8; add an int8 zero."""
    for node in pairs(model):
        if of(node, 2) is None:
            yield node, "no zero point"


@rule("zero-point", ILLEGAL)
def zero_point(model: Model) -> Iterator[Found]:
    """Its integers are symmetric: every zero point is 0; quantize again with target tensorrt."""
    for node in pairs(model):
        zero = numbers(node, 2)
        if zero is not None and zero.any():
            yield node, f"zero point {int(zero[zero != 0].flat[0])}"


@rule("computed-scale", ILLEGAL)
def computed_scale(model: Model) -> Iterator[Found]:
    """Scales and zero points are known when the engine is built; ranges measured at run time have to be calibrated."""
    for node in pairs(model):
        for index, what in ((1, "scale"), (2, "zero point")):
            if of(node, index) is not None and numbers(node, index) is None:
                yield node, f"a {what} that is computed"


@rule("scale", ILLEGAL)
def scale(model: Model) -> Iterator[Found]:
    """Scales are finite and over 0; calibrate again, on data that reaches this value."""
    for node in pairs(model):
        s = numbers(node, 1)
        if s is not None and not (np.isfinite(s) & (s > 0)).all():
            wrong = s.reshape(-1)[~(np.isfinite(s) & (s > 0)).reshape(-1)]
            yield node, f"scale {float(wrong[0]):g}"


@rule("scale-type", ILLEGAL)
def scale_type(model: Model) -> Iterator[Found]:
    """Scales are float32, float16 or bfloat16; cast them."""
    for node in pairs(model):
        s = of(node, 1)
        if s is not None and s.dtype not in (*SCALES, None):
            yield node, f"a scale of {str(s.dtype).lower()}"


@rule("blocks", ILLEGAL)
def blocks(model: Model) -> Iterator[Found]:
    """int8 has one scale a tensor or a channel, no blocks; use quantize_granularity channel-wise."""
    for node in pairs(model):
        s = numbers(node, 1)
        if int(attr(node, "block_size", 0)) or (s is not None and s.ndim > 1):
            yield node, "scales in blocks"


@rule("scale-count", ILLEGAL)
def scale_count(model: Model) -> Iterator[Found]:
    """There are as many scales as the axis is long, and as many zero points as scales."""
    for node in pairs(model):
        s, zero, shape = numbers(node, 1), numbers(node, 2), dims(of(node, 0))
        if s is None or s.ndim > 1 or int(attr(node, "block_size", 0)):
            continue
        if zero is not None and zero.size != s.size:
            yield node, f"{s.size} scales, {zero.size} zero points"
        axis = int(attr(node, "axis", 1))
        inside = shape is not None and -len(shape) <= axis < len(shape)
        length = shape[axis] if shape is not None and inside else None
        if s.size != 1 and shape is not None and (not inside or length not in (None, s.size)):
            yield node, f"{s.size} scales along axis {axis} of {list(shape)}"


@rule("activation-channels", ILLEGAL)
def activation_channels(model: Model) -> Iterator[Found]:
    """Activations have one scale; scales a channel are for weights."""
    for node in pairs(model):
        s = numbers(node, 1)
        if s is not None and s.size > 1 and not on_weight(node):
            yield node, f"{s.size} scales on a computed value"


@rule("weight-axis", ILLEGAL)
def weight_axis_rule(model: Model) -> Iterator[Found]:
    """Scales lie along the output channels: axis 0 of Conv, 1 of ConvTranspose, columns else (of a left side, rows)."""
    for found in layers(model):
        want = wanted_axis(found)
        if found.dq is None or want is None or found.scales < 2:
            continue
        axis = arriving_axis(found)
        if axis is None:
            yield found.dq, f"the axis of its scales is lost in {found.way[-1].name} in front of {found.node.name}"
        elif axis != want:
            yield found.dq, f"axis {axis} for the weight of {found.node.name}; it is {want}"


@rule("grouped-transpose", ILLEGAL)
def grouped_transpose(model: Model) -> Iterator[Found]:
    """The channels of one group share scales with those of another there; use one scale, or keep the layer float."""
    for found in layers(model):
        node = found.node
        if op_name(node) == "ConvTranspose" and int(attr(node, "group", 1)) > 1 and found.scales > 1:
            yield node, f"{found.scales} scales in {attr(node, 'group')} groups"


@rule("rank", ILLEGAL)
def rank(model: Model) -> Iterator[Found]:
    """Integer convolutions have two or three dimensions; keep others in float, or add a dimension of 1."""
    for found in layers(model):
        plain = op_name(found.node) in CONVOLUTIONS
        if plain and found.dq is not None and found.shape is not None and len(found.shape) not in (4, 5):
            yield found.node, f"a convolution of {len(found.shape) - 2} dimensions"


@rule("computed-weight", ILLEGAL)
def computed_weight(model: Model) -> Iterator[Found]:
    """The weights of integer convolutions are constants behind DQ, or behind Q and DQ."""
    for node in everywhere(model):
        if op_name(node) in CONVOLUTIONS and integer(of(node, 1)) and layer(node) is None:
            yield node, "a weight that is computed"


@rule("half-quantized", ILLEGAL)
def half_quantized(model: Model) -> Iterator[Found]:
    """A layer with integer weights has integer inputs: Q and DQ in front of it, too."""
    for found in layers(model):
        if found.dq is not None and not integer(found.data):
            yield found.node, "integer weights, a float input"


@rule("pair", ILLEGAL)
def pair(model: Model) -> Iterator[Found]:
    """Q and DQ stand in pairs, with nothing in between: integers are only read by a DQ, and only made by a Q."""
    for node in pairs(model):
        if op_name(node) == "QuantizeLinear":
            others = [r for r in readers(node) if op_name(r) != "DequantizeLinear"]
            if others:
                yield node, f"its integers are read by {op_name(others[0])} {others[0].name}"
            elif any(v.is_graph_output() for v in node.outputs) or not readers(node):
                yield node, "no DQ behind it"
        elif not on_weight(node) and made_by(of(node, 0), "QuantizeLinear") is None:
            source = maker(of(node, 0))
            yield node, f"its integers come from {'an input' if source is None else op_name(source)}"
