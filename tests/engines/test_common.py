"""Type names and messages."""

from __future__ import annotations

import numpy as np
import pytest

from fewbit.engines.common import first_line, shapes_of, short, takes_integers


@pytest.mark.parametrize(
    ("word", "want"),
    [
        ("float", "f32"), ("double", "f64"), ("float32", "f32"), ("f32", "f32"), ("bfloat16", "bf16"), ("bf16", "bf16"),
        ("uint8", "u8"), ("u8", "u8"), ("int8", "s8"), ("i8", "s8"), ("int64", "s64"), ("bool", "bool"),
        ("boolean", "bool"), ("int4", "s4"), ("dynamic", "dynamic"), ("", ""),
    ],
)  # fmt: skip
def test_types_have_one_spelling(word: str, want: str) -> None:
    assert short(word) == want


@pytest.mark.parametrize(
    ("types", "want"), [("u8 s8 s32", True), ("s16", True), ("s64 s64", False), ("", False), ("f32 u8", False)]
)
def test_what_counts_as_integer_data(types: str, want: bool) -> None:
    assert takes_integers(types) is want


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Bad : thing\nmore", "Bad : thing"),
        ("Exception from src/a.cpp:1:\nException from src/b.cpp:2:\nUnable to read.\n\n", "Unable to read."),
        ("Exception from src/a.cpp:1:", "Exception from src/a.cpp:1:"),
        ("", "RuntimeError"),
    ],
)
def test_messages_are_cut_to_the_point(text: str, want: str) -> None:
    assert first_line(RuntimeError(text)) == want


def test_shapes_read_well() -> None:
    assert shapes_of({"x": np.zeros((1, 3)), "n": np.array(2)}) == "x[1, 3], n[]"
