"""Which value of a quantized network stands for which value of its float original, and in what range.

    float      v                                   pair (v, v_dq), range of the Q/DQ
    quantized  v ─ [Clip] ─ Q ─ v_dq ─ readers

Found by following Q and DQ nodes, not by naming rules, so that networks of other tools can be compared as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import Any

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
        if ours and node.op_type in ("QuantizeLinear", "Clip"):
            last = behind(node.outputs[0], known)
            if last is not node.outputs[0]:
                return last
    return value


def integer_range(value: Any) -> Range | None:
    """The real numbers that a DQ output can take, cut by a Clip in front of its Q; None if it is no such value.

    Per-channel ranges of activations have no single answer: None.
    """
    dq = value.producer()
    if dq is None or dq.op_type != "DequantizeLinear":
        return None
    scale, zero = const(dq.inputs[1]), const(dq.inputs[2]) if len(dq.inputs) > 2 else None
    if scale is None or scale.size != 1 or (zero is not None and zero.size != 1):
        return None
    kind = "uint8" if zero is None else zero.dtype.name
    if kind not in LIMITS:
        return None
    s, z = float(scale.reshape(())), 0 if zero is None else int(zero.reshape(()))
    lo, hi = ((q - z) * s for q in LIMITS[kind])
    q_node = dq.inputs[0].producer()
    clip = q_node.inputs[0].producer() if q_node is not None and q_node.op_type == "QuantizeLinear" else None
    if clip is not None and clip.op_type == "Clip":
        ends = [const(v) for v in (*clip.inputs[1:3], None, None)][:2]
        lo = lo if ends[0] is None else max(lo, float(ends[0]))
        hi = hi if ends[1] is None else min(hi, float(ends[1]))
    return lo, hi


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
