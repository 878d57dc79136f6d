from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import fewbit as fb
from fewbit.engines import open_runner
from fewbit.graph.build import Builder
from fewbit.graph.model import Model
from fewbit.graph.sampling import sample_first


def stage(kernel: int = 1, strides: tuple[int, int] = (2, 2), other: tuple[int, int] = (2, 2), pads: int = 0) -> Model:
    """What stands between two stages of a ResNet: two convolutions read one value."""
    rng, build = np.random.default_rng(0), Builder("stage")
    x = build.input("x", (None, 8, 9, 9))

    def conv(x, name, k, strides, pads=0):  # type: ignore[no-untyped-def]
        weight = build.constant(rng.standard_normal((16, x.shape[1], k, k)).astype(np.float32), f"{name}_w")
        (y,) = build.node("Conv", [x, weight], name=name, kernel_shape=[k, k], strides=strides, pads=[pads] * 4)
        return y

    (r,) = build.node("Relu", [conv(x, "before", 1, (1, 1))], name="relu")
    (y,) = build.node("Add", [conv(r, "a", kernel, strides, pads), conv(r, "b", 1, other)], name="add")
    return build.finish([(y, "y")])


DATA = np.random.default_rng(1).standard_normal((12, 8, 9, 9)).astype(np.float32)


def test_a_target_that_asks_for_it_gets_the_same_numbers() -> None:
    made = fb.quantize(stage(), DATA, target="openvino", quantize_mode="full", effort="fast", verify=False)
    assert made.op_counts()["MaxPool"] == 1
    plain = fb.quantize(stage(), DATA, target="onnxruntime", quantize_mode="full", effort="fast", verify=False)
    assert "MaxPool" not in plain.op_counts()
    before = plain.clone()
    assert sample_first(plain) == 1 and sample_first(plain) == 0
    found, wanted = (open_runner("onnxruntime", m, optimize=False).run({"x": DATA})["y"] for m in (plain, before))
    np.testing.assert_array_equal(found, wanted)


def test_openvino_computes_them_in_integers() -> None:
    made = fb.quantize(stage(), DATA, target="openvino", quantize_mode="full", effort="fast", verify=False)
    convs = [e for e in open_runner("openvino", made).executed() if e.op == "Convolution"]
    assert len(convs) == 3 and all(e.integer for e in convs)


@pytest.mark.parametrize("words", [{"strides": (1, 1), "other": (1, 1)}, {"kernel": 3, "pads": 1}])
def test_others_stay_as_they_are(words: dict[str, Any]) -> None:
    made = fb.quantize(stage(**words), DATA, target="openvino", quantize_mode="full", effort="fast", verify=False)
    assert "MaxPool" not in made.op_counts()
