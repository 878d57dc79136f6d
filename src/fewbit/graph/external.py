"""Files that a model keeps its weights in, read off its message alone: nothing is mapped or checked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from fewbit.graph.wire import read_cut


def external_files(path: Path) -> frozenset[Path]:
    """The files beside a model that its weights lie in; none if it cannot be read, which loading it will say."""
    try:
        with open(path, "rb") as file:
            message, _ = read_cut(file)
        proto = onnx.ModelProto.FromString(message)
    except (OSError, DecodeError, ValueError):
        return frozenset()
    return frozenset(
        path.resolve().parent / entry.value
        for tensor in [*_of_graph(proto.graph), *(t for f in proto.functions for t in _of_nodes(f.node))]
        for entry in tensor.external_data
        if entry.key == "location"
    )


def _of_graph(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    yield from _of_nodes(graph.node)


def _of_nodes(nodes: Iterator[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        for a in node.attribute:
            if a.HasField("t"):
                yield a.t
            for graph in (a.g, *a.graphs):
                yield from _of_graph(graph)
