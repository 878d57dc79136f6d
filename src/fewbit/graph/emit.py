"""Write a calibrated plan into the graph as QuantizeLinear / DequantizeLinear pairs (QDQ form).

    before   x ─ Conv(W, b) ─ y
    after    x ─ x_q ─ x_dq ─ Conv(W_dq, b_dq) ─ y ─ y_q ─ y_dq        W_dq = DQ(W_q), b_dq = DQ(b_q)

Weights are stored as integers, biases as int32 with the scale s_x · s_W (so that the engine adds them to its
accumulator as they are), in 16 bits with scales of their own (see `_bias`). Graph outputs keep their names: there the
DQ output takes the name y and the float value becomes y_float. Who reads y: if an integer node made it, everybody reads
y_dq, since the float y no longer exists in the engine; otherwise float readers keep the exact y.

Formats narrower than their storage saturate through a Clip of the integers behind the Q, so that 4-bit networks run in
the kernels of 8 bits; 9 to 15 bits, for which engines have no such Clip, in front of it; ±s, which has no 0, through a
Where.
16-bit Q/DQ and groups need opset 21.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from fewbit.core.half import half_scales
from fewbit.core.nudge import unpack_nudges
from fewbit.core.params import TINY, QuantParams, bias_scale_guard, exact_int32, reduced, weight_params
from fewbit.core.plan import NodePlan, Plan
from fewbit.core.stored import StoredWeight
from fewbit.errors import PlanError, unknown
from fewbit.graph.bias import add_bias
from fewbit.graph.dynamic_inputs import DynamicWriter, check_weight
from fewbit.graph.emit_dynamic import emit_dynamic
from fewbit.graph.emit_packed import emit_packed
from fewbit.graph.facts import check_finite
from fewbit.graph.model import Model, const, dims, is_const, is_float
from fewbit.graph.normalize import raise_opset
from fewbit.graph.unpack import Unpacking

WIDE_OPSET = 21

CLIPPED = ("int8", "uint8")
"""Integer types that engines clip."""

OWN_WEIGHT = frozenset(("Conv", "ConvTranspose", "Gemm"))
"""Operators that do not share a weight if they share their input, see `_same_twice`."""

MOST_CUT = {2: 6.0, 3: 4.0, 4: 3.0, 5: 2.4, 6: 2.0, 7: 1.7}
"""Bits → times that weights may exceed the largest number of their scale, with more bits as with 7: what the search for
scales tries, and some more. One channel may by `ONE_MORE` times that, since scales are refitted after the search."""

ONE_MORE, FEW = 1.75, 4
"""FEW: scales whose median tells nothing."""


@dataclass
class _Emitter:
    model: Model
    plan: Plan
    taken: set[str]
    scales: dict[tuple[str, bytes], tuple[ir.Value, ir.Value]] = field(default_factory=dict)
    dequantized: dict[str, ir.Value] = field(default_factory=dict)
    weights: dict[str, QuantParams] = field(default_factory=dict)
    dynamic: DynamicWriter | None = None


def emit_qdq(model: Model, plan: Plan, *, float_bias: bool = False) -> Model:
    """Make the integer network.

    Args:
        model: the fused float network that the plan was made for; it is not changed.
        plan: calibrated. float_bias: a bias that a correction adds stays float, where others are int32.

    Raises:
        PlanError: the plan names nodes or values that the network does not have, or wants a computed weight integer.
        NotCalibrated: an activation has no range.
    """
    check_fits(model, plan)
    out = model.clone()
    if any((v.spec.bits > 8 or v.spec.granularity == "group") and not v.storage for v in plan.values.values()):
        raise_opset(out, WIDE_OPSET, "the model (16-bit or group-wise formats)")
    e = _Emitter(out, plan, taken=out.names())
    values = out.values()
    nodes = [n for n in out.nodes if _quantized(plan, n) and not plan.nodes[str(n.name)].absorbed_by]
    verdicts = {  # first of all, while the bias of a MatMul still stands right behind it
        str(n.name): add_bias(out, n, plan.nodes[str(n.name)], e.taken, "keep" if float_bias else "bias")
        for n in nodes
        if not _dynamic(plan, n)
    }
    made_by_integer = {v.name for n in out.nodes if _integer_output(plan, n) for v in n.outputs}
    for name, v in plan.values.items():
        if v.role == "act" and not v.spec.dynamic and name in values and values[name].const_value is None:
            _emit_activation(e, values[name], everybody=name in made_by_integer)
    stored = emit_packed(Unpacking(out, e.taken), plan, nodes, partial(stored_weight, plan))
    for node in nodes:
        if _dynamic(plan, node):
            _emit_dynamic(e, node)
        else:
            _emit_constants(e, node, verdicts[str(node.name)])
    out.drop_unused()
    out.graph.sort()
    out.stored = stored
    return out


def check_fits(model: Model, plan: Plan) -> None:
    """Raise PlanError unless every node and value of the plan is in the network, in the part that the plan gives it."""
    nodes, values = {str(n.name): n for n in model.nodes}, model.values()
    for name, n in plan.nodes.items():
        if n.bias and (not n.quantized or n.absorbed_by):
            state = "merged into another" if n.quantized else "float"
            raise PlanError(f"the plan corrects the bias of layer {name!r}, which is {state}; remove its bias")
        if not n.quantized:
            continue
        if name not in nodes:
            raise PlanError("the plan is for another network: " + str(unknown("layer", name, nodes)))
        for value, role in zip(nodes[name].inputs, n.roles, strict=False):
            if role in ("weight", "bias") and value is not None and not is_const(value):
                raise PlanError(f"layer {name!r}: its {role} {value.name!r} is computed at run time")
    for name, v in plan.values.items():
        found = values.get(name) or values.get(name.rsplit("@", 1)[0])
        if found is None:
            raise PlanError("the plan is for another network: " + str(unknown("value", name, values)))
        if v.role == "weight" and not is_const(found):
            raise PlanError(f"the plan says that {name!r} is a weight, but in this network it is computed")
        if not is_float(found):
            raise PlanError(f"value {name!r} is {str(found.dtype).lower()}; only float32 becomes integer")
        rank, axis = len(dims(found) or ()), v.spec.axis
        if v.role == "weight" and v.spec.granularity != "tensor" and axis is not None and not -rank <= axis < rank:
            raise PlanError(f"weight {name!r} has {rank} axes; the plan puts its scales along axis {axis}")
    for name, n in plan.nodes.items():
        if n.quantized:
            _check_roles(nodes[name], n, plan)


def _check_roles(node: ir.Node, verdict: NodePlan, plan: Plan) -> None:
    """Raise PlanError unless there is a role for each input, and a format for each weight; merged layers have none."""
    name, roles = str(node.name), verdict.roles
    if len(roles) != len(node.inputs) and not (verdict.absorbed_by and not roles):
        raise PlanError(f"layer {name!r} has {len(node.inputs)} inputs; its roles are {list(roles)}, not one for each")
    for value, role in zip(node.inputs, roles, strict=False):
        if role == "weight" and value is not None and plan.weight_key(str(value.name), name) is None:
            raise PlanError(f"layer {name!r} reads {value.name!r} as a weight, but the plan has no value of that name")


def _quantized(plan: Plan, node: ir.Node) -> bool:
    verdict = plan.nodes.get(str(node.name))
    return verdict is not None and verdict.quantized


def _integer_output(plan: Plan, node: ir.Node) -> bool:
    """Whether a node's float output does not exist in the engine, so that everybody reads the rounded one."""
    if not _quantized(plan, node) or _dynamic(plan, node):
        return False
    return plan.rounds_output(str(node.name))


def _dynamic(plan: Plan, node: ir.Node) -> bool:
    """Whether a quantized node measures ranges of its inputs at run time, or gathers integers."""
    roles, entries = plan.nodes[str(node.name)].roles, plan.values
    named = [(role, str(v.name)) for role, v in zip(roles, node.inputs, strict=False) if v is not None]
    if node.op_type == "Gather" and roles[:1] == ("weight",):
        key = plan.weight_key(named[0][1], str(node.name))
        return key is not None and not entries[key].storage
    return any(role == "act" and name in entries and entries[name].spec.dynamic for role, name in named)


def _emit_dynamic(e: _Emitter, node: ir.Node) -> None:
    if e.dynamic is None:
        e.dynamic = _dynamic_writer(e)
    emit_dynamic(node, e.dynamic)


def _dynamic_writer(e: _Emitter) -> DynamicWriter:
    def append(new: ir.Node, name: str, dtype: ir.DataType, shape: ir.Shape | None) -> ir.Value:
        return _append(e, new, name, dtype, shape)

    def constant(name: str, data: NDArray[Any]) -> ir.Value:
        return e.model.add_initializer(e.model.fresh(name, e.taken), data)

    def weight(node: ir.Node, index: int) -> tuple[str, NDArray[Any], QuantParams]:
        value = node.inputs[index]
        key = e.plan.weight_key(str(value.name), str(node.name)) if value is not None else None
        data = const(value)
        assert key is not None and value is not None and data is not None
        check_finite(data, str(value.name), str(node.name))
        params = weight_params_of(e.plan, key, data)
        check_weight(node, index, key, params.spec)
        return key, integers(e.plan, key, data, params), params

    return DynamicWriter(e.plan, e.model.ir.opset_imports, append, constant, weight)


# -- activations ------------------------------------------------------------------------------------------------------


def _emit_activation(e: _Emitter, value: ir.Value, everybody: bool) -> None:
    """Put Q and DQ behind a value and hand the DQ output to its readers."""
    name = str(value.name)
    params = e.plan.params(name)
    users = list(value.uses())
    is_output = value.is_graph_output()
    shape, graph = value.shape, e.model.graph
    if is_output and everybody:
        value.name = e.model.fresh(f"{name}_float", e.taken)
    narrow, integers_clip = not params.spec.fills_storage, params.spec.storage in CLIPPED and not _two_levels(params)
    source = _saturate(e, value, name, params) if narrow and not integers_clip else value
    q = _node(e, "QuantizeLinear", name, "q", source, e.plan.values[name].group, params)
    if narrow and integers_clip:
        q = _clip_integers(e, q, name, params)
    dq = _node(e, "DequantizeLinear", name, "dq", q, e.plan.values[name].group, params)
    q.shape = dq.shape = shape
    if is_output and everybody:
        dq.name = name
        for i, v in enumerate(graph.outputs):
            if v is value:
                graph.outputs[i] = dq
    for user, index in users:
        verdict = e.plan.nodes.get(str(user.name))
        integer = verdict is not None and verdict.quantized and _role(verdict, index) == "act"
        if everybody or integer:
            user.replace_input_with(index, dq)
    e.dequantized[name] = dq


def _role(verdict: NodePlan, index: int) -> str:
    return verdict.roles[index] if index < len(verdict.roles) else "keep"


def _two_levels(params: QuantParams) -> bool:
    return params.spec.bits == 1 and bool(params.spec.signed)


def _clip_integers(e: _Emitter, q: ir.Value, name: str, params: QuantParams) -> ir.Value:
    """Saturate behind the Q, where ONNX Runtime still merges the layer and the Q into one integer operator."""
    ends = [
        e.model.add_initializer(e.model.fresh(f"{name}_{tail}", e.taken), np.asarray(n, params.spec.storage))
        for tail, n in (("least", params.spec.qmin), ("most", params.spec.qmax))
    ]
    dtype = q.dtype
    assert dtype is not None
    return _append(e, ir.node("Clip", [q, *ends]), f"{name}_clip", dtype, q.shape)


def _saturate(e: _Emitter, value: ir.Value, name: str, params: QuantParams) -> ir.Value:
    """Saturate at the format's own limits, which lie inside those of the storage type."""
    spec, s, z = params.spec, params.scale, params.zero_point

    def constant(tail: str, real: Any) -> ir.Value:
        return e.model.add_initializer(e.model.fresh(f"{name}_{tail}", e.taken), np.asarray(real, np.float32))

    ends = [constant(tail, (q - z) * s) for tail, q in (("lo", spec.qmin), ("hi", spec.qmax))]
    if not _two_levels(params):
        return _append(e, ir.node("Clip", [value, *ends]), f"{name}_clip", ir.DataType.FLOAT, value.shape)
    less = ir.node("Less", [value, constant("middle", 0.0)])
    below = _append(e, less, f"{name}_below", ir.DataType.BOOL, value.shape)
    return _append(e, ir.node("Where", [below, *ends]), f"{name}_sign", ir.DataType.FLOAT, value.shape)


def _node(e: _Emitter, op: str, name: str, tail: str, x: ir.Value, group: str, params: QuantParams) -> ir.Value:
    """Append a Q or DQ node behind `x`; values with the same group share their scale and zero point."""
    scale, zero = _scale_and_zero(e, group, params)
    spec = params.spec
    attrs: dict[str, Any] = {}
    if spec.granularity != "tensor":
        attrs["axis"] = spec.axis
    if spec.granularity == "group":
        attrs["block_size"] = spec.group_size
    node = ir.node(op, [x, scale, zero], attributes=attrs)
    dtype = zero.dtype if op == "QuantizeLinear" else ir.DataType.FLOAT
    assert dtype is not None
    return _append(e, node, f"{name}_{tail}", dtype, x.shape)


def _append(e: _Emitter, node: ir.Node, name: str, dtype: ir.DataType, shape: ir.Shape | None) -> ir.Value:
    node.name = e.model.fresh(name, e.taken)
    out, *more = node.outputs
    for v in more:
        v.name = e.model.fresh(f"{node.name}_{v.index()}", e.taken)
    out.name, out.type, out.shape = node.name, ir.TensorType(dtype), shape
    e.model.graph.append(node)
    return out


def _scale_and_zero(e: _Emitter, name: str, params: QuantParams) -> tuple[ir.Value, ir.Value]:
    key = (name, params.scale.tobytes() + params.zero_point.tobytes() + repr(params.spec).encode())
    if key not in e.scales:
        zero = params.zero_point.astype(params.spec.storage)
        e.scales[key] = (
            e.model.add_initializer(e.model.fresh(f"{name}_scale", e.taken), params.scale),
            e.model.add_initializer(e.model.fresh(f"{name}_zero", e.taken), zero),
        )
    return e.scales[key]


# -- weights, biases, constants ---------------------------------------------------------------------------------------


def _emit_constants(e: _Emitter, node: ir.Node, verdict: NodePlan) -> None:
    """Replace the constants that a quantized node reads by integers with a DQ behind them."""
    name = str(node.name)
    for i, value in enumerate(node.inputs):
        if value is None or value.const_value is None or i >= len(verdict.roles):
            continue
        role = verdict.roles[i]
        if role in ("act", "weight"):
            key = e.plan.weight_key(str(value.name), name)
            if key is not None:
                node.replace_input_with(i, _constant(e, key, value, role, node, verdict))
    for i, value in enumerate(node.inputs):
        if value is not None and value.const_value is not None and _role(verdict, i) == "bias":
            bias = _bias(e, node, value)
            if bias is not None:
                node.replace_input_with(i, bias)


def _constant(e: _Emitter, key: str, value: ir.Value, role: str, node: ir.Node, verdict: NodePlan) -> ir.Value:
    data = const(value)
    assert data is not None
    check_finite(data, str(value.name), str(node.name))
    if role == "weight":
        params = _beside_bias(weight_params_of(e.plan, key, data), data, _bias_of(node, verdict), node)
    else:
        params = e.plan.params(key)
    known = e.dequantized.get(key)
    if known is not None and e.weights[key] == params and not _same_twice(known, node):
        return known
    q = e.model.add_initializer(e.model.fresh(f"{key}_q", e.taken), integers(e.plan, key, data, params))
    dq = _node(e, "DequantizeLinear", key, "dq", q, key, params)
    e.dequantized[key], e.weights[key] = dq, params
    e.weights[str(dq.name)] = params
    return dq


def stored_weight(plan: Plan, key: str, weight: NDArray[Any]) -> StoredWeight:
    """The integers of a weight, and what turns them back.

    Raises:
        PlanError: the plan holds another number of scales, gains or offsets than the weight has channels or groups.
    """
    params = weight_params_of(plan, key, weight)
    v = plan.values[key]
    gain, offset = (_like(params, key, word, given) for word, given in (("gains", v.gain), ("offsets", v.offset)))
    return StoredWeight(integers(plan, key, weight, params), params, gain, offset)


def _like(params: QuantParams, key: str, word: str, given: tuple[float, ...]) -> NDArray[np.float32] | None:
    """Numbers of the plan, one for each scale."""
    if not given:
        return None
    if len(given) != params.scale.size:
        raise PlanError(f"weight {key!r} has {params.scale.size} scales; the plan holds {len(given)} {word}")
    with np.errstate(over="ignore"):
        found = np.asarray(given, np.float32).reshape(params.scale.shape)
    if not np.isfinite(found).all():
        raise PlanError(f"weight {key!r}: the plan holds {word} that float32 cannot hold")
    return found


def weight_params_of(plan: Plan, key: str, weight: NDArray[Any]) -> QuantParams:
    """Parameters of a weight: the scales that a correction chose, or those of its largest magnitudes.

    Raises:
        PlanError: another number of scales than the weight's channels or groups.
    """
    v = plan.values[key]
    plain = weight_params(v.spec, weight)
    if not v.scale:
        many = v.spec.granularity != "tensor" and v.spec.bits <= 8
        return half_scales(plain) if v.storage == "packed" and many else plain
    if len(v.scale) != plain.scale.size:
        raise PlanError(f"weight {key!r} has {plain.scale.size} scales; the plan holds {len(v.scale)}")
    with np.errstate(over="ignore", under="ignore"):
        scale = np.asarray(v.scale, np.float32).reshape(plain.scale.shape)
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        raise PlanError(f"weight {key!r}: the plan holds a scale that float32 cannot hold")
    _check_width(key, plain, scale, weight)
    return QuantParams(plain.spec, scale, plain.zero_point)


def _check_width(key: str, plain: QuantParams, scale: NDArray[np.float32], weight: NDArray[Any]) -> None:
    """Raise PlanError if scales cut off more of the weight than any correction for this width would.

    Args:
        plain: parameters that hold all of the weight. scale: those of the plan.
    """
    bits = plain.spec.bits
    if bits < 2:  # the plain scale is a mean
        return
    used = np.maximum(reduced(plain.spec, np.maximum, weight), -reduced(plain.spec, np.minimum, weight)) > 0
    with np.errstate(over="ignore"):
        cut = np.atleast_1d(plain.scale / scale)[np.atleast_1d(used)]
    most = MOST_CUT.get(bits, MOST_CUT[7])
    middle = np.median(cut) if cut.size >= FEW or (plain.scale.ndim == 0 and cut.size) else 0.0
    if middle > most or cut.max(initial=0) > ONE_MORE * most:
        raise PlanError(
            f"weight {key!r} is up to {cut.max():.1f} times as large as its scales can hold in {bits} bits: they were "
            "made for another width, or another network; remove its scale and nudge, or calibrate again"
        )


def integers(plan: Plan, key: str, weight: NDArray[Any], params: QuantParams) -> NDArray[Any]:
    """A weight as integers: the nearest ones, moved by the nudges of the plan."""
    q = params.quantize(weight)
    nudge = plan.values[key].nudge if plan.values[key].role == "weight" else ""
    if not nudge:
        return q
    moved = q.astype(np.int32) + unpack_nudges(nudge, weight.shape, f"weight {key!r}")
    inside: NDArray[Any] = np.clip(moved, params.spec.qmin, params.spec.qmax)
    return inside.astype(q.dtype)


def _same_twice(weight: ir.Value, node: ir.Node) -> bool:
    """Whether a layer with this weight reads the same input already; it then needs a copy of its own.

    OpenVINO computes two convolutions wrongly that share the input, the integer weight and its DQ.
    """
    if node.op_type not in OWN_WEIGHT:
        return False
    return any(user is not node and user.inputs[0] is node.inputs[0] for user, _ in weight.uses())


def _beside_bias(params: QuantParams, weight: NDArray[Any], bias: NDArray[Any] | None, node: ir.Node) -> QuantParams:
    """Choose weight scales that suit an int32 bias with the scale s_x · s_W as well.

    It must not overflow; and where a channel has no weights, s_W = 1 would round the bias to whole steps of the input.
    """
    s_in = _scale_in(node)
    if bias is None or s_in is None or not _adds_int32(params, bias, node):
        return params
    axis = params.spec.axis
    channel = axis % weight.ndim if axis is not None else None
    empty = ~weight.any(axis=tuple(i for i in range(weight.ndim) if i != channel))
    empty &= bias.any() if channel is None else bias != 0
    scale = np.where(empty, np.float32(TINY), params.scale)
    return QuantParams(params.spec, bias_scale_guard(bias, s_in, scale), params.zero_point)


def _adds_int32(params: QuantParams, bias: NDArray[Any], node: ir.Node) -> bool:
    """Whether the layer's accumulator has one scale for each bias; not so in 16 bits, groups, grouped ConvTranspose."""
    plain = params.spec.granularity != "group" and not _wide(params, node)
    return plain and bias.ndim == 1 and params.scale.shape in ((), bias.shape)


def _bias_of(node: ir.Node, verdict: NodePlan) -> NDArray[Any] | None:
    value = next((v for v, role in zip(node.inputs, verdict.roles, strict=False) if role == "bias"), None)
    data = const(value)
    if value is not None and data is not None:
        check_finite(data, str(value.name), str(node.name))
    return data


def _scale_in(node: ir.Node) -> float | None:
    """Scale of the node's first input, read off its DQ."""
    maker = node.inputs[0].producer() if node.inputs[0] is not None else None
    if maker is None or maker.op_type != "DequantizeLinear":
        return None
    scale = const(maker.inputs[1])
    return float(scale) if scale is not None and scale.size == 1 else None


def _bias(e: _Emitter, node: ir.Node, value: ir.Value) -> ir.Value | None:
    """int32 bias; None where it stays float.

    8 bits     scale of the accumulator, s_x · s_W
    16 bits    scales of its own: the layer is computed in float, but ONNX Runtime would give a float bias between DQ
               and Q the scale s_x · s_W by itself, where int32 overflows as soon as |b| > s_x · s_W · 2³¹, which is
               about the largest product of one input and one weight
    """
    weight = e.weights.get(str(node.inputs[1].name)) if node.inputs[1] is not None else None
    data, s_in = const(value), _scale_in(node)
    if weight is None or s_in is None or data is None:
        return None
    if _adds_int32(weight, data, node):
        scale = np.maximum(np.float32(s_in) * weight.scale, np.float32(TINY)).astype(np.float32)  # 0 if both are minute
        limit = np.iinfo(np.int32).max
        q = np.clip(np.rint(data.astype(np.float64) / scale.astype(np.float64)), -limit, limit).astype(np.int32)
    elif _wide(weight, node) and data.ndim == 1:
        q, scale = exact_int32(data)
    else:
        return None
    name = f"{value.name}_{node.name}" if len(value.uses()) > 1 else str(value.name)
    ints = e.model.add_initializer(e.model.fresh(f"{name}_q", e.taken), q)
    s = e.model.add_initializer(e.model.fresh(f"{name}_scale", e.taken), scale)
    zero = e.model.add_initializer(e.model.fresh(f"{name}_zero", e.taken), np.zeros(scale.shape, np.int32))
    attrs: Mapping[str, Any] = {"axis": 0} if scale.ndim else {}
    dq = ir.node("DequantizeLinear", [ints, s, zero], attributes=attrs)
    return _append(e, dq, f"{name}_dq", ir.DataType.FLOAT, value.shape)


def _wide(weight: QuantParams, node: ir.Node) -> bool:
    """Whether a layer's weight or its input is stored in 16 bits."""
    maker = node.inputs[0].producer() if node.inputs[0] is not None else None
    source = maker.inputs[0] if maker is not None and maker.inputs else None
    return weight.spec.bits > 8 or (source is not None and source.dtype in (ir.DataType.INT16, ir.DataType.UINT16))
