"""Zeros in front of a pooling that engines must not take for its own padding.

    x → Pad(0) → MaxPool     ONNX Runtime makes MaxPool(x, pads) of it, which pads with −∞: wrong where x may be below 0
    x → Pad(0) → either      with pads as wide as the kernel it refuses what it made itself
    x → Pad(ε) → either      is left alone; ε is the smallest normal float32, 1.2e-38

Only Pads that ONNX Runtime would fold are changed: those that convolutions and poolings alone read.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

from fewbit.graph.model import Model, attr, is_float, op_name
from fewbit.graph.rewrite import Edit
from fewbit.graph.rules.pad import PAD
from fewbit.graph.rules.values import arg, scalar

FOLDS = frozenset({"Conv", "AveragePool", "MaxPool"})
"""Operators that ONNX Runtime folds a Pad into."""

SAME = frozenset({"Identity", "Transpose"})
"""Operators that it may remove, or move in front of the Pad."""

EPSILON = np.finfo(np.float32).tiny


def keep_zeros(model: Model) -> int:
    """Give such Pads ε to pad with; returns how many there were."""
    pads = [node for node in model.nodes if op_name(node) == "Pad"]
    if not pads:
        return 0
    edit = Edit(model)
    found = [pad for pad in pads if _is_misread(edit, pad)]
    for pad in found:
        edit.set_input(pad, 2, edit.constant(f"{pad.name}/epsilon", np.asarray(EPSILON)))
    return len(found)


def _is_misread(edit: Edit, pad: ir.Node) -> bool:
    if attr(pad, "mode", "constant") != "constant" or not is_float(arg(pad, 0)):
        return False
    fill = arg(pad, 2)
    if fill is not None and scalar(fill) != 0:
        return False
    readers = list(_readers(pad.outputs[0]))
    wrong = any(r is not None and op_name(r) != "Conv" and not _may_be_folded(edit, r) for r in readers)
    return wrong and all(r is not None and op_name(r) in FOLDS for r in readers)


def _may_be_folded(edit: Edit, pool: ir.Node) -> bool:
    match = PAD.pattern(pool)
    return match is not None and not PAD.check(edit, match)


def _readers(value: ir.Value) -> Iterator[ir.Node | None]:
    """The nodes that read a value, or the same numbers in another order; None for a graph output."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if value.is_graph_output():
            yield None
        for node, _ in value.uses():
            if op_name(node) in SAME:
                waiting.append(node.outputs[0])
            else:
                yield node
