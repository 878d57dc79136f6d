"""ResNet-18 and ResNet-50 with random weights, in two forms; see `resnet.py` for the first.

    centred   filters with sum 0 and unequal channels, so that activations stay near 1: `resnet.py` for other depths
    plain     what frameworks start from: normal weights, He et al. 2015 by the outputs; BatchNorm of mean 0, variance 1
              folded, biases 0

Plain ones take 8.7 and 19.0 MB in mixed bit at init_scale 0.02, as those that MindSpore Lite's figures are known of.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from zoo.resnet import STAGES, _Writer

BASIC = {64: 2, 128: 2, 256: 2, 512: 2}
"""Width → blocks of ResNet-18."""


class _Plain(_Writer):
    def conv(self, name: str, x: str, cin: int, cout: int, k: int, stride: int, power: float) -> str:
        """A convolution as it is before training; `power` is left to chance."""
        w = self.weight(f"{name}.weight", self.rng.normal(0, np.sqrt(2 / (cout * k * k)), (cout, cin, k, k)))
        words = {"kernel_shape": [k, k], "strides": [stride] * 2, "pads": [k // 2] * 4}
        return self.node("Conv", name, [x, w, self.weight(f"{name}.bias", np.zeros(cout))], **words)


def _basic(net: _Writer, name: str, x: str, cin: int, width: int, stride: int) -> str:
    """Two 3x3 and the shortcut, added and rectified."""
    y = net.relu(f"{name}/relu1", net.conv(f"{name}/conv1", x, cin, width, 3, stride, 2.5))
    y = net.conv(f"{name}/conv2", y, width, width, 3, 1, 0.5)
    if cin != width:
        x = net.conv(f"{name}/downsample", x, cin, width, 1, stride, 1)
    return net.relu(f"{name}/relu2", net.node("Add", f"{name}/add", [y, x]))


def resnet(path: Path, depth: int, *, plain: bool, seed: int = 0) -> Path:
    """Write the model: input `input` (N, 3, 224, 224), output `logits` (N, 1000), opset 17."""
    net = _Plain(seed, bn=False) if plain else _Writer(seed, bn=False)
    x = net.relu("relu", net.conv("conv1", "input", 3, 64, 7, 2, 2))
    x = net.node("MaxPool", "maxpool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    cin = 64
    for stage, (width, blocks, first) in enumerate(STAGES, 1):
        for block in range(BASIC[width] if depth == 18 else blocks):
            name, stride = f"layer{stage}/{block}", first if block == 0 else 1
            if depth == 18:
                x, cin = _basic(net, name, x, cin, width, stride), width
            else:
                x, cin = net.block(name, x, cin, width, stride), 4 * width
    x = net.node("Flatten", "flatten", [net.node("GlobalAveragePool", "pool", [x])])
    w = net.weight("fc.weight", net.rng.normal(0, 1 / np.sqrt(cin), (1000, cin)))
    net.nodes.append(
        helper.make_node("Gemm", [x, w, net.weight("fc.bias", np.zeros(1000))], ["logits"], "fc", transB=1)
    )
    graph = helper.make_graph(
        net.nodes,
        f"resnet{depth}",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, 224, 224])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 1000])],
        net.weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path
