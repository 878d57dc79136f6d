"""Several numbers → one: sums, means, extremes, norms, and where the extremes are.

The old operators leave one axis of size one where NumPy gives a scalar; indices are floats unless `dtype` says more.
"""

from __future__ import annotations

import numpy as np

from fewbit.frontends.mxnet.kinds import BOOL, FLOAT, LONG, asked, cast, is_float, kind_of
from fewbit.frontends.mxnet.layer import Layer, op
from fewbit.frontends.mxnet.sizes import Make, fixed, ints, product, reshape, sizes
from fewbit.graph.build import Value

SIMPLE = {
    "sum": "ReduceSum", "_sparse_sum": "ReduceSum", "sum_axis": "ReduceSum", "_np_sum": "ReduceSum",
    "nansum": "ReduceSum",
    "mean": "ReduceMean", "_sparse_mean": "ReduceMean", "_npi_mean": "ReduceMean",
    "prod": "ReduceProd", "_np_prod": "ReduceProd", "_np_product": "ReduceProd", "nanprod": "ReduceProd",
    "max": "ReduceMax", "max_axis": "ReduceMax", "_np_max": "ReduceMax", "_np_amax": "ReduceMax",
    "min": "ReduceMin", "min_axis": "ReduceMin", "_np_min": "ReduceMin", "_np_amin": "ReduceMin",
    "_npi_sum": "ReduceSum", "_npi_prod": "ReduceProd", "_npi_max": "ReduceMax", "_npi_amax": "ReduceMax",
    "_npi_min": "ReduceMin", "_npi_amin": "ReduceMin",
}  # fmt: skip
"""MXNet's name → ONNX's."""

TYPED = frozenset({"_np_sum", "_npi_sum", "_np_prod", "_np_product", "_npi_prod", "_npi_mean"})
"""What may be asked for another type of number."""

NEUTRAL = {"nansum": 0.0, "nanprod": 1.0}
"""What stands for a number that is none."""

NARROW = ("int8", "uint8", "bool")
"""Types that engines do not add: reduced as int32, and cut back."""


@op(*SIMPLE)
def reduction(layer: Layer) -> Value:
    """Over some axes, or over all but some (`exclude`, which counts only if there are some)."""
    name, x, attrs = SIMPLE[layer.op], layer.x, layer.attrs
    numpy = layer.op.startswith("_np")
    axes = _axes(layer, "axis")
    if not numpy and attrs.flag("exclude", False) and attrs.wholes("axis", ()):
        axes = [a for a in range(layer.rank()) if a not in axes]
    if numpy and attrs.has("initial"):
        raise layer.unsupported("it starts from a given number (initial), which ONNX cannot say")
    if layer.op in NEUTRAL:
        x = layer.node("Where", layer.node("IsNaN", x), layer.like(NEUTRAL[layer.op], x), x)
    if not axes and not numpy:  # all are excluded
        attrs.skip("keepdims")
        return x
    kind = asked(layer, kind_of(x)) if layer.op in TYPED else kind_of(x)
    if layer.op == "_npi_mean" and kind.kind != "f":
        kind = FLOAT
    mean_of_whole = name == "ReduceMean" and kind.kind != "f"
    inner = FLOAT if mean_of_whole else np.dtype("int32") if kind.name in NARROW else kind
    x = cast(layer, x, inner)
    if inner == kind:
        return _reduced(layer, name, x, axes, layer.main)
    return cast(layer, _reduced(layer, name, x, axes, layer.node), kind, layer.main)


def _axes(layer: Layer, key: str) -> list[int]:
    """The axes of an attribute; all of them if it is empty."""
    return sorted(layer.axes(key, ())) or list(range(layer.rank()))


def _reduced(layer: Layer, name: str, x: Value, axes: list[int], make: Make) -> Value:
    """The node; where the old operators end with no axis, they keep one."""
    keep = layer.attrs.flag("keepdims", False)
    one = not keep and len(axes) == layer.rank(x) and not layer.op.startswith("_np")
    if one and len(axes) == 1:
        keep, one = True, False
    first = layer.node if one else make
    if name == "ReduceSum":
        found = first(name, x, ints(layer, *axes), keepdims=int(keep))
    else:
        found = first(name, x, axes=axes, keepdims=int(keep))
    return make("Reshape", found, ints(layer, 1)) if one else found


@op("_np_all", "_np_any", "_np_sometrue", "_npi_all", "_npi_any")
def truths(layer: Layer) -> Value:
    """Whether all are not 0, or any is, as bool."""
    whole = cast(layer, cast(layer, layer.x, BOOL), np.int32)
    name = "ReduceMin" if layer.op.endswith("all") else "ReduceMax"
    return cast(layer, _reduced(layer, name, whole, _axes(layer, "axis"), layer.node), BOOL, layer.main)


@op("moments")
def moments(layer: Layer) -> tuple[Value, ...]:
    """Mean, and mean of (x - mean)²."""
    axes, keep, x = _axes(layer, "axes"), layer.attrs.flag("keepdims", False), layer.x
    if not keep and len(axes) == layer.rank():
        raise layer.unsupported("moments over all axes need keepdims; fewbit knows them over some axes otherwise")
    mean = layer.mains("ReduceMean", x, outputs=[f"{layer.name}_output0"], axes=axes, keepdims=int(keep))[0]
    off = layer.node("Sub", x, mean if keep else layer.node("ReduceMean", x, axes=axes, keepdims=1))
    square = layer.node("Mul", off, off)
    settings = {"axes": axes, "keepdims": int(keep)}
    return mean, *layer.nodes("ReduceMean", square, outputs=[f"{layer.name}_output1"], **settings)


@op("norm", "_sparse_norm")
def norm(layer: Layer) -> Value:
    """Σ|x| or √Σx², over some axes or all."""
    order, x, axes = layer.attrs.whole("ord", 2), layer.x, _axes(layer, "axis")
    if order not in (1, 2):
        raise layer.unsupported(f"ord is {layer.attrs.text('ord')}; fewbit knows 1 and 2")
    kind = asked(layer, kind_of(x), "out_dtype")
    other = kind != kind_of(x)
    x = cast(layer, x, FLOAT) if other else x
    make = layer.node if other else layer.main
    if order == 1:  # not ReduceL1, of which OpenVINO takes no axes
        found = _reduced(layer, "ReduceSum", layer.node("Abs", x), axes, make)
    else:
        found = _reduced(layer, "ReduceL2", x, axes, make)
    return cast(layer, found, kind, layer.main) if other else found


@op("_npi_var", "_npi_std")
def variance(layer: Layer) -> Value:
    """Mean of (x - mean)², or its root."""
    if layer.attrs.whole("ddof", 0):
        raise layer.unsupported("ddof is not 0, which ONNX cannot say")
    axes, x = _axes(layer, "axis"), cast(layer, layer.x, FLOAT)
    asked(layer, FLOAT)
    off = layer.node("Sub", x, layer.node("ReduceMean", x, axes=axes, keepdims=1))
    square = layer.node("Mul", off, off)
    if layer.op == "_npi_var":
        return _reduced(layer, "ReduceMean", square, axes, layer.main)
    return layer.main("Sqrt", _reduced(layer, "ReduceMean", square, axes, layer.node))


EXTREMES = {
    "argmax": "ArgMax",
    "argmin": "ArgMin",
    "_npi_argmax": "ArgMax",
    "_npi_argmin": "ArgMin",
    "argmax_channel": "ArgMax",
}


@op(*EXTREMES)
def extreme(layer: Layer) -> Value:
    """Where the first extreme is, as a float (NumPy's style: int64); over all numbers if no axis is given."""
    name, x = EXTREMES[layer.op], layer.x
    kind = LONG if layer.op.startswith("_npi_") else FLOAT
    if kind_of(x).name in NARROW:
        x = cast(layer, x, np.int32)
    if layer.op == "argmax_channel":
        return cast(layer, layer.node(name, x, axis=1, keepdims=0), kind, layer.main)
    keep = layer.attrs.flag("keepdims", False)
    if layer.attrs.has("axis"):
        axis = layer.axis("axis", 0)
        last = layer.rank() == 1 and not layer.op.startswith("_np")
        found = layer.node(name, x, axis=axis, keepdims=int(keep or last))
        return cast(layer, found, kind, layer.main)
    flat = reshape(layer, x, [product(sizes(layer))], layer.node)
    found = layer.node(name, flat, axis=0, keepdims=int(not layer.op.startswith("_np")))
    if keep:
        found = reshape(layer, found, [fixed(1)] * layer.rank(), layer.node)
    return cast(layer, found, kind, layer.main)


@op("cumsum", "_np_cumsum", "_npi_cumsum")
def running_sum(layer: Layer) -> Value:
    """Sums of what stands before, and of the number itself; of all numbers in a row if no axis is given."""
    x = cast(layer, layer.x, asked(layer, kind_of(layer.x)))
    if not is_float(x) and kind_of(x).name in NARROW:
        x = cast(layer, x, np.int32)
    if layer.attrs.has("axis"):
        axis = layer.axis("axis", 0)
    else:
        axis, x = 0, reshape(layer, x, [product(sizes(layer))], layer.node)
    return layer.main("CumSum", x, layer.const(LONG.type(axis)))
