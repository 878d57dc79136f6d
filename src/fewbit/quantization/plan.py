"""Turn verdicts into a plan: which values get which format, and which of them share parameters.

    node quantized ─ act input   → the value, or the constant with its own range
                   ─ weight      → per tensor, channel or group; its range is read when the plan is applied
                   ─ bias        → int32, follows from input and weight
                   ─ output act  → the value behind whatever the node absorbs
                   ─ output same → joins the group of the first input (values only move)

A group is observed at as few places as possible: what a value-moving node puts out was seen at its input, and what
goes into a concat is seen at its output.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from fewbit.config import GROUP, QuantConfig, said
from fewbit.core.plan import NodePlan, Plan, ValuePlan
from fewbit.core.spec import QuantSpec
from fewbit.core.target import TARGETS, OpRule, Target
from fewbit.errors import ConfigError
from fewbit.graph.facts import check_finite_weights, facts, reduce_axis
from fewbit.graph.model import Model, const, is_const, is_float
from fewbit.graph.places import weight_places
from fewbit.quantization.limits import check_limits
from fewbit.quantization.select import Selection, end_of, select, settings_for
from fewbit.quantization.weight_only import make_weight_plan

Node = Any
Value = Any


@dataclass
class _Draft:
    """Values gathered so far, and which of them belong together (union-find by name)."""

    values: dict[str, ValuePlan] = field(default_factory=dict)
    parent: dict[str, str] = field(default_factory=dict)
    covered: set[str] = field(default_factory=set)

    def root(self, name: str) -> str:
        while self.parent.setdefault(name, name) != name:
            name = self.parent[name]
        return name

    def join(self, a: str, b: str) -> None:
        order = list(self.values)
        first, second = sorted((self.root(a), self.root(b)), key=order.index)
        self.parent[second] = first

    def add(self, name: str, value: ValuePlan) -> None:
        """Add a value. When two nodes differ, the wider format wins, and of two as wide the symmetric one."""
        old = self.values.get(name)
        if old is None or _rank(value.spec) > _rank(old.spec):
            self.values[name] = value


def _rank(spec: QuantSpec) -> tuple[int, bool]:
    """Which format wins: some operators compute in integers only without zero points, none only with."""
    return spec.bits, bool(spec.symmetric and spec.signed)


def make_plan(
    model: Model,
    config: QuantConfig,
    target: Target,
    floats: Mapping[str, str] | None = None,
    measured: Mapping[str, float] | None = None,
) -> Plan:
    """Decide what becomes integer.

    Args:
        model: a fused float network.
        config: the user's words. target: the engine's rows.
        floats: nodes that a search keeps float → its reason; see `restrict`.
        measured: nodes that were timed on this machine → integer ÷ float latency.

    Returns:
        a plan without ranges (constants have theirs); `calibrate` fills them in.

    Raises:
        UnknownName: a layer or operator in the config that the network does not have.
        ModelError: a weight holds NaN or infinity.
        ConfigError: a setting that the target cannot take.
    """
    check_limits(config, target)
    if config.quant_type == "weight":
        return make_weight_plan(model, config, target)
    if config.calib_mode == "none":
        target = at_run_time(config, target)
    picked = select(model, config, target, floats, measured)
    draft = _Draft()
    for node in model.nodes:
        rule = picked.rules.get(str(node.name))
        if rule is not None:
            _add_node(model, node, rule, picked, draft, config, target)
    verdicts = {str(n.name): _verdict(n, picked, bits_of(model, n, config)) for n in model.nodes}
    for node in model.nodes:
        name = str(node.name)
        if name in picked.rules and in_groups(node, config, target, settings_for(model, node, config)):
            roles = ("keep", "weight", "keep")[: len(node.inputs)]
            verdicts[name] = NodePlan(True, "weight in groups, computed in float", roles, ("float",))
    check_finite_weights(model, [name for name, v in draft.values.items() if v.role == "weight"])
    return Plan(
        values=_grouped(draft),
        nodes=verdicts,
        target=target.name,
        config=said(config),
        model=model.digest(),
    )


def _verdict(node: Node, picked: Selection, bits: int) -> NodePlan:
    name = node.name
    if name in picked.absorbed:
        return NodePlan(True, picked.reasons[name], absorbed_by=picked.absorbed[name])
    rule = picked.rules.get(name)
    if rule is None:
        return NodePlan(False, picked.reasons[name])
    factor = f", measured {rule.pays:.2f} of its float time" if rule.pays is not None else ""
    if rule.storage:
        factor = f": weights stored in {bits} bits, computed in float"
    elif bits > 8:
        factor = f"; {bits} bits are stored as integers and computed in float"
    roles = tuple(rule.role(i) if v is not None else "keep" for i, v in enumerate(node.inputs))
    outputs = tuple(rule.outputs[min(i, len(rule.outputs) - 1)] for i in range(len(node.outputs)))
    return NodePlan(True, picked.reasons[name] + factor, roles, outputs)


def _add_node(
    model: Model, node: Node, rule: OpRule, picked: Selection, draft: _Draft, config: QuantConfig, target: Target
) -> None:
    wish = settings_for(model, node, config)
    act = activation_spec(config, target, wish, rule.act)
    mode = wish.get("calib_mode", config.calib_mode)
    if in_groups(node, config, target, wish):
        _add_constant(node, node.inputs[1], draft, weight_spec(node, config, target, wish), "weight", "packed")
        return
    acts = []
    for i, value in enumerate(node.inputs):
        role = rule.role(i)
        if value is None or role in ("keep", "bias"):
            continue
        if role == "weight":
            spec = weight_spec(node, config, target, wish, i)
            _add_constant(node, value, draft, spec, "weight", rule.storage)
        elif config.calib_mode == "none":
            spec = dynamic_spec(config, right=i == 1)
            draft.add(value.name, ValuePlan(spec, "act", value.name, f"read by {node.name}", calib_mode=mode))
        elif is_const(value):
            _add_constant(node, value, draft, act, "act")
        else:
            acts.append(value.name)
            draft.add(value.name, ValuePlan(act, "act", value.name, f"read by {node.name}", calib_mode=mode))
    kinds = [rule.outputs[min(i, len(rule.outputs) - 1)] for i in range(len(node.outputs))]
    ends = end_of(node, picked).outputs if len(node.outputs) == 1 else node.outputs
    for value, kind in zip(ends, kinds, strict=True):
        if kind == "fork" and (value is not node.outputs[0] or _readers(value) < 2):
            kind = "float"
        if kind in ("float", "both") or not value.name or not (value.dtype is None or is_float(value)):
            continue
        spec = draft.values[acts[0]].spec if kind == "same" else act
        draft.add(value.name, ValuePlan(spec, "act", value.name, f"made by {node.name}", calib_mode=mode))
        if kind == "same" or rule.shares:
            for name in acts if rule.shares else acts[:1]:
                draft.join(name, value.name)
            draft.covered |= set(acts) if rule.shares else {value.name}


def _readers(value: Value) -> int:
    """Operators that read a value; whoever asked for the network's answers is one more."""
    return len(value.uses()) + bool(value.is_graph_output())


def _add_constant(node: Node, value: Value, draft: _Draft, spec: QuantSpec, role: str, storage: str = "") -> None:
    """Add a weight, or a constant that is read as an activation, whose range is known at once.

    Used by several nodes in the same format it is stored once; otherwise each use gets an entry of its own.
    """
    entry = ValuePlan(
        spec, role, value.name, f"{'weight' if role == 'weight' else 'constant'} of {node.name}", observe=False,
        storage=storage,
    )  # fmt: skip
    if role == "act":
        data = const(value)
        lo, hi = (float(data.min()), float(data.max())) if data is not None and data.size else (0.0, 0.0)
        entry = replace(entry, lo=lo, hi=hi, spec=spec.resolve(lo))
    have = draft.values.get(value.name)
    if have is None:
        draft.values[value.name] = entry
    elif (have.role, have.spec, have.storage) != (role, entry.spec, storage):
        key = f"{value.name}@{node.name}"
        draft.values[key] = replace(entry, group=key)


def _grouped(draft: _Draft) -> dict[str, ValuePlan]:
    """Write the groups into the values: one format (the widest), one range, few observed places."""
    specs: dict[str, QuantSpec] = {}
    for name, v in draft.values.items():
        group = draft.root(name)
        if group not in specs or _rank(v.spec) > _rank(specs[group]):
            specs[group] = v.spec
    members: dict[str, int] = {}
    for name in draft.values:
        members[draft.root(name)] = members.get(draft.root(name), 0) + 1
    out = {}
    for name, v in draft.values.items():
        group = draft.root(name)
        if v.role != "act" or members[group] == 1:
            out[name] = v
            continue
        observe = v.observe and name not in draft.covered
        out[name] = replace(v, spec=specs[group], group=group, observe=observe)
    return out


def in_groups(node: Node, config: QuantConfig, target: Target, wish: dict[str, Any]) -> bool:
    """Whether scales change along the sum: no engine sums that in integers, so only the weight is stored so."""
    return len(node.inputs) > 1 and weight_spec(node, config, target, wish).granularity == "group"


def bits_of(model: Model, node: Node, config: QuantConfig) -> int:
    """Width that the user's words give to a node."""
    return int(settings_for(model, node, config).get("bit_num", config.bit_num))


# -- formats --------------------------------------------------------------------------------------------------------


def activation_spec(
    config: QuantConfig, target: Target, wish: dict[str, Any], needed: QuantSpec | None = None
) -> QuantSpec:
    """Format of activations: what the row needs, else the target's best, unless the user says otherwise."""
    spec = needed or target.activation
    if config.quantized_dtype == "int8":
        spec = target.signed
    elif config.quantized_dtype == "uint8":
        spec = QuantSpec(8, signed=False)
    bits = wish.get("bit_num", config.bit_num)
    if bits != 8:
        spec = replace(spec, bits=bits)
    return replace(spec, **{k: wish[k] for k in ("signed", "symmetric") if k in wish})


def dynamic_spec(config: QuantConfig, right: bool) -> QuantSpec:
    """Format of an input whose range is measured at run time: what the forms of `emit_dynamic` make.

    Args:
        right: whether it is the right side of a product.
    """
    if config.quant_strategy == "ACWL":
        return QuantSpec(8, signed=True, symmetric=True, granularity="channel", axis=-2, narrow=True, dynamic=True)
    if right:
        return QuantSpec(8, signed=True, symmetric=True, narrow=True, dynamic=True)
    return QuantSpec(8, signed=False, dynamic=True)


def at_run_time(config: QuantConfig, target: Target) -> Target:
    """The target with its rows for ranges measured at run time.

    Raises:
        ConfigError: the strategy is not one of this target.
    """
    if config.quant_strategy == "ACWL" and target.dynamic and not target.by_row:
        having = ", ".join(t.name for t in TARGETS.values() if t.by_row)
        raise ConfigError(
            f"quant_strategy 'ACWL' is not for target {target.name!r}, which chooses the ranges of activations itself; "
            f"leave it out, or take one of: {having}"
        )
    return target.at_run_time(config.quant_strategy)


def slow_at_run_time(model: Model, plan: Plan, config: QuantConfig, target: Target) -> dict[str, tuple[int, float]]:
    """Operators of a plan that run slower with ranges measured at run time: how many layers, the largest factor."""
    rows, found = at_run_time(config, target), dict[str, tuple[int, float]]()
    for node in model.nodes:
        verdict = plan.nodes.get(str(node.name))
        rule = rows.rule(facts(node)) if verdict is not None and verdict.quantized else None
        if rule is not None and (rule.pays or 0) > 1:
            count, most = found.get(rule.op, (0, 0.0))
            found[rule.op] = count + 1, max(most, rule.pays or 0)
    return found


def weight_spec(node: Node, config: QuantConfig, target: Target, wish: dict[str, Any], index: int = 1) -> QuantSpec:
    """Format of a node's weight. Groups need an axis that is summed over; where there is none, channels are used.

    Args:
        index: of the input that the weight is.
    """
    common = "tensor" if config.quant_strategy == "ACWL" else config.quantize_granularity.split("-")[0]
    grain = wish.get("granularity", common)
    asked = wish.get("weight_bit_num") or wish.get("bit_num") or config.weight_bit_num
    bits = asked or config.bit_num
    rule = target.rule(facts(node))
    own = rule.weight if rule is not None else None
    spec = replace(own or target.weight, granularity="tensor", axis=None)
    if bits != 8 or (asked and own is not None):
        spec = replace(spec, bits=bits)
    axis = next((p.channel for p in weight_places(node) if p.index == index), None)
    if grain == "group" and reduce_axis(node) is not None:
        size = wish.get("group_size") or config.group_size or GROUP
        return replace(spec, granularity="group", axis=reduce_axis(node), group_size=size)
    if grain in ("channel", "group") and axis is not None:
        return replace(spec, granularity="channel", axis=axis)
    return spec
