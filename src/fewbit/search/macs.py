"""Multiplications of each layer, which are what a layer costs.

    Conv       output elements × weights of one filter        ConvTranspose   input elements × weights of one filter
    MatMul     output elements × length of the sum            Gemm            likewise
    everything else 0

Shapes that the graph does not tell are seen in a run, if there is an engine, so that free axes count in full.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

from fewbit.core.plan import Plan
from fewbit.core.runner import Feeds, Runner
from fewbit.graph.model import Model, attr, dims, is_const

Node = Any
Value = Any
Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]


def layer_macs(
    model: Model, open: Callable[[Model], Runner] | None = None, feeds: Feeds | None = None
) -> dict[str, int]:
    """Multiplications by name of the node, in graph order, for one batch.

    Args:
        open: loads a model into an engine; used only if the graph does not tell all shapes. feeds: the batch. Without
            these an axis that is not known counts once.
    """
    nodes = [n for n in model.nodes if n.op_type in COUNTS]
    values = {str(v.name): v for n in nodes for v in (n.inputs[0], n.inputs[1], n.outputs[0]) if v is not None}
    shapes = {name: _shape(v) for name, v in values.items()}
    if open is not None and feeds is not None:
        unknown = [name for name, v in values.items() if not _fixed(v) and name not in feeds]
        found = open(model.with_outputs(unknown)).run(feeds) if unknown else {}
        shapes |= {name: tuple(x.shape) for name, x in (*feeds.items(), *found.items())}
    return {str(n.name): COUNTS[n.op_type](n, shapes) if n.op_type in COUNTS else 0 for n in model.nodes}


def integer_share(plan: Plan, macs: Mapping[str, int]) -> float:
    """Share of the multiplications that a plan does in integers; 1 if there are none at all."""
    whole = sum(macs.values())
    held = sum(n for name, n in macs.items() if name in plan.nodes and plan.nodes[name].quantized)
    return held / whole if whole else 1.0


def _fixed(value: Value) -> bool:
    known = dims(value)
    return is_const(value) or (known is not None and None not in known)


def _shape(value: Value) -> Shape:
    return tuple(1 if d is None else int(d) for d in dims(value) or (1,))


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
