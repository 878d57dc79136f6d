"""`mx.gluon`: blocks that run a symbol, and loaders of data."""

from fewbit.compat.mxnet.gluon import data
from fewbit.compat.mxnet.gluon.block import SymbolBlock

__all__ = ["SymbolBlock", "data"]
