from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fewbit.core.runner import Feeds
from fewbit.core.timing import SLICE
from fewbit.errors import ConfigError, UnknownName, UsageError
from fewbit.report.benchmark import LEAST_ROUNDS, Benchmark, Timing, benchmark
from tests.report.helpers import Fake, golden

FEEDS = {1: {"x": np.zeros((1, 2), np.float32)}}


class Clock:
    """A clock that only runners move; it also notes who ran."""

    def __init__(self) -> None:
        self.now = 0.0
        self.ran: list[str] = []

    def __call__(self) -> float:
        return self.now

    def runner(self, name: str, seconds: Callable[[float, Feeds], float]) -> Fake:
        def run(feeds: Feeds) -> dict[str, Any]:
            self.ran.append(name)
            self.now += seconds(self.now, feeds)
            return {}

        return Fake(run)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def steady(seconds: float) -> Callable[[float, Feeds], float]:
    return lambda now, feeds: seconds


def test_medians_ratio_and_throughput(clock: Clock) -> None:
    runners = {"float": clock.runner("a", steady(0.04)), "int8": clock.runner("b", steady(0.01))}
    found = benchmark(runners, {4: FEEDS[1]}, clock=clock)
    t = found.timing("int8")
    assert (t.ms, t.ms_low, t.ms_high) == pytest.approx((10, 10, 10)) and t.throughput == pytest.approx(400)
    assert found.ratio("int8") == pytest.approx(0.25) and found.ratio("float") == 1
    assert t.runs == 2 and found.timing("float").runs == 1


def test_a_drift_of_the_machine_does_not_reach_the_ratio(clock: Clock) -> None:
    def drifting(base: float) -> Callable[[float, Feeds], float]:
        return lambda now, feeds: base * (1 + now)

    runners = {"float": clock.runner("a", drifting(0.02)), "int8": clock.runner("b", drifting(0.01))}
    found = benchmark(runners, FEEDS, rounds=30, warmup=0, clock=clock)
    t = found.timing("int8")
    assert t.ms_high / t.ms_low > 1.5
    assert found.ratio("int8") == pytest.approx(0.5, rel=0.03)


def test_a_slow_phase_of_one_round_does_not_reach_the_median(clock: Clock) -> None:
    runners = {
        "float": clock.runner("a", lambda now, feeds: 0.03 if now < 1 else 0.3 if now < 1.5 else 0.03),
        "int8": clock.runner("b", steady(0.03)),
    }
    assert benchmark(runners, FEEDS, rounds=40, clock=clock).ratio("int8") == pytest.approx(1)


def test_rounds_alternate_their_order_after_the_warm_up(clock: Clock) -> None:
    runners = {"float": clock.runner("a", steady(0.04)), "int8": clock.runner("b", steady(0.04))}
    benchmark(runners, FEEDS, warmup=2, rounds=3, clock=clock)
    assert "".join(clock.ran) == "aaa" + "bbb" + "ab" + "ba" + "ab"


def test_slices_are_long_enough_to_be_timed(clock: Clock) -> None:
    benchmark({"tiny": clock.runner("a", steady(1e-4))}, FEEDS, warmup=0, rounds=1, clock=clock)
    assert len(clock.ran) == 1 + round(SLICE / 1e-4)


@pytest.mark.parametrize(("seconds", "rounds"), [(0.01, LEAST_ROUNDS), (1.0, 25)])
def test_rounds_go_on_for_the_time_wanted(clock: Clock, seconds: float, rounds: int) -> None:
    runners = {"float": clock.runner("a", steady(0.04)), "int8": clock.runner("b", steady(0.04))}
    assert benchmark(runners, FEEDS, min_time=seconds, clock=clock).timing("int8").rounds == rounds


@pytest.mark.parametrize(("runs", "rounds"), [(100, 25), (20, 7), (3, 3)])
def test_as_many_runs_as_asked(clock: Clock, runs: int, rounds: int) -> None:
    runners = {"float": clock.runner("a", steady(0.04)), "int8": clock.runner("b", steady(0.006))}
    found = benchmark(runners, FEEDS, warmup=0, num_inference_batches=runs, clock=clock)
    assert clock.ran.count("a") == clock.ran.count("b") == runs + 1  # one to see how long it takes
    assert {t.rounds for t in found.timings} == {rounds} and found.ratio("int8") == pytest.approx(0.15)


def test_each_batch_size_is_measured_on_its_own(clock: Clock) -> None:
    feeds = {n: {"x": np.zeros((n, 2), np.float32)} for n in (1, 8)}
    runners = {
        "float": clock.runner("a", lambda now, f: 0.02 * len(f["x"])),
        "int8": clock.runner("b", lambda now, f: 0.01 + 0.005 * len(f["x"])),
    }
    found = benchmark(runners, feeds, rounds=3, clock=clock)
    assert [(t.name, t.batch) for t in found.timings] == [("float", 1), ("int8", 1), ("float", 8), ("int8", 8)]
    assert found.ratio("int8") == pytest.approx(0.75) and found.ratio("int8", 8) == pytest.approx(0.05 / 0.16)


def test_the_network_measured_against_can_be_named(clock: Clock) -> None:
    runners = {"float": clock.runner("a", steady(0.04)), "int8": clock.runner("b", steady(0.01))}
    assert benchmark(runners, FEEDS, against="int8", rounds=2, clock=clock).ratio("float") == pytest.approx(4)
    with pytest.raises(UnknownName, match="unknown network 'int'; did you mean 'int8'"):
        benchmark(runners, FEEDS, against="int", clock=clock)


@pytest.mark.parametrize(
    ("words", "text"),
    [({"warmup": -1}, "warmup is -1"), ({"rounds": 0}, "rounds is 0"), ({"min_time": 0.0}, "min_time is 0.0"),
     ({"min_time": float("nan")}, "min_time is nan"), ({"num_inference_batches": 0}, "num_inference_batches is 0")],
)  # fmt: skip
def test_numbers_out_of_range_are_refused(clock: Clock, words: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        benchmark({"a": clock.runner("a", steady(1))}, FEEDS, clock=clock, **words)


def test_nothing_to_measure_is_refused(clock: Clock) -> None:
    with pytest.raises(UsageError, match="at least one network and one batch size"):
        benchmark({}, FEEDS)
    with pytest.raises(UsageError, match="at least one network and one batch size"):
        benchmark({"a": clock.runner("a", steady(1))}, {})


TOLD = Benchmark(
    (
        Timing("float", 1, 30.1234, 30.0, 30.5, 33.197, 1.0, 1.0, 1.0, 9, 1),
        Timing("int8", 1, 10.1, 10.0, 10.4, 99.0, 0.3353, 0.33, 0.34, 9, 2),
    ),
    "float",
    "onnxruntime, 1 thread",
)


def test_text() -> None:
    golden("benchmark", TOLD.text())


def test_json() -> None:
    found = json.loads(json.dumps(TOLD.to_json(), allow_nan=False))
    assert found["timings"][1]["ratio"] == 0.3353 and found["against"] == "float"


def test_what_was_not_measured_is_refused() -> None:
    with pytest.raises(ConfigError, match="batch size 7 was not measured; there are 1"):
        TOLD.ratio("int8", 7)
    with pytest.raises(UnknownName, match="unknown network 'int9'"):
        TOLD.ratio("int9")
