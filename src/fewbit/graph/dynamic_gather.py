"""Write a table whose rows are gathered as integers.

    before   y = Gather(T, i)
    after    y = Cast(Gather(T_q, i)) · Gather(s, i)          T_q s8 or s16, s one scale a row

A DequantizeLinear in front of the Gather would turn the whole table into float in every run (ONNX Runtime: 100 to 400
times slower); so only the rows in use are.
"""

from __future__ import annotations

import onnx_ir as ir

from fewbit.graph.dynamic_inputs import FLOAT, DynamicWriter, take_over


def emit_gather(node: ir.Node, w: DynamicWriter) -> None:
    """Replace a Gather along axis 0 of a table of two axes."""
    key, q, params = w.weight(node, 0)
    index, y = node.inputs[1], node.outputs[0]
    found = ir.node("Gather", [w.shared(f"{key}_q", q), index])
    rows = w.append(found, f"{node.name}_rows", ir.DataType.from_numpy(q.dtype), y.shape)
    real = w.append(ir.node("Cast", [rows], {"to": FLOAT}), f"{node.name}_cast", FLOAT, y.shape)
    scale = w.shared(f"{key}_scale", params.scale.reshape(-1, 1) if params.scale.ndim else params.scale)
    if params.scale.ndim:
        scale = w.append(ir.node("Gather", [scale, index]), f"{node.name}_scale", FLOAT, None)
    take_over(y, w.append(ir.node("Mul", [real, scale]), f"{node.name}_real", FLOAT, y.shape))
