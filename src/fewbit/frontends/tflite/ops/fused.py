"""What an operator does to its result: the activation that is fused into it."""

from __future__ import annotations

from fewbit.frontends.tflite.layer import Layer
from fewbit.graph.build import Value

FUSED = {0: "NONE", 1: "RELU", 2: "RELU_N1_TO_1", 3: "RELU6", 4: "TANH", 5: "SIGN_BIT"}

CLAMPS = {"RELU_N1_TO_1": (-1.0, 1.0), "RELU6": (0.0, 6.0), "RELU_0_TO_1": (0.0, 1.0)}


def fused(layer: Layer, value: Value) -> Value:
    """The value behind the activation of the options."""
    return activated(layer, value, layer.options.word("FusedActivationFunction", FUSED))


def activated(layer: Layer, value: Value, name: str) -> Value:
    """The value behind an activation; it is the operator itself if nothing else was before it."""
    if name == "NONE":
        return value
    if name in ("RELU", "TANH"):
        return layer.main(name.capitalize(), value)
    if name not in CLAMPS:
        raise layer.unsupported(f"its activation {name} is none that fewbit knows")
    low, high = CLAMPS[name]
    return layer.main("Clip", value, layer.like(low, value), layer.like(high, value))
