from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest

from fewbit.core.plan import NodePlan, Plan
from fewbit.quantization.correct import Correction
from fewbit.report.benchmark import Timing
from fewbit.report.comparison import Comparison, LayerError
from fewbit.report.profile import ProfileRow
from fewbit.report.reasons import Kept
from fewbit.report.summary import QuantReport, correction_lines, summarize
from tests.report.helpers import chain, golden, model, with_qdq


def timing(ratio: float, low: float | None = None) -> Timing:
    return Timing("quantized", 1, 1.0, 0.9, 1.1, 1000.0, ratio, ratio if low is None else low, ratio, 7, 1)


GOOD = QuantReport(
    target="onnxruntime",
    size_float=102_000_000,
    size_quantized=25_700_000,
    layers=5,
    integer=("conv1", "conv2", "fc"),
    kept=(Kept("softmax", "Softmax", "no integer Softmax on onnxruntime"),
          Kept("last", "Relu", "support operator; its input 'q' comes from float")),
    cosine=0.9991,
    sqnr=31.25,
    batches=5,
    latency=timing(0.334),
    config={"calib_mode": "entropy"},
)  # fmt: skip

WORST = (
    LayerError("logits", "Gemm", "fc", 7.1, 0.91, 3.0, 0.25, 9.0),
    LayerError("c2", "Conv", "conv2", 12.0, 0.97, 1.0, 0.001, 20.0),
)
SLOWEST = (
    ProfileRow("x_q", "", None, "QuantizeLinear", "f32", 40.0, None),
    ProfileRow("conv1", "Conv", 10.0, "QLinearConv", "u8 s8", 30.0, 3.0),
    ProfileRow("fc", "Gemm", 10.0, "QGemm", "u8 s8", 5.0, 0.5),
)
BAD = replace(
    GOOD, cosine=0.912345, sqnr=7.1, worst=WORST, suspects=("fc", "conv2"), latency=timing(1.31), slowest=SLOWEST,
    warnings=("2 samples were left out",), config={"quantize_mode": "full", "quantized_dtype": "int8"},
)  # fmt: skip


def test_a_good_result_is_told_without_a_frame() -> None:
    assert GOOD.ok and GOOD.problems() == [] and "!" not in GOOD.text()
    golden("summary_good", GOOD.text())


def test_a_bad_result_is_told_loudly() -> None:
    assert not BAD.ok
    golden("summary_bad", BAD.text())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cosine": 0.9799}, ["THE OUTPUT IS OFF", "0.9799", "at least 0.98"]),
        ({"cosine": math.nan}, ["NaN OR inf"]),
        ({"cosine": 0.5, "worst": WORST}, ["Worst layers: fc (Gemm, 7.1 dB), conv2 (Conv, 12.0 dB)."]),
        ({"latency": timing(1.12, 1.05)}, ["SLOWER THAN FLOAT", "1.12x its latency (1.05–1.12), batch 1."]),
        ({"latency": timing(1.0)}, ["NOT FASTER THAN FLOAT"]),
        ({"latency": timing(1.17, 0.95)}, ["NOT FASTER THAN FLOAT", "(0.95–1.17, perhaps by chance), batch 1."]),
        ({"latency": timing(2.0), "slowest": SLOWEST}, ["lost in conv1 (+20 us)."]),
        ({"size_quantized": 102_000_000}, ["NOT SMALLER"]),
        ({"integer": ()}, ["NOTHING WAS QUANTIZED", "all 5 layers"]),
    ],
)
def test_each_problem_is_seen_and_names_who_is_to_blame(change: dict[str, Any], words: list[str]) -> None:
    (told,) = replace(GOOD, **change).problems()
    assert all(w in told for w in words)


@pytest.mark.parametrize("change", [{"cosine": None}, {"latency": None}, {"cosine": 0.98}, {"latency": timing(0.999)}])
def test_what_is_good_or_was_not_measured_is_no_problem(change: dict[str, Any]) -> None:
    assert replace(GOOD, **change).ok


def test_what_was_not_measured_is_said() -> None:
    text = replace(GOOD, cosine=None, latency=None).text()
    assert "not measured" in text and "not compared with float" in text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cosine": 0.5}, "effort = best"),
        ({"cosine": 0.5}, "min_cosine = 0.98"),
        ({"cosine": 0.5, "suspects": ("fc",)}, "exclude_layers = fc"),
        ({"cosine": 0.5, "worst": WORST}, "25.0 % of logits lies outside of its range"),
        ({"cosine": 0.5}, "calib_mode = percentile or mse or naive"),
        ({"cosine": 0.5, "config": {}}, "calib_mode = entropy or percentile or mse"),
        ({"latency": timing(2), "config": {"quantize_mode": "full"}}, "quantize_mode = smart"),
        ({"latency": timing(2), "config": {"quantized_dtype": "int8"}}, "quantized_dtype = auto"),
        ({"latency": timing(2), "slowest": SLOWEST}, "exclude_layers = conv1"),
        ({"latency": timing(2)}, "fewbit benchmark --profile"),
        ({"integer": ()}, "see the reasons above"),
    ],
)
def test_advice(change: dict[str, Any], words: str) -> None:
    assert any(words in a for a in replace(GOOD, **change).advice())


@pytest.mark.parametrize("bits", [4, 16])
@pytest.mark.parametrize("change", [{"cosine": 0.5, "suspects": ("fc",)}, {"latency": timing(2)}], ids=["off", "slow"])
def test_other_bits_than_8_are_the_first_thing_to_undo(bits: int, change: dict[str, Any]) -> None:
    report = replace(GOOD, config={"bit_num": bits}, **change)
    assert "bit_num = 8" in report.advice()[0] and sum("bit_num" in a for a in report.advice()) == 1


def advised(**change: Any) -> list[str]:
    """What the advice is about, in order: the first setting that each line names."""
    words = ("effort", "min_cosine", "exclude_layers", "calib_mode", "bit_num", "quantize_mode")
    lines = replace(GOOD, **change).advice()
    return [next((w for w in words if f"{w} =" in line), "") for line in lines]


def test_corrections_come_first_then_a_budget_then_layers() -> None:
    off: dict[str, Any] = {"cosine": 0.5, "suspects": ("fc",)}
    rest = ["exclude_layers", "calib_mode", ""]
    assert advised(**off) == ["effort", "min_cosine", *rest]
    assert advised(**off, config={"effort": "fast"}) == ["effort", "min_cosine", *rest]
    assert advised(**off, config={"effort": "best"}) == ["min_cosine", *rest]
    assert advised(**off, config={"effort": "best", "min_sqnr": 5.0}, budget_met=True) == rest
    assert advised(**off, config={"bit_num": 4}) == ["bit_num", "effort", "min_cosine", *rest]
    assert advised(**off, config={"calib_mode": "none"}) == rest  # there is no data to correct on
    assert advised(latency=timing(2), config={"quantize_mode": "full"}) == ["quantize_mode", ""]


@pytest.mark.parametrize(
    ("config", "about"),
    [({"min_sqnr": 60.0}, []), ({"min_sqnr": 60.0, "effort": "best"}, []), ({"max_latency": 0.1}, [])],
    ids=str,
)
def test_what_helps_against_a_budget_that_is_not_met(config: Any, about: list[str]) -> None:
    report = replace(GOOD, config=config, budget="Could not meet the budget: so and so.", budget_met=False)
    assert advised(config=config, budget_met=False) == about
    assert report.problems() == ["OVER BUDGET. Could not meet the budget: so and so."] and not report.ok
    text = report.text()
    assert "! OVER BUDGET. Could not meet the budget: so and so." in text and "\nbudget: " not in text


TRIED = (
    Correction("smooth quant", False, 20.0, 18.5, 0.25, "α = 0.8, 3 places"),
    Correction("range search, bias correction", True, 20.0, 23.0, 12.0),
)


def test_what_was_tried_measured_and_searched_is_told() -> None:
    report = replace(GOOD, corrections=TRIED, measured="runs at 0.5 of float", budget="Budget met.", budget_met=True)
    assert report.ok
    lines = report.text().splitlines()
    at = lines.index("corrections, judged on held-out samples:")
    assert lines[at + 1 : at + 5] == [
        "  smooth quant: -1.5 dB, dropped, 0.2 s; α = 0.8, 3 places",
        "  range search, bias correction: +3.0 dB, kept, 12.0 s",
        "measured: runs at 0.5 of float",
        "budget: Budget met.",
    ]
    found = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert found["corrections"][1] == {
        "name": "range search, bias correction", "kept": True, "before": 20.0, "after": 23.0, "seconds": 12.0,
        "note": "",
    }  # fmt: skip
    assert (found["measured"], found["budget"], found["budget_met"]) == ("runs at 0.5 of float", "Budget met.", True)
    assert correction_lines(()) == [] and "corrections" not in GOOD.text()


def test_a_network_without_integers_is_not_called_slower() -> None:
    report = replace(GOOD, integer=(), latency=timing(1.2), slowest=SLOWEST)
    assert len(report.problems()) == 1 and "NOTHING WAS QUANTIZED" in report.problems()[0]
    assert report.advice() == ["see the reasons above for what keeps the layers float"]


def test_a_frame_without_advice_has_no_heading_for_it() -> None:
    report = replace(GOOD, size_quantized=102_000_000)
    assert report.advice() == [] and "NOT SMALLER" in report.text() and "What to try" not in report.text()


def test_a_layer_that_loses_next_to_nothing_is_no_place_where_time_is_lost() -> None:
    nearly = replace(SLOWEST[1], us_int=10.3)
    report = replace(GOOD, latency=timing(1.17), slowest=(nearly,))
    assert "Most time is lost" not in report.problems()[0] and not any("conv1" in a for a in report.advice())
    report = replace(report, slowest=(SLOWEST[1], nearly))
    assert report.losing() == [SLOWEST[1]]


def test_advice_names_only_layers_that_are_integer() -> None:
    assert not any("x_q" in a for a in BAD.advice())


def test_json_holds_the_verdict() -> None:
    found = json.loads(json.dumps(replace(BAD, sqnr=-math.inf).to_json(), allow_nan=False))
    assert found["ok"] is False and len(found["problems"]) == 2 and found["advice"] and found["sqnr"] == "-inf"
    good = GOOD.to_json()
    assert good["ok"] is True and good["problems"] == [] and good["advice"] == []


def test_a_report_is_put_together_from_plan_networks_and_measurements() -> None:
    f, q = model(chain()), model(with_qdq(chain(), {"a": (0.1, 0)}))
    plan = Plan(
        {},
        {
            "add": NodePlan(True, "core operator"),
            "mul": NodePlan(False, "why"),
            "relu": NodePlan(True, "merged into add", absorbed_by="add"),
        },
        target="openvino",
        config={"calib_mode": "mse"},
    )
    errors = [
        LayerError("y", "Relu", "relu", 5.0, 0.9, 1.0, None, 6.0),
        LayerError("a", "Add", "add", 8.0, 0.9, 1.0, None, 8.0),
        LayerError("b", "Mul", "mul", 9.0, 0.9, 1.0, None, 9.0),
    ]
    comparison = Comparison(tuple(errors), (errors[0],), 4)
    r = summarize(plan, f, q, comparison=comparison, latency=timing(0.5), size_quantized=7, warnings=["w"])
    assert (r.target, r.layers, r.integer, r.quantized) == ("openvino", 3, ("add", "relu"), 2)
    assert r.kept == (Kept("mul", "Mul", "why"),)
    assert (r.size_float, r.size_quantized, r.cosine, r.sqnr, r.batches) == (f.nbytes, 7, 0.9, 5.0, 4)
    assert r.suspects == ("add",)  # relu is part of it; mul is float already
    assert r.warnings == ("w",) and r.worst == tuple(errors) and r.config == {"calib_mode": "mse"}
