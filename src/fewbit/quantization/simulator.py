"""A simulation of any width as a plan: which layers round what they read, and their weights, and to which steps.

    Conv, ConvTranspose, Gemm, MatMul with a constant weight    input and weight rounded, bias and output float
    everything else, and the first convolution                  float

    weights   s = max|W| / (2^(b−1) − 1) of a layer, of the rows of a convolution's group, or of a channel
    inputs    s = m / (2^b − 1), or m / (2^(b−1) − 1) signed, m = mean over the samples of a batch of their max|x|
    offline   m = 0.9·m + 0.1·(m of this batch), batch after batch of training data; or by Kullback-Leibler divergence

1-bit weights are ± mean|W|. Dense layers have no groups: there `group` means `channel`, and convolutions of one group
have one scale.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.config import QuantConfig
from fewbit.config.simulate import SimulateConfig
from fewbit.core.params import weight_params
from fewbit.core.plan import Plan, ValuePlan
from fewbit.core.runner import Feeds, Runner
from fewbit.core.spec import QuantSpec
from fewbit.core.target import OpRule, Target
from fewbit.core.threshold_simulator import Counts
from fewbit.errors import BadSample, EmptyData, UsageError
from fewbit.graph.emit_simulated import emit_simulated
from fewbit.graph.fuse import fuse
from fewbit.graph.model import Model, attr, const
from fewbit.graph.places import weight_places
from fewbit.graph.rules.affine import BATCHNORM, BATCHNORM_BEFORE, SCALE, SCALE_BEFORE
from fewbit.graph.rules.shift import SHIFT
from fewbit.quantization.plan import make_plan
from fewbit.quantization.static import free_batch, part_for
from fewbit.quantization.winograd import is_winograd, winograd_rounded

Array = NDArray[Any]
Node = Any
Open = Callable[[Model], Runner]

MOMENTUM = 0.9
"""Weight of the old range."""

PIECE = 16
"""Samples whose values are held at once where they are counted."""

FIRST = "the first convolution (exclude_first_conv)"
MERGING = (BATCHNORM, BATCHNORM_BEFORE, SCALE, SCALE_BEFORE, SHIFT)
"""Rewrites that put a BatchNorm, or what is left of one, into weights."""

DENSE = ("Gemm", "MatMul")
LAYER = ("act", "weight", "keep")
ROWS = (
    OpRule("Conv", LAYER, ("float",), core=True, when="weight is constant"),
    OpRule("ConvTranspose", LAYER, ("float",), core=True, when="weight is constant"),
    OpRule("Gemm", LAYER, ("float",), core=True, when="plain Gemm"),
    OpRule("MatMul", ("act", "weight"), ("float",), core=True, when="weight matrices"),
)
TARGET = Target(
    name="simulator",
    form="float",
    activation=QuantSpec(8, signed=False, symmetric=True),
    weight=QuantSpec(8, signed=True, symmetric=True, narrow=True),
    rules=ROWS,
)


def prepared(model: Model, config: SimulateConfig) -> Model:
    """The float network that is simulated: with BatchNorm merged into weights, or beside them."""
    return fuse(model, () if config.merge_bn else MERGING)


def make_simulator_plan(model: Model, config: SimulateConfig) -> Plan:
    """Which layers are rounded, and how; ranges are left to run time, until `with_largest` sets them.

    Args:
        model: made by `prepared`.

    Raises:
        UnknownName: an excluded layer that the network does not have. UsageError: no layer is left to round.
    """
    signed = config.input_signed
    inputs = QuantSpec(8, signed=signed, symmetric=True)
    words = QuantConfig(
        bit_num=config.input_bits_width,
        weight_bit_num=config.weight_bits_width,
        quantize_mode="full",
        quantize_granularity="tensor-wise" if config.quant_type == "layer" else "channel-wise",
        exclude_layers=config.exclude_layers,
        effort="fast",
    )
    first = first_convolution(model) if config.exclude_first_conv else None
    plan = make_plan(model, words, replace(TARGET, activation=inputs), {first: FIRST} if first else {})
    if not any(n.quantized for n in plan.nodes.values()):
        raise UsageError(
            "no layer is left to simulate: the network has no convolution or product with constant weights, or all are "
            "kept in float by exclude_first_conv and exclude_layers; leave these out"
        )
    values = {k: replace(v, spec=replace(v.spec, dynamic=v.role == "act")) for k, v in plan.values.items()}
    if config.quant_type == "group":
        values = _by_group(model, plan, values)
    return replace(plan, values=values)


def first_convolution(model: Model) -> str | None:
    """Name of the first convolution with constant weights."""
    kinds = ("Conv", "ConvTranspose")
    return next((str(n.name) for n in model.nodes if n.op_type in kinds and weight_places(n)), None)


def simulated_layers(model: Model, plan: Plan) -> dict[str, str]:
    """Every layer that could be rounded → why it stays float; "" = it does not."""
    ops = {rule.op for rule in ROWS}
    layers = [str(n.name) for n in model.nodes if n.op_type in ops and any(p.index == 1 for p in weight_places(n))]
    return {k: "" if plan.nodes[k].quantized else plan.nodes[k].reason for k in layers}


def weight_of(node: Node, plan: Plan) -> tuple[str, Array]:
    """The weight of a rounded layer: its entry in the plan, and the numbers."""
    key, data = plan.weight_key(str(node.inputs[1].name), str(node.name)), const(node.inputs[1])
    assert key is not None and data is not None
    return key, data


def _by_group(model: Model, plan: Plan, values: dict[str, ValuePlan]) -> dict[str, ValuePlan]:
    """One scale for the rows of each group of a convolution."""
    found = dict(values)
    for node in model.nodes:
        if node.op_type in DENSE or not plan.nodes[str(node.name)].quantized:
            continue
        key, data = weight_of(node, plan)
        groups = int(attr(node, "group", 1))
        spec = replace(values[key].spec, granularity="channel", axis=0)
        if groups == 1:
            found[key] = replace(values[key], spec=replace(spec, granularity="tensor", axis=None))
        else:
            scale = weight_params(spec, data.reshape(groups, -1)).scale.repeat(len(data) // groups)
            found[key] = replace(values[key], spec=spec, scale=tuple(float(s) for s in scale))
    return found


def with_largest(plan: Plan, largest: Mapping[str, float]) -> Plan:
    """The plan with ranges: value → the magnitude that its largest integer stands for."""
    values = {
        k: replace(v, spec=replace(v.spec, dynamic=False)) if v.role == "act" else v for k, v in plan.values.items()
    }
    ranges = {k: (-m if plan.values[k].spec.signed else 0.0, m) for k, m in largest.items()}
    return replace(plan, values=values).with_ranges(ranges)


@dataclass
class Simulator:
    """One simulation of an ONNX network: its plan, and what was measured so far.

    Args:
        model: made by `prepared`. plan: made by `make_simulator_plan`. config: the user's words.
        open: loads a model into an engine that computes it as it is written.
    """

    model: Model
    plan: Plan
    config: SimulateConfig
    open: Open
    weights: dict[str, Array] = field(default_factory=dict)
    largest: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.config.wino_quantize != "none":
            self.weights = self._winograd()

    def _winograd(self) -> dict[str, Array]:
        """Weights that are rounded in the Winograd domain, by their entry in the plan."""
        found: dict[str, Array] = {}
        for node in self.model.nodes:
            if not self.plan.nodes[str(node.name)].quantized or not is_winograd(node):
                continue
            key, data = weight_of(node, self.plan)
            found[key] = winograd_rounded(data, self.config.wino_quantize, self.config.weight_bits_width)
        return found

    def network(self) -> Model:
        """The simulated network, with the ranges measured so far; without any, each batch has its own."""
        return emit_simulated(self.model, self.final_plan(), self.weights).model

    def final_plan(self) -> Plan:
        """The plan with the ranges measured so far."""
        return with_largest(self.plan, self.largest) if self.largest else self.plan

    def runner(self) -> Runner:
        """The simulated network, loaded."""
        return self.open(self.network())

    def epoch(self, feeds: Iterable[Feeds]) -> None:
        """Go over calibration data once, each batch rounded by its own ranges, and let these into the average.

        Raises:
            EmptyData: there is no batch. BadSample: a range is not finite.
        """
        made = emit_simulated(self.model, self.plan, self.weights, tell_ranges=True)
        runner, empty = self.open(made.model), True
        for batch in feeds:
            empty = False
            answers = runner.run(batch)
            for name, output in made.ranges.items():
                now = float(answers[output])
                _check_finite(now, name)
                old = self.largest.get(name)
                self.largest[name] = now if old is None else (1 - MOMENTUM) * now + MOMENTUM * old
        if empty:
            raise EmptyData("the calibration data holds no batch; give some hundred samples")

    def kl(self, feeds: Sequence[Feeds]) -> None:
        """Choose ranges by Kullback-Leibler divergence, of what layers read while weights alone are rounded.

        Raises:
            EmptyData: there is no batch. BadSample: a value is not finite.
        """
        names = [k for k, v in self.plan.values.items() if v.role == "act"]
        made = emit_simulated(self.model, self.plan, self.weights, round_inputs=False).model
        runner, counts = self.open(part_for(made, names)), dict[str, Counts]()
        pieces = [_pieces(batch, free_batch(self.model)) for batch in feeds]
        if not pieces:
            raise EmptyData("the calibration data holds no batch; give some hundred samples")
        for i, batch in enumerate(pieces):
            if not i:
                counts = self._empty(names, runner, batch)
            for piece in batch:
                for name, x in _values(names, runner, piece):
                    counts[name].update(x)
        bits, signed = self.config.input_bits_width, self.config.input_signed
        self.largest = {name: seen.threshold(bits, signed) for name, seen in counts.items()}

    def below_zero(self, feeds: Feeds) -> list[str]:
        """Values that layers read rounded, and that go below zero in the float network."""
        names = [k for k, v in self.plan.values.items() if v.role == "act"]
        runner, found = self.open(part_for(self.model, names)), set[str]()
        for piece in _pieces(feeds, free_batch(self.model)):
            found |= {name for name, x in _values(names, runner, piece) if x.min(initial=0.0) < 0}
        return [name for name in names if name in found]

    def _empty(self, names: list[str], runner: Runner, first: Sequence[Feeds]) -> dict[str, Counts]:
        """Bins for each value, placed by the largest magnitude of the first batch."""
        largest = dict.fromkeys(names, 0.0)
        for piece in first:
            for name, x in _values(names, runner, piece):
                now = float(np.abs(x).max(initial=0.0))
                _check_finite(now, name)
                largest[name] = max(largest[name], now)
        return {name: Counts(top) for name, top in largest.items()}


def _values(names: list[str], runner: Runner, feeds: Feeds) -> Iterator[tuple[str, Array]]:
    answers = runner.run(feeds)
    for name in names:
        yield name, answers[name] if name in answers else feeds[name]


def _pieces(batch: Feeds, free: bool) -> list[Feeds]:
    """A batch in parts: the values of all layers are held at once."""
    size = min((len(x) for x in batch.values() if x.ndim), default=1)
    if not free or any(not x.ndim or len(x) != size for x in batch.values()):
        return [batch]
    return [{k: x[a : a + PIECE] for k, x in batch.items()} for a in range(0, size, PIECE)]


def _check_finite(largest: float, name: str) -> None:
    if not np.isfinite(largest):
        raise BadSample(f"what layers read as {name!r} holds NaN or infinity; look at the data and at the network")
