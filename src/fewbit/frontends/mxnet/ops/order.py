"""Sorting: the largest or smallest numbers of an axis, their places, all of them in order.

topk(k=2, ret_typ="both")   →   TopK: values, places as floats
"""

from __future__ import annotations

from fewbit.frontends.mxnet.kinds import FLOAT, NUMBER, asked, cast
from fewbit.frontends.mxnet.layer import Layer, op
from fewbit.frontends.mxnet.sizes import Make, ints, product, reshape, shape_list, size, sizes
from fewbit.graph.build import Value


@op("topk", "_npx_topk")
def topk(layer: Layer) -> Value | tuple[Value, ...]:
    """The k largest (or smallest) of an axis, or of all numbers; k of 0 is all of them."""
    attrs = layer.attrs
    answer = attrs.word("ret_typ", "indices", ("indices", "value", "mask", "both"))
    k, largest, kind = attrs.whole("k", 1), not attrs.flag("is_ascend", False), asked(layer, FLOAT)
    x, axis = _line(layer)
    whole = layer.shape(x)[axis]
    if whole is not None and k > whole:
        raise layer.misfit(f"k is {k}; the axis has {whole}")
    count = ints(layer, k) if k > 0 else size(layer, x, axis)
    settings = {"axis": axis, "largest": int(largest), "sorted": 1}
    shape = [(k if k > 0 else whole) if a == axis else d for a, d in enumerate(layer.shape(x))]
    name = layer.name
    if answer == "both":
        values, places = layer.mains("TopK", x, count, outputs=[f"{name}_output0", f"{name}_places"], **settings)
        layer.told(places, shape)
        (floats,) = layer.nodes("Cast", places, outputs=[f"{name}_output1"], to=NUMBER[kind])
        return layer.told(values, shape), floats
    if answer == "value":
        values, _ = layer.mains("TopK", x, count, outputs=[f"{name}_output0", f"{name}_places"], **settings)
        return layer.told(values, shape)
    _, places = layer.nodes("TopK", x, count, outputs=2, **settings)
    layer.told(places, shape)
    return cast(layer, places, kind, layer.main) if answer == "indices" else _mask(layer, x, places, axis)


def _line(layer: Layer) -> tuple[Value, int]:
    """What is sorted, and along which axis: all numbers in a row if no axis is given."""
    layer.attrs.skip("axis")
    if layer.attrs.text("axis", "-1") != "None":
        return layer.x, layer.axis("axis", -1)
    return reshape(layer, layer.x, [product(sizes(layer))], layer.node), 0


def _mask(layer: Layer, x: Value, places: Value, axis: int) -> Value:
    """1 where a number is among the first k, in the input's shape."""
    zeros = layer.node("Expand", layer.like(0, x), shape_list(layer, x))
    ones = layer.node("Expand", layer.like(1, x), shape_list(layer, places))
    flat = x is not layer.x
    mask = (layer.node if flat else layer.main)("ScatterElements", zeros, places, ones, axis=axis)
    layer.told(mask, layer.shape(x))
    if flat:
        mask = layer.main("Reshape", mask, shape_list(layer, layer.x))
    return layer.told(mask, layer.shape())


@op("sort", "_npi_sort")
def sort(layer: Layer) -> Value:
    """All numbers of an axis in order."""
    return _sorted(layer, 0, layer.main)


@op("argsort", "_npi_argsort")
def argsort(layer: Layer) -> Value:
    """Where the numbers in order stand."""
    kind = asked(layer, FLOAT)
    return cast(layer, _sorted(layer, 1, None), kind, layer.main)


def _sorted(layer: Layer, wanted: int, make: Make | None) -> Value:
    x, axis = _line(layer)
    largest = not layer.attrs.flag("is_ascend", True)
    settings = {"axis": axis, "largest": int(largest), "sorted": 1}
    count = size(layer, x, axis)
    if make is None:
        found = layer.nodes("TopK", x, count, outputs=2, **settings)
    else:
        found = layer.mains("TopK", x, count, outputs=[f"{layer.name}_output0", f"{layer.name}_places"], **settings)
    return layer.told(found[wanted], layer.shape(x))
