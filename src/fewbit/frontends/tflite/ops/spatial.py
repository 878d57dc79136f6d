"""Windows that move over a picture: where the padding of SAME and VALID lies.

SAME    ⌈n / s⌉ places; p = max(0, (places - 1)·s + (k - 1)·d + 1 - n) in all, ⌊p / 2⌋ of it in front
VALID   none
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fewbit.frontends.tflite.layer import Layer

PADDINGS = {0: "SAME", 1: "VALID"}
MOST = 1 << 20
"""Stride, dilation and size of a kernel that are still believed."""


def pair(layer: Layer, what: str) -> tuple[int, int]:
    """Two numbers of the options, such as StrideH and StrideW; both at least 1."""
    default = 1 if "Dilation" in what else 0
    found = (layer.options.whole(f"{what}H{'Factor' * default}", default), layer.options.whole(
        f"{what}W{'Factor' * default}", default))  # fmt: skip
    return checked(layer, what, found)


def checked(layer: Layer, what: str, found: Sequence[int]) -> Any:
    """Numbers of a window that make sense."""
    if not all(1 <= n <= MOST for n in found):
        raise layer.misfit(f"{what} is {tuple(found)}; it must be from 1 to {MOST}")
    return tuple(found)


def padding(layer: Layer) -> str:
    """SAME or VALID."""
    return layer.options.word("Padding", PADDINGS)


def margins(
    sizes: Sequence[int | None], kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int], how: str
) -> dict[str, Any]:
    """The attributes of ONNX that say where the padding is."""
    if how == "VALID":
        return {}
    both = [_margin(*one) for one in zip(sizes, kernel, stride, dilation, strict=True)]
    known = [b for b in both if b is not None]
    if len(known) < len(both):
        return {"auto_pad": "SAME_UPPER"}
    return {"pads": (*(b for b, _ in known), *(e for _, e in known))} if any(e for _, e in known) else {}


def _margin(n: int | None, k: int, s: int, d: int) -> tuple[int, int] | None:
    """Padding in front and behind; None if it depends on a size that is free."""
    reach = (k - 1) * d + 1
    if s == 1:
        total = reach - 1
    elif n is None:
        return None
    else:
        total = max(0, (-(-n // s) - 1) * s + reach - n)
    return total // 2, total - total // 2
