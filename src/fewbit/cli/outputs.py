"""Where a result goes: refused before the work starts, not after it, if it cannot or must not go there.

What a verb writes – OUT, its plan, its data file – is compared with all that it reads: model and its weight files,
config, plan, data. None of these is ever overwritten, under whatever name or link.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from fewbit.errors import ModelError, OutputError, UsageError


def output_file(
    out: Path | None, model: Path, *others: Path | None, data: str | None = None, network: bool = False
) -> Path:
    """Where the result goes.

    Args:
        out: as given. model, others, data: what is read.
        network: a network is written there, and its plan beside it.

    Raises:
        UsageError: none was given, or it is one of the inputs. OutputError: no such folder, a folder, not writable.
    """
    if out is None:
        raise UsageError("there is no output; give one with -o FILE")
    from fewbit.report.quantized import plan_path

    written = [out, *([plan_path(out), out.with_name(out.name + ".data")] if network else [])]
    for file in written:
        if file.exists():
            _refuse_input(file, out, model, [f for f in others if f is not None], data)
            if not file.is_file():
                raise OutputError(
                    f"cannot write {file}: it is {'a folder' if file.is_dir() else 'not a file'}; give another name"
                )
    if not out.parent.is_dir():
        raise OutputError(f"cannot write {out}: there is no folder {out.parent}; make it first")
    if not os.access(out.parent, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write {out}: no permission in the folder {out.parent}; give another one")
    return out


def _refuse_input(file: Path, out: Path, model: Path, others: list[Path], data: str | None) -> None:
    """Raise UsageError if a file that would be written is among what is read."""
    from fewbit.data.folders import IMAGES
    from fewbit.graph.external import external_files

    name = f"the output {out}" if file == out else f"{file}, which is written with the output {out},"
    if _same(file, [model, *others]):
        raise UsageError(f"{name} is the input itself; give it another name")
    if _same(file, _checkpoint(model)):
        raise UsageError(f"{name} belongs to the checkpoint {model}; give it another name")
    if _same(file, external_files(model)):
        raise UsageError(f"{name} holds weights of {model}; give it another name")
    sample = file.suffix.lower() in IMAGES | {".bin"}
    for part in _data_paths(data):
        inside = sample and part.is_dir() and file.resolve().is_relative_to(part.resolve())
        if inside or (part.is_file() and part.samefile(file)):
            raise UsageError(f"{name} is data that is read; give it another name")


def _checkpoint(model: Path) -> list[Path]:
    """Files of an MXNet checkpoint, and the network that its symbol points to."""
    from fewbit.frontends.base import file_of
    from fewbit.frontends.mxnet.checkpoint import checkpoint_files, pointed
    from fewbit.graph.external import external_files

    file = file_of(model)
    if file.suffix not in (".json", ".params"):
        return []
    with contextlib.suppress(ModelError, OSError):  # loading it will say what is wrong
        network = pointed(file) if file.suffix == ".json" else None
        return [file, network, *external_files(network)] if network is not None else [file, *checkpoint_files(file)]
    return [file]


def network_file(out: Path) -> Path:
    """The ONNX file of a result that is called by a symbol, which points to it: `x-symbol.json` → `x.onnx`."""
    from fewbit.frontends.mxnet.checkpoint import network_beside

    return network_beside(out) if out.suffix == ".json" else out


def _same(file: Path, others: list[Path] | frozenset[Path]) -> bool:
    return any(other.exists() and file.samefile(other) for other in others)


def _data_paths(data: str | None) -> Iterator[Path]:
    """Each path that the text may mean: all of it, or the parts of 'input:PATH,input:PATH'; the file of a function."""
    if data is None:
        return
    yield Path(data)
    for part in data.split(","):
        name, colon, path = part.strip().partition(":")
        if colon:
            yield from (Path(path), Path(part.strip().rpartition(":")[2]), Path(name.replace(".", "/") + ".py"))
