"""Nudges there and back, and what a damaged text says."""

from __future__ import annotations

import base64
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fewbit.core.nudge import pack_nudges, unpack_nudges
from fewbit.errors import PlanError

shapes = hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=5)


@given(hnp.arrays(np.int8, shapes, elements=st.integers(-128, 127)))
def test_nudges_come_back(nudges: np.ndarray) -> None:
    text = pack_nudges(nudges)
    back = unpack_nudges(text, nudges.shape, "w")
    assert back.dtype == np.int8
    np.testing.assert_array_equal(back, nudges)
    assert text.isascii() and "\n" not in text and bool(text) == bool(nudges.any())


def test_no_nudge_is_no_text() -> None:
    assert pack_nudges(np.zeros((3, 4), np.int8)) == ""
    np.testing.assert_array_equal(unpack_nudges("", (3, 4), "w"), np.zeros((3, 4), np.int8))


def test_an_order_other_than_that_of_the_rows_is_kept() -> None:
    nudges = np.arange(12, dtype=np.int8).reshape(3, 4)
    np.testing.assert_array_equal(unpack_nudges(pack_nudges(nudges.T), (4, 3), "w"), nudges.T)


def test_it_is_small() -> None:
    nudges = np.zeros(10_000, np.int8)
    nudges[::97] = 1
    assert len(pack_nudges(nudges)) < 1000


GOOD = pack_nudges(np.array([1, 0, -1, 0], np.int8))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("!", r"weight 'w': its nudges are damaged \(.*\); calibrate again"),
        ("ä" + GOOD, r"weight 'w': its nudges are damaged"),
        (GOOD[:-4] + "AAA", r"weight 'w': its nudges are damaged"),
        (base64.b64encode(b"no zlib").decode(), r"weight 'w': its nudges are damaged"),
        ("AAAA" + GOOD, r"weight 'w': its nudges are damaged"),
        (GOOD[:8], r"weight 'w': its nudges are for another number of weights than 4; calibrate again"),
        (pack_nudges(np.ones(3, np.int8)), r"nudges are for another number of weights than 4"),
        (pack_nudges(np.ones(5, np.int8)), r"nudges are for another number of weights than 4"),
        (base64.b64encode(zlib.compress(bytes(10**7))).decode(), r"for another number of weights than 4"),
    ],
)
def test_a_damaged_text_is_told(text: str, says: str) -> None:
    with pytest.raises(PlanError, match=says):
        unpack_nudges(text, (2, 2), "weight 'w'")


@given(st.text(max_size=30))
def test_any_text_is_read_or_told(text: str) -> None:
    try:
        assert unpack_nudges(text, (2, 2), "w").shape == (2, 2)
    except PlanError as e:
        assert "calibrate again" in str(e)
