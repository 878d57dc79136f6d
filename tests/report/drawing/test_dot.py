"""Text of DOT: nothing escapes from its place; Python and the page assemble the same."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fewbit.report.drawing as package
from fewbit.core.tables import plain
from fewbit.errors import UnknownName
from fewbit.report.drawing.boxes import box_line, cut, html, node_attributes, own_name, quoted
from fewbit.report.drawing.data import Box, DrawingData
from fewbit.report.drawing.dot import assemble, digraph, legend, parts
from fewbit.report.drawing.render import BROWSERLESS, svg_of

EVIL = [
    '"]; evil [label="x',
    "<b>&amp;</b>",
    "</table>>] evil [x=<",
    "a\nb\tc\x00\ud800",
    "\\N\\G",
    "",
    "×" * 9,
    "漢字/ÄÖ",
]


@pytest.mark.parametrize("name", EVIL)
def test_a_name_stays_a_name(data: DrawingData, name: str) -> None:
    stage = data.stages[2]
    boxes = tuple(replace(b, name=name, op=name, detail=name, reason=name) for b in stage.boxes)
    groups = tuple(replace(g, title=name, what=(name,)) for g in stage.groups)
    wires = tuple(replace(w, name=name, shape=name, steps=name) for w in stage.wires)
    named = replace(data, title=name or "x", stages=(replace(stage, boxes=boxes, groups=groups, wires=wires),))
    for opened in ((), [g.id for g in groups]):
        svg = svg_of(digraph(named, opened, ["quantized"]), {b.id: name for b in boxes})
        assert "evil</title>" not in svg and "<script" not in svg
        nodes = re.findall(r'<g id="(\w+)" class="node', svg)
        assert set(nodes) <= {b.id for b in boxes} | {g.id for g in groups} and nodes


@pytest.mark.parametrize("text", EVIL)
def test_quoting(text: str) -> None:
    found = quoted(text)
    assert re.fullmatch(r'"([^"\\]|\\\\|\\")*"', found)
    assert not re.search(r"[<>\"\x00-\x1f]", html(text))


def test_long_texts_lose_their_middle() -> None:
    assert cut("abcdefghij", 10) == "abcdefghij" and cut("abcdefghijk", 6) == "ab…ijk" and len(cut("x" * 99, 30)) == 30


@pytest.mark.parametrize(
    ("name", "scope", "op", "said"),
    [
        ("/layer1/0/conv1/Conv", "layer1/0", "Conv", "conv1"), ("layer1.0.conv1", "layer1/0", "Conv", "conv1"),
        ("conv1", "", "Conv", "conv1"), ("/layer1/Add", "layer1", "Add", ""), ("other/x", "layer1", "Conv", "other/x"),
    ],
)  # fmt: skip
def test_names_do_not_say_their_scope_again(name: str, scope: str, op: str, said: str) -> None:
    assert own_name(name, scope, op) == said


def test_a_folded_group_is_one_box_and_takes_the_edges(data: DrawingData) -> None:
    found = parts(data.stages[1])
    outer = next(g for g in data.stages[1].groups if g.depth == 1)
    folded, opened = assemble(found, ()), assemble(found, [outer.id])
    assert not any("subgraph" in line for line in folded)
    assert sum(line.startswith(f"{outer.id} [") for line in folded) == 1
    assert f'subgraph "cluster_{outer.id}" {{' in opened and not any(
        line.startswith(f"{outer.id} [") for line in opened
    )
    assert not any(re.match(rf"{outer.id} -> {outer.id}\b", line) for line in folded)


def test_a_value_is_named_once(data: DrawingData) -> None:
    found = parts(data.stages[1])
    lines = assemble(found, [g.id for g in data.stages[1].groups])
    labels = [line for line in lines if " -> " in line and " label=<" in line]
    assert len(labels) == len({w for *_, w in found.edges})


def test_the_legend_names_what_occurs(data: DrawingData) -> None:
    assert "stays float" in legend(data, data.stages[2:]) and "computes in integers" in legend(data, data.stages[2:])
    assert "stays float" not in legend(data, data.stages[:1])


def test_attributes_for_all_boxes() -> None:
    assert node_attributes({"shape": "oval", "width": 1.3}) == 'shape="oval" width="1.3"'
    with pytest.raises(UnknownName, match="did you mean 'shape'"):
        node_attributes({"shap": "oval"})


def test_a_box_without_name_can_be_drawn() -> None:
    assert "Conv" in box_line(Box("a0", "layer", "", "Conv"))


# -- the page's own assembler -----------------------------------------------------------------------------------------


@cache
def page() -> Any:
    """`assemble.js` alone."""
    from py_mini_racer import MiniRacer

    engine: Any = MiniRacer()
    engine.eval(BROWSERLESS + (Path(package.__path__[0]) / "page" / "assemble.js").read_text("utf-8"))
    engine.eval("globalThis.both = (stage, opened) => JSON.stringify(assemble(stage, new Set(opened)))")
    return engine


@given(draw=st.data())
@settings(deadline=None, max_examples=40)
def test_python_and_the_page_assemble_the_same(data: DrawingData, draw: Any) -> None:
    stage = draw.draw(st.sampled_from(data.stages))
    opened = draw.draw(st.lists(st.sampled_from([g.id for g in stage.groups]), unique=True))
    found = parts(stage, signs=True)
    assert json.loads(page().call("both", plain(found), opened)) == assemble(found, opened)
