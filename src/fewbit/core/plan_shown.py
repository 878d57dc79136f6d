"""How a plan shows itself: what is integer, in which formats, what stays float and why, and which ranges stand out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fewbit.core.blocks import Aside, Block, Facts, Items, Table, Title, one_line, share_bars
from fewbit.core.reasons import general
from fewbit.core.spec import QuantSpec
from fewbit.core.tables import Name, listed, short, small

if TYPE_CHECKING:
    from fewbit.core.plan import NodePlan, Plan, Rescale, ValuePlan

SETTINGS = 100
"""Letters of the settings that are shown."""

ROLES = {"act": "activations", "weight": "weights"}


def blocks(plan: Plan, n: int) -> list[Block]:
    """All of it, with the `n` widest ranges."""
    found: list[Block] = [Facts(_facts(plan))]
    if plan.values:
        found += ["", Title("formats"), _formats(plan)]
    why = Counter("merged into the layer in front" if x.absorbed_by else general(x.reason)
                  for x in plan.nodes.values() if x.quantized)  # fmt: skip
    if why:
        rows = [(reason, str(count)) for reason, count in why.most_common()]
        found += ["", Title("integer, and why"), Table(("<reason", ">layers"), rows)]
    kept = _kept(plan)
    found += ["", Title("kept float, and why"), Items(kept)] if kept else []
    found += _widest(plan, n)
    return [*found, Aside("more: plan.nodes and plan.values by name; plan.save(path) writes one line for each")]


def brief(plan: Plan) -> str:
    """One line."""
    count = Counter(format_name(v.spec) for v in plan.values.values())
    formats = ", ".join(f"{n} {what}" for what, n in count.most_common(3))
    integer = sum(n.quantized for n in plan.nodes.values())
    ready = "calibrated" if plan.calibrated else "not calibrated"
    told = f"{integer} of {len(plan.nodes)} layers integer, {len(plan.values)} values"
    return f"{told}{f' ({formats})' if formats else ''}, {ready}, for {plan.target}"


def format_name(spec: QuantSpec) -> str:
    """A number format in words: `uint8`, `int4 per channel`, `int8 in groups of 32`."""
    kind = "sign by data, bits: " if spec.signed is None else "int" if spec.signed else "uint"
    shared = {"tensor": "", "channel": " per channel", "group": f" in groups of {spec.group_size}"}[spec.granularity]
    return f"{kind}{spec.bits}{shared}{', measured at run time' if spec.dynamic else ''}"


# -- single entries -----------------------------------------------------------------------------------------------


def value_line(v: ValuePlan) -> str:
    """An entry of `plan.values`; long numbers by how many there are."""
    parts = [f"{v.role} {format_name(v.spec)}"]
    parts += [f"{small(v.lo)} … {small(v.hi)}"] if v.calibrated else []
    parts += [v.calib_mode] if v.calib_mode else []
    parts += [f"{len(of)} {what}" for what, of in (("scales", v.scale), ("gains", v.gain), ("offsets", v.offset)) if of]
    parts += ["rounded by error"] if v.nudge else []
    parts += [v.storage] if v.storage else []
    return one_line(f"<ValuePlan: {', '.join(parts)}; group {short(v.group)}{f'; {v.reason}' if v.reason else ''}>")


def node_line(n: NodePlan) -> str:
    """An entry of `plan.nodes`."""
    roles = f" ({', '.join(n.roles)} -> {', '.join(n.outputs)})" if n.roles or n.outputs else ""
    bias = f", {len(n.bias)} biases corrected" if n.bias else ""
    into = f", merged into {short(n.absorbed_by)}" if n.absorbed_by and n.absorbed_by not in n.reason else ""
    return one_line(f"<NodePlan: {'integer' if n.quantized else 'float'}{roles}{into}{bias}; {n.reason}>")


def rescale_line(r: Rescale) -> str:
    """An entry of `plan.rescales`."""
    return one_line(f"<Rescale: {short(r.value)}, {len(r.scale)} channels{f'; {r.why}' if r.why else ''}>")


# -- parts --------------------------------------------------------------------------------------------------------


def _facts(plan: Plan) -> list[tuple[str, str]]:
    integer = [n for n in plan.nodes.values() if n.quantized]
    acts = [v for k, v in plan.values.items() if v.role == "act" and v.group == k and not v.spec.dynamic]
    known = sum(v.calibrated for v in acts)
    settings = ", ".join(f"{k}={v!r}" for k, v in plan.config.items())
    found = [
        ("target", plan.target),
        ("settings", settings if len(settings) <= SETTINGS else f"{settings[:SETTINGS]}…") if settings else ("", ""),
        ("layers", f"{len(integer)} of {len(plan.nodes)} integer, {len(plan.nodes) - len(integer)} float"),
        ("ranges", f"{known} of {len(acts)} known" + ("; calibrate with data" if known < len(acts) else "")),
        ("rewrites", _rewrites(plan)),
        ("fitted", _fitted(plan)),
    ]
    return [(k, v) for k, v in found if v]


def _rewrites(plan: Plan) -> str:
    why = Counter(r.why or "channels rescaled" for r in plan.rescales)
    return ", ".join(f"{n} {what}" for what, n in why.items())


def _fitted(plan: Plan) -> str:
    """What corrections left in the plan."""
    values, nodes = plan.values.values(), plan.nodes.values()
    counts = {
        "weights rounded by error": sum(bool(v.nudge) for v in values),
        "weights with scales of their own": sum(bool(v.scale) for v in values),
        "biases corrected": sum(bool(n.bias) for n in nodes),
    }
    return ", ".join(f"{n} {what}" for what, n in counts.items() if n)


def _formats(plan: Plan) -> Table:
    count = Counter((v.role, format_name(v.spec), v.calib_mode, v.storage) for v in plan.values.values())
    rows = [
        (ROLES.get(role, role), str(n), f"{name}, {storage}" if storage else name, mode or "-")
        for (role, name, mode, storage), n in count.most_common()
    ]
    return Table(("<what", ">values", "<format", "<range by"), rows)


def _kept(plan: Plan) -> list[str]:
    found: dict[str, list[str]] = {}
    for name, reason in plan.kept_float().items():
        found.setdefault(general(reason), []).append(name)
    told = {reason: plan.nodes[names[0]].reason if len(names) == 1 else reason for reason, names in found.items()}
    order = sorted(found, key=lambda reason: -len(found[reason]))
    return [f"{len(found[r])} – {told[r]}: {listed(found[r])}" for r in order]


def _widest(plan: Plan, n: int) -> Sequence[Block]:
    """The values with the largest steps: what is small next to them is lost."""
    acts = {k: v for k, v in plan.values.items() if v.role == "act" and v.group == k and v.calibrated}
    step = {k: _step(v) for k, v in acts.items()}
    shown = sorted(acts, key=lambda k: -step[k])[:n]
    if not shown:
        return []
    rows = [
        (Name(k), format_name(acts[k].spec), f"{small(acts[k].lo)} … {small(acts[k].hi)}", small(step[k]))
        for k in shown
    ]
    head = ("<value", "<format", ">range", ">step")
    found: list[Block] = ["", Title(f"largest steps, {len(shown)} of {len(acts)}")]
    found += [Table(head, rows, {3: share_bars([step[k] for k in shown])})]
    empty = [k for k, v in acts.items() if v.lo == v.hi]
    return [*found, *([f"note: nothing but one number was seen in {listed(empty)}"] if empty else [])]


def _step(v: ValuePlan) -> float:
    assert v.lo is not None and v.hi is not None
    return (max(v.hi, 0.0) - min(v.lo, 0.0)) / max((1 << v.spec.bits) - 1, 1)
