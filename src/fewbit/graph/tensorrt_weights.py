"""Integer weights written as TensorRT before version 10 wants them: as floats, with a Q in front of their DQ.

    before   W_q int8 ─ DQ(s) ─ Conv          after   W float32 ─ Q(s) ─ DQ(s) ─ Conv          W = W_q · s

It turns them into the same integers when it builds its engine. The file is nearly as large as that of the float
network; the engine is not.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from fewbit.graph.model import Array, Model, attr, const, is_const, op_name


def float_weights(model: Model) -> tuple[Model, int]:
    """A copy with float weights in front of Q and DQ.

    Returns:
        the copy, and how many weights were rewritten.
    """
    out = model.clone()
    taken, done = out.names(), 0
    for dq in list(out.graph.all_nodes()):
        value = dq.inputs[0] if op_name(dq) == "DequantizeLinear" else None
        if value is None or not is_const(value):
            continue
        q, scale = const(value), const(dq.inputs[1])
        assert q is not None and scale is not None
        name = str(value.name)
        w = out.add_initializer(out.fresh(f"{name}_float", taken), (q * _spread(scale, dq, q.ndim)).astype(np.float32))
        along = {"axis": int(attr(dq, "axis", 1))} if scale.size > 1 else {}
        quantize = ir.node("QuantizeLinear", [w, *dq.inputs[1:]], along, name=out.fresh(f"{name}_pair", taken))
        made = quantize.outputs[0]
        made.name, made.type, made.shape = quantize.name, value.type, value.shape
        assert dq.graph is not None
        dq.graph.insert_before(dq, quantize)
        dq.replace_input_with(0, made)
        done += 1
    out.drop_unused()
    return out, done


def _spread(scale: Array, dq: ir.Node, rank: int) -> Array:
    """Scales in the shape that multiplies the weight."""
    if scale.size == 1:
        return scale.reshape(())
    shape = [1] * rank
    shape[int(attr(dq, "axis", 1))] = -1
    return scale.reshape(shape)
