"""Processes pinned to cores: they run what they are told, together, and end with the block whatever happens."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager

import numpy as np
import pytest

from fewbit.core.instances import Stint
from fewbit.core.runner import Feeds
from fewbit.engines.instances import Instances, started, usable_cores
from fewbit.errors import EngineError, UsageError
from fewbit.graph.files import from_proto
from tests.engines.graphs import proto

pytestmark = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="processes cannot choose their cores here")
FEEDS = {2: {"x": np.ones((2, 3, 8, 8), np.float32)}}


def alone(feeds: Mapping[int, Feeds]) -> AbstractContextManager[Instances]:
    """One instance of one network `a`."""
    return started({"a": from_proto(proto("conv"))}, feeds, "onnxruntime", ((usable_cores()[0],),))


def affinity(group: Instances) -> list[set[int]]:
    return [os.sched_getaffinity(child.pid) for child in group.children]


def gone(pids: list[int]) -> bool:
    """Whether all these processes have ended."""
    for pid in pids:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            continue
        return False
    return True


def test_instances_run_on_their_cores_and_end() -> None:
    model, core = from_proto(proto("conv")), usable_cores()
    shares = ((core[0],), (core[-1],))
    with started({"a": model, "b": model}, FEEDS, "onnxruntime", shares) as group:
        pids = [child.pid for child in group.children]
        assert affinity(group) == [{core[0]}, {core[-1]}]
        found = group.together("a", 2, 5, 0.0)
        assert [s.runs for s in found] == [5, 5] and all(isinstance(s, Stint) and s.seconds > 0 for s in found)
        timed = group.together("b", 2, 0, 0.05)
        assert all(s.seconds >= 0.05 and s.runs > 1 and 0 < s.ms < 50 for s in timed)
        start = time.monotonic()
        assert [s.runs for s in group.together("a", 2, 1, 0.0)] == [1, 1] and time.monotonic() - start < 5
    assert gone(pids)


def test_an_engine_that_refuses_is_told() -> None:
    model = from_proto(proto("conv"))
    with (
        pytest.raises(EngineError, match="unknown engine 'onnxruntim'; did you mean 'onnxruntime'"),
        started({"a": model}, {}, "onnxruntim", ((usable_cores()[0],),)),
    ):
        raise AssertionError("it must not start")


def test_feeds_that_do_not_fit_are_told_and_all_end() -> None:
    model, core = from_proto(proto("conv")), usable_cores()[0]
    pids: list[int] = []
    with (
        pytest.raises(EngineError, match="there is no array for input"),
        started({"a": model}, {1: {}}, "onnxruntime", ((core,), (core,))) as group,
    ):
        pids += [child.pid for child in group.children]
        group.together("a", 1, 1, 0.0)
    assert pids and gone(pids)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_instances_end_with_whatever_ends_the_block(error: type[BaseException]) -> None:
    pids: list[int] = []
    with pytest.raises(error), alone({}) as group:
        pids += [child.pid for child in group.children]
        raise error
    assert pids and gone(pids)


def test_an_instance_that_dies_is_told() -> None:
    with pytest.raises(EngineError, match="instance 1 of 1 died with code -9: no word"), alone(FEEDS) as group:
        group.children[0].send_signal(signal.SIGKILL)
        group.children[0].wait()
        group.together("a", 2, 1, 0.0)


def test_a_bug_in_an_instance_is_told_by_its_last_line() -> None:
    with pytest.raises(EngineError, match="instance 1 of 1 died with code 1: KeyError: 'b'"), alone(FEEDS) as group:
        group.together("b", 2, 1, 0.0)


def test_instances_outlive_ctrl_c_and_end_with_their_pipe() -> None:
    with alone({}) as group:
        child = group.children[0]
        child.send_signal(signal.SIGINT)  # the terminal sends it to all; the parent decides
        time.sleep(0.1)
        assert child.poll() is None
        assert child.stdin is not None
        child.stdin.close()  # as when the parent is killed
        assert child.wait(10) == 0


def test_systems_without_pinning_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_setaffinity")
    with pytest.raises(UsageError, match=r"instances are pinned to cores, which .* does not let a process do"):
        usable_cores()
