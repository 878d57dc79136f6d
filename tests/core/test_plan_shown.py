"""How plans show themselves: short, whatever their size, and with the reasons."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from fewbit.core.plan import NodePlan, Plan, Rescale, ValuePlan
from fewbit.core.plan_shown import format_name
from fewbit.core.spec import QuantSpec
from tests.shown import NASTY, shows_itself

ACT, WEIGHT = QuantSpec(8, signed=False), QuantSpec(8, signed=True, symmetric=True, granularity="channel", axis=0)


def plan(layers: int) -> Plan:
    """A chain of convolutions with ranges that grow; every tenth stays float."""
    values, nodes = {}, {}
    for i in range(layers):
        values[f"/layer{i}/out"] = ValuePlan(ACT, "act", f"/layer{i}/out", "made", 0.0, float(i + 1), "entropy")
        values[f"w{i}"] = ValuePlan(WEIGHT, "weight", f"w{i}", scale=(0.5,) * 64)
        quantized = i % 10 > 0
        reason = "core operator" if quantized else f"its input '/layer{i}/x' comes from float"
        nodes[f"/layer{i}/Conv"] = NodePlan(quantized, reason, bias=(0.1,) * 64)
        nodes[f"/layer{i}/Relu"] = NodePlan(quantized, "merged", absorbed_by=f"/layer{i}/Conv" if quantized else "")
    return Plan(
        values, nodes, config={"calib_mode": "entropy"}, rescales=(Rescale("v", (2.0,) * 64, why="SmoothQuant"),)
    )


def test_a_large_plan_stays_small() -> None:
    large = plan(500)
    words = shows_itself(large)
    assert repr(large) == (
        "<fewbit.Plan: 900 of 1000 layers integer, 1000 values (500 uint8, 500 int8 per channel), calibrated, "
        "for onnxruntime>"
    )
    assert len(large._repr_html_()) < 12_000 and len(large.text().splitlines()) < 40
    assert "and 47 more" in words  # of what stays float for one kind of reason
    assert str(large) == large.text()


def test_it_says_what_is_integer_what_is_not_and_why() -> None:
    text = plan(20).text()
    assert "layers    36 of 40 integer, 4 float" in text
    assert "settings  calib_mode='entropy'" in text and "rewrites  1 SmoothQuant" in text
    assert "fitted    20 weights with scales of their own, 20 biases corrected" in text
    assert "activations      20  uint8             entropy" in text
    assert re.search(r"^core operator +18$", text, re.M) and "merged into the layer in front" in text
    assert "  2 – its input '…' comes from float: /layer0/Conv, /layer10/Conv" in text


def test_the_largest_steps_come_first() -> None:
    lines = plan(20).text(3).splitlines()
    start = lines.index("largest steps, 3 of 20")
    assert [line.split()[0] for line in lines[start + 3 : start + 6]] == [
        "/layer19/out",
        "/layer18/out",
        "/layer17/out",
    ]


def test_a_range_of_nothing_is_named() -> None:
    odd = plan(3)
    flat = replace(odd, values=odd.values | {"dead": ValuePlan(ACT, "act", "dead", lo=0.0, hi=0.0)})
    assert "note: nothing but one number was seen in dead" in flat.text()


def test_an_uncalibrated_plan_says_so() -> None:
    fresh = plan(3)
    bare = replace(fresh, values={k: replace(v, lo=None, hi=None) for k, v in fresh.values.items()})
    assert "not calibrated" in repr(bare) and "0 of 3 known; calibrate with data" in bare.text()
    assert "largest steps" not in bare.text()


def test_an_empty_plan() -> None:
    assert repr(Plan({}, {})) == "<fewbit.Plan: 0 of 0 layers integer, 0 values, calibrated, for onnxruntime>"
    assert "0 of 0 integer" in shows_itself(Plan({}, {}))


def test_names_of_a_model_file_are_escaped() -> None:
    value = ValuePlan(ACT, "act", NASTY, NASTY, 0.0, 1.0, NASTY)
    odd = Plan(
        {NASTY: value},
        {NASTY: NodePlan(False, NASTY)},
        NASTY,
        {NASTY: NASTY},
        rescales=(Rescale(NASTY, (), why=NASTY),),
    )
    assert shows_itself(odd).count(NASTY[:20]) >= 5


def test_entries_are_one_line() -> None:
    value = replace(
        plan(1).values["w0"], nudge="x" * 1000, gain=(1.0,) * 99, storage="packed", reason="weight of\nconv"
    )
    assert repr(value) == (
        "<ValuePlan: weight int8 per channel, 64 scales, 99 gains, rounded by error, packed; group w0; weight of conv>"
    )
    assert repr(plan(1).values["/layer0/out"]) == "<ValuePlan: act uint8, 0 … 1, entropy; group /layer0/out; made>"
    merged = NodePlan(True, "merged into conv", ("act",), ("act",), "conv", (0.1,) * 8)
    assert repr(merged) == "<NodePlan: integer (act -> act), 8 biases corrected; merged into conv>"
    assert (
        repr(replace(merged, reason="")) == "<NodePlan: integer (act -> act), merged into conv, 8 biases corrected; >"
    )
    assert repr(NodePlan(False, "excluded")) == "<NodePlan: float; excluded>"
    assert repr(Rescale("v", (1.0, 2.0), why="by\nhand")) == "<Rescale: v, 2 channels; by hand>"


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        (QuantSpec(4, signed=True), "int4"),
        (QuantSpec(16, signed=False), "uint16"),
        (WEIGHT, "int8 per channel"),
        (QuantSpec(4, signed=True, granularity="group", axis=0, group_size=32), "int4 in groups of 32"),
        (QuantSpec(8), "sign by data, bits: 8"),
        (QuantSpec(8, signed=False, dynamic=True), "uint8, measured at run time"),
    ],
)
def test_formats_in_words(spec: QuantSpec, name: str) -> None:
    assert format_name(spec) == name
