from __future__ import annotations

import json

import numpy as np
import pytest
from onnx import helper, numpy_helper

from fewbit.core.spec import QuantSpec
from fewbit.core.target import OpRule, Target
from fewbit.graph.model import Model
from fewbit.report.inspect import Inspection, coverage, inspect
from tests.report.helpers import build, chain, golden, model, with_qdq

ACT, WEIGHT = QuantSpec(signed=False), QuantSpec(signed=True, symmetric=True)
CONV = OpRule("Conv", ("act", "weight", "bias"), core=True, absorbs=("Relu",), when="2-D convolution", pays=0.3)
POOL = OpRule("MaxPool", ("act",), ("same",))
WIDE = Target("wide", "qdq", ACT, WEIGHT, (CONV, POOL, OpRule("Tan", ("act",))), checked="here, one thread")
NARROW = Target("narrow", "qdq", ACT, WEIGHT, (CONV,))
TARGETS = {t.name: t for t in (WIDE, NARROW)}


@pytest.fixture
def network() -> Model:
    """x → conv1 → relu1 → pool → tan → cos, and a pool on the input."""
    rng = np.random.default_rng(0)
    consts = [
        numpy_helper.from_array(rng.standard_normal(s).astype(np.float32), n)
        for n, s in (("w", (8, 3, 3, 3)), ("b", (8,)))
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], "conv1", pads=[1] * 4),
        helper.make_node("Relu", ["c"], ["r"], "relu1"),
        helper.make_node("MaxPool", ["r"], ["p"], "pool1", kernel_shape=[2, 2]),
        helper.make_node("MaxPool", ["p"], ["p2"], "pool2", kernel_shape=[2, 2]),
        helper.make_node("Tan", ["p2"], ["t"], "tan"),
        helper.make_node("Cos", ["t"], ["y"], "cos"),
    ]
    return model(build(nodes, consts, [("x", ["n", 3, 8, 8])], [("y", ["n", 8, 6, 6])]))


@pytest.fixture
def told(network: Model) -> Inspection:
    network.notes.append("shapes could not be inferred")
    return inspect(network, network, TARGETS)


def test_what_is_in_the_model(told: Inspection) -> None:
    assert told.inputs == ("x: float32[n, 3, 8, 8]",) and told.outputs == ("y: float32[n, 8, 6, 6]",)
    assert (told.nodes, told.parameters, told.nbytes, told.opset) == (6, 224, 896, 19)
    assert told.operators == {"MaxPool": 2, "Conv": 1, "Cos": 1, "Relu": 1, "Tan": 1}
    assert told.quantized == () and told.notes == ("shapes could not be inferred",)
    assert [(n.name, n.op, n.weights, n.outputs) for n in told.layers][:2] == [
        ("conv1", "Conv", 224, ("c",)), ("relu1", "Relu", 0, ("r",))
    ]  # fmt: skip


def test_what_a_target_can_do(network: Model) -> None:
    c = coverage(network, WIDE)
    assert (c.nodes, c.integer, c.core) == (6, 5, 1)
    assert c.operators == {"MaxPool": (2, 2), "Conv": (1, 1), "Cos": (0, 1), "Relu": (1, 1), "Tan": (1, 1)}
    (kept,) = c.kept
    assert kept.nodes == ("cos",) and kept.ops == {"Cos": 1} and kept.reason == "no integer Cos on wide"


def test_smart_mode_takes_less(network: Model) -> None:
    c = coverage(network, WIDE)
    assert c.smart == 2 < c.integer  # conv1 with relu1: behind the support operators nothing reads integers


def test_a_row_that_does_not_fit_says_what_it_wants() -> None:
    consts = [numpy_helper.from_array(np.zeros((4, 3, 3), np.float32), "w")]
    m = model(
        build([helper.make_node("Conv", ["x", "w"], ["y"], "conv")], consts, [("x", [1, 3, 9])], [("y", [1, 4, 7])])
    )
    (kept,) = coverage(m, NARROW).kept
    assert "2-D convolution" in kept.reason


def test_the_coverage_is_that_of_the_fused_network(network: Model) -> None:
    found = inspect(network, model(chain()), {"wide": WIDE})
    assert found.nodes == 6 and found.targets[0].nodes == 3
    assert "\nAdd           0  0 of 1\n" in found.text()


def test_a_quantized_model_is_recognised_and_has_no_coverage() -> None:
    m = model(with_qdq(chain(), {"a": (0.1, 0)}))
    found = inspect(m, m, TARGETS)
    assert found.quantized == ("DequantizeLinear", "QuantizeLinear") and found.targets == ()
    assert "quantized   yes: DequantizeLinear, QuantizeLinear" in found.text()


def test_text(told: Inspection) -> None:
    golden("inspection", told.text(layers=True))


def test_layers_are_listed_on_demand_only(told: Inspection) -> None:
    assert "weights  outputs" not in told.text() and "weights  outputs" in told.text(layers=True)


def test_json(told: Inspection) -> None:
    found = json.loads(json.dumps(told.to_json(), allow_nan=False))
    assert found["parameters"] == 224 and found["targets"][0]["operators"]["MaxPool"] == [2, 2]
    assert found["targets"][0]["kept"][0]["nodes"] == ["cos"]
