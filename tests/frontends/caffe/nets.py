"""Whole networks with random weights: a detector as MobileNet-SSD has it, and a classifier in three forms of text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Weights = dict[str, list[NDArray[Any]]]

SSD_INPUT = (2, 3, 64, 64)


class Writer:
    """Layers in a row, as prototxt, with their weights."""

    def __init__(self, seed: int) -> None:
        self.lines: list[str] = []
        self.weights: Weights = {}
        self.rng = np.random.default_rng(seed)

    def layer(self, name: str, type_: str, bottoms: Sequence[str], settings: str = "", top: str = "") -> str:
        ends = " ".join([*(f'bottom: "{b}"' for b in bottoms), f'top: "{top or name}"'])
        self.lines.append(f'layer {{\n  name: "{name}"\n  type: "{type_}"\n  {ends}\n  {settings}\n}}')
        return top or name

    def conv(
        self, name: str, x: str, channels: int, out: int, k: int, stride: int = 1, group: int = 1, *, bn: bool = True
    ) -> str:
        settings = f"num_output: {out} kernel_size: {k} pad: {k // 2} stride: {stride} group: {group}"
        weight = self.rng.normal(0, (2 / (k * k * channels / group)) ** 0.5, (out, channels // group, k, k))
        self.weights[name] = [weight.astype(np.float32)]
        if not bn:
            self.weights[name].append(self.rng.normal(0, 0.1, out).astype(np.float32))
            return self.layer(name, "Convolution", [x], f"convolution_param {{ {settings} }}")
        y = self.layer(name, "Convolution", [x], f"convolution_param {{ {settings} bias_term: false engine: CAFFE }}")
        self.layer(f"{name}/bn", "BatchNorm", [y], "", y)
        self.layer(f"{name}/scale", "Scale", [y], "scale_param { filler { value: 1 } bias_term: true }", y)
        mean, variance = self.rng.normal(0, 0.2, out), self.rng.uniform(0.5, 1.5, out)
        self.weights[f"{name}/bn"] = [(a * 3).astype(np.float32) for a in (mean, variance)] + [
            np.array([3], np.float32)
        ]
        self.weights[f"{name}/scale"] = [self.rng.uniform(0.5, 1.5, out).astype(np.float32) for _ in range(2)]
        return self.layer(f"{name}/relu", "ReLU", [y], "", y)


def ssd(classes: int = 4) -> tuple[str, Weights]:
    """Two maps with boxes, at 64x64."""
    net = Writer(5)
    x = net.conv("conv0", "data", 3, 8, 3, 2)
    maps = []
    for i, (channels, out, stride) in enumerate(((8, 16, 2), (16, 24, 2), (24, 32, 2)), 1):
        x = net.conv(f"conv{i}/dw", x, channels, channels, 3, stride, channels)
        x = net.conv(f"conv{i}", x, channels, out, 1)
        maps += [(x, out, 16 * i, 16 * i + 12)] if i > 1 else []
    heads: dict[str, list[str]] = {"loc": [], "conf": [], "priorbox": []}
    for x, channels, small, large in maps:
        for kind, wide in (("loc", 4), ("conf", classes)):
            y = net.conv(f"{x}_mbox_{kind}", x, channels, 4 * wide, 1, bn=False)
            y = net.layer(f"{y}_perm", "Permute", [y], "permute_param { order: 0 order: 2 order: 3 order: 1 }")
            heads[kind].append(net.layer(f"{y}_flat", "Flatten", [y], "flatten_param { axis: 1 }"))
        boxes = f"min_size: {small}.0 max_size: {large}.0 aspect_ratio: 2.0 flip: true clip: false"
        boxes += " variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2 offset: 0.5"
        heads["priorbox"].append(
            net.layer(f"{x}_mbox_priorbox", "PriorBox", [x, "data"], f"prior_box_param {{ {boxes} }}")
        )
    loc, conf = (net.layer(f"mbox_{k}", "Concat", heads[k], "concat_param { axis: 1 }") for k in ("loc", "conf"))
    prior = net.layer("mbox_priorbox", "Concat", heads["priorbox"], "concat_param { axis: 2 }")
    y = net.layer(
        "mbox_conf_reshape", "Reshape", [conf], f"reshape_param {{ shape {{ dim: 0 dim: -1 dim: {classes} }} }}"
    )
    y = net.layer("mbox_conf_softmax", "Softmax", [y], "softmax_param { axis: 2 }")
    y = net.layer("mbox_conf_flatten", "Flatten", [y], "flatten_param { axis: 1 }")
    settings = f"num_classes: {classes} share_location: true background_label_id: 0 keep_top_k: 30"
    settings += " nms_param { nms_threshold: 0.45 top_k: 60 } code_type: CENTER_SIZE confidence_threshold: 0.2"
    net.layer("detection_out", "DetectionOutput", [loc, y, prior], f"detection_output_param {{ {settings} }}")
    shape = "\n".join(f"input_dim: {d}" for d in SSD_INPUT)
    return f'name: "mini-ssd"\ninput: "data"\n{shape}\n' + "\n".join(net.lines), net.weights


def ssd_images() -> NDArray[Any]:
    return np.random.default_rng(6).normal(0, 1, SSD_INPUT).astype(np.float32)


V2 = """
name: "old"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 2 dim: 9 dim: 9 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 4 kernel_size: 3 stride: 2 pad: 1 } }
layer { name: "relu1" type: "ReLU" bottom: "conv1" top: "conv1" }
layer { name: "pool1" type: "Pooling" bottom: "conv1" top: "pool1"
  pooling_param { pool: AVE kernel_size: 2 stride: 2 } }
layer { name: "norm1" type: "LRN" bottom: "pool1" top: "norm1" lrn_param { local_size: 3 alpha: 0.5 } }
layer { name: "fc" type: "InnerProduct" bottom: "norm1" top: "fc" inner_product_param { num_output: 3 } }
layer { name: "drop" type: "Dropout" bottom: "fc" top: "fc" }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""

V1 = """
name: "old" input: "data" input_dim: 1 input_dim: 2 input_dim: 9 input_dim: 9
layers { name: "conv1" type: CONVOLUTION bottom: "data" top: "conv1" blobs_lr: 1 blobs_lr: 2 weight_decay: 1
  convolution_param { num_output: 4 kernel_size: 3 stride: 2 pad: 1 } }
layers { name: "relu1" type: RELU bottom: "conv1" top: "conv1" }
layers { name: "pool1" type: POOLING bottom: "conv1" top: "pool1"
  pooling_param { pool: AVE kernel_size: 2 stride: 2 } }
layers { name: "norm1" type: LRN bottom: "pool1" top: "norm1" lrn_param { local_size: 3 alpha: 0.5 } }
layers { name: "fc" type: INNER_PRODUCT bottom: "norm1" top: "fc" inner_product_param { num_output: 3 } }
layers { name: "drop" type: DROPOUT bottom: "fc" top: "fc" dropout_param { dropout_ratio: 0.5 } }
layers { name: "prob" type: SOFTMAX bottom: "fc" top: "prob" }
"""

V0 = """
name: "old" input: "data" input_dim: 1 input_dim: 2 input_dim: 9 input_dim: 9
layers { layer { name: "pad1" type: "padding" pad: 1 } bottom: "data" top: "pad1" }
layers { layer { name: "conv1" type: "conv" num_output: 4 kernelsize: 3 stride: 2
  weight_filler { type: "gaussian" std: 0.01 } blobs_lr: 1. } bottom: "pad1" top: "conv1" }
layers { layer { name: "relu1" type: "relu" } bottom: "conv1" top: "conv1" }
layers { layer { name: "pool1" type: "pool" pool: AVE kernelsize: 2 stride: 2 } bottom: "conv1" top: "pool1" }
layers { layer { name: "norm1" type: "lrn" local_size: 3 alpha: 0.5 } bottom: "pool1" top: "norm1" }
layers { layer { name: "fc" type: "innerproduct" num_output: 3 } bottom: "norm1" top: "fc" }
layers { layer { name: "drop" type: "dropout" dropout_ratio: 0.5 } bottom: "fc" top: "fc" }
layers { layer { name: "prob" type: "softmax" } bottom: "fc" top: "prob" }
"""


def small_weights() -> Weights:
    rng = np.random.default_rng(3)
    shapes = {"conv1": [(4, 2, 3, 3), (4,)], "fc": [(3, 36), (3,)]}
    return {k: [rng.normal(0, 0.5, s).astype(np.float32) for s in v] for k, v in shapes.items()}
