"""Take Q and DQ out of a network again: the float network that they stand in, and the integers of its layers.

    before   x ─ Q ─ [Clip] ─ DQ ─ Conv(DQ(W_q), b) ─ y        after   x ─ Conv(s·W_q, b) ─ y    and {Conv: W_q, s, s_x}

For engines that have no Q/DQ form and take integer layers one by one. What is left computes with the very numbers that
the integers stand for.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from fewbit.errors import EngineError
from fewbit.graph.model import Model, attr, const

Q, DQ = "QuantizeLinear", "DequantizeLinear"
LAYERS = ("Conv", "Gemm", "MatMul")
LIMIT = 127
"""Largest magnitude of a symmetric 8-bit integer."""


@dataclass(frozen=True, eq=False)
class IntegerLayer:
    """One layer that computes in integers.

    Args:
        node: its name. x: the float value that it rounds. input_scale: real = integer · scale.
        weight: int8, (out, …) as a Conv has it; a matrix is turned to (out, in).
        weight_scale: one number an output channel.
    """

    node: str
    x: str
    input_scale: np.float32
    weight: NDArray[np.int8]
    weight_scale: NDArray[np.float32]


@dataclass
class Stripped:
    """A network without Q and DQ.

    Args:
        model: float. layers: by the name of their node.
        rounded: outputs of the given network that are a rounded value → that value, and the scale of its integers.
    """

    model: Model
    layers: dict[str, IntegerLayer] = field(default_factory=dict)
    rounded: dict[str, tuple[str, np.float32]] = field(default_factory=dict)


def has_integers(model: Model) -> bool:
    """Whether there is a Q or a DQ in the network."""
    return any(n.op_type in (Q, DQ) for n in model.nodes)


def strip(model: Model, engine: str) -> Stripped:
    """The float network, and the integers of its layers: symmetric, 8 bits, rounded at the input of layers only.

    Args:
        model: stays as it is. engine: the target that the network has to be made for, for messages.

    Raises:
        EngineError: it was quantized for another engine; says what is in the way.
    """
    out = Stripped(model.clone())
    known: dict[str, tuple[NDArray[np.int8], NDArray[np.float32]]] = {}
    rounds: dict[str, np.float32] = {}
    for node in out.model.nodes:
        if node.op_type != DQ:
            continue
        source, name = _source(node), str(node.outputs[0].name)
        if source is None:
            known[name] = _constant(out.model, node, engine)
        else:
            rounds[name] = _scale(node, source, engine)
    for node in out.model.nodes:
        _take_layer(node, out, known, rounds, engine)
    for node in [n for n in out.model.nodes if n.op_type == DQ]:
        _bypass(out, node, engine)
    out.model.drop_unused()
    left = next((n for n in out.model.nodes if n.op_type in (Q, DQ)), None)
    if left is not None:
        raise _other(engine, f"{left.name!r} answers in integers")
    for key in [k for k in out.model.metadata if k.startswith("fewbit.")]:
        del out.model.metadata[key]
    return out


def _other(engine: str, what: str) -> EngineError:
    return EngineError(f"this network was quantized for another engine: {what}; quantize it with target={engine!r}")


def _source(dq: ir.Node) -> ir.Value | None:
    """The float value in front of Q, Clip and DQ; None for a constant."""
    value = dq.inputs[0]
    maker = value.producer() if value is not None else None
    if maker is not None and maker.op_type == "Clip":
        maker = maker.inputs[0].producer() if maker.inputs[0] is not None else None
    return maker.inputs[0] if maker is not None and maker.op_type == Q else None


def _scale(dq: ir.Node, source: ir.Value, engine: str) -> np.float32:
    """Scale of an activation's integers."""
    scale = const(dq.inputs[1])
    zero = const(dq.inputs[2]) if len(dq.inputs) > 2 else None
    if scale is None or scale.size != 1 or zero is None or zero.dtype != np.int8 or zero.any():
        kind = "computed" if scale is None else "with several scales" if scale.size != 1 else "not symmetric s8"
        raise _other(engine, f"value {source.name!r} is {kind}")
    clip = dq.inputs[0].producer() if dq.inputs[0] is not None else None
    least, most = (const(v) for v in clip.inputs[1:3]) if clip is not None and clip.op_type == "Clip" else (None, None)
    if least is None or most is None or (int(least), int(most)) != (-LIMIT, LIMIT):
        raise _other(engine, f"value {source.name!r} is rounded to other integers than -{LIMIT} … {LIMIT}")
    return np.float32(scale.reshape(()))


def _constant(model: Model, dq: ir.Node, engine: str) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Put the real numbers of a constant in place of its DQ; its integers, and one scale along the axis of the DQ."""
    value, out = dq.inputs[0], dq.outputs[0]
    q, scale = const(value), const(dq.inputs[1])
    zero = const(dq.inputs[2]) if len(dq.inputs) > 2 else None
    if q is None or scale is None or "block_size" in dq.attributes:
        raise _other(engine, f"{dq.name!r} has scales for groups, or that are computed")
    axis = int(attr(dq, "axis", 1)) % max(q.ndim, 1)
    wide = [1] * q.ndim
    if scale.size > 1:
        wide[axis] = -1
    s = scale.reshape(wide) if q.ndim else scale.reshape(())
    z = 0 if zero is None else zero.astype(np.int32).reshape(wide if zero.size > 1 else [1] * q.ndim)
    real = ((q.astype(np.int32) - z).astype(np.float32) * s).astype(np.float32)
    name = str(out.name)
    out.name = model.fresh(f"{name}_dq", model.names())
    new = model.add_initializer(name, real)
    for i, v in enumerate(model.graph.outputs):
        if v is out:
            model.graph.outputs[i] = new
    for user, index in list(out.uses()):
        user.replace_input_with(index, new)
    exact = q.dtype == np.int8 and (zero is None or not zero.any())
    return (q if exact else np.zeros(0, np.int8)), scale.reshape(-1).astype(np.float32)


def _take_layer(
    node: ir.Node,
    out: Stripped,
    known: dict[str, tuple[NDArray[np.int8], NDArray[np.float32]]],
    rounds: dict[str, np.float32],
    engine: str,
) -> None:
    if node.op_type not in LAYERS or len(node.inputs) < 2 or node.inputs[0] is None or node.inputs[1] is None:
        return
    x, w = str(node.inputs[0].name), str(node.inputs[1].name)
    if x not in rounds:
        return
    if w not in known:
        raise _other(engine, f"layer {node.name!r} rounds its input, but has no integer weight")
    q, scale = known[w]
    matrix = node.op_type != "Conv"
    if matrix and (q.ndim != 2 or attr(node, "transA", 0) or attr(node, "alpha", 1.0) != 1.0):
        raise _other(engine, f"layer {node.name!r} has a form that {engine} has no integer layer for")
    if not q.size or q.min() < -LIMIT:
        raise _other(engine, f"the weight of layer {node.name!r} is not symmetric s8 of -{LIMIT} … {LIMIT}")
    if matrix and not attr(node, "transB", 0):
        q = np.ascontiguousarray(q.T)
    if scale.size not in (1, len(q)):
        raise _other(engine, f"the scales of layer {node.name!r} are not one for each output")
    maker = node.inputs[0].producer()
    source = _source(maker) if maker is not None else None
    assert source is not None
    spread = np.broadcast_to(scale, (len(q),)).astype(np.float32)
    out.layers[str(node.name)] = IntegerLayer(str(node.name), str(source.name), rounds[x], q, spread)


def _bypass(out: Stripped, dq: ir.Node, engine: str) -> None:
    """Let the readers of a rounded value read the value itself; all of them have to be integer layers."""
    source, value = _source(dq), dq.outputs[0]
    if source is None:
        return
    for user, index in list(value.uses()):
        if index != 0 or str(user.name) not in out.layers:
            raise _other(engine, f"{user.op_type} {user.name!r} reads the rounded value {source.name!r}")
        user.replace_input_with(index, source)
    outputs = out.model.graph.outputs
    if any(v is value for v in outputs):
        out.rounded[str(value.name)] = str(source.name), _scale(dq, source, engine)
        kept = [v for v in outputs if v is not value]
        if not source.is_graph_input() and not any(v is source for v in kept):
            kept.append(source)
        outputs.clear()
        outputs.extend(kept)
