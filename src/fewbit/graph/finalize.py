"""Last steps before a quantized graph leaves.

    DQ(s, z) → Q(s, z)    back to back with the same parameters: both go
    Q/DQ of 16 bits       needs opset 21; groups likewise
    ir_version            at least what the opset asks for
    laws                  those of the engine that reads the file, if it has any: `LAWS`

How the network was made goes into the file's metadata.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import numpy as np
import onnx_ir as ir

from fewbit.errors import UnsupportedModel
from fewbit.graph.model import PACKED, Model, const
from fewbit.graph.normalize import ir_for
from fewbit.graph.sampling import sample_first
from fewbit.graph.tensorrt_legal import refuse_illegal

MOVES = frozenset(
    ("DepthToSpace", "Dropout", "Flatten", "Identity", "MaxPool", "Pad", "Reshape", "Slice", "SpaceToDepth", "Squeeze",
     "Transpose", "Unsqueeze")
)  # fmt: skip
"""Operators that ONNX Runtime drops, merges into a convolution, or moves Q and DQ past."""

MERGES = frozenset(("Add", "BatchNormalization", "Clip", "Mul", "Relu"))
"""Operators, with constants beside the value, that it merges into the layer before or into the Q behind."""

NEEDS_21 = frozenset((ir.DataType.INT16, ir.DataType.UINT16, ir.DataType.INT4, ir.DataType.UINT4))

LAWS: dict[str, Callable[[Model], None]] = {"": lambda model: None, "tensorrt": refuse_illegal}
"""`Target.laws` → raises UnsupportedModel if the written network breaks them."""


def finalize(
    model: Model,
    opset: int,
    info: Mapping[str, str],
    apart: Collection[str] = (),
    floats: Collection[str] = (),
    *,
    sampled: bool = False,
    summed: bool = False,
    laws: str = "",
) -> Model:
    """Do all of the above in place.

    Args:
        model: fresh from `emit_qdq`. opset: least that the target needs. info: written into the file's metadata.
        apart: operators that the engine would make integer by itself, see `keep_apart`. floats: nodes that stay float.
        sampled: take strides in front of 1×1 convolutions, see `sample_first`.
        summed: write what is added to products as sums, see `sum_behind`. laws: a key of `LAWS`.

    Raises:
        UnsupportedModel: the graph needs a newer opset than it could be raised to, or breaks a law.
    """
    cancel_pairs(model)
    keep_apart(model, apart, floats)
    if sampled:
        sample_first(model)
    if summed:
        sum_behind(model)
    check_legal(model, opset)
    LAWS[laws](model)
    model.ir.ir_version = max(model.ir.ir_version or 0, ir_for(model.opset))
    model.ir.producer_name = "fewbit"
    model.metadata.update(info)
    if model.stored:
        model.metadata[PACKED] = str(len(model.stored))
    return model


def cancel_pairs(model: Model) -> int:
    """Remove each Q that follows a DQ with the same scale, zero point and type; returns how many went."""
    gone = 0
    for q in model.nodes:
        x = q.inputs[0] if q.op_type == "QuantizeLinear" else None
        dq = x.producer() if x is not None else None
        if dq is None or dq.op_type != "DequantizeLinear" or q.outputs[0].is_graph_output():
            continue
        before = dq.inputs[0]
        if before is None or before.dtype != q.outputs[0].dtype or not _same(q, dq):
            continue
        for node, index in list(q.outputs[0].uses()):
            node.replace_input_with(index, before)
        gone += 1
    if gone:
        model.drop_unused()
    return gone


def _same(a: ir.Node, b: ir.Node) -> bool:
    pairs = [(const(x), const(y)) for x, y in zip(a.inputs[1:], b.inputs[1:], strict=False)]
    return all(x is not None and y is not None and np.array_equal(x, y) for x, y in pairs)


def keep_apart(model: Model, ops: Collection[str], floats: Collection[str]) -> int:
    """Put a Sum of one input between a float operator and the Q behind it, if a DQ stands in front; returns how many.

        before   DQ ─ Conv(float W) ─ [Mul] ─ [Relu] ─ Q          after   DQ ─ Conv(float W) ─ [Mul] ─ [Relu] ─ Sum ─ Q

    ONNX Runtime reads the first form as an order to quantize W itself, one scale for all channels: the very layer that
    was to stay float would become integer, badly. It takes AveragePool likewise, and then runs it slower than in float.
    Before it looks, it merges what stands between into the weights (`MERGES`), and moves Q and DQ past what only moves
    numbers (`MOVES`). A Sum of one input changes nothing and survives its optimizer.
    """
    done, taken = 0, model.names()
    for q in model.nodes:
        value = q.inputs[0] if q.op_type == "QuantizeLinear" else None
        core = _before(value, MERGES | MOVES, ops)
        if value is None or core is None or core.op_type not in ops or core.name not in floats:
            continue
        first = _before(core.inputs[0], MOVES)
        if first is None or first.op_type != "DequantizeLinear":
            continue
        apart = ir.node("Sum", [value], name=model.fresh(f"{value.name}_apart", taken))
        out = apart.outputs[0]
        out.name, out.type, out.shape = apart.name, value.type, value.shape
        model.graph.insert_before(q, apart)
        q.replace_input_with(0, out)
        done += 1
    return done


def _before(value: ir.Value | None, through: Collection[str], until: Collection[str] = ()) -> ir.Node | None:
    """The operator that a value comes from, looked for through some that have one input that is computed."""
    while value is not None:
        node = value.producer()
        if node is None or node.op_type not in through or node.op_type in until:
            return node
        computed = [v for v in node.inputs if v is not None and const(v) is None]
        value = computed[0] if len(computed) == 1 else None
    return None


def sum_behind(model: Model) -> int:
    """Make an Add right behind a MatMul that reads a DQ a Sum of two inputs; returns how many.

        before   DQ, DQ ─ MatMul ─ Add(b)            after   DQ, DQ ─ MatMul ─ Sum(b)

    Where shapes are known, ONNX Runtime makes one float Gemm of the first form, before it looks for integers: 12 times
    slower than in integers, 5 times than in float. And of DQ ─ MatMul(float W) ─ Add ─ Q, a layer that was to stay
    float, it makes a Gemm that it then quantizes by itself, as in `keep_apart`. It does neither with a Sum, which is as
    fast.
    """
    done = 0
    for node in model.nodes:
        if node.op_type == "Add" and any(_product_of_dq(v) for v in node.inputs):
            node.op_type = "Sum"
            done += 1
    return done


def _product_of_dq(value: ir.Value | None) -> bool:
    maker = value.producer() if value is not None else None
    return maker is not None and maker.op_type == "MatMul" and _reads_dq(maker)


def _from_dq(value: ir.Value | None) -> bool:
    maker = value.producer() if value is not None else None
    return maker is not None and maker.op_type == "DequantizeLinear"


def _reads_dq(node: ir.Node) -> bool:
    return bool(node.inputs) and _from_dq(node.inputs[0])


def check_legal(model: Model, opset: int) -> None:
    """Raise unless the opset carries the types in use."""
    need = opset
    for node in model.nodes:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            types = {v.dtype for v in (*node.inputs, *node.outputs) if v is not None}
            if types & NEEDS_21 or "block_size" in node.attributes:
                need = max(need, 21)
    if model.opset < need:
        raise UnsupportedModel(
            f"the integer network needs opset {need}, but the model is at {model.opset} and could not be raised"
            + "".join(f"; {n}" for n in model.notes if "opset" in n)
        )
