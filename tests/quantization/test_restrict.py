"""Some layers turned float again: what the neighbours do, and what every value keeps of what was measured."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from fewbit.config import QuantConfig
from fewbit.core.nudge import pack_nudges
from fewbit.core.plan import Plan, Rescale
from fewbit.graph.emit import emit_qdq
from fewbit.graph.fuse import fuse
from fewbit.graph.model import Model
from fewbit.quantization.plan import make_plan
from fewbit.quantization.restrict import restrict, take_over
from tests.graph.nets import net
from tests.models import TARGET, feeds_for, load, plan_for, run, tied
from tests.models import residual as residual_proto

FULL = QuantConfig(quantize_mode="full")


def residual() -> tuple[Model, Plan]:
    """conv1 – conv2 – add, calibrated, with a correction of each kind everywhere."""
    model = load(residual_proto())
    plan = plan_for(model)
    values, nodes = dict(plan.values), dict(plan.nodes)
    for w, shape in (("w1", (4, 3, 3, 3)), ("w2", (4, 4, 3, 3))):
        values[w] = replace(values[w], scale=(0.01, 0.02, 0.03, 0.04), nudge=pack_nudges(np.ones(shape, np.int8)))
    for n in ("conv1", "conv2"):
        nodes[n] = replace(nodes[n], bias=(0.1, 0.2, 0.3, 0.4))
    return model, replace(plan, values=values, nodes=nodes, data="d" * 64)


def test_no_layer_turned_float_is_the_same_plan() -> None:
    model, plan = residual()
    found = restrict(model, plan, FULL, TARGET, {})
    assert found.to_json()["values"] == plan.to_json()["values"]
    assert {n: (v.quantized, v.roles, v.bias) for n, v in found.nodes.items()} == {
        n: (v.quantized, v.roles, v.bias) for n, v in plan.nodes.items()
    }
    assert (found.data, found.model, found.config) == (plan.data, plan.model, plan.config)


def test_what_stays_integer_keeps_its_corrections_and_the_rest_loses_them() -> None:
    model, plan = residual()
    found = restrict(model, plan, FULL, TARGET, {"conv2": "it costs 3 dB"})
    assert not found.nodes["conv2"].quantized and "it costs 3 dB" in found.nodes["conv2"].reason
    assert found.nodes["conv2"].bias == () and "w2" not in found.values
    assert found.nodes["conv1"] == plan.nodes["conv1"] and found.values["w1"] == plan.values["w1"]
    for name in set(found.values) & set(plan.values):
        assert (found.values[name].lo, found.values[name].hi) == (plan.values[name].lo, plan.values[name].hi)
    feeds = feeds_for(model)
    assert np.isfinite(run(emit_qdq(model, found), feeds)["y"]).all()


def test_what_a_layer_absorbed_turns_float_with_it() -> None:
    model, plan = residual()
    assert plan.nodes["relu1"].absorbed_by == "conv1"
    assert not restrict(model, plan, FULL, TARGET, {"conv1": "no"}).nodes["relu1"].quantized


def test_support_operators_that_stand_between_nothing_integer_turn_float() -> None:
    model, plan = residual()
    found = restrict(model, plan, QuantConfig(quantize_mode="smart"), TARGET, {"conv1": "no", "conv2": "no"})
    assert not any(n.quantized for n in found.nodes.values()) and not found.observed()


def test_rescales_stay() -> None:
    model, plan = residual()
    plan = replace(plan, rescales=(Rescale("c1", (1.0, 2.0, 3.0, 4.0)),))
    assert restrict(model, plan, FULL, TARGET, {"conv2": "no"}).rescales == plan.rescales


def test_the_old_plan_is_not_changed() -> None:
    model, plan = residual()
    before, digest = plan.to_json(), model.digest()
    restrict(model, plan, FULL, TARGET, {"conv1": "no"})
    assert plan.to_json() == before and model.digest() == digest


def test_the_table_does_not_undo_what_was_decided() -> None:
    text = "(float[N,3,6,6] x) => (float[N,4,6,6] y) { a = Conv(x, w) y = Conv(a, u) }"
    model = fuse(net(text, w=(4, 3, 1, 1), u=(4, 4, 1, 1)))
    smart = QuantConfig(quantize_mode="smart")
    slow = replace(TARGET, rules=tuple(replace(r, pays=3.0) for r in TARGET.rules))
    assert not any(n.quantized for n in make_plan(model, smart, slow).nodes.values())
    plan = plan_for(model)
    assert plan.nodes["a"].quantized and plan.nodes["y"].quantized
    found = restrict(model, plan, smart, slow, {"a": "no"})
    assert found.nodes["y"].quantized and not found.nodes["a"].quantized


# -- take_over -------------------------------------------------------------------------------------------------------


def bare(model: Model, **words: Any) -> Plan:
    return make_plan(model, QuantConfig(quantize_mode="full", **words), TARGET)


def test_weights_in_another_format_begin_anew() -> None:
    model, plan = residual()
    found = take_over(bare(model, weight_bit_num=4), plan)
    assert all(not v.scale and not v.nudge for v in found.values.values())
    assert found.nodes["conv1"].bias == plan.nodes["conv1"].bias and found.calibrated


def test_activations_in_another_format_keep_their_range() -> None:
    model, plan = residual()
    found = take_over(bare(model, bit_num=16), plan)
    assert found.values["x"].spec.bits == 16
    assert (found.values["x"].lo, found.values["x"].hi) == (plan.values["x"].lo, plan.values["x"].hi)


def test_values_that_are_new_are_left_without_a_range() -> None:
    model, plan = residual()
    old = replace(plan, values={k: v for k, v in plan.values.items() if k != "r"})
    found = take_over(bare(model), old)
    assert not found.values["r"].calibrated and not found.calibrated and found.values["x"].calibrated


def test_a_group_takes_the_widest_range_of_its_members() -> None:
    model = net(
        "(float[N,3,4,4] x) => (float[N,4,4,4] y) { a = Conv(x, w) b = Conv(x, u) y = Concat<axis=1>(a, b) }",
        w=(2, 3, 1, 1), u=(2, 3, 1, 1),
    )  # fmt: skip
    plan = plan_for(model)
    apart = {
        "a": replace(plan.values["a"], group="a", lo=-3.0, hi=1.0),
        "b": replace(plan.values["b"], group="b", lo=-1.0, hi=2.0),
    }
    values = {k: apart.get(k, v) for k, v in plan.values.items() if k != "y"}
    found = take_over(bare(model), replace(plan, values=values))
    assert {(found.values[n].lo, found.values[n].hi) for n in "aby"} == {(-3.0, 2.0)}


def test_each_use_of_a_weight_keeps_its_own() -> None:
    model = load(tied(same_axis=False))
    plan = plan_for(model)
    values = {**plan.values, "w@fc2": replace(plan.values["w@fc2"], scale=(0.5,) * 6)}
    found = take_over(bare(model), replace(plan, values=values))
    assert found.values["w@fc2"].scale == (0.5,) * 6 and not found.values["w"].scale
