"""UNIDIRECTIONAL_SEQUENCE_LSTM.

    inputs   0 x    1-4 W (i f g o)    5-8 R    9-11 peepholes (i f o)    12-15 biases    16, 17 projection
             18 h₀    19 c₀    20-23 layer normalization
    ONNX     W, R, B in the order i o f g, peepholes i o f; x is (T, N, F)

Without W for i (both gates in one) i = 1 - f = σ(-…): the negative of everything that f has.
"""

from __future__ import annotations

import numpy as np

from fewbit.frontends.tflite.laid import Laid
from fewbit.frontends.tflite.layer import Layer, op
from fewbit.frontends.tflite.ops.fused import FUSED
from fewbit.graph.build import Value
from fewbit.graph.model import Array

PLACE = {"i": 0, "f": 1, "g": 2, "o": 3}
ORDER = "iofg"
PEEPS = {"i": 9, "f": 10, "o": 11}
ACTS = {"TANH": "Tanh", "RELU": "Relu"}


@op("UNIDIRECTIONAL_SEQUENCE_LSTM")
def lstm(layer: Layer) -> Laid:
    """LSTM."""
    if any(layer.has(i) for i in (16, 17, 20, 21, 22, 23)):
        raise layer.unsupported("it has a projection or a layer normalization, which ONNX's LSTM has not")
    act = layer.options.word("FusedActivationFunction", FUSED)
    if act not in ACTS:
        raise layer.unsupported(f"its activation is {act}; it must be TANH or RELU")
    w, r, b = (_gates(layer, start) for start in (1, 5, 12))
    if w is None or r is None or w.ndim != 3 or r.ndim != 3:
        raise layer.misfit("it lacks weights")
    hidden = r.shape[-1]
    peeps = _peepholes(layer)
    major = layer.options.flag("TimeMajor")
    order = (0, 1, 2) if major else (1, 0, 2)
    if layer.rank() != 3 or r.shape != (4, hidden, hidden) or w.shape[1] != hidden:
        raise layer.misfit(f"its weights have the shapes {w.shape} and {r.shape}; its input has {layer.rank()} axes")
    clip = layer.options.number("CellClip")
    if clip:
        raise layer.unsupported(f"it clips its cells at {clip}, which ONNX's LSTM does otherwise")
    x = layer.value(0, order)
    first = [layer.node("Unsqueeze", layer.value(i), layer.const([0])) if layer.has(i) else None for i in (18, 19)]
    y = layer.mains(
        "LSTM", x, layer.const(w.reshape(1, 4 * hidden, -1)), layer.const(r.reshape(1, 4 * hidden, hidden)),
        _biases(layer, b, hidden), None, *first, peeps, outputs=1, hidden_size=hidden,
        activations=["Sigmoid", ACTS[act], ACTS[act]],
    )[0]  # fmt: skip
    return Laid(layer.node("Squeeze", y, layer.const([1])), order)


def _gates(layer: Layer, start: int) -> Array | None:
    """Parameters of the four gates in ONNX's order; None if there are none."""
    if not any(layer.has(start + k) for k in range(4)):
        return None
    found = {g: _real(layer, start + k) for g, k in PLACE.items() if layer.has(start + k)}
    if "i" not in found and "f" in found:
        found["i"] = -found["f"]
    if set(found) != set(PLACE) or len({a.shape for a in found.values()}) != 1:
        raise layer.misfit("its parameters are not those of four gates alike")
    return np.stack([found[g] for g in ORDER])


def _real(layer: Layer, i: int) -> Array:
    tensor, found = layer.tensor(i), layer.param(i, "parameter")
    if tensor.type == "INT32" and tensor.quant is not None:
        return tensor.quant.real(found)
    if found.dtype.kind != "f":
        raise layer.misfit(f"{tensor.name!r} holds integers of unknown scale")
    return np.asarray(found, np.float32)


def _biases(layer: Layer, b: Array | None, hidden: int) -> Value | None:
    if b is None:
        return None
    if b.shape != (4, hidden):
        raise layer.misfit(f"its biases have the shape {b.shape}; {(4, hidden)} is needed")
    return layer.const(np.concatenate([b.reshape(-1), np.zeros(4 * hidden, np.float32)])[None])


def _peepholes(layer: Layer) -> Value | None:
    if not any(layer.has(i) for i in PEEPS.values()):
        return None
    found = {g: _real(layer, i) for g, i in PEEPS.items() if layer.has(i)}
    if "i" not in found and "f" in found:
        found["i"] = -found["f"]
    if set(found) != set(PEEPS):
        raise layer.misfit("its peepholes are not those of three gates")
    return layer.const(np.concatenate([found[g].reshape(-1) for g in "iof"])[None])
