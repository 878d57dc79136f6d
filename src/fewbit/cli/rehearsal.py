"""What quantizing would do, without data: the verdict on every layer with its reason, and the sizes.

Sizes are not estimated: the network is made, with stand-in ranges, since its size does not depend on them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from fewbit import api
from fewbit.config import QuantConfig, budgets, said
from fewbit.core.plan import NodePlan, Plan
from fewbit.core.spec import QuantSpec
from fewbit.core.tables import Name, pairs, plain, size, table, times
from fewbit.graph.model import Model, op_name


@dataclass(frozen=True)
class Verdict:
    """On one layer. `types`: formats of what it reads, such as "u8 s8"; empty if it stays float or is merged."""

    layer: str
    op: str
    verdict: str
    types: str
    reason: str


@dataclass(frozen=True)
class Rehearsal:
    """What quantizing would do. `size_float`, `size_quantized`: bytes of all weights."""

    target: str
    verdicts: tuple[Verdict, ...]
    size_float: int
    size_quantized: int
    notes: tuple[str, ...] = ()

    def text(self) -> str:
        """For people."""
        rows = [(Name(v.layer), v.op, v.verdict, v.types, v.reason) for v in self.verdicts]
        integer = sum(v.verdict != "float" for v in self.verdicts)
        ratio = times(self.size_quantized / self.size_float) if self.size_float else "-"
        lines = [
            ("target", self.target),
            ("layers", f"{integer} of {len(rows)} integer"),
            ("weights", f"{size(self.size_float)} -> {size(self.size_quantized)} ({ratio})"),
        ]
        head = ("<layer", "<op", "<verdict", "?<types", "<reason")
        return "\n".join([table(head, rows), "", pairs(lines), *(f"note: {n}" for n in self.notes)])

    def to_json(self) -> dict[str, Any]:
        """Everything, as plain dicts."""
        found: dict[str, Any] = plain(self)
        return found


def rehearse(model: Model, config: QuantConfig) -> Rehearsal:
    """Plan and make the integer network, as far as that can be done without data.

    Args:
        model: the float network.
    """
    fused = api.fuse(model)
    plan = api.make_plan(fused, config)
    if config.bit_num == 0:  # the size is that of these steps, however they are chosen
        plain = replace(config, min_cosine=None, auto_tune=False, mixed_bit_search="step")
        plan, _ = api.correct(fused, replace(plan, config=said(plain)))
    made = api.apply(fused, plan.with_ranges(dict.fromkeys(plan.observed().values(), (0.0, 1.0))))
    nodes = {str(n.name): n for n in fused.nodes}
    return Rehearsal(
        target=plan.target,
        verdicts=tuple(
            Verdict(name, op_name(nodes[name]), _word(v), _types(plan, nodes[name], v), v.reason)
            for name, v in plan.nodes.items()
        ),
        size_float=model.nbytes,
        size_quantized=made.nbytes,
        notes=(*fused.notes, *_open_questions(config)),
    )


def _open_questions(config: QuantConfig) -> list[str]:
    """What may turn out otherwise once there is data and time."""
    found = []
    if config.measure:
        found.append("these are the table's verdicts; --measure decides by timing the network when it is quantized")
    if config.bit_num == 0:
        found.append("sizes are those of steps by init_scale; what the search for them finds may be another one")
    if wanted := budgets(config):
        found.append(f"more layers may stay float to meet {', '.join(f'{k} {v:g}' for k, v in wanted.items())}")
    return found


def _word(verdict: NodePlan) -> str:
    return "merged" if verdict.absorbed_by else "integer" if verdict.quantized else "float"


def _types(plan: Plan, node: Any, verdict: NodePlan) -> str:
    """Formats of the inputs that are in the plan."""
    found = []
    for value, role in zip(node.inputs, verdict.roles, strict=False):
        name = str(value.name) if value is not None else ""
        key = plan.weight_key(name, str(node.name)) if role == "weight" else name
        if role in ("act", "weight") and key is not None and key in plan.values:
            found.append(_brief(plan.values[key].spec))
    return " ".join(found)


def _brief(spec: QuantSpec) -> str:
    """`u8`, `s8`; `8` if the data decides on the sign."""
    sign = "" if spec.signed is None else "s" if spec.signed else "u"
    return f"{sign}{spec.bits}"
