"""A network with all layers and channels of ResNet-50, on small images, so that a report of it takes seconds."""

from __future__ import annotations

import numpy as np
import onnx

from tests.models import Array, info, node, proto, weight

STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))
"""Width, blocks, stride of the first."""

SIDE = 32


def resnet50() -> onnx.ModelProto:
    """BatchNorm folded: 53 Conv, 49 Relu, 16 Add, MaxPool, GlobalAveragePool, Flatten, Gemm; random weights."""
    nodes: list[onnx.NodeProto] = []
    weights: dict[str, Array] = {}

    def add(op: str, name: str, inputs: str, **words: object) -> str:
        nodes.append(node(op, inputs, f"{name}_out", name, **words))
        return f"{name}_out"

    def conv(name: str, x: str, cin: int, cout: int, k: int = 1, stride: int = 1, power: float = 2.0) -> str:
        scale = float(np.sqrt(power / (cin * k * k)))
        weights[f"{name}.weight"] = weight(cout, cin, k, k, scale=scale)
        weights[f"{name}.bias"] = weight(cout, scale=0.1)
        words = {"kernel_shape": [k, k], "strides": [stride] * 2, "pads": [k // 2] * 4}
        return add("Conv", name, f"{x} {name}.weight {name}.bias", **words)

    x = add("Relu", "relu", conv("conv1", "input", 3, 64, 7, 2))
    x = add("MaxPool", "maxpool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    cin = 64
    for stage, (width, blocks, first) in enumerate(STAGES, 1):
        for block in range(blocks):
            at, stride = f"layer{stage}/{block}", first if block == 0 else 1
            y = add("Relu", f"{at}/relu1", conv(f"{at}/conv1", x, cin, width))
            y = add("Relu", f"{at}/relu2", conv(f"{at}/conv2", y, width, width, 3, stride))
            y = conv(f"{at}/conv3", y, width, 4 * width, power=0.5)
            if block == 0:
                x = conv(f"{at}/downsample", x, cin, 4 * width, 1, stride, power=0.5)
            x = add("Relu", f"{at}/relu3", add("Add", f"{at}/add", f"{y} {x}"))
            cin = 4 * width
    x = add("Flatten", "flatten", add("GlobalAveragePool", "pool", x))
    weights |= {"fc.weight": weight(1000, cin, scale=0.02), "fc.bias": weight(1000, scale=0.1)}
    nodes.append(node("Gemm", f"{x} fc.weight fc.bias", "logits", "fc", transB=1))
    return proto(nodes, [info("input", ["N", 3, SIDE, SIDE])], [info("logits", ["N", 1000])], weights)
