"""Last steps before a quantized graph leaves.

    DQ(s, z) → Q(s, z)    back to back with the same parameters: both go
    Q/DQ of 16 bits       needs opset 21; groups likewise
    ir_version            at least what the opset asks for

How the network was made goes into the file's metadata.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import onnx_ir as ir

from fewbit.errors import UnsupportedModel
from fewbit.graph.model import PACKED, Model, const
from fewbit.graph.normalize import ir_for
from fewbit.graph.sampling import sample_first

NEEDS_21 = frozenset((ir.DataType.INT16, ir.DataType.UINT16, ir.DataType.INT4, ir.DataType.UINT4))


def finalize(
    model: Model,
    opset: int,
    info: Mapping[str, str],
    apart: Collection[str] = (),
    floats: Collection[str] = (),
    *,
    sampled: bool = False,
    summed: bool = False,
) -> Model:
    """Do all of the above in place.

    Args:
        model: fresh from `emit_qdq`. opset: least that the target needs. info: written into the file's metadata.
        apart: operators that the engine would make integer by itself, see `keep_apart`. floats: nodes that stay float.
        sampled: take strides in front of 1×1 convolutions, see `sample_first`.
        summed: write what is added to products as sums, see `sum_behind`.

    Raises:
        UnsupportedModel: the graph needs a newer opset than it could be raised to.
    """
    cancel_pairs(model)
    keep_apart(model, apart, floats)
    if sampled:
        sample_first(model)
    if summed:
        sum_behind(model)
    check_legal(model, opset)
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

        before   DQ ─ Conv(float W) ─ [Relu] ─ Q            after   DQ ─ Conv(float W) ─ [Relu] ─ Sum ─ Q

    ONNX Runtime reads the first form as an order to quantize W itself, one scale for all channels: the very layer that
    was to stay float would become integer, badly. It takes AveragePool likewise, and then runs it slower than in float.
    A Sum of one input changes nothing and survives its optimizer.
    """
    done, taken = 0, model.names()
    for q in model.nodes:
        value = q.inputs[0] if q.op_type == "QuantizeLinear" else None
        maker = value.producer() if value is not None else None
        core = maker
        while core is not None and core.op_type in ("Relu", "Clip") and core.inputs[0] is not None:
            core = core.inputs[0].producer()
        if value is None or core is None or core.op_type not in ops or core.name not in floats or not _reads_dq(core):
            continue
        apart = ir.node("Sum", [value], name=model.fresh(f"{value.name}_apart", taken))
        out = apart.outputs[0]
        out.name, out.type, out.shape = apart.name, value.type, value.shape
        model.graph.insert_before(q, apart)
        q.replace_input_with(0, out)
        done += 1
    return done


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
