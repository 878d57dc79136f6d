"""Networks that OpenVINO computes wrongly, or refuses, if Q and DQ stand at the next best place."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import numpy_helper, parser

import fewbit as fb
from fewbit.engines import open_runner
from fewbit.graph.build import Builder
from fewbit.graph.files import from_proto
from fewbit.graph.model import Model

RNG = np.random.default_rng(3)


@pytest.fixture(autouse=True)
def installed() -> None:
    pytest.importorskip("openvino")


class Net(Builder):
    """x → whatever a test writes down."""

    def __init__(self, *shape: int) -> None:
        super().__init__("toy")
        self.x = self.input("x", (None, *shape))

    def weight(self, *shape: int) -> Any:
        return self.constant(RNG.standard_normal(shape).astype(np.float32), "w")

    def op(self, op: str, *inputs: Any, **attrs: Any) -> Any:
        return self.node(op, list(inputs), name=op, **attrs)[0]

    def conv(self, x: Any, channels: int, kernel: int, **attrs: Any) -> Any:
        return self.op("Conv", x, self.weight(channels, 3, kernel, kernel), kernel_shape=[kernel] * 2, **attrs)


def pooled(**attrs: Any) -> Model:
    net = Net(3, 11, 12)
    p = net.op("AveragePool", net.conv(net.x, 3, 1), kernel_shape=[3, 3], **attrs)
    return net.finish([(net.conv(p, 4, 1), "y")])


def with_gaps() -> Model:
    text = """<ir_version: 9, opset_import: ["" : 19]> toy (float[n, 3, 11, 12] x) => (float[n, 4, h, w] y)
        { p0 = Conv (x, w0)  p = AveragePool <kernel_shape = [3, 3], dilations = [2, 2]> (p0)  y = Conv (p, w1) }"""
    proto = parser.parse_model(text)
    for name, channels in (("w0", 3), ("w1", 4)):
        weight = RNG.standard_normal((channels, 3, 1, 1)).astype(np.float32)
        proto.graph.initializer.append(numpy_helper.from_array(weight, name))
    return from_proto(proto)


def told_twice(act: str) -> Model:
    net = Net(3, 9, 9)
    c = net.conv(net.x, 3, 3)
    return net.finish([(c, "c"), (net.op(act, c), "y")])


def sampled() -> Model:
    net = Net(3, 12, 12)
    c = net.conv(net.x, 3, 3, pads=[1] * 4)
    return net.finish([(net.conv(c, 4, 1, strides=[2, 2], pads=[1, 1, 0, 0]), "y")])


def joined(axis: int, act: str = "") -> Model:
    net = Net(2, 6, 5)
    c = net.op("Concat", net.x, net.x, axis=axis)
    y = net.op("MatMul", net.op(act, c) if act else c, net.weight(c.shape[3], 4))
    return net.finish([(y, "y"), (net.op("MatMul", net.x, net.weight(5, 4)), "z")])


def joined_conv(act: str = "", transposed: bool = False) -> Model:
    net = Net(3, 6, 6)
    c = net.op("Concat", net.x, net.op("Neg", net.x), axis=2)
    c = net.op(act, c) if act else c
    ends = [(net.conv(c, 4, 3), "y")]
    if transposed:
        ends.append((net.op("ConvTranspose", c, net.weight(3, 4, 3, 3), kernel_shape=[3, 3]), "z"))
    return net.finish(ends)


def worst(model: Model, target: str, mode: str = "full", **words: Any) -> float:
    """SQNR in dB of the quantized network in its engine, against float in ONNX Runtime."""
    shape = [8, *(d for d in model.inputs[0].shape[1:] if isinstance(d, int))]
    x = RNG.standard_normal(shape).astype(np.float32)
    made = fb.quantize(model, x, target=target, quantize_mode=mode, effort="fast", verify=False, **words)
    wanted = open_runner("onnxruntime", model, optimize=False).run({"x": x})
    found = open_runner(target, made).run({"x": x})
    noise = [np.square(wanted[k] - found[k]).sum() / np.square(wanted[k]).sum() for k in wanted]
    return float(-10 * np.log10(max(noise)))


@pytest.mark.parametrize(
    "attrs",
    [
        {"pads": [1] * 4, "count_include_pad": 1},
        {"auto_pad": "SAME_UPPER", "count_include_pad": 1},
        {"pads": [1] * 4},
    ],
)
def test_averages(attrs: dict[str, Any]) -> None:
    assert worst(pooled(**attrs), "openvino") > 25


@pytest.mark.parametrize("target", ["onnxruntime", "openvino", "tensorrt"])
def test_averages_with_gaps_stay_float(target: str) -> None:
    assert worst(with_gaps(), target) > 25
    model = with_gaps()
    (pool,) = (str(n.name) for n in model.nodes if n.op_type == "AveragePool")
    reason = fb.make_plan(model, target=target, quantize_mode="full").nodes[pool].reason
    assert f"AveragePool is integer on {target} only if: no dilations" in reason


@pytest.mark.parametrize("attrs", [{"strides": [2, 2], "count_include_pad": 1, "ceil_mode": 1}, {"pads": [1] * 4}])
def test_averages_of_onnxruntime(attrs: dict[str, Any]) -> None:
    assert worst(pooled(**attrs), "onnxruntime") > 25


@pytest.mark.parametrize("act", ["Relu", "LeakyRelu"])
def test_a_value_that_is_an_answer_and_is_activated(act: str) -> None:
    assert worst(told_twice(act), "openvino") > 25


@pytest.mark.parametrize("mode", ["full", "smart"])
def test_a_product_behind_a_concat(mode: str) -> None:
    assert worst(joined(1), "openvino", mode) > 25
    assert worst(joined(-2), "openvino", mode) > 25


def test_what_is_behind_a_concat_stays_float_only_where_it_has_to() -> None:
    for model, integer in ((joined(2, "Relu"), False), (joined(3), True), (joined(2, "Sigmoid"), True)):
        plan = fb.make_plan(model, target="openvino", quantize_mode="full")
        verdict = plan.nodes["MatMul"]
        assert verdict.quantized is integer
        assert integer or "matrix weight, not behind Concat" in verdict.reason


def test_a_padded_stride_behind_a_convolution() -> None:
    assert worst(sampled(), "openvino") > 25
    assert worst(sampled(), "openvino", "smart") > 25


@pytest.mark.parametrize("act", ["", "Relu"])
@pytest.mark.parametrize("mode", ["full", "smart"])
def test_a_convolution_of_signed_integers_behind_a_concat(act: str, mode: str) -> None:
    assert worst(joined_conv(act), "openvino", mode, quantized_dtype="int8") > 25
    assert worst(joined_conv(act, transposed=True), "openvino", mode) > 25


def test_unsigned_integers_behind_a_concat_need_no_more() -> None:
    x = RNG.standard_normal((4, 3, 6, 6)).astype(np.float32)
    made = fb.quantize(joined_conv(), x, target="openvino", quantize_mode="full", effort="fast", verify=False)
    assert "MaxPool" not in made.op_counts()


@pytest.mark.filterwarnings("ignore:SLOWER THAN FLOAT", "ignore:NOT FASTER THAN FLOAT")
def test_the_report_says_that_openvino_is_wrong_in_float() -> None:
    x = RNG.standard_normal((8, 3, 12, 12)).astype(np.float32)
    with pytest.warns(fb.errors.FewbitWarning, match="WRONG ALREADY IN FLOAT"):
        made = fb.quantize(sampled(), x, target="openvino", quantize_mode="full", effort="fast")
    assert made.report.float_sqnr < 10 and made.report.sqnr > 25
