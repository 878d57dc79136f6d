"""`fewbit inspect`: what is in a network, and what each target could do with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from fewbit.cli.bar import work
from fewbit.cli.given import AnyModel, Json, Quiet
from fewbit.cli.screen import answer

if TYPE_CHECKING:
    from fewbit.graph.model import Model


@dataclass(frozen=True)
class LayerVerdict:
    """One layer of the network as given.

    Args:
        verdicts: target → integer, merged (by the engine, into the integer layer in front), float, or fused.
        into: the layer that does its work once float layers are fused; empty if it is left, or nothing was left of it.
    """

    layer: str
    op: str
    verdicts: dict[str, str]
    into: str = ""


def run(
    *,
    model: AnyModel,
    layers: Annotated[bool, typer.Option("--layers", help="List every layer, with each target's verdict.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Show what is in a network, and what could be quantized.

    Inputs, outputs, operators, sizes; for each target how much could become integer, and why not the rest.
    """
    from fewbit import api
    from fewbit.core.tables import plain

    with work("reading", None, quiet=quiet):
        given = api.load(model, allow_quantized=True)
        found = api.inspect(given)
        rows = layer_verdicts(given, [t.target for t in found.targets]) if layers else []
    answer(
        lambda: "\n\n".join([found.text(), *([layer_text(rows)] if layers else [])]),
        lambda: found.to_json() | ({"verdicts": plain(rows)} if layers else {}),
        json=json,
        quiet=quiet,
    )


def layer_verdicts(given: Model, targets: list[str]) -> list[LayerVerdict]:
    """Verdict of each target (quantize_mode smart) on each layer.

    Args:
        given: the network. targets: their names; none for a network that is quantized already.
    """
    from fewbit import api
    from fewbit.config import QuantConfig
    from fewbit.graph.model import op_name
    from fewbit.quantization.select import select

    fused = api.fuse(given) if targets else given
    left = {str(n.name) for n in fused.nodes}
    verdicts: dict[str, dict[str, str]] = {}
    for target in targets:
        picked = select(fused, QuantConfig(target=target), api.target_named(target))
        verdicts[target] = {
            **dict.fromkeys(left, "float"),
            **dict.fromkeys(picked.rules, "integer"),
            **dict.fromkeys(picked.absorbed, "merged"),
        }

    return [
        LayerVerdict(
            name, op_name(node), {t: v.get(name, "fused") for t, v in verdicts.items()}, fused.aliases.get(name, "")
        )
        for name, node in ((str(n.name), n) for n in given.nodes)
    ]


def layer_text(rows: list[LayerVerdict]) -> str:
    """One line a layer; a column a target."""
    from fewbit.core.tables import Name, table

    targets = list(rows[0].verdicts) if rows else []
    head = ("<layer", "<op", *(f"<{t}" for t in targets), "<fused into")
    return table(head, [(Name(r.layer), r.op, *(r.verdicts[t] for t in targets), Name(r.into)) for r in rows])
