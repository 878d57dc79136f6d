"""Which layer of the float network an engine's operator of the quantized network works for.

    float       conv1 ─ v ─ relu1 ─ w
    quantized   zz7 ──────── w ─ Q(zz8) ─ DQ(zz9)        zz7, zz8, zz9 → the layer that makes w

Engines name operators after nodes, or after what these make. Tools name nodes as they like, but values that both
networks have keep their names; so a node belongs to the layer whose value it makes, passes on as integers, or reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fewbit.core.names import longest
from fewbit.core.runner import Executed
from fewbit.graph.model import Model, op_name

BORDER = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Clip", "Cast"})
"""What stands between a value and its integers."""

FAR = 4
"""Nodes of a border, one behind the other, at most."""


def names_of_layers(model: Model, quantized: Model, known: Mapping[str, str]) -> dict[str, str]:
    """Every name in the quantized network that may stand for a layer → that layer of the float network.

    Args:
        model: the float network. known: names in it, see `fewbit.report.profile.layer_names`.
    """
    makers = {str(v.name): str(n.name) for n in model.nodes for v in n.outputs if v.name}
    found = dict(known)
    for node in quantized.nodes:
        layer = _made(node, makers) or _behind(node, makers) or _front(node, makers)
        if layer is not None:
            found |= {str(name): layer for name in (node.name, *(v.name for v in node.outputs)) if name}
    return found


def _made(node: Any, makers: Mapping[str, str]) -> str | None:
    """The layer whose value it makes."""
    return next((makers[str(v.name)] for v in node.outputs if str(v.name) in makers), None)


def _behind(node: Any, makers: Mapping[str, str]) -> str | None:
    """The layer whose value stands behind the integers that it makes."""
    for _ in range(FAR):
        uses = [u.node for v in node.outputs for u in v.uses()]
        if len(uses) != 1 or uses[0].op_type not in BORDER:
            return None
        node = uses[0]
        if (layer := _made(node, makers)) is not None:
            return layer
    return None


def _front(node: Any, makers: Mapping[str, str]) -> str | None:
    """The layer whose value is turned into integers here, or back."""
    for _ in range(FAR):
        if node is None or node.op_type not in BORDER or not node.inputs or node.inputs[0] is None:
            return None
        if str(node.inputs[0].name) in makers:
            return makers[str(node.inputs[0].name)]
        node = node.inputs[0].producer()
    return None


def executed_layers(model: Model, operators: Iterable[Executed], names: Mapping[str, str]) -> dict[str, bool]:
    """Layer → whether the engine computes it in integers, for all that show.

    Of the operators that work for a layer those count that are called like it; a Clip of integers beside a Softmax in
    float is no integer Softmax.

    Args:
        model: the float network. operators: what the engine runs. names: see `names_of_layers`.
    """
    ops = {str(n.name): op_name(n).rsplit(".", 1)[-1].lower() for n in model.nodes}
    shown: dict[str, list[Executed]] = {}
    for e in operators:
        name = longest(e.node, names)
        if name is not None and names[name] in ops:
            shown.setdefault(names[name], []).append(e)
    found = {}
    for layer, parts in shown.items():
        own = [e for e in parts if ops[layer] in e.op.lower()]
        rest = [e for e in parts if e.op.rsplit(".", 1)[-1] not in BORDER]
        found[layer] = any(e.integer for e in own or rest or parts)
    return found
