"""From text and arrays to a Model, without files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from numpy.typing import NDArray

from fewbit.frontends.caffe import legacy
from fewbit.frontends.caffe.convert import convert
from fewbit.frontends.caffe.net import assemble
from fewbit.frontends.caffe.text import parse
from fewbit.frontends.caffe.weights import Weights
from fewbit.frontends.caffe.wire import Reader
from fewbit.graph.model import Model
from tests.frontends.caffe.writing import caffemodel


def converted(
    text: str,
    weights: Mapping[str, Sequence[NDArray[Any]]] | bytes = {},
    shapes: Mapping[str, Sequence[int | None]] | None = None,
) -> Model:
    """A network of these layers."""
    data = weights if isinstance(weights, bytes) else caffemodel(weights)
    stored = legacy.layers(Reader(memoryview(data), "net.caffemodel").message("Net"), "net.caffemodel") if data else ()
    net = assemble(parse(text.encode(), "net.prototxt"), "net.prototxt")
    return convert(net, Weights(stored, "net.caffemodel" if data else ""), shapes=shapes)
