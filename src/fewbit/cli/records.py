"""`fewbit records`: pack images into a record file as MXNet reads it, list what one holds, unpack it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from fewbit.cli.given import Json, Quiet
from fewbit.cli.screen import answer, progress
from fewbit.errors import DataError, UsageError, one_of

USES = {
    "pack": ("output", "root", "resize_shorter", "quality", "encoding", "shuffle", "seed"),
    "list": (),
    "unpack": ("output", "lst"),
}
"""Which flags an action has a use for."""


def run(
    *,
    action: Annotated[str, typer.Argument(metavar="pack|list|unpack", help="What to do.", show_default=False)],
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE", help="pack: a folder of images, or a .lst file; else a .rec file.", show_default=False
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="PATH", help="pack: the .rec file; unpack: a new folder.", show_default=False
        ),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="pack: where paths of the .lst begin [default: its folder].", show_default=False
        ),
    ] = None,
    resize_shorter: Annotated[
        int | None,
        typer.Option(min=1, metavar="INT", help="pack: resize the shorter edge to this.", show_default=False),
    ] = None,
    quality: Annotated[
        int | None,
        typer.Option(
            min=1, max=100, metavar="INT", help="pack: of JPEG files made anew [default: 95].", show_default=False
        ),
    ] = None,
    encoding: Annotated[
        str | None,
        typer.Option(
            metavar="jpg|png", help="pack: encode images anew [default: leave them as they are].", show_default=False
        ),
    ] = None,
    shuffle: Annotated[bool, typer.Option("--shuffle", help="pack: in a random order.")] = False,
    seed: Annotated[
        int | None,
        typer.Option(min=0, metavar="INT", help="pack: seed of that order [default: 0].", show_default=False),
    ] = None,
    lst: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="unpack: the .lst that names the files.", show_default=False),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Pack images into a record file, list or unpack one.

    Record files (.rec) are MXNet's: images with their labels, one after another. Any verb takes one as --data.
    """
    one_of("action", action, USES)
    said = {
        "output": output, "root": root, "resize_shorter": resize_shorter, "quality": quality, "encoding": encoding,
        "shuffle": shuffle or None, "seed": seed, "lst": lst,
    }  # fmt: skip
    for name, value in said.items():
        if value is not None and name not in USES[action]:
            users = " and ".join(a for a, names in USES.items() if name in names)
            raise UsageError(f"--{name.replace('_', '-')} is for records {users}; records {action} has no use for it")
    if action == "list":
        _list(source, json=json, quiet=quiet)
    elif output is None:
        raise UsageError("there is no output; give one with -o PATH")
    elif action == "pack":
        _pack(source, output, said, json=json, quiet=quiet)
    else:
        _unpack(source, output, lst, json=json, quiet=quiet)


def _pack(source: Path, out: Path, said: Mapping[str, Any], *, json: bool, quiet: bool) -> None:
    """A folder or a list → OUT.rec and OUT.idx; of a folder also OUT.lst."""
    from fewbit.core.tables import size
    from fewbit.data.imagelist import read_lst
    from fewbit.data.packing import Encode, listed_folder, pack_records

    encode = Encode(said["resize_shorter"], said["quality"], said["encoding"])
    if said["seed"] is not None and not said["shuffle"]:
        raise UsageError("--seed is of the random order; give --shuffle with it")
    folder = source.is_dir()
    if folder and said["root"]:
        raise UsageError(f"--root is for a .lst file, and {source} is a folder; leave it out")
    beside = out.with_suffix(".lst")
    if folder and beside.exists() and not out.exists():
        raise UsageError(
            f"{beside}, which is written with {out}, is there already; pack that list, or take another name"
        )
    rows = listed_folder(source) if folder else read_lst(_file(source))
    root = source if folder else said["root"] or source.parent
    with progress("packing", len(rows), unit="images", quiet=quiet) as tick:
        seed = (said["seed"] or 0) if said["shuffle"] else None
        count = pack_records(rows, root, out, encode, seed=seed, with_list=folder, progress=tick)
    answer(
        lambda: f"{len(rows):,} images, {size(count)}: {out}",
        lambda: {"records": len(rows), "bytes": count, "output": str(out)},
        json=json,
        quiet=quiet,
    )


def _file(source: Path) -> Path:
    if not source.exists():
        raise DataError(f"{source}: there is no such file or folder; records pack takes a folder of images or a .lst")
    if source.suffix.lower() != ".lst":
        raise DataError(f"{source} is a file of an unknown kind; records pack takes a folder of images or a .lst")
    return source


def _list(source: Path, *, json: bool, quiet: bool) -> None:
    """What is in a record file."""
    from fewbit.core.tables import pairs, plain, size, table
    from fewbit.data.imagelist import numbers
    from fewbit.data.packing import list_records
    from fewbit.data.recordio import RecordReader

    reader = RecordReader(source)
    found = list(list_records(reader))

    def text() -> str:
        kinds = Counter(f.kind for f in found)
        lines = [
            ("records", f"{len(found):,}, {size(sum(f.bytes for f in found))}"),
            ("kinds", ", ".join(f"{n:,} {kind}" for kind, n in kinds.most_common()) or "-"),
            ("index", str(reader.index or "none; records are counted from the file")),
        ]
        rows = [
            (str(f.index), "-" if f.id is None else str(f.id), " ".join(numbers(f.labels)) if f.labels else "-",
             str(f.bytes), f.kind)
            for f in found
        ]  # fmt: skip
        return "\n".join([pairs(lines), "", table((">index", ">id", "<labels", ">bytes", "<kind"), rows)])

    answer(
        text,
        lambda: {"index": plain(reader.index and str(reader.index)), "records": plain(found)},
        json=json,
        quiet=quiet,
    )


def _unpack(source: Path, out: Path, lst: Path | None, *, json: bool, quiet: bool) -> None:
    """A record file → a folder."""
    from fewbit.data.imagelist import read_lst
    from fewbit.data.packing import unpack_records
    from fewbit.data.recordio import RecordReader

    reader = RecordReader(source)
    rows = read_lst(lst) if lst is not None else None
    with progress("unpacking", len(reader), unit="records", quiet=quiet) as tick:
        count = unpack_records(reader, out, rows, tick)
    answer(lambda: f"{count:,} images: {out}", lambda: {"records": count, "output": str(out)}, json=json, quiet=quiet)
