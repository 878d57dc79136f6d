import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewbit.config import QuantConfig, budgets
from fewbit.core.plan import Plan
from fewbit.errors import ConfigError, PlanError
from fewbit.search.budget import search
from fewbit.search.state import State, search_key
from tests.search.helpers import Bench, floats, integer

LOUD = ([1e-2, 1e-5, 1e-3, 1e-5, 1e-5, 2e-3], [100, 400, 50, 100, 300, 50])
"""Layers 0, 2 and 5 make nearly all of the noise."""


def test_a_start_that_is_good_enough_is_judged_once_and_nothing_is_ranked():
    bench = Bench(*LOUD)
    found = bench.search({"min_sqnr": 10})
    assert found.met and found.plan == bench.plan and (bench.judged, bench.ranked) == (1, 0)
    assert found.note == (
        "Budget met: 100.0 % of multiplications in integers, SQNR 18.9 dB, cosine 0.99348; no layer turned float; "
        "1 plan judged."
    )


def test_the_loud_layers_turn_float_and_say_why():
    found = Bench(*LOUD).search({"min_sqnr": 40, "min_cosine": 0.99})
    assert found.met and floats(found.plan) == ["l0", "l2", "l5"]
    assert found.figures.macs == pytest.approx(0.8)
    assert found.plan.nodes["l0"].reason == "float to meet min_sqnr 40, min_cosine 0.99; SQNR 20.0 dB on its own"
    assert "float: l0, l2, l5; " in found.note and found.plan.calibrated


def test_a_large_layer_is_traded_for_smaller_ones():
    # l1 has the most noise a multiplication behind l0, but l2 and l3 together are enough as well, and smaller
    bench = Bench([5e-3, 1e-3, 5.5e-4, 3.9e-4], [10, 100, 56, 40])
    found = bench.search({"min_sqnr": -10 * math.log10(1.01e-3)})
    assert found.met and floats(found.plan) == ["l0", "l2", "l3"]
    assert ("l0", "l1") in [t.floats for t in found.tried]


LAYERS = st.lists(st.tuples(st.floats(1e-6, 1e-1), st.integers(0, 1000)), min_size=1, max_size=9).filter(
    lambda layers: sum(m for _, m in layers) > 0
)


@settings(max_examples=15)
@given(LAYERS, st.floats(5, 60), st.floats(0, 1e-6))
def test_a_budget_that_float_meets_is_met_and_never_dearer_than_by_greed(layers, least, floor):
    bench = Bench(*zip(*layers, strict=True), floor=floor)
    wanted = {"min_sqnr": least}
    found = bench.search(wanted)
    assert found.met == (bench.figures([]).sqnr >= least)
    assert found.figures == bench.figures(integer(found.plan))
    if found.met:
        by_noise = sorted(bench.noise, key=lambda n: -bench.noise[n])
        smallest = max(1, 0.001 * sum(bench.macs.values()))
        by_density = sorted(bench.noise, key=lambda n: -bench.noise[n] / max(bench.macs[n], smallest))
        ours = bench.cost(floats(found.plan))
        assert ours <= bench.greedy(wanted, by_noise) and ours <= bench.greedy(wanted, by_density)
        for name in floats(found.plan):  # none of them could be integer
            assert bench.figures([*integer(found.plan), name]).sqnr < least


def test_few_plans_are_judged():
    noise = [10.0 ** -(3 + i % 4) for i in range(64)]
    bench = Bench(noise, [100] * 64)
    found = bench.search({"min_sqnr": -10 * math.log10(sum(sorted(noise)[:-16]) * 1.01)})
    assert found.met and len(floats(found.plan)) == 16
    assert bench.judged < 64


# -- interruption and time ------------------------------------------------------------------------------------------


class Stop(Exception):
    pass


def interrupted(bench, after):
    def judge(plan):
        if bench.judged == after:
            raise Stop
        return bench.judge(plan)

    return judge


@pytest.mark.parametrize("after", [1, 2, 4, 6])
def test_a_resumed_search_ends_the_same_and_judges_nothing_twice(tmp_path, after):
    wanted, whole = {"min_sqnr": 42}, Bench(*LOUD)
    straight = whole.search(wanted)
    bench, state, saved = Bench(*LOUD), tmp_path / "search.json", []
    with pytest.raises(Stop):
        bench.search(wanted, judge=interrupted(bench, after), state=state, save=lambda p, f: saved.append((p, f)))
    best = saved[-1]
    assert best[1] == bench.figures(integer(best[0])) and bench.judged == after
    again = bench.search(wanted, state=state, save=lambda p, f: saved.append((p, f)))
    assert [(t.what, t.floats, t.figures) for t in again.tried] == [
        (t.what, t.floats, t.figures) for t in straight.tried
    ]
    assert (again.plan, again.figures, again.note) == (straight.plan, straight.figures, straight.note)
    assert bench.judged == whole.judged and bench.ranked == whole.ranked
    assert saved[-1] == (again.plan, again.figures)
    judged = bench.judged
    assert bench.search(wanted, state=state).plan == straight.plan and bench.judged == judged


def test_what_is_handed_out_gets_better_and_never_worse_even_when_resumed(tmp_path):
    bench, state, saved = Bench(*LOUD), tmp_path / "search.json", []
    bench.search({"min_sqnr": 42}, state=state, save=lambda p, f: saved.append(f))
    ranks = [(max(0.0, 42 - f.sqnr), 1 - f.macs) for f in saved]
    assert len(saved) > 2 and ranks == sorted(ranks, reverse=True)
    last, saved[:] = saved[-1], []
    bench.search({"min_sqnr": 42}, state=state, save=lambda p, f: saved.append(f))
    assert saved == [last]


def test_a_state_file_of_another_search_or_a_damaged_one_is_refused(tmp_path):
    state = tmp_path / "search.json"
    Bench(*LOUD).search({"min_sqnr": 42}, state=state)
    for other, wanted, key in [
        (Bench(*LOUD), {"min_sqnr": 41}, ""),
        (Bench(*LOUD), {"min_sqnr": 42}, "data"),
        (Bench([1e-3], [1]), {"min_sqnr": 42}, ""),
    ]:
        with pytest.raises(PlanError, match=r"search\.json belongs to a search for another network, plan or budget"):
            other.search(wanted, state=state, key=key)
    for text in ("", "[]", "{}", state.read_text()[:-20], state.read_text().replace('"sqnr": ', '"sqnr": "x", "y": ')):
        state.write_text(text)
        with pytest.raises(
            PlanError, match=r"is not the state of a search, or is damaged: .*; delete it to start over"
        ):
            Bench(*LOUD).search({"min_sqnr": 42}, state=state)


class Clock:
    """Each judgement takes a second."""

    def __init__(self, bench):
        self.bench, self.now = bench, 100.0

    def __call__(self):
        return self.now

    def judge(self, plan):
        self.now += 1
        return self.bench.judge(plan)


@pytest.mark.parametrize("limit", [0.0, 1.0, 2.5, 7.0])
def test_nothing_begins_that_would_end_after_the_deadline_but_the_first_judgement(limit):
    bench = Bench(*LOUD)
    clock = Clock(bench)
    found = bench.search({"min_sqnr": 42}, judge=clock.judge, clock=clock, deadline=100 + limit)
    assert bench.judged == max(1, int(limit)) and clock.now <= 100 + max(1, limit)
    assert "The time limit came first; " in found.note and found.met == (limit >= 5)
    assert found.figures == bench.figures(integer(found.plan))


def test_a_search_that_ran_out_of_time_goes_on_with_more(tmp_path):
    bench, state = Bench(*LOUD), tmp_path / "search.json"
    clock = Clock(bench)
    words = {"judge": clock.judge, "clock": clock, "state": state}
    assert not bench.search({"min_sqnr": 42}, deadline=103, **words).met
    assert bench.search({"min_sqnr": 42}, deadline=1000, **words).plan == Bench(*LOUD).search({"min_sqnr": 42}).plan


def test_a_ranking_cut_short_by_the_deadline_is_not_kept(tmp_path):
    bench, state = Bench(*LOUD), tmp_path / "search.json"
    clock = Clock(bench)

    def slow(plan):
        clock.now += 50
        return bench.rank(plan)[:1]

    words = {"judge": clock.judge, "clock": clock, "state": state}
    assert not bench.search({"min_sqnr": 42}, rank=slow, deadline=130, **words).met
    assert bench.search({"min_sqnr": 42}, deadline=1000, **words).plan == Bench(*LOUD).search({"min_sqnr": 42}).plan


def test_a_state_can_be_taken_away_with_what_lies_beside_it(tmp_path):
    bench, path = Bench(*LOUD), tmp_path / "search.json"
    state = State(path, search_key(bench.plan, {"min_sqnr": 42}))
    assert state.plan("wider-1", lambda: bench.plan) == bench.plan and len(list(tmp_path.iterdir())) == 2
    State(path, state.key).remove()
    assert list(tmp_path.iterdir()) == []


# -- failure --------------------------------------------------------------------------------------------------------


def test_a_budget_that_cannot_be_met_is_admitted_with_the_best_there_is():
    bench = Bench(*LOUD, floor=1e-3)
    found = bench.search({"min_sqnr": 40})
    assert not found.met and found.figures.sqnr == pytest.approx(30)
    assert found.note.startswith(
        "Could not meet the budget: sqnr is 30, min_sqnr asks for at least 40. Best found is: 0.0 % of multiplications "
        "in integers, SQNR 30.0 dB, cosine 0.99950; float: l0, l1, l2, l3, l4 and 1 more; "
    )


def test_a_budget_that_float_alone_meets_is_told_so():
    found = Bench([1e-2], [10]).search({"min_sqnr": 30})
    assert found.met and "Nothing is left in integers; no plan that keeps some was good enough" in found.note


def test_latency_and_accuracy_that_exclude_each_other_are_named():
    bench = Bench([1e-2, 1e-2], [50, 50], [0.4, 0.4])
    found = bench.search({"min_sqnr": 40, "max_latency": 0.5})
    assert not found.met
    assert "min_sqnr and max_latency can each be met, but no plan meets both: the fastest one that keeps" in found.note
    found = bench.search({"min_sqnr": 40, "max_latency": 0.3})
    assert "min_sqnr can be met; max_latency was not met by any plan." in found.note
    noisy = Bench([1e-2, 1e-2], [50, 50], [0.4, 0.4], floor=1e-2)
    found = noisy.search({"min_sqnr": 40, "max_latency": 0.5})
    assert "max_latency can be met; min_sqnr was not met by any plan." in found.note
    assert "Neither min_sqnr nor max_latency was met" in noisy.search({"min_sqnr": 40, "max_latency": 0.3}).note


def test_accuracy_is_bought_with_as_little_latency_as_it_takes():
    bench = Bench([1e-3, 1e-5, 1e-3], [50, 400, 550], [0.4, 0.4, 0.4])
    found = bench.search({"min_sqnr": 29.9, "max_latency": 0.5})
    assert found.met and floats(found.plan) == ["l0"]


def test_a_layer_that_is_slower_in_integers_turns_float_for_latency():
    bench = Bench([1e-3, 1e-5, 1e-4], [50, 400, 500], [9.0, 0.4, 0.4])
    found = bench.search({"min_sqnr": 20, "max_latency": 0.6})
    assert found.met and floats(found.plan) == ["l0"]


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(ConfigError, match="min_agreement needs class scores, and no output"):
        Bench(*LOUD).search({"min_agreement": 0.9})
    with pytest.raises(ConfigError, match="max_drop needs labels and class scores"):
        Bench(*LOUD).search({"max_drop": 0.1})
    with pytest.raises(ConfigError, match="max_latency needs an engine to time networks on"):
        Bench(*LOUD).search({"max_latency": 0.9})


# -- better plans first ---------------------------------------------------------------------------------------------


def test_a_better_corrected_plan_comes_before_float_layers():
    bench = Bench(*LOUD, quiet={"a": 0.5, "b": 0.01})
    made = []

    def corrected(word):
        made.append(word)
        return replace(bench.plan, data=word, rescales=(), values=shifted(bench.plan, word))

    wider = [lambda: corrected("a"), lambda: corrected("b"), lambda: corrected("c")]
    found = bench.search({"min_sqnr": 30}, wider=wider)
    assert found.met and found.plan.data == "b" and made == ["a", "b"] and bench.ranked == 0


def shifted(plan: Plan, word: str):
    """Other ranges, so that the plan counts as another one."""
    return {k: replace(v, hi=v.hi * (1 + ord(word) / 1e6)) if v.hi else v for k, v in plan.values.items()}


def test_layers_turn_float_in_the_best_of_the_corrected_plans_which_is_made_once(tmp_path):
    bench = Bench(*LOUD, quiet={"a": 0.5, "b": 2.0})
    made, state = [], tmp_path / "search.json"

    def corrected(word):
        made.append(word)
        return replace(bench.plan, data=word, values=shifted(bench.plan, word))

    wider = [lambda: corrected("a"), lambda: corrected("b")]
    first = bench.search({"min_sqnr": 36}, wider=wider, state=state)
    assert first.met and first.plan.data == "a" and floats(first.plan)
    again = bench.search({"min_sqnr": 36}, wider=wider, state=state)
    assert again.plan == first.plan and made == ["a", "b"]
    assert sorted(f.name for f in tmp_path.iterdir()) == [
        "search.json", "search.json.wider-1.plan.json", "search.json.wider-2.plan.json",
    ]  # fmt: skip


def test_progress_tells_each_plan_and_the_best():
    told = []
    found = Bench(*LOUD).search({"min_sqnr": 42}, progress=lambda t, b: told.append((t, b)))
    assert [t for t, _ in told] == list(found.tried) and told[0][0].what == "start"
    assert told[-1][1].figures == found.figures


# -- a real network -------------------------------------------------------------------------------------------------


def test_the_demo_network_on_a_real_engine(tmp_path):
    from fewbit import api
    from fewbit.api.common import opener
    from fewbit.api.making import emit
    from fewbit.data import open_data
    from fewbit.data.demo import DEMO_MODEL, demo_calibration
    from fewbit.search.judge import make_judge
    from fewbit.search.macs import counted_macs

    images = demo_calibration()["image"]
    model = api.fuse(api.load(DEMO_MODEL))
    config, target = QuantConfig(min_sqnr=36.0, min_agreement=0.9), api.target_named("onnxruntime")
    plan = api.calibrate(model, api.make_plan(model, config), images[:96], workers=1)
    held = list(open_data(images[200:232], model.inputs).iterate())
    judge = make_judge(model, held, opener("onnxruntime", 1), lambda p: emit(model, p, {}))
    macs = counted_macs(model, held[0], opener("onnxruntime", 1))

    def rank(plan):
        names = [n for n, v in plan.nodes.items() if v.quantized and not v.absorbed_by]
        return [(n, 1 / (1 + i), macs[n]) for i, n in enumerate(names)]

    saved = tmp_path / "best.json"
    found = search(
        model, plan, config, target, budgets(config), rank=rank, judge=judge, save=lambda p, f: p.save(saved)
    )
    assert found.met and found.figures.sqnr >= 36 > found.tried[0].figures.sqnr
    assert 0 < found.figures.macs < 1 and found.figures.samples == 32
    assert judge(found.plan) == found.figures and Plan.load(saved) == found.plan
