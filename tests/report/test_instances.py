from __future__ import annotations

import json
from collections.abc import Sequence

import pytest

from fewbit.core.instances import Stint
from fewbit.errors import ConfigError
from fewbit.report.benchmark import LEAST_ROUNDS, shares
from fewbit.report.instances import InstanceBenchmark, InstanceTiming, NetworkTiming, benchmark_instances
from tests.report.helpers import golden

CORES = ((0, 1), (2, 3))


class Group:
    """Instances that take a known time: the second is half as fast; `slow`: phase of the machine that hits both."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int, int, float]] = []
        self.slow = 1.0

    def together(self, network: str, batch: int, runs: int, seconds: float) -> Sequence[Stint]:
        self.asked.append((network, batch, runs, seconds))
        each = {"float": 0.04, "int8": 0.01}[network] * batch * self.slow
        return [self.stint(each, runs, seconds), self.stint(2 * each, runs, seconds)]

    @staticmethod
    def stint(each: float, runs: int, seconds: float) -> Stint:
        count = runs or max(1, round(seconds / each))
        return Stint(count, count * each, each * 1e3)


def test_throughput_of_each_and_of_all() -> None:
    found = benchmark_instances(Group().together, ["float", "int8"], [1, 2], CORES, warmup=0, min_time=7.0)
    assert [(t.name, t.batch) for t in found.timings] == [("float", 1), ("int8", 1), ("float", 2), ("int8", 2)]
    one = found.timings[1]
    assert [i.throughput for i in one.instances] == pytest.approx([100, 50]) and one.throughput == pytest.approx(150)
    assert [i.ms for i in one.instances] == pytest.approx([10, 20]) and one.ms == pytest.approx(15)
    assert [i.cores for i in one.instances] == list(CORES) and one.rounds == LEAST_ROUNDS
    assert one.ratio == pytest.approx(0.25) and found.timings[0].ratio == 1


def test_networks_take_turns_and_warm_up() -> None:
    group = Group()
    benchmark_instances(group.together, ["float", "int8"], [1], CORES, warmup=3, min_time=0.7)
    assert group.asked[:2] == [("float", 1, 3, 0.0), ("int8", 1, 3, 0.0)]
    names = [name for name, *_ in group.asked[2:]]
    assert names == ["float", "int8", "int8", "float"] * 3 + ["float", "int8"]
    assert {(runs, round(seconds, 9)) for _, _, runs, seconds in group.asked[2:]} == {(0, 0.1)}


@pytest.mark.parametrize(("runs", "rounds"), [(30, 7), (7, 7), (3, 3), (1, 1)])
def test_as_many_runs_as_asked(runs: int, rounds: int) -> None:
    group = Group()
    words = {"warmup": 0, "min_time": 1.0, "num_inference_batches": runs}
    found = benchmark_instances(group.together, ["int8"], [1], CORES, **words)  # type: ignore[arg-type]
    assert sum(r for _, _, r, _ in group.asked) == runs and found.timings[0].rounds == rounds
    assert all(i.runs == runs for i in found.timings[0].instances)


def test_runs_are_shared_evenly() -> None:
    assert shares(10, 4) == [3, 3, 2, 2] and shares(2, 7) == [1, 1] and shares(7, 7) == [1] * 7


def test_a_slow_phase_does_not_reach_the_ratio() -> None:
    group, calls = Group(), 0
    real = group.together

    def together(*words: object) -> Sequence[Stint]:
        nonlocal calls
        calls += 1
        group.slow = 9.0 if 5 <= calls <= 8 else 1.0
        return real(*words)  # type: ignore[arg-type]

    found = benchmark_instances(together, ["float", "int8"], [1], CORES, warmup=0, min_time=7.0)
    assert found.timings[1].ratio == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("words", "said"),
    [({"warmup": -1}, "warmup is -1"), ({"min_time": 0.0}, "min_time is 0"),
     ({"num_inference_batches": 0}, "num_inference_batches is 0")],
)  # fmt: skip
def test_numbers_out_of_range_are_refused(words: dict[str, float], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        benchmark_instances(Group().together, ["int8"], [1], CORES, **({"warmup": 0, "min_time": 1.0} | words))  # type: ignore[arg-type]


TOLD = InstanceBenchmark(
    (
        NetworkTiming("float", 1, 66.0, 30.1, 30.0, 30.5, 1.0, 1.0, 1.0, 7, (
            InstanceTiming((0, 1), 33.2, 30.1, 30.0, 30.5, 33), InstanceTiming((2, 3), 32.8, 30.2, 30.0, 30.6, 32))),
        NetworkTiming("int8", 1, 198.0, 10.1, 10.0, 10.4, 0.3333, 0.33, 0.34, 7, (
            InstanceTiming((0, 2), 99.0, 10.1, 10.0, 10.4, 99), InstanceTiming((4,), 99.0, 10.1, 10.0, 10.5, 98))),
    ),
    "float",
    "onnxruntime, 2 instances of 2 cores",
)  # fmt: skip


def test_text() -> None:
    golden("instances", TOLD.text())


def test_json() -> None:
    found = json.loads(json.dumps(TOLD.to_json(), allow_nan=False))
    assert found["timings"][1]["throughput"] == 198.0 and found["timings"][1]["instances"][0]["cores"] == [0, 2]
