"""Bring a graph that was just read into the form that `Model` promises.

Order: check that it hangs together → inline functions → initializers are not inputs → constants become initializers →
unique names → negative sizes are free ones → opset raised to 17 → shapes inferred. A step that an odd model does not
survive is left out, with a note; only what nothing can be done with (a dangling input, an opset below 7) is an error.

onnx works on a copy of the graph in which every weight over `SMALL` bytes is an input without data.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable

import onnx
import onnx.shape_inference
import onnx.version_converter
import onnx_ir as ir
from google.protobuf.message import EncodeError  # type: ignore[import-untyped]
from onnx_ir.passes import common

from fewbit.errors import ModelFormatError, UnsupportedModel
from fewbit.graph.model import Model, const

OLDEST, LEAST, WANTED, NEWEST = 7, 13, 17, 25
"""Opsets: oldest read; least that can hold per-channel Q/DQ; raised to if older; newest known."""

SMALL = 1024
"""Weights up to this many bytes are shown to the version converter, which reads shapes and scales from them."""

MOST_NODES = 200_000
"""Nodes that a model may have once its functions are inlined."""

CHANGED = {"Scan": 9, "Hardmax": 13}
"""Operators whose meaning changed, which ONNX's converter does not notice → the opset that changed it."""

LEAST_IR, PLAIN_IR = 7, 10
"""Older files list their weights among the inputs, and engines insist on it. Newer ones than the opset asks for only
lock out engines that are a little older than the tool that wrote them."""

IR_FOR_OPSET = ((25, 12), (23, 11), (21, 10), (19, 9), (15, 8), (0, 7))
"""Opset → the file version that came with it."""

FAILURES = (
    *(RuntimeError, ValueError, TypeError, AssertionError, EncodeError),
    *(onnx.checker.ValidationError, onnx.shape_inference.InferenceError, onnx.version_converter.ConvertError),
)
"""What onnx raises when a graph is beyond its converter or its shape inference."""

log = logging.getLogger("fewbit")


def normalize(model: Model, what: str) -> Model:
    """Do all of the above in place (a new graph where the opset was raised)."""
    check_connected(model, what)
    if model.ir.functions:
        check_inlined_size(model, what)
        common.InlinePass()(model.ir)
    common.RemoveInitializersFromInputsPass()(model.ir)
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model.ir)
    name_everything(model)
    free_negative(model)
    model.ir.ir_version = max(model.ir.ir_version or 0, LEAST_IR)
    raise_opset(model, WANTED, what)
    model.ir.ir_version = min(model.ir.ir_version or 0, max(PLAIN_IR, ir_for(model.opset)))
    infer_shapes(model)
    return model


def check_inlined_size(model: Model, what: str) -> None:
    """Raise if functions that call functions unfold into more nodes than any network has; a few bytes can say so."""
    functions, sizes = model.ir.functions, dict[ir.OperatorIdentifier, int]()

    def size(nodes: Iterable[ir.Node]) -> int:
        return sum(called(n.op_identifier()) for n in nodes)

    def called(name: ir.OperatorIdentifier) -> int:
        if name not in functions:
            return 1
        if name not in sizes:
            sizes[name] = 1  # one that calls itself is refused by the pass
            sizes[name] = size(functions[name].all_nodes())
        return sizes[name]

    count = size(model.graph.all_nodes())
    if count > MOST_NODES:
        raise UnsupportedModel(f"{what} unfolds its functions into {count:,} nodes; fewbit takes up to {MOST_NODES:,}")


def ir_for(opset: int) -> int:
    """File version that came with an opset."""
    return next(version for least, version in IR_FOR_OPSET if opset >= least)


def check_connected(model: Model, what: str) -> None:
    """Raise if a node or output uses a value that nothing produces, or if the order is circular."""
    graph = model.graph
    try:
        graph.sort()
    except ValueError as e:
        raise ModelFormatError(f"{what}: the graph has a cycle: {e}") from e
    for node in graph.all_nodes():
        for v in node.inputs:
            if v is not None and _made_by_nothing(v):
                layer = f"layer {node.name!r} ({node.op_type})"
                raise ModelFormatError(f"{what}: {layer} uses {v.name!r}, which nothing makes")
    for g in (graph, *graph.subgraphs()):
        for v in g.outputs:
            if _made_by_nothing(v):
                raise ModelFormatError(f"{what}: output {v.name!r} is made by nothing")
    for name, n in Counter(v.name for v in graph.inputs).items():
        if n > 1 or not name:
            raise ModelFormatError(f"{what} has {n} inputs named {name!r}")


def _made_by_nothing(v: ir.Value) -> bool:
    return v.producer() is None and not v.is_graph_input() and not v.is_initializer()


def name_everything(model: Model) -> None:
    """Give every node and value, bodies included, a unique name; names that are unique already stay as they are.

    Outputs left out, which have the name "", stay left out.
    """
    main = (*model.graph.inputs, *model.graph.outputs)
    outer = {id(v) for v in main}
    nodes: set[str] = set()
    values = {str(v.name) for v in main}
    for graph in (model.graph, *(g for g in model.graph.subgraphs() if g is not model.graph)):
        for value in (*graph.initializers.values(), *graph.inputs):
            if id(value) not in outer:
                outer.add(id(value))
                _rename(model, value, str(value.name or "constant"), values)
        for node in graph:
            node.name = model.fresh(node.name or (node.outputs[0].name if node.outputs else "") or node.op_type, nodes)
            for value in node.outputs:
                left_out = not value.name and not value.uses() and not value.is_graph_output()
                if id(value) not in outer and not left_out:
                    _rename(model, value, str(value.name or f"{node.name}_out"), values)


def _rename(model: Model, value: ir.Value, wish: str, taken: set[str]) -> None:
    name = model.fresh(wish, taken)
    if value.name != name:
        value.name = name


def free_negative(model: Model) -> None:
    """A negative size is how some exporters write a free dimension."""
    values = (*model.graph.inputs, *(v for n in model.graph.all_nodes() for v in n.outputs), *model.graph.outputs)
    for value in values:
        if value.shape is not None and any(isinstance(d, int) and d < 0 for d in value.shape):
            value.shape = ir.Shape([None if isinstance(d, int) and d < 0 else d for d in value.shape])


def raise_opset(model: Model, wanted: int, what: str) -> None:
    """Raise the standard opset to at least `wanted`, by ONNX's own converter, weights left aside."""
    have = model.opset
    if not OLDEST <= have <= NEWEST:
        raise UnsupportedModel(f"{what} uses opset {have}; fewbit reads opsets {OLDEST} to {NEWEST}")
    if have >= wanted:
        return
    try:
        model.ir = _converted(model.ir, wanted)
        name_everything(model)
    except FAILURES as e:
        if have < LEAST:
            raise UnsupportedModel(
                f"{what} uses opset {have}, which cannot hold per-channel integers, and raising it failed: {_line(e)}"
            ) from e
        note(model, f"opset stays {have}: raising it to {wanted} failed ({_line(e)})")


def _line(error: Exception) -> str:
    """The first line of a message, without where in onnx's source it was said."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rsplit("` failed: ", 1)[-1]


def _light(irm: ir.Model) -> tuple[onnx.ModelProto, dict[str, ir.TensorProtocol]]:
    """The model with its larger weights turned into inputs, after those it has, and these weights."""
    light, heavy = irm.clone(), {}
    graph = light.graph
    for name, value in list(graph.initializers.items()):
        tensor = value.const_value
        if tensor is not None and tensor.nbytes > SMALL:
            heavy[name] = tensor
            value.type, value.shape = ir.TensorType(tensor.dtype), ir.Shape(list(tensor.shape.numpy()))
            del graph.initializers[name]
            value.const_value = None
            graph.inputs.append(value)
    return ir.serde.serialize_model(light), heavy


def _converted(irm: ir.Model, version: int) -> ir.Model:
    """Convert the opset; what the converter does not know about is carried over."""
    have, old_resizes = irm.opset_imports[""], set()
    for node in irm.graph.all_nodes():
        if have < CHANGED.get(node.op_type, 0):
            raise ValueError(f"{node.op_type} means something else since opset {CHANGED[node.op_type]}")
        if have < 11 and node.op_type in ("Resize", "Upsample"):
            old_resizes.add(node.outputs[0].name)  # the converter makes new nodes, but keeps values
    proto, heavy = _light(irm)
    converted = ir.serde.deserialize_model(onnx.version_converter.convert_version(proto, version))
    for value in list(converted.graph.inputs):
        if value.name in heavy:
            converted.graph.inputs.remove(value)
            value.const_value = heavy[str(value.name)]
            converted.graph.register_initializer(value)
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(converted)
    for node in converted.graph.all_nodes():
        if node.op_type == "Resize" and node.outputs[0].name in old_resizes:
            _place_pixels(node)
    converted.ir_version = irm.ir_version
    converted.metadata_props.update(irm.metadata_props)
    return converted


def _place_pixels(resize: ir.Node) -> None:
    """Say where pixels lie, as it was understood before opset 11, when Resize got other defaults."""
    scales = const(resize.inputs[2]) if len(resize.inputs) > 2 else None
    shrinks = scales is not None and bool((scales < 1).any())
    resize.attributes.add(ir.AttrString("coordinate_transformation_mode", "asymmetric"))
    resize.attributes.add(ir.AttrString("nearest_mode", "ceil" if shrinks else "floor"))


def infer_shapes(model: Model) -> None:
    """Fill in what types and shapes ONNX can infer; what it cannot stays unknown, which only costs choices later."""
    try:
        proto, _ = _light(model.ir)
        found = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    except FAILURES as e:
        note(model, f"shapes could not be inferred ({_line(e)}); operators of unknown shape stay float")
        return
    values, outer = model.values(), {id(v) for v in (*model.graph.inputs, *model.graph.outputs)}
    for info in (*found.graph.value_info, *found.graph.output):
        value = values.get(info.name)
        if value is None or value.is_graph_input():
            continue
        kind = ir.serde.deserialize_type_proto_for_type(info.type)
        shape = ir.serde.deserialize_type_proto_for_shape(info.type)
        fixed = id(value) in outer
        if kind is not None and (value.type is None or not fixed):
            value.type = kind
        if shape is not None and (value.shape is None or not fixed):
            value.shape = shape


def shape_error(model: Model) -> str:
    """What is wrong with the shapes of a graph, by ONNX's own rules; empty if nothing is, or nobody can tell."""
    try:
        proto, _ = _light(model.ir)
        onnx.shape_inference.infer_shapes(proto, strict_mode=True, data_prop=True)
    except FAILURES as e:
        return _line(e)
    return ""


def note(model: Model, text: str) -> None:
    """Remember and log what could not be done."""
    model.notes.append(text)
    log.info(text)
