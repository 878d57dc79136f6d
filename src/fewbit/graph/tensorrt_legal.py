"""Whether NVIDIA TensorRT takes a Q/DQ network, and where it would lose speed: a table of rules, run over a graph.

    check_tensorrt(model) → [Violation("zero-point", "illegal", "x_q", "zero point 128; its integers are …")]

Rules that make it refuse the network, or compute it wrongly, are `illegal`; those that cost a fusion are `slow`. They
are NVIDIA's documented ones. No TensorRT ran to find them, so a network without a violation is one that nothing is
known against.
"""

from __future__ import annotations

from collections.abc import Iterable

from fewbit.errors import UnsupportedModel
from fewbit.graph import tensorrt_refused, tensorrt_slow  # registers the rules
from fewbit.graph.model import Model
from fewbit.graph.tensorrt_rule import ILLEGAL, RULES, SLOW, Rule, Violation

__all__ = ["ILLEGAL", "RULES", "SLOW", "Rule", "Violation", "check_tensorrt", "refuse_illegal"]

SOURCES = (tensorrt_refused, tensorrt_slow)
SHOWN = 5
"""Violations that an error names."""


def check_tensorrt(model: Model) -> list[Violation]:
    """All violations, the illegal ones first."""
    found = [
        Violation(r.name, r.severity, node.name or str(node.outputs[0].name), f"{text}. {r.why}")
        for r in RULES.values()
        for node, text in r.check(model)
    ]
    return sorted(found, key=lambda v: v.severity != ILLEGAL)


def refuse_illegal(model: Model) -> None:
    """Raise UnsupportedModel if there is anything illegal."""
    wrong = [v for v in check_tensorrt(model) if v.severity == ILLEGAL]
    if wrong:
        more = f"; and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        raise UnsupportedModel(f"TensorRT would not take this network: {listed(wrong[:SHOWN])}{more}")


def listed(found: Iterable[Violation]) -> str:
    """Violations in one line, each rule's reason once."""
    said: set[str] = set()
    parts = []
    for v in found:
        text = str(v) if v.rule not in said else f"{v.node}: {v.text.removesuffix(RULES[v.rule].why).rstrip('. ')}"
        said.add(v.rule)
        parts.append(text.rstrip("."))
    return "; ".join(parts)
