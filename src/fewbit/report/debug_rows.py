"""What a debug table tells of: the tensors that each quantized layer reads and makes, in the order of the graph.

    x ─ Conv(W) ─ Relu ─ y        conv: Input x, Input W (a weight), Output y; the Relu is merged into it

Activations are named as in the float network, and paired with what their readers see in the quantized one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from fewbit.core.plan import Plan
from fewbit.core.spec import QuantSpec
from fewbit.core.stored import StoredWeight
from fewbit.graph.emit import stored_weight
from fewbit.graph.model import Model, attr, const, is_const, is_float, op_name
from fewbit.graph.ranked import Ranked
from fewbit.report.pairs import Pair, value_pairs

Array = NDArray[Any]


@dataclass(frozen=True)
class Entry:
    """One tensor as one layer sees it.

    Args:
        node, op: the layer. tensor: name in the float network. output: made by the layer, not read.
        key: entry of the plan that it is quantized by; "" if it is float and only passes errors on.
        pair: of an activation, its names in the float and in the quantized network; None for constants.
        dynamic: format of an activation whose range is measured at run time.
    """

    node: str
    op: str
    tensor: str
    output: bool
    key: str = ""
    pair: Pair | None = None
    dynamic: QuantSpec | None = None


def entries(float_model: Model, quant_model: Model, plan: Plan, tail: Ranked) -> list[Entry]:
    """All tensors of integer layers and of layers with integer weights. What the data ranks (`tail`) is left out."""
    pairs = dict(value_pairs(float_model, quant_model))
    fed = {i.name for i in float_model.inputs} & {i.name for i in quant_model.inputs}
    pairs |= {name: name for name in fed if name not in pairs}
    found = []
    for node in float_model.nodes:
        name, op = str(node.name), op_name(node)
        verdict = plan.nodes.get(name)
        if verdict is None or not verdict.quantized or verdict.absorbed_by:
            continue
        for i, value in enumerate(node.inputs):
            if value is None or not is_float(value):
                continue
            role = verdict.roles[i] if i < len(verdict.roles) else "keep"
            if is_const(value):
                key = plan.weight_key(str(value.name), name) if role in ("act", "weight") else None
                found += [Entry(name, op, str(value.name), False, key)] if key else []
            else:
                found += _activation(plan, node, str(value.name), i, pairs, tail)
        for value in _ends(plan, node):
            if value.name and is_float(value):
                found += _activation(plan, node, str(value.name), None, pairs, tail)
    return found


def _activation(
    plan: Plan, node: Any, tensor: str, index: int | None, pairs: dict[str, str], tail: Ranked
) -> list[Entry]:
    """What is told of an activation. index: of the input; None for what the layer makes."""
    if tensor not in pairs or tensor in tail.inside:
        return []
    name, op, value = str(node.name), op_name(node), plan.values.get(tensor)
    if value is None or value.role != "act":
        return [Entry(name, op, tensor, index is None, "", (tensor, pairs[tensor]))]
    if value.spec.dynamic:  # only who reads it rounds it
        spec = None if index is None else _run_time(value.spec, node, index)
        return [Entry(name, op, tensor, index is None, "", (tensor, tensor), spec)]
    return [Entry(name, op, tensor, index is None, tensor, (tensor, pairs[tensor]))]


def _run_time(spec: QuantSpec, node: Any, index: int) -> QuantSpec:
    """Format in which a layer reads a value whose range is measured at run time, see `fewbit.graph.dynamic_inputs`.

    The right side of a product is signed; rows of a side that is transposed lie along the other axis.
    """
    if spec.granularity == "channel":
        return replace(spec, axis=-1) if attr(node, "transA", 0) else spec
    if index == 1:
        return QuantSpec(8, signed=True, symmetric=True, narrow=True, dynamic=True)
    return QuantSpec(8, signed=False, dynamic=True)


def _ends(plan: Plan, node: Any) -> Iterator[Any]:
    """What a layer makes, together with the layers that are merged into it."""
    for value in node.outputs:
        while True:
            users = [u.node for u in value.uses()]
            if len(users) != 1 or value.is_graph_output() or len(users[0].outputs) != 1:
                break
            verdict = plan.nodes.get(str(users[0].name))
            if verdict is None or verdict.absorbed_by != node.name:
                break
            value = users[0].outputs[0]
        yield value


def stored(plan: Plan, key: str, data: Array) -> StoredWeight:
    """A constant in integers, as the plan has it."""
    value = plan.values[key]
    if value.role != "weight":
        params = plan.params(key)
        return StoredWeight(params.quantize(data), params)
    return stored_weight(plan, key, data)


def constant(model: Model, entry: Entry) -> Array:
    """The float numbers of a constant."""
    data = const(model.value(entry.tensor))
    assert data is not None
    return data
