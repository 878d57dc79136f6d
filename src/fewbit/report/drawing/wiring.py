"""Who reads what in which format: a network's edges, with Q and DQ nodes taken out of the way.

float        v ─ layer                                  Read(v, ())
quantized    v ─ Q ─ DQ ─ layer                         Read(v, (u8 0.02 z 3,))
v ─ Q ─ DQ ─ Q ─ DQ ─ layer                Read(v, (u8 …, u8 …))        requantized on the way
bytes ─ DQ ─ layer                         a Constant of the layer
integers     v_u8 ─ DQ ─ layer                          Read(v_u8, (f32,))
planned      v ─ layer, role act                        Read(v, (u8,))               no scale before calibration
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod
from typing import Any

from fewbit.core.plan import Plan, ValuePlan
from fewbit.graph.model import PACKED, Model, attr, const, dims, is_const, op_name
from fewbit.report.drawing.formats import FLOAT, Format, of_grid, of_spec, of_type
from fewbit.report.pairs import LIMITS, held_width

SAME_SCALE = 1e-6

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"

GRIDS: dict[str, tuple[tuple[tuple[int, int, int], ...], tuple[int, int] | None]] = {
    **dict.fromkeys(("QLinearConv", "QLinearMatMul", "QLinearAdd", "QLinearMul"), (((0, 1, 2), (3, 4, 5)), (6, 7))),
    **dict.fromkeys(
        ("QLinearAveragePool", "QLinearGlobalAveragePool", "QLinearLeakyRelu", "QLinearSigmoid"), (((0, 1, 2),), (3, 4))
    ),
    "QGemm": (((0, 1, 2), (3, 4, 5)), (7, 8)),
    "QLinearSoftmax": (((0, 1, 2),), (3, 4)),
    "QLinearConcat": (tuple((i, i + 1, i + 2) for i in range(2, 302, 3)), (0, 1)),
    "MatMulIntegerToFloat": (((0, 2, 4), (1, 3, 5)), None),
    "DynamicQuantizeMatMul": (((1, 2, 3),), None),
    "MatMulInteger": (((0, -1, 2), (1, -1, 3)), None),
    "ConvInteger": (((0, -1, 2), (1, -1, 3)), None),
}
"""Integer operators → inputs with their scale and zero point, and those of the output, by number."""

NOT_DATA = {
    op: frozenset(k for _, s, z in ins for k in (s, z)) | frozenset(out or ()) for op, (ins, out) in GRIDS.items()
}


@dataclass(frozen=True)
class Step:
    """A format that a value takes on its way. `nodes`: names of what does it, empty in a plan."""

    format: Format
    nodes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Read:
    """What a layer reads: a value, and the formats that it takes on its way. `source`: a value of onnx_ir."""

    source: Any
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True)
class Constant:
    """A weight as a layer reads it. `shape`: of the real weight. `format`: as it is stored."""

    name: str
    shape: tuple[int | None, ...]
    format: Format

    @property
    def size(self) -> int:
        """Number of weights."""
        return prod(d or 0 for d in self.shape)


class Wiring:
    """A float network, or one in which every node is to be seen."""

    tidy = False
    """Whether scales that are computed at run time go without an edge."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def hidden(self, node: Any) -> bool:
        """Whether a node is drawn as part of an edge or of another node."""
        return False

    def read(self, node: Any, index: int) -> Read | Constant | None:
        """What a node reads at one input; None if that is left out, or says nothing by itself."""
        return self.follow(node.inputs[index], node, index)

    def follow(self, value: Any, node: Any = None, index: int = 0) -> Read | Constant | None:
        """As `read`, for a value."""
        if value is None:
            return None
        if is_const(value):
            return Constant(str(value.name), dims(value) or (), of_type(value.dtype))
        return Read(value)

    def made(self, value: Any) -> Format:
        """The format in which a value is made."""
        return of_type(value.dtype)

    def rounded(self, value: Any) -> Format | None:
        """The format that a value gets right behind the layer that makes it, by nodes that are not drawn, if any."""
        return None


class Planned(Wiring):
    """What a plan will make of a fused float network."""

    def __init__(self, model: Model, plan: Plan) -> None:
        super().__init__(model)
        self.plan = plan

    def follow(self, value: Any, node: Any = None, index: int = 0) -> Read | Constant | None:
        """As `Wiring.follow`."""
        found = super().follow(value)
        verdict = self.plan.nodes.get(str(node.name)) if node is not None else None
        role = verdict.roles[index] if verdict is not None and index < len(verdict.roles) else "keep"
        if isinstance(found, Constant):
            key = self.plan.weight_key(found.name, str(node.name)) if role in ("weight", "act") else None
            if key is not None:
                return Constant(found.name, found.shape, of_spec(self.plan.values[key].spec))
            return Constant(found.name, found.shape, Format("i32")) if role == "bias" else found
        if found is None or role != "act" or str(value.name) not in self.plan.values:
            return found
        return Read(value, (Step(planned(self.plan.values[str(value.name)], self.plan, str(value.name))),))

    def made(self, value: Any) -> Format:
        """As `Wiring.made`."""
        node, name = value.producer(), str(value.name)
        verdict = self.plan.nodes.get(str(node.name)) if node is not None else None
        entry = self.plan.values.get(name)
        if verdict is None or not verdict.quantized or entry is None or entry.role != "act" or entry.spec.dynamic:
            return of_type(value.dtype)
        return planned(entry, self.plan, name)


def planned(value: ValuePlan, plan: Plan, name: str) -> Format:
    """The format of an activation; with its scale, if the plan is calibrated."""
    if not value.calibrated:
        return of_spec(value.spec)
    params = plan.params(name)
    return of_spec(params.spec, [float(x) for x in params.scale.ravel()], [int(z) for z in params.zero_point.ravel()])


class Traced(Wiring):
    """A quantized network.

    Args:
        known: names of the nodes of its float form, if that is at hand: other nodes only saturate or unpack.
        plan: what it follows; it knows the width of weights whose integers do not tell, and what shares a scale.
    """

    tidy = True

    def __init__(self, model: Model, known: Collection[str] = (), plan: Plan | None = None) -> None:
        super().__init__(model)
        self.known = frozenset(known)
        self.plan = plan
        self.held: dict[Any, Format] = {}

    @cached_property
    def fixed(self) -> dict[Any, None]:
        """Nodes that compute weights out of integers."""
        made: dict[Any, None] = {}
        for node in self.model.nodes:
            if node.inputs and all(v is None or is_const(v) or v.producer() in made for v in node.inputs):
                made[node] = None
        if PACKED in self.model.metadata:
            return made
        return {n: None for n in made if any(m.op_type == DEQUANTIZE for m in behind(n))}

    def hidden(self, node: Any) -> bool:
        """As `Wiring.hidden`."""
        if node in self.fixed or (node.op_type in (QUANTIZE, DEQUANTIZE) and self._grid(node)):
            return True
        return self._clips(node) or self._saturates(node)

    def follow(self, value: Any, node: Any = None, index: int = 0) -> Read | Constant | None:
        """As `Wiring.follow`."""
        if value is None or (node is not None and index in NOT_DATA.get(node.op_type, ())):
            return None
        if is_const(value) or value.producer() in self.fixed:
            return self._constant(value, node, index)
        steps: list[Step] = []
        while True:
            maker = value.producer()
            if maker is None or maker.op_type not in (QUANTIZE, DEQUANTIZE) or not self._grid(maker):
                break
            inner = maker.inputs[0]
            if maker.op_type == QUANTIZE:
                steps.append(Step(self._format(maker, None), (str(maker.name),)))
                value = inner
                continue
            clip = inner.producer()
            limits = self._limits(clip)
            q = clip.inputs[0].producer() if limits is not None else clip
            if q is None or q.op_type != QUANTIZE or not self._grid(q):
                steps.append(Step(FLOAT, (str(maker.name),)))
                value = inner
                continue
            source, narrow = self._unsaturated(q.inputs[0])
            limits = limits or self._narrowed(q, narrow)
            found, read = self._format(q, limits), self._format(maker, limits)
            names = tuple(str(n.name) for n in (q, *((clip,) if clip is not q else ()), maker))
            steps += [Step(read, names)] if same(found, read) else [Step(read, names[-1:]), Step(found, names[:-1])]
            value = source
        return Read(value, tuple(reversed(steps)))

    def made(self, value: Any) -> Format:
        """As `Wiring.made`."""
        plain, node = of_type(value.dtype), value.producer()
        if node is None or not plain.integer:
            return plain
        _, out = GRIDS.get(node.op_type, ((), None))
        if out is not None:
            scale, zero = (const(node.inputs[k]) if k < len(node.inputs) else None for k in out)
            return of_grid(value.dtype, scale, zero)
        first = self.follow(node.inputs[0]) if node.inputs else None
        if isinstance(first, Read):
            before = first.steps[-1].format if first.steps else self.made(first.source)
            return before if before.word == plain.word else plain
        return plain

    def rounded(self, value: Any) -> Format | None:
        """As `Wiring.rounded`: what the first DQ behind the value reads, or its Q gives where there is no DQ."""
        open_, last = [value], None
        while open_:
            for node in (u.node for u in open_.pop(0).uses()):
                if not self.hidden(node) or (node.op_type == DEQUANTIZE and last is None):
                    continue
                read = self.follow(node.outputs[0])
                if isinstance(read, Read) and read.source is value and read.steps and node.op_type == DEQUANTIZE:
                    return read.steps[0].format
                if node.op_type == QUANTIZE and last is None:
                    last = self._format(node, None)
                open_.append(node.outputs[0])
        return last

    # -- weights ------------------------------------------------------------------------------------------------------

    def _constant(self, value: Any, node: Any, index: int) -> Constant:
        name, shape, maker = str(value.name), dims(value) or (), value.producer()
        if maker in self.fixed:
            dq = next((n for n in behind(maker) if n.op_type == DEQUANTIZE), None)
            found = self._format(dq, None) if dq is not None else self._packed(name, maker, prod(d or 0 for d in shape))
            told = self._as_planned(name, str(node.name) if node is not None else "", found)
            return Constant(name, shape, told or (self._as_held(dq, found) if dq is not None else found))
        op = node.op_type if node is not None else ""
        if op == "MatMulNBits" and index == 1:
            bits, k, n = (int(attr(node, key, d)) for key, d in (("bits", 4), ("K", 0), ("N", 0)))
            return Constant(
                name, (k, n), Format(f"u{bits}", share=f"groups of {attr(node, 'block_size', 0)}", bits=bits)
            )
        grid = next((g for g in GRIDS.get(op, ((), None))[0] if g[0] == index), None)
        if grid is None:
            return Constant(name, shape, of_type(value.dtype))
        scale, zero = (const(node.inputs[k]) if 0 <= k < len(node.inputs) else None for k in grid[1:])
        found = of_grid(value.dtype, scale, zero)
        return Constant(name, shape, Format(found.word, found.scale, found.zero, found.share, found.bits))

    def _as_held(self, dq: Any, found: Format) -> Format:
        """The format of a weight behind a DQ, as narrow as its integers are."""
        if dq not in self.held:
            q = const(dq.inputs[0])
            if q is not None and q.dtype.name in LIMITS and found.bits > 1:
                bits = held_width(q, const(dq.inputs[2]) if len(dq.inputs) > 2 else None)[1]
                found = replace(found, word=f"{found.word[0]}{bits}", bits=bits)
            self.held[dq] = found
        return self.held[dq]

    def _as_planned(self, name: str, node: str, found: Format) -> Format | None:
        """The format with the width and the sharing that the plan knows; None if it does not."""
        key = self.plan.weight_key(name.removesuffix("_dq"), node) if self.plan is not None else None
        if self.plan is None or key is None or self.plan.values[key].role != "weight":
            return None
        told = of_spec(self.plan.values[key].spec, found.scale, found.zero)
        return told if told.bits <= found.bits or not found.bits else None

    def _packed(self, name: str, maker: Any, count: int) -> Format:
        """Bits of a weight that nodes unpack: as it was stored, or told by its bytes."""
        stored = self.model.stored.get(name)
        if stored is not None:
            return of_spec(stored.params.spec)
        held = [v for n in behind(maker) for v in n.inputs if v is not None and is_const(v)]
        sizes = [v.const_value.nbytes for v in held if str(v.dtype.name) in ("UINT8", "INT8", "INT16") and _data(v)]
        bits = round(8 * sum(sizes) / count) if count and sizes else 0
        return Format(f"s{bits}", bits=bits) if 0 < bits <= 16 else FLOAT

    # -- Q and DQ -----------------------------------------------------------------------------------------------------

    def _grid(self, node: Any) -> bool:
        """Whether scale and zero point of a Q or DQ are constants."""
        return all(v is None or is_const(v) or v.producer() in self.fixed for v in node.inputs[1:])

    def _format(self, node: Any, limits: tuple[int, int] | None) -> Format:
        """What a Q gives, or a DQ reads."""
        integers = node.outputs[0] if node.op_type == QUANTIZE else node.inputs[0]
        scale, zero = (const(v) for v in (*node.inputs[1:3], None, None)[:2])
        return of_grid(integers.dtype, scale, zero, int(attr(node, "block_size", 0)), limits)

    def _limits(self, node: Any) -> tuple[int, int] | None:
        """What a Clip of integers between Q and DQ cuts to."""
        if node is None or node.op_type != "Clip" or not of_type(node.inputs[0].dtype).integer:
            return None
        ends = [const(v) for v in node.inputs[1:3]]
        return (int(ends[0]), int(ends[1])) if len(ends) == 2 and all(e is not None for e in ends) else None  # type: ignore[arg-type]

    def _clips(self, node: Any) -> bool:
        """Whether a Clip only narrows the integers between a Q and its DQ."""
        q = node.inputs[0].producer() if self._limits(node) is not None else None
        users = [u.node.op_type for u in node.outputs[0].uses()]
        return q is not None and q.op_type == QUANTIZE and set(users) == {DEQUANTIZE}

    def _saturates(self, node: Any) -> bool:
        """Whether a float node in front of a Q only saturates for it."""
        if not self.known or node.name in self.known or node.op_type not in ("Clip", "Where", "Less"):
            return False
        users = {u.node.op_type for u in node.outputs[0].uses()}
        return bool(users) and users <= ({"Where"} if node.op_type == "Less" else {QUANTIZE})

    def _unsaturated(self, value: Any) -> tuple[Any, Any]:
        """The value in front of what saturates it, and that node."""
        node = value.producer()
        if node is None or not self._saturates(node):
            return value, None
        less = node.inputs[0].producer() if node.op_type == "Where" else None
        return (less.inputs[0] if less is not None else node.inputs[0]), node

    def _narrowed(self, q: Any, node: Any) -> tuple[int, int] | None:
        """Integers that values reach once they are saturated."""
        if node is None:
            return None
        ends = [const(v) for v in node.inputs[1:3]]
        scale = const(q.inputs[1])
        if node.op_type == "Where":
            return 0, 1
        if len(ends) < 2 or any(x is None or x.size != 1 for x in (*ends, scale)):
            return None
        lo, hi = (round(float(e.ravel()[0] / scale.ravel()[0])) for e in ends)  # type: ignore[union-attr]
        return lo, hi


def behind(node: Any) -> list[Any]:
    """A node and all that it is computed from, nearest first."""
    found, open_ = {node: None}, [node]
    while open_:
        for value in open_.pop(0).inputs:
            maker = value.producer() if value is not None else None
            if maker is not None and maker not in found:
                found[maker] = None
                open_.append(maker)
    return list(found)


def same(a: Format, b: Format) -> bool:
    """Whether two formats hold the same numbers."""
    if (a.word, a.zero, len(a.scale)) != (b.word, b.zero, len(b.scale)):
        return False
    return all(abs(x - y) <= SAME_SCALE * max(abs(x), abs(y)) for x, y in zip(a.scale, b.scale, strict=True))


def _data(value: Any) -> bool:
    """Whether bytes are a weight's own and no table that many share."""
    return not (dims(value) and (dims(value) or ())[0] == 256 and len(dims(value) or ()) > 1)


def is_quantized(model: Model) -> bool:
    """Whether a network holds integers of few bits."""
    from fewbit.graph.files import QUANTIZED_OPS

    return PACKED in model.metadata or any(op_name(n).rsplit(".", 1)[-1] in QUANTIZED_OPS for n in model.nodes)
