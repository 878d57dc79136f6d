"""Where a result goes: refused before the work starts, not after it, if it cannot or must not go there.

What a verb writes – OUT, its plan, its data file – is compared with all that it reads: model and its weight files,
config, plan, data. None of these is ever overwritten, under whatever name or link.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
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
    written = network_files(out) if network else {"": out}
    if out.suffix.lower() == ".onnx":  # of a large one the weights go beside it, whoever writes it
        written["its weights"] = data_file(out)
    for file in written.values():
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


def network_files(out: Path) -> dict[str, Path]:
    """A network that is written with its plan, in words; of a large one the weights lie beside it, too."""
    from fewbit.report.quantized import plan_path

    return {"the network": out, "its plan": plan_path(out), "its weights": data_file(out)}


def data_file(out: Path) -> Path:
    """Where the weights of a network lie that is too large for one file."""
    return out.with_name(f"{out.name}.data")


def output_folder(
    out: Path, names: Iterable[str], model: Path, *others: Path | None, data: str | None = None
) -> tuple[Path, ...]:
    """The files that are written into a folder, which is made if need be.

    Args:
        out: the folder, as given. names: of the files. model, others, data: what is read.

    Raises:
        UsageError: one of the files is an input. OutputError: no folder can be made or written there, or a folder is
        in the way of a file.
    """
    there = next(p for p in (out, *out.absolute().parents) if p.exists() or p.is_symlink())
    if not there.is_dir():
        why = "it is not a folder" if there == out else f"{there} is not a folder"
        raise OutputError(f"cannot write {out}: {why}; give another name")
    if not os.access(there, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write {out}: no permission in the folder {there}; give another one")
    files = tuple(out / name for name in names)
    for file in files if there == out else ():
        if file.exists():
            _refuse_input(file, out, model, [f for f in others if f is not None], data)
            if not file.is_file():
                what = "a folder" if file.is_dir() else "not a file"
                raise OutputError(f"cannot write {file}: it is {what}; give another folder than {out}")
    return files


def apart(outputs: Mapping[str, Path | None]) -> None:
    """Refuse two outputs of one command that are one file: the later would replace the earlier.

    Args:
        outputs: what is written, in words, and where; None: it is not.

    Raises:
        UsageError: two have the same place, under whatever name or link.
    """
    said = [(what, file) for what, file in outputs.items() if file is not None]
    for i, (what, file) in enumerate(said):
        for other, before in said[:i]:
            if file.resolve() == before.resolve() or (file.exists() and _same(file, [before])):
                raise UsageError(f"{other} and {what} are both {file}; give one of them another name")


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
    for part in data_paths(data):
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


def data_paths(data: str | None) -> Iterator[Path]:
    """Each path that the text may mean: all of it, or the parts of 'input:PATH,input:PATH'; the file of a function."""
    if data is None:
        return
    yield Path(data)
    for part in data.split(","):
        name, colon, path = part.strip().partition(":")
        if colon:
            yield from (Path(path), Path(part.strip().rpartition(":")[2]), Path(name.replace(".", "/") + ".py"))
