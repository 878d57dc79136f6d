"""Text in columns: as it comes out, and on a page that has a width."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewbit.core.layout import Heading, Name, heading, page, table, telling, wrapped
from fewbit.core.tables import frame, pairs

LONG = "/layer3/project/bn/BatchNormalization_output_0"
HEAD = ("<layer", "<op", ">SQNR dB", "?>max error", "?>clipped")
ROWS = [[Name(LONG), "Conv", "28.7", "0.751", "0.01 %"], [Name("/relu"), "Relu", "inf", "-", "-"]]


def test_a_heading_is_read() -> None:
    assert heading("<layer") == Heading("layer", "<")
    assert heading("?>clipped") == Heading("clipped", ">", extra=True)


def test_without_a_page_names_are_cut_and_nothing_else() -> None:
    lines = table(HEAD, ROWS).split("\n")
    assert lines[2] == "/layer3/project…/BatchNormalization_output_0  Conv     28.7      0.751   0.01 %"
    assert len(lines) == 4


def test_a_wide_page_shows_names_whole() -> None:
    with page(160):
        assert LONG in table(HEAD, ROWS)


def test_a_narrow_page_cuts_names_where_it_hurts_least() -> None:
    with page(66):
        lines = table(HEAD, ROWS).split("\n")
    assert lines[2].startswith("/layer3/project/bn/B") and "0.01 %" in lines[2] and len(lines) == 4


def test_what_matters_least_is_left_out_with_a_word_on_it() -> None:
    with page(40):
        text = table(HEAD, ROWS)
    assert "clipped" not in text.split("\n")[0] and "no room for: max error, clipped; " in text


def test_words_are_folded() -> None:
    with page(50):
        text = table(("<layer", "<reason"), [[Name("/conv1"), "runs at 0.35 of its float time, measured on a phone"]])
    first, more = text.split("\n")[2:]
    assert first.startswith("/conv1  runs at") and more.startswith(" " * 8 + "on a phone")


def test_what_is_still_too_wide_goes_on_below() -> None:
    head = ("<operator", *(f">target-{i}" for i in range(9)))
    with page(50):
        text = table(head, [["Conv", *(str(i) for i in range(9))], ["Gemm", *("-" * 9)]])
    parts = text.split("\n\n")
    assert len(parts) == 3 and all(p.startswith("operator") and "\nConv " in p for p in parts)
    assert all(f"target-{i}" in text for i in range(9)) and "no room" not in text


def test_pairs_and_frames_and_paragraphs_fit() -> None:
    text = "some words of a paragraph " * 8
    with page(60):
        told = [*pairs([("what", text)]).split("\n"), *frame([text]).split("\n"), *wrapped(text)]
    assert max(map(len, told)) <= 60 and told[1].startswith(" " * 6)
    with page(160):
        assert max(map(len, wrapped(text))) <= 100


def test_a_page_ends() -> None:
    with page(40), page(None):
        assert len(wrapped("x " * 99)) == 2
    assert len(wrapped("x " * 99)) == 2


@pytest.mark.parametrize(
    ("name", "width", "seen"),
    [
        (LONG, 46, LONG),
        (LONG, 28, "/layer3/project/bn/Batc…ut_0"),
        ("model.encoder.self_attention.query", 30, "model.encoder.self_…tion.query"),
        ("a" * 50, 9, "aaaa…aaaa"),
    ],
)
def test_a_name_keeps_what_tells(name: str, width: int, seen: str) -> None:
    assert telling(name, width) == seen


WORDS = st.text("ab/ .", max_size=60)


HEADS = st.tuples(st.sampled_from(["<", ">", "?<", "?>"]), st.text("xyz", min_size=1, max_size=12))


@given(st.integers(40, 120), st.lists(HEADS, min_size=1, max_size=7), st.data())
def test_no_table_is_wider_than_its_page(width: int, heads: list[tuple[str, str]], data: st.DataObject) -> None:
    head = ["<key", *(mark + title for mark, title in heads)]
    cells = [st.text("01.", max_size=9) if ">" in mark else WORDS.map(Name) for mark, _ in heads]
    rows = data.draw(st.lists(st.tuples(st.text("ab", max_size=8), *cells), max_size=3))
    with page(width):
        assert max(map(len, table(head, rows).split("\n"))) <= width
