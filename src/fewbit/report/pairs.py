"""Which value of a quantized network stands for which value of its float original, and in what range.

    float      v                                   pair (v, v_dq), range of the Q/DQ
    quantized  v ─ [Clip] ─ Q ─ [Clip] ─ DQ ─ v_dq ─ readers

Found by following Q and DQ nodes, not by naming rules, so that networks of other tools can be compared as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import isnan, prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fewbit.core.runner import Feeds
from fewbit.errors import unknown
from fewbit.graph.model import Model, const, is_const, tensor_info

Pair = tuple[str, str]
Range = tuple[float, float]

LIMITS = {
    "int4": (-8, 7), "uint4": (0, 15), "int8": (-128, 127), "uint8": (0, 255),
    "int16": (-32768, 32767), "uint16": (0, 65535),
}  # fmt: skip
"""Smallest and largest number of the integer types that Q/DQ nodes use."""


SATURATE = frozenset({"QuantizeLinear", "Clip", "Less", "Where"})
"""What stands between a value and its DQ: formats narrower than their storage are cut, ±s is chosen by a Where."""

SIZED_BY_DATA = frozenset({"NonMaxSuppression", "NonZero", "Unique", "Compress"})
"""Operators that give as many values as the data says; two networks need not agree how many."""


def value_pairs(float_model: Model, quant_model: Model) -> list[Pair]:
    """Pair the computed float values that both networks have, by name, in the order of the float graph.

    Values whose number hangs on the data are left out: there is nothing to compare one by one.

    Returns:
        (name in the float network, name of what its readers see in the quantized one).
    """
    known = {str(n.name) for n in float_model.nodes}
    inside, loose = quant_model.values(), sized_by_data(float_model)
    found = []
    for name, value in float_model.values().items():
        other = inside.get(name)
        if is_const(value) or other is None or is_const(other) or not _float(value) or name in loose:
            continue
        seen = behind(other, known)
        if _float(seen) and (seen is not other or not value.is_graph_input()):
            found.append((name, str(seen.name)))
    return found


def sized_by_data(model: Model) -> set[str]:
    """Values whose shape the data decides. What is scattered into a tensor does not change that tensor's shape."""
    found: set[str] = set()
    for node in model.nodes:
        reads = node.inputs[:1] if node.op_type.startswith("Scatter") else node.inputs
        if node.op_type in SIZED_BY_DATA or any(v is not None and v.name in found for v in reads):
            found |= {str(v.name) for v in node.outputs}
    return found


def check_pairs(pairs: Iterable[Pair], float_model: Model, quant_model: Model) -> list[Pair]:
    """Refuse names that one of the networks does not have; the nearest one is offered."""
    found = [(str(a), str(b)) for a, b in pairs]
    ours, theirs = float_model.values(), quant_model.values()
    for a, b in found:
        if a not in ours:
            raise unknown("value of the float network", a, ours)
        if b not in theirs:
            raise unknown("value of the quantized network", b, theirs)
    return found


def behind(value: Any, known: set[str]) -> Any:
    """The value behind the Q/DQ that follows, or `value` itself; `known` nodes belong to the float network."""
    for use in value.uses():
        node = use.node
        ours = use.idx == 0 and node.name not in known and len(node.outputs) == 1
        if ours and node.op_type == "DequantizeLinear":
            return node.outputs[0]
        if ours and node.op_type in SATURATE:
            last = behind(node.outputs[0], known)
            if last is not node.outputs[0]:
                return last
    return value


class IntegerFormat(NamedTuple):
    """The integers behind a DQ output.

    Args:
        name: such as uint8, or uint4 where uint8 is cut to 0 … 15. scale, zero_point: of one number for all.
        least, most: smallest and largest integer that gets through.
    """

    name: str
    scale: float
    zero_point: int
    least: int
    most: int

    @property
    def range(self) -> Range:
        """The real numbers that these integers stand for."""
        lo, hi = ((q - self.zero_point) * self.scale for q in (self.least, self.most))
        return lo, hi


def integer_range(value: Any) -> Range | None:
    """The real numbers that a DQ output can take; None if it is no such value. See `integer_format`."""
    found = integer_format(value)
    return found.range if found is not None else None


def integer_format(value: Any) -> IntegerFormat | None:
    """The integers that a DQ output is made of, as far as what saturates them around their Q lets them through.

        v ─ [Clip of floats, or Where of two] ─ Q ─ [Clip of integers] ─ DQ ─ value

    Per-channel formats of activations have no single answer: None.
    """
    dq = value.producer()
    if dq is None or dq.op_type != "DequantizeLinear":
        return None
    scale, zero = (const(v) for v in (*dq.inputs[1:3], None, None)[:2])
    if scale is None or scale.size != 1 or (zero is not None and zero.size != 1):
        return None
    kind = _kind(dq.inputs[0], zero)
    if kind not in LIMITS:
        return None
    s, z = float(scale.reshape(())), 0 if zero is None else int(zero.reshape(()))
    least, most, two = _let_through(dq.inputs[0], s, z, LIMITS[kind])
    return IntegerFormat("int1" if two else width_name(kind, least, most), s, z, least, most)


def width_name(kind: str, least: int, most: int) -> str:
    """The format whose limits these are, with or without its lowest number: uint4 for 0 … 15; otherwise the type.

    -1 … 1 is int2 without its lowest number; int1, which has no 0, cannot be told by limits.
    """
    for bits in range(1, int(kind.lstrip("uint"))):
        high = 2 ** (bits - 1) - 1
        unsigned = kind.startswith("u") and (least, most) == (0, 2**bits - 1)
        if unsigned or (not kind.startswith("u") and bits > 1 and most == high and least in (-high, -high - 1)):
            return f"{'u' * unsigned}int{bits}"
    return kind


def held_width(q: NDArray[Any], zero: NDArray[Any] | None = None) -> tuple[str, int, int, int]:
    """The narrowest format that holds the integers of a weight: its name, bits, smallest and largest integer.

    Weights reach the end of their range, as a rule. So int8 that never leaves -7 … 7 has 4 bits, and its limit is 7.

    Args:
        q: of a type in `LIMITS`, any shape. zero: its zero points, which the format holds as well.
    """
    kind = str(q.dtype.name)
    least, most = LIMITS[kind]
    whole = int(kind.lstrip("uint"))
    if not q.size:
        return kind, whole, least, most
    zeros = np.zeros(1, np.int32) if zero is None or not zero.size else zero
    low, high = int(min(q.min(), zeros.min())), int(max(q.max(), zeros.max()))
    if least == 0:
        bits = max(high.bit_length(), 1)
        ends = (0, 2**bits - 1)
    elif (low, high) == (-1, 1) and q.all():
        return "int1", 1, -1, 1
    else:
        bits = max(high.bit_length(), (-low - 1).bit_length() if low < 0 else 0, 1) + 1
        top = int(2 ** (bits - 1) - 1)
        ends = (-top if low >= -top else -top - 1, top)
    return (kind, whole, least, most) if bits >= whole else (width_name(kind, *ends), bits, *ends)


def _kind(integers: Any, zero: Any) -> str:
    """The type of integers. The zero point tells; without one they are uint8, unless they say otherwise."""
    if zero is not None:
        return str(zero.dtype.name)
    return str(integers.dtype.name).lower() if integers is not None and integers.dtype is not None else "uint8"


def _let_through(value: Any, s: float, z: int, limits: tuple[int, int]) -> tuple[int, int, bool]:
    """Smallest and largest integer that reaches a DQ past all that saturates before; whether there are none between."""
    least, most = limits
    maker, floats = value.producer(), False
    while maker is not None and maker.op_type in ("Clip", *("Where",) * floats, *("QuantizeLinear",) * (not floats)):
        if maker.op_type == "QuantizeLinear":
            floats = True
        else:
            ends = [None if e is None or e.size != 1 else float(e.reshape(())) for e in _ends(maker)]
            lo, hi = (_rounded(e, s, z, limits) if floats and e is not None else e for e in ends)
            if maker.op_type == "Where":
                if lo is None or hi is None:
                    break
                return int(min(lo, hi)), int(max(lo, hi)), True
            least = least if lo is None else min(max(least, int(lo)), most)
            most = most if hi is None else max(min(most, int(hi)), least)
        maker = maker.inputs[0].producer() if maker.inputs[0] is not None else None
    return least, most, False


def _ends(node: Any) -> list[Any]:
    """The two constants of a Clip, or of a Where; None each where there is none."""
    return [const(v) for v in (*node.inputs[1:3], None, None)[:2]]


def _rounded(x: float, s: float, z: int, limits: tuple[int, int]) -> float:
    """What a Q makes of a number."""
    if isnan(x):
        return z
    return min(max(np.rint(min(max(x / s, -(2.0**40)), 2.0**40)) + z, limits[0]), limits[1])


def split(pairs: Sequence[Pair], float_model: Model, feeds: Feeds, limit: int) -> list[list[Pair]]:
    """Cut pairs into groups whose values, on both sides, take at most `limit` bytes for one batch.

    Sizes come from the shapes in the graph, free axes from the batch. A value of unknown size counts as the largest
    known one that is computed; one that is over the limit gets a group of its own. There is always at least one
    group, if an empty one.
    """
    sizes = value_bytes(float_model, feeds)
    values = float_model.values()
    guess = max((s for name, s in sizes.items() if s is not None and not is_const(values[name])), default=0)
    groups: list[list[Pair]] = [[]]
    room = limit
    for pair in pairs:
        known = sizes.get(pair[0])
        need = 2 * (guess if known is None else known)
        if need > room and groups[-1]:
            groups.append([])
            room = limit
        groups[-1].append(pair)
        room -= need
    return groups


def value_bytes(model: Model, feeds: Feeds) -> dict[str, int | None]:
    """Bytes of each value for these feeds; None where an axis has no known length."""
    free: dict[str, int] = {}
    for info in model.inputs:
        if info.name in feeds:
            free |= {d: n for d, n in zip(info.shape, feeds[info.name].shape, strict=False) if isinstance(d, str)}
    found: dict[str, int | None] = {}
    for name, value in model.values().items():
        info = tensor_info(value)
        axes = [free.get(d) if isinstance(d, str) else d for d in info.shape]
        whole = [d for d in axes if d is not None]
        known = value.shape is not None and len(whole) == len(axes)
        found[name] = prod(whole) * info.dtype.itemsize if known else None
    return found


def _float(value: Any) -> bool:
    return value.dtype is not None and tensor_info(value).dtype.name in ("float32", "float16", "float64")
