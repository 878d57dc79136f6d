"""Formats that come in. One file or folder each; all give the same `Model`."""

from fewbit.frontends import container, mxnet, onnx
from fewbit.frontends.base import FRONTENDS, frontend, load

__all__ = ["FRONTENDS", "container", "frontend", "load", "mxnet", "onnx"]
