"""From a network that was converted layer by layer to ONNX and a plan, without tracing its forward.

    QuantConv2d(input_quantizer, weight_quantizer)   ⇒   mark → Conv2d, weights as they are → mark
    after the export:  what the first mark is on is an integer input, the node before the second has integer weights

Only inputs of layers are rounded, as in the simulation; who else reads them reads floats.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fewbit.core.params import QuantParams
from fewbit.core.plan import NodePlan, Plan, ValuePlan
from fewbit.errors import PlanError, UsageError
from fewbit.graph.bias import bias_apart
from fewbit.graph.fuse import PHASES, fuse
from fewbit.graph.marks import Marked, pass_through
from fewbit.graph.model import Model
from fewbit.graph.places import weight_places
from fewbit.graph.rules.bias import BIAS
from fewbit.torch.blocks import QuantActivation, collect_quantized_blocks
from fewbit.torch.onnx import mark, to_onnx
from fewbit.torch.placement import layer_spec
from fewbit.torch.quantizer import ActQuantizer
from fewbit.torch.readback import cut_off, range_of
from fewbit.torch.sites import float_layer, weight_of

KEPT_APART = tuple(rule for rule in PHASES[-1] if rule is not BIAS)
"""Rewrites that change weights, which were rounded as they are."""


class _Marked(nn.Module):
    """A float module with marks around it, of another name for each call."""

    def __init__(self, inner: nn.Module, name: str) -> None:
        super().__init__()
        self.inner, self.name, self.calls = inner, name, 0

    def forward(self, x: Tensor, *more: Any, **words: Any) -> Tensor:
        self.calls += torch.compiler.is_exporting()
        label = f"{self.name}#{self.calls}"
        return mark(self.inner(mark(x, f"{label}.input"), *more, **words), label)


def layers_exported(net: nn.Module, sample: Sequence[Any], target: str) -> tuple[Model, Plan]:
    """The float network and the plan of a network that `convert_model` made.

    Args:
        net: it is left as it is. sample: what forward takes. target: the engine that the plan is for.

    Raises:
        UsageError: inputs are rounded by each batch's own range, or weights in Winograd's domain.
    """
    blocks = dict(collect_quantized_blocks(net))
    plain = copy.deepcopy(net).eval()
    for name, block in blocks.items():
        _check(name, block)
        inner = block.act if isinstance(block, QuantActivation) else float_layer(block)
        where, _, last = name.rpartition(".")
        if not name:
            plain = _Marked(copy.deepcopy(inner), "layer")
        else:
            setattr(plain.get_submodule(where), last, _Marked(copy.deepcopy(inner), name))
    found = to_onnx(plain.cpu(), [x.detach().cpu() if isinstance(x, Tensor) else x for x in sample])
    model = fuse(found.model, without=KEPT_APART)
    blocks = {name or "layer": block for name, block in blocks.items()}
    return _planned(model, found, blocks, target)


def _check(name: str, block: Any) -> None:
    quantizer = block.output_quantizer if isinstance(block, QuantActivation) else block.input_quantizer
    if quantizer is not None and quantizer.enabled and quantizer.online:
        raise UsageError(
            f"layer {name!r} rounds its input by the range of each batch; an exported network has fixed ranges: run "
            "calibrate_inputs(net, batches), or update_ema and then quantize_input(net, online=False)"
        )
    if getattr(block, "winograd", "none") != "none":
        raise UsageError(f"layer {name!r} rounds weights in Winograd's domain; these have no integer form to export")


def _planned(model: Model, found: Marked, blocks: dict[str, Any], target: str) -> tuple[Model, Plan]:
    """A plan with the numbers of the layers."""
    places = [(node, found.owners.get(str(node.name), "")) for node in model.nodes]
    makers = {str(v.name): node for node in model.nodes for v in node.outputs}
    values: dict[str, ValuePlan] = {}
    nodes = {str(n.name): NodePlan(False, "not a layer that was converted") for n in model.nodes}
    taken: dict[str, QuantParams] = {}
    labels = [(k, k.rpartition("#")[0]) for k in found.values if not k.endswith(".input")]
    for label, name in labels:
        if isinstance(blocks[name], QuantActivation) and blocks[name].quantize_enabled:
            value, quantizer = found.values[label], blocks[name].output_quantizer
            _activation(value, quantizer, values, nodes, makers.get(value), name)
            taken[value] = quantizer.params()
    for label, name in labels:
        block = blocks[name]
        if isinstance(block, QuantActivation) or not block.quantize_enabled:
            continue
        node = next((n for n, owner in places if owner == label and weight_places(n)), None)
        if node is None:
            raise PlanError(f"layer {name!r} is not in the exported network; what it gives is not used there")
        roles = ["keep"] * len(node.inputs)
        if block.input_quantizer is not None and block.input_quantizer.enabled:
            _input(model, node, block.input_quantizer, values, taken, name)
            roles[0] = "act"
        if block.weight_quantizer is not None and block.weight_quantizer.enabled:
            _weight(model, str(node.name), block, values)
            roles[weight_places(node)[0].index] = "weight"
        bias_apart(model, str(node.name))
        roles = roles[: len(node.inputs)]
        nodes[str(node.name)] = NodePlan(True, f"converted, layer {name}", tuple(roles), ("both",))
    added = {str(n.name): NodePlan(False, "the bias of a layer, which is not rounded") for n in model.nodes}
    return model, Plan(values=values, nodes=added | nodes, target=target, model=model.digest())


def _input(
    model: Model,
    node: Any,
    quantizer: ActQuantizer,
    values: dict[str, ValuePlan],
    taken: dict[str, QuantParams],
    name: str,
) -> None:
    """The entry for a layer's input; who rounds the same value otherwise reads it under another name."""
    params = quantizer.params()
    value = str(node.inputs[0].name)
    if value in taken and taken[value] != params:
        value = pass_through(model, str(node.name), 0, f"{value}@{name}")
    taken[value] = params
    values[value] = act(value, params, f"read by {name}")


def act(value: str, params: QuantParams, reason: str) -> ValuePlan:
    """The entry for an activation with these parameters."""
    lo, hi = range_of(params)
    return ValuePlan(params.spec, "act", value, reason, lo=lo, hi=hi)


def _activation(
    value: str, quantizer: ActQuantizer, values: dict[str, ValuePlan], nodes: dict[str, NodePlan], maker: Any, name: str
) -> None:
    """The entry for an activation that is rounded itself: everybody reads it rounded."""
    if maker is None or not quantizer.enabled:
        raise PlanError(f"the rounded activation {name!r} has no node of its own in the exported network")
    values[value] = act(value, quantizer.params(), f"made by {name}")
    nodes[str(maker.name)] = NodePlan(True, f"converted, activation {name}", ("keep",) * len(maker.inputs), ("act",))


def _weight(model: Model, node: str, block: Any, values: dict[str, ValuePlan]) -> None:
    """The entry for a layer's weight, with the scales that the layer rounds with."""
    name, data = weight_of(model, node)
    if name in values:  # read a second time, and cut off already
        return
    ours = block.folded()[0].detach().cpu().numpy()
    turned = not np.array_equal(data, ours)
    if turned and not (ours.ndim == 2 and np.array_equal(data, ours.T)):
        raise PlanError(f"the weight of layer {node!r} is not the layer's own in the exported network")
    params = block.weight_quantizer.params(torch.from_numpy(ours))
    spec = layer_spec(params.spec, model, node, block, turned=turned)
    scale = params.scale.T if turned else params.scale
    own = QuantParams(spec, scale, np.zeros(scale.shape, np.int32))
    steps = tuple(float(s) for s in scale.ravel())
    values[name] = ValuePlan(spec, "weight", name, f"weight of {node}", observe=False, scale=steps)
    cut_off(model, name, own, data)
