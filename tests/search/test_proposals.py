"""Which sets of layers are proposed, from noise alone."""

from __future__ import annotations

import math
import shlex
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewbit.cli.flags import read_overrides
from fewbit.config import QuantConfig
from fewbit.search.noise import sqnr_of
from fewbit.search.proposals import sets
from fewbit.search.ranking import Proposal

ONE_BAD = {"a": (0.9,), "b": (0.05,), "c": (0.05,)}


def test_the_layer_that_makes_most_of_the_noise_is_enough() -> None:
    assert sets(ONE_BAD, (0.1,)) == [(("a",), pytest.approx(20.0))]  # a tenth of a tenth: 10 + 10 dB


def test_noise_counted_twice_is_scaled_to_the_whole() -> None:
    doubled = {k: (2 * n,) for k, (n,) in ONE_BAD.items()}
    assert sets(doubled, (0.1,)) == [(names, pytest.approx(db)) for names, db in sets(ONE_BAD, (0.1,))]


def test_each_step_has_the_smallest_set_that_reaches_it() -> None:
    alone = {f"l{i}": (2.0**-i,) for i in range(12)}
    found = sets(alone, (0.1,))
    assert [names for names, _ in found] == [("l0",), ("l0", "l1"), ("l0", "l1", "l2", "l3")]
    assert [round(db - 10, 1) for _, db in found] == [3.0, 6.0, 12.1]


def test_noise_that_is_spread_gives_no_set() -> None:
    assert sets({f"l{i}": (1.0,) for i in range(10)}, (0.1,)) == []


def test_the_worst_output_decides() -> None:
    alone = {"a": (0.9, 0.0), "b": (0.0, 0.09), "c": (0.1, 0.01)}
    assert sets(alone, (0.001, 0.1))[0][0] == ("b",)


def test_nothing_is_proposed_where_nothing_is_wrong_or_nothing_adds_up() -> None:
    assert sets(ONE_BAD, (0.0,)) == [] and sets({}, (0.1,)) == []
    assert sets({"a": (math.inf,), "b": (1.0,)}, (math.inf,)) == []


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(1e-9, 1.0), min_size=1, max_size=12), st.floats(1e-6, 1.0))
def test_sets_grow_and_stay_below_half(noises: list[float], whole: float) -> None:
    found = sets({f"l{i}": (n,) for i, n in enumerate(noises)}, (whole,))
    for (small, low), (large, high) in pairwise(found):
        assert small == large[: len(small)] and low <= high
    for names, expected in found:
        assert len(names) <= max(1, (len(noises) - 1) // 2) and expected >= sqnr_of((whole,)) + 3


def test_words_can_be_pasted() -> None:
    floats, wide = ("/a/Conv", "b [1];b"), ("layer=x,y", "z")
    found = shlex.split(Proposal(floats, (), 1.0, None, 0.0).words)
    assert found == ["--exclude-layers", "/a/Conv,b [1];b"]
    found = shlex.split(Proposal((), wide, 1.0, None, 0.0).words)
    assert read_overrides(found[1::2]) == {"layer=x,y": {"bit_num": 16}, "z": {"bit_num": 16}}
    assert QuantConfig(overrides=read_overrides(found[1::2]))


def test_a_comma_in_a_name_does_not_cut_it() -> None:
    assert Proposal(("a,b", "c"), (), 1.0, None, 0.0).words == "--exclude-layers 'a?b,c'"
