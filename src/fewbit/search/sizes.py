"""Multiplications of each layer where the graph does not tell all shapes: those of a run on one batch are counted.

Networks that compute their padding, or take images of any size, have convolutions of unknown size; counted as one
element each they would weigh nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from fewbit.core.runner import Runner
from fewbit.data.base import Batch
from fewbit.graph.model import Model, dims, is_const
from fewbit.graph.shapes import asking_shapes, with_shapes
from fewbit.search.macs import COUNTS, layer_macs


def counted_macs(model: Model, batch: Batch, open: Callable[[Model], Runner]) -> dict[str, int]:
    """As `layer_macs`, for one sample of a batch.

    Args:
        model: a float network. batch: run once if shapes are missing. open: loads a model into an engine.
    """
    nodes = [n for n in model.nodes if n.op_type in COUNTS]
    read = [v for n in nodes for v in (*n.inputs[:2], n.outputs[0]) if v is not None and not is_const(v)]
    if all((shape := dims(v)) is not None and None not in shape[1:] for v in read):
        return layer_macs(model)
    names = list(dict.fromkeys(str(v.name) for v in read))
    asked = asking_shapes(model, names)
    fed = {i.name for i in asked.inputs}
    shapes = open(asked).run({k: x for k, x in batch.feeds.items() if k in fed}).values()
    found = layer_macs(with_shapes(model, {n: s.tolist() for n, s in zip(names, shapes, strict=True)}))
    return {name: count // len(batch.names) for name, count in found.items()}
