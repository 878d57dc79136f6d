"""Two values of which the smaller is broadcast, or a value and a number.

    a + b, a - b, …   → Add, Sub, …        a > b, …   → Greater, … in the input's type (NumPy's style: bool)
    a mod b           → with the sign of b, and 0 for b = 0

A number beside whole numbers is rounded towards zero first, as MXNet does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

import numpy as np

from fewbit.frontends.mxnet.kinds import FLOAT, cast, common, is_float, kind_of, truth
from fewbit.frontends.mxnet.layer import Layer, op
from fewbit.frontends.mxnet.sizes import Make
from fewbit.graph.build import Value, data_of

DIRECT = {"add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "power": "Pow", "maximum": "Max", "minimum": "Min"}
COMPARED = {"equal": "Equal", "not_equal": "Equal", "greater": "Greater", "greater_equal": "GreaterOrEqual",
            "lesser": "Less", "lesser_equal": "LessOrEqual"}  # fmt: skip
LOGIC = {"logical_and": "And", "logical_or": "Or", "logical_xor": "Xor"}

PAIRS = {
    **{f"elemwise_{n}": n for n in ("add", "sub", "mul", "div")},
    **{f"_sparse_elemwise_{n}": n for n in ("add", "sub", "mul", "div")},
    "_grad_add": "add", "_add": "add", "_plus": "add", "_Plus": "add", "_sub": "sub", "_minus": "sub", "_Minus": "sub",
    "_mul": "mul", "_Mul": "mul", "_div": "div", "_Div": "div", "_scatter_elemwise_div": "div",
    "_mod": "mod", "_Mod": "mod", "_power": "power", "_Power": "power", "_hypot": "hypot", "_Hypot": "hypot",
    "_maximum": "maximum", "_Maximum": "maximum", "_minimum": "minimum", "_Minimum": "minimum",
    **{f"broadcast_{n}": n for n in (*DIRECT, *COMPARED, *LOGIC, "mod", "hypot")},
    "broadcast_plus": "add", "broadcast_minus": "sub",
    **{f"_sparse_broadcast_{n}": n for n in ("add", "sub", "mul", "div")},
    "_sparse_broadcast_plus": "add", "_sparse_broadcast_minus": "sub",
    **{f"_{n}": n for n in (*COMPARED, *LOGIC)},
    "_Equal": "equal", "_Not_Equal": "not_equal", "_Greater": "greater", "_Greater_Equal": "greater_equal",
    "_Lesser": "lesser", "_Lesser_Equal": "lesser_equal",
    "_Logical_And": "logical_and", "_Logical_Or": "logical_or", "_Logical_Xor": "logical_xor",
    "_npi_add": "add", "_npi_subtract": "sub", "_npi_multiply": "mul", "_npi_true_divide": "div", "_npi_mod": "mod",
    **{f"_npi_{n}": n for n in (*LOGIC, "floor_divide")},
    "_npi_power": "power", "_npi_hypot": "hypot", "_npi_maximum": "maximum", "_npi_minimum": "minimum",
    "_npi_equal": "equal", "_npi_not_equal": "not_equal", "_npi_greater": "greater",
    "_npi_greater_equal": "greater_equal", "_npi_less": "lesser", "_npi_less_equal": "lesser_equal",
}  # fmt: skip
"""Every spelling with two values → what is computed."""

SCALARS = {
    "_plus_scalar": "add", "_PlusScalar": "add", "_scatter_plus_scalar": "add", "_npi_add_scalar": "add",
    "_minus_scalar": "sub", "_MinusScalar": "sub", "_scatter_minus_scalar": "sub", "_npi_subtract_scalar": "sub",
    "_rminus_scalar": "rsub", "_RMinusScalar": "rsub", "_npi_rsubtract_scalar": "rsub",
    "_mul_scalar": "mul", "_MulScalar": "mul", "_npi_multiply_scalar": "mul",
    "_div_scalar": "div", "_DivScalar": "div", "_npi_true_divide_scalar": "div",
    "_rdiv_scalar": "rdiv", "_RDivScalar": "rdiv", "_npi_rtrue_divide_scalar": "rdiv",
    "_mod_scalar": "mod", "_ModScalar": "mod", "_npi_mod_scalar": "mod",
    "_rmod_scalar": "rmod", "_RModScalar": "rmod", "_npi_rmod_scalar": "rmod",
    "_power_scalar": "power", "_PowerScalar": "power", "_npi_power_scalar": "power",
    "_rpower_scalar": "rpower", "_RPowerScalar": "rpower", "_npi_rpower_scalar": "rpower",
    "_hypot_scalar": "hypot", "_HypotScalar": "hypot", "_npi_hypot_scalar": "hypot",
    "_maximum_scalar": "maximum", "_MaximumScalar": "maximum", "_npi_maximum_scalar": "maximum",
    "_minimum_scalar": "minimum", "_MinimumScalar": "minimum", "_npi_minimum_scalar": "minimum",
    **{f"_{n}_scalar": n for n in (*COMPARED, *LOGIC)},
    "_EqualScalar": "equal", "_NotEqualScalar": "not_equal", "_GreaterScalar": "greater",
    "_GreaterEqualScalar": "greater_equal", "_LesserScalar": "lesser", "_LesserEqualScalar": "lesser_equal",
    "_LogicalAndScalar": "logical_and", "_LogicalOrScalar": "logical_or", "_LogicalXorScalar": "logical_xor",
    "_npi_equal_scalar": "equal", "_npi_not_equal_scalar": "not_equal", "_npi_greater_scalar": "greater",
    "_npi_greater_equal_scalar": "greater_equal", "_npi_less_scalar": "lesser",
    "_npi_less_equal_scalar": "lesser_equal",
    **{f"_npi_{n}_scalar": n for n in (*LOGIC, "floor_divide", "rfloor_divide")},
}  # fmt: skip
"""Every spelling with a number → what is computed; r…: the number comes first."""

NARROW = ("int8", "uint8", "bool")
"""Types that engines do not add or multiply: computed as int32, and cut back."""

Rule = Callable[[Layer, Value, Value, Make], Value]


@op(*PAIRS)
def pair(layer: Layer) -> Value:
    """Two values."""
    a, b = layer.takes(2)
    return _compute(layer, PAIRS[layer.op], *common(layer, a, b))


@op(*SCALARS)
def scalar(layer: Layer) -> Value:
    """A value and a number."""
    name, x, number = SCALARS[layer.op], layer.x, layer.attrs.number("scalar", 1.0)
    layer.attrs.skip("is_int")
    mixed = layer.op.startswith("_npi_") and name not in ("maximum", "minimum") and not number.is_integer()
    if mixed and not is_float(x):
        x = cast(layer, x, FLOAT)
    other = layer.like(number, x)
    first = name in ("rsub", "rdiv", "rmod", "rpower", "rfloor_divide")
    return _compute(layer, name.removeprefix("r") if first else name, *((other, x) if first else (x, other)))


def _compute(layer: Layer, name: str, a: Value, b: Value) -> Value:
    """The layer's main node, whatever the types."""
    kind, numpy = kind_of(a), layer.op.startswith("_npi_")
    if name in COMPARED or name in LOGIC:
        if numpy:
            return _truth_of(layer, name, a, b, layer.main)
        return cast(layer, _truth_of(layer, name, a, b, layer.node), kind, layer.main)
    if numpy and name in ("div", "hypot") and kind.kind != "f":
        a, b = cast(layer, a, FLOAT), cast(layer, b, FLOAT)
        return _arithmetic(layer, name, a, b, layer.main)
    if name == "hypot" and kind.kind != "f":
        a, b = cast(layer, a, FLOAT), cast(layer, b, FLOAT)
        return cast(layer, _arithmetic(layer, name, a, b, layer.node), kind, layer.main)
    if kind.name in NARROW:
        a, b = cast(layer, a, np.int32), cast(layer, b, np.int32)
        return cast(layer, _arithmetic(layer, name, a, b, layer.node), kind, layer.main)
    return _arithmetic(layer, name, a, b, layer.main)


def _arithmetic(layer: Layer, name: str, a: Value, b: Value, make: Make) -> Value:
    return make(DIRECT[name], a, b) if name in DIRECT else BUILT[name](layer, a, b, make)


def _truth_of(layer: Layer, name: str, a: Value, b: Value, make: Make) -> Value:
    if name in LOGIC:
        return make(LOGIC[name], truth(layer, a), truth(layer, b))
    if name == "not_equal":
        return make("Not", layer.node("Equal", a, b))
    return make(COMPARED[name], a, b)


def _mod(layer: Layer, a: Value, b: Value, make: Make) -> Value:
    """ONNX's rest has the sign of a: one b more where that is not the sign of b. Zero divisors give 0."""
    zeros = data_of(b)
    if zeros is None or not zeros.all():
        none = layer.node("Equal", b, layer.like(0, b))
        b = layer.node("Where", none, layer.like(1, b), b)
        a = layer.node("Where", none, layer.like(0, b), a)
    if not is_float(a):
        return make("Mod", a, b)
    rest = layer.node("Mod", a, b, fmod=1)
    other = layer.node("Less", layer.node("Mul", layer.node("Sign", rest), layer.node("Sign", b)), layer.like(0, a))
    return make("Where", other, layer.node("Add", rest, b), rest)


def _floor_divide(layer: Layer, a: Value, b: Value, make: Make) -> Value:
    """⌊a / b⌋; of whole numbers (a - a mod b) / b."""
    if is_float(a):
        return make("Floor", layer.node("Div", a, b))
    return make("Div", layer.node("Sub", a, _mod(layer, a, b, layer.node)), b)


def _hypot(layer: Layer, a: Value, b: Value, make: Make) -> Value:
    """√(a² + b²)."""
    return make("Sqrt", layer.node("Add", layer.node("Mul", a, a), layer.node("Mul", b, b)))


BUILT: dict[str, Rule] = {"mod": _mod, "hypot": _hypot, "floor_divide": _floor_divide}


@op("add_n", "ElementWiseSum", "_sparse_add_n", "_sparse_ElementWiseSum")
def add_n(layer: Layer) -> Value:
    """The sum of any number of values."""
    if len(layer.inputs) == 1:
        return layer.x
    if is_float(layer.x):
        return layer.main("Add" if len(layer.inputs) == 2 else "Sum", *layer.inputs)
    *most, last = layer.inputs
    return layer.main("Add", reduce(lambda a, b: layer.node("Add", a, b), most), last)
