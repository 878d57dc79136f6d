from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewbit.core.detection import (
    HIT,
    MISS,
    PASSED,
    Matches,
    average_precision,
    judged,
    mean_average_precision,
    overlaps,
)
from fewbit.errors import DataError

# -- overlap ----------------------------------------------------------------------------------------------------------


def test_overlap_by_hand() -> None:
    a = [[0, 0, 2, 2], [0, 0, 1, 1], [3, 3, 3, 5]]
    b = [[1, 0, 3, 2], [5, 5, 6, 6], [0, 0, 2, 2]]
    np.testing.assert_allclose(overlaps(a, b), [[1 / 3, 0, 1], [0, 0, 1 / 4], [0, 0, 0]])
    assert overlaps(np.empty((0, 4)), b).shape == (0, 3)


boxes = st.tuples(*[st.integers(0, 12)] * 4).map(
    lambda t: (min(t[0], t[2]), min(t[1], t[3]), max(t[0], t[2]), max(t[1], t[3]))
)


@settings(deadline=None, max_examples=100)
@given(boxes, boxes)
def test_overlap_counts_cells(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    cells = [{(x, y) for x in range(l, r) for y in range(t, d)} for l, t, r, d in (a, b)]  # noqa: E741
    union = cells[0] | cells[1]
    wanted = len(cells[0] & cells[1]) / len(union) if union else 0
    assert overlaps([a], [b])[0, 0] == pytest.approx(wanted) == overlaps([b], [a])[0, 0]


# -- verdicts ---------------------------------------------------------------------------------------------------------


def test_an_object_is_found_once_and_difficult_ones_are_passed_over() -> None:
    objects = [[0, 0, 4, 4], [10, 0, 14, 4]]
    found = [[0, 0, 4, 4], [0, 0, 4, 5], [10, 0, 14, 4], [10, 0, 14, 3], [20, 20, 30, 30]]
    assert judged(found, objects, [False, True]).tolist() == [HIT, MISS, PASSED, PASSED, MISS]
    assert judged(found, objects, [False, False]).tolist() == [HIT, MISS, HIT, MISS, MISS]
    assert judged(found, np.empty((0, 4)), []).tolist() == [MISS] * 5


def test_exactly_half_is_enough() -> None:
    assert judged([[0, 0, 1, 2]], [[0, 0, 2, 2]], [False]).tolist() == [HIT]
    assert judged([[0, 0, 1, 2]], [[0, 0, 2, 2]], [False], least=0.51).tolist() == [MISS]


# -- average precision ------------------------------------------------------------------------------------------------


def test_average_precision_by_hand() -> None:
    # hits at ranks 1, 3, 4 of five detections, four objects: precision 1, 1/2, 2/3, 3/4, 3/5
    scores, hits = [0.9, 0.8, 0.7, 0.6, 0.5], [1, 0, 1, 1, 0]
    assert average_precision(scores, hits, 4) == pytest.approx((1 + 0.75 + 0.75) / 4)
    # envelope at recall 0, .1, .2: 1; at .3 … .7: 0.75; beyond: 0
    assert average_precision(scores, hits, 4, points=True) == pytest.approx((3 * 1 + 5 * 0.75) / 11)


@pytest.mark.parametrize("points", [False, True])
def test_ends(points: bool) -> None:
    assert average_precision([0.3, 0.2], [1, 1], 2, points=points) == pytest.approx(1)
    assert average_precision([0.3, 0.2], [0, 0], 2, points=points) == 0
    assert average_precision([], [], 2, points=points) == 0
    assert math.isnan(average_precision([0.5], [0], 0, points=points))


ranked = st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=12)


@settings(deadline=None, max_examples=100)
@given(ranked, st.integers(0, 4))
def test_average_precision_is_what_its_definition_says(found: list[tuple[int, bool]], more: int) -> None:
    hits = sum(h for _, h in found)
    objects = hits + more
    if not objects:
        return
    order = sorted(range(len(found)), key=lambda i: (-found[i][0], i))
    curve, right = [], 0
    for n, i in enumerate(order, 1):
        right += found[i][1]
        curve.append((right / objects, right / n))

    def best(at: float) -> float:
        return max((p for r, p in curve if r >= at - 1e-9), default=0.0)

    scores, flags = [s for s, _ in found], [h for _, h in found]
    area = sum(best(k / objects) for k in range(1, objects + 1)) / objects
    assert average_precision(scores, flags, objects) == pytest.approx(area)
    eleven = sum(best(k / 10) for k in range(11)) / 11
    assert average_precision(scores, flags, objects, points=True) == pytest.approx(eleven)


# -- over images ------------------------------------------------------------------------------------------------------


def batch(*images: list[list[float]], width: int) -> np.ndarray:
    """Images with their rows, padded with -1."""
    most = max(map(len, images))
    return np.float32([rows + [[-1.0] * width] * (most - len(rows)) for rows in images])


FOUND = batch(
    [[0, 0.9, 0, 0, 0.5, 0.5], [1, 0.8, 0.5, 0.5, 1, 1], [-1, 0.7, 0, 0, 0.5, 0.5]],
    [[0, 0.95, 0.6, 0.6, 0.9, 0.9], [0, 0.3, 0, 0, 0.4, 0.4]],
    width=6,
)
THERE = batch([[0, 0, 0, 0.5, 0.5], [1, 0, 0, 0.2, 0.2]], [[0, 0, 0, 0.4, 0.4]], width=5)


def test_classes_are_counted_over_images() -> None:
    matches = Matches()
    matches.update(FOUND, THERE)
    result = matches.result()
    assert [(k, c.objects, c.detections, c.hits) for k, c in result.items()] == [(0, 2, 3, 2), (1, 1, 1, 0)]
    assert result[0].area == pytest.approx(2 / 3)  # a miss comes first: precision 0, 1/2, 2/3
    assert mean_average_precision(result) == pytest.approx(1 / 3)
    assert mean_average_precision(result, points=True) == pytest.approx(1 / 3)


def test_images_may_come_one_by_one() -> None:
    whole, parts = Matches(), Matches()
    whole.update(FOUND, THERE)
    for i in range(2):
        parts.update(FOUND[i : i + 1], THERE[i : i + 1])
    assert whole.result() == parts.result()


def test_the_order_of_rows_does_not_matter() -> None:
    matches, turned = Matches(), Matches()
    matches.update(FOUND, THERE)
    turned.update(FOUND[:, ::-1], THERE[:, ::-1])
    assert matches.result() == turned.result()


def test_difficult_objects_are_not_counted() -> None:
    there = np.concatenate([THERE, np.zeros((*THERE.shape[:2], 1), np.float32)], 2)
    there[1, 0, 5] = 1
    matches = Matches()
    matches.update(FOUND, there)
    score = matches.result()[0]
    assert (score.objects, score.detections, score.hits) == (1, 2, 1)
    assert score.area == pytest.approx(1 / 2)


def test_a_class_without_objects_has_no_say() -> None:
    matches = Matches()
    matches.update(np.float32([[[0, 1, 0, 0, 1, 1], [7, 1, 0, 0, 1, 1]]]), np.float32([[[0, 0, 0, 1, 1]]]))
    result = matches.result()
    assert math.isnan(result[7].area) and result[7].detections == 1
    assert mean_average_precision(result) == 1
    assert math.isnan(mean_average_precision({}))


@pytest.mark.parametrize("place", range(6))
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_rows_that_are_not_finite_find_nothing(place: int, value: float) -> None:
    broken, dropped = FOUND.copy(), FOUND.copy()
    broken[0, 0, place], dropped[0, 0, 0] = value, -1
    results = []
    for found in (broken, dropped):
        matches = Matches()
        matches.update(found, THERE)
        results.append(matches.result())
    assert results[0] == results[1]


@pytest.mark.parametrize(
    ("found", "there"), [((2, 3, 6), (1, 3, 5)), ((2, 3, 5), (2, 3, 5)), ((2, 3, 6), (2, 5)), ((2, 6), (2, 1, 5))]
)
def test_shapes_that_do_not_fit_are_refused(found: tuple[int, ...], there: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match=r"must be \(images, n, 6\), \(images, m, 5\)"):
        Matches().update(np.zeros(found), np.zeros(there))
