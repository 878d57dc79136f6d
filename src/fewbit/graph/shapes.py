"""Shapes that the graph does not tell: told by the user, or asked of a run.

before   x ─ conv (N, 32, ?, ?) ─ …        asked   x ─ conv ─ Shape ─ out        no inner value is kept
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import onnx_ir as ir

from fewbit.errors import ModelFormatError, unknown
from fewbit.graph.model import Model, attr, dims
from fewbit.graph.normalize import infer_shapes, shape_error


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


def with_input_shapes(model: Model, shapes: Mapping[str, Sequence[int | None]]) -> Model:
    """A copy whose inputs have these shapes, and whose values have the shapes that follow.

    Args:
        shapes: by input; None and 0 are free, sizes that the network fixes cannot be changed.

    Raises:
        UnknownName: no such input. ModelFormatError: another number of axes, a size that is fixed otherwise, or one
            that a layer cannot take.
    """
    copy = model.clone()
    inputs = {str(v.name): v for v in copy.graph.inputs}
    for name, given in shapes.items():
        if name not in inputs:
            raise unknown("input", name, inputs)
        value, wanted = inputs[name], [d or None for d in given]
        have = dims(value) if value.shape is not None else (None,) * len(wanted)
        fits = have is not None and len(have) == len(wanted)
        if not fits or any(a and b and a != b for a, b in zip(have or (), wanted, strict=False)):
            raise ModelFormatError(f"input {name!r} has the shape {have}; it cannot be {tuple(given)}")
        named = value.shape if value.shape is not None else (None,) * len(wanted)
        value.shape = ir.Shape([b or a for a, b in zip(named, wanted, strict=True)])
    outputs = {v: v.shape for v in copy.graph.outputs if not v.is_graph_input()}
    for value in outputs:
        value.shape = None  # what was free may follow now
    infer_shapes(copy)
    for value, before in outputs.items():
        value.shape = before if value.shape is None else value.shape
    if (why := _misfit(copy) or shape_error(copy)) and not shape_error(model):
        said = ", ".join(f"{name} {tuple(given)}" for name, given in shapes.items())
        raise ModelFormatError(f"the network cannot take the input shapes {said}: {why}; give others")
    return copy


def _misfit(model: Model) -> str:
    """Convolutions of other channels than they get, which ONNX's inference lets pass."""
    for node in model.nodes:
        if node.op_type == "Conv" and not node.domain:
            x, w = (dims(v) for v in node.inputs[:2])
            wants = w[1] * attr(node, "group", 1) if w and len(w) > 1 and w[1] is not None else None
            if x and len(x) > 1 and None not in (x[1], wants) and x[1] != wants:
                return f"layer {node.name!r} takes {wants} channels, and would get {x[1]}"
    return ""
