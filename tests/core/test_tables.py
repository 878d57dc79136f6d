from __future__ import annotations

import json
import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewbit.core.tables import dumps, frame, listed, number, pairs, percent, plain, short, size, small, table, times


@dataclass(frozen=True)
class Error:
    name: str
    sqnr: float
    clip: float | None


TABLE = """\
layer  SQNR dB
-----  -------
conv1     31.2
fc           9"""

FRAME = """\
!!!!!!!!!!!!!!!!!
! too slow      !
!               !
!   1. try this !
!!!!!!!!!!!!!!!!!"""


def test_columns_are_aligned_by_their_mark() -> None:
    assert table(("<layer", ">SQNR dB"), [("conv1", "31.2"), ("fc", "9")]) == TABLE


def test_a_table_of_nothing_still_says_what_it_would_hold() -> None:
    assert table(("<layer", ">us"), []) == "layer  us\n-----  --"


@given(st.lists(st.tuples(st.text("ab ", max_size=9), st.text("12", max_size=9)), max_size=6))
def test_lines_have_no_space_at_the_end_and_one_width(rows: list[tuple[str, str]]) -> None:
    lines = table(("<a", ">b"), rows).split("\n")
    assert len(lines) == len(rows) + 2
    assert all(line == line.rstrip() for line in lines)
    assert max(map(len, lines)) == len(lines[1])


def test_a_frame_holds_its_lines() -> None:
    assert frame(["too slow", "", "  1. try this"]) == FRAME


def test_a_frame_wraps_long_text_and_keeps_the_indent() -> None:
    lines = frame(["  1. " + "word " * 60]).split("\n")
    assert len({len(line) for line in lines}) == 1 and len(lines[0]) <= 100
    assert lines[1].startswith("!   1. word") and lines[2].startswith("!     word")


def test_pairs_stand_below_each_other() -> None:
    assert pairs([("size", "1"), ("latency", "2")]) == "size     1\nlatency  2"


def test_a_long_name_loses_its_middle() -> None:
    name = "model/block_with_a_long_name_that_never_ends/layer_17/conv_2/depthwise"
    assert len(short(name)) == 44
    assert short(name).startswith("model/block") and short(name).endswith("layer_17/conv_2/depthwise")
    assert short("x" * 44) == "x" * 44


def test_a_long_list_is_cut() -> None:
    assert listed("abcde") == "a, b, c and 2 more"
    assert listed("abc") == "a, b, c"


@pytest.mark.parametrize(
    ("told", "text"),
    [
        (number(None), "-"),
        (number(-0.001), "0.00"),
        (number(1234.5), "1,234.50"),
        (number(math.inf, 1), "inf"),
        (number(-math.inf), "-inf"),
        (number(math.nan), "nan"),
        (percent(0.0312), "3.1 %"),
        (percent(None), "-"),
        (small(0.00012345), "0.000123"),
        (small(None), "-"),
        (size(999), "999 B"),
        (size(1_500), "1.50 kB"),
        (size(102_400_000), "102.4 MB"),
        (size(2_000_000_000), "2.00 GB"),
        (size(None), "-"),
        (times(0.333), "0.33x"),
        (times(None), "-"),
    ],
)
def test_numbers(told: str, text: str) -> None:
    assert told == text


def test_json_has_no_infinity_and_reads_back() -> None:
    text = dumps({"a": math.inf, "b": -math.inf, "c": math.nan, "d": None, "e": np.float32(0.5), "f": np.arange(2)})

    def refuse(word: str) -> None:
        raise AssertionError(word)

    found = json.loads(text, parse_constant=refuse)
    assert found == {"a": "inf", "b": "-inf", "c": "nan", "d": None, "e": 0.5, "f": [0, 1]}
    assert float(found["a"]) == math.inf and math.isnan(float(found["c"]))


def test_dataclasses_become_objects_and_keys_text() -> None:
    assert plain({1: (Error("v", math.inf, None),)}) == {"1": [{"name": "v", "sqnr": "inf", "clip": None}]}
