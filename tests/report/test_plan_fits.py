"""Plans beside files that they did not make."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import pytest

from fewbit import api
from fewbit.core.target import TARGETS
from fewbit.errors import FewbitWarning, PlanError
from fewbit.graph.model import Model
from fewbit.report.plan_fits import check_belongs, contradictions, remark
from fewbit.report.quantized import Quantized
from tests.models import branches, concat, conv_relu, depthwise, feeds_for, gemm, load, matmul, residual, tied

NETS: dict[str, Any] = {
    "conv": conv_relu, "residual": residual, "depthwise": depthwise, "matmul": matmul, "gemm": gemm, "concat": concat,
    "tied": tied, "branches": branches,
}  # fmt: skip
WORDS: dict[str, dict[str, Any]] = {
    "smart": {},
    "full": {"quantize_mode": "full"},
    "corrected": {"quantize_mode": "full", "effort": "best"},
    "3 bits": {"quantize_mode": "full", "bit_num": 3},
    "2-bit weights": {"quantize_mode": "full", "weight_bit_num": 2},
    "1 bit": {"quantize_mode": "full", "bit_num": 1},
    "16 bits": {"quantize_mode": "full", "bit_num": 16},
    "one scale": {"quantize_mode": "full", "quantize_granularity": "tensor-wise"},
    "dynamic": {"quantize_mode": "full", "quant_type": "dynamic"},
    "weights": {"quant_type": "weight", "bit_num": 4},
}


def made(given: Model, **words: Any) -> Quantized:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FewbitWarning)
        return api.quantize(given, feeds_for(given, batch=4), verify=False, **{"effort": "fast", **words})


@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize("net", NETS)
def test_a_file_never_contradicts_its_own_plan(net: str, words: str) -> None:
    given = load(NETS[net]())
    whole = made(given, **WORDS[words])
    assert contradictions(whole.plan, whole) == []
    check_belongs(whole.plan, api.fuse(given))


@pytest.mark.parametrize("target", TARGETS)
def test_nor_does_one_for_another_target(target: str) -> None:
    whole = made(load(residual()), target=target, quantize_mode="full")
    assert contradictions(whole.plan, whole) == []


PAIRS = [
    ("full", "3 bits", "is uint3 in the plan, and uint8 in the file"),
    ("3 bits", "full", "is uint8 in the plan, and uint3 in the file"),
    ("full", "2-bit weights", "have 2 bits in the plan, and 8 in the file"),
    ("2-bit weights", "full", "have 8 bits in the plan, and 2 in the file"),
    ("full", "16 bits", "int16 in the plan"),
    ("full", "weights", "is float in the plan, and uint8 in the file"),
    ("weights", "full", "is integer in the plan, and reads"),
    ("full", "dynamic", "range at run time in the plan"),
]


@pytest.mark.parametrize(("file", "plan", "says"), PAIRS)
@pytest.mark.parametrize("net", ["conv", "residual"])
def test_plans_of_other_runs(net: str, file: str, plan: str, says: str) -> None:
    given = load(NETS[net]())
    found = contradictions(made(given, **WORDS[plan]).plan, made(given, **WORDS[file]))
    assert any(says in line for line in found), found


def test_layers_that_stay_float_in_one_of_them() -> None:
    given = load(residual())
    whole, less = made(given, quantize_mode="full"), made(given, quantize_mode="full", exclude_layers=["conv2"])
    assert any("'conv2' is integer in the plan" in x or "weights" in x for x in contradictions(whole.plan, less))
    assert any(
        "layer 'conv2' is float in the plan, and has int8 weights" in x for x in contradictions(less.plan, whole)
    )


def test_a_plan_of_another_network_is_refused() -> None:
    given = load(residual())
    plan = made(given, quantize_mode="full").plan
    strange = replace(plan, nodes={**plan.nodes, "else": next(iter(plan.nodes.values()))})
    with pytest.raises(PlanError, match=r"layer 'else', which the float network does not have"):
        check_belongs(strange, api.fuse(given))


def test_a_remark_names_a_few() -> None:
    assert remark([]) == ""
    assert remark(["a", "b"]).endswith("left out: a; b")
    assert remark(list("abcde")).endswith("left out: a; b; c; and 2 more")
