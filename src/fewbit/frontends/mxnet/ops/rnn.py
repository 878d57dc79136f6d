"""RNN: MXNet's fused recurrent layers, several levels and both directions in one, from one flat parameter vector.

    parameters = [W (gates·H, in), R (gates·H, H)] for each level and direction, then [b_W, b_R] for each, in that order
    level 0 reads x (T, N, in); level i reads what level i - 1 gives, (T, N, directions·H)
    gates     lstm: input, forget, cell, output → ONNX: input, output, forget, cell
              gru: reset, update, new → ONNX: update, reset, new (with linear_before_reset)

Each level is one ONNX LSTM, GRU or RNN; the last one has the layer's name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from fewbit.errors import ModelFormatError
from fewbit.frontends.mxnet.layer import Layer, op
from fewbit.graph.build import Value
from fewbit.graph.model import Array


@dataclass(frozen=True)
class Kind:
    """ONNX's operator, where its gates stand among MXNet's, its attributes."""

    op: str
    gates: tuple[int, ...]
    attrs: dict[str, Any]


KINDS = {
    "lstm": Kind("LSTM", (0, 3, 1, 2), {}),
    "gru": Kind("GRU", (1, 0, 2), {"linear_before_reset": 1}),
    "rnn_relu": Kind("RNN", (0,), {"activations": ["Relu"]}),
    "rnn_tanh": Kind("RNN", (0,), {"activations": ["Tanh"]}),
}


@dataclass(frozen=True)
class Weights:
    """One level, as in ONNX: W (directions, gates·H, in), R (directions, gates·H, H), B (directions, 2·gates·H)."""

    w: Array
    r: Array
    b: Array


@op("RNN", "_npx_rnn")
def rnn(layer: Layer) -> Value | tuple[Value, ...]:
    """One ONNX node for each level; on demand with the last states."""
    mode = layer.attrs.word("mode", "", tuple(KINDS))
    kind, size, levels = KINDS[mode], layer.attrs.whole("state_size"), layer.attrs.whole("num_layers")
    directions = 2 if layer.attrs.flag("bidirectional", False) else 1
    layer.attrs.skip("p")
    if size < 1 or levels < 1:
        raise ModelFormatError(f"{layer.what}: state_size is {size} and num_layers {levels}; both must be at least 1")
    _refuse(layer)
    states, lengths = _fed(layer, mode == "lstm")
    x, last = layer.x, list[tuple[Value, ...]]()
    for level, weights in enumerate(_unpacked(layer, kind, size, levels, directions)):
        begin = [_part(layer, s, level, directions, levels) for s in states]
        fed = [x, *(layer.const(a) for a in (weights.w, weights.r, weights.b)), lengths, *begin]
        make = layer.mains if level == levels - 1 else layer.nodes
        way = {"direction": "bidirectional" if directions == 2 else "forward", "hidden_size": size}
        attrs = {k: v * directions if k == "activations" else v for k, v in kind.attrs.items()}
        y, *ends = make(kind.op, *fed, outputs=1 + len(states), **way, **attrs)
        x = _joined(layer, y, directions, size)
        last.append(tuple(ends))
    if not layer.attrs.flag("state_outputs", False):
        return x
    return x, *(_stacked(layer, ends) for ends in zip(*last, strict=True))


def _refuse(layer: Layer) -> None:
    """Raise for what ONNX cannot say."""
    if layer.attrs.has("projection_size"):
        raise layer.unsupported("ONNX has no LSTM with a projection (projection_size)")
    if layer.attrs.has("lstm_state_clip_min") or layer.attrs.has("lstm_state_clip_max"):
        raise layer.unsupported("ONNX has no LSTM that clips its state (lstm_state_clip_min, lstm_state_clip_max)")
    layer.attrs.skip("lstm_state_clip_nan")


def _fed(layer: Layer, two: bool) -> tuple[list[Value | None], Value | None]:
    """First states, None where they are zero, and lengths."""
    count = 2 if two else 1
    states = [None if _is_zero(layer, 2 + i) else layer.inputs[2 + i] for i in range(count)]
    if not layer.attrs.flag("use_sequence_length", False):
        return states, None
    return states, layer.node("Cast", layer.inputs[2 + count], to=6)


def _is_zero(layer: Layer, i: int) -> bool:
    """Whether a first state is zero, for whatever batch."""
    known = layer.array(i)
    if known is None and i >= len(layer.inputs):
        raise ModelFormatError(f"{layer.what} has no first state")
    return known is not None and not known.any()


def _unpacked(layer: Layer, kind: Kind, size: int, levels: int, directions: int) -> Iterator[Weights]:
    """The parameters of each level."""
    flat = layer.param(1, "parameter vector").reshape(-1)
    gates = len(kind.gates)
    wide = _input_size(layer, flat.size, gates * size, size, levels, directions)
    widths = [wide, *(directions * size,) * (levels - 1)]
    matrices, at = list[tuple[list[Array], list[Array]]](), 0
    for width in widths:
        pairs = list[tuple[Array, Array]]()
        for _ in range(directions):
            middle, end = at + gates * size * width, at + gates * size * (width + size)
            pairs.append((flat[at:middle].reshape(-1, width), flat[middle:end].reshape(-1, size)))
            at = end
        matrices.append(([w for w, _ in pairs], [r for _, r in pairs]))
    biases = flat[at:].reshape(levels, directions, 2, gates * size)
    for (w, r), b in zip(matrices, biases, strict=True):
        ordered = [np.concatenate([_ordered(half, kind) for half in one]) for one in b]
        yield Weights(
            np.stack([_ordered(a, kind) for a in w]), np.stack([_ordered(a, kind) for a in r]), np.stack(ordered)
        )


def _input_size(layer: Layer, total: int, rows: int, size: int, levels: int, directions: int) -> int:
    """How many numbers the first level reads at a time, from the length of the parameter vector."""
    above = (levels - 1) * directions * rows * (directions * size + size)
    rest = total - above - levels * directions * 2 * rows - directions * rows * size
    have = layer.shape()[2] if layer.rank() == 3 else None
    if rest <= 0 or rest % (directions * rows) or (have is not None and have != rest // (directions * rows)):
        raise ModelFormatError(
            f"{layer.what}: {total} parameters do not fit an input of {layer.shape()} and state_size {size}, "
            f"num_layers {levels}, {directions} direction{'s' if directions > 1 else ''}"
        )
    return rest // (directions * rows)


def _ordered(rows: Array, kind: Kind) -> Array:
    """The gates in ONNX's order."""
    parts = np.split(rows, len(kind.gates))
    return np.concatenate([parts[g] for g in kind.gates])


def _part(layer: Layer, states: Value | None, level: int, directions: int, levels: int) -> Value | None:
    """The first states of a level out of (levels·directions, N, H)."""
    if states is None or levels == 1:
        return states
    where = [layer.const([n]) for n in (level * directions, (level + 1) * directions, 0)]
    return layer.node("Slice", states, *where)


def _joined(layer: Layer, y: Value, directions: int, size: int) -> Value:
    """(T, directions, N, H) → (T, N, directions·H)."""
    if directions == 1:
        return layer.node("Squeeze", y, layer.const([1]))
    behind = layer.node("Transpose", y, perm=[0, 2, 1, 3])
    return layer.node("Reshape", behind, layer.const([0, 0, directions * size]))


def _stacked(layer: Layer, ends: tuple[Value, ...]) -> Value:
    return ends[0] if len(ends) == 1 else layer.node("Concat", *ends, axis=0)


@op("_rnn_param_concat", "_npi_rnn_param_concat")
def parameters(layer: Layer) -> Value:
    """What exported recurrent layers do to their parameters: all of them in one vector."""
    return layer.main("Concat", *layer.inputs, axis=layer.attrs.whole("dim", 1))
