"""Bring a graph that was just read into the form that `Model` promises.

Order: check that it hangs together → inline functions → initializers are not inputs → constants become initializers →
unique names → opset raised to 17 → shapes inferred. A step that an odd model does not survive is left out, with a note;
only what nothing can be done with (a dangling input, an opset below 7) is an error.
"""

from __future__ import annotations

import logging

import onnx
import onnx_ir as ir
from onnx_ir.passes import common

from fewbit.errors import ModelFormatError, UnsupportedModel
from fewbit.graph.model import Model

OLDEST, LEAST, WANTED, NEWEST = 7, 13, 17, 25
"""Opsets: oldest read; least that can hold per-channel Q/DQ; raised to if older; newest known."""

SMALL = 1024
"""Weights up to this many bytes are shown to the version converter, which reads shapes and scales from them."""

log = logging.getLogger("fewbit")


def normalize(model: Model, what: str) -> Model:
    """Do all of the above in place (a new graph where the opset was raised)."""
    check_connected(model, what)
    if model.ir.functions:
        common.InlinePass()(model.ir)
    common.RemoveInitializersFromInputsPass()(model.ir)
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model.ir)
    name_everything(model)
    raise_opset(model, WANTED, what)
    name_everything(model)
    infer_shapes(model)
    return model


def check_connected(model: Model, what: str) -> None:
    """Raise if a node or output uses a value that nothing produces, or if the order is circular."""
    graph = model.graph
    try:
        graph.sort()
    except ValueError as e:
        raise ModelFormatError(f"{what}: the graph has a cycle: {e}") from e
    for node in graph:
        for v in node.inputs:
            if v is not None and v.producer() is None and not v.is_graph_input() and not v.is_initializer():
                raise ModelFormatError(f"{what}: layer {node.name!r} ({node.op_type}) uses {v.name!r}, which nothing makes")
    for v in graph.outputs:
        if v.producer() is None and not v.is_graph_input() and not v.is_initializer():
            raise ModelFormatError(f"{what}: output {v.name!r} is made by nothing")


def name_everything(model: Model) -> None:
    """Give every node and value a unique name; names that are unique already stay as they are."""
    fixed = {str(v.name) for v in (*model.graph.inputs, *model.graph.outputs)}
    outer = {id(v) for v in (*model.graph.inputs, *model.graph.outputs)}
    nodes: set[str] = set()
    values = set(fixed)
    for graph in (model.graph, *model.graph.subgraphs()):
        for value in list(graph.initializers.values()):
            if id(value) not in outer:
                _rename(model, value, str(value.name or "constant"), values)
        for node in graph:
            node.name = model.fresh(node.name or (node.outputs[0].name if node.outputs else "") or node.op_type, nodes)
            for value in node.outputs:
                if id(value) not in outer:
                    _rename(model, value, str(value.name or f"{node.name}_out"), values)


def _rename(model: Model, value: ir.Value, wish: str, taken: set[str]) -> None:
    name = model.fresh(wish, taken)
    if value.name != name:
        value.name = name


def raise_opset(model: Model, wanted: int, what: str) -> None:
    """Raise the standard opset to at least `wanted`, by ONNX's own converter, weights left aside."""
    have = model.opset
    if not OLDEST <= have <= NEWEST:
        raise UnsupportedModel(f"{what} uses opset {have}; fewbit reads opsets {OLDEST} to {NEWEST}")
    if have >= wanted:
        return
    try:
        model.ir = _converted(model.ir, wanted)
    except (RuntimeError, ValueError, onnx.checker.ValidationError) as e:
        if have < LEAST:
            raise UnsupportedModel(
                f"{what} uses opset {have}, which cannot hold per-channel integers, and raising it failed: {e}"
            ) from e
        note(model, f"opset stays {have}: raising it to {wanted} failed ({str(e).splitlines()[0]})")


def _converted(irm: ir.Model, version: int) -> ir.Model:
    """Convert a model whose large weights are replaced by inputs, then put the weights back."""
    light, heavy = irm.clone(), {}
    graph = light.graph
    kept = len(graph.inputs)
    for name, value in list(graph.initializers.items()):
        tensor = value.const_value
        if tensor is not None and tensor.nbytes > SMALL:
            heavy[name] = tensor
            value.type, value.shape = ir.TensorType(tensor.dtype), ir.Shape(list(tensor.shape.numpy()))
            del graph.initializers[name]
            value.const_value = None
            graph.inputs.append(value)
    proto = onnx.version_converter.convert_version(ir.serde.serialize_model(light), version)
    converted = ir.serde.deserialize_model(proto)
    for value in list(converted.graph.inputs)[kept:]:
        converted.graph.inputs.remove(value)
        value.const_value = heavy[str(value.name)]
        converted.graph.register_initializer(value)
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(converted)
    converted.metadata_props.update(irm.metadata_props)
    return converted


def infer_shapes(model: Model) -> None:
    """Fill in what types and shapes ONNX can infer; what it cannot stays unknown, which only costs choices later."""
    try:
        common.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=True)(model.ir)
    except (RuntimeError, ValueError) as e:
        note(model, f"shapes could not be inferred ({str(e).splitlines()[0]}); operators of unknown shape stay float")


def note(model: Model, text: str) -> None:
    """Remember and log what could not be done."""
    model.notes.append(text)
    log.info(text)
