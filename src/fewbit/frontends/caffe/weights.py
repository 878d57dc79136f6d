"""The weights of a network: blobs by layer, shared ones included, and those that a filler makes.

Files before 2014 give every blob four axes, (1, 1, out, in) for a matrix; axes of size 1 are therefore left out where
shapes are compared. Two fillers give what they give however often one asks:

    constant    value
    bilinear    (1 - |x / f - c|) · (1 - |y / f - c|), f = ⌈k / 2⌉, c = (2f - 1 - f mod 2) / (2f)
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from math import prod

import numpy as np

from fewbit.errors import ModelFormatError, UnsupportedModel
from fewbit.frontends.caffe.message import Message
from fewbit.frontends.caffe.net import Spec, few
from fewbit.frontends.caffe.wire import Blob, blob
from fewbit.graph.model import Array

MOST_FILLED = 1 << 26
"""Weights that fillers make at most, in all: a file needs no bytes for them."""


class Weights:
    """Blobs by layer.

    Args:
        layers: messages of the file that holds the weights. file: what it is called, "" if there is none.
    """

    def __init__(self, layers: Sequence[Message], file: str) -> None:
        self._found: dict[str, list[Message]] = {}
        self._file = file
        for layer in layers:
            if layer.has("blobs"):
                self._found[str(layer.one("name", ""))] = layer.all("blobs")
        self._shared: dict[str, tuple[str, int]] = {}
        self._room = MOST_FILLED

    def share(self, specs: Sequence[Spec]) -> None:
        """Learn which layers share weights: those that give them the same name."""
        for spec in specs:
            for i, param in enumerate(spec.settings.all("param")):
                if param.one("name") and spec.name in self._found and i < len(self._found[spec.name]):
                    self._shared.setdefault(param.one("name"), (spec.name, i))

    def count(self, spec: Spec) -> int:
        """How many blobs the file has for a layer."""
        return len(self._found.get(spec.name, ()))

    def find(self, spec: Spec, i: int) -> Blob | None:
        """A blob, of the layer itself or of one that it shares it with; None if there is none."""
        name, at = spec.name, i
        if i >= len(self._found.get(name, ())):
            params = spec.settings.all("param")
            shared = self._shared.get(params[i].one("name", "")) if i < len(params) else None
            if shared is None:
                return None
            name, at = shared
        return blob(self._found[name][at], f"{self._file}: blob {at} of layer {name!r}")

    def get(
        self, spec: Spec, i: int, shape: Sequence[int | None], role: str, filler: Message | None, plain: float | None
    ) -> Array:
        """A weight, in the shape that is wanted.

        Raises:
            ModelFormatError: it is not there, or of another shape.
        """
        found = self.find(spec, i)
        if found is None:
            return self._filled(spec, shape, role, filler, plain)
        fitting = _matched(found.shape, shape)
        if fitting is None:
            said = ", ".join("any" if s is None else str(s) for s in shape)
            raise ModelFormatError(
                f"{spec.what}: its {role} in {self._file} has shape {found.shape}; ({said}) is needed. "
                "Does the file belong to this network?"
            )
        return found.array().reshape(fitting)

    def _filled(
        self, spec: Spec, shape: Sequence[int | None], role: str, filler: Message | None, plain: float | None
    ) -> Array:
        kind = str(filler.one("type", "constant")) if filler is not None else "constant"
        sizes = [s for s in shape if s is not None]
        if len(sizes) == len(shape) and prod(sizes) <= self._room:
            self._room -= prod(sizes)
            if kind == "bilinear" and len(sizes) == 4:
                return bilinear((sizes[0], sizes[1], sizes[2], sizes[3]))
            if kind == "constant" and (filler is not None or plain is not None):
                value = filler.one("value", 0.0) if filler is not None else plain
                return np.full(sizes, value, np.float32)
        if not self._file:
            raise ModelFormatError(
                f"{spec.what} needs its {role}, and there is no .caffemodel beside the network; "
                "give it: params=… in Python; on the command line first: fewbit convert MODEL -o model.onnx "
                "--params FILE"
            )
        near = get_close_matches(spec.name, self._found, n=2, cutoff=0.6)
        names = near or list(self._found)
        raise ModelFormatError(
            f"{self._file} has no {role} for {spec.what}; it has weights for {few(names) or 'no layer at all'}"
        )


def bilinear(shape: tuple[int, int, int, int]) -> Array:
    """What Caffe's filler makes for upsampling, (out, in, k, k)."""
    high, wide = shape[2:]
    if high != wide:
        raise UnsupportedModel(f"a bilinear filler makes square kernels; one of {high}x{wide} is asked for")
    factor = -(-wide // 2)
    centre = (2 * factor - 1 - factor % 2) / (2 * factor)
    line = 1 - np.abs(np.arange(wide) / factor - centre)
    return np.broadcast_to((line[:, None] * line[None, :]).astype(np.float32), shape).copy()


def _matched(have: Sequence[int], want: Sequence[int | None]) -> tuple[int, ...] | None:
    """The wanted shape, its one open size told by how many weights there are; None if they do not fit."""
    known = prod(s for s in want if s is not None)
    filled = tuple(prod(have) // max(known, 1) if s is None else s for s in want)
    return filled if [s for s in have if s != 1] == [s for s in filled if s != 1] else None
