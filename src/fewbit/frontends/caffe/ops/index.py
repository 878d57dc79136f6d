"""Values out of nowhere, and choices among them: Parameter, BatchReindex."""

from __future__ import annotations

from fewbit.frontends.caffe.layer import Layer, op
from fewbit.graph.build import Value


@op("Parameter", settings="parameter_param")
def parameter(layer: Layer) -> Value:
    """A weight that is a value."""
    shape = layer.settings.message("shape")
    return layer.const(layer.weight(0, tuple(shape.all("dim")) if shape is not None else (), "value"), "value")


@op("BatchReindex")
def batch_reindex(layer: Layer) -> Value:
    """Gather: samples of the first bottom by the numbers in the second."""
    x, places = layer.takes(2)
    return layer.main("Gather", x, layer.node("Cast", places, to=7), axis=0)
