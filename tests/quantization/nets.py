"""Small float networks for planning and calibrating, as text with weights drawn from a seed."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import parser

from fewbit.core.spec import QuantSpec
from fewbit.core.target import OpRule, Target
from fewbit.graph.files import from_proto
from fewbit.graph.model import Model

TOY = Target(
    name="toy",
    form="qdq",
    activation=QuantSpec(8, signed=False),
    weight=QuantSpec(8, signed=True, symmetric=True, narrow=True, granularity="channel", axis=0),
    rules=(
        OpRule(
            "Conv",
            ("act", "weight", "bias"),
            core=True,
            absorbs=("Relu", "Clip"),
            pays=0.3,
            when="weight is constant",
        ),
        OpRule("MatMul", ("act", "weight"), core=True, pays=0.4, when="weight is constant"),
        OpRule("Add", ("act",), absorbs=("Relu",), pays=0.5),
        OpRule("Relu", ("act",), pays=0.5),
        OpRule("MaxPool", ("act",), ("same",), pays=0.5),
        OpRule("Concat", ("act",), shares=True, pays=0.6),
        OpRule("Sigmoid", ("act",), pays=1.7),
    ),
)
"""Rows that a test can foresee; the real tables move with what is measured."""


def net(
    nodes: str,
    outputs: str = "float[N, C, H, W] y",
    *,
    inputs: str = "float[N, 4, 8, 8] x",
    seed: int = 0,
    **weights: tuple[int, ...],
) -> Model:
    """Parse nodes into a model with normal random weights of the given shapes."""
    text = f'<ir_version: 8, opset_import: ["" : 17]> toy ({inputs}) => ({outputs}) {{ {nodes} }}'
    proto = parser.parse_model(text)
    rng = np.random.default_rng(seed)
    for name, shape in weights.items():
        data = rng.standard_normal(shape).astype(np.float32) * 0.3
        proto.graph.initializer.append(onnx.numpy_helper.from_array(data, name))
    return named(proto)


def named(proto: Any) -> Model:
    """Name each node after its output, so that tests read well."""
    for node in proto.graph.node:
        node.name = f"{node.op_type}:{node.output[0]}"
    return from_proto(proto)


def residual() -> Model:
    """conv-relu, conv, add with the input of the block, relu, pool."""
    return net(
        """
        a = Conv <pads = [1, 1, 1, 1]> (x, w1, b1)
        r = Relu (a)
        c = Conv <pads = [1, 1, 1, 1]> (r, w2, b2)
        s = Add (c, r)
        t = Relu (s)
        p = MaxPool <kernel_shape = [2, 2]> (t)
        y = Conv (p, w3)
        """,
        w1=(4, 4, 3, 3),
        b1=(4,),
        w2=(4, 4, 3, 3),
        b2=(4,),
        w3=(4, 4, 1, 1),
    )


class Batch:
    """What calibration needs of a batch."""

    def __init__(self, feeds: dict[str, Any], index: int) -> None:
        self.feeds, self.index = feeds, index
        self.names = [f"sample {index}.{i}" for i in range(len(next(iter(feeds.values()))))]


class Batches:
    """A data source of arrays for input `x`."""

    def __init__(self, *arrays: Any) -> None:
        self.arrays = arrays

    def iterate(self, start: int = 0) -> Any:
        """Batches from `start` on."""
        for i, x in enumerate(self.arrays[start:], start):
            yield Batch({"x": x}, i)


def normal(batches: int, size: int = 2, seed: int = 1) -> Batches:
    """Batches of normal random numbers."""
    rng = np.random.default_rng(seed)
    return Batches(*(rng.standard_normal((size, 4, 8, 8), dtype=np.float32) for _ in range(batches)))
