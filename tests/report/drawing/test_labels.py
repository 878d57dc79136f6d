"""Attributes and shapes in few words."""

from __future__ import annotations

import numpy as np
import pytest

from fewbit.graph.fuse import fuse
from fewbit.report.drawing.labels import detail, shape_text, shapes
from tests.models import info, load, node, proto, weight


@pytest.mark.parametrize(
    ("op", "attrs", "inputs", "weights", "said"),
    [
        ("Conv", {"strides": [2, 2], "pads": [1, 1, 1, 1]}, "x w", {"w": weight(8, 4, 3, 3)}, "3×3, stride 2, pad 1"),
        ("Conv", {"group": 4, "kernel_shape": [1, 1]}, "x w", {"w": weight(4, 1, 1, 1)}, "1×1, depthwise"),
        ("Conv", {"group": 2, "dilations": [2, 1]}, "x w", {"w": weight(4, 2, 1, 1)}, "1×1, dilation 2 1, group 2"),
        ("Conv", {"auto_pad": "SAME_UPPER"}, "x w", {"w": weight(4, 4, 3, 3)}, "3×3, pad same"),
        ("MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2]}, "x", {}, "2×2, stride 2"),
        ("Clip", {}, "x lo hi", {"lo": np.float32(0), "hi": np.float32(6)}, "0 … 6"),
        ("Clip", {}, "x - hi", {"hi": np.float32(6)}, "−∞ … 6"),
        ("Reshape", {}, "x s", {"s": np.array([0, -1])}, "to 0×-1"),
        ("ReduceSum", {"keepdims": 0}, "x a", {"a": np.array([1, 2])}, "axes 1 2"),
        ("Transpose", {"perm": [0, 2, 3, 1]}, "x", {}, "perm 0 2 3 1"),
        ("LeakyRelu", {"alpha": 0.1}, "x", {}, "alpha 0.1"),
        ("Softmax", {"axis": 1}, "x", {}, "axis 1"),
        ("Cast", {"to": 10}, "x", {}, "to f16"),
        ("Relu", {}, "x", {}, ""),
    ],
)
def test_what_matters_of_a_layer(op: str, attrs: dict, inputs: str, weights: dict, said: str) -> None:
    ends = [info("x", [1, 4, 8, 8])], [info("y", None, 10 if op == "Cast" else 1)]
    model = load(proto([node(op, inputs, "y", **attrs)], *ends, weights))
    assert detail(model.nodes[0]) == said


@pytest.mark.parametrize(
    ("shape", "said"), [(None, ""), ((), "scalar"), (("N", 3, None), "N×3×?"), (("unk__7", 4), "?×4")]
)
def test_a_shape_in_words(shape: tuple | None, said: str) -> None:
    assert shape_text(shape) == said


def test_shapes_that_follow_from_a_rewrite_are_found() -> None:
    """The sizes of the padding are computed: inference gives up, until fusing made them constant."""
    nodes = [
        node("ConstantOfShape", "four", "zeros"), node("Concat", "ends zeros", "pads", axis=0),
        node("Pad", "x pads", "p"), node("Relu", "p", "y"),
    ]  # fmt: skip
    weights = {"four": np.array([4]), "ends": np.array([0, 0, 1, 1])}
    model = load(proto(nodes, [info("x", ["N", 3, 8, 8])], [info("y", None)], weights, opset=13))
    assert shapes(fuse(model)).get("p", "N×3×9×9") == "N×3×9×9"
    assert shapes(None) == {}
