from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fewbit.data.base import Batch
from fewbit.errors import ConfigError, DataError, EmptyData, ModelError, UnknownName
from fewbit.report.detections import DetectionEvaluation, evaluate_detector, metric_of, pick_detections
from tests.report.helpers import Fake, golden

Array = NDArray[Any]

THERE = np.full((6, 2, 5), -1, np.float32)
THERE[:, 0] = [0, 0.1, 0.1, 0.5, 0.5]
THERE[::2, 1] = [1, 0.6, 0.6, 0.9, 0.9]
RIGHT = np.full((6, 4, 6), -1, np.float32)
RIGHT[:, :2, 0], RIGHT[:, :2, 1], RIGHT[:, :2, 2:] = THERE[:, :, 0], 0.9, THERE[:, :, 1:]
WORSE = RIGHT.copy()
WORSE[0, 0, 2:] = [0.7, 0.1, 0.9, 0.3]  # beside the object
WORSE[2, 1, 0] = -1


def finds(rows: Array, name: str = "det_output") -> Fake:
    """Answers each row number, which is what it is fed with, with its detections."""
    return Fake(lambda feeds: {name: rows[feeds["x"]]})


def batches(labels: Array | None = THERE, size: int = 2) -> list[Batch]:
    """Six images, by number."""
    rows = [np.arange(a, a + size) for a in range(0, 6, size)]
    return [
        Batch({"x": r}, None if labels is None else labels[r], i, [f"image {n}" for n in r]) for i, r in enumerate(rows)
    ]


def test_all_that_is_there_is_found() -> None:
    e = evaluate_detector(finds(RIGHT), batches())
    assert (e.map, e.map_points, e.samples, e.output, e.not_finite) == (1, 1, 6, "det_output", 0)
    assert {k: (c.objects, c.hits) for k, c in e.classes.items()} == {0: (6, 6), 1: (3, 3)}
    assert e.drop is None and e.reference == {} and "float" not in e.text()


def test_the_float_network_is_counted_too() -> None:
    e = evaluate_detector(finds(WORSE), batches(), finds(RIGHT))
    assert {k: c.hits for k, c in e.classes.items()} == {0: 5, 1: 2}
    # class 0: a miss at rank 1 of 6 (equal scores keep their order): (1/2 … 5/6, envelope 5/6) of 6 objects
    assert e.classes[0].area == pytest.approx(5 / 6 * 5 / 6) and e.classes[1].area == pytest.approx(2 / 3)
    assert e.drop == pytest.approx(1 - (25 / 36 + 2 / 3) / 2)


def test_more_overlap_may_be_asked_for() -> None:
    smaller = RIGHT.copy()
    smaller[..., 4] -= 0.1
    assert evaluate_detector(finds(smaller), batches()).map == 1
    assert evaluate_detector(finds(smaller), batches(), overlap=0.8).map == 0


def test_batches_can_be_skipped_and_limited() -> None:
    e = evaluate_detector(finds(WORSE), batches(), num_skipped_batches=1, num_inference_batches=1)
    assert e.samples == 2 and {k: (c.objects, c.hits) for k, c in e.classes.items()} == {0: (2, 2), 1: (1, 0)}


def test_nan_finds_nothing_and_is_told() -> None:
    broken = RIGHT.copy()
    broken[3, 0, 1] = np.nan
    e = evaluate_detector(finds(broken), batches())
    assert e.not_finite == 1 and e.classes[0].hits == 5
    assert "1 of 6 samples give NaN or inf detections" in e.text()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ({"num_skipped_batches": -1}, "num_skipped_batches is -1; it must be 0 or more"),
        ({"num_inference_batches": 0}, "num_inference_batches is 0; it must be 1 or more"),
        ({"overlap": 0}, "overlap is 0; it must be above 0 and up to 1"),
        ({"overlap": 1.5}, "overlap is 1.5"),
    ],
)
def test_numbers_out_of_range_are_refused(words: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        evaluate_detector(finds(RIGHT), batches(), **words)


def test_no_batch_left_is_an_error() -> None:
    with pytest.raises(EmptyData, match="no batch after the first 3; there is nothing"):
        evaluate_detector(finds(RIGHT), batches(), num_skipped_batches=3)


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        (None, r"no labels; mAP needs the objects of every image, as a \.rec file"),
        (np.zeros(6, np.int64), r"batch 0: labels are int64\[2\]; mAP needs \(2, objects, 5\)"),
        (THERE[..., :4], r"float32\[2, 2, 4\]; mAP needs \(2, objects, 5\)"),
    ],
)
def test_labels_that_are_no_objects_are_refused(labels: Array | None, text: str) -> None:
    with pytest.raises(DataError, match=text):
        evaluate_detector(finds(RIGHT), batches(labels))


# -- which metric, which output ---------------------------------------------------------------------------------------


def test_labels_tell_the_metric() -> None:
    assert metric_of(batches()[0]) == "map"
    assert metric_of(batches(np.zeros(6, np.int64))[0]) == metric_of(batches(None)[0]) == metric_of(None) == "accuracy"
    assert metric_of(batches()[0], "accuracy") == "accuracy" and metric_of(None, "map") == "map"
    with pytest.raises(UnknownName, match="unknown metric 'mapp'; did you mean 'map'"):
        metric_of(None, "mapp")


ANSWERS = {
    "prob": np.zeros((2, 4, 6), np.float32),
    "det": np.zeros((2, 8, 6), np.float32),
    "logits": np.zeros((2, 6), np.float32),
}


def test_the_last_output_that_looks_like_detections_is_taken() -> None:
    assert pick_detections(ANSWERS) == "det"
    assert pick_detections(ANSWERS, "prob") == "prob"


def test_no_detections_at_all_lists_what_there_is() -> None:
    with pytest.raises(ModelError, match=r"no output looks like detections.*logits float32\[2, 6\]"):
        pick_detections({"logits": ANSWERS["logits"]})
    with pytest.raises(ModelError, match="output 'logits' does not look like detections"):
        pick_detections(ANSWERS, "logits")
    with pytest.raises(UnknownName, match="unknown output 'dett'; did you mean 'det'"):
        pick_detections(ANSWERS, "dett")


def test_the_float_network_must_have_that_output() -> None:
    with pytest.raises(UnknownName, match="output of the float network 'det_output'"):
        evaluate_detector(finds(RIGHT), batches(), finds(RIGHT, "other"))


# -- text and JSON ----------------------------------------------------------------------------------------------------


def told() -> DetectionEvaluation:
    """An evaluation with everything in it; class 2 has no objects."""
    stray = WORSE.copy()
    stray[1, 3] = [2, 0.5, 0, 0, 1, 1]
    return evaluate_detector(finds(stray), batches(), finds(RIGHT))


def test_text() -> None:
    golden("evaluate_map", told().text())


def test_json_holds_the_means() -> None:
    found = json.loads(json.dumps(told().to_json(), allow_nan=False))
    assert found["map"] == pytest.approx((25 / 36 + 2 / 3) / 2) and found["map_reference"] == 1
    assert found["drop"] == pytest.approx(1 - found["map"])
    assert found["classes"]["0"]["objects"] == 6 and found["classes"]["2"]["area"] == "nan"
    assert set(found) >= {"map_points", "map_points_reference", "overlap", "samples"}
