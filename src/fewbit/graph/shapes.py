"""Shapes that the graph does not tell, asked of a run: sizes that follow from the input, or that nobody inferred.

before   x ─ conv (N, 32, ?, ?) ─ …        asked   x ─ conv ─ Shape ─ out        no inner value is kept
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

from fewbit.graph.model import Model


def asking_shapes(model: Model, names: Iterable[str]) -> Model:
    """A network that answers with the shapes of these values, in this order, as int64."""
    copy = model.clone()
    values, taken = copy.values(), copy.names()
    copy.graph.outputs.clear()
    for name in names:
        node = ir.node("Shape", [values[name]], name=copy.fresh(f"{name}_shape", taken))
        out = node.outputs[0]
        out.name, out.type = copy.fresh(str(node.name), taken), ir.TensorType(ir.DataType.INT64)
        copy.graph.append(node)
        copy.graph.outputs.append(out)
    copy.drop_unused()
    return copy
