"""From a trained network with quantizers back to a float ONNX network and the plan that makes it integer.

layers with rounded weights  → plain layers, BatchNorm folded; their scales go into the plan
quantizers                   → ranges of the plan
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import fx, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from fewbit.core.params import QuantParams
from fewbit.core.plan import Plan, ValuePlan
from fewbit.errors import PlanError
from fewbit.graph.model import Array, Model
from fewbit.torch.prepared import prepared_of
from fewbit.torch.quantizer import ActQuantizer
from fewbit.torch.sites import Sites, find_sites, same_weight, weight_of


def exported(graph: fx.GraphModule, sample: Sequence[Any]) -> tuple[Model, Plan]:
    """The float network and the calibrated plan of a prepared network.

    Args:
        graph: made by `prepare`; it is left as it is. sample: what forward takes.

    Raises:
        PlanError: the network is no longer the one that was prepared.
    """
    prepared = prepared_of(graph)
    assert prepared is not None
    sites = find_sites(graph, sample)
    _check_same(prepared.plan, sites)
    values = dict(prepared.plan.values)
    for group, name in prepared.quantizers.items():
        quantizer = graph.get_submodule(name)
        assert isinstance(quantizer, ActQuantizer)
        lo, hi = range_of(quantizer.params())
        for key, value in values.items():
            if value.group == group and value.role == "act":
                values[key] = replace(value, lo=lo, hi=hi, spec=quantizer.params().spec)
    seen: set[str] = set()
    for name, nodes in prepared.layers.items():
        for node in nodes:
            weight = weight_of(sites.model, node)[0]
            if weight not in seen:  # else shared with another layer, which shares its quantizer
                seen.add(weight)
                key, planned = planned_weight(sites, prepared.plan, node, graph.get_submodule(name))
                values[key] = planned
    plan = replace(prepared.plan, values=values, model=sites.model.digest(), data="")
    return sites.model, plan


def range_of(params: QuantParams) -> tuple[float, float]:
    """The range that gives exactly these parameters again: scale times integer, exact in double precision."""
    s, z, spec = float(params.scale), int(params.zero_point), params.spec
    if spec.bits == 1 and spec.signed:
        return -s, s
    lo = (spec.qmin - z) * s
    if spec.symmetric and spec.signed:  # the largest magnitude decides
        lo = -spec.qmax * s
    return lo, (spec.qmax - z) * s


def planned_weight(sites: Sites, plan: Plan, node: str, layer: nn.Module) -> tuple[str, ValuePlan]:
    """The plan's entry for a layer's weight with the scales that the layer rounds with.

    The weight of the ONNX network is cut off where its format ends, so that the scales hold all of it.
    """
    name, data = weight_of(sites.model, node)
    key = plan.weight_key(name, node)
    turned = same_weight(sites.model, node, sites.layer(node) or layer)
    if key is None or turned is None:
        raise PlanError(f"the weight of layer {node!r} is no longer the one that was prepared; prepare it anew")
    params = layer.weight_quantizer.params(torch.from_numpy(data.T.copy() if turned else data.copy()))
    scale = params.scale.T if turned else params.scale
    own = QuantParams(plan.values[key].spec, scale, np.zeros(scale.shape, np.int32))
    cut_off(sites.model, name, own, data)
    return key, replace(plan.values[key], scale=tuple(float(s) for s in scale.ravel()))


def cut_off(model: Model, name: str, params: QuantParams, data: Array) -> None:
    """Clip a weight of the network to what its format can hold."""
    spec = params.spec
    if spec.bits == 1:
        return
    s = params.spread(params.scale, data.shape)
    inside = np.clip(data, spec.qmin * s, spec.qmax * s).astype(np.float32)
    if not np.array_equal(inside, data):
        model.set_weight(name, inside)


def _check_same(plan: Plan, sites: Sites) -> None:
    names = {str(n.name) for n in sites.model.nodes}
    missing = [n for n in plan.nodes if n not in names]
    if missing or len(names) != len(plan.nodes):
        raise PlanError(
            f"the network is no longer the one that was prepared (layer {missing[0]!r} is gone); prepare it anew"
            if missing
            else "the network has layers that it had not when it was prepared; prepare it anew"
        )


def unwrapped(net: nn.Module) -> nn.Module:
    """The network itself, out of what torch.compile or data parallelism put around it."""
    while True:
        if isinstance(net, DataParallel | DistributedDataParallel):
            net = net.module
        elif isinstance(inner := getattr(net, "_orig_mod", None), nn.Module):
            net = inner
        else:
            return net
