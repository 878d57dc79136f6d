"""Where a layer's bias sits, and what is added to it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fewbit.core.plan import Plan
from fewbit.errors import PlanError
from fewbit.graph.bias import add_bias, bias_of, bias_place, sum_of
from fewbit.graph.fuse import fuse
from fewbit.graph.model import Model, const
from tests.graph.nets import f32, feeds, net, run_plain
from tests.models import load, plan_for, tied

B5 = np.arange(5, dtype=np.float32)
ROW = B5.reshape(1, 1, 5)

PLACES = {  # layer, text, weights, what is there; of a convolution only the right side
    "Conv": ("y", "Conv(x, w, b)", {"w": (5, 3, 1, 1), "b": B5}, B5),
    "Conv without": ("y", "Conv(x, w)", {"w": (5, 3, 1, 1)}, 0 * B5),
    "Conv, left out": ("y", "Conv(x, w)", {"w": (5, 3, 1, 1)}, 0 * B5),
    "ConvTranspose": ("y", "ConvTranspose(x, w, b)", {"w": (3, 5, 1, 1), "b": B5}, B5),
    "ConvTranspose, groups": ("y", "ConvTranspose<group=3>(x, w)", {"w": (3, 2, 1, 1)}, np.zeros(6)),
    "Gemm": ("y", "Gemm(x, w, b)", {"w": (4, 5), "b": B5}, B5),
    "Gemm, beta": ("y", "Gemm<beta=0.25>(x, w, b)", {"w": (4, 5), "b": B5}, B5 / 4),
    "Gemm, beta, without": ("y", "Gemm<beta=4.0>(x, w)", {"w": (4, 5)}, 0 * B5),
    "Gemm, a row": ("y", "Gemm(x, w, b)", {"w": (4, 5), "b": B5[None]}, B5[None]),
    "Gemm transposed, without": ("y", "Gemm<transB=1>(x, w)", {"w": (5, 4)}, 0 * B5),
    "MatMul, marked": ("p", "Add(p, b)", {"w": (4, 5), "b": B5}, B5),
    "MatMul, other side": ("p", "Add(b, p)", {"w": (4, 5), "b": ROW}, ROW),
}


def made(name: str) -> tuple[Model, Any]:
    layer, last, weights, _ = PLACES[name]
    x = "1,3,4,4" if "Conv" in name else "2,4" if "Gemm" in name else "2,3,4"
    before = "p = MatMul(x, w) " if layer == "p" else ""
    model = net(f"(float[{x}] x) => (float[{'N,M,H,W'[: len(x)]}] y) {{ {before}y = {last} }}", **weights)
    if "left out" in name:  # a third input that is there, and empty
        model.node(layer).resize_inputs(3)
    model = fuse(model) if layer == "p" else model
    return model, model.node(layer)


@pytest.mark.parametrize("name", PLACES)
def test_each_operator_has_its_place(name: str) -> None:
    _, node = made(name)
    place, found = bias_place(node), bias_of(node)
    assert place is not None and found is not None
    np.testing.assert_array_equal(found, PLACES[name][3])
    assert sum_of(node).name == "y" and place[0].name == "y"


@pytest.mark.parametrize("name", PLACES)
def test_what_is_added_is_added_to_the_sum(name: str) -> None:
    model, node = made(name)
    plan = plan_for(model)
    before, fed = run_plain(model, feeds(model))[0], feeds(model)
    copy = model.clone()
    found = copy.node(str(node.name))
    shift = np.linspace(-2, 3, PLACES[name][3].size)
    verdict = replace(plan.nodes[str(node.name)], bias=tuple(shift.tolist()))
    after = add_bias(copy, found, verdict, copy.names())
    if plan.nodes[str(node.name)].quantized:  # others have no roles
        assert "bias" in after.roles or name.startswith("MatMul")
        assert len(after.roles) == len(found.inputs)
    axis = 1 if before.ndim == 4 else -1
    along = np.moveaxis(run_plain(copy, fed)[0] - before, axis, -1)
    np.testing.assert_allclose(along, np.broadcast_to(shift, along.shape), atol=1e-5)
    np.testing.assert_array_equal(run_plain(model, fed)[0], before)


def test_nothing_to_add_changes_nothing() -> None:
    model, node = made("Conv without")
    verdict = plan_for(model).nodes["y"]
    assert add_bias(model, node, verdict, model.names()) is verdict and len(node.inputs) == 2


def test_layers_that_share_a_bias_part() -> None:
    text = "(float[2,5] x) => (float[2,5] y, float[2,5] z) { y = Gemm(x, w, b) z = Gemm(x, v, b) }"
    model = net(text, w=(5, 5), v=(5, 5), b=B5)
    before = run_plain(model, feeds(model))
    verdict = replace(plan_for(model).nodes["y"], bias=(1.0,) * 5)
    add_bias(model, model.node("y"), verdict, model.names())
    after = run_plain(model, feeds(model))
    np.testing.assert_allclose(after[0] - before[0], 1, atol=1e-5)
    np.testing.assert_array_equal(after[1], before[1])


def test_one_number_for_all_becomes_one_for_each() -> None:
    model = net("(float[2,4] x) => (float[2,5] y) { y = Gemm(x, w, b) }", w=(4, 5), b=f32(3))
    add_bias(model, model.node("y"), replace(plan_for(model).nodes["y"], bias=tuple(B5.tolist())), model.names())
    np.testing.assert_array_equal(const(model.node("y").inputs[2]), B5 + 3)  # type: ignore[arg-type]


NO_PLACE = {
    "MatMul alone": "(float[2,3,4] x) => (float[2,3,5] y) { y = MatMul(x, w) }",
    "a product that is an output": "(float[2,3,4] x) => (float[2,3,5] p, float[2,3,5] y) "
    "{ p = MatMul(x, w) y = Add(p, b) }",
    "one number a row": "(float[2,4] x) => (float[2,5] y) { y = Gemm(x, w, c) }",
    "one number a row, square": "(float[5,4] x) => (float[5,5] y) { y = Gemm(x, w, c5) }",
    "a number for each": "(float[2,4] x) => (float[2,5] y) { y = Gemm(x, w, m) }",
    "it does not count": "(float[2,4] x) => (float[2,5] y) { y = Gemm<beta=0.0>(x, w, b) }",
    "computed": "(float[2,4] x, float[5] b) => (float[2,5] y) { y = Gemm(x, w, b) }",
}


@pytest.mark.parametrize("name", NO_PLACE)
def test_some_have_none(name: str) -> None:
    text = NO_PLACE[name]
    biases = {"c": (2, 1), "c5": (5, 1), "m": (2, 5)} | ({} if "float[5] b" in text else {"b": B5})
    model = net(text, w=(4, 5), **{k: v for k, v in biases.items() if f", {k})" in text})
    model = fuse(model)
    layer = next(n for n in model.nodes if n.op_type in ("MatMul", "Gemm"))
    assert bias_place(layer) is None and bias_of(layer) is None and sum_of(layer) is layer.outputs[0]
    verdict = replace(plan_for(model).nodes[str(layer.name)], bias=(0.5,) * 5)
    with pytest.raises(PlanError, match=rf"corrects the bias of layer '{layer.name}', which has no place for one"):
        add_bias(model, layer, verdict, model.names())


def test_other_operators_have_none() -> None:
    model = net("(float[2,4] x) => (float[2,4] y) { y = Add(x, b) }", b=(4,))
    assert bias_place(model.node("y")) is None


def test_a_bias_that_float32_cannot_hold_is_told() -> None:
    model = net("(float[2,4] x) => (float[2,5] y) { y = Gemm<beta=1e-30>(x, w, b) }", w=(4, 5), b=B5)
    verdict = replace(plan_for(model).nodes["y"], bias=(1e10,) * 5)
    with pytest.raises(PlanError, match="layer 'y': the plan holds a bias that float32 cannot hold"):
        add_bias(model, model.node("y"), verdict, model.names())


@pytest.mark.parametrize("count", [1, 4, 6])
@pytest.mark.parametrize("name", ["Conv", "Conv without", "Gemm", "MatMul, marked"])
def test_another_number_of_channels_is_told(name: str, count: int) -> None:
    model, node = made(name)
    verdict = replace(plan_for(model).nodes[str(node.name)], bias=(0.5,) * count)
    with pytest.raises(PlanError, match=rf"layer '{node.name}' has 5 channels; the plan holds {count} for its bias"):
        add_bias(model, node, verdict, model.names())


def test_a_layer_may_be_corrected_though_others_share_its_weight() -> None:
    model = load(tied())
    plan: Plan = plan_for(model)
    add_bias(model, model.node("fc1"), replace(plan.nodes["fc1"], bias=(1.0,) * 6), model.names())
    np.testing.assert_array_equal(bias_of(model.node("fc1")), np.ones(6))  # type: ignore[arg-type]
    np.testing.assert_array_equal(bias_of(model.node("fc2")), np.zeros(6))  # type: ignore[arg-type]
