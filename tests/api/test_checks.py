from __future__ import annotations

import numpy as np
import pytest

from fewbit.api.checks import Check, compared
from fewbit.core.plan import NodePlan, Plan, ValuePlan
from fewbit.core.spec import QuantSpec


def plan(bits: int) -> Plan:
    """One activation of so many bits; the output is float."""
    value = ValuePlan(QuantSpec(bits, signed=False, symmetric=False), "act", "x", lo=0.0, hi=1.0)
    return Plan(values={"x": value}, nodes={"conv": NodePlan(True, "")})


def check(bits: int, samples: int, off: dict[int, float]) -> Check:
    """Outputs between 0 and 255, so that a step is 1; `off`: sample → how far one of its ten outputs lies off."""
    a = np.tile(np.linspace(0, 255, 10, dtype=np.float32), (samples, 1))
    b = a.copy()
    for i, steps in off.items():
        b[i, 3] += steps
    return compared(["y"], [a], {"y": b}, plan(bits), "engine")


@pytest.mark.parametrize(
    ("bits", "samples", "off", "equal"),
    [
        (8, 64, {}, True),
        (8, 64, {5: 1.0}, True),
        (8, 64, {5: 1.1}, False),
        (8, 32, {5: 1.0}, False),  # one output of 320 is more than a thousandth, and too few samples to speak of strays
        (8, 200, {5: 1.0, 6: 0.9, 7: -1.0}, True),
        (4, 64, {5: 16.9}, True),  # one level of 4 bits
        (4, 64, {5: 17.1}, False),
        (4, 64, {5: 5.0, 6: 5.0}, False),  # two of 64
        (4, 200, {5: 5.0, 6: 5.0}, True),
        (2, 64, {5: 84.0}, True),
        (4, 1, {0: 5.0}, False),
        (4, 64, {i: 0.4 for i in range(64)}, True),  # less than half a step
    ],
)
def test_what_counts_as_equal(bits: int, samples: int, off: dict[int, float], equal: bool) -> None:
    found = check(bits, samples, off)
    assert found.equal == equal and found.samples == samples
    assert found.stray == sum(abs(v) >= 0.5 for v in off.values())


def test_the_samples_are_told() -> None:
    assert "by 5 steps at most, in 1 of 64 samples" in str(check(4, 64, {7: 5.0}))


def test_outputs_without_samples_count_for_all() -> None:
    a, b = np.zeros((50, 4), np.float32), np.float32([1.0, 3.0])
    found = compared(["y", "z"], [a, b], {"y": a, "z": b + 1}, plan(8), "engine")
    assert found.samples == 2  # the smaller of both first axes
    found = compared(["y", "z"], [a, np.float32(1.0)], {"y": a, "z": np.float32(2.0)}, plan(8), "engine")
    assert found.stray == found.samples == 50
