"""Caffe's networks: text (`text.py`), weights (`wire.py`), and what makes a Model of them (`convert.py`).

Caffe itself is not needed for any of it.
"""

from fewbit.frontends.caffe import files

__all__ = ["files"]
