import math
from dataclasses import replace

import numpy as np
import pytest

from fewbit.data.base import Batch
from fewbit.engines import open_runner
from fewbit.errors import EmptyData, ModelError
from fewbit.graph.emit import emit_qdq
from fewbit.graph.model import Model
from fewbit.search import judge
from fewbit.search.candidates import candidate, filled, users_of_missing
from fewbit.search.figures import met
from fewbit.search.judge import latency_ratio, make_judge
from tests import models
from tests.models import TARGET, load, plan_for
from tests.search.helpers import FULL, chain


def open_(model: Model):
    return open_runner("onnxruntime", model)


def batches(model: Model, count: int = 3, size: int = 4, labels=None):
    found = []
    for i in range(count):
        feeds = models.feeds_for(model, seed=10 + i, batch=size)
        y = None if labels is None else np.asarray(labels[i * size : (i + 1) * size])
        found.append(Batch(feeds, y, i, [f"{i}.{k}" for k in range(size)]))
    return found


def judged(model: Model, plan, data, **words):
    return make_judge(model, data, open_, lambda p: emit_qdq(model, p), **words)(plan)


def outputs(model: Model, data):
    return np.concatenate([next(iter(open_(model).run(b.feeds).values())) for b in data])


def test_a_plan_without_integer_layers_is_perfect():
    model, plan = chain(3)
    plan = candidate(model, plan, FULL, TARGET, dict.fromkeys(("l0", "l1", "l2"), "why"))
    assert plan.kept_float() == dict.fromkeys(("l0", "l1", "l2"), "why")
    f = judged(model, plan, batches(model))
    assert (f.sqnr, f.cosine, f.agreement, f.drop, f.latency) == (math.inf, 1.0, 1.0, None, None)
    assert (f.macs, f.samples, f.expected) == (0.0, 12, 1.0)


def test_figures_are_those_of_the_outputs_as_they_are():
    model, plan = chain(3)
    data = batches(model, size=50)
    before, after = outputs(model, data), outputs(emit_qdq(model, plan), data)
    f = judged(model, plan, data)
    assert f.sqnr == pytest.approx(10 * np.log10((before**2).sum() / ((before - after) ** 2).sum()), abs=1e-3)
    assert f.agreement == (before.argmax(1) == after.argmax(1)).mean() < 1
    assert f.macs == 1.0 and 0.5 < f.expected < 1


def test_the_drop_is_counted_against_labels():
    model, plan = chain(3)
    data = batches(model, count=1, size=100)
    before, after = (outputs(m, data).argmax(1) for m in (model, emit_qdq(model, plan)))
    labelled = batches(model, count=1, size=100, labels=before)
    assert judged(model, plan, labelled).drop == pytest.approx(1 - (before == after).mean()) != 0
    labelled = batches(model, count=1, size=100, labels=after)
    assert judged(model, plan, labelled).drop == pytest.approx((before == after).mean() - 1)


def test_without_class_scores_agreement_is_unknown():
    model = load(models.conv_relu())
    f = judged(model, plan_for(model), batches(model))
    assert f.agreement is None and f.drop is None and f.expected is None and 10 < f.sqnr < 90


def test_there_must_be_data_and_the_same_outputs():
    model, plan = chain(3)
    with pytest.raises(EmptyData, match="no held-out batch to judge quantized networks on"):
        judged(model, plan, [])
    other = load(models.matmul(k=4, n=5))
    with pytest.raises(ModelError, match="output 'v3' of the integer network is missing or has another shape"):
        make_judge(model, batches(model), lambda m: _Fixed(m), lambda p: other)(plan)


class _Fixed:
    def __init__(self, model, array=None):
        self.outputs = [o.name for o in model.outputs]
        self.array = np.ones((4, 4), np.float32) if array is None else array

    def run(self, feeds):
        return dict.fromkeys(self.outputs, self.array)


def judged_fixed(model, plan, data, before, after):
    """Figures where float answers `before` and the integer network `after`."""
    emitted = model.clone()
    return make_judge(model, data, lambda m: _Fixed(m, after if m is emitted else before), lambda p: emitted)(plan)


def test_nan_is_never_right_and_keeps_no_budget():
    model, plan = chain(3)
    broken = np.array([[np.nan, 0, 0, 0], [np.inf, 0, 0, 0], [9, 1, 1, 1], [1, 2, 1, 1]], np.float32)
    data = batches(model, count=1, labels=[0, 0, 0, 1])
    f = judged_fixed(model, plan, data, np.eye(4, dtype=np.float32), broken)
    assert math.isnan(f.sqnr) and math.isnan(f.cosine) and f.agreement == 0.0 == f.expected
    assert f.drop == 1 / 4 - 2 / 4  # float is right on the first sample, the broken one on the last two
    assert not met(f, {"min_sqnr": -100}) and not met(f, {"min_cosine": -1})


def test_whole_numbers_count_where_there_is_nothing_else():
    model, plan = chain(3)
    f = judged_fixed(model, plan, batches(model), np.full((4, 2), 10), np.full((4, 2), 9))
    assert f.sqnr == pytest.approx(20) and f.agreement is None


class Timed:
    """A runner that takes this long by a clock of its own."""

    now = 0.0

    def __init__(self, seconds, jitter=0.0, *, seed=0):
        self.seconds, self.jitter, self.runs = seconds, jitter, 0
        self.rng = np.random.default_rng(seed)

    def run(self, feeds):
        self.runs += 1
        Timed.now += self.seconds * (1 + self.jitter * self.rng.random())
        return {}


def test_latency_is_a_ratio_and_noise_makes_it_measure_longer():
    def clock():
        return Timed.now

    calm = Timed(0.1), Timed(0.05)
    assert latency_ratio(*calm, {}, clock=clock) == pytest.approx(0.5)
    wild = Timed(0.1, 2.0), Timed(0.05, 2.0, seed=1)
    assert latency_ratio(*wild, {}, clock=clock) == pytest.approx(0.5, rel=0.25)
    assert wild[0].runs > 2 * calm[0].runs


def test_latency_is_in_the_figures_if_there_is_an_engine_to_time_on(monkeypatch):
    monkeypatch.setattr(judge, "MOST", 1)
    model, plan = chain(3)
    assert judged(model, plan, batches(model), latency=open_).latency > 0


# -- plans with ranges missing --------------------------------------------------------------------------------------


def test_where_a_range_is_missing_its_layers_turn_float_or_it_is_measured():
    model, plan = chain(4)
    lost = replace(plan, values={k: v for k, v in plan.values.items() if k != "v2"})
    found = candidate(model, lost, FULL, TARGET, {"l0": "why"})
    assert found.calibrated and {"l0", "l1", "l2"} == set(found.kept_float())
    assert found.kept_float()["l2"] == "a value that it needs was not calibrated, since others turned float"
    asked = []

    def calibrate(p):
        asked.append(p)
        return p.with_ranges({name: (-9.0, 9.0) for name in p.observed()})

    found = candidate(model, lost, FULL, TARGET, {"l0": "why"}, calibrate)
    assert set(found.kept_float()) == {"l0"} and len(asked) == 1 and not asked[0].calibrated
    assert (found.values["v2"].lo, found.values["v2"].hi) == (-9.0, 9.0)
    assert found.values["v3"].hi == plan.values["v3"].hi


def test_a_plan_that_lacks_nothing_stays_as_it_is():
    model, plan = chain(3)
    assert candidate(model, plan, FULL, TARGET, {}) is plan
    assert users_of_missing(model, plan) == set() and filled(plan, plan) == plan


def test_what_was_float_stays_float():
    model, plan = chain(3)
    base = candidate(model, plan, FULL, TARGET, {"l1": "by hand"})
    assert candidate(model, base, FULL, TARGET, {"l0": "why"}).kept_float() == {"l0": "why", "l1": "by hand"}
