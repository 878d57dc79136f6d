"""What becomes of each layer, and why: as its plan says, or as the Q and DQ around it tell.

    integer    reads and gives integers              dynamic   likewise, with ranges measured at run time
    merged     part of the integer layer in front    weights   stored in few bits, computed in float
    float      computed in float                     ""        has no part in it: shapes, indices, masks

Q and DQ tell what an engine may do, not what it does; a plan holds what it is known to do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fewbit.core.plan import Plan
from fewbit.graph.files import QUANTIZED_OPS
from fewbit.graph.model import Model, is_const
from fewbit.report.drawing.formats import of_type
from fewbit.report.drawing.wiring import DEQUANTIZE, QUANTIZE, Constant, Read, Traced

LINEAR = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
CLAMPS = frozenset({"Relu", "Clip", "LeakyRelu", "Sigmoid", "HardSwish", "HardSigmoid", "Tanh"})
RUN_TIME = frozenset({"MatMulInteger", "ConvInteger", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM"})
INTEGER = QUANTIZED_OPS - RUN_TIME - {QUANTIZE, DEQUANTIZE, "MatMulNBits"}


@dataclass(frozen=True)
class Verdict:
    """On one layer. `into`: the layer that it is merged into."""

    word: str = ""
    reason: str = ""
    into: str = ""


def by_plan(plan: Plan, node: Any) -> Verdict | None:
    """What a plan says of a node; None if it does not know it."""
    found = plan.nodes.get(str(node.name))
    if found is None:
        return None
    if not found.quantized:
        return Verdict("float" if _has_floats(node) else "", found.reason)
    if found.absorbed_by:
        carrier = plan.nodes.get(found.absorbed_by)
        if carrier is not None and not carrier.quantized:
            return Verdict("float", f"part of {found.absorbed_by}, which stays float")
        return Verdict("merged", found.reason, found.absorbed_by)
    names = [str(v.name) for v, role in zip(node.inputs, found.roles, strict=False) if v is not None and role == "act"]
    specs = [plan.values[n].spec for n in names if n in plan.values]
    if any(s.dynamic for s in specs):
        return Verdict("dynamic", found.reason)
    return Verdict("integer" if "act" in found.roles or not _weighs(found.roles) else "weights", found.reason)


def _weighs(roles: tuple[str, ...]) -> bool:
    return "weight" in roles


def by_structure(model: Model, wiring: Traced) -> dict[str, Verdict]:
    """What Q, DQ and integer operators tell of each node of a quantized network."""
    found: dict[str, Verdict] = {}
    for node in model.nodes:
        if not wiring.hidden(node):
            found[str(node.name)] = _one(node, wiring, found)
    return found


def _one(node: Any, wiring: Traced, before: dict[str, Verdict]) -> Verdict:
    op = node.op_type
    if op in RUN_TIME:
        return Verdict("dynamic")
    if op in INTEGER or of_type(node.outputs[0].dtype).integer:
        return Verdict("integer")
    if op == "MatMulNBits":
        return Verdict("weights")
    if not _has_floats(node):
        return Verdict()
    reads = [wiring.read(node, i) for i in range(len(node.inputs))]
    data = [r for r in reads if isinstance(r, Read) and of_type(r.source.dtype).kind != "count"]
    few = any(isinstance(r, Constant) and r.format.integer for r in reads)
    whole = [bool(r.steps) and r.steps[-1].format.integer for r in data]
    if data and all(whole) and (_ends_in_q(node) or (op in LINEAR and (few or len(data) > 1))):
        return Verdict("integer")
    maker = data[0].source.producer() if len(data) == 1 and not data[0].steps else None
    if op in CLAMPS and maker is not None and _asks_q(node):
        into = before.get(str(maker.name), Verdict())
        if into.word == "integer" and len(maker.outputs[0].uses()) == 1:
            return Verdict("merged", into=str(maker.name))
    if few and not any(whole):
        return Verdict("weights")
    return Verdict("float")


def _ends_in_q(node: Any) -> bool:
    """Whether only Q read what a node gives, or what one clamp behind it gives."""
    users = [u.node for u in node.outputs[0].uses()]
    return _asks_q(node) or (len(users) == 1 and users[0].op_type in CLAMPS and _asks_q(users[0]))


def _asks_q(node: Any) -> bool:
    users = [u.node.op_type for u in node.outputs[0].uses()]
    return bool(users) and set(users) == {QUANTIZE} and not node.outputs[0].is_graph_output()


def _has_floats(node: Any) -> bool:
    """Whether a node computes with floats, or could."""
    if node.op_type in ("Shape", "Size"):
        return False
    values = [*(v for v in node.inputs if v is not None and not is_const(v)), *(v for v in node.outputs if v.name)]
    return any(of_type(v.dtype).kind in ("float", "half") for v in values)
