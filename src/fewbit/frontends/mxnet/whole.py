"""Layers that are one operator in MXNet and many nodes here, none of which may become integer on its own.

In front of a rule, behind `@op`, `@whole` tags every node that the rule makes as a part of "<operator>:<layer>".
"""

from __future__ import annotations

from functools import wraps

from fewbit.frontends.mxnet.layer import Layer, Rule
from fewbit.graph.build import Value
from fewbit.graph.rewrite import PATTERN_KEY


def whole(rule: Rule) -> Rule:
    """Tag everything that the rule makes as one operator, computed in float."""

    @wraps(rule)
    def tagged(layer: Layer) -> Value | tuple[Value, ...]:
        found = rule(layer)
        ends, seen = set(layer.inputs), set[Value]()
        reach = [*found] if isinstance(found, tuple) else [found]
        while reach:
            value = reach.pop()
            node = value.producer()
            if value in ends or value in seen or node is None:
                continue
            seen.add(value)
            node.metadata_props[PATTERN_KEY] = f"{layer.op.removeprefix('_contrib_')}:{layer.name}"
            reach += [v for v in node.inputs if v is not None]
        return found

    return tagged
