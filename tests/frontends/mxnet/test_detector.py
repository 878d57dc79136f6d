"""A small SSD that MXNet trained on coloured shapes (tests/golden/mxnet/make/detector.py): import, mAP, 8 bits."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fewbit as fb
from fewbit.cli import main
from fewbit.config import DataConfig
from fewbit.core.detection import Matches, mean_average_precision
from fewbit.data import open_data
from fewbit.engines import open_runner
from fewbit.graph.model import Model
from fewbit.report.detections import DetectionEvaluation
from tests.frontends.mxnet.cases import GOLDEN

FOLDER = GOLDEN / "detector"
RECORDS = FOLDER / "shapes.rec"
READING: dict[str, Any] = {"batch_size": 16, "normalize_mean": (123, 117, 104), "normalize_std": (58, 57, 57)}
MOVES = {"Slice", "Reshape", "ArgMax", "Split", "Transpose", "Gather", "Unsqueeze"}
"""Operators that the engine may run on integers without changing what comes out."""


@cache
def network() -> Model:
    """The float network for inference."""
    return fb.load(FOLDER / "shapes-symbol.json", input_shapes={"data": (None, 3, 96, 96)})


@cache
def labelled() -> tuple[np.ndarray, np.ndarray]:
    """What the float network gives for all images, and the objects that are there."""
    runner, rows, objects = open_runner("onnxruntime", network(), threads=1), [], []
    for batch in open_data(RECORDS, network().inputs, DataConfig(**READING)):
        rows.append(runner.run(batch.feeds)["detection_output"])
        objects.append(batch.labels)
    return np.concatenate(rows), np.concatenate(objects)


@cache
def integer(mode: str) -> fb.Quantized:
    """The network in 8 bits, calibrated on the first batch; that in smart mode is checked against float."""
    words = {"quantize_mode": mode, "effort": "fast", "verify": mode == "smart"}
    return fb.quantize(network(), RECORDS, num_calib_batches=1, **words, **READING)


def evaluated(model: Model, reference: Model | None = None) -> DetectionEvaluation:
    """mAP on what was not calibrated on."""
    found = fb.evaluate(model, RECORDS, reference=reference, num_skipped_batches=1, threads=1, **READING)
    assert isinstance(found, DetectionEvaluation)
    return found


def test_detections_are_those_of_mxnet() -> None:
    rows, _ = labelled()
    with np.load(FOLDER / "detections.npz") as file:
        found, first = file["found"], file["rows"]
    image, place = np.nonzero(rows[..., 0] >= 0)
    np.testing.assert_array_equal(image, found[:, 0])
    np.testing.assert_allclose(rows[image, place], found[:, 1:], atol=2e-5)
    np.testing.assert_allclose(rows[:2, :400], first[:, :400], atol=2e-5)  # nms_topk is 400; suppressed rows as well


def test_map_is_that_of_mxnet() -> None:
    _, objects = labelled()
    with np.load(FOLDER / "detections.npz") as file:
        found = file["found"]
    theirs = Matches()
    for i in range(len(objects)):
        theirs.update(found[found[:, 0] == i][None, :, 1:], objects[i : i + 1])
    ours = fb.evaluate(network(), RECORDS, threads=1, **READING)
    assert isinstance(ours, DetectionEvaluation) and ours.samples == 96
    assert ours.map == pytest.approx(mean_average_precision(theirs.result()), abs=1e-6)
    assert ours.map_points == pytest.approx(mean_average_precision(theirs.result(), points=True), abs=1e-6)
    assert ours.map > 0.9


@pytest.mark.parametrize("mode", ["smart", "full"])
def test_eight_bits_find_what_float_finds(mode: str) -> None:
    found = evaluated(integer(mode), network())
    assert found.drop is not None and abs(found.drop) < 0.04 and found.map > 0.88


@pytest.mark.parametrize("mode", ["smart", "full"])
def test_layers_are_integer_and_the_tail_is_float(mode: str) -> None:
    quantized = integer(mode)
    runs = open_runner("onnxruntime", quantized, threads=1).executed()
    convs = [x for x in runs if x.op.endswith("QLinearConv")]
    assert len(convs) >= 14 and sum("pred_conv" in x.node for x in convs) == 6
    tail = [x for x in runs if x.node.startswith("detection")]
    assert {x.op for x in tail} >= {"NonMaxSuppression", "TopK", "Exp", "ScatterND"}
    assert {x.op for x in tail if x.integer} <= MOVES
    plan = quantized.plan.nodes
    assert not [n for n in plan if n.startswith("detection") and plan[n].quantized]


def test_what_is_ranked_is_judged_by_what_it_is_made_from() -> None:
    report = integer("smart").report
    assert report.cosine is not None and report.cosine > 0.98 and report.warnings == ()
    found = fb.compare(network(), integer("smart"), RECORDS, limit=1, threads=1, **READING)
    assert [o.name for o in found.outputs] == ["cls_prob_output", "multibox_loc_pred_output"]
    assert "the rows of detection_output are ranked by the data" in found.notes[0]
    assert not [e.name for e in found.layers if e.name.startswith("detection")]


def test_the_symbol_for_training_detects_the_same() -> None:
    shapes = {"data": (None, 3, 96, 96)}
    model = fb.load(FOLDER / "shapes_train-symbol.json", input_shapes=shapes, params=FOLDER / "shapes-0000.params")
    assert [i.name for i in model.inputs] == ["data"]
    assert [o.name for o in model.outputs] == ["cls_prob_output", "det_out_output"]
    assert len(model.notes) >= 2 and "which makes targets for training" in model.notes[0]
    batch = next(iter(open_data(RECORDS, model.inputs, DataConfig(**READING))))
    found = open_runner("onnxruntime", model, threads=1).run(batch.feeds)["det_out_output"]
    np.testing.assert_allclose(found, labelled()[0][:16], atol=1e-5)


def test_a_map_of_free_size_gives_the_same() -> None:
    model = fb.load(FOLDER / "shapes-symbol.json")
    assert model.inputs[0].shape[2:] == (None, None)
    batch = next(iter(open_data(RECORDS, network().inputs, DataConfig(**READING))))
    found = open_runner("onnxruntime", model, threads=1).run(batch.feeds)["detection_output"]
    np.testing.assert_allclose(found, labelled()[0][:16], atol=1e-5)


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network().save(tmp_path / "float.onnx")
    integer("smart").save(tmp_path / "int8.onnx")
    words = ["--batch-size", "16", "--normalize-mean", "123,117,104", "--normalize-std", "58,57,57"]
    given = ["evaluate", str(tmp_path / "int8.onnx"), "--data", str(RECORDS), "--num-skipped-batches", "1"]
    given += ["--num-inference-batches", "2", "--reference", str(tmp_path / "float.onnx"), "--threads", "1", *words]
    assert main([*given, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["samples"] == 32 and found["map"] > 0.8 and found["map_reference"] > 0.8
    assert main([*given, "--metric", "map"]) == 0
    assert "mAP float" in capsys.readouterr().out
    assert main([*given, "--metric", "mapp"]) == 2
    assert "unknown metric 'mapp'; did you mean 'map'" in capsys.readouterr().err
    assert main([*given, "--metric", "accuracy"]) == 1
    assert "no output looks like class scores" in capsys.readouterr().err


def test_corrections_and_budgets_judge_a_detector_by_what_is_ranked() -> None:
    words = {"num_calib_batches": 3, "verify": False, **READING}
    made = fb.quantize(network(), RECORDS, min_sqnr=25, **words)
    assert made.report is not None and made.report.budget_met
    kept = {c.name: c for c in made.report.corrections}
    assert any(c.kept and c.before > 20 for c in kept.values())  # rows of detections would be near 0 dB
