"""`fewbit targets`: what each engine does in integers, with the measured factors, as tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fewbit.cli.given import Json, Quiet
from fewbit.cli.screen import answer
from fewbit.errors import one_of

if TYPE_CHECKING:
    from fewbit.core.spec import QuantSpec
    from fewbit.core.target import Target


def run(
    *,
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Show all rows of this target.", show_default=False)
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show what each engine computes in integers, and the gain.

    Factors are measured: integer latency ÷ float latency; below 1 is faster.
    """
    import fewbit.engines  # noqa: F401  registers them
    from fewbit.core.tables import plain
    from fewbit.core.target import TARGETS

    if name is None:
        answer(lambda: overview(TARGETS), lambda: plain(list(TARGETS.values())), json=json, quiet=quiet)
        return
    target = TARGETS[one_of("target", name, TARGETS)]
    answer(lambda: rows_of(target), lambda: plain(target), json=json, quiet=quiet)


def overview(targets: Mapping[str, Target]) -> str:
    """All targets, and operator by operator what they gain."""
    from fewbit.core.tables import table

    head = ("<target", "<form", "<activations", "<weights", ">rows", "<measured on")
    rows = [
        (t.name, t.form, spec_words(t.activation), spec_words(t.weight), str(len(t.rules)), t.checked)
        for t in targets.values()
    ]
    found: dict[tuple[str, str], dict[str, str]] = {}
    for t in targets.values():
        for r in t.rules:
            found.setdefault((r.op, r.when), {})[t.name] = factor(r.pays)
    lines = [
        (op, "" if when == "always" else when, *(cells.get(name, "") for name in targets))
        for (op, when), cells in sorted(found.items())
    ]
    parts = [
        table(head, rows),
        "",
        "integer latency ÷ float latency; below 1 is faster; yes: runs in integers, not measured",
        table(("<operator", "<when", *(f">{name}" for name in targets)), lines),
        "",
        "every row of one target: fewbit targets NAME",
    ]
    return "\n".join(parts)


def rows_of(target: Target) -> str:
    """One target with all that its rows say."""
    from fewbit.core.tables import pairs, table

    lines = [
        ("target", target.name),
        ("form", f"{target.form}, opset {target.opset}"),
        ("activations", spec_words(target.activation)),
        ("weights", spec_words(target.weight)),
        ("measured on", target.checked),
    ]
    if target.engine:
        lines.append(("simulation", f"{target.engine} computes Q and DQ as they stand, for all that is judged here"))
    if target.refuses:
        lines.append(("refuses", "; ".join(target.refuses)))
    lines += [("slow", f"{kind} activations: {pays:.2f} of float time") for kind, pays in target.slow.items()]
    head = ("<operator", "<when", "?<core", ">factor", "?<inputs", "?<outputs", "?<absorbs", "<note")
    rows = [
        (r.op, "" if r.when == "always" else r.when, "core" if r.core else "", factor(r.pays), " ".join(r.inputs),
         " ".join(r.outputs) + (", shared" if r.shares else ""), " ".join(r.absorbs), r.note)
        for r in target.rules
    ]  # fmt: skip
    return "\n".join([pairs(lines), "", table(head, rows)])


def factor(pays: float | None) -> str:
    """A measured factor; `yes` where a row exists but was not measured."""
    return "yes" if pays is None else f"{pays:.2f}"


def spec_words(spec: QuantSpec) -> str:
    """A format in words: `u8`, `s8 symmetric, channel`."""
    sign: Any = {True: "s", False: "u", None: "s or u "}[spec.signed]
    words = [f"{sign}{spec.bits}", *(["symmetric"] if spec.symmetric else [])]
    return " ".join(words) + ("" if spec.granularity == "tensor" else f", a {spec.granularity}")
