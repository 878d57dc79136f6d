"""Several values to one, and many numbers to few: Eltwise, Reduction, ArgMax."""

from __future__ import annotations

from functools import reduce

from fewbit.frontends.caffe.layer import Layer, op
from fewbit.graph.build import Value

ELTWISE = {"PROD": "Mul", "SUM": "Add", "MAX": "Max"}
REDUCTIONS = {"SUM": "ReduceSum", "ASUM": "ReduceL1", "SUMSQ": "ReduceSumSquare", "MEAN": "ReduceMean"}


@op("Eltwise", settings="eltwise_param")
def eltwise(layer: Layer) -> Value:
    """Mul, Add or Max of two and more; the terms of a sum may have factors."""
    values = layer.takes(2, 10_000)
    kind, factors = layer.settings.word("operation", "SUM", tuple(ELTWISE)), layer.settings.numbers("coeff")
    if factors and (kind != "SUM" or len(factors) != len(values)):
        raise layer.misfit(f"coeff has {len(factors)} numbers for a {kind} of {len(values)}; a SUM has one for each")
    if kind == "SUM" and len(values) == 2 and factors == (1, -1):
        return layer.main("Sub", *values)
    terms = [
        v if f == 1 else layer.node("Mul", v, layer.const(f))
        for v, f in zip(values, factors or (1,) * len(values), strict=True)
    ]
    if kind == "MAX":
        return layer.main("Max", *terms)
    front = reduce(lambda a, b: layer.node(ELTWISE[kind], a, b), terms[:-1])
    return layer.main(ELTWISE[kind], front, terms[-1])


@op("Reduction", settings="reduction_param")
def reduction(layer: Layer) -> Value:
    """One number for all axes from one on."""
    kind, axis = layer.settings.word("operation", "SUM", tuple(REDUCTIONS)), layer.axis(0)
    axes, factor = list(range(axis, layer.rank())), layer.settings.number("coeff", 1.0)
    if kind == "SUM":
        found = layer.main("ReduceSum", layer.x, layer.const(axes), keepdims=0)
    else:
        found = layer.main(REDUCTIONS[kind], layer.x, axes=axes, keepdims=0)
    return found if factor == 1 else layer.node("Mul", found, layer.const(factor))


@op("ArgMax", settings="argmax_param")
def arg_max(layer: Layer) -> Value:
    """Where the largest numbers are, as floats; or these numbers; or both, if no axis is given."""
    count, values = layer.settings.positive("top_k", 1), layer.settings.flag("out_max_val", False)
    if layer.settings.has("axis"):
        found = _largest(layer, layer.x, count, layer.axis(), values)
        return found[0]
    flat = layer.node("Flatten", layer.x, axis=1)
    places = _largest(layer, flat, count, 1, False)[0]
    rank = max(layer.rank(), 3)
    shape = layer.const([0, 1 + values, count, *([1] * (rank - 3))])
    if values:
        best = layer.nodes("TopK", flat, layer.const([count]), outputs=2, axis=1)[0]
        places = layer.node("Concat", places, best, axis=1)
    return layer.node("Reshape", places, shape)


def _largest(layer: Layer, x: Value, count: int, axis: int, values: bool) -> tuple[Value, ...]:
    """The places of the largest, or these themselves; of equal ones the last counts, as in Caffe."""
    if count == 1 and not values:
        place = layer.main("ArgMax", x, axis=axis, keepdims=1, select_last_index=1)
        return (layer.node("Cast", place, to=1),)
    best, place = layer.mains("TopK", x, layer.const([count]), outputs=2, axis=axis)
    return (best,) if values else (layer.node("Cast", place, to=1),)
