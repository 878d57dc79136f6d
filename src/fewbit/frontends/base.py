"""The registry of front ends: a file ending, and the function that turns such a file into a Model."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from fewbit.errors import ConfigError, ModelFormatError, UsageError
from fewbit.frontends.ways_in import OF_TORCH, check_there, way_in
from fewbit.graph.model import Model

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.nn import Module

Shapes = Mapping[str, Sequence[int | None]]

MOST = 2**31 - 1
"""Largest size of an axis that can be asked for."""


@dataclass(frozen=True)
class Ask:
    """What a front end is asked for.

    Args:
        allow_quantized: accept a network that holds quantized operators already.
        input_shapes: of inputs whose shape the file does not tell, or leaves free; None and 0 are free.
        params: the file with the weights, where it lies elsewhere than usual.
    """

    allow_quantized: bool = False
    input_shapes: Shapes = field(default_factory=dict)
    params: Path | None = None


Rule = TypeVar("Rule")


def registering(table: dict[str, Rule]) -> Callable[..., Callable[[Rule], Rule]]:
    """The decorator that puts a rule into a front end's table under every name that its operator has."""

    def op(*names: str) -> Callable[[Rule], Rule]:
        def add(rule: Rule) -> Rule:
            for name in names:
                assert name not in table, f"two rules for {name!r}"
                table[name] = rule
            return rule

        return add

    return op


Loader = Callable[[Path, Ask], Model]
FRONTENDS: dict[str, Loader] = {}
PREFIXES: dict[str, str] = {}
"""Ending that turns a prefix into a file, for checkpoints that are called by their prefix → what it is."""


def frontend(*endings: str, prefix: str = "") -> Callable[[Loader], Loader]:
    """Register the function that loads files of these endings; with `prefix`, also what PREFIX + prefix is."""

    def add(loader: Loader) -> Loader:
        for ending in endings:
            assert ending not in FRONTENDS, f"front end {ending!r} is registered twice"
            FRONTENDS[ending] = loader
        if prefix:
            PREFIXES[prefix] = endings[0]
        return loader

    return add


def load(
    path: str | os.PathLike[str] | Module | ExportedProgram,
    sample: Any = None,
    *,
    allow_quantized: bool = False,
    input_shapes: Shapes | None = None,
    params: str | os.PathLike[str] | None = None,
) -> Model:
    """Read a trained network.

    Args:
        path: an `.onnx` file (weights in files beside it are mapped, not read); an MXNet checkpoint: its
            `prefix-symbol.json` (with `prefix-0000.params` beside it), its `.params`, or its prefix alone; a `.tflite`
            file; Caffe's `net.prototxt` (its `.caffemodel` beside it), or its `.caffemodel`; a PyTorch module, or what
            `torch.export.export` made of one.
        sample: what the forward of a module takes: a tensor or array, or a tuple of them, samples along the first axis.
        allow_quantized: accept a network that holds quantized operators already, to run or compare it.
        input_shapes: of inputs whose shape the file leaves open: `{"data": (1, 3, 224, 224)}`; None is free.
        params: the parameters of an MXNet symbol, or the weights of a Caffe network, if they are not called as usual.

    Raises:
        ModelFormatError: no such file, not a model, truncated; for other formats the message names the way in.
        ConfigError: `input_shapes` are no shapes. UsageError: a module without a sample, or a sample without one.
        AlreadyQuantized, UnsafePath, UnsupportedModel: see `fewbit.errors`.
    """
    _check_shapes(input_shapes or {})
    if not isinstance(path, (str, os.PathLike)):
        from fewbit.frontends.torch import load_network  # what is handed over decides whether torch is needed

        given = {"input_shapes": input_shapes, "params": params}
        return load_network(path, sample, [word for word, value in given.items() if value])
    if sample is not None:
        raise UsageError(f"sample is for PyTorch modules; {path} tells its inputs itself, leave sample out")
    file = file_of(Path(path))
    check_there(file, FRONTENDS, PREFIXES)
    loader = FRONTENDS.get(file.suffix.lower())
    if loader is None and file.suffix.lower() in OF_TORCH:
        from fewbit.frontends.torch import way_in as way_of_torch

        raise ModelFormatError(f"{file} {way_of_torch(file)}")
    if loader is None:
        endings = ", ".join(sorted(FRONTENDS))
        raise ModelFormatError(
            way_in(file) or f"{file}: the ending {file.suffix!r} says nothing to fewbit; it reads {endings} files"
        )
    return loader(file, Ask(allow_quantized, input_shapes or {}, Path(params) if params is not None else None))


def file_of(path: Path) -> Path:
    """The file that a path means: itself, or the one that the prefix of a checkpoint stands for."""
    if path.is_file():
        return path
    named = (path.with_name(path.name + ending) for ending in PREFIXES)
    return next((file for file in named if file.is_file()), path)


def _check_shapes(shapes: Shapes) -> None:
    for name, shape in shapes.items():
        fits = isinstance(shape, Sequence) and not isinstance(shape, (str, bytes))
        if not fits or not all(d is None or (isinstance(d, Integral) and 0 <= d <= MOST) for d in shape):
            raise ConfigError(
                f"input_shapes of {name!r} is {shape!r}; it must be whole numbers from 0 to {MOST}; 0 and None are free"
            )


def shapes_wanted(name: str) -> str:
    """How to tell the shape of an input, for messages."""
    return (
        f"give the shapes of the network's inputs, such as input_shapes={{{name!r}: (1, 3, 224, 224)}}; on the command "
        f"line --input-shapes {name}:1,3,224,224, for verbs that lack it after: fewbit convert MODEL -o model.onnx"
    )
