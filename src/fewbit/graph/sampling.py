"""Strides of 1×1 convolutions, taken in front of them.

    before   Q → DQ → Conv(1×1, stride 2)        after   Q → MaxPool(1×1, stride 2) → DQ → Conv(1×1)
             Conv(1×1, stride 2, padded)                 MaxPool(1×1) → Conv(1×1, stride 2, padded)

The same numbers: such a convolution reads every second place only. OpenVINO moves the stride there by itself, but
behind the DQ, where it can no longer compute the convolution in integers: two in each stage of a ResNet. And it does so
with padded ones too, where it forgets that the places are counted from the edge of the padding; it does not across a
MaxPool.

    before   Concat → Q(s8) → DQ → Conv          after   Concat → Q(s8) → MaxPool(1×1) → DQ → Conv

OpenVINO moves the Q in front of the Concat by itself, and takes its integers for unsigned ones then.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from fewbit.graph.model import Model, attr, dims


def sample_first(model: Model) -> int:
    """Do so wherever all readers of a DQ are such convolutions of one stride, or one is padded; returns how often."""
    taken = model.names()
    done = _hold_strides(model, taken) + _hold_joined(model, taken)
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


def _hold_strides(model: Model, taken: set[str]) -> int:
    """Put a MaxPool that changes nothing in front of each such convolution that is padded."""
    done = 0
    for conv in model.nodes:
        x = conv.inputs[0] if conv.op_type == "Conv" else None
        if x is None or not _pointwise(conv) or not _padded(conv) or all(s == 1 for s in attr(conv, "strides", ())):
            continue
        maker = x.producer()
        if maker is None or maker.op_type == "MaxPool":
            continue
        _hold(model, taken, conv, len(attr(conv, "strides", ())))
        done += 1
    return done


def _hold_joined(model: Model, taken: set[str]) -> int:
    """Put such a MaxPool between the Q and the DQ behind each Concat whose signed integers convolutions read."""
    done = 0
    for dq in model.nodes:
        q = dq.inputs[0] if dq.op_type == "DequantizeLinear" else None
        if q is None or q.dtype != ir.DataType.INT8 or not _joined(q.producer()):
            continue
        convs = [conv for conv, i in dq.outputs[0].uses() if conv.op_type == "Conv" and i == 0]
        weight = dims(convs[0].inputs[1]) if convs else None
        if weight is not None:
            _hold(model, taken, dq, len(weight) - 2)
            done += 1
    return done


def _joined(maker: ir.Node | None) -> bool:
    """Whether what a node puts out was put together, with Q, DQ and Relus between."""
    while (
        maker is not None
        and maker.op_type in ("QuantizeLinear", "DequantizeLinear", "Relu")
        and maker.inputs[0] is not None
    ):
        maker = maker.inputs[0].producer()
    return maker is not None and maker.op_type == "Concat"


def _hold(model: Model, taken: set[str], node: ir.Node, axes: int) -> None:
    """Put a MaxPool that changes nothing in front of a node's first input."""
    x = node.inputs[0]
    assert x is not None
    pool = ir.node("MaxPool", [x], {"kernel_shape": [1] * axes}, name=model.fresh(f"{node.name}/hold", taken))
    out = pool.outputs[0]
    out.name, out.type, out.shape = model.fresh(f"{pool.name}_out", taken), x.type, x.shape
    model.graph.insert_before(node, pool)
    node.replace_input_with(0, out)


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
    return _pointwise(conv) and not _padded(conv)


def _pointwise(conv: ir.Node) -> bool:
    weight = dims(conv.inputs[1])
    return weight is not None and all(k == 1 for k in weight[2:])


def _padded(conv: ir.Node) -> bool:
    return any(attr(conv, "pads", ())) or attr(conv, "auto_pad", "NOTSET") not in ("NOTSET", "VALID")
