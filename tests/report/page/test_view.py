"""What a report says in words, and in which order its tables stand, before any of it becomes a page."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest

from fewbit.report.page import grids
from fewbit.report.page.grids import Cell, Grid
from fewbit.report.page.numbers import figure, fixed, key, number_of, share
from fewbit.report.page.view import View, big, points, view
from tests.report.page.facts import bare, resnet50, troubled
from tests.report.page.reading import with_numbers

Json = dict[str, Any]
SUMMARY = tuple(bare()["summary"])
OF_LAYER = tuple(bare()["layers"][0])


@pytest.fixture(scope="module")
def facts() -> Json:
    return resnet50()


def cells(found: View) -> list[Cell]:
    all_ = (found.outputs, found.layers, found.profile, found.operators, found.ranking, found.sizes)
    return [c for g in (*all_, *(s.grid for s in found.sweeps)) for r in g.rows for c in r.cells]


def texts(found: View) -> list[str]:
    """All that is read."""
    tiles = [x for t in found.tiles for x in (t.label, t.value, t.note, *t.more, *(b.text for b in t.bars))]
    facts = [x for pair in (*found.facts, *found.versions) for x in pair]
    return [c.text for c in cells(found)] + tiles + facts + [found.title, found.line, found.sentence, found.missing]


def column(g: Grid, title: str) -> list[str]:
    (at,) = (i for i, c in enumerate(g.columns) if c.title == title)
    return [r.cells[at].text for r in g.rows]


def tile(found: View, label: str) -> Any:
    return next((t for t in found.tiles if t.label.startswith(label)), None)


# -- numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "said"),
    [
        (None, "–"), ("nan", "nan"), ("inf", "∞"), ("-inf", "−∞"), ("other", "–"), (0, "0"), (0.0, "0"),
        (-0.0123, "−0.0123"), (0.00012345, "1.23e−04"), (-5e-324, "−4.94e−324"), (0.5, "0.500"), (1, "1.00"),
        (99.94, "99.9"), (123.4, "123"), (1234567.8, "1,234,568"),
    ],
)  # fmt: skip
def test_figures_of_any_magnitude(x: Any, said: str) -> None:
    assert figure(x) == said


def test_decimals_and_shares() -> None:
    assert [fixed(x, 2) for x in (None, "nan", "inf", "-inf")] == ["–", "nan", "∞", "−∞"]
    assert [fixed(x, 2) for x in (1.005e3, -0.126)] == ["1,005.00", "−0.13"]
    assert [share(x, 1) for x in (None, 0, 0.1234, 1, -0.02)] == ["–", "0.0 %", "12.3 %", "100.0 %", "−2.0 %"]


def test_what_cells_are_sorted_by_can_be_read_back() -> None:
    for x in (0.1, -3.0, 1e300, 5e-324, 7):
        assert float(key(x)) == x
    assert [key(x) for x in (None, "nan", "inf", "-inf", "other")] == ["", "nan", "inf", "-inf", ""]
    assert number_of("-inf") == -math.inf and number_of(None) is None and number_of(3) == 3.0


@pytest.mark.parametrize(("x", "said"), [(None, "–"), (0, "0"), (999, "999"), (1500, "1.50 k"), (4.09e9, "4.09 G")])
def test_counts_of_multiplications(x: Any, said: str) -> None:
    assert big(x) == said


def test_points_have_a_sign() -> None:
    assert [points(x) for x in (-0.231, 0.0, 1.5)] == ["−0.23 points", "±0.00 points", "+1.50 points"]


# -- the tables -------------------------------------------------------------------------------------------------------


def test_the_worst_layer_stands_first_and_nan_before_it() -> None:
    rows = [{"id": i, "sqnr": x} for i, x in enumerate((30.0, None, "inf", "nan", 3.0, "-inf"))]
    found = grids.layers(rows)
    assert column(found, "SQNR dB") == ["nan", "−∞", "3.0", "30.0", "∞", "–"]
    assert [r.id for r in found.rows] == [3, 5, 4, 0, 2, 1]
    assert found.order is not None and found.columns[found.order[0]].title == "SQNR dB"


def test_every_row_has_a_cell_a_column(facts: Json) -> None:
    for found in (view(facts), view(troubled()), view(bare())):
        for g in (found.outputs, found.layers, found.profile, found.operators, found.ranking, found.sizes):
            assert all(len(r.cells) == len(g.columns) for r in g.rows)


def test_layers_say_where_they_are_computed() -> None:
    rows = [{"id": i, "integer": x, "op": "Conv", "name": "A/B"} for i, x in enumerate((True, False, None))]
    found = grids.layers(rows)
    assert column(found, "Computed in") == ["integer", "float", "–"]
    assert found.rows[1].data == {"op": "Conv", "form": "float", "name": "a/b"}


def test_shares_of_operators_add_up(facts: Json) -> None:
    found = grids.operators(facts["profile"])
    for side in ("float", "integer"):
        parts = [c for r, c in zip(found.rows, column(found, "Share"), strict=True) if r.cells[0].text == side]
        assert sum(float(p.removesuffix(" %")) for p in parts) == pytest.approx(100, abs=0.5)
    assert grids.operators({}).rows == ()
    idle = grids.operators({"float_operators": {"Conv": [1, 0.0]}})
    assert column(idle, "Share") == ["0.0 %"]


def test_long_names_keep_both_ends_and_are_told_in_full() -> None:
    cell = grids.layers([{"id": 0, "name": "first" + "x" * 100 + "last"}]).rows[0].cells[0]
    assert cell.text.startswith("first") and cell.text.endswith("last") and len(cell.text) == grids.WIDE
    assert cell.whole == "first" + "x" * 100 + "last"


# -- the verdict and the tiles ----------------------------------------------------------------------------------------


def test_what_quantizing_bought(facts: Json) -> None:
    found = view(facts)
    assert found.sentence == "3.97× smaller, 2.40× faster, top-1 −0.23 points" and found.missing == ""
    assert len(found.tiles) == 6 and found.line == "resnet50.onnx → resnet50-int8.onnx · target onnxruntime"


def test_what_it_cost() -> None:
    found = view(troubled())
    assert "1.31× slower" in found.sentence and "slower than float" in tile(found, "Latency").note
    assert tile(found, "Output").value == "nan dB" and tile(found, "Layers").note == "1 stay float"
    assert len(found.problems) == len(found.advice) == 2 and found.notes[0] == (
        "Warnings",
        ("2 samples were left out",),
    )


def test_an_exact_network_is_called_exact() -> None:
    assert tile(view({"summary": {"sqnr": "inf", "cosine": 1.0}}), "Output").value == "exact"


def test_other_ranks_than_the_first() -> None:
    accuracy = {"float": {"5": 0.9}, "quantized": {"5": 0.8, "10": 0.85}, "agreement": None}
    found = view({"summary": {"accuracy": accuracy}})
    assert tile(found, "Top-5").value == "80.00 %" and tile(found, "Top-5").note == ""


def test_bars_fit_their_place(facts: Json) -> None:
    for found in (view(facts), view(troubled())):
        assert all(0 <= b.share <= 1 for t in found.tiles for b in t.bars)


# -- what is missing --------------------------------------------------------------------------------------------------


def same(facts: Json, gone: Json) -> None:
    """What is null and what is not there say the same, and neither says None."""
    found = view(facts)
    assert found == view(gone) and not [t for t in texts(found) if "None" in t]


def without(x: Json, key: str) -> Json:
    return {k: v for k, v in x.items() if k != key}


@pytest.mark.parametrize("part", tuple(bare()))
def test_a_part_is_missing(part: str, facts: Json) -> None:
    same(facts | {part: None}, without(facts, part))


@pytest.mark.parametrize("name", SUMMARY)
def test_a_line_of_the_summary_is_missing(name: str, facts: Json) -> None:
    s = facts["summary"]
    same(facts | {"summary": s | {name: None}}, facts | {"summary": without(s, name)})


@pytest.mark.parametrize("name", OF_LAYER)
def test_a_value_of_a_layer_is_missing(name: str) -> None:
    few = troubled()
    layers = few["layers"]
    same(few | {"layers": [x | {name: None} for x in layers]}, few | {"layers": [without(x, name) for x in layers]})


@pytest.mark.parametrize("part", ["profile", "sensitivity", "sizes"])
def test_a_value_of_a_table_is_missing(part: str, facts: Json) -> None:
    for name in facts[part]["rows"][0]:
        rows = facts[part]["rows"][:3]
        null, gone = [r | {name: None} for r in rows], [without(r, name) for r in rows]
        same(*({part: facts[part] | {"rows": x}} for x in (null, gone)))


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_no_number_is_trusted_to_be_finite(value: str, facts: Json) -> None:
    before = copy.deepcopy(facts)
    found = view(with_numbers(facts, value))
    assert {"nan": "nan", "inf": "∞", "-inf": "−∞"}[value] in {c.text for c in cells(found)} and facts == before
