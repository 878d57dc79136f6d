"""Names for a graph that PyTorch's exporter wrote: those of the modules that its nodes come from.

    node_Conv_142   weight features.0.conv.weight       →   features.0.conv
    node_relu_1     scopes '', features.0, relu_1       →   features.0/Relu    (features.0 has modules of its own)
    node_linear     scopes '', classifier, linear       →   classifier
    node_mul_3      scopes '', mul_3                    →   Mul                (numbers would move with the network)

A layer that takes several nodes gives its name to the last of them; those before are `layer/Operator`. Values are
called like their nodes; inputs and outputs keep their names.
"""

from __future__ import annotations

import ast
import re

import onnx
import onnx_ir as ir

from fewbit.graph.files import from_proto
from fewbit.graph.model import Model, free_name

FREE = re.compile(r"\bs\d+\b")
"""What the exporter calls an axis that has no name, as `s77` or `2*s77`."""

BATCH = "batch"

SCOPES = "pkg.torch.onnx.name_scopes"
WEIGHTS = (".weight", ".weight_v", ".in_proj_weight")
"""What the weights of a layer are called, behind its name."""


def named_by_modules(proto: onnx.ModelProto) -> Model:
    """The exported network, renamed."""
    irm = ir.serde.deserialize_model(proto)
    graph = irm.graph
    places = {node: _module(node) for node in graph}
    known = set(places.values())
    inner = {m for m in known if any(k.startswith(f"{m}.") for k in known)}
    last = {module: node for node, module in places.items()}
    taken = {str(v.name) for v in (*graph.inputs, *graph.outputs, *graph.initializers.values())}
    names: set[str] = set()
    for node, module in places.items():
        whole = module and module not in inner and last[module] is node
        node.name = free_name(module if whole else f"{module}/{node.op_type}".removeprefix("/"), names)
        for i, out in enumerate(node.outputs):
            if out.name and not out.is_graph_output():
                out.name = free_name(node.name if i == 0 else f"{node.name}:{i}", taken)
    return from_proto(ir.serde.serialize_model(irm))


def with_batch(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Call the free first axis of the inputs `batch`, where the exporter had no name for it; in place.

    s77, 3, 32, 32   →   batch, 3, 32, 32
    """
    graph = proto.graph
    first = [v.type.tensor_type.shape.dim[0].dim_param for v in graph.input if v.type.tensor_type.shape.dim]
    name = next((n for n in first if FREE.fullmatch(n)), None)
    sizes = [d for v in (*graph.input, *graph.output, *graph.value_info) for d in v.type.tensor_type.shape.dim]
    if name is not None and all(d.dim_param != BATCH for d in sizes):
        for d in sizes:
            if d.dim_param:
                d.dim_param = re.sub(rf"\b{name}\b", BATCH, d.dim_param)
    return proto


def _module(node: ir.Node) -> str:
    """The module that a node belongs to; "" for the whole network."""
    for value in node.inputs[1:2]:
        name = str(value.name) if value is not None and value.is_initializer() else ""
        for ending in WEIGHTS:
            if name.endswith(ending):
                return name.removesuffix(ending)
    try:
        scopes = ast.literal_eval(node.metadata_props.get(SCOPES, ""))
        return str(scopes[-2])  # the last one is the step itself
    except (ValueError, SyntaxError, LookupError, TypeError):
        return ""
