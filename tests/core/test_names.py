from __future__ import annotations

import pytest

from fewbit.core.names import longest

KNOWN = {"conv", "conv1", "conv1_1", "conv10", "layer1/conv", "layer1/conv_2", "x"}


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("conv1", "conv1"),
        ("conv1_nchwc", "conv1"),
        ("conv1_token_1", "conv1"),
        ("conv1_1_token_3", "conv1_1"),
        ("conv1/WithoutBiases", "conv1"),
        ("conv10_nchwc", "conv10"),
        ("conv12", None),
        ("layer1/conv_2_quant", "layer1/conv_2"),
        ("layer1/conv_3", "layer1/conv"),
        ("ReorderOutput_token_5", None),
        ("xavier", None),
        ("", None),
    ],
)
def test_the_longest_name_that_ends_at_a_word_wins(name: str, found: str | None) -> None:
    assert longest(name, KNOWN) == found
