"""Ranges that the network's file holds, in a plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import pytest

from fewbit.config import QuantConfig
from fewbit.core.plan import Plan
from fewbit.core.target import TARGETS
from fewbit.engines import onnxruntime, openvino  # noqa: F401  (they register their targets)
from fewbit.errors import NotCalibrated
from fewbit.graph.fuse import fuse
from fewbit.graph.model import Model
from fewbit.quantization.known import UNKNOWN, left_float, with_known_ranges
from fewbit.quantization.plan import make_plan
from tests.models import info, load, node, proto, weight


def branches() -> onnx.ModelProto:
    """x → Conv → Relu → MaxPool → two Conv → Concat → Flatten → Gemm → y"""
    return proto(
        [
            node("Conv", "x w", "c", "conv", pads=[1, 1, 1, 1]),
            node("Relu", "c", "r", "relu"),
            node("MaxPool", "r", "p", "pool", kernel_shape=[2, 2], strides=[2, 2]),
            node("Conv", "p u", "a", "left"),
            node("Conv", "p v", "b", "right"),
            node("Concat", "a b", "k", "cat", axis=1),
            node("Flatten", "k", "f", "flat"),
            node("Gemm", "f g", "y", "fc", transB=1),
        ],
        [info("x", ["n", 16, 8, 8])],
        [info("y", ["n", 8])],
        {
            "w": weight(32, 16, 3, 3),
            "u": weight(32, 32, 1, 1),
            "v": weight(32, 32, 1, 1, seed=1),
            "g": weight(8, 1024),
        },
    )


@pytest.fixture
def made() -> tuple[Model, Plan]:
    model = fuse(load(branches()))
    return model, make_plan(model, QuantConfig(), TARGETS["onnxruntime"])


def filled_in(made: tuple[Model, Plan], ranges: Mapping[str, tuple[float, float]], **words: Any) -> Plan:
    model, plan = made
    return with_known_ranges(model, plan, ranges, QuantConfig(**words), TARGETS[plan.target])


def floats(plan: Plan) -> set[str]:
    return {name for name, n in plan.nodes.items() if n.reason == UNKNOWN}


RANGES = {"x": (-1.0, 2.0), "r": (0.0, 3.0), "a": (-4.0, 1.0), "b": (-2.0, 5.0), "k": (-4.0, 5.0)}


def test_every_value_gets_its_range_and_tells_where_from(made: tuple[Model, Plan]) -> None:
    filled = filled_in(made, RANGES)
    assert filled.calibrated and not made[1].calibrated and left_float(filled) == ""
    acts = {k: v for k, v in filled.values.items() if v.role == "act"}
    assert {k: (v.lo, v.hi) for k, v in acts.items()} == {
        "x": (-1, 2), "r": (0, 3), "p": (0, 3), **{k: (-4, 5) for k in "abkf"},
    }  # fmt: skip
    assert all(v.reason.endswith("; range from the checkpoint") for v in acts.values())
    assert all("checkpoint" not in v.reason for k, v in filled.values.items() if k not in acts)


def test_what_a_value_is_joined_or_chosen_from_tells_its_range_and_the_other_way_round(
    made: tuple[Model, Plan],
) -> None:
    ranges = {**RANGES, "p": (0.0, 2.5)}
    del ranges["r"], ranges["k"]  # the places where calibration looks
    filled = filled_in(made, ranges)
    assert (filled.values["r"].lo, filled.values["r"].hi) == (0.0, 2.5)
    assert (filled.values["k"].lo, filled.values["k"].hi) == (-4.0, 5.0)


def test_ranges_of_other_values_do_not_matter(made: tuple[Model, Plan]) -> None:
    assert filled_in(made, {**RANGES, "gone": (0.0, 1.0)}) == filled_in(made, RANGES)


def test_one_of_two_that_are_joined_tells_nothing_of_the_other(made: tuple[Model, Plan]) -> None:
    filled = filled_in(made, {k: v for k, v in RANGES.items() if k not in "bk"})
    assert {"right", "cat", "fc"} <= floats(filled) and filled.calibrated
    assert filled.nodes["conv"].quantized and filled.nodes["left"].quantized
    assert left_float(filled) == (
        "4 layers stay float: right, cat, flat, fc. The checkpoint holds no range for what they read or make; with "
        "data all ranges would be measured"
    )


def test_if_every_layer_lacks_a_range_that_is_an_error(made: tuple[Model, Plan]) -> None:
    with pytest.raises(NotCalibrated) as e:
        filled_in(made, {"gone": (0.0, 1.0)})
    assert str(e.value).startswith("the checkpoint holds no range for 3 of the 3 values that become integer: x, r, k. ")
    assert str(e.value).endswith("and 2 more. Give data to measure them all")


def squashed(op: str, **attrs: Any) -> tuple[Model, Plan]:
    """x → Conv → op → Conv → GlobalAveragePool → Flatten → Gemm → y, all of it integer where that can be"""
    limits = {"lo": np.float32(-1), "hi": np.float32(4)} if op == "Clip" else {}
    made = proto(
        [
            node("Conv", "x w", "c", "conv", pads=[1, 1, 1, 1]),
            node(op, " ".join(["c", *limits]), "s", "squash", **attrs),
            node("Conv", "s u", "a", "next"),
            node("GlobalAveragePool", "a", "p", "pool"),
            node("Flatten", "p", "f", "flat"),
            node("Gemm", "f g", "y", "fc", transB=1),
        ],
        [info("x", ["n", 16, 8, 8])],
        [info("y", ["n", 8])],
        {"w": weight(32, 16, 3, 3), "u": weight(32, 32, 1, 1), "g": weight(8, 32), **limits},
    )
    model = fuse(load(made))
    return model, make_plan(model, QuantConfig(quantize_mode="full"), TARGETS["openvino"])


@pytest.mark.parametrize(
    ("op", "bounds"),
    [("Sigmoid", (0, 1)), ("Tanh", (-1, 1)), ("Softmax", (0, 1)), ("Clip", (-1, 4)), ("HardSigmoid", (0, 1))],
)
def test_what_an_operator_can_put_out_stands_in_for_a_range_and_limits_it(op: str, bounds: tuple[int, int]) -> None:
    made, rest = squashed(op), {"x": (-1.0, 2.0), "p": (-0.5, 0.5)}
    value = filled_in(made, rest, quantize_mode="full").values["s"]
    assert (value.lo, value.hi) == bounds
    assert value.reason.endswith("; range of what the operator can put out")
    value = filled_in(made, {**rest, "s": (-9.0, 0.5)}, quantize_mode="full").values["s"]
    assert (value.lo, value.hi) == (bounds[0], 0.5) and value.reason.endswith("; range from the checkpoint")


def test_an_average_over_a_channel_has_not_the_range_of_what_it_is_made_of() -> None:
    filled = filled_in(squashed("Sigmoid"), {"x": (-1.0, 2.0), "a": (-3.0, 3.0)}, quantize_mode="full")
    assert floats(filled) == {"flat", "fc"} and "p" not in filled.values
    assert filled.nodes["conv"].quantized and filled.nodes["next"].quantized
