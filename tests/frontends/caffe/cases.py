"""All cases. Every type of layer has one."""

from __future__ import annotations

from tests.frontends.caffe.cases_maps import ARITHMETIC, DETECTION, NORMS, RECURRENT, RESIZES, SHAPES
from tests.frontends.caffe.cases_numbers import ACTIVATIONS, AFFINE, MATRICES, POOLS

CASES = [*ACTIVATIONS, *MATRICES, *POOLS, *AFFINE, *ARITHMETIC, *NORMS, *SHAPES, *RESIZES, *DETECTION, *RECURRENT]
