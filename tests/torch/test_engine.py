"""What evaluation computes is, integer for integer, what ONNX Runtime's kernels compute."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from fewbit.core.spec import QuantSpec
from fewbit.torch.engine import counts, integer_add
from fewbit.torch.layers import QUANT_LAYERS
from fewbit.torch.quantizer import ActQuantizer, WeightQuantizer

U8 = QuantSpec(8, signed=False)
S8 = QuantSpec(8, signed=True, symmetric=True, narrow=True, granularity="channel", axis=0)


def quantizer(lo: float, hi: float, spec: QuantSpec = U8) -> ActQuantizer:
    made = ActQuantizer(spec, average="batch").eval()
    made.tracking = False
    made.set_range(lo, hi)
    return made


def run(op: str, domain: str, inputs: list[np.ndarray | None], **attrs: Any) -> np.ndarray:
    """One quantized operator in ONNX Runtime; inputs are constants but for the first."""
    names = [f"i{k}" if x is not None else "" for k, x in enumerate(inputs)]
    consts = [numpy_helper.from_array(np.asarray(x), n) for x, n in zip(inputs[1:], names[1:], strict=True) if n]
    graph = helper.make_graph(
        [helper.make_node(op, names, ["y"], domain=domain, **attrs)],
        "g",
        [helper.make_tensor_value_info("i0", TensorProto.UINT8, inputs[0].shape)],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, None)],
        consts,
    )
    sets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=sets, ir_version=8)
    return ort.InferenceSession(model.SerializeToString()).run(None, {"i0": inputs[0]})[0]


def parts(q: ActQuantizer) -> list[np.ndarray]:
    p = q.params()
    return [np.asarray(p.scale), np.asarray(p.zero_point).astype(np.uint8)]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("groups", [1, 8])
def test_a_convolution_has_the_integers_of_the_engine(seed: int, groups: int) -> None:
    torch.manual_seed(seed)
    conv = nn.Conv2d(8, 16, 3, padding=1, groups=groups)
    layer = QUANT_LAYERS[nn.Conv2d].from_float(conv, WeightQuantizer(S8, tuple(conv.weight.shape))).eval()
    layer.round_bias = True
    x_q, y_q = quantizer(-1.1, 2.3), quantizer(-1.7, 1.9)
    with torch.no_grad():
        x = x_q(torch.randn(4, 8, 12, 12))
        ours = y_q(layer(x, input_scale=x_q, output_scale=y_q))
        weight = layer.weight_quantizer.params(conv.weight)
        steps = x_q.params().scale * weight.scale
        bias = np.rint(conv.bias.numpy().astype(np.float64) / steps.astype(np.float64)).astype(np.int32)
    zeros = np.zeros(16, np.int8)
    ints = [x_q.params().quantize(x.numpy()), *parts(x_q), weight.quantize(conv.weight.detach().numpy()), weight.scale]
    theirs = run("QLinearConv", "", [*ints, zeros, *parts(y_q), bias], pads=[1, 1, 1, 1], group=groups)
    np.testing.assert_array_equal(y_q.params().quantize(ours.numpy()), theirs)


@pytest.mark.parametrize("seed", range(8))
def test_a_sum_has_the_integers_of_the_engine(seed: int) -> None:
    r = np.random.default_rng(seed)
    a, b, c = (quantizer(-lo, hi) for lo, hi in r.uniform(0.2, 3, (3, 2)))
    left, right = (g.ravel().astype(np.uint8) for g in np.meshgrid(np.arange(256), np.arange(256)))
    with torch.no_grad():
        x, y = (torch.from_numpy(q.params().dequantize(v)) for q, v in ((a, left), (b, right)))
        ours = c.params().quantize(c(integer_add(x, y, a, b, c)).numpy())
    inputs = [left, *parts(a), right, *parts(b), *parts(c)]
    np.testing.assert_array_equal(ours, run("QLinearAdd", "com.microsoft", inputs))


def test_where_gradients_are_asked_for_it_is_a_plain_sum() -> None:
    a, b, c = (quantizer(-1, 1) for _ in range(3))
    x = torch.randn(9, requires_grad=True)
    y = torch.randn(9)
    assert not counts()
    torch.testing.assert_close(integer_add(x, y, a, b, c), x + y, rtol=0, atol=0)


@pytest.mark.parametrize("flag", ["enabled", "online"])
def test_a_switch_that_is_off_makes_it_a_plain_sum(flag: str) -> None:
    a, b, c = (quantizer(-1, 1) for _ in range(3))
    setattr(b, flag, not getattr(b, flag))
    x, y = torch.randn(9), torch.randn(9)
    with torch.no_grad():
        torch.testing.assert_close(integer_add(x, y, a, b, c), x + y, rtol=0, atol=0)


def test_mixed_precision_keeps_to_floats() -> None:
    with torch.no_grad():
        assert counts()
        with torch.autocast("cpu", torch.bfloat16):
            assert not counts()
