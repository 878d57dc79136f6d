"""ncnn's `.param` text: one line a layer, read into records and written back.

    7767517
    3 3                                                                       layers, blobs
    Input         in0         0 1 in0                                         type name, inputs and outputs: how many,
    Convolution   conv_0      1 1 in0 1 0=8 1=3 5=1 6=216 9=3 -23310=2,0,6    which; then key=value, or for an array
    InnerProduct  linear_0    1 1 1 out0 0=10 1=1 2=640                       -23300-key=count,value,value…

Values are kept as they are written, so that a file is written as it was read.
"""

from __future__ import annotations

import builtins
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from fewbit.errors import ModelFormatError

MAGIC = "7767517"
ARRAY = -23300
"""An array with key k is written under -23300 - k."""

MOST = 100_000
"""Layers, and blobs of a layer, in one file: nothing is allocated for what a file only claims."""


@dataclass(frozen=True)
class Layer:
    """One layer. `params` holds the values as they were written: "3", "0.1", "2,0.0,6.0", '"0w,-1"'."""

    type: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    params: dict[int, str] = field(default_factory=dict)

    def int(self, key: int, default: int = 0) -> int:
        """A whole number."""
        text = self.params.get(key)
        if text is None:
            return default
        try:
            return int(text)
        except ValueError:
            raise ModelFormatError(f"ncnn layer {self.name!r}: {key}={text!r}; it must be a whole number") from None

    def floats(self, key: builtins.int) -> tuple[float, ...]:
        """An array, or a number as an array of one; empty if it is not there."""
        text = self.params.get(key)
        if text is None:
            return ()
        parts = text.split(",")
        try:
            return tuple(float(p) for p in (parts[1:] if len(parts) > 1 else parts))
        except ValueError:
            raise ModelFormatError(f"ncnn layer {self.name!r}: {key}={text!r}; it must be numbers") from None

    def with_params(self, **changes: object) -> Layer:
        """The same with other values: `with_params(_8=2)`; None takes one away."""
        params = dict(self.params)
        for word, value in changes.items():
            key = int(word.removeprefix("_"))
            params.pop(key, None) if value is None else params.__setitem__(key, str(value))
        return replace(self, params=params)


def read_param(text: str) -> list[Layer]:
    """The layers of a `.param` file.

    Raises:
        ModelFormatError: it is not one; says in which line.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if not lines or lines[0] != MAGIC:
        raise ModelFormatError(f"this is no ncnn .param file: it begins with {lines[:1]!r} instead of {MAGIC}")
    counts = lines[1].split() if len(lines) > 1 else []
    if len(counts) != 2 or not all(c.isdigit() for c in counts):
        raise ModelFormatError(f"ncnn .param, line 2: {lines[1:2]!r}; it must be two numbers, of layers and of blobs")
    layers = [_layer(line, i) for i, line in enumerate(lines[2:], 3)]
    if len(layers) != int(counts[0]):
        raise ModelFormatError(f"the ncnn .param file has {len(layers)} layers and says that there are {counts[0]}")
    _check_wiring(layers)
    return layers


def _layer(line: str, number: int) -> Layer:
    words = line.split()
    if len(words) < 4 or not (words[2].isdigit() and words[3].isdigit()):
        raise ModelFormatError(f"ncnn .param, line {number}: {line[:80]!r}; it must be: type name inputs outputs …")
    ins, outs = int(words[2]), int(words[3])
    if ins + outs > min(MOST, len(words) - 4):
        raise ModelFormatError(f"ncnn .param, line {number}: {ins} inputs and {outs} outputs, but too few names")
    at = 4 + ins + outs
    params: dict[int, str] = {}
    for word in words[at:]:
        key, sign, value = word.partition("=")
        if not sign or not value or not key.lstrip("-").isdigit():
            raise ModelFormatError(f"ncnn .param, line {number}: {word[:80]!r}; it must be key=value")
        params[ARRAY - int(key) if int(key) <= ARRAY else int(key)] = value
    return Layer(words[0], words[1], tuple(words[4 : 4 + ins]), tuple(words[4 + ins : at]), params)


def _check_wiring(layers: Sequence[Layer]) -> None:
    """Raise ModelFormatError if a name is taken twice, or a blob is read before it is made."""
    made: set[str] = set()
    names: set[str] = set()
    for layer in layers:
        for blob in layer.inputs:
            if blob not in made:
                raise ModelFormatError(f"ncnn layer {layer.name!r} reads blob {blob!r}, which no layer before it makes")
        for blob in layer.outputs:
            if blob in made:
                raise ModelFormatError(f"ncnn layer {layer.name!r} makes blob {blob!r}, which another one makes too")
            made.add(blob)
        if layer.name in names:
            raise ModelFormatError(f"two ncnn layers are called {layer.name!r}")
        names.add(layer.name)


def write_param(layers: Iterable[Layer]) -> str:
    """The text of a `.param` file."""
    layers = list(layers)
    blobs = len({b for layer in layers for b in layer.outputs})
    lines = [MAGIC, f"{len(layers)} {blobs}"]
    for layer in layers:
        ends = f"{len(layer.inputs)} {len(layer.outputs)}"
        params = " ".join(f"{_key(k, v)}={v}" for k, v in layer.params.items())
        words = [f"{layer.type:<24} {layer.name:<24} {ends}", *layer.inputs, *layer.outputs, params]
        lines.append(" ".join(w for w in words if w))
    return "\n".join(lines) + "\n"


def _key(key: int, value: str) -> int:
    return ARRAY - key if "," in value and not value.startswith('"') else key


def inputs_of(layers: Iterable[Layer]) -> list[str]:
    """Blobs that the network is fed with."""
    return [layer.outputs[0] for layer in layers if layer.type == "Input"]


def outputs_of(layers: Sequence[Layer]) -> list[str]:
    """Blobs that no layer reads, in the order of their layers."""
    read = {b for layer in layers for b in layer.inputs}
    return [b for layer in layers for b in layer.outputs if b not in read]
