"""Samples from folders: images, or raw buffers; several inputs from several folders.

    cats/a.jpg dogs/b.jpg           class folders, sorted:        cats = 0, dogs = 1
    0/a.jpg 7/b.jpg                 folders named by a number:    0, 7; numbers and names mixed are refused
    a.jpg b.jpg                     no labels
    a.bin b.bin                     one sample a file, in the dtype and shape of the input

Files are sorted by their path; several folders are paired in this order.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fewbit.config import DataConfig
from fewbit.data.arrays import same_counts
from fewbit.data.base import Array, Rows, Samples
from fewbit.data.images import ImageRecipe, image_recipe, load_image
from fewbit.data.signature import Slot, counted, fit_values, show
from fewbit.errors import BadSample, DataError, EmptyData

IMAGES = frozenset(
    ".jpg .jpeg .jpe .jfif .png .bmp .dib .gif .webp .tif .tiff .ppm .pgm .pbm .pnm .tga .jp2 .avif .ico".split()
)
CHUNK = 1 << 20

Reader = Callable[[Path], Array]


class FileSamples:
    """One sample a file, all for one input. See `base.Samples`."""

    single = True

    def __init__(
        self,
        root: Path,
        files: Sequence[Path],
        reader: Reader,
        slot: Slot,
        workers: int,
        recipe: ImageRecipe | None = None,
    ) -> None:
        self._root, self._files, self._reader, self._slot = root, files, reader, slot
        self.workers, self.recipe = workers, recipe
        self.labels = class_labels(files)

    def __len__(self) -> int:
        return len(self._files)

    def read(self, index: Sequence[int]) -> Rows:
        """See `base.Samples`."""
        names = [self._files[i].as_posix() for i in index]
        samples = [self._reader(self._root / self._files[i]) for i in index]
        x = np.stack(samples) if self._slot.stacked else samples[0]
        labels = None if self.labels is None else self.labels[list(index)]
        return Rows({self._slot.name: fit_values(self._slot, x, names)}, labels, names)

    def digest(self) -> str:
        """See `base.Samples`: names, sizes and bytes of the files."""
        sha = hashlib.sha256()
        for f in self._files:
            path = self._root / f
            try:
                sha.update(f"{f.as_posix()} {path.stat().st_size}\n".encode())
                with path.open("rb") as stream:
                    while block := stream.read(CHUNK):
                        sha.update(block)
            except OSError as e:
                raise DataError(f"cannot read {path}: {e}") from e
        return sha.hexdigest()


class JoinedSamples:
    """Sample i of every input from a part of its own. See `base.Samples`."""

    def __init__(self, parts: Sequence[Samples]) -> None:
        self._parts = parts
        self.workers = max(p.workers for p in parts)
        self.single = any(p.single for p in parts)

    def __len__(self) -> int:
        return len(self._parts[0])

    def read(self, index: Sequence[int]) -> Rows:
        """See `base.Samples`."""
        rows = [p.read(index) for p in self._parts]
        labels = next((r.labels for r in rows if r.labels is not None), None)
        return Rows({k: v for r in rows for k, v in r.feeds.items()}, labels, rows[0].names)

    def digest(self) -> str:
        """See `base.Samples`."""
        return hashlib.sha256(" ".join(p.digest() for p in self._parts).encode()).hexdigest()


def join_samples(parts: Mapping[str, Samples], what: str) -> Samples:
    """Pair the samples of several inputs by their order.

    Raises:
        DataError: the counts differ.
    """
    same_counts({name: len(p) for name, p in parts.items()}, what)
    return JoinedSamples(list(parts.values()))


def folder_samples(root: Path, slot: Slot, config: DataConfig) -> tuple[FileSamples, bool]:
    """Open a folder of images or of .bin files.

    Returns:
        The samples, and whether they are images.

    Raises:
        EmptyData: it holds neither.
        DataError: it holds both, or the input cannot take them.
    """
    files = list_files(root)
    images = [f for f in files if f.suffix.lower() in IMAGES]
    buffers = [f for f in files if f.suffix.lower() == ".bin"]
    if images and buffers:
        held = f"{counted(len(images), 'image')} and {counted(len(buffers), '.bin file')}"
        raise DataError(f"{root} holds {held}; keep one kind in a folder")
    if images:
        recipe = image_recipe(slot, config)
        workers = min(4, os.cpu_count() or 1)
        return FileSamples(root, images, lambda p: load_image(p, recipe), slot, workers, recipe), True
    if buffers:
        shape = _fixed(slot, root)
        return FileSamples(root, buffers, lambda p: load_buffer(p, slot, shape), slot, 1), False
    kinds = Counter(f.suffix.lower() or "no extension" for f in files).most_common(3)
    held = ", ".join(f"{n} x {kind}" for kind, n in kinds) or "nothing"
    raise EmptyData(f"{root} holds no image and no .bin file; it holds {held}")


def list_files(root: Path) -> list[Path]:
    """Files below a folder, relative to it and sorted; hidden ones are left out, links to folders are followed."""
    found, seen = [], set()
    for folder, subs, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        subs[:] = [] if real in seen else sorted(s for s in subs if not s.startswith((".", "__MACOSX")))
        if real not in seen:
            found += [Path(folder, f).relative_to(root) for f in files if not f.startswith(".")]
        seen.add(real)
    return sorted(found, key=lambda f: f.parts)


def class_labels(files: Sequence[Path]) -> NDArray[np.int64] | None:
    """Class numbers from the first folder of each path; None if a file lies in no folder.

    Raises:
        DataError: some folders are named by a number and some are not, so that no numbering is right for all; or two
            stand for the same number.
    """
    if any(len(f.parts) < 2 for f in files):
        return None
    folders = sorted({f.parts[0] for f in files})
    odd = [name for name in folders if not name.isdecimal()]
    if odd and len(odd) < len(folders):
        number_one = next(name for name in folders if name.isdecimal())
        raise DataError(
            f"class folders are named by numbers, like {number_one!r}, but not {_some(odd)}; "
            "name every folder by its class number, or none (then they count in sorted order)"
        )
    number = {name: i if odd else int(name) for i, name in enumerate(folders)}
    counts = Counter(number.values())
    twice = [name for name in folders if counts[number[name]] > 1]
    if twice:
        raise DataError(f"several class folders stand for one class number: {_some(twice)}; keep one for each class")
    return np.array([number[f.parts[0]] for f in files], np.int64)


def _some(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _fixed(slot: Slot, root: Path) -> tuple[int, ...]:
    if not all(isinstance(d, int) for d in slot.one):
        raise DataError(
            f"{root} holds raw buffers, which do not say their shape, and neither does {slot}; fix the shape when the "
            "network is loaded – --input-shapes, input_shapes= or, of the converter's flags, --inputShape – or hand "
            ".npy or .npz"
        )
    return tuple(d for d in slot.one if isinstance(d, int))


def load_buffer(path: Path, slot: Slot, shape: tuple[int, ...]) -> Array:
    """Read a raw buffer as one sample.

    Raises:
        BadSample: its size is not that of the sample.
    """
    try:
        raw = path.read_bytes()
    except OSError as e:
        raise BadSample(f"cannot read {path}: {e}") from e
    want = int(np.prod(shape, dtype=np.int64)) * slot.dtype.itemsize
    if len(raw) != want:
        raise BadSample(f"{path} has {len(raw)} bytes; a sample of {slot}, {show(shape)}, has {want}")
    return np.frombuffer(raw, slot.dtype).reshape(shape)
