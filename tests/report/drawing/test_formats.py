"""Formats in words, and their looks."""

from __future__ import annotations

import re

import numpy as np
import onnx_ir as ir
import pytest

from fewbit.core.spec import QuantSpec
from fewbit.report.drawing.formats import LOOKS, Format, of_grid, of_spec, of_type


@pytest.mark.parametrize(
    ("dtype", "word", "kind"),
    [
        ("FLOAT", "f32", "float"), ("FLOAT16", "f16", "half"), ("FLOAT8E5M2", "f8", "half"), ("UINT8", "u8", "eight"),
        ("INT4", "s4", "few"), ("INT16", "s16", "wide"), ("INT32", "i32", "count"), ("BOOL", "bool", "count"),
    ],
)  # fmt: skip
def test_a_type_of_onnx_has_a_word_and_a_kind(dtype: str, word: str, kind: str) -> None:
    found = of_type(ir.DataType[dtype])
    assert (found.word, found.kind) == (word, kind)


def test_what_was_never_inferred_counts_as_float() -> None:
    assert of_type(None).word == "f32"


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (QuantSpec(8, signed=False), "u8"),
        (QuantSpec(4, signed=True, granularity="group", axis=0, group_size=32), "s4 groups of 32"),
        (QuantSpec(8, signed=True, granularity="channel", axis=0), "s8 per channel"),
        (QuantSpec(8), "int8"),
    ],
)
def test_a_wish_in_words(spec: QuantSpec, said: str) -> None:
    assert str(of_spec(spec)) == said


@pytest.mark.parametrize(
    ("scale", "zero", "said"),
    [
        ([0.25], [3], "0.25, z 3"), ([0.5], [0], "0.5"), ([0.5, 0.25], [0, 0], "0.25 … 0.5"),
        ([0.5, 0.25], [0, 7], "0.25 … 0.5, z differs"), (None, None, "range at run time"),
    ],
)  # fmt: skip
def test_steps_in_words(scale: list[float] | None, zero: list[int] | None, said: str) -> None:
    grid = [None if x is None else np.array(x) for x in (scale, zero)]
    assert of_grid(ir.DataType.UINT8, *grid).steps == said


def test_integers_that_are_cut_have_fewer_bits() -> None:
    assert of_grid(ir.DataType.UINT8, np.array(0.1), np.array(0), limits=(0, 15)).word == "u4"
    assert of_grid(ir.DataType.INT8, np.array(0.1), np.array(0), limits=(-1, 0)).word == "s1"


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("kind", LOOKS)
def test_words_can_be_read_on_their_colour(kind: str) -> None:
    look = LOOKS[kind]
    assert re.fullmatch("#[0-9a-f]{6}", look.line)
    a, b = sorted((_luminance(look.fill), _luminance(look.ink)))
    assert (b + 0.05) / (a + 0.05) >= 4.5


def test_kinds_differ_by_more_than_colour() -> None:
    looks = {(look.style, look.width, look.about) for look in LOOKS.values()}
    assert len(looks) == len(LOOKS)
    assert str(Format("u8")) == "u8"
