"""What results show: the same words as text and as HTML, whatever a model file calls its layers."""

from __future__ import annotations

import math
import re

import pytest

from fewbit.core.blocks import (
    Aside,
    Block,
    Code,
    Facts,
    Fold,
    Items,
    Loud,
    Table,
    Title,
    Wrapped,
    error_bars,
    one_line,
    ratio_bars,
    share_bars,
    to_text,
)  # fmt: skip
from fewbit.core.html import LONGEST, MOST, to_html
from fewbit.core.tables import Name
from tests.shown import NASTY, checked

LONG = "/" + "/".join(f"block{i}" for i in range(40)) + "/Conv"
EVERY: list[Block] = [
    "a line",
    "",
    Title("a title"),
    Facts([("what", "how much"), ("", "and more")]),
    Table(("<layer", ">SQNR dB", "?>cosine"), [(Name(LONG), "31.2", "0.99"), (Name(NASTY), "nan", "-")],
          {1: error_bars([31.2, math.nan])}),
    Items(["one", "two"]),
    Code("  --flag value"),
    Wrapped("word " * 40),
    Loud(["PROBLEM. Something is wrong."], ["do this", "or that"]),
    Aside("only in notebooks"),
    Fold("behind a click", [Title("inner"), Facts([("a", NASTY)])]),
]  # fmt: skip


def test_text_has_what_is_for_text() -> None:
    text = to_text(EVERY)
    assert "only in notebooks" not in text and "inner" not in text
    assert "!   1. do this" in text and "\n  one\n  two\n" in text
    assert max(map(len, text.splitlines())) <= 100


def test_html_has_everything_in_the_same_words() -> None:
    html, words = to_html(EVERY), checked(to_html(EVERY))
    for word in ("a line", "a title", "how much", "SQNR dB", "31.2", "one", "--flag value", "do this", "behind a click",
                 "only in notebooks", "inner", NASTY):  # fmt: skip
        assert word in words, word
    assert ">cosine<" in html  # the mark of a heading is no part of it
    assert html.index("PROBLEM") < html.index("a line")  # a page is read from its top


def test_problems_that_the_text_has_elsewhere_come_in_html_alone() -> None:
    assert to_text([Loud(["x"], said=True)]) == "" and "x" in checked(to_html([Loud(["x"], said=True)]))


def test_a_long_name_is_shortened_and_whole_behind_the_pointer() -> None:
    html = to_html([Table(("<layer",), [(Name("n" * 50),), (Name(LONG),), (Name("x" * 10_000),)])])
    assert ">" + "n" * 50 + "<" in html and f'title="{LONG}"' in html
    assert len(html) < 3000 and f'title="{"x" * LONGEST}"' in html


def test_long_lists_are_cut_with_a_word_on_it() -> None:
    html = to_html([Table(("<a",), [(f"row{i}",) for i in range(MOST + 5)]), Items([f"item{i}" for i in range(1005)])])
    assert f"row{MOST - 1}<" in html and f"row{MOST}<" not in html and f"item{MOST}<" not in html
    assert "100 of 105; text() shows all" in html and "100 of 1,005; text() shows all" in html


def test_nothing_at_all_is_a_page_too() -> None:
    assert checked(to_html([])).strip() == "" and to_text([]) == ""


def test_colours_are_those_of_the_page_around() -> None:
    """Nothing opaque behind text, no colour of text: it reads on white and on black."""
    styles = " ".join(re.findall(r'style="([^"]*)"', to_html([*EVERY, _bars()])))
    assert not re.search(r"(?<![-\w])color:", styles)
    for value in re.findall(r"background:([^;]*)", styles):
        colours = re.findall(r"rgba\([^)]*\)|#\w+|currentColor|transparent", value)
        assert colours and all(
            c in ("currentColor", "transparent") or float(c[:-1].split(",")[-1]) <= 0.5 for c in colours
        )


def test_without_styles_the_table_is_all_there() -> None:
    """GitHub takes styles away."""
    plain = re.sub(r' style="[^"]*"', "", to_html(EVERY))
    assert '<th scope="col" align="right">SQNR dB</th>' in plain and '<td align="right">31.2</td>' in plain
    assert "<blockquote" in plain and "<strong>&#9888; PROBLEM" in plain


def _bars() -> Table:
    return Table((">x", ">y"), [("1", "2"), ("3", "4")], {0: ratio_bars([0.5, 2.0]), 1: share_bars([1.0, None])})


def test_bars() -> None:
    errors = [
        b.share if b else None for b in error_bars([60.0, 90.0, 30.0, 0.0, -5.0, math.nan, math.inf, -math.inf, None])
    ]
    assert errors == [0, 0, 0.5, 1, 1, 1, 0, 1, None]
    low, same, high, far, none = ratio_bars([0.5, 1.0, 2.0, 1e9, None])
    assert low and same and high and far and none is None
    assert low.share < same.share < high.share < far.share == 1 and same.share == pytest.approx(same.mark or 0)
    assert not low.worse and not same.worse and high.worse
    assert ratio_bars([math.nan]) == [None] and ratio_bars([math.inf]) != [None]
    assert [b.share if b else None for b in share_bars([4.0, 1.0, None, math.nan])] == [1, 0.25, None, None]
    assert share_bars([0.0, 0.0]) == [None, None] and share_bars([]) == []


def test_one_line() -> None:
    assert one_line("a\nb\t c") == "a b c"
