"""Formats that come in. One file or folder each; all give the same `Model`."""

from fewbit.frontends import caffe, container, mxnet, onnx, tflite
from fewbit.frontends.base import FRONTENDS, frontend, load

__all__ = ["FRONTENDS", "caffe", "container", "frontend", "load", "mxnet", "onnx", "tflite"]
