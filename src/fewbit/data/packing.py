"""Record files from images and back.

    photos/3/a.jpg, or a line of a .lst  ──pack──>  record: label 3, its number, the bytes of a.jpg as they are
    record                               ──unpack──>  3/17.jpg, and its line in records.lst

Images are decoded and encoded anew only if a size, a quality or an encoding is asked for.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np

from fewbit.core.writing import writing
from fewbit.data.folders import IMAGES, class_labels, list_files
from fewbit.data.imagelist import HEADER, Listed, RecordHeader, lst_text, pack_header, read_labels, unpack
from fewbit.data.images import METHODS, decode_image, shorter_edge
from fewbit.data.recordio import RecordReader, RecordWriter
from fewbit.errors import BadSample, ConfigError, DataError, EmptyData, FewbitWarning, OutputError, one_of

ENCODINGS = ("jpg", "png")
QUALITY = 95
LISTED = "records.lst"
"""What `unpack_records` adds: numbers, all labels, names."""

HEAD = 4096
KINDS = {
    b"\xff\xd8\xff": "jpg", b"\x89PNG\r\n\x1a\n": "png", b"GIF8": "gif", b"BM": "bmp", b"RIFF": "webp",
    b"II*\0": "tif", b"MM\0*": "tif",
}  # fmt: skip

Tick = Callable[[int, int], None] | None


@dataclass(frozen=True)
class Encode:
    """How images are encoded anew; with nothing set, they go in as they are.

    Raises:
        UnknownName, ConfigError: as for `QuantConfig`.
    """

    resize_shorter: int | None = None
    quality: int | None = None
    encoding: str | None = None

    def __post_init__(self) -> None:
        if self.encoding is not None:
            one_of("encoding", self.encoding, ENCODINGS)
        if self.resize_shorter is not None and self.resize_shorter < 1:
            raise ConfigError(f"resize_shorter is {self.resize_shorter}; it must be a whole number of 1 or more")
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise ConfigError(f"quality is {self.quality}; it must be a whole number from 1 to 100")
        if self.quality is not None and self.encoding == "png":
            raise ConfigError("quality is for jpg; png loses nothing")

    @property
    def untouched(self) -> bool:
        """Whether images go in as they are."""
        return self == Encode()


@dataclass(frozen=True)
class Found:
    """One record. `labels`, `id`: None if it is no image record; `bytes`: of the payload."""

    index: int
    id: int | None
    labels: tuple[float, ...] | None
    bytes: int
    kind: str


def listed_folder(root: Path) -> list[Listed]:
    """The images of a folder, sorted, their class folders as labels; without such folders all are 0, with a warning.

    Raises:
        EmptyData: it holds no image. DataError: class folders contradict each other.
    """
    files = [f for f in list_files(root) if f.suffix.lower() in IMAGES]
    if not files:
        raise EmptyData(f"{root} holds no image; give a folder that does, or one of folders of classes")
    labels = class_labels(files)
    if labels is None:
        warnings.warn(f"{root} has no class folders, so that all labels are 0", FewbitWarning, stacklevel=2)
        labels = np.zeros(len(files), np.int64)
    return [Listed(i, (float(n),), f.as_posix()) for i, (n, f) in enumerate(zip(labels, files, strict=True))]


def pack_records(
    rows: Sequence[Listed],
    root: Path,
    out: Path,
    encode: Encode | None = None,
    *,
    seed: int | None = None,
    with_list: bool = False,
    progress: Tick = None,
) -> int:
    """Write images into a record file and its index, whole or not at all.

    Args:
        rows: number, labels and path below `root` of each. seed: of a random order; None: as listed.
        with_list: write the list as .lst beside them, too. progress: takes the images done.

    Returns:
        Bytes of the record file.

    Raises:
        EmptyData: there are none. BadSample: a file is no image. DataError: it cannot be read.
        OutputError: nothing can be written there.
    """
    if not rows:
        raise EmptyData("the list holds no image, so there is nothing to pack; give another list")
    order = range(len(rows)) if seed is None else np.random.default_rng(seed).permutation(len(rows)).tolist()
    with RecordWriter(out) as writer:
        for done, i in enumerate(order, 1):
            row = rows[i]
            content = image_bytes(root / row.path, encode or Encode())
            writer.write(pack_header(RecordHeader(row.labels, row.index), content), row.index)
            if progress is not None:
                progress(done, done)
        if with_list:
            writer.write_beside(".lst", lst_text(rows))
    return out.stat().st_size


def image_bytes(path: str | Path, encode: Encode) -> bytes:
    """The bytes of an image file, encoded anew if that is asked for.

    Raises:
        BadSample: it is no image. DataError: it cannot be read.
    """
    path = Path(path)
    try:
        if path.exists() and not path.is_file():  # a list could name a device without end
            raise DataError(f"cannot read {path}: it is no regular file")
        raw = path.read_bytes()
    except (OSError, ValueError) as e:
        raise DataError(f"cannot read {path}: {getattr(e, 'strerror', None) or e}") from e
    if encode.untouched:
        if kind_of(raw) == "raw":
            raise BadSample(
                f"{path} is no image of a kind that record files hold ({', '.join(sorted(set(KINDS.values())))}); "
                "take it out, or say encoding jpg or png to make it one"
            )
        return raw
    image = decode_image(io.BytesIO(raw), "RGB", str(path))
    if encode.resize_shorter:
        image = image.resize(shorter_edge(image.size, encode.resize_shorter, str(path)), METHODS["LINEAR"])
    stream = io.BytesIO()
    if encode.encoding == "png":
        image.save(stream, "PNG")
    else:
        image.save(stream, "JPEG", quality=encode.quality or QUALITY)
    return stream.getvalue()


def kind_of(content: bytes) -> str:
    """What kind of image bytes begin: the suffix of its file, or `raw`."""
    return next((kind for begin, kind in KINDS.items() if content.startswith(begin)), "raw")


def list_records(reader: RecordReader) -> Iterator[Found]:
    """What each record is."""
    for i, (head, length) in enumerate(reader.heads(HEAD)):
        try:
            labels, (number, _) = read_labels(head, length, "")
            flag = HEADER.unpack_from(head)[0]
            skip = HEADER.size + 4 * flag
            if skip + len(max(KINDS, key=len)) > len(head) < length:
                head = reader.read(i)
                labels = read_labels(head, length, "")[0]
        except BadSample:
            yield Found(i, None, None, length, "raw")
            continue
        kind = kind_of(head[skip:])
        known = kind != "raw"
        yield Found(i, number if known else None, tuple(labels.tolist()) if known else None, length, kind)


def unpack_records(reader: RecordReader, out: Path, rows: Sequence[Listed] | None = None, progress: Tick = None) -> int:
    """Write every image into a folder of its own making, whole or not at all.

    Args:
        rows: names of the files by record id; None: a folder for each class, and in it the id.
        progress: takes the records done.

    Returns:
        Files written, without `records.lst`.

    Raises:
        BadSample: a record holds no image. DataError: no name, or one outside of the folder, for a record.
        OutputError: the folder is not empty, or cannot be written.
    """
    names = {row.index: row.path for row in rows} if rows is not None else None
    used: set[str] = {LISTED}
    listed: list[Listed] = []
    with _folder(out) as draft:
        for i, payload in enumerate(reader):
            where = reader.where(i)
            header, content = unpack(payload, where)
            kind = kind_of(content)
            if kind == "raw":
                raise BadSample(f"{where} holds no image of a known kind; only images are unpacked")
            if names is None:
                name = _made_name(header, kind, i, len(reader), used)
            else:
                name = _given_name(names, header.id, where)
            if name in used:
                raise DataError(f"{where} would be {name!r}, which is taken; give each record a name of its own")
            used.add(name)
            file = draft / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
            listed.append(Listed(header.id, header.labels, name))
            if progress is not None:
                progress(i + 1, i + 1)
        if len({row.index for row in listed}) < len(listed):  # a list needs numbers of their own
            listed = [replace(row, index=i) for i, row in enumerate(listed)]
        (draft / LISTED).write_text(lst_text(listed), "utf-8", newline="\n")
    return len(listed)


@contextlib.contextmanager
def _folder(out: Path) -> Iterator[Path]:
    """A folder that appears with all that is in it, or not at all."""
    there = out.is_dir()
    try:
        if out.exists() and (not there or any(out.iterdir())):
            raise OutputError(
                f"cannot write {out}: it {'holds files already' if there else 'is no folder'}; give a new folder"
            )
        if there:
            out.rmdir()
    except OSError as e:
        raise OutputError(f"cannot write {out}: {e.strerror or e}") from e
    try:
        with writing(out) as draft:
            draft.mkdir()
            yield draft
    except BaseException:
        if there and not out.exists():
            out.mkdir()
        raise


def _made_name(header: RecordHeader, kind: str, i: int, count: int, used: set[str]) -> str:
    """`3/17.jpg`; without a folder if the label is no class number, so that no wrong one is read from it."""
    (label, *others) = header.labels
    folder = f"{int(label)}/" if not others and label >= 0 and label % 1 == 0 and label < 2**24 else ""
    stem = f"{folder}{header.id:0{len(str(count - 1))}d}"
    return f"{stem}.{kind}" if f"{stem}.{kind}" not in used else f"{stem}-{i}.{kind}"


def _given_name(names: dict[int, str], number: int, where: str) -> str:
    """The path of a record in the list, made sure to lie inside of the folder."""
    if number not in names:
        raise DataError(f"{where} has the id {number}, which the list does not have; is it the list of this file?")
    path = PurePosixPath(names[number].replace("\\", "/"))
    drive = PureWindowsPath(names[number]).drive
    if path.is_absolute() or drive or not path.parts or ".." in path.parts or "\0" in str(path):
        raise DataError(f"{where} would be {names[number]!r}, outside of the folder; the list must hold paths inside")
    return str(path)
