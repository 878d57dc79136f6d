"""Every result that a notebook shows: with names from a hostile file, with nothing in it, and very large."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from onnx import TensorProto, helper

from fewbit.config.simulate import SimulateConfig
from fewbit.core.detection import ClassScore
from fewbit.core.plan import NodePlan, Plan
from fewbit.graph.files import from_proto
from fewbit.graph.model import Model
from fewbit.quantization.correct import Correction
from fewbit.report.benchmark import Benchmark, Timing
from fewbit.report.comparison import Comparison, LayerError
from fewbit.report.crosscheck_result import AtValue, Crosscheck, Side, Two
from fewbit.report.detections import DetectionEvaluation
from fewbit.report.evaluate import Evaluation, Share
from fewbit.report.explanation import Explanation, Figures, Finding, Gain
from fewbit.report.inspect import Inspection, Layer
from fewbit.report.instances import InstanceBenchmark, InstanceTiming, NetworkTiming
from fewbit.report.profile import Profile, ProfileRow
from fewbit.report.quantized import Quantized
from fewbit.report.reasons import Kept
from fewbit.report.simulation import Simulation
from fewbit.report.sizes import SizeRow, Sizes
from fewbit.report.summary import QuantReport
from fewbit.report.sweep import Sweep, SweepRow
from fewbit.search.ranking import LayerSensitivity, Proposal, Sensitivity
from tests.report.helpers import chain
from tests.shown import NASTY, checked, shows_itself

ERROR = LayerError(NASTY, "Conv", NASTY, 12.0, 0.9, 1.0, 0.01, 20.0)
TIMING = Timing(NASTY, 1, 1.0, 0.9, 1.1, 1000.0, 1.5, 1.4, 1.6, 7, 1)
EVALUATION = Evaluation(NASTY, 10, 100, 100, {1: Share(80, 100)}, {1: Share(90, 100)}, Share(85, 100), 3, 13, 2)
PROFILE = ProfileRow(NASTY, "Conv", 10.0, "QLinearConv", "u8 s8", 30.0, 3.0)
SENSITIVE = LayerSensitivity(NASTY, "Conv", 100, 12.0, 15.0)
SWEEP = SweepRow(4, "layer", "naive", False, 0.8, 0.1, 0.85, 3, 13)
NETWORK = NetworkTiming(
    NASTY, 1, 9.0, 1.0, 0.9, 1.1, 1.2, 1.1, 1.3, 7, (InstanceTiming((0, 1), 9.0, 1.0, 0.9, 1.1, 9),)
)
INSPECTION = Inspection(
    NASTY,
    (NASTY,),
    (NASTY,),
    17,
    {NASTY: 3},
    3,
    10,
    40,
    (),
    {},
    0,
    (NASTY,),
    {},
    (Layer(NASTY, "Conv", 1, (NASTY,)),),
    (),
)
SIDES = (Side("simulation", 99.0, 1.0, 5.0, 0.4, {"y": 5.0}), Side(NASTY, 9.0, 0.5, 4.0, 0.4, {"y": -9.0}, note=NASTY))
AT = AtValue(NASTY, "Conv", NASTY, 0.5, 3, 1.0, True)
GAIN = Gain(Figures(0.9, 10.0, 0.5, 100), Figures(0.8, 9.0, 0.6, 120), 8)
REPORT = QuantReport(
    NASTY, 100, 200, 2, (NASTY,), (Kept(NASTY, "Relu", NASTY),), math.nan, math.nan, 1, 3.0, (ERROR,), (NASTY,),
    TIMING, (PROFILE,), (NASTY,), {}, (Correction(NASTY, True, 1.0, 2.0, 0.1, NASTY),), NASTY, NASTY, False,
)  # fmt: skip

ODD: list[Any] = [
    Comparison((ERROR,), (ERROR,), 1, (NASTY,)),
    Benchmark((TIMING,), NASTY, NASTY),
    EVALUATION,
    Profile((PROFILE,), {NASTY: (1, 10.0)}, {NASTY: (1, 30.0)}),
    Sensitivity((SENSITIVE,), 10.0, 8, (Proposal((NASTY,), (), 20.0, None, 0.5),), (NASTY,)),
    Sizes((SizeRow(NASTY, 100, 2.0, note=NASTY), SizeRow("w4")), NASTY),
    Sweep(NASTY, NASTY, 0.9, (SWEEP,), (NASTY,)),
    Simulation(NASTY, NASTY, SimulateConfig(), EVALUATION, (EVALUATION,), {NASTY: NASTY}, {}, 5, (NASTY,)),
    INSPECTION,
    InstanceBenchmark((NETWORK,), NASTY, NASTY),
    DetectionEvaluation(NASTY, 3, classes={1: ClassScore(1, 1, 1, 1.0, 1.0)}, not_finite=1),
    Crosscheck(SIDES, (Two(NASTY, "b", 1.0, None, (AT,)),), 1, 8, notes=(NASTY,)),
    Explanation(1, 2, 0.9, (Finding("clip", NASTY, "Conv", NASTY, 0.5, NASTY, 0.5),), (NASTY,), GAIN, (NASTY,)),
    GAIN,
    REPORT,
]
EMPTY: list[Any] = [
    Comparison((), (), 0),
    Benchmark((), "float"),
    Evaluation("y", 10, 0, 0),
    Profile((), {}, {}),
    Sensitivity((), math.inf, 0),
    Sizes(()),
    Sweep("net", "data", None, ()),
    Inspection("", (), (), 17, {}, 0, 0, 0, (), {}, 0, (), {}, (), ()),
    InstanceBenchmark((), "float"),
    DetectionEvaluation("y", 0),
    Explanation(0, 0, None, (), ()),
    QuantReport("onnxruntime", 0, 0, 0),
]
MANY = 3000
LARGE: list[Any] = [
    Comparison((ERROR,) * MANY, (ERROR,) * MANY, 1),
    Benchmark((TIMING,) * MANY, "float"),
    Profile((PROFILE,) * MANY, {f"op{i}": (1, 1.0) for i in range(MANY)}, {}),
    Sensitivity((SENSITIVE,) * MANY, 10.0, 8),
    Sweep("net", "data", 0.9, (SWEEP,) * MANY),
    replace(INSPECTION, operators={f"op{i}": 1 for i in range(MANY)}),
    replace(REPORT, kept=tuple(Kept(f"n{i}", "Relu", f"reason {i}x") for i in range(MANY)), integer=("x",) * MANY),
]


def kind(result: Any) -> str:
    return type(result).__name__


@pytest.mark.parametrize("result", ODD, ids=kind)
def test_names_from_a_file_are_escaped(result: Any) -> None:
    words = shows_itself(result)
    assert isinstance(result, Gain) or NASTY[:20] in words


@pytest.mark.parametrize("result", [*ODD, *EMPTY], ids=kind)
def test_printing_gives_the_text_and_html_says_the_same(result: Any) -> None:
    assert str(result) == result.text()
    words = set(checked(result._repr_html_()).split())
    frame = {"!", "1.", "2.", "3.", "4.", "5.", "6.", "7."}  # and rules below titles, names that lost their middle
    said = {w for w in result.text().split() if set(w) - {"-", "!"} and "…" not in w}
    assert said - frame <= words


@pytest.mark.parametrize("result", EMPTY, ids=kind)
def test_nothing_shows_itself(result: Any) -> None:
    shows_itself(result)


@pytest.mark.parametrize("result", LARGE, ids=kind)
def test_a_large_one_is_cut_with_a_word_on_how_to_see_all(result: Any) -> None:
    words = shows_itself(result)
    assert "text(n)" in words or "text() shows all" in words


def test_problems_are_loud_and_come_first() -> None:
    html = REPORT._repr_html_()
    assert html.index('role="alert"') < html.index("<table") and "WRONG ALREADY IN FLOAT" in html
    assert "What to try:" in html and repr(REPORT).startswith("<fewbit.QuantReport: OVER BUDGET, WEIGHTS NOT SMALLER")
    assert "WRONG" in repr(Crosscheck(SIDES, (), 1, 8)) and 'role="alert"' in Crosscheck(SIDES, (), 1, 8)._repr_html_()
    good = replace(REPORT, size_quantized=10, cosine=1.0, sqnr=50.0, float_sqnr=None, latency=None, budget_met=None)
    assert good.ok and 'role="alert"' not in good._repr_html_()


def test_rows_are_one_line_in_a_list() -> None:
    assert repr(replace(ERROR, name="a\nb")) == (
        "<LayerError a b, Conv: SQNR 12.0 dB (own 20.0 dB), cosine 0.90000, at most 1, 1.00 % clipped>"
    )
    assert (
        repr(replace(TIMING, name="int8"))
        == "<Timing int8, batch 1: 1.000 ms, ratio 1.50 (1.40–1.60), 1,000.0 samples/s>"
    )
    assert repr(replace(SENSITIVE, node="c")) == "<LayerSensitivity c, Conv: 12.0 dB alone, 15.0 dB left>"


# -- networks -----------------------------------------------------------------------------------------------------


def network(name: str = "relu") -> Model:
    proto = chain()
    proto.graph.node[-1].name = name
    return from_proto(proto)


def test_a_model_shows_what_goes_in_and_out() -> None:
    words = shows_itself(network())
    for found in (
        "input x: float32[",
        "output y: float32[",
        "1 Add, 1 Mul, 1 Relu",
        "nodes 3",
        "weights 2 numbers, 8 B",
    ):
        assert found in words, words


def test_a_model_with_odd_names() -> None:
    odd = network(NASTY)
    odd.notes.append(NASTY)
    assert shows_itself(odd).count(NASTY) == 2


def test_a_long_model_shows_some_nodes() -> None:
    nodes = [helper.make_node("Relu", [f"v{i}"], [f"v{i + 1}"], name=f"relu{i}") for i in range(2000)]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in ("v0", "v2000")]
    proto = helper.make_model(
        helper.make_graph(nodes, "g", ends[:1], ends[1:]), opset_imports=[helper.make_opsetid("", 17)]
    )
    words = shows_itself(from_proto(proto))
    assert "30 of 2000 nodes; all: model.nodes" in words and "relu29" in words and "relu30" not in words


def test_a_quantized_network_shows_its_report_or_else_its_plan() -> None:
    plan = Plan({}, {"relu": NodePlan(True, "core"), "b": NodePlan(False, NASTY)})
    bare, told = Quantized(network(), plan), Quantized(network(), plan, REPORT)
    assert repr(bare).startswith("<fewbit.Quantized: 1 of 2 layers integer")
    assert repr(told).startswith("<fewbit.Quantized: OVER BUDGET")
    assert "kept float, and why" in shows_itself(bare)
    words = shows_itself(told)
    assert "OVER BUDGET" in words and "the plan" in words and "the network" in words
