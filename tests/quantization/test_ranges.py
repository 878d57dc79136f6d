"""Ranges of activations: the best share for those who read them, and only where it helps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewbit.core.params import params_from_range
from fewbit.core.plan import Plan
from fewbit.core.spec import QuantSpec
from fewbit.graph.model import Model, const
from fewbit.quantization.ranges import SHARES, refine, rounding_error, search_ranges, worst_ranges
from fewbit.quantization.trial import Score
from tests.graph.nets import net
from tests.models import concat, load, plan_for
from tests.quantization.nets import Batch
from tests.quantization.test_smooth import open_runner

SPECS = [QuantSpec(b, signed=s, symmetric=y) for b in (1, 2, 4, 8, 16) for s in (True, False) for y in (True, False)]


@given(st.sampled_from(SPECS), st.floats(-3, 0), st.floats(0.01, 3), st.integers(0, 99))
def test_the_error_of_rounding_is_that_of_the_arithmetic(spec: QuantSpec, lo: float, hi: float, seed: int) -> None:
    x = np.random.default_rng(seed).uniform(-4, 4, 200).astype(np.float32)
    kept = x.copy()
    params = params_from_range(spec, lo, hi)
    np.testing.assert_allclose(rounding_error(params, x), params.fake(x) - x, atol=1e-5)
    np.testing.assert_array_equal(x, kept)


# -- the search ------------------------------------------------------------------------------------------------------


def gemm(w: Any) -> Model:
    return net(f"(float[N,8] x) => (float[N,{w.shape[1]}] y) {{ y = Gemm(x, w) }}", w=w)


def batches(x: Any, size: int = 16) -> list[Batch]:
    return [Batch({"x": part}, i) for i, part in enumerate(np.split(x, range(size, len(x), size)))]


def calibrated(model: Model, data: list[Batch]) -> Plan:
    return plan_for(model, [b.feeds for b in data])


def shares(before: Plan, after: Plan) -> dict[str, float]:
    return {k: round(after.values[k].hi / v.hi, 6) for k, v in before.values.items() if v.calibrated and v.hi}  # type: ignore[operator]


def outlier(factor: float = 40.0) -> tuple[Model, list[Batch]]:
    """One input channel is much larger than the others, and no weight reads it."""
    rng = np.random.default_rng(0)
    w, x = rng.standard_normal((8, 5)).astype(np.float32), rng.standard_normal((64, 8)).astype(np.float32)
    w[2], x[:, 2] = 0, factor * x[:, 2]
    return gemm(w), batches(x)


def test_what_no_weight_reads_needs_no_integers() -> None:
    model, data = outlier()
    plan = calibrated(model, data)
    found = search_ranges(model, plan, data, open_runner)
    assert shares(plan, found)["x"] == SHARES[-1]
    assert plan.values["w"] == found.values["w"] and plan.nodes == found.nodes


def test_a_range_that_is_used_to_its_ends_stays() -> None:
    rng = np.random.default_rng(0)
    model, data = gemm(np.eye(8, dtype=np.float32)), batches(rng.choice([-1, 0.5, 1], (64, 8)).astype(np.float32))
    plan = calibrated(model, data)
    assert search_ranges(model, plan, data, open_runner) == plan


def best_share(plan: Plan, x: Any, read: Any) -> float:
    """The share whose error, as the readers of x see it, varies least."""
    v, errors = plan.values["x"], []
    for share in SHARES:
        params = params_from_range(v.spec, v.lo * share, v.hi * share)  # type: ignore[operator]
        errors.append(read(params.fake(x) - x).mean())
    return SHARES[int(np.argmin(errors))]


def test_the_share_is_the_best_of_all() -> None:
    rng = np.random.default_rng(1)
    w, x = rng.standard_normal((8, 5)).astype(np.float32), rng.standard_t(2, (96, 8)).astype(np.float32)
    model, data = gemm(w), batches(x)
    plan = plan_for(model, [b.feeds for b in data], bit_num=4)
    best = best_share(plan, x, lambda e: (e @ w).var(0))
    assert best < 1 and shares(plan, search_ranges(model, plan, data, open_runner))["x"] == pytest.approx(best)


@pytest.mark.parametrize("top", [4, 30, 1000])
def test_what_other_operators_read_counts_by_itself(top: float) -> None:
    x = np.random.default_rng(2).standard_normal((64, 8)).astype(np.float32)
    x[5, 3] = top
    model, data = net("(float[N,8] x) => (float[N,8] y) { y = Add(x, c) }", c=np.zeros(8, np.float32)), batches(x)
    plan = plan_for(model, [b.feeds for b in data], bit_num=3)
    best = best_share(plan, x, lambda e: e.var())
    found = shares(plan, search_ranges(model, plan, data, open_runner))
    assert (best == 1) == (top == 1000) and found == {"x": pytest.approx(best), "y": pytest.approx(best)}


def test_values_of_a_group_keep_one_range() -> None:
    model = load(concat())
    data = [Batch({"x": np.random.default_rng(i).standard_t(2, (1, 3, 4, 4)).astype(np.float32)}, i) for i in range(8)]
    plan = plan_for(model, [b.feeds for b in data], bit_num=4)
    found = search_ranges(model, plan, data, open_runner)
    assert found != plan and len({(found.values[n].lo, found.values[n].hi) for n in "aby"}) == 1


def test_values_without_signal_and_constants_are_left_alone() -> None:
    model = net("(float[N,8] x) => (float[N,8] y) { y = Add(x, c) }", c=np.arange(8, dtype=np.float32))
    data = batches(np.zeros((4, 8), np.float32))
    plan = calibrated(model, data)
    found = search_ranges(model, plan, data, open_runner)
    assert found.values["x"] == plan.values["x"] and found.values["c"] == plan.values["c"]
    assert "c" not in worst_ranges(model, plan, data, open_runner)


def test_nothing_is_kept_for_values_that_have_no_range() -> None:
    model, data = outlier()
    plan = calibrated(model, data)
    bare = replace(plan, values={k: replace(v, lo=None, hi=None) for k, v in plan.values.items()})
    assert search_ranges(model, bare, data, open_runner) == bare


def test_data_and_network_are_left_as_they_were() -> None:
    model, data = outlier()
    digest, kept = model.digest(), [b.feeds["x"].copy() for b in data]
    search_ranges(model, calibrated(model, data), data, open_runner)
    assert model.digest() == digest
    for b, x in zip(data, kept, strict=True):
        np.testing.assert_array_equal(b.feeds["x"], x)


# -- the worst, and the whole network --------------------------------------------------------------------------------


def test_the_worst_come_first() -> None:
    rng = np.random.default_rng(3)
    w, u = rng.standard_normal((2, 8, 8)).astype(np.float32)
    model = net(
        "(float[N,8] x, float[N,8] z) => (float[N,8] y, float[N,8] v) { y = Gemm(x, w) v = Gemm(z, u) }", w=w, u=u
    )
    feeds = {"x": rng.standard_normal((32, 8)).astype(np.float32), "z": rng.standard_t(1.5, (32, 8)).astype(np.float32)}
    data = [Batch(feeds, 0)]
    order = worst_ranges(model, calibrated(model, data), data, open_runner)
    assert order.index("z") < order.index("x") and set(order) == {"x", "z", "y", "v"}
    layer = const(model.value("w"))
    assert layer is not None and np.array_equal(layer, w)


def test_the_whole_network_decides_about_each_in_turn() -> None:
    model, data = outlier()
    plan = calibrated(model, data)
    top = plan.values["x"].hi
    assert top is not None
    asked: list[float] = []

    def judge(p: Plan) -> Score:
        asked.append(round((p.values["x"].hi or 0.0) / top, 2))
        return Score(10 * asked[-1])

    found = refine(plan, judge, ["x", "y"], lambda: False)
    assert shares(plan, found) == {"x": 1.18, "y": 1.0}
    assert asked == [1.0, 0.85, 1.18, 1.18, 1.18]


def test_what_helps_nobody_changes_nothing_and_time_ends_it() -> None:
    model, data = outlier()
    plan = calibrated(model, data)
    assert refine(plan, lambda p: Score(1.0 + 0.05 * (p is not plan)), ["x", "y"], lambda: False) is plan  # by chance
    assert refine(plan, lambda p: Score(9.0 * (p is not plan)), ["x", "y"], lambda: True) is plan
