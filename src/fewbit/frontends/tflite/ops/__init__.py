"""Rules for operators, by theme. Importing them fills the table `layer.OPS`."""

from fewbit.frontends.tflite.ops import (
    activations,
    arithmetic,
    blocks,
    conv,
    dense,
    index,
    lstm,
    norm,
    pool,
    reduce,
    resize,
    shape,
    slicing,
)

__all__ = [
    "activations", "arithmetic", "blocks", "conv", "dense", "index", "lstm", "norm", "pool", "reduce", "resize",
    "shape", "slicing",
]  # fmt: skip
