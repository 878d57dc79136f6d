import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewbit.config import BUDGETS
from fewbit.errors import ConfigError
from fewbit.search.expected import expected_agreement
from fewbit.search.figures import ROWS, Figures, excess, met, missing

PLAIN = Figures(sqnr=20.0, cosine=0.99, agreement=0.9, drop=0.02, latency=0.5, macs=1.0)


def test_every_budget_of_the_config_has_a_row():
    assert set(ROWS) == set(BUDGETS)


@pytest.mark.parametrize(
    ("budget", "kept", "broken", "expected"),
    [
        ("min_sqnr", 20, 30, 9),  # ten times the noise power
        ("min_cosine", 0.99, 0.995, 1),
        ("min_agreement", 0.9, 0.95, 1),
        ("max_drop", 0.02, 0.01, 1),
        ("max_latency", 0.5, 0.4, 0.25),
    ],
)
def test_a_budget_is_kept_or_exceeded_by_so_much(budget, kept, broken, expected):
    assert met(PLAIN, {budget: kept}) and excess(PLAIN, {budget: kept}) == 0 and missing(PLAIN, {budget: kept}) == []
    assert not met(PLAIN, {budget: broken}) and excess(PLAIN, {budget: broken}) == pytest.approx(expected)
    end = "least" if budget.startswith("min") else "most"
    figure = budget.removeprefix("min_").removeprefix("max_")
    assert missing(PLAIN, {budget: broken, "min_sqnr": 30 if budget == "min_sqnr" else 0}) == [
        f"{figure} is {getattr(PLAIN, figure):.4g}, {budget} asks for at {end} {broken:g}"
    ]


def test_of_several_budgets_the_worst_counts():
    assert excess(PLAIN, {"min_agreement": 0.95, "max_latency": 0.4}) == pytest.approx(1)
    assert len(missing(PLAIN, {"min_agreement": 0.95, "max_latency": 0.4, "min_sqnr": 10})) == 2


def test_no_budget_and_a_perfect_network():
    assert met(PLAIN, {}) and excess(PLAIN, {}) == 0
    perfect = Figures(math.inf, 1.0, 1.0, 0.0, None, 0.0, 40, 1.0)
    assert met(perfect, {"min_sqnr": 200, "min_cosine": 1, "min_agreement": 1, "max_drop": 0})


def test_nan_keeps_no_budget_and_is_further_away_than_anything():
    broken = replace(PLAIN, sqnr=math.nan)
    assert not met(broken, {"min_sqnr": -100}) and excess(broken, {"min_sqnr": -100}) == math.inf
    assert excess(replace(PLAIN, sqnr=-math.inf), {"min_sqnr": 30}) < math.inf


def test_a_budget_of_nothing_still_tells_near_from_far():
    near, far = (replace(PLAIN, drop=x, agreement=1 - x) for x in (0.01, 0.02))
    for wanted in ({"max_drop": 0.0}, {"min_agreement": 1.0}):
        assert 0 < excess(near, wanted) < excess(far, wanted) < math.inf


@pytest.mark.parametrize(
    ("budget", "figure", "text"),
    [
        ("min_agreement", "agreement", "min_agreement needs class scores, and no output .* use min_sqnr or min_cosine"),
        ("max_drop", "drop", "max_drop needs labels and class scores .* use min_agreement"),
        ("max_latency", "latency", "max_latency needs an engine to time networks on"),
    ],
)
def test_a_budget_about_what_was_not_measured_is_refused(budget, figure, text):
    for ask in (met, missing, excess):
        with pytest.raises(ConfigError, match=text):
            ask(replace(PLAIN, **{figure: None}), {budget: 0.5})


def test_luck_does_not_count():
    lucky = replace(PLAIN, agreement=1.0, expected=0.8, samples=100)  # one standard error is 0.04
    assert met(lucky, {"min_agreement": 0.84}) and not met(lucky, {"min_agreement": 0.85})
    assert missing(lucky, {"min_agreement": 0.95}) == [
        "agreement is 0.84 at best (that 1 were counted is luck), min_agreement asks for at least 0.95"
    ]
    unlucky = replace(PLAIN, agreement=0.9, expected=0.99, samples=100)
    assert not met(unlucky, {"min_agreement": 0.95})
    assert missing(unlucky, {"min_agreement": 0.95}) == ["agreement is 0.9, min_agreement asks for at least 0.95"]


# -- expected agreement ---------------------------------------------------------------------------------------------


def logits(samples: int, seed: int = 0):
    return np.random.default_rng(seed).standard_normal((samples, 10)).astype(np.float32)


@pytest.mark.parametrize("noise", [0.03, 0.1, 0.3])
def test_what_is_expected_of_few_samples_is_what_many_show(noise):
    rng, z = np.random.default_rng(1), logits(20000)
    y = z + noise * rng.standard_normal(z.shape)
    shown = (y.argmax(1) == z.argmax(1)).mean()
    few = [expected_agreement(z[i : i + 200], y[i : i + 200]) for i in range(0, 2000, 200)]
    assert np.mean(few) == pytest.approx(shown, abs=0.05)
    counted = [(y[i : i + 200].argmax(1) == z[i : i + 200].argmax(1)).mean() for i in range(0, 20000, 200)]
    every = [expected_agreement(z[i : i + 200], y[i : i + 200]) for i in range(0, 20000, 200)]
    assert np.std(every) < 0.7 * np.std(counted)


def test_without_noise_all_is_expected_and_broken_scores_are_expected_to_fail():
    z = logits(5)
    assert expected_agreement(z, z) == 1.0 == expected_agreement(z, z + 3)
    assert expected_agreement(z, np.full_like(z, np.nan)) == 0.0


def test_probabilities_are_judged_as_logits():
    z = logits(200).astype(np.float64)
    y = z + 0.1 * logits(200, seed=3)
    p, q = (np.exp(x) / np.exp(x).sum(1, keepdims=True) for x in (z, y))
    assert expected_agreement(p, q) == pytest.approx(expected_agreement(z, y))


@settings(max_examples=20)
@given(st.integers(2, 8), st.integers(1, 5), st.floats(0, 2))
def test_it_is_a_share(classes, samples, noise):
    z = logits(samples)[:, :classes]
    assert 0 <= expected_agreement(z, z + noise * logits(samples, seed=1)[:, :classes]) <= 1
