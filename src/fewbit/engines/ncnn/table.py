"""The calibration table of ncnn's own tools: the scales of all integer layers, as text.

    conv_0_param_0 182.3 97.5 …       127 ÷ largest weight, of each output channel, or group
    …
    conv_0 38.1                       127 ÷ largest input

First all weights, then all inputs, both in the order of the network. A layer without a line stays float there.
"""

from __future__ import annotations

from collections.abc import Sequence

from fewbit.engines.ncnn.integer import is_integer
from fewbit.engines.ncnn.param import Layer
from fewbit.engines.ncnn.weights import Weights
from fewbit.errors import ModelFormatError

LONGEST = 255
"""Characters of a key that ncnn's readers take."""


def write_table(layers: Sequence[Layer], weights: Weights) -> str:
    """The table of a network's integer layers."""
    named = [layer.name for layer in layers if is_integer(layer)]
    lines = [(f"{name}_param_0", weights[name]["weight_scale"]) for name in named]
    lines += [(name, weights[name]["input_scale"]) for name in named]
    assert all(len(key) <= LONGEST for key, _ in lines)
    return "".join(f"{key} {' '.join(f'{float(s):.6f}' for s in scales)} \n" for key, scales in lines)


def read_table(text: str) -> dict[str, list[float]]:
    """Layer, or layer_param_0 → scales. What stands behind a blank line is not read, nor keys with # in front.

    Raises:
        ModelFormatError: a line is no key with numbers behind it.
    """
    found: dict[str, list[float]] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words:
            break
        try:
            scales = [float(w) for w in words[1:]]
        except ValueError:
            scales = []
        if not scales or len(words[0]) > LONGEST:
            raise ModelFormatError(f"ncnn table, line {number}: {line[:80]!r}; it must be a layer's name and numbers")
        if not words[0].startswith("#"):
            found[words[0]] = scales
    return found
