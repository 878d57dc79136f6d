"""Plan: which values become integers, in which format and range, and why. Data only; it drives every output form.

    {"fewbit_plan": 1, "target": …, "config": {…}, "model": "<sha256>",
     "values": {"conv1_out": {"role": "act", "spec": {"bits": 8, "signed": false}, "range": [0.0, 6.1], …}},
     "nodes":  {"conv1": {"quantized": true, "roles": ["act", "weight", "bias"], "outputs": ["act"], "reason": …}}}

A calibrated plan is the calibration table: readable, editable, and reusable without data. Ranges are written by `repr`,
so that reading a plan gives back the very same numbers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fewbit.core.params import QuantParams, params_from_range
from fewbit.core.spec import QuantSpec
from fewbit.errors import ConfigError, NotCalibrated, OutputError, PlanError, one_of, unknown

VERSION = 1


@dataclass(frozen=True)
class ValuePlan:
    """One value that becomes integer.

    Args:
        spec: its format. role: `act`, or `weight` (range taken from the weights when the plan is applied).
        group: name of the value whose parameters this one shares; by default its own.
        lo, hi: calibrated range, None before calibration and for weights.
        reason: why it is in the plan. calib_mode: what measures the range.
        observe: whether this value is the one (or among the ones) to look at for its group.
    """

    spec: QuantSpec
    role: str
    group: str
    reason: str = ""
    lo: float | None = None
    hi: float | None = None
    calib_mode: str = ""
    observe: bool = True

    @property
    def calibrated(self) -> bool:
        """Whether the range is known."""
        return self.lo is not None and self.hi is not None


@dataclass(frozen=True)
class NodePlan:
    """Verdict on one node: integer or float, and why.

    Args:
        quantized: the verdict. reason: for people.
        roles: role of each input (see `OpRule.inputs`). outputs: role of each output.
        absorbed_by: the node that the engine merges this one into.
    """

    quantized: bool
    reason: str
    roles: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    absorbed_by: str = ""


@dataclass(frozen=True)
class Plan:
    """Everything decided about one network. Treat it as a value: changes make a new plan.

    Args:
        values: by value name; a weight needed in two formats has a second entry `name@node`.
        nodes: by node name, in graph order.
        target: engine it was made for. config: the user's words, as given. model: digest of the fused float network.
    """

    values: Mapping[str, ValuePlan]
    nodes: Mapping[str, NodePlan]
    target: str = "onnxruntime"
    config: Mapping[str, Any] = field(default_factory=dict)
    model: str = ""

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
        """The same plan with these nodes' verdict turned to float; plan again to let their neighbours follow."""
        names = set(nodes)
        for name in names:
            if name not in self.nodes:
                raise unknown("layer", name, self.nodes)
        return replace(self, nodes={k: NodePlan(False, reason) if k in names else n for k, n in self.nodes.items()})

    # -- files --------------------------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """Plain dicts and lists."""
        return {
            "fewbit_plan": VERSION,
            "target": self.target,
            "config": dict(self.config),
            "model": self.model,
            "values": {k: _value_json(k, v) for k, v in self.values.items()},
            "nodes": {k: _node_json(n) for k, n in self.nodes.items()},
        }

    def save(self, path: str | Path) -> None:
        """Write the JSON file, whole or not at all."""
        path = Path(path)
        text = dumps(self.to_json())
        part = path.with_name(f".{path.name}.part")
        try:
            part.write_text(text, "utf-8")
            part.replace(path)
        except OSError as e:
            raise OutputError(f"cannot write {path}: {e.strerror or e}") from e
        finally:
            part.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | Path) -> Plan:
        """Read a JSON file; every key is checked.

        Raises:
            PlanError: not a plan, an unknown key, a range that is no range – with the name of the entry.
        """
        try:
            found = json.loads(Path(path).read_text("utf-8"))
        except FileNotFoundError:
            raise PlanError(f"there is no file {path}") from None
        except (OSError, UnicodeDecodeError) as e:
            raise PlanError(f"cannot read {path}: {e}") from e
        except json.JSONDecodeError as e:
            raise PlanError(f"{path} is not valid JSON: {e}") from e
        try:
            return cls.from_json(found)
        except (PlanError, ConfigError, KeyError) as e:
            raise PlanError(f"{path}: {e}") from e

    @classmethod
    def from_json(cls, found: Any) -> Plan:
        """Inverse of `to_json`."""
        if not isinstance(found, dict) or "fewbit_plan" not in found:
            raise PlanError("this is not a fewbit plan (no key 'fewbit_plan')")
        if found["fewbit_plan"] != VERSION:
            raise PlanError(f"plan version {found['fewbit_plan']!r}; this fewbit reads version {VERSION}")
        _keys("plan", found, {"fewbit_plan", "target", "config", "model", "values", "nodes"}, {"values", "nodes"})
        values = {k: _read_value(k, v) for k, v in _mapping("values", found["values"]).items()}
        return cls(
            values={k: _inherit(k, v, values) for k, v in values.items()},
            nodes={k: _read_node(k, n) for k, n in _mapping("nodes", found["nodes"]).items()},
            target=str(found.get("target", "onnxruntime")),
            config=_mapping("config", found.get("config", {})),
            model=str(found.get("model", "")),
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
    return out | {"reason": v.reason}


def _node_json(n: NodePlan) -> dict[str, Any]:
    out: dict[str, Any] = {"quantized": n.quantized}
    if n.quantized:
        out |= {"roles": list(n.roles), "outputs": list(n.outputs)}
    if n.absorbed_by:
        out["absorbed_by"] = n.absorbed_by
    return out | {"reason": n.reason}


def _read_value(name: str, found: Any) -> ValuePlan:
    what = f"value {name!r}"
    found = _mapping(what, found)
    _keys(what, found, {"role", "spec", "range", "group", "reason", "calib_mode", "observe"}, {"role", "spec"})
    lo = hi = None
    if "range" in found:
        pair = found["range"]
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(x, (int, float)) for x in pair)):
            raise PlanError(f"{what}: range is {pair!r}; it must be [lowest, highest]")
        lo, hi = (float(x) for x in pair)
        if not (math.isfinite(lo) and math.isfinite(hi) and lo <= hi):
            raise PlanError(f"{what}: range is {pair!r}; it must be two finite numbers, the lower one first")
    return ValuePlan(
        spec=QuantSpec.from_json(_mapping(what, found["spec"])),
        role=one_of(f"role of {what}", found["role"], ("act", "weight")),
        group=str(found.get("group", name)),
        reason=str(found.get("reason", "")),
        lo=lo,
        hi=hi,
        calib_mode=str(found.get("calib_mode", "")),
        observe=bool(found.get("observe", True)),
    )


def _inherit(name: str, v: ValuePlan, values: Mapping[str, ValuePlan]) -> ValuePlan:
    """Give a member of a group the range of the value that the group is named after: one place to edit."""
    if v.group == name:
        return v
    if v.group not in values:
        raise PlanError(f"value {name!r} belongs to group {v.group!r}; " + str(unknown("value", v.group, values)))
    if v.calibrated:
        raise PlanError(f"value {name!r} has a range of its own but belongs to group {v.group!r}; edit the range there")
    return replace(v, lo=values[v.group].lo, hi=values[v.group].hi)


def _read_node(name: str, found: Any) -> NodePlan:
    what = f"node {name!r}"
    found = _mapping(what, found)
    _keys(what, found, {"quantized", "reason", "roles", "outputs", "absorbed_by"}, {"quantized"})
    if not isinstance(found["quantized"], bool):
        raise PlanError(f"{what}: quantized is {found['quantized']!r}; it must be true or false")
    return NodePlan(
        quantized=found["quantized"],
        reason=str(found.get("reason", "")),
        roles=tuple(found.get("roles", ())),
        outputs=tuple(found.get("outputs", ())),
        absorbed_by=str(found.get("absorbed_by", "")),
    )


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
