"""Formats that come in. One file each; all give the same `Model`."""

from fewbit.frontends import onnx
from fewbit.frontends.base import FRONTENDS, frontend, load

__all__ = ["FRONTENDS", "frontend", "load", "onnx"]
