"""MXNet's checkpoints: parameters (`ndarray.py`), symbols (`symbol.py`), and what makes a Model of them (`convert.py`).

MXNet itself is not needed for any of it.
"""

from fewbit.frontends.mxnet import checkpoint

__all__ = ["checkpoint"]
