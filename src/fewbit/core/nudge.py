"""Nudges: how far rounded weights lie from the nearest integers, packed into a line of text for the plan.

    q = clip(round_half_even(W / s) + n, qmin, qmax)      n is 0 for most weights, ±1 for some, more by GPTQ (≤ 127)

int8 in the weight's order → zlib → base64: about 0.1 byte a weight, 0.2 by GPTQ.
"""

from __future__ import annotations

import base64
import binascii
import zlib

import numpy as np
from numpy.typing import NDArray

from fewbit.errors import PlanError


def pack_nudges(nudges: NDArray[np.int8]) -> str:
    """Text of the nudges of one weight; empty if all are 0."""
    if not nudges.any():
        return ""
    return base64.b64encode(zlib.compress(np.ascontiguousarray(nudges, np.int8).tobytes(), 3)).decode("ascii")


def unpack_nudges(text: str, shape: tuple[int, ...], what: str) -> NDArray[np.int8]:
    """Inverse of `pack_nudges`.

    Args:
        text: as packed. shape: of the weight. what: its name, for the message.

    Raises:
        PlanError: the text is damaged, or belongs to a weight of another size.
    """
    count = int(np.prod(shape))
    if not text:
        return np.zeros(shape, np.int8)
    unzip = zlib.decompressobj()
    try:
        data = unzip.decompress(base64.b64decode(text, validate=True), count + 1)  # never more than the weight has
    except (binascii.Error, ValueError, zlib.error) as e:
        raise PlanError(f"{what}: its nudges are damaged ({e}); calibrate again") from None
    if not unzip.eof and len(data) == count:  # the end may not have been asked for yet
        data += unzip.decompress(unzip.unconsumed_tail, 1)
    if len(data) == count and (not unzip.eof or unzip.unused_data):
        raise PlanError(f"{what}: its nudges are damaged (the end is missing, or something follows); calibrate again")
    if len(data) != count:
        raise PlanError(f"{what}: its nudges are for another number of weights than {count}; calibrate again")
    return np.frombuffer(data, np.int8).reshape(shape)
