"""The float network that a quantized MXNet graph was made from, its parameters, and the ranges of its calibration.

    data ─ quantize_v2 ─ quantized_conv ─ requantize ─ quantized_act ─ dequantize   →   data ─ conv ─ act
    _sg_mkldnn_conv { conv ─ bn ─ relu }, quantized or not                          →   conv ─ bn ─ relu
    fc_weight_quantize (int8), fc_weight_quantize_min, fc_weight_quantize_max       →   fc_weight (float32)

Operators of integers carry the lowest and the highest value of everything beside it: inputs (x, y, …, min x, max x,
min y, …), outputs (value, min, max). These fall away; what calibration wrote into attributes is kept, by the name of
the value. Layers keep the names that they had before quantizing. Fused operators hold what they were made from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from fewbit.errors import ModelFormatError
from fewbit.frontends.mxnet.graph import Entry, SymbolGraph, SymbolNode, variables_of
from fewbit.frontends.mxnet.implied import Range, Ranges, imply, union
from fewbit.frontends.mxnet.signature import flag, whole
from fewbit.graph.model import Array

FUSED = ("_sg_mkldnn_", "_sg_onednn_")
"""What the names of fused operators begin with, up to MXNet 1.x and from 2.0 on."""

INTO = frozenset({"_contrib_quantize", "_contrib_quantize_v2", "_contrib_quantize_asym", "_contrib_requantize"})
OUT = "_contrib_dequantize"
LOWEST, HIGHEST = "min_calib_range", "max_calib_range"
ADDED = frozenset(
    {LOWEST, HIGHEST, "enable_float_output", "enabled_float_output", "quantized", "channel_wise_quantize"}
)
"""Attributes that quantizing adds."""

STORED = "_quantize"
"""What it adds to the name of a parameter that is stored as integers."""

LEVELS = {"int8": 127, "uint8": 255, "int32": 2**31 - 1}
"""Type of a stored parameter → the integer that its largest magnitude became."""

Counts = Callable[[Mapping[str, str]], tuple[int, int]]
"""Attributes → how many inputs of the float operator there are, and how many ends of ranges behind them."""


def _each(count: int) -> Counts:
    return lambda attrs: (count, 2 * count)


def _learnt(attrs: Mapping[str, str]) -> tuple[int, int]:
    return (2, 4) if flag(attrs, "no_bias") else (3, 6)


def _concat(attrs: Mapping[str, str]) -> tuple[int, int]:
    count = whole(attrs, "num_args", 1)
    return count, 2 * count


def _rnn(attrs: Mapping[str, str]) -> tuple[int, int]:
    return 3 + (attrs.get("mode") == "lstm") + flag(attrs, "use_sequence_length"), 2


QUANTIZED: dict[str, tuple[str, Counts]] = {
    "_contrib_quantized_conv": ("Convolution", _learnt),
    "_contrib_quantized_fully_connected": ("FullyConnected", _learnt),
    "_contrib_quantized_pooling": ("Pooling", _each(1)),
    "_contrib_quantized_act": ("Activation", _each(1)),
    "_contrib_quantized_flatten": ("Flatten", _each(1)),
    "_contrib_quantized_reshape": ("Reshape", _each(1)),
    "_npx_quantized_reshape": ("_npx_reshape", _each(1)),
    "_contrib_quantized_transpose": ("transpose", _each(1)),
    "_npx_quantized_transpose": ("_npi_transpose", _each(1)),
    "_contrib_quantized_concat": ("Concat", _concat),
    "_contrib_quantized_elemwise_add": ("elemwise_add", _each(2)),
    "_contrib_quantized_npi_add": ("_npi_add", _each(2)),
    "_contrib_quantized_elemwise_mul": ("elemwise_mul", _each(2)),
    "_contrib_quantized_batch_norm": ("BatchNorm", lambda attrs: (5, 2)),
    "_contrib_quantized_batch_norm_relu": ("_contrib_BatchNormWithReLU", lambda attrs: (5, 2)),
    "_contrib_quantized_embedding": ("Embedding", lambda attrs: (2, 2)),
    "_contrib_quantized_rnn": ("RNN", _rnn),
}
"""Operator of integers → the float operator that it stands for, and its inputs."""


AROUND = frozenset({"Convolution", "FullyConnected", "batch_dot", "_npx_convolution", "_npx_fully_connected"})
"""Operators that others are fused into."""


def recover(
    graph: SymbolGraph, params: Mapping[str, Array]
) -> tuple[SymbolGraph, dict[str, Array], dict[str, tuple[float, float]]]:
    """The float network behind a quantized or fused one.

    Args:
        graph: upgraded. params: arguments and auxiliary states by name.

    Returns:
        the float graph, its parameters, and the calibrated ranges by value name: `<layer>_output`, or the name of an
        input; also those that follow from them. A float graph comes back as it is, without ranges. Operators of
        integers that fewbit does not know are left in place, for `convert` to name them all.

    Raises:
        ModelFormatError: a fused operator without what it was made from, a wrong number of inputs, a bad range.
    """
    if not any(is_quantized(n.op) for n in graph.nodes):
        return graph, dict(params), {}
    work = _Recovery(params)
    made = work.place(graph, {})
    heads = tuple(_value(made, h, "the output of the network") for h in graph.heads)
    nodes = tuple(work.nodes)
    found = replace(graph, nodes=nodes, heads=heads, arg_nodes=variables_of(nodes))
    names = {entry: name for name, entry in found.internals().items()}
    ranges = imply(found, work.ranges, work.inner, work.integers, work.params)
    found = found.pruned()
    weights = {k: work.params[k] for k in found.variables if k in work.params}
    return found, weights, {names[e]: r for e, r in ranges.items() if e in names}


def fused_layers(graph: SymbolGraph) -> dict[str, str]:
    """Names of fused layers, integer or not → the layer that they are built around."""
    found: dict[str, str] = {}
    for node in graph.nodes:
        inner = [n for g in node.subgraphs for n in g.nodes if n.op != "null"]
        if inner:
            main = next((n for n in inner if n.op in AROUND), inner[0])
            found |= {node.name: main.name, node.name.removeprefix("quantized_"): main.name}
    return found


def is_quantized(op: str) -> bool:
    """Whether an operator is there for integers, or fuses others."""
    return op in INTO or op == OUT or op.startswith((*FUSED, "_contrib_quantized_", "_npx_quantized_"))


Made = dict[int, int | tuple[Entry, ...]]
"""Old node → the new one, or the values that its first outputs are; its other outputs are ends of ranges."""


@dataclass
class _Recovery:
    """The float network in the making.

    Args:
        given: parameters as stored. params: as floats.
        nodes: of the float network. ranges: what calibration said of their outputs.
        inner: nodes that were fused into others, but for the last of each: nothing else read them.
        integers: nodes that were operators of integers.
        variables: name → node.
    """

    given: Mapping[str, Array]
    params: dict[str, Array] = field(default_factory=dict)
    nodes: list[SymbolNode] = field(default_factory=list)
    ranges: Ranges = field(default_factory=dict)
    inner: set[int] = field(default_factory=set)
    integers: set[int] = field(default_factory=set)
    variables: dict[str, int] = field(default_factory=dict)

    def place(self, graph: SymbolGraph, made: Made) -> Made:
        """Add the nodes of a graph, without those that `made` has already."""
        for i, node in enumerate(graph.nodes):
            if i in made:
                continue
            if node.op == "null":
                made[i] = (self.variable(node),)
            elif node.op in INTO or node.op == OUT:
                made[i] = (self.converter(node, made),)
            elif node.op.startswith(FUSED):
                made[i] = self.fused(node, made)
            elif node.op in QUANTIZED:
                made[i] = self.integer(node, made)
            elif is_quantized(node.op):  # `convert` names all that nobody knows
                made[i] = self.add(node, [v for e in node.inputs if (v := _find(made, e)) is not None])
            else:
                made[i] = self.add(node, [_value(made, e, _what(node)) for e in node.inputs])
        return made

    def add(self, node: SymbolNode, inputs: Sequence[Entry]) -> int:
        """Append a node."""
        self.nodes.append(replace(node, inputs=tuple(inputs)))
        return len(self.nodes) - 1

    def variable(self, node: SymbolNode) -> Entry:
        """A variable, as float and under the name that it had as float."""
        name, stored = node.name, node.name.removesuffix(STORED)
        if name != stored and {name, name + "_min", name + "_max"} <= self.given.keys():
            name = stored
            if name not in self.given:
                self.params[name] = _as_float(node.name, *(self.given[node.name + end] for end in ("", "_min", "_max")))
        if name in self.given:
            self.params[name] = self.given[name]
        if name not in self.variables:
            attrs = {} if name != node.name else node.attrs
            self.variables[name] = self.add(replace(node, name=name, attrs=attrs), ())
        return Entry(self.variables[name], 0)

    def converter(self, node: SymbolNode, made: Made) -> Entry:
        """Into integers or out of them: the value is what went in."""
        if not node.inputs:
            raise ModelFormatError(f"{_what(node)} has no input")
        value = _value(made, node.inputs[0], _what(node))
        self.note(value, self.range_of(node, made))
        return value

    def integer(self, node: SymbolNode, made: Made) -> int | tuple[Entry, ...]:
        """An operator of integers: the float one, with the inputs that are values."""
        op, counts = QUANTIZED[node.op]
        count, ends = counts(node.attrs)
        if len(node.inputs) != count + ends:
            raise ModelFormatError(
                f"{_what(node)} has {len(node.inputs)} inputs; it must have {count + ends}: {count} values and {ends} "
                "ends of ranges"
            )
        attrs = {k: v for k, v in node.attrs.items() if k not in ADDED}
        name = node.name.removeprefix("quantized_")
        inputs = [_value(made, e, _what(node)) for e in node.inputs[:count]]
        new = self.add(SymbolNode(op, name, attrs), inputs)
        self.integers.add(new)
        self.note(Entry(new, 0), self.range_of(node, made))
        return new if op == "RNN" else (Entry(new, 0),)

    def fused(self, node: SymbolNode, made: Made) -> tuple[Entry, ...]:
        """What was fused, in place of the fused operator."""
        if len(node.subgraphs) != 1:
            raise ModelFormatError(
                f"{_what(node)} holds {len(node.subgraphs)} graphs of what was fused into it; there must be 1. "
                "Save the symbol with MXNet again (sym.save), or quantize the float checkpoint"
            )
        inner = node.subgraphs[0]
        variables = _in_order(inner)
        count, ends = len(variables), len(node.inputs) - len(variables)
        integer = flag(node.attrs, "quantized")
        if not 0 <= ends <= (2 * count if integer else 0) or ends % 2:
            ranges = ", and a lowest and a highest value for each that holds integers" if integer else ""
            raise ModelFormatError(f"{_what(node)} has {len(node.inputs)} inputs; what was fused takes {count}{ranges}")
        start = len(self.nodes)
        given: Made = {v: (_value(made, e, _what(node)),) for v, e in zip(variables, node.inputs, strict=False)}
        placed = self.place(inner, given)
        heads = tuple(_value(placed, h, _what(node)) for h in inner.heads)
        self.inner |= set(range(start, len(self.nodes))) - {h.node for h in heads}
        if heads:
            self.note(heads[0], self.range_of(node, made))
        return heads

    def note(self, value: Entry, told: Range | None) -> None:
        """Keep a range; two of one value count as what holds both."""
        key = value._replace(version=0)
        if told is not None:
            self.ranges[key] = union(told, self.ranges[key]) if key in self.ranges else told

    def range_of(self, node: SymbolNode, made: Made) -> Range | None:
        """The calibrated range in a node's attributes; of old graphs, in its inputs."""
        if LOWEST in node.attrs and HIGHEST in node.attrs:
            return _range(node, node.attrs[LOWEST], node.attrs[HIGHEST])
        if node.op == "_contrib_quantize" and len(node.inputs) == 3:
            ends = (self.params.get(self.nodes[v.node].name) for e in node.inputs[1:] if (v := _find(made, e)))
            known = [end.item() for end in ends if end is not None and end.size == 1]
            if len(known) == 2:
                return _range(node, *known)
        return None


def _as_float(name: str, stored: Array, lowest: Array, highest: Array) -> Array:
    """A parameter that was stored as integers."""
    levels = LEVELS.get(stored.dtype.name)
    if levels is None:
        raise ModelFormatError(f"parameter {name!r} is of type {stored.dtype}; stored are {', '.join(LEVELS)}")
    most = np.maximum(np.abs(lowest.astype(np.float64)), np.abs(highest.astype(np.float64))).reshape(-1)
    channels = stored.shape[0] if stored.ndim else 1
    if most.size not in (1, channels) or lowest.size != highest.size or not np.isfinite(most).all():
        raise ModelFormatError(
            f"parameter {name!r} of shape {stored.shape} comes with {lowest.size} lowest and {highest.size} highest "
            "values; there must be one of each, or one for each channel, and finite"
        )
    scale = most.reshape(-1, *(1,) * max(0, stored.ndim - 1)) / levels
    return np.asarray(stored * scale, np.float32).reshape(stored.shape)


def _range(node: SymbolNode, low: object, high: object) -> Range | None:
    if "None" in (low, high):
        return None
    try:
        lo, hi = float(str(low)), float(str(high))
    except ValueError:
        lo = hi = math.nan
    if not -math.inf < lo <= hi < math.inf:
        raise ModelFormatError(
            f"{_what(node)}: the calibrated range is {low!r} to {high!r}; it must be two finite numbers"
        )
    return (lo, hi) if lo != hi else None  # written with six decimals: 0.000000 twice may have been anything small


def _in_order(inner: SymbolGraph) -> list[int]:
    """The variables of what was fused, in the order of the fused operator's inputs: operator by operator.

    The order of the nodes is another one where the second operand of a sum is listed first.
    """
    reads = (e.node for n in inner.nodes for e in n.inputs)
    return list(dict.fromkeys(i for i in reads if inner.nodes[i].op == "null"))


def _find(made: Made, entry: Entry) -> Entry | None:
    """Where a value is now; None for an end of a range."""
    new = made[entry.node]
    if isinstance(new, int):
        return Entry(new, entry.output, entry.version)
    return new[entry.output]._replace(version=entry.version) if entry.output < len(new) else None


def _value(made: Made, entry: Entry, what: str) -> Entry:
    found = _find(made, entry)
    if found is None:
        raise ModelFormatError(f"{what} reads an end of a range as if it were a value; the symbol is damaged")
    return found


def _what(node: SymbolNode) -> str:
    return f"layer {node.name!r} ({node.op})"
