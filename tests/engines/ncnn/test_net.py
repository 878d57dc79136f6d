"""ONNX → ncnn: every layer is found under the names that pnnx gives, merged or not, or it stays float and says why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest

import fewbit as fb
from fewbit.engines import open_runner
from fewbit.engines.ncnn import match, net, pnnx
from fewbit.engines.ncnn.net import NcnnNet, to_ncnn
from fewbit.engines.ncnn.weights import FUSED
from fewbit.errors import EngineError, EngineMissing
from fewbit.graph.fuse import fuse
from fewbit.graph.model import Model
from tests.models import depthwise, info, load, node, proto, residual, weight

Array = Any


def image(*shape: int, seed: int = 1) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def quantized(made: onnx.ModelProto, x: Array, target: str = "ncnn", **words: Any) -> Any:
    fused = fuse(load(made))
    plan = fb.make_plan(fused, target=target, **words)
    return fb.apply(fused, fb.calibrate(fused, plan, {i.name: x for i in fused.inputs}))


def small(*nodes: Any, x: Sequence[Any] = (1, 4, 8, 8), y: str = "y", **weights: Any) -> onnx.ModelProto:
    return proto(list(nodes), [info("x", x)], [info(n, None) for n in y.split()], weights)


def check(q: Any, x: Array, names: str, types: str, tolerance: float = 2e-3) -> NcnnNet:
    """Layers are found, and ncnn computes what the simulation does."""
    runner: Any = open_runner("ncnn", q)
    made: NcnnNet = runner.net
    assert list(made.mapping) == names.split() and not made.notes
    assert [next(i.type for i in made.layers if i.name == made.mapping[n]) for n in made.mapping] == types.split()
    want, got = open_runner("onnxruntime", q, literal=True).run({"x": x}), runner.run({"x": x})
    assert list(got) == list(want)
    for name in want:
        assert got[name].shape == want[name].shape
        assert np.abs(got[name] - want[name]).max() <= tolerance * np.abs(want[name]).max()
    return made


CONV = node("Conv", "x w b", "c", "conv", pads=[1, 1, 1, 1])
RELU = node("Relu", "c", "y", "act")
W = {"w": weight(8, 4, 3, 3), "b": weight(8)}
MERGED = {
    "relu": lambda x, y: [node("Relu", x, y)],
    "relu6": lambda x, y: [node("Clip", f"{x} lo hi", y)],
    "leaky": lambda x, y: [node("LeakyRelu", x, y, alpha=0.1)],
    "sigmoid": lambda x, y: [node("Sigmoid", x, y)],
    "hardswish": lambda x, y: [node("HardSwish", x, y)],
    "swish": lambda x, y: [node("Sigmoid", x, f"{y}_s"), node("Mul", f"{x} {y}_s", y)],
    "tanh": lambda x, y: [node("Tanh", x, y)],
}


def test_layers_with_what_is_merged_into_them_or_is_not() -> None:
    nodes, at, weights = [], "x", {"lo": np.float32(0), "hi": np.float32(6)}
    for i, (kind, make) in enumerate(MERGED.items()):
        weights |= {f"w{i}": weight(4, 4, 3, 3, seed=i), f"b{i}": weight(4, seed=i)}
        nodes.append(node("Conv", f"{at} w{i} b{i}", f"c{i}", kind, pads=[1, 1, 1, 1]))
        at = f"y{i}" if i + 1 < len(MERGED) else "y"
        nodes += make(f"c{i}", at)
    x = image(1, 4, 8, 8)
    made = check(quantized(small(*nodes, **weights), x), x, " ".join(MERGED), " ".join(["Convolution"] * len(MERGED)))
    found = [layer.int(9) for layer in made.layers if layer.type == "Convolution"]
    assert found == [1, 3, 2, 4, 0, 0, 0], "pnnx merges these into layers, and leaves the others beside them"


def test_a_residual_block_and_values_that_are_read_both_ways() -> None:
    x = image(1, 3, 6, 6)
    made = check(quantized(residual(), x), x, "conv1 conv2", "Convolution Convolution")
    assert all(layer.int(8) < FUSED for layer in made.layers), "the sum reads it as a float"


def test_depthwise_layers_hand_on_int8() -> None:
    x = image(1, 4, 6, 6)
    made = check(quantized(depthwise(), x), x, "depthwise pointwise", "ConvolutionDepthWise Convolution")
    assert [layer.int(8) for layer in made.layers if layer.int(8)] == [101, 2]
    assert made.weights["convdwclip_0"]["output_scale"] == made.weights[made.mapping["pointwise"]]["input_scale"]


def test_a_grouped_layer_with_several_outputs_in_a_group() -> None:
    """ncnn has one scale a group: integers of outputs with smaller scales are computed anew, which costs a little."""
    x = image(1, 4, 8, 8)
    grouped = small(node("Conv", "x w b", "y", "conv", group=2), w=weight(8, 2, 3, 3), b=weight(8))
    q = quantized(grouped, x)
    runner: Any = open_runner("ncnn", q)
    assert runner.net.notes == (
        "layer 'conv': ncnn has one scale for all outputs of a group; some integers were rounded anew, to the largest",
    )
    got, want = runner.run({"x": x})["y"], open_runner("onnxruntime", q, literal=True).run({"x": x})["y"]
    assert 1e-6 < np.abs(got - want).max() / np.abs(want).max() < 0.03


def test_strides_pads_and_dilations() -> None:
    x = image(1, 4, 9, 9)
    odd = small(
        node("Conv", "x w b", "c", "one", strides=[2, 2], pads=[0, 1, 1, 0]),
        node("Conv", "c v", "d", "two", dilations=[2, 2], pads=[2, 2, 2, 2]),
        node("Conv", "d u", "y", "three", auto_pad="SAME_UPPER", strides=[2, 2]),
        x=(1, 4, 9, 9), w=W["w"], b=W["b"], v=weight(8, 8, 3, 3), u=weight(4, 8, 3, 3),
    )  # fmt: skip
    check(quantized(odd, x), x, "one two three", "Convolution Convolution Convolution")


def test_two_readers_of_one_weight_and_two_layers_that_are_the_same() -> None:
    x = image(1, 4, 8, 8)
    v = weight(4, 4, 3, 3)
    twins = small(
        *[node("Conv", f"{a} {w}", b, name, pads=[1, 1, 1, 1]) for a, w, b, name in (
            ("x", "w", "a", "first"), ("r", "w", "d", "again"), ("r", "same", "e", "same"))],
        node("Relu", "a", "r", "relu"), node("Add", "d e", "y", "add"),
        w=v, same=v.copy(),
    )  # fmt: skip
    q = quantized(twins, x)
    runner: Any = open_runner("ncnn", q)
    assert runner.net.mapping["first"] != runner.net.mapping["again"]
    want = open_runner("onnxruntime", q, literal=True).run({"x": x})["y"]
    assert np.abs(runner.run({"x": x})["y"] - want).max() < 2e-3 * np.abs(want).max()


@pytest.mark.parametrize("turned", [False, True])
def test_matrix_products_of_rows(turned: bool) -> None:
    w = weight(8, 5)
    dense = small(
        node("Gemm", "x w b", "y", "dense", transB=int(turned)), x=("n", 8), w=w.T.copy() if turned else w, b=weight(5)
    )
    x = image(4, 8)
    check(quantized(dense, x), x, "dense", "InnerProduct")


def test_a_matrix_product_in_a_sequence_becomes_an_inner_product() -> None:
    x = image(1, 6, 8)
    dense = small(
        node("MatMul", "x w", "m", "dense"), node("Add", "m b", "y", "add"), x=(1, 6, 8), w=weight(8, 5), b=weight(5)
    )
    made = check(quantized(dense, x), x, "dense", "InnerProduct")
    assert not any(layer.type == "Gemm" for layer in made.layers)
    assert any(layer.type == "Gemm" for layer in made.float_layers)


def test_channels_without_weights_have_a_scale_that_ncnn_can_load() -> None:
    w, x = W["w"].copy(), image(1, 4, 8, 8)
    w[3] = 0
    made = check(quantized(small(CONV, RELU, w=w, b=W["b"]), x), x, "conv", "Convolution")
    scales = made.weights[made.mapping["conv"]]["weight_scale"]
    assert np.isfinite(scales).all() and scales[3] == 1


def test_several_inputs_and_outputs_under_their_names() -> None:
    pair = proto(
        [node("Conv", "left w", "a", "one"), node("Conv", "right w", "b", "two"), node("Add", "a b", "sum", "add")],
        [info("left", [1, 4, 8, 8]), info("right", [1, 4, 8, 8])], [info("sum", None), info("a", None)],
        {"w": weight(4, 4, 3, 3)},
    )  # fmt: skip
    q = quantized(pair, image(1, 4, 8, 8))
    feeds = {"right": image(3, 4, 8, 8, seed=2), "left": image(3, 4, 8, 8, seed=3)}
    runner, simulation = open_runner("ncnn", free(q)), open_runner("onnxruntime", free(q), literal=True)
    got, want = runner.run(feeds), simulation.run(feeds)
    for name in ("sum", "a"):
        np.testing.assert_allclose(got[name], want[name], atol=1e-4)


def free(model: Any) -> Model:
    """The same with a first axis of any length."""
    made = model.clone()
    for value in (*made.graph.inputs, *(v for n in made.nodes for v in n.outputs)):
        if value.shape is not None and len(value.shape):
            value.shape = type(value.shape)(["n", *list(value.shape)[1:]])
    return made


def test_float_layers_with_weights_keep_them() -> None:
    """Their weights lie in the .bin beside the others."""
    others = small(
        CONV, node("LayerNormalization", "c g g", "d", "ln"), node("PRelu", "d s", "e", "prelu"),
        node("InstanceNormalization", "e g g", "f", "in"), node("Mul", "f m", "h", "mul"),
        node("ConvTranspose", "h t", "i", "up", strides=[2, 2]), node("Reshape", "i shape", "r", "reshape"),
        node("LSTM", "r lw lr", "l", "lstm", hidden_size=5), node("Squeeze", "l axes", "y", "squeeze"),
        **W, g=weight(8), s=weight(8, 1, 1), m=weight(1, 8, 8, 8), t=weight(8, 3, 2, 2), lw=weight(1, 20, 64),
        lr=weight(1, 20, 5), shape=np.array([12, 1, 64]), axes=np.array([1]),
    )  # fmt: skip
    made = to_ncnn(quantized(others, image(1, 4, 8, 8)))
    kinds = {layer.type for layer in made.layers if layer.name in made.weights}
    assert kinds == {"Convolution", "LayerNorm", "PReLU", "InstanceNorm", "MemoryData", "Deconvolution", "LSTM"}
    assert list(made.mapping) == ["conv"]


def test_a_layer_that_pnnx_made_something_else_of_stays_float(monkeypatch: pytest.MonkeyPatch) -> None:
    x = image(1, 4, 6, 6)
    q, convert = quantized(depthwise(), x), pnnx.converted

    def changed(*given: Any) -> Any:
        layers, weights = convert(*given)
        weights["convdwclip_0"]["weight"] = weights["convdwclip_0"]["weight"] * np.float32(1.0001)
        return layers, weights

    monkeypatch.setattr(net, "converted", changed)
    made = to_ncnn(q)
    assert list(made.mapping) == ["pointwise"]
    assert made.notes == (
        "layer 'depthwise' stays float in ncnn: no layer of ncnn's network has its weights; pnnx made something else "
        "of it",
    )


def test_the_right_weights_in_the_wrong_place_are_not_taken() -> None:
    """Two layers of the same weights, their inputs exchanged: values tell."""
    given = {"op": "Conv", "integer": None, "weight": W["w"], "x": np.ones(4), "ys": (np.arange(3.0),)}
    layer = next(x for x in to_ncnn(load(small(CONV, RELU, **W))).layers if x.type == "Convolution")
    blobs = {layer.inputs[0]: np.ones(4), layer.outputs[0]: np.arange(3.0)}
    wanted = match.Wanted(**given)  # type: ignore[arg-type]
    assert match.matches(wanted, layer, blobs) == ""
    assert "reads other values (off by 1)" in match.matches(replace(wanted, x=np.zeros(4)), layer, blobs)
    assert "reads other values (off by inf)" in match.matches(replace(wanted, x=np.zeros(5)), layer, blobs)
    assert "answers with other values" in match.matches(replace(wanted, ys=(np.arange(3.0) + 1,)), layer, blobs)
    assert "activation 77, which is not known" in match.matches(wanted, layer.with_params(_9=77), blobs)


def test_a_network_that_pnnx_computes_otherwise_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    convert = pnnx.converted

    def changed(*given: Any) -> Any:
        layers, weights = convert(*given)
        weights["convrelu_0"]["bias"] = weights["convrelu_0"]["bias"] + np.float32(1)
        return layers, weights

    monkeypatch.setattr(net, "converted", changed)
    with pytest.raises(EngineError, match="another network of this one: output 'y' is off by 0"):
        to_ncnn(load(small(CONV, RELU, **W)))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (
            (1, 4, "h", "w"),
            r"input x: float32\[1, 4, h, w\] has sizes that are free.*"
            r"input_shapes=\{'x': \(1, 4, 224, 224\)\} or --input-shapes x:1,4,224,224",
        ),
        ((2, 4, 8, 8), r"ncnn has no batches; the first axis must be free, or have length 1"),
    ],
)
def test_sizes_that_are_not_known(shape: Any, message: str) -> None:
    with pytest.raises(EngineError, match=message):
        to_ncnn(load(small(CONV, RELU, x=shape, **W)))


def test_free_sizes_are_those_of_the_sample() -> None:
    model = load(small(CONV, RELU, x=("n", 4, "h", "w"), **W))
    assert to_ncnn(model, {"x": image(2, 4, 10, 6)}).shapes == {"y": (8, 10, 6)}
    with pytest.raises(EngineError, match="there is no array for input 'x'; given: z"):
        to_ncnn(model, {"z": image(1)})


def test_what_pnnx_cannot_take_is_told_in_its_words() -> None:
    model = load(small(node("Erf", "x", "e", "e"), node("Det", "e", "y", "det")))
    with pytest.raises(EngineError, match=r"pnnx|ncnn"):
        to_ncnn(model)


def test_layers_that_ncnn_does_not_have_are_named() -> None:
    model = load(small(CONV, node("Hardmax", "c", "h", "one"), node("Hardmax", "h", "y", "two", axis=1), **W))
    with pytest.raises(EngineError, match=r"^ncnn has no layer Hardmax \('one', 'two'\); take what needs it out of"):
        to_ncnn(model)


def test_pnnx_that_takes_too_long_or_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(small(CONV, RELU, **W))
    with pytest.raises(EngineError, match="pnnx was not done with the network after 0 seconds"):
        to_ncnn(model, timeout=0.001)
    monkeypatch.setattr(pnnx.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EngineMissing, match=r"ncnn is not installed; it comes with: pip install 'fewbit\[ncnn\]'"):
        to_ncnn(model)
