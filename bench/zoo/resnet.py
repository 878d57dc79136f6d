"""ResNet-50 with seeded random weights, written node by node: no torch, no download.

    resnet50      BatchNorm folded: 53 Conv, 49 Relu, 16 Add, MaxPool, GlobalAveragePool, Flatten, Gemm
    resnet50_bn   the same function with 53 BatchNormalization nodes that a fuse step must fold again

Convolutions follow He et al. 2015 with every filter centred to sum 0: what a Relu adds to the mean is not passed on, as
behind a trained BatchNorm, so activations stay near 1 from end to end and different images give different outputs.
A log-normal gain a channel gives the channels unequal ranges. The stride sits on the 3x3 convolution (version 1.5).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))  # width, blocks, stride
EPSILON = 1e-5


class _Writer:
    """Collects nodes and weights; every method returns the name of its output."""

    def __init__(self, seed: int, bn: bool) -> None:
        self.rng = np.random.default_rng(seed)
        self.bn = bn
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def weight(self, name: str, values: np.ndarray) -> str:
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(values, np.float32), name))
        return name

    def node(self, op: str, name: str, inputs: list[str], **attributes: object) -> str:
        self.nodes.append(helper.make_node(op, inputs, [f"{name}_out"], name, **attributes))
        return f"{name}_out"

    def conv(self, name: str, x: str, cin: int, cout: int, k: int, stride: int, power: float) -> str:
        """A convolution whose output has `power` times the power of its input, biased a little."""
        rng = self.rng
        w = rng.normal(0, np.sqrt(power / (cin * k * k)), (cout, cin, k, k))
        w -= w.mean((1, 2, 3), keepdims=True)
        w *= np.exp(rng.normal(0, 0.25, (cout, 1, 1, 1)))
        b = rng.normal(0, 0.1, cout)
        gamma, var = rng.uniform(0.5, 1.5, cout), rng.uniform(0.5, 1.5, cout)  # drawn in both forms: same weights
        mean = rng.normal(0, 0.1, cout)
        words = {"kernel_shape": [k, k], "strides": [stride] * 2, "pads": [k // 2] * 4}
        if not self.bn:
            return self.node(
                "Conv", name, [x, self.weight(f"{name}.weight", w), self.weight(f"{name}.bias", b)], **words
            )
        s = gamma / np.sqrt(var + EPSILON)
        x = self.node("Conv", name, [x, self.weight(f"{name}.weight", w / s.reshape(-1, 1, 1, 1))], **words)
        four = {"gamma": gamma, "beta": b + mean * s, "mean": mean, "var": var}
        return self.node(
            "BatchNormalization",
            f"{name}_bn",
            [x, *(self.weight(f"{name}_bn.{k}", v) for k, v in four.items())],
            epsilon=EPSILON,
        )

    def relu(self, name: str, x: str) -> str:
        return self.node("Relu", name, [x])

    def block(self, name: str, x: str, cin: int, width: int, stride: int) -> str:
        """1x1, 3x3, 1x1 and the shortcut, added and rectified."""
        cout = 4 * width
        y = self.relu(f"{name}/relu1", self.conv(f"{name}/conv1", x, cin, width, 1, 1, 2.5))
        y = self.relu(f"{name}/relu2", self.conv(f"{name}/conv2", y, width, width, 3, stride, 2.5))
        y = self.conv(f"{name}/conv3", y, width, cout, 1, 1, 0.5)
        if cin != cout:
            x = self.conv(f"{name}/downsample", x, cin, cout, 1, stride, 1)
        return self.relu(f"{name}/relu3", self.node("Add", f"{name}/add", [y, x]))


def resnet50(path: Path, *, bn: bool = False, seed: int = 0) -> Path:
    """Write the model: input `input` (N, 3, 224, 224), output `logits` (N, 1000), opset 17."""
    net = _Writer(seed, bn)
    x = net.relu("relu", net.conv("conv1", "input", 3, 64, 7, 2, 2))
    x = net.node("MaxPool", "maxpool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    cin = 64
    for stage, (width, blocks, first) in enumerate(STAGES, 1):
        for block in range(blocks):
            x = net.block(f"layer{stage}/{block}", x, cin, width, first if block == 0 else 1)
            cin = 4 * width
    x = net.node("Flatten", "flatten", [net.node("GlobalAveragePool", "pool", [x])])
    w = net.weight("fc.weight", net.rng.normal(0, 1 / np.sqrt(cin), (1000, cin)))
    net.nodes.append(
        helper.make_node("Gemm", [x, w, net.weight("fc.bias", np.zeros(1000))], ["logits"], "fc", transB=1)
    )
    graph = helper.make_graph(
        net.nodes,
        "resnet50",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, 224, 224])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 1000])],
        net.weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path
