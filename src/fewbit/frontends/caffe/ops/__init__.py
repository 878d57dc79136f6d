"""Caffe layers → ONNX nodes. One file for each kind of layer; importing them fills the table `OPS`."""

from fewbit.frontends.caffe.ops import (
    activations,
    affine,
    anchors,
    arithmetic,
    detection,
    index,
    layers,
    norm,
    pool,
    recurrent,
    resize,
    shape,
)

__all__ = [
    "activations",
    "affine",
    "anchors",
    "arithmetic",
    "detection",
    "index",
    "layers",
    "norm",
    "pool",
    "recurrent",
    "resize",
    "shape",
]
