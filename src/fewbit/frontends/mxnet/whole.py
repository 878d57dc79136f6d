"""Layers that are one operator in MXNet and many nodes here, none of which may become integer on its own.

In front of a rule, behind `@op`, `@whole` tags every node that the rule makes as a part of "<operator>:<layer>".
"""

from __future__ import annotations

from functools import wraps

from fewbit.frontends.mxnet.layer import Layer, Rule
from fewbit.graph.build import Value
from fewbit.graph.rewrite import tag_pattern


def whole(rule: Rule) -> Rule:
    """Tag everything that the rule makes as one operator, computed in float."""

    @wraps(rule)
    def tagged(layer: Layer) -> Value | tuple[Value, ...]:
        found = rule(layer)
        made = found if isinstance(found, tuple) else (found,)
        tag_pattern(made, layer.inputs, f"{layer.op.removeprefix('_contrib_')}:{layer.name}")
        return found

    return tagged
