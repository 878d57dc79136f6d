"""What counts as help: figures against numpy, and the rule that samples must agree."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fewbit.core.metrics import sqnr_db
from fewbit.core.plan import Plan
from fewbit.graph.emit import emit_qdq
from fewbit.graph.model import Model
from fewbit.quantization.trial import CEILING, MARGIN, Score, Trial
from tests.graph.nets import net
from tests.models import plan_for
from tests.quantization.nets import Batch
from tests.quantization.test_smooth import open_runner

TWO = "(float[N,6] x) => (float[N,4] y, float[N,3] z) { y = Gemm(x, w) z = Gemm(x, u) }"


def two(loud: float = 1.0) -> Model:
    """Two outputs, one of them `loud` times as large."""
    return net(TWO, w=np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32) * np.float32(loud), u=(6, 3))


def held(*sizes: int) -> list[Batch]:
    rng = np.random.default_rng(5)
    return [Batch({"x": rng.standard_normal((n, 6)).astype(np.float32)}, i) for i, n in enumerate(sizes)]


def trial(model: Model, batches: list[Batch]) -> tuple[Trial, Plan]:
    plan = plan_for(model, [b.feeds for b in batches])
    return Trial(model, batches, open_runner, lambda p: emit_qdq(model, p)), plan


@pytest.mark.parametrize("loud", [1.0, 1000.0])
def test_the_figures_are_those_of_numpy(loud: float) -> None:
    model, batches = two(loud), held(3, 2, 1)
    judge, plan = trial(model, batches)
    theirs, ours = open_runner(model), open_runner(emit_qdq(model, plan))
    pairs = [(theirs.run(b.feeds), ours.run(b.feeds)) for b in batches]
    r, x = ({k: np.concatenate([p[i][k] for p in pairs]).astype(np.float64) for k in "yz"} for i in (0, 1))
    score = judge.judge(plan)
    assert judge.possible and score.sqnr == pytest.approx(min(sqnr_db(r[k], x[k]) for k in "yz"), rel=1e-6)
    # the signal is that of a batch's mean, so that batches count alike
    signal = {k: np.mean([np.square(p[0][k]).mean() for p in pairs]) for k in "yz"}
    want = sum(np.square(x[k] - r[k]).mean(1) / signal[k] for k in "yz")
    np.testing.assert_allclose(score.noise, want, rtol=1e-4)
    assert score.noise.shape == (6,)


def test_a_network_that_is_no_different_is_at_the_ceiling() -> None:
    model, batches = two(), held(2, 2)
    judge = Trial(model, batches, open_runner, lambda p: model)
    score = judge.judge(Plan({}, {}))
    assert score.sqnr == CEILING and not score.noise.any() and not score.beats(score)


def test_an_output_without_a_batch_axis_has_one_noise_a_batch() -> None:
    text = "(float[N,6] x) => (float y) { p = Gemm(x, w) y = ReduceMean<keepdims=0>(p) }"
    judge, plan = trial(net(text, w=(6, 4)), held(3, 3, 3))
    score = judge.judge(plan)
    assert len(score.noise) == 3 and len(set(score.noise)) == 3


def test_outputs_that_are_no_numbers_of_float_are_not_judged() -> None:
    model = net("(float[N,6] x) => (int64[N,1] y) { p = Gemm(x, w) y = ArgMax<axis=1>(p) }", w=(6, 4))
    judge, _ = trial(model, held(2))
    assert not judge.possible
    both = net("(float[N,6] x) => (float[N,4] p, int64[N,1] y) { p = Gemm(x, w) y = ArgMax<axis=1>(p) }", w=(6, 4))
    judge, plan = trial(both, held(2))
    assert judge.possible and judge.judge(plan).sqnr > 20


def test_nan_in_float_leaves_nothing_to_judge_by_and_in_integers_it_is_the_worst() -> None:
    model = net("(float[N,6] x) => (float[N,4] y) { p = Gemm(x, w) y = Log(p) }", w=(6, 4))
    judge, plan = trial(model, held(4))
    assert not judge.possible
    text = "(float[N,6] x) => (float[N,4] y, float[N,3] z) { y = Gemm(x, w) q = Gemm(x, u) z = Log(q) }"
    judge = Trial(two(), held(4), open_runner, lambda p: net(text, w=(6, 4), u=(6, 3)))
    assert judge.judge(plan).sqnr == -math.inf


def test_an_answer_of_another_shape_is_the_worst() -> None:
    one = net("(float[N,6] x) => (float[N,4] y) { y = Gemm(x, w) }", w=(6, 4))
    other = net("(float[N,6] x) => (float[N,5] y) { y = Gemm(x, w) }", w=(6, 5))
    score = Trial(one, held(2), open_runner, lambda p: other).judge(Plan({}, {}))
    assert score.sqnr == -math.inf and not score.noise.size


def test_without_samples_nothing_is_possible() -> None:
    assert not Trial(two(), [], open_runner, lambda p: two()).possible


# -- what is better --------------------------------------------------------------------------------------------------


def noise(*gains: float) -> Any:
    """Noise that is 1 / gain."""
    return 1 / np.array(gains, np.float64)


ONE = noise(1, 1, 1, 1)


@pytest.mark.parametrize(
    ("after", "each", "better"),
    [
        (20.5, noise(1.2, 1.1, 1.3, 1.2), True),
        (20 + MARGIN / 2, noise(1.2, 1.1, 1.3, 1.2), False),  # too little
        (19.5, noise(1.2, 1.1, 1.3, 1.2), False),
        (20.5, noise(3.0, 0.6, 0.8, 0.9), False),  # one sample alone
        (20.5, noise(0.9, 0.8, 0.9, 0.9), False),
        (20.5, noise(1, 1, 1, 1), False),
        (25.0, noise(math.inf, math.inf, 4, 4), True),  # no noise at all
        (25.0, noise(2), True),  # one sample tells nothing of chance
        (25.0, np.zeros(0), True),
        (-math.inf, np.zeros(0), False),
        (math.nan, np.zeros(0), False),
    ],
)
def test_a_gain_counts_if_the_samples_agree(after: float, each: Any, better: bool) -> None:
    assert Score(after, each).beats(Score(20.0, ONE if len(each) == 4 else ONE[: len(each)])) is better


def test_anything_is_better_than_nan_in_the_outputs() -> None:
    assert Score(-5.0, ONE).beats(Score(-math.inf))
    assert not Score(-math.inf).beats(Score(-math.inf))


def test_gains_count_by_their_mean_and_spread() -> None:
    rng = np.random.default_rng(0)
    before, after = Score(20.0, np.ones(24)), Score(21.0, np.exp(-rng.normal(0.3, 0.2, 24)))
    assert after.beats(before) and not replace(before, sqnr=21.0).beats(replace(after, sqnr=20.0))
