"""Packed weights in and out of a graph: as stand-ins, as the arithmetic that unpacks them, as plain float weights.

    container ── filled ──▶ bytes ─ Cast ─ Gather … ─ W ─ Conv ── cut ──▶ container
                                                        └─ as_floats ──▶ W ─ Conv

Graph and integers together are the network; each form can be made of each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from fewbit.core.stored import StoredWeight
from fewbit.graph.container import SUFFIX, write_container
from fewbit.graph.emit_packed import take_name
from fewbit.graph.files import save_model
from fewbit.graph.fuse import fuse
from fewbit.graph.model import PACKED, Model
from fewbit.graph.unpack import Unpacking, unpack


def cut(model: Model) -> Model:
    """A copy in which each stored weight is an initializer of its shape that holds nothing."""
    return _with_initializers(model, lambda w: np.broadcast_to(np.float32(0), w.q.shape))


def as_floats(model: Model) -> Model:
    """A copy with float weights; where it is not known how they were stored, all constants are folded."""
    out = _with_initializers(model, StoredWeight.real) if model.stored else fuse(model)
    for key in [k for k in out.metadata if k.startswith("fewbit.")]:
        del out.metadata[key]
    return out


def _with_initializers(model: Model, data: Callable[[StoredWeight], NDArray[Any]]) -> Model:
    out = model.clone()
    values, taken = out.values(), out.names()
    for name, stored in out.stored.items():
        value = values[name]
        value.name = out.fresh(f"{name}.unpacked", taken)
        tensor = ir.Tensor(data(stored), ir.DataType.FLOAT, name=name)
        held = ir.Value(name=name, shape=ir.Shape(stored.q.shape), type=ir.TensorType(ir.DataType.FLOAT))
        held.const_value = tensor
        out.graph.register_initializer(held)
        for user, index in list(value.uses()):
            user.replace_input_with(index, held)
    out.stored = {}
    out.drop_unused()
    return out


def save_any(model: Model, path: Path) -> None:
    """Write a model in the form that the ending of the path says."""
    if path.suffix.lower() == SUFFIX:
        write_container(cut(model), model.stored, path)
    else:
        save_model(model, path)


def filled(model: Model, stored: Mapping[str, StoredWeight]) -> Model:
    """The network with its stand-ins unpacked from integers; the model is taken over.

    Args:
        model: with an initializer for each of `stored`.
    """
    taken = model.names()
    w = Unpacking(model, taken)
    for name in stored:
        old, kept = model.graph.initializers[name], stored[name]
        new = unpack(w, kept)
        for user, index in list(old.uses()):
            user.replace_input_with(index, new)
        take_name(w, new, old)
        model.stored[str(new.name)] = kept
    model.drop_unused()
    model.graph.sort()
    if model.stored:
        model.metadata[PACKED] = str(len(model.stored))
    return model
