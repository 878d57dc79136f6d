"""Which nodes become integer, and the reason for each verdict.

legal    a row of the target fits, types and constants are right, the user did not exclude it
absorbed an activation right behind such a node, which the engine merges into it
pays     (smart) the row's measured factor is below 1
residual one side of an Add right behind a layer with weights stays float, where a row says so: see `OpRule.residual`
between  (smart) a support operator whose inputs all come from integer nodes, or are made integer for a core node
         anyway, with an integer node behind it; repeated until nothing changes, so the answer is the largest set for
         which all of this holds
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from math import prod
from typing import Any

from fewbit.config import QuantConfig
from fewbit.core.target import NodeFacts, OpRule, Target
from fewbit.errors import unknown
from fewbit.graph.facts import facts
from fewbit.graph.model import Model, is_const, is_float, known_operators, op_name, op_names
from fewbit.graph.places import weight_places
from fewbit.graph.rewrite import PATTERN_KEY

Node = Any
Value = Any

LISTED = "Names are listed by: fewbit inspect MODEL --layers"
"""Where the names of layers are to be found, for networks in files."""

CONTROL_FLOW = ("If", "Loop", "Scan")
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass
class Selection:
    """Verdicts by node name, in graph order.

    Args:
        rules: nodes that become integer → their row.
        absorbed: absorbed node → the node that absorbs it.
        reasons: every node → why.
    """

    rules: dict[str, OpRule] = field(default_factory=dict)
    absorbed: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)


def select(
    model: Model,
    config: QuantConfig,
    target: Target,
    floats: Mapping[str, str] | None = None,
    measured: Mapping[str, float] | None = None,
) -> Selection:
    """Give the verdict on every node.

    Args:
        floats: nodes that a search keeps float → its reason.
        measured: nodes that were timed → integer ÷ float latency, which counts instead of the row's factor.

    Raises:
        UnknownName: an excluded layer or operator, or an override, that stands for nothing.
    """
    check_names(model, config)
    picked = Selection()
    for node in model.nodes:
        rule, reason = _legal(model, node, config, target)
        if rule is not None and floats and node.name in floats:
            rule, reason = None, floats[str(node.name)]
        picked.reasons[str(node.name)] = reason
        if rule is not None:
            picked.rules[str(node.name)] = rule
    _residuals(model, picked)
    _absorb(model, picked)
    if config.quantize_mode == "smart":
        _drop_costly(model, picked, measured or {})
        _drop_isolated(model, picked)
    return picked


# -- what the user said ---------------------------------------------------------------------------------------------


def check_names(model: Model, config: QuantConfig) -> None:
    """Refuse words that match nothing: a typo must not quantize what was meant to stay float."""
    names = [str(n.name) for n in model.nodes]
    known = {*names, *model.aliases}
    for word in (*config.exclude_layers, *config.overrides):
        if not any(_matches(n, word) for n in known):
            raise unknown("layer", word, known, hint=LISTED)
    for part in config.exclude_layers_match:
        if not any(part in n for n in known):
            raise unknown("layer containing", part, known, hint="exclude_layers_match takes a part of a layer's name")
    used = {op for n in model.nodes for op in op_names(n)}
    for op in config.exclude_operators:
        if op not in used and op not in known_operators():
            raise unknown("operator", op, used)


def _matches(name: str, word: str) -> bool:
    """Whether a layer is meant: by its very name, which may hold brackets, or by a glob."""
    return name == word or fnmatchcase(name, word)


def _names(node: Node, model_aliases: Mapping[str, str]) -> set[str]:
    return {node.name, *(old for old, new in model_aliases.items() if new == node.name)}


def settings_for(model: Model, node: Node, config: QuantConfig) -> dict[str, Any]:
    """Overrides that apply to a node, later globs over earlier ones; layers fused into it count by their old names."""
    found: dict[str, Any] = {}
    names = _names(node, model.aliases)
    for glob, settings in config.overrides.items():
        if any(_matches(n, glob) for n in names):
            found |= settings
    return found


def excluded(model: Model, node: Node, config: QuantConfig) -> str:
    """Why the user keeps this node in float; empty if he does not."""
    names = _names(node, model.aliases)
    for glob in config.exclude_layers:
        if any(_matches(n, glob) for n in names):
            return f"excluded by exclude_layers {glob!r}"
    for part in config.exclude_layers_match:
        if any(part in n for n in names):
            return f"excluded by exclude_layers_match {part!r}"
    for op in config.exclude_operators:
        if op in op_names(node):
            return f"excluded by exclude_operators {op!r}"
    if settings_for(model, node, config).get("float"):
        return "kept float by an override"
    return ""


# -- what the target can do -----------------------------------------------------------------------------------------


def _legal(model: Model, node: Node, config: QuantConfig, target: Target) -> tuple[OpRule | None, str]:
    """The row that fits a node and the reason; None if it must stay float."""
    known = facts(node)
    rule = target.rule(known)
    reason = excluded(model, node, config)
    if reason:
        return None, reason
    if rule is None:
        return None, why_not(known, target)
    if PATTERN_KEY in node.metadata_props:
        whole = node.metadata_props[PATTERN_KEY].split(":")[0]
        return None, f"part of a {whole}, which is kept whole"
    for i, value in enumerate(node.inputs):
        role = rule.role(i)
        if value is None or role == "keep":
            continue
        if role == "act" and not is_float(value):
            return None, f"input {value.name!r} is {_type(value)}; only float32 becomes integer"
        if role in ("weight", "bias") and not is_const(value):
            return None, f"its {role} is computed at run time"
        if role == "weight":
            if not is_float(value):
                return None, f"its weight is {_type(value)}; only float32 becomes integer"
            small = _too_small(node, i, known, config)
            if small:
                return None, small
        if role == "weight" and node.op_type == "Gather" and config.calib_mode != "none":
            tied = _read_whole(model, value, config, target)
            if tied:
                return None, f"its table {value.name!r} is read by {tied} too, which needs it in float"
    acts = [v for i, v in enumerate(node.inputs) if v is not None and rule.role(i) == "act"]
    if "act" in rule.inputs and all(is_const(v) for v in acts):
        return None, _nothing_computed(known, [str(v.name) for v in acts], target)
    return rule, "core operator" if rule.core else "support operator"


def _read_whole(model: Model, table: Value, config: QuantConfig, target: Target) -> str:
    """Who reads a table otherwise than as rows of integers; empty if nobody does.

    It would be stored in float as well then. (With ranges measured at run time, products multiply its integers.)
    """
    if table.is_graph_output():
        return "an output of the network"
    for use in table.uses():
        rule = target.rule(facts(use.node)) if use.node.graph is model.graph else None
        rows = rule is not None and use.idx == 0 and rule.role(0) == "weight"
        if not rows or excluded(model, use.node, config):
            return str(use.node.name)
    return ""


def _nothing_computed(known: NodeFacts, names: list[str], target: Target) -> str:
    """Why a node stays float that has nothing to round at run time."""
    stored = sorted({r.when for r in target.rules if r.op == known.op and "act" not in r.inputs})
    only = f"; {known.op} of a constant is integer only if: {' or '.join(stored)}" if stored else ""
    return f"what it reads in float32 is constant: {', '.join(names)}{only}"


def _type(value: Value) -> str:
    return str(value.dtype).lower() if value.dtype is not None else "of unknown type"


def _too_small(node: Node, index: int, known: NodeFacts, config: QuantConfig) -> str:
    shape = [int(d) for d in node.inputs[index].shape.numpy()]
    channels = known.channels if index == 1 else None
    if channels is None:
        channels = next((shape[p.channel] for p in weight_places(node) if p.index == index), None)
    return gated(prod(shape), channels, config)


def gated(size: int, channels: int | None, config: QuantConfig) -> str:
    """Why a weight of this size stays float by the user's gates; empty if it passes them."""
    least, fewest = config.min_quant_weight_size, config.min_quant_weight_channel
    if size < least:
        return f"its weight has {size} elements; {least - 1} or fewer stay float (min_quant_weight_size)"
    if channels is not None and channels < fewest:
        return f"it has {channels} channels; {fewest - 1} or fewer stay float (min_quant_weight_channel)"
    return ""


def why_not(known: NodeFacts, target: Target) -> str:
    """Say why no row of the target fits a node."""
    rows = [r for r in target.rules if r.op == known.op]
    if known.op in CONTROL_FLOW:
        return "control flow; what is inside of it stays float"
    if not rows:
        measured = target.float_only.get(known.op)
        return f"no integer {known.op} on {target.name}" + (f": {measured}" if measured else "")
    return f"{known.op} is integer on {target.name} only if: " + " or ".join(sorted({r.when for r in rows}))


# -- what stands together -------------------------------------------------------------------------------------------


def sole_consumer(value: Value) -> Node | None:
    """The only node that uses a value, if there is one and the value is not a graph output."""
    users = {id(u.node): u.node for u in value.uses()}
    if len(users) != 1 or value.is_graph_output():
        return None
    (node,) = users.values()
    return node if node.graph is value.producer().graph else None


def _residuals(model: Model, picked: Selection) -> None:
    """Leave the main branch of residual sums in float, whatever becomes of its layer: the graph alone decides."""
    for node in model.nodes:
        rule = picked.rules.get(str(node.name))
        if rule is None or not rule.residual:
            continue
        main = next((i for i, v in enumerate(node.inputs) if _made_for(v, node)), None)
        if main is not None:
            roles = tuple("keep" if i == main else rule.role(i) for i in range(len(node.inputs)))
            picked.rules[str(node.name)] = replace(rule, inputs=roles, outputs=("float",))


def _made_for(value: Value, node: Node) -> bool:
    """Whether a layer with weights makes a value, right in front of this node and for it alone."""
    maker = value.producer() if value is not None else None
    weights = maker is not None and op_name(maker) in WEIGHTED and is_const(maker.inputs[1])
    return weights and sole_consumer(value) is node


def _absorb(model: Model, picked: Selection) -> None:
    """Merge activations into the node in front of them, as far as its row says that the engine does so."""
    for node in model.nodes:
        name = str(node.name)
        rule = picked.rules.get(name)
        if rule is None or name in picked.absorbed or not rule.absorbs:
            continue
        last = node
        while len(last.outputs) == 1:
            follower = sole_consumer(last.outputs[0])
            if follower is None or not _can_absorb(rule, follower, picked):
                break
            picked.absorbed[follower.name] = name
            picked.rules.pop(follower.name, None)
            picked.reasons[follower.name] = f"merged into {node.name}"
            last = follower


def _can_absorb(rule: OpRule, follower: Node, picked: Selection) -> bool:
    kept_by_user = picked.reasons[follower.name].startswith(("excluded", "kept float"))
    rest_constant = all(v is None or is_const(v) for v in follower.inputs[1:])
    return op_name(follower) in rule.absorbs and rest_constant and not kept_by_user


def end_of(node: Node, picked: Selection) -> Node:
    """The last node merged into `node`: the one whose outputs carry the parameters."""
    absorber = node.name
    while len(node.outputs) == 1:
        follower = sole_consumer(node.outputs[0])
        if follower is None or picked.absorbed.get(follower.name) != absorber:
            break
        node = follower
    return node


def _drop(model: Model, picked: Selection, name: str, reason: str) -> None:
    """Turn a node to float; what it had absorbed gets no integer form of its own either, and says so."""
    del picked.rules[name]
    picked.reasons[name] = reason
    for follower, absorber in list(picked.absorbed.items()):
        if absorber == name:
            del picked.absorbed[follower]
            picked.reasons[follower] = f"follows {name}, which stays float"


def _drop_costly(model: Model, picked: Selection, measured: Mapping[str, float]) -> None:
    for name, rule in list(picked.rules.items()):
        factor = measured.get(name, rule.pays)
        if factor is not None and factor >= 1:
            _drop(model, picked, name, f"would run at {factor:.2f} of its float time (measured)")


def _drop_isolated(model: Model, picked: Selection) -> None:
    """Remove support operators that do not stand between integer ones, until none is left."""
    nodes = {str(n.name): n for n in model.nodes}
    while True:
        lone = [(n, why) for n, r in picked.rules.items() if not r.core and (why := _isolated(nodes[n], r, picked))]
        if not lone:
            return
        for name, why in lone:
            _drop(model, picked, name, why)


def _isolated(node: Node, rule: OpRule, picked: Selection) -> str:
    for i, value in enumerate(node.inputs):
        if value is None or rule.role(i) != "act" or is_const(value):
            continue
        maker = value.producer()
        integer = maker is not None and (_takes_integers(maker, picked) or maker.name in picked.absorbed)
        if not integer and not any(_core_reads(u.node, u.idx, picked) for u in value.uses()):
            return f"support operator; its input {value.name!r} comes from float"
    if not any(reads_integer(u.node, u.idx, picked) for v in end_of(node, picked).outputs for u in v.uses()):
        return "support operator; no integer operator behind it"
    return ""


def _takes_integers(node: Node, picked: Selection) -> bool:
    """Whether a node computes with integers: one that only stores its weights so puts out floats."""
    rule = picked.rules.get(node.name)
    return rule is not None and "act" in rule.inputs


def _core_reads(node: Node, index: int, picked: Selection) -> bool:
    rule = picked.rules.get(node.name)
    return rule is not None and rule.core and rule.role(index) == "act"


def reads_integer(node: Node, index: int, picked: Selection) -> bool:
    """Whether a node takes this input as integers."""
    rule = picked.rules.get(node.name)
    return rule is not None and rule.role(index) == "act"
