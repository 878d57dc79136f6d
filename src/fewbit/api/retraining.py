"""Quantization-aware training: a network prepared for it, and the integer network that came out.

prepare: trace → export → fuse → plan → calibrate → quantizers in place
export:  plain layers → ONNX → the plan with the trained scales → integer network → run beside the simulation
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fewbit.api.checks import Check, compared
from fewbit.api.common import Data, settings, simulator, target_named
from fewbit.api.making import calibrate, emit
from fewbit.config import DataConfig, QuantConfig
from fewbit.config.fields import default_of
from fewbit.core.plan import Plan
from fewbit.core.tables import listed, size
from fewbit.errors import ConfigError, FewbitWarning, PlanError, UnknownName, UsageError, VerificationError
from fewbit.graph.model import Array, Model
from fewbit.quantization.plan import make_plan as _make_plan
from fewbit.quantization.select import LISTED
from fewbit.report.quantized import Quantized

if TYPE_CHECKING:
    from torch import fx, nn

LEARNED_BELOW = 8
"""Bits below which step sizes are learned unless said otherwise."""

NAMES = "Names are those of modules, as in net.named_modules(), and of other calls as torch.fx names them"

FAR = 0.1
"""Share of outputs that differ above which two networks are not the same in any sense."""


@dataclass(frozen=True, repr=False)
class Exported:
    """A trained network on its way out: `model, plan = fb.torch.export(net, sample)` works as well.

    Args:
        model: the float network. plan: formats, ranges and scales as trained. quantized: the integer network.
        check: how it compares with the simulation.
    """

    model: Model
    plan: Plan
    quantized: Quantized
    check: Check

    def __repr__(self) -> str:
        layers = sum(n.quantized and "weight" in n.roles for n in self.plan.nodes.values())
        sizes = f"weights {size(self.model.nbytes)}, now {size(self.quantized.nbytes)}"
        many = "layer" if layers == 1 else "layers"
        return f"<fewbit.torch.Exported: {layers} {many} with integer weights, {sizes}; {self.check}>"

    def __iter__(self) -> Iterator[Any]:
        yield self.model
        yield self.plan

    def save(self, path: str | Path) -> None:
        """Write the integer ONNX file, and the plan beside it."""
        self.quantized.save(path)


def prepare(
    net: nn.Module,
    sample: Any,
    config: QuantConfig | str | Path | None = None,
    data: Data = None,
    *,
    learned: bool | None = None,
    ste: str = "clipped",
    fake_bn: str = "running",
    **words: Any,
) -> fx.GraphModule:
    """A copy of a network that computes, and learns, as its integer form will compute.

    Args:
        net: any float32 network that `torch.fx` can trace. It is left as it is.
        sample: what forward takes: a tensor, or a tuple of them; the first axis counts samples.
        config, words: as for `fewbit.quantize`: bit_num, weight_bit_num, quantize_granularity, overrides, target …
        data: to calibrate the first ranges on, see `fewbit.data` (default: the sample).
        learned: step sizes are trained (LSQ); else ranges follow the data, as moving averages. Default: with formats
            of less than 8 bits.
        ste: gradient of rounding where nothing is learned: "clipped" (none outside of the range) or "plain".
        fake_bn: BatchNorm of rounded layers: "running" (one convolution; weights are folded with the running
            statistics), "batch" (two; folded with those of the batch), "frozen".

    Returns:
        a `torch.fx.GraphModule` with the same parameters, to be trained with any loop, and exported by `export`.

    Raises:
        UnsupportedModel: the network cannot be traced or exported. ConfigError: a word that says nothing here.
        UsageError: the network cannot take the sample. AlreadyQuantized: it is prepared or converted.
    """
    from fewbit.torch.guards import answers, check_float, check_sample, check_trace, check_words
    from fewbit.torch.onnx import arguments
    from fewbit.torch.placement import place
    from fewbit.torch.readback import unwrapped
    from fewbit.torch.sites import Sites, find_sites, unplaceable
    from fewbit.torch.trace import traced

    chosen, given = settings(config, words)
    check_words(learned, ste, fake_bn)
    chosen = _trainable(chosen, low="calib_mode" not in words)
    target = target_named(chosen.target)
    inputs, net = arguments(sample), unwrapped(net)
    check_float(net)
    check_sample(net, inputs)
    wanted = answers(net, inputs)
    graph = traced(net)
    check_trace(net, graph, inputs, wanted)
    sites: Sites = find_sites(graph, inputs)
    floats: dict[str, str] = {}
    try:
        plan = first = _make_plan(sites.model, chosen, target, floats)
    except UnknownName as e:
        raise UnknownName(str(e).replace(LISTED, NAMES)) from None
    while more := unplaceable(plan, sites):
        floats |= more
        plan = _make_plan(sites.model, chosen, target, floats)
    _tell_of_float(first, floats)
    if not any(v.role == "act" for v in plan.values.values()):
        why = sorted(set(plan.kept_float().values()))
        raise PlanError(f"nothing of the network would become integer: {listed(why)}")
    ranged = calibrate(sites.model, plan, _feeds(sites.model, inputs) if data is None else data, **_said(given))
    steps = min(v.spec.bits for v in ranged.values.values()) < LEARNED_BELOW if learned is None else learned
    return place(graph, sites, ranged, learned=steps, ste=ste, fake_bn=fake_bn)


def _tell_of_float(plan: Plan, floats: Mapping[str, str]) -> None:
    """Warn of layers that the plan wanted as integers and that the traced network has no place for."""
    lost = [f"{k} ({why})" for k, why in floats.items() if "weight" in plan.nodes[k].roles]
    if lost:
        warnings.warn(
            f"{len(lost)} layer{'s stay' if len(lost) > 1 else ' stays'} float: {'; '.join(lost[:3])}"
            + (f"; and {len(lost) - 3} more" if len(lost) > 3 else ""),
            FewbitWarning,
            stacklevel=3,
        )


def _trainable(config: QuantConfig, low: bool) -> QuantConfig:
    """The settings, if all of them say something about training.

    Args:
        low: nobody said how ranges are found; with few bits the largest value is a bad one to start from.
    """
    if config.quant_type != "full" or config.calib_mode in ("none", "custom"):
        raise ConfigError(
            f"training simulates integer weights and activations with calibrated ranges; quant_type "
            f"{config.quant_type!r} with calib_mode {config.calib_mode!r} is not that"
        )
    if config.measure or config.debug_info_save_path:
        raise ConfigError("measure and debug_info_save_path are for fewbit.quantize; leave them out of prepare")
    bits = min(config.bit_num, *(int(o.get("bit_num", 16)) for o in config.overrides.values()), 16)
    return replace(config, calib_mode="mse") if low and config.calib_mode == "naive" and bits < 8 else config


def _said(config: DataConfig) -> dict[str, Any]:
    from dataclasses import fields

    return {f.name: getattr(config, f.name) for f in fields(config) if getattr(config, f.name) != default_of(f)}


def _feeds(model: Model, inputs: Sequence[Any]) -> dict[str, Array]:
    return {i.name: np.asarray(x.detach().cpu().numpy()) for i, x in zip(model.inputs, inputs, strict=True)}


def export(net: nn.Module, sample: Any, *, target: str = "onnxruntime", strict: bool = True) -> Exported:
    """The integer ONNX network of a trained one, run beside the simulation.

    Args:
        net: made by `prepare` or `convert_model`; it is left as it is.
        sample: what forward takes; also what the integer network is compared on: the more samples, the better.
        target: engine of a network that `convert_model` made; a prepared one has its own.
        strict: raise if the integer network does not equal the simulation; else warn. Between layers that were
            converted one by one floats are rounded, and float sums differ in their last digits: there it is a warning
            as long as few outputs differ.

    Raises:
        VerificationError: it does not. PlanError: the network is no longer the one that was prepared.
        UsageError: the network is a float one, or has no fixed ranges.
    """
    from fewbit.torch.blocks import collect_quantized_blocks
    from fewbit.torch.guards import answers, check_prepared, check_sample, no_plan
    from fewbit.torch.layer_export import layers_exported
    from fewbit.torch.onnx import arguments
    from fewbit.torch.prepared import prepared_of
    from fewbit.torch.readback import exported, unwrapped
    from fewbit.torch.tree import check_net

    inputs, inner = arguments(sample), unwrapped(net)
    check_net(inner)
    prepared = prepared_of(inner) is not None
    if not prepared and (lost := no_plan(inner)) is not None:
        raise lost
    if prepared or collect_quantized_blocks(inner):
        check_prepared(inner)
        check_sample(inner, inputs)
        answers(inner, inputs)
    if prepared:
        model, plan = exported(inner, inputs)
    elif collect_quantized_blocks(inner):
        model, plan = layers_exported(inner, inputs, target)
    else:
        raise UsageError(
            f"{type(inner).__name__} is a float network; call fewbit.torch.prepare(net, sample), or "
            "convert_model(net), train that and export it"
        )
    out = emit(model, plan, {})
    check = _checked(inner, inputs, out)
    if check.unusable:
        warnings.warn(
            f"{check.unusable} of {check.outputs} outputs are NaN or infinite in the network itself; see to the sample",
            FewbitWarning,
            stacklevel=2,
        )
    if not check.equal:
        told = f"the exported network is not what was simulated: {check}"
        if strict and (prepared or check.differ > FAR):
            raise VerificationError(told)
        warnings.warn(told, FewbitWarning, stacklevel=2)
    return Exported(model, plan, out, check)


def _checked(graph: Any, inputs: Sequence[Any], out: Quantized) -> Check:
    """Run both."""
    from fewbit.torch.onnx import simulated

    wanted = simulated(graph, inputs)
    found = simulator(out.plan.target, 1, exact=True)(out).run(_feeds(out, inputs))
    return compared([info.name for info in out.outputs], wanted, found, out.plan, out.plan.target)
