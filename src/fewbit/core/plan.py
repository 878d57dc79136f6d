"""Plan: which values become integers, in which format and range, and why. Data only; it drives every output form.

    {"fewbit_plan": 1, "target": …, "config": {…}, "model": "<sha256>", "data": "<sha256>",
     "values": {"conv1_out": {"role": "act", "spec": {"bits": 8, "signed": false}, "range": [0.0, 6.1], …}},
     "nodes":  {"conv1": {"quantized": true, "roles": ["act", "weight", "bias"], "outputs": ["act"], "reason": …}}}

A calibrated plan is the calibration table: readable, editable, and reusable without data. Ranges are written by `repr`,
so that reading a plan gives back the very same numbers.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from fewbit.core import plan_shown
from fewbit.core.blocks import Block, Shown, to_text
from fewbit.core.params import QuantParams, params_from_range
from fewbit.core.spec import QuantSpec
from fewbit.core.target import INPUT_ROLES, OUTPUT_ROLES
from fewbit.core.writing import writing
from fewbit.errors import NotCalibrated, PlanError, UsageError, unknown

VERSION = 1

STORAGES = ("", "packed")
VALUE_KEYS = {
    "role", "spec", "range", "group", "reason", "calib_mode", "observe", "scale", "nudge", "gain", "offset", "storage"
}  # fmt: skip
WEIGHT_KEYS = ("scale", "nudge", "gain", "offset", "storage")
NODE_KEYS = {"quantized", "reason", "roles", "outputs", "absorbed_by", "bias"}
LARGEST, SMALLEST = (float(np.finfo(np.float32).max), float(np.finfo(np.float32).smallest_subnormal))
KINDS = {str: "a text", bool: "true or false", int: "a whole number", list: "a list"}


@dataclass(frozen=True, repr=False)
class ValuePlan:
    """One value that becomes integer.

    Args:
        spec: its format. role: `act`, or `weight` (range taken from the weights when the plan is applied).
        group: name of the value whose parameters this one shares; by default its own.
        lo, hi: calibrated range, None before calibration and for weights.
        reason: why it is in the plan. calib_mode: what measures the range.
        observe: whether this value is the one (or among the ones) to look at for its group.
        scale: of a weight, the scales that a correction chose (channels or groups, flattened); empty = the largest
            magnitude decides.
        nudge: of a weight, how far its integers lie from the nearest ones, see `fewbit.core.nudge`.
        gain, offset: of a weight, what restores the spread and mean of its channels, see `fewbit.core.stored`; empty =
            nothing. For packed weights.
        storage: of a weight: "" a DequantizeLinear node behind its integers; "packed" for weights that are computed
            with in float: any width, unpacked by arithmetic that engines do once, when they load the network.
    """

    spec: QuantSpec
    role: str
    group: str
    reason: str = ""
    lo: float | None = None
    hi: float | None = None
    calib_mode: str = ""
    observe: bool = True
    scale: tuple[float, ...] = ()
    nudge: str = ""
    gain: tuple[float, ...] = ()
    offset: tuple[float, ...] = ()
    storage: str = ""

    __repr__ = plan_shown.value_line

    @property
    def calibrated(self) -> bool:
        """Whether the range is known."""
        return self.lo is not None and self.hi is not None


@dataclass(frozen=True, repr=False)
class NodePlan:
    """Verdict on one node: integer or float, and why.

    Args:
        quantized: the verdict. reason: for people.
        roles: role of each input (see `OpRule.inputs`). outputs: role of each output; "both": who asks for integers
            gets them, all others read floats, as a network computes that was simulated layer by layer.
        absorbed_by: the node that the engine merges this one into.
        bias: what a correction adds to its bias, one number an output channel; empty = nothing.
    """

    quantized: bool
    reason: str
    roles: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    absorbed_by: str = ""
    bias: tuple[float, ...] = ()

    __repr__ = plan_shown.node_line


@dataclass(frozen=True, repr=False)
class Rescale:
    """A float rewrite that keeps the function: channels of one value are divided by factors, its readers multiply.

    Args:
        value: name of the value in the fused network. scale: one factor a channel, > 0.
        unclip: names of Clip nodes behind it whose upper bound is taken away (they become Relu).
        absorb: amount that moves from the bias of the layer in front into those behind, one a channel; empty = none.
        why: the algorithm, for people.
    """

    value: str
    scale: tuple[float, ...]
    unclip: tuple[str, ...] = ()
    absorb: tuple[float, ...] = ()
    why: str = ""

    __repr__ = plan_shown.rescale_line


@dataclass(frozen=True, repr=False)
class Plan(Shown):
    """Everything decided about one network. Treat it as a value: changes make a new plan.

    Args:
        values: by value name; a weight needed in two formats has a second entry `name@node`.
        nodes: by node name, in graph order.
        target: engine it was made for. config: the user's words, as given. model: digest of the fused float network.
        data: digest of what it was calibrated on.
        rescales: float rewrites to do before anything else, in this order; ranges are those of the rewritten network.
    """

    values: Mapping[str, ValuePlan]
    nodes: Mapping[str, NodePlan]
    target: str = "onnxruntime"
    config: Mapping[str, Any] = field(default_factory=dict)
    model: str = ""
    data: str = ""
    rescales: tuple[Rescale, ...] = ()

    # -- looking up ---------------------------------------------------------------------------------------------

    def observed(self) -> dict[str, str]:
        """Values to look at during calibration → the group that their range goes to."""
        return {k: v.group for k, v in self.values.items() if v.role == "act" and v.observe and not v.spec.dynamic}

    def params(self, name: str) -> QuantParams:
        """Parameters of an activation.

        Raises:
            NotCalibrated: its range is not known yet.
        """
        value = self.values[name]
        if value.lo is None or value.hi is None:
            raise NotCalibrated(
                f"value {name!r} has no range; run calibrate with data, or write a range into the plan by hand"
            )
        return params_from_range(value.spec, value.lo, value.hi)

    def weight_key(self, weight: str, node: str) -> str | None:
        """The entry for a weight as used by one node."""
        own = f"{weight}@{node}"
        return own if own in self.values else weight if weight in self.values else None

    def rounds_output(self, node: str) -> bool:
        """Whether all readers of what an integer node makes, itself or by what it merged, read it rounded."""
        verdict = self.nodes[node]
        return "both" not in self.nodes.get(verdict.absorbed_by, verdict).outputs

    @property
    def calibrated(self) -> bool:
        """Whether every activation has its range, or measures it at run time."""
        return all(v.calibrated or v.spec.dynamic for v in self.values.values() if v.role == "act")

    def kept_float(self) -> dict[str, str]:
        """Nodes that stay float → reason."""
        return {k: n.reason for k, n in self.nodes.items() if not n.quantized}

    # -- changing -----------------------------------------------------------------------------------------------

    def with_ranges(self, ranges: Mapping[str, tuple[float, float]]) -> Plan:
        """Set ranges by group or value name; a name that is neither is an error.

        Formats whose sign was left to the data are settled here.
        """
        groups = {v.group for v in self.values.values() if v.role == "act"}
        wide: dict[str, tuple[float, float]] = {}
        for name, (lo, hi) in ranges.items():
            group = name if name in groups else self.values[name].group if name in self.values else None
            if group is None:
                raise unknown("value", name, self.values)
            params_from_range(QuantSpec(), lo, hi)  # finite and in order
            wide[group] = (float(lo), float(hi))
        values = {
            k: replace(v, lo=wide[v.group][0], hi=wide[v.group][1], spec=v.spec.resolve(wide[v.group][0]))
            if v.role == "act" and v.group in wide
            else v
            for k, v in self.values.items()
        }
        return replace(self, values=values)

    def keep_float(self, nodes: Iterable[str], reason: str) -> Plan:
        """The same plan with these nodes, and what they absorb, turned float; plan again to let neighbours follow."""
        names = set(nodes)
        for name in names:
            if name not in self.nodes:
                raise unknown("layer", name, self.nodes)
        gone = names | {k for k, n in self.nodes.items() if n.absorbed_by in names}
        return replace(self, nodes={k: NodePlan(False, reason) if k in gone else n for k, n in self.nodes.items()})

    def text(self, n: int = 5) -> str:
        """What is integer, in which formats, what stays float and why, and the `n` values with the largest steps."""
        return to_text(self._blocks(n))

    def _blocks(self, n: int = 5) -> list[Block]:
        return plan_shown.blocks(self, n)

    def _brief(self) -> str:
        return plan_shown.brief(self)

    # -- files --------------------------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """Plain dicts and lists."""
        return {
            "fewbit_plan": VERSION,
            "target": self.target,
            "config": dict(self.config),
            "model": self.model,
            "data": self.data,
            **({"rescales": [_rescale_json(r) for r in self.rescales]} if self.rescales else {}),
            "values": {k: _value_json(k, v) for k, v in self.values.items()},
            "nodes": {k: _node_json(n) for k, n in self.nodes.items()},
        }

    def save(self, path: str | Path) -> None:
        """Write the JSON file, whole or not at all."""
        text = dumps(self.to_json())
        with writing(Path(path)) as part:
            part.write_text(text, "utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Plan:
        """Read a JSON file; every key is checked.

        Raises:
            PlanError: not a plan, an unknown key, a range that is no range – with the name of the entry.
        """
        try:
            found = json.loads(Path(path).read_text("utf-8"))
        except FileNotFoundError:
            raise PlanError(f"there is no file {path}; check the name, or make a plan with fewbit calibrate") from None
        except IsADirectoryError:
            inner = Path(path) / "plan.json"  # as `deploy` calls it
            way = f"give {inner}" if inner.is_file() else "the file of a plan is needed"
            raise PlanError(f"{path} is a folder; {way}") from None
        except (OSError, UnicodeDecodeError) as e:
            raise PlanError(f"cannot read {path}: {e}") from e
        except (ValueError, RecursionError) as e:  # a number of thousands of digits is no JSONDecodeError
            raise PlanError(f"{path} is not valid JSON: {e}") from e
        try:
            return cls.from_json(found)
        except PlanError as e:
            raise PlanError(f"{path}: {e}") from e

    @classmethod
    def from_json(cls, found: Any) -> Plan:
        """Inverse of `to_json`; raises PlanError as `load` does."""
        if not isinstance(found, dict) or "fewbit_plan" not in found:
            raise PlanError("this is not a fewbit plan (no key 'fewbit_plan'); fewbit calibrate makes one")
        if found["fewbit_plan"] != VERSION:
            raise PlanError(f"plan version {found['fewbit_plan']!r}; this fewbit reads version {VERSION}")
        keys = {"fewbit_plan", "target", "config", "model", "data", "rescales", "values", "nodes"}
        _keys("plan", found, keys, {"values", "nodes"})
        values = {k: _read_value(k, v) for k, v in _mapping("values", found["values"]).items()}
        nodes = {k: _read_node(k, n) for k, n in _mapping("nodes", found["nodes"]).items()}
        for name, n in nodes.items():
            _check_absorbed(name, n, nodes)
        return cls(
            values={k: _inherit(k, v, values) for k, v in values.items()},
            nodes=nodes,
            target=_get("plan", found, "target", str, "onnxruntime"),
            config=_mapping("config", found.get("config", {})),
            model=_get("plan", found, "model", str, ""),
            data=_get("plan", found, "data", str, ""),
            rescales=tuple(_read_rescale(r) for r in _get("plan", found, "rescales", list, [])),
        )


def dumps(found: Mapping[str, Any]) -> str:
    """JSON with one value or node a line: made to be read, compared and edited."""
    parts = []
    for key, part in found.items():
        if key in ("values", "nodes") and part:
            lines = ",\n".join(f"    {json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in part.items())
            parts.append(f"  {json.dumps(key)}: {{\n{lines}\n  }}")
        else:
            parts.append(f"  {json.dumps(key)}: {json.dumps(part, ensure_ascii=False)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _value_json(name: str, v: ValuePlan) -> dict[str, Any]:
    out: dict[str, Any] = {"role": v.role, "spec": v.spec.to_json()}
    if v.calibrated and v.group == name:
        out["range"] = [v.lo, v.hi]
    if v.calib_mode:
        out["calib_mode"] = v.calib_mode
    if v.group != name:
        out["group"] = v.group
    if not v.observe:
        out["observe"] = False
    if v.scale:
        out["scale"] = list(v.scale)
    if v.nudge:
        out["nudge"] = v.nudge
    if v.gain:
        out["gain"] = list(v.gain)
    if v.offset:
        out["offset"] = list(v.offset)
    if v.storage:
        out["storage"] = v.storage
    return out | {"reason": v.reason}


def _node_json(n: NodePlan) -> dict[str, Any]:
    out: dict[str, Any] = {"quantized": n.quantized}
    if n.quantized:
        out |= {"roles": list(n.roles), "outputs": list(n.outputs)}
    if n.absorbed_by:
        out["absorbed_by"] = n.absorbed_by
    if n.bias:
        out["bias"] = list(n.bias)
    return out | {"reason": n.reason}


def _rescale_json(r: Rescale) -> dict[str, Any]:
    found = {"value": r.value, "scale": list(r.scale), "unclip": list(r.unclip), "absorb": list(r.absorb), "why": r.why}
    return {k: v for k, v in found.items() if v}


# -- reading ----------------------------------------------------------------------------------------------------


def _read_value(name: str, found: Any) -> ValuePlan:
    what = f"value {name!r}"
    found = _mapping(what, found)
    _keys(what, found, VALUE_KEYS, {"role", "spec"})
    lo, hi = _read_range(what, found["range"]) if "range" in found else (None, None)
    if lo is not None and found["role"] == "weight":
        raise PlanError(f"{what} has a range, but it is a weight: its range comes from the weight itself; remove it")
    wrong = [k for k in WEIGHT_KEYS if k in found and found["role"] != "weight"]
    if wrong:
        raise PlanError(f"{what} has a {wrong[0]}, which is for weights; edit its range instead")
    return ValuePlan(
        spec=_read_spec(what, found["spec"]),
        role=_one_of(what, "role", found["role"], ("act", "weight")),
        group=_get(what, found, "group", str, name),
        reason=_get(what, found, "reason", str, ""),
        lo=lo,
        hi=hi,
        calib_mode=_get(what, found, "calib_mode", str, ""),
        observe=_get(what, found, "observe", bool, True),
        scale=_numbers(what, found, "scale", positive=True),
        nudge=_get(what, found, "nudge", str, ""),
        gain=_singles(what, found, "gain", positive=True),
        offset=_singles(what, found, "offset"),
        storage=_one_of(what, "storage", found.get("storage", ""), STORAGES),
    )


def _numbers(what: str, found: Mapping[str, Any], key: str, *, positive: bool = False) -> tuple[float, ...]:
    given = _get(what, found, key, list, [])
    for x in given:
        if type(x) not in (int, float) or not abs(x) <= sys.float_info.max or (positive and x <= 0):
            raise PlanError(f"{what}: {key} holds {x!r}; it must be finite numbers{' over 0' if positive else ''}")
    return tuple(float(x) for x in given)


def _singles(what: str, found: Mapping[str, Any], key: str, *, positive: bool = False) -> tuple[float, ...]:
    """Numbers that are stored in 32 bits."""
    given = _numbers(what, found, key, positive=positive)
    for x in given:
        if abs(x) > LARGEST or (positive and x < SMALLEST):
            raise PlanError(f"{what}: {key} holds {x!r}, which float32 cannot hold")
    return given


def _read_rescale(found: Any) -> Rescale:
    found = _mapping("rescale", found)
    what = f"rescale of {found.get('value')!r}"
    _keys(what, found, {"value", "scale", "unclip", "absorb", "why"}, {"value", "scale"})
    return Rescale(
        value=_get(what, found, "value", str, ""),
        scale=_numbers(what, found, "scale", positive=True),
        unclip=tuple(str(n) for n in _get(what, found, "unclip", list, [])),
        absorb=_numbers(what, found, "absorb"),
        why=_get(what, found, "why", str, ""),
    )


def _read_range(what: str, pair: Any) -> tuple[float, float]:
    numbers = isinstance(pair, list) and all(type(x) in (int, float) for x in pair)
    if not numbers or len(pair) != 2:
        raise PlanError(f"{what}: range is {pair!r}; it must be [lowest, highest]")
    try:
        lo, hi = (float(x) for x in pair)
    except OverflowError:
        lo = hi = math.inf
    if not (math.isfinite(lo) and math.isfinite(hi) and lo <= hi):
        raise PlanError(f"{what}: range is {pair!r}; it must be two finite numbers, the lower one first")
    return lo, hi


def _read_spec(what: str, found: Any) -> QuantSpec:
    fields = _mapping(f"{what}: spec", found)
    for key in ("symmetric", "narrow", "dynamic"):
        _get(what, fields, key, bool, False)
    for key, kind in (("signed", bool), ("axis", int), ("group_size", int)):
        if fields.get(key) is not None:
            _get(what, fields, key, kind, None)
    try:
        return QuantSpec.from_json(fields)
    except UsageError as e:
        raise PlanError(f"{what}: {e}") from e


def _inherit(name: str, v: ValuePlan, values: Mapping[str, ValuePlan]) -> ValuePlan:
    """Give a member of a group the range of the value that the group is named after: one place to edit."""
    if v.group == name:
        return v
    if v.group not in values:
        raise PlanError(f"value {name!r} belongs to group {v.group!r}; " + str(unknown("value", v.group, values)))
    head = values[v.group]
    if head.group != v.group:
        raise PlanError(f"value {name!r} belongs to group {v.group!r}, which itself belongs to group {head.group!r}")
    if (v.role, v.spec) != (head.role, head.spec):
        raise PlanError(f"value {name!r} has another format or role than its group {v.group!r}; they must be the same")
    if v.calibrated:
        raise PlanError(f"value {name!r} has a range of its own but belongs to group {v.group!r}; edit the range there")
    return replace(v, lo=head.lo, hi=head.hi)


def _read_node(name: str, found: Any) -> NodePlan:
    what = f"node {name!r}"
    found = _mapping(what, found)
    _keys(what, found, NODE_KEYS, {"quantized"})
    roles, outputs = (_get(what, found, key, list, []) for key in ("roles", "outputs"))
    return NodePlan(
        quantized=_get(what, found, "quantized", bool, False),
        reason=_get(what, found, "reason", str, ""),
        roles=tuple(_one_of(what, "role", r, INPUT_ROLES) for r in roles),
        outputs=tuple(_one_of(what, "output role", r, OUTPUT_ROLES) for r in outputs),
        absorbed_by=_get(what, found, "absorbed_by", str, ""),
        bias=_numbers(what, found, "bias"),
    )


def _check_absorbed(name: str, n: NodePlan, nodes: Mapping[str, NodePlan]) -> None:
    """Raise unless the layer that this one is merged into is there and integer."""
    into = n.absorbed_by
    if into and (into not in nodes or into == name):
        others = [k for k in nodes if k != name]
        raise PlanError(f"node {name!r} is absorbed by {into!r}; " + str(unknown("layer", into, others)))
    if into and n.quantized and not nodes[into].quantized:
        raise PlanError(f"node {name!r} is absorbed by {into!r}, which stays float; set quantized to false for both")


def _get(what: str, found: Mapping[str, Any], key: str, kind: type, default: Any) -> Any:
    value = found.get(key, default)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise PlanError(f"{what}: {key} is {value!r}; it must be {KINDS[kind]}")
    return value


def _one_of(what: str, kind: str, word: Any, allowed: tuple[str, ...]) -> str:
    if word not in allowed:
        raise PlanError(f"{what}: {unknown(kind, word, allowed)}")
    return str(word)


def _mapping(what: str, found: Any) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise PlanError(f"{what} is {found!r}; it must be an object of names and entries")
    return found


def _keys(what: str, found: Mapping[str, Any], allowed: set[str], needed: set[str]) -> None:
    for key in found:
        if key not in allowed:
            raise PlanError(str(unknown(f"key of {what}", key, allowed)))
    for key in sorted(needed - set(found)):
        raise PlanError(f"{what} lacks the key {key!r}")
