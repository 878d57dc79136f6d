from __future__ import annotations

import pytest

from fewbit.core.plan import NodePlan, Plan
from fewbit.core.reasons import general
from fewbit.report.reasons import Group, Kept, grouped, kept_float


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("its input 'a' comes from float", "its input '…' comes from float"),
        ("follows layer1/conv2, which stays float", "follows a layer which stays float"),
        ("its weight has 12 elements; 99 or fewer stay float (min_quant_weight_size)",
         "its weight has … elements; 99 or fewer stay float (min_quant_weight_size)"),
        ("excluded by exclude_layers 'conv*'", "excluded by exclude_layers 'conv*'"),
        ("no integer Softmax on onnxruntime", "no integer Softmax on onnxruntime"),
    ],
)  # fmt: skip
def test_what_is_particular_to_a_layer_goes(reason: str, kind: str) -> None:
    assert general(reason) == kind


def test_groups_come_by_size_then_in_order() -> None:
    kept = [
        Kept("s1", "Softmax", "no integer Softmax on here"),
        Kept("p1", "MaxPool", "its input 'a' comes from float"),
        Kept("p2", "Relu", "its input 'b' comes from float"),
        Kept("p3", "MaxPool", "its input 'c' comes from float"),
        Kept("t", "Tan", "no integer Tan on here"),
    ]
    found = grouped(kept)
    assert found == [
        Group("its input '…' comes from float", {"MaxPool": 2, "Relu": 1}, ("p1", "p2", "p3")),
        Group("no integer Softmax on here", {"Softmax": 1}, ("s1",)),
        Group("no integer Tan on here", {"Tan": 1}, ("t",)),
    ]
    assert str(found[0]) == "2 MaxPool, Relu – its input '…' comes from float: p1, p2, p3"


def test_what_is_said_of_one_layer_or_the_same_of_all_stays_whole() -> None:
    few = "it has 16 channels; 16 or fewer stay float (min_quant_weight_channel)"
    alone = grouped([Kept("a", "Conv", few)])
    assert [str(g) for g in alone] == [f"Conv – {few}: a"]
    (same,) = grouped([Kept("a", "Conv", few), Kept("b", "Conv", few)])
    assert same.reason == few
    (unlike,) = grouped([Kept("a", "Conv", few), Kept("b", "Conv", few.replace("16 channels", "8 channels"))])
    assert unlike.reason.startswith("it has … channels; 16 or fewer")


def test_the_plan_tells_what_is_kept() -> None:
    plan = Plan({}, {"a": NodePlan(True, "core operator"), "b": NodePlan(False, "why")})
    assert kept_float(plan, {"a": "Conv", "b": "Tan"}) == (Kept("b", "Tan", "why"),)
    assert kept_float(plan, {}) == (Kept("b", "?", "why"),)
