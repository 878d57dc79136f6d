"""What changed in MXNet's symbols over the years, applied to old ones.

older than 2.0     lr_mult on x                  → __lr_mult__ on x
                   weight_lr_mult on conv        → __lr_mult__ on the variable that is conv's weight
older than 0.9.0   BatchNorm bn(x, gamma, beta)  → bn(x, gamma, beta, bn_moving_mean, bn_moving_var)
older than 0.9.5   argmax(axis=-1)               → argmax()
"""

from __future__ import annotations

from dataclasses import replace

from fewbit.frontends.mxnet.graph import Entry, SymbolGraph, SymbolNode, variables_of
from fewbit.frontends.mxnet.signature import ALIASES, MUTABLE, input_names

CURRENT = 10901
HIDDEN_SINCE, INPUTS_SINCE, AXIS_SINCE = 20000, 900, 905
HIDDEN = ("ctx_group", "lr_mult", "wd_mult", "force_mirroring", "mirror_stage")


def upgrade(graph: SymbolGraph) -> SymbolGraph:
    """The symbol as the last MXNet would have written it.

    Raises:
        ModelFormatError: its version is no number.
    """
    version, nodes, heads = graph.version, list(graph.nodes), graph.heads
    if version < HIDDEN_SINCE:
        nodes = _hide(nodes)
    if version < INPUTS_SINCE:
        nodes, heads = _add_inputs(nodes, heads)
    if version < AXIS_SINCE:
        nodes = [_without_axis(n) for n in nodes]
    attrs = {**graph.attrs, "mxnet_version": ["int", max(version, CURRENT)]}
    return SymbolGraph(tuple(nodes), heads, variables_of(nodes), attrs)


def _hide(nodes: list[SymbolNode]) -> list[SymbolNode]:
    """Keys that speak of training, moved out of the way of the operator's own."""
    attrs = [dict(n.attrs) for n in nodes]
    for i, node in enumerate(nodes):
        for key in node.attrs:
            hidden = next((h for h in HIDDEN if key == h or key.endswith("_" + h)), None)
            if hidden is None or key.startswith("__"):
                continue
            to = i if key == hidden else _input_called(nodes, node, key.removesuffix("_" + hidden))
            if to is not None:
                attrs[to][f"__{hidden}__"] = attrs[i].pop(key)
    return [replace(n, attrs=a) for n, a in zip(nodes, attrs, strict=True)]


def _input_called(nodes: list[SymbolNode], node: SymbolNode, name: str) -> int | None:
    """The variable that is this input of the node."""
    names = input_names(node.op, node.attrs)
    if node.op == "null" or name not in names or names.index(name) >= len(node.inputs):
        return None
    found = node.inputs[names.index(name)].node
    return found if nodes[found].op == "null" else None


def _add_inputs(nodes: list[SymbolNode], heads: tuple[Entry, ...]) -> tuple[list[SymbolNode], tuple[Entry, ...]]:
    """Inputs that old files leave out, as variables before the nodes that read them."""
    out: list[SymbolNode] = []
    new: list[int] = []  # old place → new place
    for node in nodes:
        inputs = [e._replace(node=new[e.node]) for e in node.inputs]
        names = input_names(node.op, node.attrs)
        for i in range(len(inputs), len(names)):
            changed = i in MUTABLE.get(ALIASES.get(node.op, node.op), ())
            inputs.append(Entry(len(out), 0, int(changed)))
            out.append(SymbolNode("null", f"{node.name}_{names[i]}" if node.name else names[i]))
        new.append(len(out))
        out.append(replace(node, inputs=tuple(inputs)))
    return out, tuple(h._replace(node=new[h.node]) for h in heads)


def _without_axis(node: SymbolNode) -> SymbolNode:
    """-1 meant all axes once; now that is what no axis means."""
    if node.op not in {"argmax", "argmin"} or node.attrs.get("axis") != "-1":
        return node
    return replace(node, attrs={k: v for k, v in node.attrs.items() if k != "axis"})
