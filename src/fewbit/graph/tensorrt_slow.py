"""What costs TensorRT a fusion, or makes it run a layer in float that was to be integer: where Q and DQ are placed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from fewbit.graph.model import Model, is_const, op_name
from fewbit.graph.tensorrt_layer import layer, layers
from fewbit.graph.tensorrt_rule import (
    ACTIVATIONS,
    SLOW,
    Found,
    alone,
    dequantized,
    everywhere,
    integer,
    made_by,
    maker,
    numbers,
    of,
    on_weight,
    pairs,
    readers,
    rule,
)

NEEDS_OUTPUT = ("Add", "AveragePool", "GlobalAveragePool")
"""Layers without weights that compute in integers if both what they read and what they make is integer."""


def _integer(node: ir.Node | None) -> bool:
    """Whether a layer has integer weights and inputs."""
    found = layer(node)
    return found is not None and found.dq is not None and integer(found.data)


def _quantized_behind(node: ir.Node) -> bool:
    """Whether a Q reads what a node makes, maybe behind a Relu or Clip that is there for it alone."""
    while (after := alone(node)) is not None and op_name(after) in ("Relu", "Clip"):
        node = after
    return any(op_name(r) == "QuantizeLinear" for r in readers(node))


@rule("float-weight", SLOW)
def float_weight(model: Model) -> Iterator[Found]:
    """A layer computes in integers only if its weight is quantized, too; this one computes in float."""
    for found in layers(model):
        if found.dq is None and integer(found.data):
            yield found.node, "an integer input, float weights"


@rule("one-side", SLOW)
def one_side(model: Model) -> Iterator[Found]:
    """A product of two activations is integer only if both are quantized; this one computes in float."""
    for node in everywhere(model):
        if op_name(node) != "MatMul" or layer(node) is not None:
            continue
        sides = [integer(of(node, i)) for i in (0, 1)]
        if any(sides) and not all(sides):
            yield node, "one side is an integer, the other is not"


@rule("split", SLOW)
def split(model: Model) -> Iterator[Found]:
    """Between a layer and the activation or BatchNorm behind it Q and DQ undo their fusion; put them behind both."""
    for node in (found.node for found in layers(model)):
        q = alone(node)
        dq = alone(q) if q is not None and op_name(q) == "QuantizeLinear" else None
        after = alone(dq) if dq is not None and op_name(dq) == "DequantizeLinear" else None
        if q is not None and after is not None and op_name(after) in ACTIVATIONS and _integer(node):
            yield q, f"between {node.name} and {op_name(after)} {after.name}"


@rule("residual-float", SLOW)
def residual_float(model: Model) -> Iterator[Found]:
    """An Add merges into the layer in front only if its other side is quantized; put Q and DQ on that side."""
    for node, main, other in _sums(model):
        if _integer(maker(main)) and not integer(other) and _quantized_behind(node):
            yield node, f"{other.name!r} is added in float"


@rule("residual-both", SLOW)
def residual_both(model: Model) -> Iterator[Found]:
    """Q and DQ between a layer and the Add behind it undo their fusion; leave those on the other side only."""
    for node in everywhere(model):
        if op_name(node) != "Add" or not all(dequantized(of(node, i)) for i in (0, 1)):
            continue
        for value in node.inputs:
            dq = dequantized(value)
            q = made_by(of(dq, 0), "QuantizeLinear") if dq is not None else None
            source = maker(of(q, 0)) if q is not None else None
            if dq is None or q is None or source is None or not _integer(source):
                continue
            if alone(dq) is node and alone(q) is dq and alone(source) is q:
                yield node, f"both sides are quantized, and {source.name} is there for it alone"
                break


def _sums(model: Model) -> Iterator[tuple[ir.Node, ir.Value, ir.Value]]:
    """Adds of two computed values, of which a layer with weights makes the first for it alone: node, that one, other.

    Of two such values none needs to be the first.
    """
    for node in everywhere(model):
        if op_name(node) != "Add" or any(v is None or is_const(v) for v in node.inputs):
            continue
        a, b = node.inputs
        assert a is not None and b is not None
        for main, other in ((a, b), (b, a)):
            source = maker(main)
            if source is not None and _integer(source) and alone(source) is node:
                yield node, main, other
                break


@rule("open-output", SLOW)
def open_output(model: Model) -> Iterator[Found]:
    """A layer without weights that reads integers has to make integers, else it computes in float; add Q and DQ."""
    for node in everywhere(model):
        if op_name(node) not in NEEDS_OUTPUT or any(is_const(v) for v in node.inputs):
            continue
        if all(dequantized(v) is not None for v in node.inputs) and not _quantized_behind(node):
            yield node, f"{op_name(node)} of integers, a float output"


@rule("shared-scale", SLOW)
def shared_scale(model: Model) -> Iterator[Found]:
    """Parts of a Concat are only moved if all of them, and the result, have one scale; else each is computed anew."""
    for node in everywhere(model):
        sources = [dequantized(v) for v in node.inputs]
        if op_name(node) != "Concat" or not all(sources):
            continue
        behind = [r for r in readers(node) if op_name(r) == "QuantizeLinear"]
        scales = [numbers(n, 1) for n in (*sources, *behind) if n is not None]
        known = [s for s in scales if s is not None]
        if known and not all(np.array_equal(known[0], s) for s in known):
            yield node, f"{len(known)} scales, not all the same"


@rule("rescale", SLOW)
def rescale(model: Model) -> Iterator[Found]:
    """A DQ and a Q of another scale right behind it are a pass over memory of their own; let the value keep one."""
    for node in pairs(model):
        before = dequantized(of(node, 0)) if op_name(node) == "QuantizeLinear" else None
        if before is not None and not on_weight(node):
            yield node, f"right behind {before.name}"


@rule("answer", SLOW)
def answer(model: Model) -> Iterator[Found]:
    """What the network answers stays float; Q and DQ there cost a layer and accuracy, and broke builds of version 8."""
    for node in pairs(model):
        if op_name(node) == "DequantizeLinear" and any(v in model.graph.outputs for v in node.outputs):
            yield node, "Q and DQ in front of an output of the network"
