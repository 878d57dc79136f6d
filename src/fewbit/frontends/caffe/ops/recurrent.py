"""LSTM and RNN, step by step as Caffe unrolls them.

    x (T, N, …), cont (T, N): 0 starts a sequence anew       h ← h · cont, c ← c · cont at the start of a step

    LSTM    i, f, o, g = W·x + b + S·static + U·h            RNN    h = tanh(W·x + b + S·static + U·h)
            c = σ(f) · c + σ(i) · tanh(g)                           y = tanh(V·h + d)
            y = h = σ(o) · tanh(c)

Caffe keeps the state from one batch to the next; here every batch starts from zeros, or from what `expose_hidden`
feeds. All nodes are tagged as one.
"""

from __future__ import annotations

from math import prod

import numpy as np

from fewbit.frontends.caffe.layer import Layer, op, whole
from fewbit.graph.build import Value

MOST_STEPS = 1024


@op("LSTM", settings="recurrent_param")
@whole
def lstm(layer: Layer) -> Value | tuple[Value, ...]:
    """Three kinds of gates and a memory."""
    size = layer.settings.positive("num_output")
    x, cont, static, state = _bottoms(layer, 2)
    driven, at = _driven(layer, x, static, 4 * size)
    matrix = layer.const(np.ascontiguousarray(layer.weight(at, (4 * size, size), "hidden weight").T), "hidden")
    h, c = state or (None, None)
    shown = []
    for t in range(_steps(layer)):
        gates, go = _step(layer, driven, t), _step(layer, cont, t)
        if h is not None and c is not None:
            gates = layer.node("Add", gates, layer.node("MatMul", layer.node("Mul", h, go), matrix))
        i, f, o, g = layer.nodes("Split", gates, layer.const([size] * 4), outputs=4, axis=2)
        new = layer.node("Mul", layer.node("Sigmoid", i), layer.node("Tanh", g))
        if c is not None:
            new = layer.node("Add", layer.node("Mul", layer.node("Mul", layer.node("Sigmoid", f), c), go), new)
        c = new
        h = layer.node("Mul", layer.node("Sigmoid", o), layer.node("Tanh", c))
        shown.append(h)
    assert h is not None and c is not None
    found = layer.main("Concat", *shown, axis=0)
    return (found, h, c) if layer.settings.flag("expose_hidden", False) else found


@op("RNN", settings="recurrent_param")
@whole
def rnn(layer: Layer) -> Value | tuple[Value, ...]:
    """One layer of tanh, and another one for what is shown."""
    size = layer.settings.positive("num_output")
    x, cont, static, state = _bottoms(layer, 1)
    driven, at = _driven(layer, x, static, size)
    inner, outer = (
        layer.const(np.ascontiguousarray(layer.weight(at + i, (size, size), role).T), role)
        for i, role in enumerate(("hidden weight", "output weight"))
    )
    bias = layer.const(layer.weight(at + 2, (size,), "output bias"), "output bias")
    h = state[0] if state else None
    shown = []
    for t in range(_steps(layer)):
        total = _step(layer, driven, t)
        if h is not None:
            total = layer.node("Add", total, layer.node("MatMul", layer.node("Mul", h, _step(layer, cont, t)), inner))
        h = layer.node("Tanh", total)
        shown.append(layer.node("Tanh", layer.node("Add", layer.node("MatMul", h, outer), bias)))
    assert h is not None
    found = layer.main("Concat", *shown, axis=0)
    return (found, h) if layer.settings.flag("expose_hidden", False) else found


def _bottoms(layer: Layer, states: int) -> tuple[Value, Value, Value | None, tuple[Value, ...]]:
    """x, cont as (T, N, 1), the static input, and the state that is fed."""
    fed = states if layer.settings.flag("expose_hidden", False) else 0
    values = layer.takes(2 + fed, 3 + fed)
    static = values[2] if len(values) == 3 + fed else None
    state = values[len(values) - fed :] if fed else ()
    return values[0], layer.column(values[1], 2), static, state


def _driven(layer: Layer, x: Value, static: Value | None, size: int) -> tuple[Value, int]:
    """What each step gets from its inputs, (T, N, size), and which blob is next."""
    inner = prod(layer.size(a) for a in range(2, layer.rank()))
    flat = x if layer.rank() == 3 else layer.node("Reshape", x, layer.const([0, 0, inner]))
    weight = layer.weight(0, (size, inner), "weight")
    found = layer.node("MatMul", flat, layer.const(np.ascontiguousarray(weight.T), "weight"))
    found = layer.node("Add", found, layer.const(layer.weight(1, (size,), "bias"), "bias"))
    if static is None:
        return found, 2
    inner = prod(layer.size(a, static) for a in range(1, layer.rank(static)))
    flat = static if layer.rank(static) == 2 else layer.node("Flatten", static, axis=1)
    weight = layer.weight(2, (size, inner), "static weight")
    fixed = layer.node("MatMul", flat, layer.const(np.ascontiguousarray(weight.T), "static"))
    return layer.node("Add", found, layer.node("Unsqueeze", fixed, layer.const([0]))), 3


def _steps(layer: Layer) -> int:
    found = layer.size(0)
    if not 1 <= found <= MOST_STEPS:
        raise layer.unsupported(f"it has {found} steps; fewbit unrolls 1 to {MOST_STEPS}")
    return found


def _step(layer: Layer, value: Value, t: int) -> Value:
    return layer.cut(value, t, t + 1, axis=0)
