"""Target and OpRule: what an engine can do in integers, as rows.

A row says, for one operator, what each input and output becomes and whether that pays:

    OpRule("Conv", ("act", "weight", "bias"), ("act",), core=True, absorbs=("Relu", "Clip"), pays=0.33)

Rows are read top-down; the first whose `when` holds for a node decides. An operator without a row stays float.
The numbers in `pays` are measured, by `bench/operators.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

from fewbit.core.spec import QuantSpec
from fewbit.errors import unknown

INPUT_ROLES = ("act", "weight", "bias", "keep")
OUTPUT_ROLES = ("act", "same", "float", "both", "fork")
"""Of rows and of plans alike; what they mean: `OpRule`."""


@dataclass(frozen=True)
class NodeFacts:
    """What a row may ask about a node. Unknown is None.

    Args:
        op: operator type, with its domain unless standard.
        ranks: rank of each input. shapes: shape of each input, free dimensions None.
        constant: which inputs are constants.
        groups: of a convolution, else 1. channels: output channels of a weighted operator.
        attrs: the node's plain attributes.
        joined: what it reads was put together along another axis than the last, with at most Relus between.
    """

    op: str
    ranks: tuple[int | None, ...] = ()
    shapes: tuple[tuple[int | None, ...] | None, ...] = ()
    constant: tuple[bool, ...] = ()
    groups: int = 1
    channels: int | None = None
    attrs: dict[str, object] = field(default_factory=dict)
    joined: bool = False

    @property
    def depthwise(self) -> bool:
        """One filter for each input channel."""
        weight = self.shapes[1] if len(self.shapes) > 1 else None
        return self.groups > 1 and weight is not None and weight[1] == 1

    @property
    def thin(self) -> bool:
        """A convolution with so few channels on one side that there is little to multiply for each value moved."""
        weight = self.shapes[1] if len(self.shapes) > 1 else None
        if self.groups != 1 or weight is None or None in weight or len(weight) < 3:
            return False
        outputs, inputs, *kernel = (int(d or 0) for d in weight)
        return (inputs <= 4 and inputs * prod(kernel) < 128 and outputs < 64) or (outputs < 8 and inputs < 16)

    @property
    def constant_left(self) -> bool:
        """A product whose left side is a constant matrix, and whose right side is computed."""
        return self.is_const(0) and self.rank(0) == 2 and not self.is_const(1)

    @property
    def recurrent(self) -> bool:
        """An LSTM or GRU with constant weights, time in front."""
        return self.is_const(1) and self.is_const(2) and not self.attrs.get("layout", 0)

    @property
    def dense(self) -> bool:
        """A window without gaps."""
        found = self.attrs.get("dilations", ())
        return isinstance(found, tuple) and all(d == 1 for d in found)

    @property
    def padded(self) -> bool:
        """A window that may reach over the edge."""
        pads = self.attrs.get("pads", ())
        return (isinstance(pads, tuple) and any(pads)) or self.attrs.get("auto_pad", "NOTSET") not in (
            "NOTSET",
            "VALID",
        )

    @property
    def counts_padding(self) -> bool:
        """An average that counts the zeros beyond the edge."""
        return bool(self.attrs.get("count_include_pad", 0))

    def dim(self, i: int, axis: int) -> int:
        """Length of an axis of input `i`; 0 if unknown or missing."""
        shape = self.shapes[i] if i < len(self.shapes) else None
        return (shape[axis] or 0) if shape is not None and -len(shape) <= axis < len(shape) else 0

    def matrix(self, i: int) -> int:
        """Elements in one matrix of input `i`, that is in its last two axes; 0 if unknown or missing."""
        return self.dim(i, -1) * self.dim(i, -2)

    def is_const(self, i: int) -> bool:
        """Whether input `i` exists and is a constant."""
        return i < len(self.constant) and self.constant[i]

    def rank(self, i: int) -> int | None:
        """Rank of input `i`, None if unknown or missing."""
        return self.ranks[i] if i < len(self.ranks) else None


CONDITIONS: dict[str, Callable[[NodeFacts], bool]] = {
    "always": lambda n: True,
    "depthwise": lambda n: n.depthwise,
    "grouped": lambda n: n.groups > 1 and not n.depthwise,
    "few channels in a group": lambda n: n.groups > 1 and not n.depthwise and 0 < (n.channels or 0) < 32 * n.groups,
    "thin": lambda n: n.thin,
    "weight is constant": lambda n: n.is_const(1),
    "2-D convolution": lambda n: n.is_const(1) and n.rank(1) == 4,
    "1-D convolution": lambda n: n.is_const(1) and n.rank(1) == 3,
    "3x3 convolution, stride 1": lambda n: (
        n.is_const(1)
        and n.groups == 1
        and n.shapes[1] is not None
        and n.shapes[1][2:] == (3, 3)
        and all(n.attrs.get(k, (1, 1)) == (1, 1) for k in ("strides", "dilations"))
    ),
    "3-D convolution": lambda n: n.is_const(1) and n.rank(1) == 5,
    "2-D depthwise convolution": lambda n: n.is_const(1) and n.rank(1) == 4 and n.depthwise,
    "both computed": lambda n: not n.is_const(0) and not n.is_const(1),
    "matrix weight": lambda n: n.is_const(1) and n.rank(1) == 2,
    "matrix weight, not behind Concat": lambda n: n.is_const(1) and n.rank(1) == 2 and not n.joined,
    "matrix weight of 140000 or more": lambda n: n.is_const(1) and n.rank(1) == 2 and n.matrix(1) >= 140_000,
    "weight matrices": lambda n: n.is_const(1) and (n.rank(1) or 0) >= 2,
    "weight matrices of 100000 or more": lambda n: n.is_const(1) and n.matrix(1) >= 100_000,
    "weight matrices of 140000 or more": lambda n: n.is_const(1) and n.matrix(1) >= 140_000,
    "left side a constant matrix": lambda n: n.constant_left,
    "left side a constant matrix of 65536 or more": lambda n: n.constant_left and n.matrix(0) >= 65_536,
    "both computed, 128 rows or more": lambda n: (
        not n.is_const(0) and not n.is_const(1) and n.dim(0, -2) >= 128 and n.matrix(1) >= 4096
    ),
    "table of 65536 or more": lambda n: (
        n.is_const(0) and n.rank(0) == 2 and n.attrs.get("axis", 0) in (0, -2) and n.matrix(0) >= 65_536
    ),
    "recurrent weights": lambda n: n.recurrent,
    "recurrent weights of 64 units or more": lambda n: n.recurrent and n.dim(2, -1) >= 64,
    "plain Gemm": lambda n: (
        n.is_const(1)
        and n.attrs.get("alpha", 1.0) == 1.0
        and n.attrs.get("beta", 1.0) == 1.0
        and not n.attrs.get("transA", 0)
    ),
    "plain Gemm of 140000 or more": lambda n: CONDITIONS["plain Gemm"](n) and n.matrix(1) >= 140_000,
    "no dilations": lambda n: n.dense,
    "no dilations, no padding counted": lambda n: n.dense and not (n.counts_padding and n.padded),
    "no dilations, no padding counted with ceil_mode": lambda n: (
        n.dense and not (n.counts_padding and n.attrs.get("ceil_mode", 0))
    ),
    "nearest": lambda n: n.attrs.get("mode", "nearest") == "nearest",
    "weight is constant, one group": lambda n: n.is_const(1) and n.groups == 1 and n.rank(1) in (4, 5),
}
"""What `OpRule.when` may say."""


@dataclass(frozen=True)
class OpRule:
    """One operator on one engine.

    Args:
        op: operator type.
        inputs: role of each input, the last one repeating: `act` quantized by calibration, `weight` a constant
            quantized offline, `bias` int32 with the scale input × weight, `keep` left as it is.
        outputs: `act` gets its own parameters (or those of what is absorbed), `same` takes those of the first input
            (values only move), `float` is left alone, `both` likewise and float readers read it unrounded, `fork` gets
            its own parameters if nothing is absorbed and several read it (an output of the network has one reader
            more), and is left alone otherwise.
        core: carries the cost; seeds smart mode. A support operator is quantized only between quantized ones.
        absorbs: operators that the engine merges into this one; the output's parameters sit behind them.
        shares: all `act` inputs and the output share one set of parameters (concat).
        when: a key of `CONDITIONS`.
        pays: measured integer latency ÷ float latency with the target's fastest types; None if not measured.
        runs: what the engine may then execute, without domain, separated by spaces; "" = nothing of its own.
        note: what a user should know, for verdicts.
        storage: of its weights, see `ValuePlan.storage`; "packed" = the operator computes in float.
        act: format that the `act` inputs and outputs must have for the engine to compute in integers at all;
            None = the target's own is fine.
        weight: format of its weights, unless the user gives their bits; None = the target's own.
        residual: an input that a layer with weights makes for this node alone stays float, and so does the output
            then: the engine adds the other input, as integers, to the sum of that layer.
    """

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...] = ("act",)
    core: bool = False
    absorbs: tuple[str, ...] = ()
    shares: bool = False
    when: str = "always"
    pays: float | None = None
    runs: str = ""
    note: str = ""
    storage: str = ""
    act: QuantSpec | None = None
    weight: QuantSpec | None = None
    residual: bool = False

    def __post_init__(self) -> None:
        if self.when not in CONDITIONS:
            raise unknown("condition", self.when, CONDITIONS)
        assert all(r in INPUT_ROLES for r in self.inputs), self.inputs
        assert all(r in OUTPUT_ROLES for r in self.outputs), self.outputs

    def role(self, i: int) -> str:
        """Role of input `i`; the last role repeats for operators with any number of inputs."""
        return self.inputs[min(i, len(self.inputs) - 1)]


SIGNED = QuantSpec(8, signed=True)


@dataclass(frozen=True)
class Target:
    """What one engine does best.

    Args:
        name: the word users say. form: how integers are written: "qdq" or "ncnn".
        activation, weight: the fastest accurate formats. signed: the format of activations if int8 is asked for.
        rules: the rows. dynamic: the rows for ranges measured at run time (calib_mode none). by_row: those for one
            range a row (quant_strategy ACWL). dynamic_float: as `float_only`, for these.
        slow: activation dtype → measured factor against float, for types that work but cost.
        grabs: operators that the engine makes integer by itself if they stand between a DQ and a Q.
        summed: what is added to a product has to be written as a Sum, for the product to be computed in integers.
        sampled: strides of 1×1 convolutions have to be taken in front of them, for these to be computed in integers,
            and held back where they are padded.
        float_only: operators that were measured and have no row → why.
        opset: opset that the engine needs for the form.
        checked: where the rows were measured; "not run here" if they were not.
        engine: the engine that runs the networks of this target here, where it is not the first part of the name; it
            computes what stands in the file, and its speed says nothing. engine_options: options for it.
        laws: what `finalize` checks the written network against, see `fewbit.graph.finalize.LAWS`; "" = nothing.
        refuses: key of `fewbit.quantization.limits.LIMITS` → why the engine cannot take that, and what to say instead.
    """

    name: str
    form: str
    activation: QuantSpec
    weight: QuantSpec
    rules: tuple[OpRule, ...]
    signed: QuantSpec = SIGNED
    slow: dict[str, float] = field(default_factory=dict)
    float_only: dict[str, str] = field(default_factory=dict)
    dynamic: tuple[OpRule, ...] = ()
    by_row: tuple[OpRule, ...] = ()
    dynamic_float: dict[str, str] = field(default_factory=dict)
    grabs: tuple[str, ...] = ()
    summed: bool = False
    sampled: bool = False
    opset: int = 13
    checked: str = "not run here"
    engine: str = ""
    engine_options: dict[str, Any] = field(default_factory=dict)
    laws: str = ""
    refuses: dict[str, str] = field(default_factory=dict)

    @property
    def float_bias(self) -> bool:
        """Whether biases of layers with weights stay float."""
        return not any("bias" in r.inputs for r in self.rules)

    def rule(self, facts: NodeFacts) -> OpRule | None:
        """The first row that fits the node, or None: it stays float."""
        return next((r for r in self.rules if r.op == facts.op and CONDITIONS[r.when](facts)), None)

    def at_run_time(self, strategy: str) -> Target:
        """The same target, its rows those for ranges measured at run time.

        Args:
            strategy: quant_strategy: ACWL = one range a row of the input; others = one for all of it.
        """
        rules = self.by_row if strategy == "ACWL" else self.dynamic
        return replace(self, rules=rules, float_only=self.dynamic_float)

    def has(self, op: str) -> bool:
        """Whether any row is about this operator."""
        return any(r.op == op for r in self.rules)


TARGETS: dict[str, Target] = {}


def register_target(target: Target) -> Target:
    """Add a target under its name."""
    assert target.name not in TARGETS, f"target {target.name!r} is registered twice"
    TARGETS[target.name] = target
    return target
