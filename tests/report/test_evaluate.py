from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fewbit.core.metrics import wilson_interval
from fewbit.errors import BadSample, ConfigError, DataError, EmptyData, FewbitWarning, ModelError, UnknownName
from fewbit.report.evaluate import Evaluation, Share, evaluate, pick_output
from tests.report.helpers import Fake, batches, golden

Array = NDArray[Any]
SCORES = np.random.default_rng(1).standard_normal((20, 8)).astype(np.float32)
LABELS = np.random.default_rng(2).integers(0, 8, 20)


def says(scores: Array, name: str = "logits") -> Fake:
    """Answers each row number, which is what it is fed with, with its scores."""
    return Fake(lambda feeds: {name: scores[feeds["x"]]})


ROWS = np.arange(20)
DATA = batches(ROWS, 6, LABELS)


def test_top_k_is_counted() -> None:
    e = evaluate(says(SCORES), DATA)
    order = np.argsort(-SCORES, 1)
    assert e.accuracy[1].hits == (order[:, 0] == LABELS).sum()
    assert e.accuracy[5].hits == (order[:, :5] == LABELS[:, None]).any(1).sum()
    assert (e.samples, e.labelled, e.classes, e.output) == (20, 20, 8, "logits")
    assert e.agreement is None and e.fixed is None and e.reference == {} and e.drop is None


def test_the_interval_is_wilsons() -> None:
    share = Share(18, 20)
    assert share.rate == 0.9 and share.interval == wilson_interval(18, 20)
    assert str(share) == "90.00 % (69.9 to 97.2), 18 of 20"


def test_pairs_with_the_float_network() -> None:
    ours = SCORES.copy()
    ours[0, LABELS[0]] = 99  # right now
    ours[1] = 0
    ours[1, (LABELS[1] + 1) % 8] = 99  # wrong now
    before = SCORES.copy()
    before[0, (LABELS[0] + 1) % 8] = 50
    before[1, LABELS[1]] = 50
    e = evaluate(says(ours), DATA, says(before))
    assert (e.fixed, e.broken) == (1, 1) and e.drop == 0
    assert e.agreement is not None and e.agreement.hits == 18
    assert e.reference[1].hits == e.accuracy[1].hits


def test_labels_are_not_needed_for_agreement() -> None:
    e = evaluate(says(SCORES), batches(ROWS, 6), says(SCORES))
    assert e.agreement is not None and e.agreement.rate == 1
    assert e.accuracy == {} and e.labelled == 0 and e.fixed is None and e.drop is None


def test_without_labels_and_reference_there_is_nothing_to_say() -> None:
    with pytest.raises(DataError, match="no labels and there is no float network"):
        evaluate(says(SCORES), batches(ROWS, 6))


def test_batches_can_be_skipped_and_limited() -> None:
    e = evaluate(says(SCORES), DATA, num_skipped_batches=1, num_inference_batches=2)
    assert e.samples == 12
    assert e.accuracy[1].hits == (SCORES[6:18].argmax(1) == LABELS[6:18]).sum()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ({"num_skipped_batches": -1}, "num_skipped_batches is -1; it must be 0 or more"),
        ({"num_inference_batches": 0}, "num_inference_batches is 0; it must be 1 or more"),
        ({"top": (0, 5)}, "top is 0; it must be 1 or more"),
        ({"top": ()}, "top is 0"),
    ],
)
def test_numbers_out_of_range_are_refused(words: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        evaluate(says(SCORES), DATA, **words)


@pytest.mark.parametrize(("skip", "text"), [(0, "holds no batch; there is nothing"), (4, "no batch after the first 4")])
def test_no_batch_left_is_an_error(skip: int, text: str) -> None:
    with pytest.raises(EmptyData, match=text):
        evaluate(says(SCORES), DATA if skip else [], num_skipped_batches=skip)


@pytest.mark.parametrize("label", [8, -1])
def test_a_label_that_is_no_class_names_its_sample(label: int) -> None:
    labels = LABELS.copy()
    labels[7] = label
    with pytest.raises(BadSample, match=f"sample 7 has label {label}; the network knows 8 classes, numbered 0 to 7"):
        evaluate(says(SCORES), batches(ROWS, 6, labels))


@pytest.mark.parametrize("labels", [LABELS.astype(np.float32), np.eye(8, dtype=np.int64)[LABELS]])
def test_labels_that_are_no_class_numbers_are_refused(labels: Array) -> None:
    with pytest.raises(DataError, match=r"batch 0: labels are .*one for each of the 6 samples"):
        evaluate(says(SCORES), batches(ROWS, 6, labels))


def test_a_k_that_all_classes_satisfy_is_left_out() -> None:
    assert list(evaluate(says(SCORES[:, :5]), batches(ROWS, 6, LABELS % 5)).accuracy) == [1]
    assert list(evaluate(says(SCORES), DATA, top=(3, 1)).accuracy) == [1, 3]


def test_scores_with_axes_of_one_behind_are_scores() -> None:
    assert evaluate(says(SCORES[:, :, None, None]), DATA).accuracy == evaluate(says(SCORES), DATA).accuracy


def test_nan_is_never_right_and_never_in_agreement() -> None:
    broken = SCORES.copy()
    broken[3] = np.nan
    e = evaluate(says(broken), DATA, says(SCORES))
    assert e.not_finite == 1 and e.agreement is not None and e.agreement.hits == 19
    assert e.accuracy[5].hits <= e.reference[5].hits
    assert "1 of 20 samples give NaN or inf" in e.text()


# -- which output -----------------------------------------------------------------------------------------------------

ANSWERS = {
    "index": np.zeros((4,), np.int64),
    "map": np.zeros((4, 3, 8, 8), np.float32),
    "logits": np.zeros((4, 10), np.float32),
    "aux": np.zeros((4, 10), np.float32),
}


def test_the_first_output_that_looks_like_scores_is_taken() -> None:
    assert pick_output(ANSWERS) == "logits"
    assert pick_output(ANSWERS, "aux") == "aux"


def test_an_unknown_output_offers_the_nearest() -> None:
    with pytest.raises(UnknownName, match="unknown output 'logit'; did you mean 'logits'"):
        pick_output(ANSWERS, "logit")


def test_no_scores_at_all_lists_what_there_is() -> None:
    found = {k: ANSWERS[k] for k in ("index", "map")}
    with pytest.raises(ModelError, match=r"no output looks .*int64\[4\], map float32\[4, 3, 8, 8\].*compare works"):
        pick_output(found)
    with pytest.raises(ModelError, match="output 'map' does not look like class scores"):
        pick_output(ANSWERS, "map")


def test_the_float_network_must_have_that_output_in_that_shape() -> None:
    with pytest.raises(UnknownName, match="output of the float network 'logits'"):
        evaluate(says(SCORES), DATA, says(SCORES, "scores"))
    with pytest.raises(ModelError, match=r"shape \(6, 8\), those of the float network \(6, 4\)"):
        evaluate(says(SCORES), DATA, says(SCORES[:, :4]))


# -- text and JSON ----------------------------------------------------------------------------------------------------

TOLD = Evaluation(
    "logits", 10, 1000, 1000, {1: Share(905, 1000), 5: Share(995, 1000)}, {1: Share(909, 1000), 5: Share(996, 1000)},
    Share(987, 1000), 3, 7,
)  # fmt: skip


def test_text() -> None:
    golden("evaluate", TOLD.text())


def test_json_holds_rates_and_intervals() -> None:
    found = json.loads(json.dumps(TOLD.to_json(), allow_nan=False))
    assert found["accuracy"]["top1"]["rate"] == 0.905 and found["accuracy"]["top5"]["hits"] == 995
    assert found["reference"]["top1"]["interval"] == list(wilson_interval(909, 1000))
    assert found["agreement"]["rate"] == 0.987 and found["drop"] == pytest.approx(0.004)
    assert (found["fixed"], found["broken"]) == (3, 7)


def test_labels_that_number_some_of_the_classes_anew_are_doubted() -> None:
    anew, right = np.array([0, 1, 2] * 4), np.array([4, 5, 6] * 4)
    scores = np.eye(10, dtype=np.float32)[right]
    with pytest.warns(FewbitWarning, match="the labels are just 0 to 2, but the network knows 10 classes"):
        evaluate(says(scores), batches(np.arange(12), 6, anew))
    assert evaluate(says(scores), batches(np.arange(12), 6, right)).accuracy[1].rate == 1
