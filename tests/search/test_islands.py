"""Units, what hangs together, and whose time an engine's operator is."""

from __future__ import annotations

import pytest

from fewbit.config import QuantConfig
from fewbit.core.runner import NodeTime
from fewbit.quantization.plan import make_plan
from fewbit.search.islands import Units, time_of_units, units_of
from tests.quantization.nets import TOY, net, residual


def units(**words: object) -> Units:
    model = residual()
    config = QuantConfig(quantize_mode="full", target="toy", **words)  # type: ignore[arg-type]
    return units_of(model, make_plan(model, config, TOY), TOY)


def test_a_unit_is_a_layer_with_what_it_absorbs() -> None:
    found = units()
    assert found.members == {
        "Conv:a": ("Conv:a", "Relu:r"),
        "Conv:c": ("Conv:c",),
        "Add:s": ("Add:s", "Relu:t"),
        "MaxPool:p": ("MaxPool:p",),
        "Conv:y": ("Conv:y",),
    }
    assert found.core == {"Conv:a", "Conv:c", "Conv:y"}
    assert found.rows["Conv:a"] == "Conv (weight is constant)" and found.rows["Add:s"] == "Add"
    assert found.reads["Add:s"] == ("c", "r") and found.makers["t"] == "Add:s"


def test_excluded_layers_are_no_units() -> None:
    assert "Conv:c" not in units(exclude_layers=("Conv:c",)).members


def test_islands() -> None:
    found = units()
    assert found.islands(found.all) == [found.all]
    assert found.islands({"Conv:a", "Add:s", "Conv:y"}) == [{"Conv:a", "Add:s"}, {"Conv:y"}]
    assert found.islands(()) == []


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ({"Conv:a", "Conv:c", "Add:s", "MaxPool:p", "Conv:y"}, {"Conv:a", "Conv:c", "Add:s", "MaxPool:p", "Conv:y"}),
        ({"Conv:a", "Conv:c", "Add:s", "MaxPool:p"}, {"Conv:a", "Conv:c"}),  # nothing integer behind the pool
        ({"Conv:a", "Add:s", "Conv:y"}, {"Conv:a", "Conv:y"}),  # the add reads a float
        ({"MaxPool:p", "Add:s"}, set()),
    ],
)
def test_support_layers_that_stand_alone_go(given: set[str], left: set[str]) -> None:
    assert units().settled(given) == left


def test_time_goes_to_the_longest_name_or_to_the_one_before() -> None:
    found = [
        NodeTime("x_q", "QuantizeLinear", "f32", 1.0),  # a graph input: for the first that reads it
        NodeTime("r_nchwc", "Conv", "f32", 2.0),  # named after what it absorbed
        NodeTime("ReorderOutput_token_1", "ReorderOutput", "f32", 3.0),  # for what ran before
        NodeTime("c_dq", "DequantizeLinear", "u8", 4.0),
        NodeTime("Add:s", "Add", "f32", 5.0),  # float here
        NodeTime("Reorder_2", "Reorder", "f32", 6.0),
        NodeTime("p_q", "QuantizeLinear", "f32", 7.0),  # made by a float layer: for the one that reads it
    ]
    us = time_of_units(found, units(), {"Conv:a", "Conv:c", "Conv:y"})
    assert us == {"Conv:a": 6.0, "Conv:c": 4.0, "Add:s": 11.0, "Conv:y": 7.0}


def test_a_float_layer_takes_no_time_of_a_unit() -> None:
    model = net("a = Conv (x, w1)\ne = Exp (a)\ny = Conv (e, w2)", w1=(4, 4, 1, 1), w2=(4, 4, 1, 1))
    plan = make_plan(model, QuantConfig(quantize_mode="full", target="toy"), TOY)
    found = [NodeTime("e", "Exp", "f32", 9.0), NodeTime("Reorder_1", "Reorder", "f32", 1.0)]
    assert time_of_units(found, units_of(model, plan, TOY), {"Conv:a", "Conv:y"}) == {}
