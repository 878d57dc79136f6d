"""MXNet's symbol files: JSON of every era, read, checked and written.

    {"nodes": [{"op", "name", "attrs": {…}, "inputs": [[node, output, version], …], "subgraphs": [{…}]}, …],
     "arg_nodes": [places of op "null"], "heads": [[node, output, version], …],
     "attrs": {"mxnet_version": ["int", 10901]}}

Old files say `attr` or `param` (or both) for `attrs`, leave out the version of an entry, arg_nodes, and attrs. A node's
inputs must come before it; everything else that MXNet accepts is kept as it is.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fewbit.core.writing import writing
from fewbit.errors import ModelFormatError
from fewbit.frontends.mxnet.graph import Entry, SymbolGraph, SymbolNode, variables_of
from fewbit.frontends.mxnet.upgrade import upgrade

__all__ = ["Entry", "SymbolGraph", "SymbolNode", "parse_symbol", "read_symbol", "save_symbol", "symbol_text"]

MOST_BYTES = 512 << 20
MOST_DEPTH = 16
MOST_OUTPUTS = 1 << 12
MOST_NODES = 200_000
ERAS = ("param", "attr", "attrs")


def read_symbol(path: str | os.PathLike[str]) -> SymbolGraph:
    """Read a `-symbol.json` file, upgraded to what the last MXNet would have written.

    Raises:
        ModelFormatError: no such file, no symbol, or a damaged one; says which node, and what is wrong.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            raise ModelFormatError(f"{path} has {size} bytes; symbol files have at most {MOST_BYTES}")
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as e:
        raise ModelFormatError(f"cannot read {path}: {e.strerror or e}") from e
    except UnicodeDecodeError as e:
        raise ModelFormatError(f"{path} is not a symbol of MXNet: it is not utf-8 text; is it a .params file?") from e
    return upgrade(parse_symbol(text, f"{path}"))


def parse_symbol(text: str, what: str) -> SymbolGraph:
    """The symbol in a JSON text, as it is there.

    Args:
        text: the JSON.
        what: where it comes from, for messages.

    Raises:
        ModelFormatError: see `read_symbol`.
    """
    try:
        graph = _graph(json.loads(text), what, MOST_DEPTH)
    except RecursionError as e:
        raise ModelFormatError(f"{what} is not a symbol of MXNet: its JSON is nested too deeply") from e
    except ValueError as e:
        raise ModelFormatError(f"{what} is not a symbol of MXNet: it is not JSON, or cut off: {e}") from e
    _ = graph.version, graph.outputs  # what is wrong with them is said now, not in the middle of something else
    return graph


def _graph(stored: Any, what: str, depth: int) -> SymbolGraph:
    if not depth:
        raise ModelFormatError(f"{what}: subgraphs are nested more than {MOST_DEPTH} deep")
    if not isinstance(stored, dict) or "nodes" not in stored or "heads" not in stored:
        raise ModelFormatError(f"{what} is not a symbol of MXNet: it has no nodes and heads")
    listed = _list(stored["nodes"], f"{what}: nodes")
    if len(listed) > MOST_NODES:
        raise ModelFormatError(f"{what} has {len(listed):,} nodes; fewbit takes up to {MOST_NODES:,}")
    nodes = tuple(_node(node, i, f"{what}: node {i}", depth) for i, node in enumerate(listed))
    attrs = stored.get("attrs") or {}
    if not isinstance(attrs, dict):
        raise ModelFormatError(f"{what}: attrs of the symbol are {_short(attrs)}; they must be a table")
    heads = _entries(stored["heads"], len(nodes), f"{what}: heads")
    if not heads:
        raise ModelFormatError(f"{what}: heads is an empty list; a symbol must have an output")
    variables = variables_of(nodes)
    if "arg_nodes" in stored:
        _check_arg_nodes(stored["arg_nodes"], nodes, f"{what}: arg_nodes")
    for entry in heads + tuple(e for n in nodes for e in n.inputs):
        if nodes[entry.node].op == "null" and entry.output:
            name = nodes[entry.node].name
            raise ModelFormatError(f"{what}: output {entry.output} of variable {name!r} is used; it has only output 0")
    return SymbolGraph(nodes, heads, variables, attrs)


def _node(stored: Any, place: int, what: str, depth: int) -> SymbolNode:
    if not isinstance(stored, dict):
        raise ModelFormatError(f"{what} is {_short(stored)}; it must be a table")
    op, name = stored.get("op"), stored.get("name", "")
    if not isinstance(op, str) or not isinstance(name, str):
        raise ModelFormatError(f"{what}: op is {_short(op)}, name is {_short(name)}; both must be text")
    if not _is_text(op) or not _is_text(name):
        raise ModelFormatError(f"{what}: op is {_short(op)}, name is {_short(name)}; half a character is no text")
    what = f"{what} ({name!r}, {op})"
    attrs: dict[str, str] = {}
    for era in ERAS:
        given = stored.get(era) or {}
        if not isinstance(given, dict):
            raise ModelFormatError(f"{what}: {era} is {_short(given)}; it must be a table")
        attrs |= {key: value if isinstance(value, str) else str(value) for key, value in given.items()}
    inputs = _entries(stored.get("inputs") or [], place, what)
    if op == "null" and inputs:
        raise ModelFormatError(f"{what} is a variable, but has {len(inputs)} inputs")
    inner = _list(stored.get("subgraphs") or [], f"{what}: subgraphs")
    subgraphs = tuple(_graph(g, f"{what}: subgraph {i}", depth - 1) for i, g in enumerate(inner))
    return SymbolNode(op, name, attrs, inputs, subgraphs)


def _entries(stored: Any, end: int, what: str) -> tuple[Entry, ...]:
    """Entries that point to one of the first `end` nodes."""
    entries = []
    for entry in _list(stored, f"{what}: inputs or heads"):
        if not isinstance(entry, list) or len(entry) not in {2, 3} or not all(_count(number) for number in entry):
            raise ModelFormatError(f"{what}: {_short(entry)} must be [node, output] or [node, output, version]")
        if entry[0] >= end:
            raise ModelFormatError(f"{what}: reads node {entry[0]}, but only the {end} nodes before can be read")
        if entry[1] >= MOST_OUTPUTS:
            raise ModelFormatError(f"{what}: reads output {entry[1]}; nodes have at most {MOST_OUTPUTS}")
        entries.append(Entry(*entry))
    return tuple(entries)


def _check_arg_nodes(stored: Any, nodes: tuple[SymbolNode, ...], what: str) -> None:
    for i in _list(stored, what):
        if not _count(i) or i >= len(nodes) or nodes[i].op != "null":
            raise ModelFormatError(f"{what} names node {_short(i)}, which is no variable among the {len(nodes)} nodes")


def _is_text(text: str) -> bool:
    """Whether it can be written as UTF-8; JSON may speak of one half of a character alone."""
    return text.isascii() or not any("\ud800" <= c <= "\udfff" for c in text)


def _count(number: Any) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and number >= 0


def _list(stored: Any, what: str) -> list[Any]:
    if not isinstance(stored, list):
        raise ModelFormatError(f"{what} must be a list, not {_short(stored)}")
    return stored


def _short(stored: Any) -> str:
    if isinstance(stored, dict | list):
        return f"a {'table' if isinstance(stored, dict) else 'list'} of {len(stored)}"
    return "a huge number" if isinstance(stored, int) and abs(stored) > 1 << 60 else repr(stored)[:80]


def symbol_text(graph: SymbolGraph) -> str:
    """The symbol as JSON that MXNet 1.x reads; the inverse of `parse_symbol`."""
    return json.dumps(_stored(graph, {"mxnet_version": ["int", 10901]}), indent=2) + "\n"


def _stored(graph: SymbolGraph, attrs: Mapping[str, Any]) -> dict[str, Any]:
    nodes: list[dict[str, Any]] = []
    for node in graph.nodes:
        stored: dict[str, Any] = {"op": node.op, "name": node.name}
        if node.attrs:
            stored["attrs"] = dict(node.attrs)
        stored["inputs"] = [list(e) for e in node.inputs]
        if node.subgraphs:
            stored["subgraphs"] = [_stored(g, {}) for g in node.subgraphs]
        nodes.append(stored)
    whole = {"nodes": nodes, "arg_nodes": list(graph.arg_nodes), "heads": [list(e) for e in graph.heads]}
    return whole | ({"attrs": {**attrs, **graph.attrs}} if attrs or graph.attrs else {})


def save_symbol(path: str | os.PathLike[str], graph: SymbolGraph) -> None:
    """Write a `-symbol.json` file.

    Raises:
        OutputError: it cannot be written; nothing is left behind.
    """
    with writing(Path(path)) as temporary:
        temporary.write_text(symbol_text(graph), "utf-8")
