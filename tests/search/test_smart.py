"""The search, on runners whose times are written down: each form costs what its table says, on a clock of its own."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fewbit.config import QuantConfig, said
from fewbit.core.plan import Plan
from fewbit.core.runner import NodeTime
from fewbit.errors import EngineError, FewbitWarning
from fewbit.graph.emit import emit_qdq
from fewbit.quantization.plan import make_plan
from fewbit.search.smart import Measured, measure
from tests.quantization.nets import TOY, net

SMART = QuantConfig(target="toy")
FEEDS = {"x": np.zeros((2, 4, 8, 8), np.float32)}
A, B, S, C, D = "Conv:a", "Conv:b", "Sigmoid:s", "Conv:c", "Conv:y"

MODEL = net(
    """
    a = Conv (x, w1)
    r = Relu (a)
    b = Conv (r, w2)
    s = Sigmoid (b)
    c = Conv (s, w3)
    e = Exp (c)
    y = Conv (e, w4)
    """,
    w1=(4, 4, 1, 1),
    w2=(4, 4, 1, 1),
    w3=(4, 4, 1, 1),
    w4=(4, 4, 1, 1),
)
"""TOY makes a and b integer, and c, and y; it refuses s; Exp is float."""


@dataclass
class World:
    """An engine with a clock: what layers cost in float and in integers, in microseconds.

    Args:
        costs: layer → (float, integer). border: one conversion between float and integer.
        noise: relative, of each run. load: seconds to load a form. refuses: whether the engine refuses a plan.
    """

    costs: dict[str, tuple[float, float]]
    border: float = 5.0
    noise: float = 0.0
    load: float = 0.05
    seed: int = 0
    refuses: Callable[[set[str]], bool] = lambda integer: False
    time: float = 100.0
    loaded: int = 0
    rng: Any = field(init=False)

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)

    def now(self) -> float:
        """Seconds."""
        return self.time

    def open(self, form: Any, factor: float = 1.0) -> Fake:
        """Load a form: the plan that stands for it, or the float network."""
        self.loaded += 1
        self.time += self.load
        integer = {k for k, n in form.nodes.items() if n.quantized} if isinstance(form, Plan) else set()
        if self.refuses(integer):
            raise EngineError("the engine refuses the model: too odd")
        return Fake(self, integer, factor)


@dataclass
class Fake:
    """One form in that engine."""

    world: World
    integer: set[str]
    factor: float

    def __post_init__(self) -> None:
        self.seconds = sum(t.us for t in self.profile({})) * self.factor * 1e-6

    def run(self, feeds: Any) -> dict[str, Any]:
        """Let the time pass that a run takes."""
        self.world.time += self.seconds * (math.exp(self.world.rng.gauss(0, self.world.noise)))
        return {}

    def profile(self, feeds: Any, repeat: int = 10) -> list[NodeTime]:
        """Layers, and conversions where float meets integer, named as an engine would."""
        found = []
        for node in MODEL.nodes:
            name, value = str(node.name), str(node.outputs[0].name)
            before = node.inputs[0].producer()
            inside = before is not None and before.name in self.integer
            if name in self.integer and not inside:
                found.append(NodeTime(f"{node.inputs[0].name}_q", "QuantizeLinear", "f32", self.world.border))
            if name not in self.integer and inside:
                made = str(node.inputs[0].name)
                found.append(NodeTime(f"{made}_dq", "DequantizeLinear", "u8", self.world.border))
            cost = self.world.costs.get(name, (1.0, 1.0))
            found.append(NodeTime(f"{value}_nchwc", node.op_type, "f32", cost[name in self.integer]))
        return found

    def executed(self) -> list[Any]:
        """Not asked for."""
        return []


def full_plan() -> Plan:
    plan = make_plan(MODEL, QuantConfig(quantize_mode="full", target="toy"), TOY)
    return plan.with_ranges(dict.fromkeys(plan.observed().values(), (0.0, 1.0)))


def search(world: World, **more: Any) -> Measured:
    words: dict[str, Any] = {"emit": lambda plan: plan, "engine": "fake 1, 1 thread", "open": world.open}
    words |= {"clock": world.now, "now": world.now} | more
    return measure(MODEL, full_plan(), SMART, TOY, words.pop("open"), FEEDS, **words)


def integer(found: Measured) -> set[str]:
    return {k for k, n in found.plan.nodes.items() if n.quantized}


FAST = {A: (100.0, 30.0), B: (100.0, 30.0), S: (10.0, 40.0), C: (100.0, 30.0), D: (100.0, 30.0)}
"""The table is right: convolutions pay, the sigmoid does not."""


def test_the_choice_of_the_table_stands_where_it_is_right() -> None:
    found = search(World(FAST))
    assert integer(found) == {A, "Relu:r", B, C, D}
    assert found.ratio == pytest.approx((4 * 30 + 10 + 1 + 1 + 5 * 5) / (4 * 100 + 10 + 1 + 1), rel=0.01)
    assert "0.38 (0.38–0.38) of float in fake 1, 1 thread, measured on this machine" in found.note
    assert found.plan.nodes[A].reason == "core operator; its island of 2 runs at 0.35 of float time here (measured)"
    assert found.plan.nodes[S].reason == "would run at 1.70 of its float time (measured)"


def test_an_island_that_costs_is_dropped() -> None:
    found = search(World(FAST | {A: (100.0, 90.0), B: (100.0, 140.0)}))
    assert integer(found) == {C, D}
    assert (
        found.plan.nodes[A].reason.startswith("the network runs at 0.") and "(measured on" in found.plan.nodes[A].reason
    )
    assert found.plan.nodes["Relu:r"].reason == f"follows {A}, which stays float"
    (step,) = [t for t in found.tried if t.kept and t.against == "the best so far"]
    assert step.ratio < 1 and step.layers == 2


def test_borders_count_for_the_island_that_they_belong_to() -> None:
    """Each convolution alone is a little faster in integers, but not by as much as conversions cost."""
    found = search(World(FAST | {D: (100.0, 96.0)}, border=20.0))
    assert D not in integer(found) and {A, B} <= integer(found)


def test_one_layer_inside_of_an_island_is_dropped() -> None:
    found = search(World(FAST | {B: (100.0, 150.0)}))
    assert integer(found) == {A, "Relu:r", C, D}


def test_what_the_table_refuses_is_added_where_it_pays() -> None:
    found = search(World(FAST | {S: (10.0, 12.0)}, border=30.0))
    assert S in integer(found)
    assert found.plan.nodes[S].reason.startswith("support operator; its island of 4 runs at")


def test_more_integer_layers_only_where_that_is_faster() -> None:
    """With the sigmoid integer two conversions less are needed, which is just what it costs."""
    found = search(World(FAST | {S: (10.0, 20.0)}, noise=0.02))
    assert integer(found) == {A, "Relu:r", B, C, D}


def test_nothing_pays() -> None:
    slow = {name: (100.0, 130.0) for name in (A, B, S, C, D)}
    found = search(World(slow))
    assert not integer(found)
    assert found.ratio >= 1
    assert found.note.startswith("nothing pays here, the network stays float: the best integer form runs at 1.")
    assert "of float in fake 1, 1 thread" in found.note
    assert found.plan.nodes[A].reason.startswith("nothing pays here: the best integer form of the network runs at 1.")


def test_a_gain_too_small_to_be_sure_of_is_none() -> None:
    found = search(World({name: (100.0, 100.0) for name in (A, B, C, D)}, border=-1.0))
    assert not integer(found) and 0.98 < found.ratio < 1
    assert found.note.startswith("nothing pays for sure here, the network stays float")


@pytest.mark.parametrize("seed", range(6))
def test_noise_does_not_flip_decisions(seed: int) -> None:
    """Runs vary by 20 %; an island that makes no difference stays, one that costs goes, and float stays float."""
    equal = World(FAST | {D: (100.0, 90.0)}, noise=0.2, seed=seed)
    assert {A, "Relu:r", B, C, D} == integer(search(equal))
    costly = World(FAST | {D: (100.0, 190.0)}, noise=0.2, seed=seed)
    assert integer(search(costly)) == {A, "Relu:r", B, C}
    nothing = World({name: (100.0, 100.0) for name in (A, B, C, D)}, border=0.5, noise=0.2, seed=seed)
    assert not integer(search(nothing))


def test_the_fastest_float_form_is_the_one_to_beat() -> None:
    world = World(FAST)

    def quick(model: Any) -> Fake:
        return world.open(model, 0.3)

    found = search(world, baselines={"float (f32)": world.open, "float (bf16)": quick})
    assert not integer(found)
    assert "of float (bf16) in fake" in found.note
    assert {t.against for t in found.tried} <= {"float (bf16)", "the best so far"}


# -- the cache --------------------------------------------------------------------------------------------------------


def closed(form: Any) -> Fake:
    raise AssertionError("everything is known; nothing must be loaded")


def test_the_second_search_times_nothing(tmp_path: Path) -> None:
    cache = tmp_path / "not there yet" / "timings.json"
    first = search(World(FAST | {B: (100.0, 150.0)}, noise=0.05), cache=cache)
    again = search(World(FAST), cache=cache, open=closed)
    assert (again.plan, again.ratio, again.tried, again.note) == (first.plan, first.ratio, first.tried, first.note)


@pytest.mark.parametrize("other", [{"engine": "fake 2, 1 thread"}, {"cache": None}])
def test_other_circumstances_are_timed_anew(other: dict[str, Any], tmp_path: Path) -> None:
    world = World(FAST)
    search(world, cache=tmp_path / "timings.json")
    before = world.loaded
    search(world, **{"cache": tmp_path / "timings.json"} | other)
    assert world.loaded > before


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"fewbit_timings": 1, "networks": {"a": 1}}', "\xff"])
def test_a_damaged_cache_is_written_anew(text: str, tmp_path: Path) -> None:
    cache = tmp_path / "timings.json"
    cache.write_text(text, "latin-1")
    search(World(FAST), cache=cache)
    assert len(json.loads(cache.read_text("utf-8"))["networks"]) == 1
    search(World(FAST), cache=cache, open=closed)


def test_a_cache_that_cannot_be_written_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.warns(FewbitWarning, match="timings are not kept for the next time"):
        found = search(World(FAST), cache=tmp_path / "file" / "timings.json")
    assert found.ratio < 1


# -- time limits, engines that refuse ---------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0.0, 0.3, 1.5, 3.0, 6.0, 20.0])
def test_the_deadline_is_kept(seconds: float) -> None:
    world = World({name: (us * 400, them * 400) for name, (us, them) in FAST.items()} | {B: (40e3, 60e3)})
    end = world.time + seconds
    found = search(world, deadline=end)
    assert world.time <= end + 0.5
    if found.tried:
        assert found.ratio < 1 and C in integer(found)
    else:
        assert integer(found) == {A, "Relu:r", B, C, D}
        assert found.note.startswith("the time limit came before anything was timed")


def test_what_was_found_by_the_deadline_counts() -> None:
    world = World(FAST | {B: (100.0, 150.0)})
    free = search(World(FAST | {B: (100.0, 150.0)}))
    cut = search(world, deadline=world.time + 4.0)
    assert 2 <= len(cut.tried) < len(free.tried)
    assert cut.ratio <= 0.8


def test_a_form_that_the_engine_refuses_is_out() -> None:
    found = search(World(FAST, refuses=lambda integer: S in integer))
    assert integer(found) == {A, "Relu:r", B, C, D}
    assert [t.ratio for t in found.tried if t.what == "all legal layers"] == [float("inf")]


def test_an_engine_that_refuses_all_leaves_float() -> None:
    found = search(World(FAST, refuses=bool))
    assert not integer(found)
    assert "the best integer form runs not at all: the engine refuses it" in found.note


def test_a_refused_float_network_is_an_error() -> None:
    with pytest.raises(EngineError, match="too odd"):
        search(World(FAST, refuses=lambda integer: not integer))


# -- the result -------------------------------------------------------------------------------------------------------


def test_the_plan_is_ready_to_use() -> None:
    found = search(World(FAST | {B: (100.0, 150.0)}))
    assert found.plan.calibrated and found.plan.config == said(SMART)
    ops = emit_qdq(MODEL, found.plan).op_counts()
    assert ops["QuantizeLinear"] == 6  # in front of and behind a, c and y


def test_a_network_without_legal_layers() -> None:
    plan = make_plan(MODEL, SMART, TOY, dict.fromkeys((A, B, C, D, S, "Relu:r"), "kept"))
    found = measure(MODEL, plan, SMART, TOY, closed, FEEDS, emit=lambda plan: plan, engine="fake")  # type: ignore
    assert not integer(found) and found.tried == ()
    assert found.note == "nothing to measure: no layer may be integer here"


def test_progress_tells_what_comes_next() -> None:
    told: list[tuple[int, str]] = []
    found = search(World(FAST), progress=lambda done, what: told.append((done, what)))
    assert told[0] == (0, "all legal layers and the table's choice")
    assert told[-1] == (len(found.tried), "the result against float")
