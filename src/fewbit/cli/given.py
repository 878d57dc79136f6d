"""What several verbs are given: arguments that mean the same everywhere, and their checks before the work starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
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
        help="Folder of images or .bin files, .npz, .npy, 'input:PATH,input:PATH' or 'module:function'.",
        show_default=False,
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="TOML file with tables [quantize] and [data]; flags win.", show_default=False),
]
Threads = Annotated[
    int | None, typer.Option(min=1, metavar="INT", help="Cores to use [default: all].", show_default=False)
]
Engine = Annotated[str, typer.Option(metavar="NAME", help="What runs the network: onnxruntime or openvino.")]
Limit = Annotated[
    int | None, typer.Option(min=1, metavar="INT", help="Use this many batches [default: all].", show_default=False)
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
    """The settings of data, from the file and the flags on top, as keywords."""
    return asdict(both_configs(config, words)[1])


def batch_count(source: Any, limit: int | None) -> int | None:
    """How many batches a run over data will see; None if it cannot be known."""
    if source.batches is None:
        return limit
    count = int(source.batches)
    return count if limit is None else min(limit, count)
