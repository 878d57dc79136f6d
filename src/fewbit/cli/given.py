"""What several verbs are given: arguments that mean the same everywhere, and their checks before the work starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from fewbit.errors import UsageError

FloatModel = Annotated[Path, typer.Argument(metavar="MODEL", help="The float network.", show_default=False)]
AnyModel = Annotated[Path, typer.Argument(metavar="MODEL", help="The network, float or quantized.", show_default=False)]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where the result goes.", show_default=False)
]
Data = Annotated[
    str | None,
    typer.Option(
        metavar="DATA",
        help="Folder of images or .bin files, .rec, .npz, .npy, 'input:PATH,input:PATH' or 'module:function'.",
        show_default=False,
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="TOML file with tables [quantize] and [data], or a converter config of MindSpore Lite; flags win.",
        show_default=False,
    ),
]
Threads = Annotated[
    int | None, typer.Option(min=1, metavar="INT", help="Cores to use [default: all].", show_default=False)
]
Engine = Annotated[str, typer.Option(metavar="NAME", help="What runs the network: onnxruntime, openvino, ncnn.")]
Limit = Annotated[
    int | None, typer.Option(min=1, metavar="INT", help="Use this many batches [default: all].", show_default=False)
]
InputShapes = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME:SIZES",
        help="Shape of an input that the file leaves open: data:1,3,224,224; 0 or ? is free. May be repeated.",
        show_default=False,
    ),
]
Params = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Weights of an MXNet or Caffe network, if not called as usual.", show_default=False
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document, for machines.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print warnings and errors only.")]


def needed_data(data: str | None, why: str) -> str:
    """The data.

    Raises:
        UsageError: none was given.
    """
    if data is None:
        raise UsageError(f"{why}; give it with --data PATH")
    return data


def both_configs(config: Path | None, words: Mapping[str, Any]) -> tuple[Any, Any]:
    """QuantConfig and DataConfig, from the file and the flags on top."""
    from fewbit.api import settings

    return settings(config, words)


def data_words(config: Path | None, words: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of data that the file or the flags say, as keywords."""
    from fewbit.config.data import said_words

    both_configs(config, words)
    return {**(said_words(both_configs(config, {})[1]) if config is not None else {}), **words}


def batch_count(source: Any, limit: int | None) -> int | None:
    """How many batches a run over data will see; None if it cannot be known."""
    if source.batches is None:
        return limit
    count = int(source.batches)
    return count if limit is None else min(limit, count)


def read_shapes(given: Sequence[str] | None) -> dict[str, tuple[int | None, ...]]:
    """`data:1,3,224,224` → {"data": (1, 3, 224, 224)}; sizes of 0 and ? are None.

    Raises:
        UsageError: a text of another form, or an input twice.
    """
    found: dict[str, tuple[int | None, ...]] = {}
    for text in given or ():
        name, _, sizes = text.rpartition(":")
        parts = [part.strip() for part in sizes.split(",")]
        if not name or not all(part == "?" or (part.isascii() and part.isdecimal()) for part in parts):
            raise UsageError(
                f"input_shapes is {text!r}; it must look like data:1,3,224,224, with 0 or ? for sizes that are free"
            )
        if name in found:
            raise UsageError(f"input_shapes gives {name!r} twice; give each input once")
        found[name] = tuple(None if part == "?" else int(part) or None for part in parts)
    return found
