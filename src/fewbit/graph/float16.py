"""Float weights stored in 16 bits: half the file, computed in float32 as before.

    before   W float32 ─ Conv        after   W float16 ─ Cast ─ Conv        engines fold the Cast when they load it

Weights beyond what float16 holds (±65504) stay as they are: they would become infinite. Below 6e-5 it gets coarse, and
ends at 6e-8; such weights are next to nothing beside those of their layer. Models are changed in place.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from fewbit.graph.model import Model

LARGEST = float(np.finfo(np.float16).max)
FEWEST = 64
"""Elements below which a Cast takes more room than it saves."""

PLACES = {
    "Conv": (1, 2), "ConvTranspose": (1, 2), "Gemm": (0, 1, 2), "MatMul": (0, 1), "Gather": (0,), "LSTM": (1, 2, 3),
    "GRU": (1, 2, 3), "RNN": (1, 2, 3), "Add": (0, 1), "Mul": (0, 1), "PRelu": (1,),
}  # fmt: skip
"""Operators → inputs that are weights. Elsewhere constants are often asked for: scales, borders, shapes."""


def store_half(model: Model, *, elementwise: bool = True) -> tuple[list[str], list[str]]:
    """Store float32 weights in 16 bits.

    Args:
        elementwise: those of Add and Mul too; in a quantized network these may be scales.

    Returns:
        those that are, and those that hold values beyond float16.
    """
    done, beyond, taken = [], [], model.names()
    for name, value in list(model.graph.initializers.items()):
        if not _is_weight(value, elementwise):
            continue
        tensor = value.const_value
        assert tensor is not None
        w = np.asarray(tensor.numpy())
        if not np.all(np.abs(w) <= LARGEST):
            beyond.append(str(name))
            continue
        _store(model, value, w.astype(np.float16), taken)
        done.append(str(name))
    return done, beyond


def _store(
    model: Model, value: ir.Value, half: np.ndarray[tuple[int, ...], np.dtype[np.float16]], taken: set[str]
) -> None:
    name = str(value.name)
    small = model.add_initializer(model.fresh(f"{name}_half", taken), half)
    cast = ir.node("Cast", [small], {"to": int(ir.DataType.FLOAT)}, name=model.fresh(f"{name}_cast", taken))
    uses = list(value.uses())
    first = next(node for node in model.graph if any(node is user for user, _ in uses))
    model.graph.insert_before(first, cast)
    out = cast.outputs[0]
    out.type, out.shape = value.type, value.shape
    value.replace_all_uses_with(out)
    del model.graph.initializers[name]
    value.name = None
    out.name = name


def _is_weight(value: ir.Value, elementwise: bool) -> bool:
    tensor, uses = value.const_value, value.uses()
    if tensor is None or value.dtype != ir.DataType.FLOAT or tensor.size < FEWEST:
        return False
    if not uses or value.is_graph_output() or value.is_graph_input():
        return False
    places = {op: at for op, at in PLACES.items() if elementwise or op not in ("Add", "Mul")}
    return all(n.graph is value.graph and not n.domain and i in places.get(n.op_type, ()) for n, i in uses)
