"""`make_report` on real networks: its numbers are those that the other calls give, and what it says is what ran."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

import fewbit as fb
from fewbit import api
from fewbit.core.runner import Executed
from fewbit.data.demo import DEMO_MODEL, demo_calibration, demo_test
from fewbit.errors import ConfigError, DataError, EmptyData, PlanError, UnknownName, UsageError
from fewbit.graph.model import Model
from fewbit.graph.qoperator import to_qoperator
from fewbit.report.engine_names import executed_layers
from fewbit.report.full.histograms import SAMPLES
from fewbit.report.full.report import FullReport
from tests.models import conv_relu, feeds_for, info, load, node, proto, residual, weight
from tests.quantization.test_smooth import normal as batches_of
from tests.quantization.test_smooth import transformer


@pytest.fixture(scope="module")
def demo() -> Model:
    return fb.load(DEMO_MODEL)


@pytest.fixture(scope="module")
def whole(demo: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo") / "demo-int8.onnx"
    fb.quantize(demo, demo_calibration(), verify=False, effort="fast", batch_size=32).save(out)
    return out


@pytest.fixture(scope="module")
def images() -> dict[str, np.ndarray]:
    return {k: v[:96] for k, v in demo_test().items()}


@pytest.fixture(scope="module")
def made(demo: Model, whole: Path, images: dict[str, np.ndarray]) -> FullReport:
    return fb.make_report(demo, whole, images, batch_size=32)


Images = dict[str, np.ndarray]


def test_errors_are_those_of_compare(made: FullReport, demo: Model, whole: Path, images: Images) -> None:
    other = fb.compare(demo, whole, {"image": images["image"]}, batch_size=32)
    assert made.outputs == other.outputs and made.setting.samples == 96
    known = {e.name: e for e in other.layers}
    for x in made.layers:
        assert (x.sqnr, x.cosine, x.clip) == (known[x.name].sqnr, known[x.name].cosine, known[x.name].clip)


def test_accuracy_is_that_of_evaluate(
    made: FullReport, demo: Model, whole: Path, images: dict[str, np.ndarray]
) -> None:
    found = fb.evaluate(whole, images, reference=demo, batch_size=32)
    assert made.accuracy is not None and found.agreement is not None  # type: ignore[union-attr]
    assert made.accuracy["quantized"]["1"] == found.accuracy[1].rate  # type: ignore[union-attr]
    assert made.accuracy["agreement"] == found.agreement.rate  # type: ignore[union-attr]


def test_layers_tell_what_ran(made: FullReport) -> None:
    layers = {x.node: x for x in made.layers}
    stem, second = layers["/stem/conv/Conv"], layers["/layer1/conv1/conv/Conv"]
    assert not stem.integer and "float time" in stem.verdict and stem.weights is None
    assert second.integer and second.op == "Conv+Relu" and second.format == "uint8" and second.weights is not None
    assert second.weights.format == "int8" and second.weights.channels == 16 and second.us_float and second.us_quantized
    assert made.macs is not None and 0.9 < made.macs["share"] < 1
    h = second.histogram
    assert h is not None and second.range is not None
    assert sum(h.original) + h.below[0] + h.above[0] == SAMPLES * 16 * 28 * 28
    assert h.low <= second.range[0] and h.low + h.step * len(h.original) >= second.range[1]


def test_the_document_and_the_tables_hold_the_same(made: FullReport, tmp_path: Path) -> None:
    made.save(tmp_path / "r.json")
    made.save_data(tmp_path / "data")
    found = json.loads((tmp_path / "r.json").read_text())
    assert found == json.loads((tmp_path / "data" / "report.json").read_text()) == json.loads(json.dumps(found))
    assert found["summary"]["command"] == ""  # nothing that could be typed: the data is no file
    with (tmp_path / "data" / "layers.csv").open() as f:
        rows = list(csv.DictReader(f))
    assert [r["node"] for r in rows] == [x.node for x in made.layers] and float(rows[3]["sqnr"]) == made.layers[3].sqnr
    with (tmp_path / "data" / "histograms.csv").open() as f:
        counted = sum(int(r["float"]) for r in csv.DictReader(f) if r["layer"] == made.layers[3].node)
    h = made.layers[3].histogram
    assert h is not None and counted == sum(h.original)
    with pytest.raises(UsageError, match=r"\.html or \.json"):
        made.save(tmp_path / "r.pdf")


def test_a_network_without_a_plan(demo: Model, whole: Path, images: dict[str, np.ndarray], tmp_path: Path) -> None:
    bare = tmp_path / "other.onnx"
    bare.write_bytes(whole.read_bytes())
    found = fb.make_report(demo, bare, images, batch_size=32, limit=1)
    layers = {x.node: x for x in found.layers}
    assert layers["/layer1/conv1/conv/Conv"].op == "Conv+Relu" and "/layer1/relu/Relu" not in layers
    assert layers["/layer1/conv1/conv/Conv"].integer and not layers["/stem/conv/Conv"].integer
    assert "no plan" in layers["/layer1/conv1/conv/Conv"].verdict
    assert layers["/layer1/conv1/conv/Conv"].weights is not None
    assert found.verdict.ok and found.verdict.quantized > 10
    with pytest.raises(UsageError, match="needs the plan"):
        fb.make_report(demo, bare, images, include=["sensitivity"], limit=1)


def test_bad_layers_are_loud(demo: Model, images: Images) -> None:
    fused = api.fuse(demo)
    plan = api.calibrate(fused, api.make_plan(fused), demo_calibration())
    broken = plan.with_ranges({name: (0.0, 1e-3) for name, v in plan.values.items() if v.calibrated})
    found = fb.make_report(demo, api.apply(fused, broken), images, batch_size=32, limit=1)
    assert any("OFF" in p for p in found.verdict.problems()) and found.to_json()["summary"]["advice"]


def test_what_is_measured_if_asked_for(demo: Model, whole: Path, images: dict[str, np.ndarray]) -> None:
    found = fb.make_report(demo, whole, images, batch_size=8, limit=2, include=["sensitivity"])
    assert found.sensitivity is not None and found.sensitivity.kind == "measured"
    assert {r["layer"] for r in found.sensitivity.rows} <= {n.name for n in api.fuse(demo).nodes}


def test_openvino_runs_what_is_made_for_it(demo: Model, images: dict[str, np.ndarray]) -> None:
    made = fb.quantize(demo, demo_calibration(), target="openvino", verify=False, effort="fast", batch_size=32)
    found = fb.make_report(demo, made, images, batch_size=32, limit=1)
    assert found.setting.engine.startswith("openvino") and found.macs is not None and found.macs["share"] > 0.9


def test_rescaled_networks_are_compared_with_the_rescaled_float() -> None:
    model, data = transformer(residual=True), [b["x"] for b in batches_of((8, 6, 8), 6)]
    made = fb.quantize(model, data, effort="fast", smooth_quant=True, quantize_mode="full", verify=False)
    assert made.plan.rescales and len(made.plan.nodes) > len(api.fuse(model).nodes)
    found = fb.make_report(model, made, data)
    assert next(x for x in found.layers if x.name == "v").sqnr > 30


def test_mistakes_are_named(demo: Model, whole: Path, images: dict[str, np.ndarray], tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="sensitivity"):
        fb.make_report(demo, whole, images, include=["sensitivities"])
    with pytest.raises(UnknownName, match="engine"):
        fb.make_report(demo, whole, images, engine="tensorflow")
    with pytest.raises(EmptyData, match="skipped"):
        fb.make_report(demo, whole, images, num_skipped_batches=1000)
    with pytest.raises(DataError, match="cannot read"):
        fb.make_report(demo, whole, images, add=[tmp_path / "gone.json"])
    with pytest.raises(PlanError, match="do not belong together"):
        fb.make_report(load(residual()), whole, images, plan=whole.with_name("demo-int8.plan.json"))


def test_arrays_are_fed_as_they_are_whatever_a_network_remembers_of_images(tmp_path: Path) -> None:
    from PIL import Image

    model, folder = load(conv_relu()), tmp_path / "photos"
    folder.mkdir()
    for i in range(4):
        pixels = np.random.default_rng(i).integers(0, 255, (6, 6, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    words = {"normalize_mean": (1.0, 2.0, 3.0), "quantize_mode": "full", "verify": False}
    made = fb.quantize(model, folder, **words)  # type: ignore[arg-type]
    x = feeds_for(model, batch=4)
    assert fb.compare(model, made, x).batches == 4 and fb.make_report(model, made, x).setting.samples == 4
    with pytest.raises(ConfigError, match="normalize_mean is for images"):
        fb.compare(model, made, x, normalize_mean=(1.0, 2.0, 3.0))


# -- what really runs -------------------------------------------------------------------------------------------------


def renamed(path: Path, out: Path, names: Callable[[int, str], str]) -> Path:
    """The same network with other names of nodes, and no plan beside it."""
    model = onnx.load(path)
    for i, each in enumerate(model.graph.node):
        each.name = names(i, each.name)
    onnx.save(model, out)
    return out


@pytest.mark.parametrize("kind", ["others", "none", "swapped"])
def test_layers_are_known_by_their_values(
    demo: Model, whole: Path, images: Images, tmp_path: Path, kind: str, made: FullReport
) -> None:
    carriers = ["/layer1/conv1/conv/Conv", "/layer2/conv1/conv/Conv", "/stem/conv/Conv", "/fc/Gemm"]
    swap = dict(zip(carriers, reversed(carriers), strict=True))
    names = {"others": lambda i, n: f"zz{i}", "none": lambda i, n: "", "swapped": lambda i, n: swap.get(n, n)}[kind]
    found = fb.make_report(demo, renamed(whole, tmp_path / "q.onnx", names), images, batch_size=32, limit=1)
    assert found.macs is not None and made.macs is not None and found.macs["share"] == made.macs["share"]
    ours, theirs = ({x.node: x.integer for x in r.layers} for r in (found, made))
    assert {k: ours[k] for k in carriers} == {k: theirs[k] for k in carriers}
    times = {x.node: x.us_quantized for x in found.layers}
    assert all(times[k] for k in carriers)


def test_a_slower_network_is_never_called_fine(made: FullReport) -> None:
    latency = replace(made.verdict.latency, ratio=2.4, ratio_low=2.2, ratio_high=2.6)  # type: ignore[type-var]
    unknown = replace(made.verdict, latency=latency, layers=0, integer=(), kept=())
    assert any("SLOWER THAN FLOAT" in p for p in unknown.problems())


def test_weights_alone_are_computed_in_float(demo: Model, images: Images) -> None:
    made = fb.quantize(demo, quant_type="weight", bit_num=4, verify=False)
    found = fb.make_report(demo, made, images, batch_size=32, limit=1)
    assert found.macs is not None and found.macs["share"] == 0
    assert not any(x.integer for x in found.layers) and found.to_json()["summary"]["layers"]["integer"] == 0
    stored = [x for x in found.layers if x.weights is not None]
    assert stored and all(x.verdict == "weights stored in few bits, computed in float" for x in stored)
    assert not found.verdict.warnings


def test_what_is_not_counted_is_said() -> None:
    nodes = [
        node("LSTM", "x w r", "h", "lstm", hidden_size=4),
        node("Squeeze", "h one", "s", "squeeze"),
        node("MatMul", "s m", "y", "dense"),
    ]
    consts = {"w": weight(1, 16, 3), "r": weight(1, 16, 4), "m": weight(4, 4), "one": np.array([1], np.int64)}
    model = load(proto(nodes, [info("x", [5, 2, 3])], [info("y", [5, 2, 4])], consts))
    made = fb.quantize(model, {"x": weight(5, 2, 3)}, quantize_mode="full", verify=False)
    found = fb.make_report(model, made, {"x": weight(5, 2, 3)})
    assert found.macs is not None and found.macs["uncounted"] == "1 LSTM" and "not counted: 1 LSTM" in found.html()


def test_agreement_is_shown_without_labels(demo: Model, whole: Path, images: Images) -> None:
    found = fb.make_report(demo, whole, {"image": images["image"]}, batch_size=32)
    assert found.accuracy is not None and found.accuracy["quantized"] == {}
    text = found.html()
    assert "Agreement" in text and "accuracy on labels" in text  # the latter among what was not measured


def test_what_was_counted_on_part_of_the_data_is_said(made: FullReport) -> None:
    assert any("first 32 of 96 samples" in n for n in made.notes)


def test_layers_that_cannot_be_compared_are_said(demo: Model, images: Images) -> None:
    made = fb.quantize(demo, demo_calibration(), verify=False, effort="fast", batch_size=32)
    found = fb.make_report(demo, to_qoperator(made).model, images, batch_size=32, limit=1)
    assert any("layers could not be compared" in n for n in found.notes)


def test_a_clip_of_integers_makes_no_integer_layer() -> None:
    model = load(proto([node("Softmax", "x", "y", "p")], [info("x", [1, 4])], [info("y", [1, 4])]))
    operators = [Executed("p", "Softmax", "f32", False), Executed("p_clip", "Clip", "u8 u8 u8", True)]
    assert executed_layers(model, operators, {"p": "p", "p_clip": "p"}) == {"p": False}
    assert executed_layers(model, [Executed("p", "QLinearSoftmax", "u8", True)], {"p": "p"}) == {"p": True}


def test_numbers_out_of_range_are_refused(demo: Model, whole: Path, images: Images) -> None:
    for word in ("limit", "threads"):
        with pytest.raises(UsageError, match=f"{word} is 0"):
            fb.make_report(demo, whole, images, **{word: 0})
    with pytest.raises(UsageError, match="num_skipped_batches is -1"):
        fb.make_report(demo, whole, images, num_skipped_batches=-1)
    with pytest.raises(UnknownName, match="'sense'"):
        fb.make_report(demo, whole, images, include="sense")


def test_a_plan_of_another_run_is_not_believed(demo: Model, whole: Path, images: Images, tmp_path: Path) -> None:
    other = fb.quantize(demo, demo_calibration(), verify=False, effort="fast", bit_num=4, batch_size=32)
    file = tmp_path / "q.onnx"
    file.write_bytes(whole.read_bytes())
    other.plan.save(tmp_path / "q.plan.json")
    found = fb.make_report(demo, file, images, batch_size=32, limit=1)
    layer = next(x for x in found.layers if x.node == "/layer1/conv1/conv/Conv")
    assert layer.integer and "no plan" in layer.verdict and layer.weights is not None and layer.weights.bits == 8
    assert any("plan" in n for n in found.notes)
