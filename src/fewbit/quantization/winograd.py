"""Weights of 3x3 convolutions, rounded where Winograd's fast convolution would multiply them.

    U = G W Gᵀ       U' = round(U / s) · s, one s a channel       W' = G⁺ U' (G⁺)ᵀ

A fast convolution in few bits rounds U, not W. W' is the 3x3 weight that comes nearest to U', so that the network can
be run as it is. See `fewbit.core.winograd` for G.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.core.params import weight_params
from fewbit.core.spec import QuantSpec
from fewbit.core.winograd import TRANSFORMS, inverse
from fewbit.graph.model import dims
from fewbit.graph.places import weight_places

Node = Any


def is_winograd(node: Node) -> bool:
    """Whether a node is a convolution that a 3x3 Winograd kernel could compute: 3x3, whatever its stride."""
    shape = dims(node.inputs[1]) if len(node.inputs) > 1 else None
    return node.op_type == "Conv" and bool(weight_places(node)) and shape is not None and tuple(shape[2:]) == (3, 3)


def winograd_rounded(weight: NDArray[Any], kind: str, bits: int) -> NDArray[np.float32]:
    """W' of a weight (out, in, 3, 3).

    Args:
        kind: key of `TRANSFORMS`. bits: of U.
    """
    g = TRANSFORMS[kind]
    u = np.einsum("ai,ocij,bj->ocab", g, weight.astype(np.float64), g)
    spec = QuantSpec(bits, signed=True, symmetric=True, narrow=True, granularity="channel", axis=0)
    rounded = weight_params(spec, u.astype(np.float32)).fake(u.astype(np.float32)).astype(np.float64)
    back = inverse(kind)
    found: NDArray[np.float64] = np.einsum("ia,ocab,jb->ocij", back, rounded, back)
    return found.astype(np.float32)
