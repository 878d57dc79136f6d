"""Verdicts of a plan, and what Q and DQ tell without one."""

from __future__ import annotations

from dataclasses import replace

from fewbit.config import QuantConfig
from fewbit.core.plan import NodePlan, Plan
from fewbit.graph.emit import emit_qdq
from fewbit.graph.model import Model
from fewbit.graph.qoperator import to_qoperator
from fewbit.quantization.weight_only import make_weight_plan
from fewbit.report.drawing.verdicts import by_plan, by_structure
from fewbit.report.drawing.wiring import Traced
from tests.models import TARGET


def test_structure_tells_what_the_plan_did(fused: Model, made: Model, plan: Plan) -> None:
    found = by_structure(made, Traced(made))
    for name, n in plan.nodes.items():
        told = by_plan(plan, made.node(name))
        assert told is not None and told.word == found[name].word, name
        assert told.into == n.absorbed_by == found[name].into
    assert found["softmax"].word == "float" and found["body/0/relu"].word == "merged"


def test_a_plan_tells_why(made: Model, plan: Plan) -> None:
    told = by_plan(plan, made.node("softmax"))
    assert told is not None and told.word == "float" and told.reason == plan.nodes["softmax"].reason
    assert by_plan(replace(plan, nodes={}), made.node("softmax")) is None


def test_what_is_merged_into_a_float_layer_is_float(made: Model, plan: Plan) -> None:
    carrier = plan.nodes["body/0/relu"].absorbed_by
    kept = replace(plan, nodes={**plan.nodes, carrier: NodePlan(False, "excluded")})
    told = by_plan(kept, made.node("body/0/relu"))
    assert told is not None and told.word == "float" and carrier in told.reason


def test_integer_operators_are_integer(made: Model) -> None:
    whole = to_qoperator(made).model
    found = by_structure(whole, Traced(whole))
    words = {n.op_type: found[str(n.name)].word for n in whole.nodes if str(n.name) in found}
    assert words["QLinearConv"] == words["QLinearAdd"] == "integer" and words["Softmax"] == "float"


def test_weights_in_few_bits_are_computed_in_float(fused: Model) -> None:
    config = QuantConfig(quant_type="weight", bit_num=4)
    plan = make_weight_plan(fused, config, TARGET)
    packed = emit_qdq(fused, plan)
    told = by_plan(plan, packed.node("body/0/conv1"))
    assert told is not None and told.word == "weights"
