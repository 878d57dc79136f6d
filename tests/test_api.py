"""The whole way through the Python interface, on the network that fewbit ships."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

import fewbit as fb
from fewbit.api.samples import Remember
from fewbit.core.plan import Rescale
from fewbit.core.target import TARGETS
from fewbit.data import open_data
from fewbit.data.demo import DEMO_MODEL, demo_calibration, demo_test
from fewbit.engines import open_runner
from fewbit.errors import FewbitWarning, NotCalibrated, PlanError, UnknownName, UsageError
from fewbit.quantization.checkpoint import Checkpoint
from tests.quantization.nets import net, normal
from tests.quantization.test_smooth import normal as batches_of
from tests.quantization.test_smooth import transformer


@pytest.fixture(scope="module")
def data() -> dict[str, Any]:
    return {k: v[:64] for k, v in demo_calibration().items()}


@pytest.fixture(scope="module")
def quantized(data: dict[str, Any]) -> Any:
    return fb.quantize(DEMO_MODEL, data, calib_mode="entropy", batch_size=16)


def executed(model: Any, engine: str = "onnxruntime") -> Counter[str]:
    return Counter(e.op.split(".")[-1] for e in open_runner(engine, model).executed())


def test_quantize_is_the_function_whatever_was_imported_before() -> None:
    code = "import fewbit.quantization.plan, fewbit as fb; fb.load; assert callable(fb.quantize), fb.quantize"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_engine_really_runs_integers_and_the_report_tells(quantized: Any) -> None:
    ran = executed(quantized)
    assert ran["QLinearConv"] == 11 and ran["QLinearAdd"] == 4 and ran["QGemm"] == 1
    assert ran["Conv"] + ran["FusedConv"] == 1  # the stem has one channel, which costs more in integers than in float
    report = quantized.report
    assert report.layers - report.quantized == 2 and report.cosine > 0.99 and report.latency is not None
    assert report.size_quantized < 0.4 * report.size_float


def test_accuracy_stays(quantized: Any) -> None:
    found = fb.evaluate(quantized, demo_test(), reference=DEMO_MODEL, batch_size=100)
    assert found.samples == 1000
    assert found.accuracy[1].rate > found.reference[1].rate - 0.01
    assert found.agreement is not None and found.agreement.rate > 0.97


def test_both_engines_answer_alike(quantized: Any) -> None:
    feeds = {"image": demo_test()["image"][:64]}
    ours, theirs = (next(iter(open_runner(e, quantized).run(feeds).values())) for e in ("onnxruntime", "openvino"))
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.995


def test_save_writes_the_network_and_its_plan_and_apply_gives_the_same_bytes(quantized: Any, tmp_path: Path) -> None:
    quantized.save(tmp_path / "a.onnx")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.onnx", "a.plan.json"]
    again = fb.apply(fb.fuse(fb.load(DEMO_MODEL)), tmp_path / "a.plan.json")
    again.save(tmp_path / "b.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    assert (tmp_path / "a.plan.json").read_bytes() == (tmp_path / "b.plan.json").read_bytes()


def test_the_file_says_how_it_was_made(quantized: Any) -> None:
    about = quantized.metadata
    assert about["fewbit.version"] == fb.__version__ and about["fewbit.target"] == "onnxruntime"
    assert json.loads(about["fewbit.config"]) == {"calib_mode": "entropy"}
    assert len(about["fewbit.data"]) == len(about["fewbit.model"]) == 64


def test_quantizing_twice_gives_the_same_bytes(data: dict[str, Any], tmp_path: Path) -> None:
    for name, workers in (("a", 1), ("b", 3)):
        made = fb.quantize(DEMO_MODEL, data, calib_mode="entropy", verify=False, workers=workers)
        made.save(tmp_path / f"{name}.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_the_steps_one_by_one_give_what_quantize_gives(data: dict[str, Any], tmp_path: Path) -> None:
    fused = fb.fuse(fb.load(DEMO_MODEL))
    plan = fb.calibrate(fused, fb.make_plan(fused), data)
    plan, told = fb.correct(fused, plan, data)
    plan.save(tmp_path / "table.json")
    q = fb.apply(fused, fb.Plan.load(tmp_path / "table.json"))
    whole = fb.quantize(DEMO_MODEL, data, verify=False)
    assert q.digest() == whole.digest() and q.plan.to_json() == whole.plan.to_json()
    assert [(c.name, c.kept, c.after) for c in told] == [(c.name, c.kept, c.after) for c in whole.report.corrections]
    assert told and fused.digest() == fb.fuse(fb.load(DEMO_MODEL)).digest()


def test_the_same_samples_are_kept_however_the_data_is_read(data: dict[str, Any]) -> None:
    source = open_data(data, fb.load(DEMO_MODEL).inputs)

    def kept(*starts: int, limit: int | None = None) -> list[int]:
        seen = Remember(source, 5, limit)
        for start in starts:
            for _ in islice(seen.iterate(start), None if limit is None else limit - start):
                pass
        return [b.index for b in seen.kept()]

    assert kept() == kept(0) == kept(40) == kept(0, 40) == kept(0, 0) and len(kept()) == 5 and kept()[-1] > 40
    assert kept(limit=20) == kept(0, limit=20) == kept(10, limit=20) != kept()


def test_rescaled_values_are_compared_with_float_values_rescaled_likewise(tmp_path: Path) -> None:
    model, samples = transformer(), [b["x"] for b in batches_of((8, 6, 8), 6)]
    q = fb.quantize(model, samples, effort="fast", smooth_quant=True, quantize_mode="full", verify=False)
    assert [r.value for r in q.plan.rescales] == ["v"]
    found = fb.compare(model, q, samples)
    layer = next(e for e in found.layers if e.name == "v")
    assert layer.sqnr > 40 and layer.clip is not None and layer.clip < 0.01
    q.save(tmp_path / "q.onnx")
    assert fb.compare(model, tmp_path / "q.onnx", samples) == found
    with pytest.raises(PlanError, match="rescale of 'v': unknown value 'v'"):
        fb.compare(net("y = MatMul (x, w)", "float[N, C, H, K] y", w=(8, 64)), q, list(normal(1).arrays))


def test_outputs_are_compared_with_the_network_as_it_was() -> None:
    """A Clip that lost its bound computes something else; that is part of the error."""
    model = net("c = Conv (x, w) v = Clip (c, lo, hi) y = Conv (v, u)", w=(4, 4, 1, 1), u=(4, 4, 1, 1), lo=(), hi=())
    for name, number in (("lo", 0.0), ("hi", 0.5)):
        model.value(name).const_value = ir.tensor(np.array(number, np.float32))
    samples = list(normal(2).arrays)
    plan = fb.make_plan(fb.fuse(model), quantize_mode="full")
    clip = next(str(n.name) for n in model.nodes if n.op_type == "Clip")
    plan = replace(plan, rescales=(Rescale("c", (1.0, 2.0, 1.0, 1.0), unclip=(clip,)),))
    q = fb.apply(fb.fuse(model), fb.calibrate(fb.fuse(model), plan, samples))
    found = fb.compare(model, q, samples)
    (y,) = (e for e in found.layers if e.name == "y")
    assert y.sqnr > 25 and found.sqnr is not None and found.sqnr < 10


@pytest.mark.parametrize(
    "text", ["[", "7", '[{"value": "v"}]', '[{"value": "v", "scale": [0]}]'], ids=["cut", "number", "key", "zero"]
)
def test_damaged_rescales_in_a_file_are_an_error(text: str) -> None:
    model, samples = transformer(), [b["x"] for b in batches_of((8, 6, 8), 2)]
    q = fb.quantize(model, samples, quantize_mode="full", effort="fast", verify=False)
    plain = fb.Model(q.ir)
    plain.ir.metadata_props["fewbit.rescales"] = text
    with pytest.raises(PlanError, match=r"the metadata 'fewbit.rescales' of the integer network is damaged: .*again"):
        fb.compare(model, plain, samples)


def test_layers_of_a_rescaled_plan_are_ranked() -> None:
    model, samples = transformer(residual=True), [b["x"] for b in batches_of((8, 6, 8), 4)]
    q = fb.quantize(model, samples, effort="fast", smooth_quant=True, quantize_mode="full", verify=False)
    assert q.plan.rescales and len(q.plan.nodes) == len(model.nodes) + 1  # a Mul where the value itself must stay
    found = fb.sensitivity(model, samples, plan=q.plan)
    assert {x.node for x in found.layers} >= {"a", "z", "y"} and found.sqnr > 20


def test_an_edited_range_is_honoured(data: dict[str, Any], tmp_path: Path) -> None:
    fused = fb.fuse(fb.load(DEMO_MODEL))
    plan = fb.calibrate(fused, fb.make_plan(fused), data)
    table = plan.to_json()
    name = next(k for k, v in table["values"].items() if v["role"] == "act")
    table["values"][name]["range"] = [-0.5, 2.05]
    q = fb.apply(fused, fb.Plan.from_json(table))
    scale = q.value(f"{name}_scale").const_value
    assert scale is not None and np.isclose(scale.numpy(), 2.55 / 255)


def test_the_input_file_stays_as_it_is(data: dict[str, Any]) -> None:
    before = DEMO_MODEL.read_bytes()
    model = fb.load(DEMO_MODEL)
    digest = model.digest()
    fb.quantize(model, data, verify=False)
    assert DEMO_MODEL.read_bytes() == before and model.digest() == digest


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_an_excluded_layer_really_runs_in_float(engine: str, data: dict[str, Any]) -> None:
    fused = fb.fuse(fb.load(DEMO_MODEL))
    convs = [str(n.name) for n in fused.nodes if n.op_type == "Conv"]
    q = fb.quantize(DEMO_MODEL, data, exclude_layers=convs[2:5], target=engine, verify=False)
    weights = {v.name for n in q.nodes if n.name in convs[2:5] for v in n.inputs[1:2] if v is not None}
    assert all(q.value(str(w)).const_value.numpy().dtype == np.float32 for w in weights)  # type: ignore[union-attr]
    convolutions = [e for e in open_runner(engine, q).executed() if "conv" in e.op.lower() and e.op != "Convert"]
    kept = [e for e in convolutions if any(name.removesuffix("/Conv") in e.node for name in convs[2:5])]
    assert not any(e.integer for e in kept)
    assert sum(not e.integer for e in convolutions) <= 4  # OpenVINO moves the stride of a shortcut, which costs one
    assert sum(e.integer for e in convolutions) >= 8


def test_names_of_layers_that_were_fused_away_can_be_excluded(data: dict[str, Any]) -> None:
    model = fb.load(DEMO_MODEL)
    norm = next(str(n.name) for n in model.nodes if n.op_type == "BatchNormalization")
    fused = fb.fuse(model)
    plan = fb.make_plan(fused, exclude_layers=[norm])
    assert plan.nodes[fused.aliases[norm]].reason == f"excluded by exclude_layers {norm!r}"


def test_a_type_that_is_slow_on_the_target_works_and_warns(data: dict[str, Any]) -> None:
    factor = TARGETS["onnxruntime"].slow["int8"]
    with pytest.warns(FewbitWarning, match=f"int8 activations run at {factor:.2f} of float time on onnxruntime"):
        plan = fb.make_plan(fb.fuse(fb.load(DEMO_MODEL)), quantized_dtype="int8")
    assert all(v.spec.signed for v in plan.values.values())


def test_sixteen_bits_for_some_layers(data: dict[str, Any]) -> None:
    q = fb.quantize(DEMO_MODEL, data, overrides={"*fc*": {"bit_num": 16}}, verify=False)
    assert q.opset >= 21
    wide = [v for v in q.plan.values.values() if v.spec.bits == 16]
    assert {v.role for v in wide} == {"act", "weight"}
    better = fb.compare(DEMO_MODEL, q, data, batch_size=32)
    plain = fb.compare(DEMO_MODEL, fb.quantize(DEMO_MODEL, data, verify=False), data, batch_size=32)
    assert better.sqnr >= plain.sqnr - 0.5


@pytest.mark.parametrize("bits", [4, 6, 7])
def test_narrow_formats_lose_more(bits: int, data: dict[str, Any]) -> None:
    q = fb.quantize(DEMO_MODEL, data, bit_num=bits, verify=False)
    sqnr = fb.compare(DEMO_MODEL, q, data, batch_size=32).sqnr
    assert 3 < sqnr < fb.compare(DEMO_MODEL, fb.quantize(DEMO_MODEL, data, verify=False), data, batch_size=32).sqnr


def test_a_result_that_is_off_is_said_loudly(data: dict[str, Any]) -> None:
    with pytest.warns(FewbitWarning) as caught:
        q = fb.quantize(DEMO_MODEL, data, bit_num=2)
    assert any("THE OUTPUT IS OFF" in str(w.message) and "Worst layers" in str(w.message) for w in caught)
    assert not q.report.ok and "What to try" in q.report.text()


def test_ranges_at_run_time_need_no_data() -> None:
    model = net("y = MatMul (x, w)", "float[N, C, H, K] y", w=(8, 64))
    with pytest.warns(FewbitWarning, match="1 MatMul layer runs at up to 1.16 of float time"):
        q = fb.quantize(model, calib_mode="none", quantize_mode="full", verify=False)
    assert executed(q)["DynamicQuantizeMatMul"] == 1
    feeds = {"x": normal(1).arrays[0]}
    a, b = (next(iter(open_runner("onnxruntime", m).run(feeds).values())) for m in (model, q))
    assert np.abs(a - b).max() < 0.03 * np.abs(a).max()


def test_ranges_at_run_time_leave_convolutions_alone_unless_asked(data: dict[str, Any]) -> None:
    with pytest.warns(FewbitWarning) as told:
        full = fb.quantize(DEMO_MODEL, data, calib_mode="none", quantize_mode="full")
    assert any("12 Conv layers run at up to 3.94 of float time" in str(w.message) for w in told)
    assert any(word in str(w.message) for w in told for word in ("SLOWER", "NOT FASTER", "OFF"))
    assert executed(full)["ConvInteger"] == 12
    with pytest.warns(FewbitWarning, match="NOTHING WAS QUANTIZED"):
        smart = fb.quantize(DEMO_MODEL, data, calib_mode="none", verify=False)
    assert executed(smart)["ConvInteger"] == executed(smart)["DynamicQuantizeMatMul"] == 0  # its Gemm is small


def test_a_collector_attached_to_a_running_network(data: dict[str, Any]) -> None:
    class Mine(fb.CalibrationCollector):
        def collect(self, name: str, op_name: str, arr: Any) -> None:
            lo, hi = self.min_max_dict.get(name, (0.0, 0.0))
            self.min_max_dict[name] = (min(lo, float(arr.min())), max(hi, float(arr.max())))

    fused, mine = fb.fuse(fb.load(DEMO_MODEL)), Mine()
    feed = fb.attach(fused, mine)
    for i in range(2):
        feed({"image": data["image"][i * 8 : i * 8 + 8]})
    plan = fb.make_plan(fused)
    ranges = {k: v for k, v in mine.post_collect().items() if k in plan.observed()}
    by_hand = plan.with_ranges(ranges)
    assert by_hand.calibrated
    measured = fb.calibrate(fused, plan, {"image": data["image"][:16]})
    assert all(v.hi == measured.values[k].hi for k, v in by_hand.values.items())


def test_a_toml_file_holds_the_same_words(tmp_path: Path, data: dict[str, Any]) -> None:
    file = tmp_path / "c.toml"
    file.write_text('[quantize]\ncalib_mode = "percentile"\npercentile = 99.9\n[data]\nbatch_size = 16\n')
    q = fb.quantize(DEMO_MODEL, data, config=str(file), quantize_mode="full", verify=False)
    assert q.plan.config == {"calib_mode": "percentile", "percentile": 99.9, "quantize_mode": "full"}


def test_words_that_are_wrong(data: dict[str, Any]) -> None:
    with pytest.raises(UnknownName, match="unknown setting 'calib_mod'; did you mean 'calib_mode'"):
        fb.quantize(DEMO_MODEL, data, calib_mod="naive")
    with pytest.raises(UnknownName, match="unknown target 'onnxruntim'; did you mean 'onnxruntime'"):
        fb.quantize(DEMO_MODEL, data, target="onnxruntim")
    with pytest.raises(UsageError, match="give data=, or calib_mode='none'"):
        fb.quantize(DEMO_MODEL)


def test_a_plan_whose_settings_were_misspelt_by_hand(data: dict[str, Any]) -> None:
    fused = fb.fuse(fb.load(DEMO_MODEL))
    plan = replace(fb.make_plan(fused), config={"calibmode": "naive"})
    with pytest.raises(UnknownName, match="unknown setting 'calibmode'; did you mean 'calib_mode'"):
        fb.calibrate(fused, plan, data)


def test_plans_that_do_not_fit() -> None:
    fused = fb.fuse(fb.load(DEMO_MODEL))
    plan = fb.make_plan(fused)
    with pytest.raises(NotCalibrated, match="has no range; run calibrate"):
        fb.apply(fused, plan)
    with pytest.raises(PlanError, match="the plan is for another network"):
        fb.apply(net("y = MatMul (x, w)", w=(8, 6)), plan)


def test_benchmark_and_profile(quantized: Any) -> None:
    found = fb.benchmark(quantized, against=DEMO_MODEL, batch_sizes=(1, 8), min_time=0.02)
    assert {t.batch for t in found.timings} == {1, 8} and all(t.ms > 0 for t in found.timings)
    rows = fb.profile(quantized, against=DEMO_MODEL).rows
    assert any("Conv" in r.op_float and "QLinearConv" in r.op_int for r in rows)


def test_inspect_tells_what_targets_could_do() -> None:
    found = fb.inspect(DEMO_MODEL)
    assert found.operators["BatchNormalization"] == 12
    assert {t.target for t in found.targets} == set(TARGETS)


def test_every_target_makes_a_network_that_runs(data: dict[str, Any]) -> None:
    feeds = {"image": data["image"][:8]}
    answer = next(iter(open_runner("onnxruntime", fb.load(DEMO_MODEL)).run(feeds).values()))
    for name in TARGETS:
        q = fb.quantize(DEMO_MODEL, data, target=name, verify=False)
        got = next(iter(open_runner("onnxruntime", q).run(feeds).values()))
        assert np.corrcoef(got.ravel(), answer.ravel())[0, 1] > 0.98, name


def test_group_wise_weights_of_a_matmul() -> None:
    model = net("y = MatMul (x, w)", "float[N, C, H, K] y", w=(8, 64))
    q = fb.quantize(model, list(normal(2).arrays), quantize_granularity="group-wise", group_size=4, verify=False)
    assert q.plan.values["w"].spec.group_size == 4
    ran = {e.op for e in open_runner("onnxruntime", q).executed()}
    assert "DequantizeLinear" not in ran  # unpacked once, at load
    feeds = {"x": normal(1).arrays[0]}
    a, b = (next(iter(open_runner("onnxruntime", m).run(feeds).values())) for m in (model, q))
    assert np.abs(a - b).max() < 0.05 * np.abs(a).max()


def test_a_checkpoint_of_other_data_is_refused(data: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "calib"
    fused = fb.fuse(fb.load(DEMO_MODEL))
    plan = fb.make_plan(fused)
    Checkpoint(file, plan, data="other data").write(1, {})
    with pytest.raises(PlanError, match="belongs to another network, other data or other settings"):
        fb.calibrate(fused, plan, data, checkpoint=file)


def test_excluded_activations_and_operators_stay_float(data: dict[str, Any]) -> None:
    q = fb.quantize(DEMO_MODEL, data, exclude_operators=["Clip"], verify=False)
    clips = [n for n in q.plan.nodes.values() if n.reason == "excluded by exclude_operators 'Clip'"]
    assert len(clips) == 2 and q.report.quantized < q.report.layers - 2
    with pytest.warns(FewbitWarning, match="exclude_operators 'BatchNormalization' has no effect: all 12 were merged"):
        fb.quantize(DEMO_MODEL, data, exclude_operators=["BatchNormalization"], verify=False)


def test_without_verification_there_is_a_report_all_the_same(data: dict[str, Any]) -> None:
    with pytest.warns(FewbitWarning, match="NOTHING WAS QUANTIZED"):
        q = fb.quantize(DEMO_MODEL, data, exclude_layers=["*"], verify=False)
    assert "not measured" in q.report.text() and "not compared" in q.report.text()


def test_group_wise_tells_where_it_does_not_apply(data: dict[str, Any]) -> None:
    with pytest.warns(FewbitWarning, match="(are|is) quantized per channel: groups are for MatMul and Gemm only"):
        fb.quantize(DEMO_MODEL, data, quantize_granularity="group-wise", verify=False)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"collector": fb.CalibrationCollector()}, "say calib_mode='custom'"),
        ({"collector": fb.CalibrationCollector, "calib_mode": "custom"}, "must be an object of a subclass"),
    ],
)
def test_a_collector_that_would_be_ignored_is_refused(words: Any, message: str, data: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=message):
        fb.quantize(DEMO_MODEL, data, verify=False, **words)


def test_a_collector_cannot_change_the_data(data: dict[str, Any]) -> None:
    class Vandal(fb.CalibrationCollector):
        def collect(self, name: str, op_name: str, arr: Any) -> None:
            arr[...] = 7

    with pytest.raises(ValueError, match="read-only"):
        fb.quantize(DEMO_MODEL, data, collector=Vandal(), calib_mode="custom", verify=False)


def test_a_name_with_brackets_means_itself() -> None:
    model = net("y = MatMul (x, w)", w=(8, 64))
    model.nodes[0].name = "a[0]"
    plan = fb.make_plan(model, exclude_layers=["a[0]"])
    assert plan.kept_float() == {"a[0]": "excluded by exclude_layers 'a[0]'"}


def test_slow_rows_hold_on_machines_where_nothing_was_measured() -> None:
    for name in ("onnxruntime-avx2", "onnxruntime-arm"):
        slow = [r for r in TARGETS[name].rules if r.when in ("thin", "few channels in a group")]
        assert len(slow) == 2 and all(r.pays is not None and r.pays >= 1 for r in slow)
