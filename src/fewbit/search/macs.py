"""Multiplications of each layer, which are what a layer costs.

    Conv       output elements × weights of one filter        ConvTranspose   input elements × weights of one filter
    MatMul     output elements × length of the sum            Gemm            likewise
    everything else 0

Networks that compute their padding, or take images of any size, do not tell how large their values are; counted as one
element each they would weigh nothing. So sizes that the graph leaves open are those of a run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

from fewbit.core.plan import Plan
from fewbit.core.runner import Runner
from fewbit.data.base import Batch
from fewbit.graph.model import Model, attr
from fewbit.graph.shapes import asking_shapes

Node = Any
Value = Any
Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]


def counted_macs(model: Model, batch: Batch, open: Callable[[Model], Runner]) -> dict[str, int]:
    """Multiplications for one sample by name of the node, in graph order.

    Args:
        model: a float network. batch: run once if the graph does not tell all sizes.
        open: loads a model into an engine.
    """
    counted = {str(n.name): n for n in model.nodes if n.op_type in COUNTS}
    values = {str(v.name): v for n in counted.values() for v in (*n.inputs[:2], n.outputs[0]) if v is not None}
    free = {i.shape[0] for i in model.inputs if i.shape and isinstance(i.shape[0], str)}
    told = {name: _told(v, free) for name, v in values.items()}
    shapes = {name: shape for name, shape in told.items() if shape is not None}
    samples = 1 if free else len(batch.names)
    if len(shapes) < len(told):
        shapes, samples = _seen(model, list(told), batch, open), len(batch.names)
    macs = {name: COUNTS[n.op_type](n, shapes) // samples for name, n in counted.items()}
    return {str(n.name): macs.get(str(n.name), 0) for n in model.nodes}


def integer_share(plan: Plan, macs: Mapping[str, int]) -> float:
    """Share of the multiplications that a plan does in integers; 1 if there are none at all."""
    whole = sum(macs.values())
    held = sum(n for name, n in macs.items() if name in plan.nodes and plan.nodes[name].quantized)
    return held / whole if whole else 1.0


def _told(value: Value, free: set[str]) -> Shape | None:
    """Shape for one sample: an axis that the graph calls like the first of an input is 1; None if not all is known."""
    if value.shape is None:
        return None
    sizes = [1 if getattr(d, "value", None) in free else d for d in value.shape]
    return tuple(sizes) if all(isinstance(d, int) for d in sizes) else None


def _seen(model: Model, names: list[str], batch: Batch, open: Callable[[Model], Runner]) -> dict[str, Shape]:
    """Shapes in a run on a batch."""
    asked = asking_shapes(model, names)
    fed = {i.name for i in asked.inputs}
    found = open(asked).run({k: x for k, x in batch.feeds.items() if k in fed})
    return {name: tuple(int(d) for d in found[o.name]) for name, o in zip(names, asked.outputs, strict=True)}


def _conv(node: Node, shapes: Shapes) -> int:
    return prod(shapes[node.outputs[0].name]) * prod(shapes[node.inputs[1].name][1:])


def _transposed(node: Node, shapes: Shapes) -> int:
    return prod(shapes[node.inputs[0].name]) * prod(shapes[node.inputs[1].name][1:])


def _matmul(node: Node, shapes: Shapes) -> int:
    return prod(shapes[node.outputs[0].name]) * shapes[node.inputs[0].name][-1]


def _gemm(node: Node, shapes: Shapes) -> int:
    return prod(shapes[node.outputs[0].name]) * shapes[node.inputs[1].name][1 if attr(node, "transB", 0) else 0]


COUNTS: dict[str, Callable[[Node, Shapes], int]] = {
    "Conv": _conv,
    "ConvTranspose": _transposed,
    "MatMul": _matmul,
    "Gemm": _gemm,
}
