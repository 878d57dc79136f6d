"""Write an LSTM with integer weights, whose inputs and states are quantized at run time, step by step.

    before   LSTM(x, W, R, B, …)                                  W (dirs, 4h, in), R (dirs, 4h, h)
    after    com.microsoft.DynamicQuantizeLSTM(x, Wᵀ_q, Rᵀ_q, B, …, s_W, z_W, s_R, z_R)

This is an operator of ONNX Runtime alone; nothing in standard ONNX multiplies integers inside of an LSTM.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from fewbit.graph.dynamic_inputs import FLOAT, DynamicWriter, take_over

DOMAIN = "com.microsoft"
PLAIN_INPUTS = 8
"""x, W, R, B, sequence_lens, initial_h, initial_c, P."""


def emit_lstm(node: ir.Node, w: DynamicWriter) -> None:
    """Replace an LSTM whose W and R are constant; scales are per tensor or per row of the gates."""
    inputs = list(node.inputs) + [None] * (PLAIN_INPUTS - len(node.inputs))
    for i in (1, 2):
        key, q, params = w.weight(node, i)
        directions, gates, _ = q.shape
        view = (directions, gates) if params.scale.ndim else (directions,)
        scale = np.ascontiguousarray(np.broadcast_to(params.scale, view))
        inputs[i] = w.shared(f"{key}_qt", np.ascontiguousarray(q.transpose(0, 2, 1)))
        inputs += [w.shared(f"{key}_scale", scale), w.shared(f"{key}_zero", np.zeros(view, np.int8))]
    w.domains.setdefault(DOMAIN, 1)
    attrs = {k: a for k, a in node.attributes.items() if k != "layout"}
    count = len(node.outputs)
    made = ir.Node(DOMAIN, "DynamicQuantizeLSTM", inputs, attrs.values(), num_outputs=count)
    first = node.outputs[0]
    w.append(made, f"{node.name}_integer", FLOAT, first.shape)
    for old, new in zip(node.outputs, made.outputs, strict=True):
        new.type, new.shape = ir.TensorType(FLOAT), old.shape
        if old.name:
            take_over(old, new)
