"""Plans that were edited by hand: what does not fit together is said, with what to do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fewbit.core.params import weight_params
from fewbit.core.plan import Plan
from fewbit.errors import PlanError
from fewbit.graph.emit import MOST_CUT, emit_qdq
from fewbit.graph.model import const
from fewbit.quantization.weight_range import grid
from tests.models import conv_relu, gemm, load, plan_for


def weighted(plan: Plan, **weight: Any) -> Plan:
    return replace(plan, values={**plan.values, "w": replace(plan.values["w"], **weight)})


def test_a_bias_of_a_layer_that_was_made_float_is_told():
    model = load(gemm())
    plan = plan_for(model)
    name = next(k for k, n in plan.nodes.items() if n.quantized)
    nodes = {name: replace(plan.nodes[name], quantized=False, bias=(0.5,) * 8)}
    with pytest.raises(
        PlanError, match=f"the plan corrects the bias of layer '{name}', which is float; remove its bias"
    ):
        emit_qdq(model, replace(plan, nodes=nodes))


def test_scales_that_were_made_for_another_width_are_told():
    model = load(conv_relu())
    w = const(model.value("w"))
    for made, given in ((8, 4), (4, 2), (16, 8), (8, 7), (6, 4)):
        plan = plan_for(model, weight_bit_num=made)
        scale = weight_params(plan.values["w"].spec, w).scale.tolist()
        narrow = replace(plan.values["w"].spec, bits=given)
        said = rf"weight 'w' is up to .* as its scales can hold in {given} bits: .*; remove its scale and nudge"
        with pytest.raises(PlanError, match=said):
            emit_qdq(model, weighted(plan, scale=tuple(scale), spec=narrow))


def test_a_channel_of_zeros_may_have_any_scale():
    model = load(conv_relu())
    w = const(model.value("w")).copy()
    w[1] = 0
    model.set_weight("w", w)
    plan = plan_for(model)
    scale = weight_params(plan.values["w"].spec, w).scale
    scale[1] = 1e-9
    emit_qdq(model, weighted(plan, scale=tuple(scale.tolist())))


@pytest.mark.parametrize("bits", range(2, 17))
def test_every_scale_that_the_search_tries_is_let_be(bits):
    assert 1.2 / grid(bits)[-1] <= MOST_CUT[min(bits, 7)] * 1.01
