"""Strides of 1×1 convolutions, taken in front of them.

    before   Q → DQ → Conv(1×1, stride 2)        after   Q → MaxPool(1×1, stride 2) → DQ → Conv(1×1)

The same numbers: such a convolution reads every second place only. OpenVINO moves the stride there by itself, but
behind the DQ, where it can no longer compute the convolution in integers: two in each stage of a ResNet.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from fewbit.graph.model import Model, attr, dims


def sample_first(model: Model) -> int:
    """Do so wherever all readers of a DQ are such convolutions of one stride; returns how often."""
    done, taken = 0, model.names()
    for dq in model.nodes:
        strides = _strides(dq) if dq.op_type == "DequantizeLinear" else ()
        if not strides:
            continue
        q = dq.inputs[0]
        assert q is not None
        pool = ir.node("MaxPool", [q], {"kernel_shape": [1] * len(strides), "strides": list(strides)})
        pool.name = model.fresh(f"{dq.name}/sample", taken)
        pool.outputs[0].name, pool.outputs[0].type = model.fresh(f"{pool.name}_out", taken), q.type
        model.graph.insert_before(dq, pool)
        dq.replace_input_with(0, pool.outputs[0])
        dq.outputs[0].shape = None
        for conv, _ in dq.outputs[0].uses():
            conv.attributes.add(ir.AttrInt64s("strides", [1] * len(strides)))
        done += 1
    return done


def _strides(dq: ir.Node) -> Sequence[int]:
    """The stride that all readers have, if each is a 1×1 convolution without padding that reads it as its data."""
    uses = list(dq.outputs[0].uses())
    if dq.outputs[0].is_graph_output() or not uses:
        return ()
    found = {tuple(attr(conv, "strides", ())) for conv, _ in uses}
    plain = all(conv.op_type == "Conv" and index == 0 and _narrow(conv) for conv, index in uses)
    strides = found.pop() if plain and len(found) == 1 else ()
    return strides if any(s > 1 for s in strides) else ()


def _narrow(conv: ir.Node) -> bool:
    weight = dims(conv.inputs[1])
    padded = any(attr(conv, "pads", ())) or attr(conv, "auto_pad", "NOTSET") not in ("NOTSET", "VALID")
    return weight is not None and all(k == 1 for k in weight[2:]) and not padded
