"""Ranges that the network's file holds, in a plan."""

from __future__ import annotations

import onnx
import pytest

from fewbit.config import QuantConfig
from fewbit.core.plan import Plan
from fewbit.core.target import TARGETS
from fewbit.engines import onnxruntime  # noqa: F401  (registers its targets)
from fewbit.errors import NotCalibrated
from fewbit.graph.fuse import fuse
from fewbit.graph.model import Model
from fewbit.quantization.known import with_known_ranges
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


RANGES = {"x": (-1.0, 2.0), "r": (0.0, 3.0), "a": (-4.0, 1.0), "b": (-2.0, 5.0), "k": (-4.0, 5.0)}


def test_every_value_gets_its_range_and_tells_where_from(made: tuple[Model, Plan]) -> None:
    model, plan = made
    filled = with_known_ranges(model, plan, RANGES)
    assert filled.calibrated and not plan.calibrated
    acts = {k: v for k, v in filled.values.items() if v.role == "act"}
    assert {k: (v.lo, v.hi) for k, v in acts.items()} == {
        "x": (-1, 2), "r": (0, 3), "p": (0, 3), **{k: (-4, 5) for k in "abkf"},
    }  # fmt: skip
    assert all(v.reason.endswith("; range from the checkpoint") for v in acts.values())
    assert all("checkpoint" not in v.reason for k, v in filled.values.items() if k not in acts)


def test_any_value_of_a_group_will_do_if_the_observed_one_is_unknown(made: tuple[Model, Plan]) -> None:
    model, plan = made
    ranges = {**RANGES, "p": (0.0, 2.5)}
    del ranges["r"], ranges["k"]  # the places where calibration looks
    filled = with_known_ranges(model, plan, ranges)
    assert (filled.values["r"].lo, filled.values["r"].hi) == (0.0, 2.5)
    assert (filled.values["k"].lo, filled.values["k"].hi) == (-4.0, 5.0)


def test_ranges_of_other_values_do_not_matter(made: tuple[Model, Plan]) -> None:
    model, plan = made
    assert with_known_ranges(model, plan, {**RANGES, "gone": (0.0, 1.0)}) == with_known_ranges(model, plan, RANGES)


def test_what_is_missing_is_counted_and_named_with_the_layers_that_need_it(made: tuple[Model, Plan]) -> None:
    model, plan = made
    ranges = {k: v for k, v in RANGES.items() if k not in ("x", "a", "b", "k")}
    with pytest.raises(NotCalibrated) as e:
        with_known_ranges(model, plan, ranges)
    assert str(e.value) == (
        "the checkpoint holds no range for 2 of the 3 values that become integer: x, k. Give data to measure them all, "
        "or keep the layers that need them float: exclude_layers = conv, left, right, cat, flat and 1 more"
    )
