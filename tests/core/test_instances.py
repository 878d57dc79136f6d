from __future__ import annotations

import pytest

from fewbit.core.instances import share_cores
from fewbit.errors import ConfigError, UsageError


def test_cores_are_shared_without_overlap() -> None:
    assert share_cores(range(8), 2) == ((0, 1, 2, 3), (4, 5, 6, 7))
    assert share_cores([1, 3, 5, 7, 9], 2) == ((1, 3), (5, 7))
    assert share_cores(range(8), 3, 2) == ((0, 1), (2, 3), (4, 5))
    assert share_cores([4], 1) == ((4,),)


@pytest.mark.parametrize(
    ("available", "words", "said"),
    [
        (4, (5,), "5 instances of 1 core each need 5 cores; this process may use 4, so instances may be 4 at most"),
        (4, (2, 3), "2 instances of 3 cores each need 6 cores; this process may use 4, so instances may be 1 at most"),
        (4, (1, 5), "1 instances of 5 cores each need 5 cores; .* so cores_per_instance may be 4 at most"),
    ],
)
def test_too_few_cores_are_refused(available: int, words: tuple[int, ...], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        share_cores(range(available), *words)


@pytest.mark.parametrize(("words", "said"), [((0,), "instances is 0"), ((1, 0), "cores_per_instance is 0"),
                                             ((True,), "instances is True"), ((1.5,), "instances is 1.5")])  # fmt: skip
def test_numbers_out_of_range_are_refused(words: tuple[int, ...], said: str) -> None:
    with pytest.raises(ConfigError, match=f"{said}; it must be a whole number of 1 or more"):
        share_cores(range(4), *words)
