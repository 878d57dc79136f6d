"""Outputs whose rows the data ranks, as a detector's: what they are made from is compared instead.

    cls_prob ─┐
    loc ──────┴─ [decode, TopK, NonMaxSuppression, …] ─ detections          compared: cls_prob, loc

Row by row, such an output is off as soon as two rows change places, or one more is suppressed.
"""

from __future__ import annotations

from dataclasses import dataclass

from fewbit.graph.model import Model, is_float
from fewbit.graph.rewrite import PATTERN_KEY

RANKS = "NonMaxSuppression"


@dataclass(frozen=True)
class Ranked:
    """What the data ranks.

    Args:
        outputs: those that hang on a suppression. inside: all values from where it begins.
        fronts: the computed float values that it is made from.
    """

    outputs: tuple[str, ...] = ()
    inside: frozenset[str] = frozenset()
    fronts: tuple[str, ...] = ()


def ranked(model: Model) -> Ranked:
    """Find suppressions, what is one operator with them, and what follows. Nothing, if no output hangs on them."""
    nodes = list(model.nodes)
    tags = {n.metadata_props.get(PATTERN_KEY) for n in nodes if n.op_type == RANKS} - {None}
    tail = {id(n): n for n in nodes if n.op_type == RANKS or n.metadata_props.get(PATTERN_KEY) in tags}
    for node in nodes:  # inputs come first, so one pass finds all that follows
        if any(v is not None and id(v.producer()) in tail for v in node.inputs):
            tail[id(node)] = node
    inside = frozenset(str(v.name) for n in tail.values() for v in n.outputs)
    outputs = tuple(o.name for o in model.outputs if o.name in inside)
    reads = (v for n in tail.values() for v in n.inputs if v is not None and v.name not in inside)
    fronts = {str(v.name): None for v in reads if v.producer() is not None and is_float(v)}
    return Ranked(outputs, inside, tuple(fronts)) if outputs and fronts else Ranked()


def in_front(model: Model, tail: Ranked) -> Model:
    """A network that answers with what ranked outputs are made from, instead of them; one without them stays as it is.

    Args:
        model: the float network that `tail` was found in, or an integer one made of it.
    """
    if not tail.outputs or not {o.name for o in model.outputs}.issuperset(tail.outputs):
        return model
    copy = model.with_outputs(tail.fronts)
    for value in [v for v in copy.graph.outputs if v.name in tail.outputs]:
        copy.graph.outputs.remove(value)
    copy.drop_unused()
    return copy
