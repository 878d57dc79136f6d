"""One value in, one of the same shape out.

Whole numbers are computed as floats and rounded towards zero, as MXNet does.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from fewbit.frontends.mxnet.kinds import FLOAT, asked, cast, common, is_float, kind_of, truth
from fewbit.frontends.mxnet.layer import Layer, op
from fewbit.frontends.mxnet.sizes import MOST, Make, product, shape_list, sizes, unsqueeze
from fewbit.graph.build import Value

DIRECT = {
    "abs": "Abs", "negative": "Neg", "sign": "Sign", "relu": "Relu",
    "exp": "Exp", "log": "Log", "sqrt": "Sqrt", "reciprocal": "Reciprocal", "erf": "Erf",
    "ceil": "Ceil", "floor": "Floor", "sigmoid": "Sigmoid", "tanh": "Tanh", "softsign": "Softsign",
    "sin": "Sin", "cos": "Cos", "tan": "Tan", "arcsin": "Asin", "arccos": "Acos", "arctan": "Atan",
    "sinh": "Sinh", "cosh": "Cosh", "arcsinh": "Asinh", "arccosh": "Acosh", "arctanh": "Atanh",
}  # fmt: skip
"""MXNet's name → the ONNX operator that does the same."""

SCALED = {"log2": ("Log", 1 / math.log(2)), "log10": ("Log", 1 / math.log(10)),
          "degrees": ("", 180 / math.pi), "radians": ("", math.pi / 180)}  # fmt: skip
"""MXNet's name → an ONNX operator, times a number."""

SPARSE = """abs arccos arccosh arcsin arcsinh arctan arctanh cbrt ceil cos cosh degrees exp expm1 fix floor log log10
log1p log2 negative radians relu rint round rsqrt sigmoid sign sin sinh sqrt square tan tanh trunc""".split()
NUMPY = """arccos arccosh arcsin arcsinh arctan arctanh cbrt ceil cos cosh degrees exp expm1 fix floor log log10 log1p
log2 negative radians reciprocal rint sign sin sinh sqrt square tan tanh trunc""".split()
OTHER = {"_npi_absolute": "abs", "_npi_abs": "abs", "_npx_relu": "relu", "_npx_sigmoid": "sigmoid", "_npx_erf": "erf",
         "_npi_around": "around"}  # fmt: skip
"""Operators that are there for sparse arrays too, and in the NumPy style of MXNet 1.6 and later."""

WHOLE = frozenset({"abs", "negative", "sign", "square"})
"""What ONNX computes in whole numbers too."""

SAME = frozenset({"ceil", "floor", "rint", "round", "around", "fix", "trunc"})
"""What leaves whole numbers as they are."""

Rule = Callable[[Layer, Value, Make], Value]


def _square(layer: Layer, x: Value, make: Make) -> Value:
    return make("Mul", x, x)


def _rsqrt(layer: Layer, x: Value, make: Make) -> Value:
    return make("Reciprocal", layer.node("Sqrt", x))


def _cbrt(layer: Layer, x: Value, make: Make) -> Value:
    """sign(x)·|x|^⅓."""
    power = layer.node("Pow", layer.node("Abs", x), layer.like(1 / 3, x))
    return make("Mul", layer.node("Sign", x), power)


def _rcbrt(layer: Layer, x: Value, make: Make) -> Value:
    return make("Reciprocal", _cbrt(layer, x, layer.node))


def _log1p(layer: Layer, x: Value, make: Make) -> Value:
    return make("Log", layer.node("Add", x, layer.like(1, x)))


def _expm1(layer: Layer, x: Value, make: Make) -> Value:
    return make("Sub", layer.node("Exp", x), layer.like(1, x))


def _trunc(layer: Layer, x: Value, make: Make) -> Value:
    """sign(x)·⌊|x|⌋."""
    return make("Mul", layer.node("Sign", x), layer.node("Floor", layer.node("Abs", x)))


def _round(layer: Layer, x: Value, make: Make) -> Value:
    """Halves go away from zero: sign(x)·(⌊|x|⌋ + [|x| - ⌊|x|⌋ ≥ ½])."""
    size = layer.node("Abs", x)
    whole = layer.node("Floor", size)
    up = layer.node("GreaterOrEqual", layer.node("Sub", size, whole), layer.like(0.5, x))
    return make("Mul", layer.node("Sign", x), layer.node("Add", whole, cast(layer, up, kind_of(x))))


def _rint(layer: Layer, x: Value, make: Make) -> Value:
    """Halves go down: ⌊x⌋ + [x - ⌊x⌋ > ½]."""
    whole = layer.node("Floor", x)
    up = layer.node("Greater", layer.node("Sub", x, whole), layer.like(0.5, x))
    return make("Add", whole, cast(layer, up, kind_of(x)))


def _around(layer: Layer, x: Value, make: Make) -> Value:
    """To some decimals, halves to the even neighbour."""
    decimals = layer.attrs.whole("decimals", 0)
    if not decimals:
        return make("Round", x)
    if abs(decimals) > 30:
        raise layer.misfit(f"decimals is {decimals}; it must be -30 to 30")
    scale = layer.like(10.0**decimals, x)
    return make("Div", layer.node("Round", layer.node("Mul", x, scale)), scale)


BUILT: dict[str, Rule] = {
    "square": _square, "rsqrt": _rsqrt, "cbrt": _cbrt, "rcbrt": _rcbrt, "log1p": _log1p, "expm1": _expm1,
    "fix": _trunc, "trunc": _trunc, "round": _round, "rint": _rint, "around": _around,
}  # fmt: skip

NAMES = {
    **{n: n for n in (*DIRECT, *SCALED, *BUILT) if n != "around"},
    **{f"_sparse_{n}": n for n in SPARSE}, **{f"_npi_{n}": n for n in NUMPY}, **OTHER,
}  # fmt: skip
"""Every spelling → the function."""


@op(*NAMES)
def unary(layer: Layer) -> Value:
    """A function of one value."""
    name, x = NAMES[layer.op], layer.x
    if is_float(x):
        return _float_unary(name, layer, x, layer.main)
    if name in SAME:
        layer.attrs.skip("decimals")
        return x
    if name in WHOLE:
        return _square(layer, x, layer.main) if name == "square" else layer.main(DIRECT[name], x)
    kind, x = kind_of(x), cast(layer, x, FLOAT)
    return cast(layer, _float_unary(name, layer, x, layer.node), kind, layer.main)


def _float_unary(name: str, layer: Layer, x: Value, make: Make) -> Value:
    if name in DIRECT:
        return make(DIRECT[name], x)
    if name in SCALED:
        first, factor = SCALED[name]
        return make("Mul", layer.node(first, x) if first else x, layer.like(factor, x))
    return BUILT[name](layer, x, make)


@op("hard_sigmoid")
def hard_sigmoid(layer: Layer) -> Value:
    """min(max(α·x + β, 0), 1)."""
    return layer.main(
        "HardSigmoid", layer.x, alpha=layer.attrs.number("alpha", 0.2), beta=layer.attrs.number("beta", 0.5)
    )


@op("logical_not", "_npi_logical_not")
def logical_not(layer: Layer) -> Value:
    """Whether x is 0: NumPy's gives bool, the old one the input's type."""
    if layer.op == "_npi_logical_not":
        return layer.main("Not", truth(layer, layer.x))
    return cast(layer, layer.node("Not", truth(layer, layer.x)), kind_of(layer.x), layer.main)


@op("smooth_l1", "_npx_smooth_l1")
def smooth_l1(layer: Layer) -> Value:
    """½(σx)² where |x| < 1/σ², else |x| - ½/σ²."""
    x, sigma = layer.x, layer.attrs.number("scalar", 1.0)
    layer.attrs.skip("is_int")
    if not sigma:
        raise layer.misfit("scalar is 0; it must be another number")
    size = layer.node("Abs", x)
    inner = layer.node("Mul", layer.node("Mul", x, x), layer.like(sigma**2 / 2, x))
    outer = layer.node("Sub", size, layer.like(0.5 / sigma**2, x))
    return layer.main("Where", layer.node("Less", size, layer.like(1 / sigma**2, x)), inner, outer)


@op("clip", "_npi_clip", "_sparse_clip")
def clip(layer: Layer) -> Value:
    """min(max(x, a_min), a_max); a bound may be None or endless."""
    return layer.main("Clip", layer.x, *(_bound(layer, k) for k in ("a_min", "a_max")))


def _bound(layer: Layer, key: str) -> Value | None:
    endless = layer.attrs.text(key, "None").lower() in ("none", "-inf" if key == "a_min" else "inf")
    return None if endless else layer.like(layer.attrs.number(key), layer.x)


@op("Cast", "cast", "_npi_cast", "_npx_cast", "amp_cast")
def change_type(layer: Layer) -> Value:
    """Another number type; half and double precision are float32 here, which needs no node beside floats."""
    kind = asked(layer, FLOAT)
    return layer.x if kind_of(layer.x) == kind else cast(layer, layer.x, kind, layer.main)


@op("amp_multicast")
def amp_multicast(layer: Layer) -> tuple[Value, ...]:
    """Several values to one precision: all floats are float32 here."""
    layer.attrs.skip("num_outputs", "cast_narrow")
    return layer.inputs


@op("cast_storage", "_sparse_cast_storage")
def cast_storage(layer: Layer) -> Value:
    """Sparse arrays are dense here."""
    layer.attrs.skip("stype")
    return layer.x


FILLS = {"zeros_like": 0.0, "_sparse_zeros_like": 0.0, "ones_like": 1.0, "_npi_full_like": None}


@op(*FILLS)
def filled_like(layer: Layer) -> Value:
    """A constant of the input's shape."""
    number, kind = FILLS[layer.op], kind_of(layer.x)
    if number is None:
        number, kind = layer.attrs.number("fill_value"), asked(layer, kind)
    shape = layer.shape()
    count = product(sizes(layer)).known
    if count is not None and count <= MOST:
        return layer.const(np.full([d for d in shape if d is not None], number, kind))
    filled = layer.main("Expand", layer.const(np.array(number, kind)), shape_list(layer, layer.x))
    return layer.told(filled, shape)


@op("where", "_sparse_where", "_npi_where")
def where(layer: Layer) -> Value:
    """One value where the condition is not 0, else the other; the old operator's condition may choose whole rows."""
    condition, x, y = layer.takes(3)
    if layer.op != "_npi_where" and layer.rank(condition) == 1 < layer.rank(x):
        condition = unsqueeze(layer, condition, *range(1, layer.rank(x)))
    return layer.main("Where", truth(layer, condition), *common(layer, x, y))


@op("_npi_where_lscalar", "_npi_where_rscalar", "_npi_where_scalar2")
def where_numbers(layer: Layer) -> Value:
    """`where` with numbers for one of the values, or both."""
    attrs, condition = layer.attrs, truth(layer, layer.x)
    if layer.op == "_npi_where_scalar2":
        return layer.main("Where", condition, *(layer.const(attrs.number(k, 0.0)) for k in ("x", "y")))
    value = layer.takes(2)[1]
    number = layer.like(attrs.number("scalar", 0.0), value)
    left = layer.op == "_npi_where_lscalar"
    return layer.main("Where", condition, *((number, value) if left else (value, number)))


@op("_contrib_quadratic")
def quadratic(layer: Layer) -> Value:
    """a·x² + b·x + c = (a·x + b)·x + c."""
    a, b, c = (layer.like(layer.attrs.number(k, 0.0), layer.x) for k in "abc")
    inner = layer.node("Mul", layer.node("Add", layer.node("Mul", a, layer.x), b), layer.x)
    return layer.main("Add", inner, c)
