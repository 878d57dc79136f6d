"""Which values become integer, in which format, and which of them share parameters."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fewbit.engines  # noqa: F401  registers the targets
from fewbit.config import QuantConfig
from fewbit.core.plan import Plan
from fewbit.core.spec import QuantSpec
from fewbit.core.target import TARGETS, OpRule
from fewbit.errors import ModelError
from fewbit.quantization.plan import make_plan
from tests import models
from tests.quantization.nets import TOY, net, residual


def plan(model: Any, **words: Any) -> Plan:
    return make_plan(model, QuantConfig(**words), TOY)


def test_parameters_stand_behind_what_is_merged() -> None:
    made = plan(residual())
    assert {k for k, v in made.values.items() if v.role == "act"} == {"x", "r", "c", "t", "p", "y"}
    assert {k for k, v in made.values.items() if v.role == "weight"} == {"w1", "w2", "w3"}
    assert made.nodes["Relu:t"].absorbed_by == "Add:s"
    assert made.nodes["Conv:a"].roles == ("act", "weight", "bias")


def test_a_value_moving_node_shares_and_is_not_observed_again() -> None:
    made = plan(residual())
    assert made.values["p"].group == "t"
    assert made.observed() == {"x": "x", "r": "r", "c": "c", "t": "t", "y": "y"}


def test_a_concat_shares_and_is_observed_at_its_output() -> None:
    nodes = "a = Conv (x, w)  b = Conv (x, v)  k = Concat <axis = 1> (a, b)  y = Conv (k, u)"
    made = plan(net(nodes, w=(4, 4, 1, 1), v=(4, 4, 1, 1), u=(4, 8, 1, 1)))
    assert {made.values[n].group for n in "abk"} == {"a"}
    assert made.observed() == {"x": "x", "k": "a", "y": "y"}


def test_constants_have_their_range_at_once() -> None:
    made = plan(net("a = Conv (x, w)  s = Add (a, k)  y = Conv (s, w)", w=(4, 4, 1, 1), k=(1, 4, 1, 1)))
    assert made.values["k"].calibrated and "k" not in made.observed()


def test_a_tied_weight_is_stored_once_and_twice_if_formats_differ() -> None:
    model = net("a = Conv (x, w)  y = Conv (a, w)", w=(4, 4, 1, 1))
    assert [k for k in plan(model).values if k.startswith("w")] == ["w"]
    made = plan(model, overrides={"Conv:y": {"bit_num": 4}})
    assert made.values["w"].spec.bits == 8 and made.values["w@Conv:y"].spec.bits == 4


@pytest.mark.parametrize(
    ("words", "value", "expected"),
    [
        ({}, "x", QuantSpec(8, signed=False)),
        ({"quantized_dtype": "int8"}, "x", QuantSpec(8, signed=True)),
        ({"quantized_dtype": "uint8"}, "x", QuantSpec(8, signed=False)),
        ({"bit_num": 6}, "x", QuantSpec(6, signed=False)),
        ({}, "w1", replace(TOY.weight, axis=0)),
        ({"quantize_granularity": "tensor-wise"}, "w1", replace(TOY.weight, granularity="tensor", axis=None)),
        ({"quantize_granularity": "group-wise"}, "w1", replace(TOY.weight, axis=0)),
        ({"bit_num": 4}, "w1", replace(TOY.weight, bits=4)),
        ({"overrides": {"Conv:a": {"bit_num": 16}}}, "w1", replace(TOY.weight, bits=16)),
        ({"overrides": {"Conv:a": {"bit_num": 16}}}, "w2", TOY.weight),
        ({"overrides": {"Conv:a": {"granularity": "tensor"}}}, "w1", QuantSpec(8, True, True, narrow=True)),
        ({"overrides": {"Conv:*": {"bit_num": 4}, "Conv:a": {"bit_num": 16}}}, "w1", replace(TOY.weight, bits=16)),
    ],
)
def test_formats(words: dict[str, Any], value: str, expected: QuantSpec) -> None:
    assert plan(residual(), **words).values[value].spec == expected


def test_groups_lie_along_the_axis_that_is_summed_over() -> None:
    model = net("y = MatMul (x, w)", w=(8, 6))
    spec = plan(model, quantize_granularity="group-wise", group_size=4).values["w"].spec
    assert (spec.granularity, spec.axis, spec.group_size) == ("group", 0, 4)
    assert plan(model).values["w"].spec.axis == 1


def test_two_wishes_for_one_value_give_the_wider_format() -> None:
    made = plan(residual(), overrides={"Conv:c": {"bit_num": 16}})
    assert made.values["r"].spec.bits == 16  # read by Conv:c in 16 bits and by Add:s in 8
    assert made.values["x"].spec.bits == 8


def test_an_override_chooses_the_calibrator_of_a_value() -> None:
    made = plan(residual(), calib_mode="naive", overrides={"Conv:c": {"calib_mode": "entropy"}})
    assert made.values["c"].calib_mode == "entropy" and made.values["x"].calib_mode == "naive"


def test_every_node_has_a_verdict_with_a_reason() -> None:
    made = plan(residual(), exclude_layers=["Conv:c"])
    assert all(n.reason for n in made.nodes.values())
    assert made.kept_float()["Conv:c"] == "excluded by exclude_layers 'Conv:c'"
    assert made.config == {"exclude_layers": ["Conv:c"]}


def test_the_model_is_named_by_its_contents() -> None:
    model = residual()
    assert plan(model).model == model.digest() == residual().digest()
    other = net("y = MatMul (x, w)", w=(8, 6), seed=1)
    assert plan(other).model != plan(net("y = MatMul (x, w)", w=(8, 6))).model
    assert np.isfinite(other.parameters)


def test_a_row_that_needs_a_format_wins_over_the_default_one() -> None:
    signed = QuantSpec(8, signed=True, symmetric=True)
    rows = (OpRule("MatMul", ("act",), core=True, pays=0.5, when="both computed", act=signed), *TOY.rules)
    target = replace(TOY, rules=rows)
    model = net("a = Relu (x)  y = MatMul (a, x)")
    made = make_plan(model, QuantConfig(quantize_mode="full"), target)
    assert made.values["a"].spec == made.values["x"].spec == made.values["y"].spec == signed


def test_ranges_at_run_time_need_no_calibration() -> None:
    target = replace(TOY, dynamic=(OpRule("MatMul", ("act", "weight"), ("float",), core=True, pays=0.3),))
    made = make_plan(net("y = MatMul (x, w)", w=(8, 6)), QuantConfig(calib_mode="none"), target)
    assert made.values["x"].spec.dynamic and made.calibrated and not made.observed()
    assert "y" not in made.values


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ("a = Conv (x, w)  g = GlobalAveragePool (a)  y = Mul (a, g)", True),
        ("a = Conv (x, w)  y = Exp (a)", False),
        ("a = Conv (x, w)  r = Relu (a)  g = GlobalAveragePool (r)  y = Mul (r, g)", False),
    ],
)
def test_a_row_can_ask_for_parameters_in_front_of_a_fork(nodes: str, expected: bool) -> None:
    row = OpRule("Conv", ("act", "weight"), ("fork",), core=True, absorbs=("Relu",), pays=0.5)
    made = make_plan(net(nodes, w=(4, 4, 1, 1)), QuantConfig(), replace(TOY, rules=(row,)))
    assert ("a" in made.values or "r" in made.values) is expected


def test_a_weight_that_is_not_finite_is_named() -> None:
    model = net("y = MatMul (x, w)", w=(8, 6))
    model.add_initializer("bad", np.full((8, 6), np.nan, np.float32))
    model.nodes[0].replace_input_with(1, model.value("bad"))
    with pytest.raises(ModelError, match="weight 'bad' of layer 'MatMul:y' holds NaN or infinity"):
        plan(model)


@pytest.mark.parametrize("target", sorted(TARGETS))
@pytest.mark.parametrize("mode", ["smart", "full"])
def test_plans_of_every_target_come_back_from_their_files(target: str, mode: str, tmp_path: Path) -> None:
    for made in (models.conv_relu(), models.residual(), models.depthwise(), models.gemm(), models.concat()):
        given = models.load(made)
        found = make_plan(given, QuantConfig(quantize_mode=mode, target=target), TARGETS[target])
        found.save(tmp_path / "plan.json")
        assert Plan.load(tmp_path / "plan.json") == found
