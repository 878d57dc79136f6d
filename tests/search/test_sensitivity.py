"""Layers are ranked by what they do to the outputs; measurements are kept, and go on where they stopped."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fewbit.config import QuantConfig
from fewbit.core.metrics import sqnr_db
from fewbit.core.plan import Plan
from fewbit.data import Batch
from fewbit.engines import open_runner
from fewbit.engines.onnxruntime_stream import open_stream
from fewbit.errors import EmptyData, ModelError, PlanError
from fewbit.graph.emit import emit_qdq
from fewbit.graph.model import Model
from fewbit.quantization.plan import make_plan
from fewbit.quantization.static import calibrate
from fewbit.search.alone import carriers, only
from fewbit.search.noise import Bench, sqnr_of
from fewbit.search.sensitivity import Sensitivity, sensitivity
from tests.quantization.nets import TOY, net, normal, residual

CONFIG = QuantConfig()
DATA = [Batch(b.feeds, None, b.index, b.names) for b in normal(3).iterate()]


def open_(model: Model) -> Any:
    return open_runner("onnxruntime", model)


def calibrated(model: Model, source: Any = None) -> Plan:
    return calibrate(model, make_plan(model, CONFIG, TOY), source or normal(3), open_stream, CONFIG, workers=1)


def planted(plan: Plan, group: str) -> Plan:
    """The plan with a range that is far too wide for one group: steps so coarse that little is left of it."""
    values = {k: replace(v, lo=-200.0, hi=200.0) if v.group == group else v for k, v in plan.values.items()}
    return replace(plan, values=values)


@pytest.fixture(scope="module")
def model() -> Model:
    return residual()


@pytest.fixture(scope="module")
def plan(model: Model) -> Plan:
    return calibrated(model)


Measure = Callable[..., Sensitivity]


@pytest.fixture
def measure(model: Model, plan: Plan) -> Measure:
    def run(plan: Plan = plan, data: Any = DATA, config: QuantConfig = CONFIG, **words: Any) -> Sensitivity:
        words = {"emit": lambda p: emit_qdq(model, p), **words}
        return sensitivity(model, plan, config, TOY, data, open_, **words)

    return run


# -- plans with one layer --------------------------------------------------------------------------------------------


def test_layers_are_those_with_an_error_of_their_own(plan: Plan) -> None:
    assert plan.nodes["MaxPool:p"].quantized and plan.nodes["Relu:r"].absorbed_by == "Conv:a"
    assert carriers(plan) == ["Conv:a", "Conv:c", "Add:s", "Conv:y"]


def test_one_layer_takes_what_it_reads_and_makes(model: Model, plan: Plan) -> None:
    one = only(model, plan, "Conv:a")
    assert {k for k, n in one.nodes.items() if n.quantized} == {"Conv:a", "Relu:r"}
    assert set(one.values) == {"x", "w1", "r"}
    assert set(only(model, plan, "Add:s").values) == {"c", "r", "t"}


def test_what_only_the_reader_rounds_is_not_the_makers() -> None:
    two = net("m = MatMul (x, w1) y = MatMul (m, w2)", inputs="float[N, 4, 8, 8] x", w1=(8, 8), w2=(8, 8))
    target = replace(TOY, rules=tuple(replace(r, outputs=("float",)) if r.op == "MatMul" else r for r in TOY.rules))
    plan = make_plan(two, CONFIG, target)
    assert "m" in plan.values and set(only(two, plan, "MatMul:m").values) == {"x", "w1"}
    assert set(only(two, plan, "MatMul:y").values) == {"m", "w2"}


# -- numbers ---------------------------------------------------------------------------------------------------------


def test_alone_is_the_sqnr_of_a_network_with_only_that_layer(model: Model, plan: Plan, measure: Measure) -> None:
    found = {x.node: x for x in measure().layers}
    ours, theirs = (open_(m) for m in (model, emit_qdq(model, only(model, plan, "Conv:c"))))
    r, x = (np.concatenate([runner.run(b.feeds)["y"] for b in DATA]) for runner in (ours, theirs))
    assert found["Conv:c"].alone == pytest.approx(sqnr_db(r, x), abs=0.01)


@pytest.mark.parametrize("limit", [0, 3 * 2 * 4 * 64 * 4, 1 << 30])  # nothing kept; one value; all that is live
def test_where_the_network_is_cut_makes_no_difference(model: Model, plan: Plan, limit: int) -> None:
    bench = Bench(model, plan, DATA, open_, lambda p: emit_qdq(model, p), limit)
    found = {k: sqnr_of(bench.alone(k)) for k in bench.sorted_layers(carriers(plan))}
    assert (bench.march.at > 0) == (limit > 0)
    whole = {k: sqnr_of(bench.noise(only(model, plan, k))) for k in found}
    assert found == pytest.approx(whole, abs=0.01)


@pytest.mark.parametrize(
    ("value", "guilty"), [("x", {"Conv:a"}), ("p", {"Add:s", "Conv:y"}), ("r", {"Conv:a", "Conv:c", "Add:s"})]
)
def test_the_guilty_are_found(plan: Plan, measure: Measure, value: str, guilty: set[str]) -> None:
    group = plan.values[value].group
    found = measure(planted(plan, group))
    assert {x.node for x in found.worst(len(guilty))} == guilty
    assert found.layers[len(guilty)].alone > found.layers[0].alone + 10


def test_without_the_guilty_layer_the_error_is_gone(plan: Plan, measure: Measure) -> None:
    found = measure(planted(plan, "x"))
    first = found.layers[0]
    assert first.left is not None and first.left > found.sqnr + 10 and first.alone < found.sqnr + 3
    (best, *_) = found.proposals
    assert best.floats == ("Conv:a",) and best.measured == pytest.approx(first.left)


def test_sixteen_bits_are_proposed_and_run(plan: Plan, measure: Measure) -> None:
    found = measure(planted(plan, "x")).proposals[-1]
    assert found.wide == ("Conv:a",) and not found.floats
    assert found.measured is not None and found.measured > 25 and 0 < found.macs_float < 1
    narrow = measure(replace(planted(plan, "x")), config=replace(CONFIG, bit_num=16))
    assert all(p.floats for p in narrow.proposals)  # it has them already


def test_a_layer_without_error_says_so() -> None:
    whole = net("y = MatMul (x, w)", inputs="float[N, 4, 8, 8] x", w=(8, 8))
    ints = np.random.default_rng(0).integers(-126, 127, (8, 8)).astype(np.float32)
    ints[0] = 127  # so that each scale is 1
    whole.graph.initializers["w"].const_value = whole.add_initializer("w2", ints).const_value
    x = np.random.default_rng(1).integers(0, 256, (2, 4, 8, 8)).astype(np.float32)
    target = replace(TOY, rules=(replace(next(r for r in TOY.rules if r.op == "MatMul"), outputs=("float",)),))
    plan = make_plan(whole, CONFIG, target).with_ranges({"x": (0.0, 255.0)})
    found = sensitivity(
        whole, plan, CONFIG, target, [Batch({"x": x}, None, 0, ["a"])], open_, emit=lambda p: emit_qdq(whole, p)
    )
    assert found.sqnr == found.layers[0].alone == math.inf and not found.proposals


def test_nan_is_noise_without_end(model: Model, plan: Plan) -> None:
    bench = Bench(model, plan, DATA, open_, lambda p: emit_qdq(model, p))
    noise = bench._noise([{"y": np.full_like(a["y"], np.nan)} for a in bench.answers])
    assert noise == (math.inf,) and sqnr_of(noise) == -math.inf


def test_wide_formats_and_float_layers_of_the_plan_stay(model: Model, measure: Measure) -> None:
    config = replace(CONFIG, exclude_layers=("Conv:y",))
    plan = calibrate(model, make_plan(model, config, TOY), normal(3), open_stream, config, workers=1)
    found = measure(planted(plan, "x"), config=config)
    assert "Conv:y" not in {x.node for x in found.layers}
    assert found.proposals[0].macs_float > measure(planted(calibrated(model), "x")).proposals[0].macs_float
    assert "on top of the exclude_layers" in found.notes[-1]


def test_what_does_not_help_is_not_proposed(model: Model, plan: Plan, measure: Measure) -> None:
    def stubborn(p: Plan) -> Model:  # whatever is to turn float stays as it was
        few = sum(n.quantized for n in p.nodes.values()) > 2
        return emit_qdq(model, planted(plan, "x") if few else p)

    found = measure(planted(plan, "x"), emit=stubborn)
    assert not found.proposals and found.notes[0].startswith("Conv:a in float should give")


# -- outputs ---------------------------------------------------------------------------------------------------------


def test_whole_numbers_cannot_be_measured() -> None:
    whole = net("c = Conv (x, w) y = ArgMax <axis = 1> (c)", "int64[N, 1, H, W] y", w=(4, 4, 1, 1))
    with pytest.raises(ModelError, match="outputs y hold whole numbers"):
        sensitivity(whole, calibrated(whole), CONFIG, TOY, DATA, open_, emit=lambda p: emit_qdq(whole, p))


def test_no_data_is_refused(measure: Measure) -> None:
    with pytest.raises(EmptyData, match="no sample to measure layers on"):
        measure(data=[])


def test_a_plan_without_integer_layers_is_no_error(plan: Plan, measure: Measure) -> None:
    nothing = plan.keep_float(plan.nodes, "all")
    found = measure(replace(nothing, values={}))
    assert not found.layers and found.sqnr == math.inf and found.notes == ("the plan has no integer layer",)


def test_text_and_json_and_csv(measure: Measure) -> None:
    found = measure()
    text = found.text(2)
    assert text.startswith(f"as planned: SQNR {found.sqnr:.1f} dB, 6 samples\n") and "layers, 2 of 4\n" in text
    assert "left dB" in text and "left" not in measure(left=False).text()
    told = found.to_json()
    assert [x["node"] for x in told["layers"]] == [x.node for x in found.layers] and json.dumps(told, allow_nan=False)
    assert all(p["words"] == q.words for p, q in zip(told["proposals"], found.proposals, strict=True))
    head, first, *_ = measure(left=False).to_csv().splitlines()
    assert head == "node,op,macs,alone,left" and first.startswith(found.layers[0].node) and first.endswith(",")


# -- time, and going on ----------------------------------------------------------------------------------------------


def test_progress_counts_measurements(measure: Measure) -> None:
    seen: list[tuple[int, int]] = []
    measure(progress=lambda *n: seen.append(n))
    assert seen == [(i, 8) for i in range(1, 9)]


def test_a_deadline_leaves_what_is_done(measure: Measure, monkeypatch: pytest.MonkeyPatch) -> None:
    found = measure(deadline=time.monotonic() - 1)
    assert not found.layers and not found.proposals
    assert found.notes[0] == "time ran out: alone was measured for 0 of 4 layers"
    ticks = iter(range(1000))
    monkeypatch.setattr("fewbit.search.sensitivity.time", SimpleNamespace(monotonic=lambda: next(ticks)))
    found = measure(deadline=6)
    assert len(found.layers) == 4 and sum(x.left is not None for x in found.layers) < 4
    assert all(p.measured is None for p in found.proposals)


class _Stop(BaseException):
    pass


def test_an_interrupted_run_goes_on(measure: Measure, tmp_path: Path) -> None:
    store, done = tmp_path / "s.json", list[int]()

    def stop(count: int, whole: int) -> None:
        done.append(count)
        if len(done) == 3:
            raise _Stop

    with pytest.raises(_Stop):
        measure(store=store, progress=stop)
    found = measure(store=store, progress=lambda n, _: done.append(n))
    assert done == [1, 2, 3, 4, 5, 6, 7, 8] and found == measure()
    assert measure(store=store, progress=lambda n, _: done.append(n)) == found and len(done) == 8
    assert [p.name for p in tmp_path.iterdir()] == ["s.json"]


def test_a_store_of_something_else_is_refused(plan: Plan, measure: Measure, tmp_path: Path) -> None:
    store = tmp_path / "s.json"
    measure(store=store, left=False)
    for other in ({"plan": planted(plan, "x")}, {"data": DATA[:2]}, {"config": replace(CONFIG, bit_num=7)}):
        with pytest.raises(PlanError, match=r"s\.json belongs to another network, other data or other settings"):
            measure(store=store, **other)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"fewbit_sensitivity": 9}'])
def test_a_damaged_store_is_refused(measure: Measure, tmp_path: Path, text: str) -> None:
    (tmp_path / "s.json").write_text(text)
    with pytest.raises(PlanError, match=r"s\.json holds no measured layers, or is damaged.*delete it"):
        measure(store=tmp_path / "s.json")


@pytest.mark.parametrize("number", ["nan", -1, None, "x"])
def test_a_store_with_other_than_noise_is_refused(measure: Measure, tmp_path: Path, number: Any) -> None:
    store = tmp_path / "s.json"
    measure(store=store, left=False)
    found = json.loads(store.read_text())
    found["noise"]["alone"]["Conv:a"] = [number]
    store.write_text(json.dumps(found))
    with pytest.raises(PlanError, match="damaged"):
        measure(store=store)
