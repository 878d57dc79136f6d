"""Layers as matrix products: what is read off a network against what ONNX Runtime computes with it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewbit.config import QuantConfig
from fewbit.core.params import QuantParams
from fewbit.core.plan import Plan
from fewbit.core.spec import QuantSpec
from fewbit.graph.fuse import fuse
from fewbit.graph.model import Model
from fewbit.quantization.layerwise import _rounded
from fewbit.quantization.linear import Linear, choose, count, linear_layers, patches, sums
from fewbit.quantization.weight_only import make_weight_plan
from tests.graph.nets import net, run_reference
from tests.models import TARGET, concat, conv_relu, depthwise, feeds_for, info, load, node, plan_for, proto, run, tied

CONVOLUTIONS = {  # shape of x, shape of w, attributes
    "1-D": ((2, 3, 11), (4, 3, 3), "strides=[2], pads=[1,0]"),
    "1-D dilated": ((1, 3, 12), (4, 3, 3), "dilations=[3], pads=[2,3]"),
    "2-D": ((3, 3, 6, 7), (5, 3, 3, 2), ""),
    "2-D uneven": ((2, 2, 9, 8), (4, 2, 3, 2), "strides=[2,3], dilations=[1,2], pads=[0,2,1,1]"),
    "1×1": ((2, 6, 4, 4), (3, 6, 1, 1), "strides=[2,2]"),
    "SAME_UPPER": ((2, 3, 7, 8), (4, 3, 4, 3), 'auto_pad="SAME_UPPER", strides=[2,2]'),
    "SAME_LOWER": ((2, 3, 7, 8), (4, 3, 4, 3), 'auto_pad="SAME_LOWER", strides=[2,3]'),
    "SAME_UPPER 1-D, no stride": ((1, 2, 5), (3, 2, 4), 'auto_pad="SAME_UPPER"'),
    "VALID": ((1, 3, 7, 8), (4, 3, 3, 3), 'auto_pad="VALID", strides=[2,1]'),
    "groups": ((2, 6, 5, 5), (4, 3, 3, 3), "group=2, pads=[1,1,1,1]"),
    "depthwise": ((2, 4, 6, 6), (4, 1, 3, 3), "group=4, pads=[1,1,1,1], strides=[2,2]"),
    "depthwise, two each": ((1, 3, 6, 6), (6, 1, 3, 3), "group=3"),
    "3-D": ((2, 2, 4, 5, 4), (3, 2, 2, 3, 2), "pads=[1,0,1,0,1,0], strides=[1,2,1]"),
}  # fmt: skip

PRODUCTS = {
    "Gemm": ("y = Gemm(x, w, b)", (7, 6), (6, 5)),
    "Gemm transposed": ("y = Gemm<transB=1>(x, w, b)", (7, 6), (5, 6)),
    "Gemm without bias": ("y = Gemm<transB=1>(x, w)", (7, 6), (5, 6)),
    "MatMul 2-D": ("y = MatMul(x, w)", (7, 6), (6, 5)),
    "MatMul 3-D": ("y = MatMul(x, w)", (2, 4, 6), (6, 5)),
    "MatMul 4-D": ("y = MatMul(x, w)", (2, 3, 2, 6), (6, 5)),
}


def whole(*shape: int, seed: int = 0) -> Any:
    """Small whole numbers: sums of their products are exact, in any order."""
    return np.random.default_rng(seed).integers(-4, 5, shape).astype(np.float32)


def layers_of(model: Model, plan: Plan | None = None) -> list[Linear]:
    return linear_layers(model, plan or plan_for(model))


def check_rows(model: Model, feeds: dict[str, Any], reference: bool = True) -> Linear:
    """W·patches + b is what two engines answer, to the last bit."""
    (layer,) = layers_of(model, plan_for(model, [feeds]))
    y = run(model.with_outputs([layer.y]), feeds)[layer.y]
    if reference:
        np.testing.assert_array_equal(run_reference(model, feeds)[0], y)
    every = choose(layer, y.shape, 10**9, 0)
    assert len(every) == count(layer, y.shape)
    x = patches(layer, feeds[layer.x], y.shape, every)
    assert x.dtype == np.float32
    np.testing.assert_array_equal(layer.weight @ x + layer.bias.reshape(layer.groups, -1, 1), sums(layer, y, every))
    some = choose(layer, y.shape, max(1, len(every) // 3), seed=1)
    np.testing.assert_array_equal(patches(layer, feeds[layer.x], y.shape, some), x[..., some])
    np.testing.assert_array_equal(sums(layer, y, some), sums(layer, y, every)[..., some])
    np.testing.assert_array_equal(layer.stored(layer.weight), model.value("w").const_value.numpy())  # type: ignore[union-attr]
    np.testing.assert_array_equal(layer.matrix(layer.stored(layer.weight)), layer.weight)
    return layer


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_convolution_is_a_product(name: str) -> None:
    shape, weight, attributes = CONVOLUTIONS[name]
    dims = ",".join("PQRSTU"[: len(shape)])
    text = f"(float[{','.join(map(str, shape))}] x) => (float[{dims}] y) {{ y = Conv<{attributes}>(x, w, b) }}"
    model = net(text.replace("<>", ""), w=whole(*weight), b=whole(weight[0], seed=1))
    layer = check_rows(model, {"x": whole(*shape, seed=2)})
    assert (layer.op, layer.x, layer.y, layer.has_bias, layer.kernel) == ("Conv", "x", "y", True, weight[2:])


@pytest.mark.parametrize("name", PRODUCTS)
def test_so_are_gemm_and_matmul(name: str) -> None:
    body, shape, weight = PRODUCTS[name]
    dims = ",".join("PQRS"[: len(shape)])
    more = {"b": whole(5, seed=1)} if "b)" in body else {}
    model = net(f"(float[{','.join(map(str, shape))}] x) => (float[{dims}] y) {{ {body} }}", w=whole(*weight), **more)
    layer = check_rows(model, {"x": whole(*shape, seed=2)})
    assert layer.has_bias == ("Gemm" in body) and layer.groups == 1 and layer.kernel == ()
    assert layer.bias.any() == bool(more)


GEMMS = {  # attributes, shape of x, of the weight, of the bias
    "transA": ("transA=1", (40, 9), (40, 30), (30,)),
    "transA, square": ("transA=1", (40, 40), (40, 30), None),
    "transA, transB": ("transA=1, transB=1", (40, 9), (30, 40), (1, 30)),
    "alpha": ("alpha=0.5", (9, 40), (40, 30), (30,)),
    "alpha, transA": ("alpha=-2.0, transA=1", (40, 9), (40, 30), None),
    "beta": ("beta=0.25", (9, 40), (40, 30), (30,)),
    "beta without bias": ("beta=0.25", (9, 40), (40, 30), None),
    "beta 0": ("beta=0.0", (9, 40), (40, 30), (30,)),
    "beta 0, a bias of rows": ("beta=0.0", (9, 40), (40, 30), (9, 30)),
    "one number": ("beta=2.0", (9, 40), (40, 30), ()),
}


def gemm(attributes: str, x: tuple[int, ...], w: tuple[int, ...], b: tuple[int, ...] | None) -> Model:
    more = {} if b is None else {"b": whole(*b, seed=1)}
    text = f"(float[{x[0]},{x[1]}] x) => (float[M,N] y) {{ y = Gemm<{attributes}>(x, w{', b' if more else ''}) }}"
    return net(text.replace("<>", ""), w=whole(*w), **more)


def in_few_bits(model: Model) -> Plan:
    return make_weight_plan(model, QuantConfig(quant_type="weight", bit_num=4), TARGET)


@pytest.mark.parametrize("name", GEMMS)
def test_gemm_with_any_attributes_is_a_product(name: str) -> None:
    model = gemm(*GEMMS[name])
    (layer,) = layers_of(model, in_few_bits(model))
    feeds = {"x": whole(*GEMMS[name][1], seed=2)}
    y, every = run(model, feeds)["y"], np.arange(GEMMS[name][1]["transA" in GEMMS[name][0]])
    assert len(every) == count(layer, y.shape)
    found = layer.weight @ patches(layer, feeds["x"], y.shape, every) + layer.bias[None, :, None]
    np.testing.assert_array_equal(found, sums(layer, y, every))
    assert layer.has_bias == ("beta 0" not in name)
    some = patches(layer, feeds["x"], y.shape, every[3:5])
    np.testing.assert_array_equal(some, patches(layer, feeds["x"], y.shape, every)[..., 3:5])


OTHERS = {  # what is added differs from row to row; a weight on the left; a product that is always 0
    "rows": gemm("", (9, 40), (40, 30), (9, 30)),
    "rows, one each": gemm("", (9, 40), (40, 30), (9, 1)),
    "square, one each": gemm("", (30, 40), (40, 30), (30, 1)),
    "alpha 0": gemm("alpha=0.0", (9, 40), (40, 30), None),
    "computed": net("(float[9,40] x, float[30] b) => (float[9,30] y) { y = Gemm(x, w, b) }", w=(40, 30)),
    "Conv, computed": net("(float[1,8,5,5] x, float[16] b) => (float[1,16,3,3] y) { y = Conv(x, w, b) }",
                          w=(16, 8, 3, 3)),
    "left": net("(float[40,9] x) => (float[30,9] y) { y = MatMul(w, x) }", w=(30, 40)),
    "left, Gemm": net("(float[40,9] x) => (float[30,9] y) { y = Gemm(w, x) }", w=(30, 40)),
    "several": net("(float[3,9,40] x) => (float[3,9,30] y) { y = MatMul(x, w) }", w=(3, 40, 30)),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_products_that_are_left_out(name: str) -> None:
    plan = in_few_bits(OTHERS[name])
    assert plan.nodes["y"].quantized and layers_of(OTHERS[name], plan) == []


def test_a_multiple_of_a_rounded_input_is_rounded_before_it_is_multiplied() -> None:
    model = gemm("alpha=0.25", (64, 40), (40, 30), None)
    (layer,) = layers_of(model, in_few_bits(model))
    x, places = np.random.default_rng(0).uniform(0, 255, (64, 40)).astype(np.float32), np.arange(8)
    params = QuantParams(QuantSpec(8, signed=False), np.float32(1), np.int32(0))
    found = _rounded(layer, x, (64, 30), places, params)
    np.testing.assert_array_equal(found[0].T, np.rint(x[:8]) / 4)


BIASED = "(float[2,4,6] x) => (float[2,4,5] y) { p = MatMul(x, w) y = Add(b, p) }"


def test_a_matmul_has_the_bias_that_fusing_marked() -> None:
    model = fuse(net(BIASED, w=whole(6, 5), b=whole(5, seed=1)))
    feeds = {"x": whole(2, 4, 6, seed=2)}
    (layer,) = layers_of(model, plan_for(model, [feeds], exclude_layers=("y",)))
    assert layer.has_bias and layer.y == "y"
    np.testing.assert_array_equal(layer.bias, whole(5, seed=1))
    y, every = run(model, feeds)["y"], np.arange(8)
    x = patches(layer, feeds["x"], y.shape, every)
    np.testing.assert_array_equal(layer.weight @ x + layer.bias[None, :, None], sums(layer, y, every))


def test_it_has_none_where_an_integer_add_of_its_own_adds_it() -> None:
    model = fuse(net(BIASED, w=whole(6, 5), b=whole(5, seed=1)))
    plan = plan_for(model)
    assert plan.nodes["y"].quantized and not plan.nodes["y"].absorbed_by
    (layer,) = layers_of(model, plan)
    assert not layer.has_bias and layer.y == "p" and not layer.bias.any()
    merged = replace(plan.nodes["y"], absorbed_by="p")
    (layer,) = layers_of(model, replace(plan, nodes={**plan.nodes, "y": merged}))
    assert layer.has_bias and layer.y == "y"


def test_one_number_for_all_channels_is_a_bias_of_each() -> None:
    model = net("(float[3,6] x) => (float[3,5] y) { y = Gemm(x, w, b) }", w=whole(6, 5), b=np.float32([[3]]))
    assert check_rows(model, {"x": whole(3, 6, seed=2)}).bias.tolist() == [3] * 5


def test_the_sum_is_taken_in_front_of_the_activation() -> None:
    (layer,) = layers_of(load(conv_relu()))
    assert (layer.name, layer.key, layer.y) == ("conv", "w", "c")


def test_layers_come_in_the_order_of_the_graph() -> None:
    assert [x.name for x in layers_of(load(depthwise()))] == ["depthwise", "pointwise"]
    assert [x.name for x in layers_of(load(concat()))] == ["conv1", "conv2"]


# -- places ----------------------------------------------------------------------------------------------------------


@given(st.integers(1, 200), st.integers(1, 200), st.integers(0, 5))
def test_places_are_different_sorted_and_the_same_every_time(total: int, most: int, seed: int) -> None:
    (layer,) = layers_of(net("(float[N,4] x) => (float[N,2] y) { y = Gemm(x, w) }", w=(4, 2)))
    found = choose(layer, (total, 2), most, seed)
    assert len(found) == min(total, most) and found.min() >= 0 and found.max() < total
    assert (np.diff(found) > 0).all()
    np.testing.assert_array_equal(found, choose(layer, (total, 2), most, seed))


# -- what is left out ------------------------------------------------------------------------------------------------


def test_layers_that_share_a_weight_are_left_out() -> None:
    assert layers_of(load(tied())) == [] == layers_of(load(tied(same_axis=False)))


def test_other_operators_and_computed_weights_are_left_out() -> None:
    up = proto([node("ConvTranspose", "x w", "y", "up")], [info("x", [1, 4, 3, 3])], [info("y", [1, 3, 4, 4])],
               {"w": whole(4, 3, 2, 2)})  # fmt: skip
    model = load(up)
    plan = plan_for(model)
    assert plan.nodes["up"].quantized and layers_of(model, plan) == []


@pytest.mark.parametrize(
    ("words", "count"),
    [
        ({}, 1),
        ({"bit_num": 16}, 0),
        ({"bit_num": 1}, 0),
        ({"weight_bit_num": 2}, 1),
        ({"quantize_granularity": "tensor-wise"}, 1),
        ({"quantize_granularity": "group-wise", "group_size": 8}, 1),
        ({"exclude_layers": ("mm",)}, 0),
    ],
)
def test_formats_that_are_left_out(words: dict[str, Any], count: int) -> None:
    made = proto([node("MatMul", "x w", "y", "mm")], [info("x", ["b", 32])], [info("y", ["b", 8])], {"w": whole(32, 8)})
    model = load(made)
    assert len(layers_of(model, plan_for(model, **words))) == count


def test_inputs_without_a_range_are_left_out() -> None:
    model = load(conv_relu())
    plan = plan_for(model)
    bare = replace(plan.values["x"], lo=None, hi=None)
    assert layers_of(model, replace(plan, values={**plan.values, "x": bare})) == []
    dynamic = replace(plan.values["x"], spec=replace(plan.values["x"].spec, dynamic=True))
    assert layers_of(model, replace(plan, values={**plan.values, "x": dynamic})) == []


def test_nothing_that_is_given_is_changed() -> None:
    model = load(conv_relu())
    before = model.digest()
    (layer,) = layers_of(model)
    with pytest.raises(ValueError, match="read-only"):
        layer.weight[:] = 7
    layer.bias[:] = 7
    feeds = feeds_for(model)
    kept = feeds["x"].copy()
    patches(layer, feeds["x"], (2, 4, 6, 6), np.arange(72))[:] = 7
    assert model.digest() == before
    np.testing.assert_array_equal(feeds["x"], kept)
