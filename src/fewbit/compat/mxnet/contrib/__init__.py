"""`mx.contrib`."""

from fewbit.compat.mxnet.contrib import quantization

__all__ = ["quantization"]
