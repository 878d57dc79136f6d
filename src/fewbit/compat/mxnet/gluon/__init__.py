"""`mx.gluon`: blocks that run a symbol, and loaders of data."""

from fewbit.compat.mxnet.gluon import data
from fewbit.compat.mxnet.gluon.block import SymbolBlock
from fewbit.compat.mxnet.missing import telling

__all__ = ["SymbolBlock", "data"]

__getattr__ = telling("mx.gluon", "networks cannot be built here: export them in MXNet once, then SymbolBlock.imports")
