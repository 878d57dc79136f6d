"""ImageNet: folders of images, with class folders or with a file of labels.

    train/n01440764/*.JPEG     class folders, sorted: 0, 1, …    or as synset_words.txt numbers them
    val/n01440764/*.JPEG       the same
    val/*.JPEG + val.txt       lines "ILSVRC2012_val_00000001.JPEG 65", or one number a line in the order of the names

    image → shorter edge 256 → centre crop 224

The test images of ImageNet have no public labels, so split "test" is the folder val. Networks number the classes by
their sorted folder names, from 0. The development kit numbers them otherwise, from 1: its file of labels is of use only
with map_clsloc.txt, which says which number is which folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fewbit.data.datasets.bytestream import read_whole_file
from fewbit.data.datasets.found import FilePixels, Found, check_classes, check_count
from fewbit.data.folders import IMAGES, class_labels, list_files
from fewbit.data.images import ImageRecipe
from fewbit.errors import DataError, EmptyData

CLASSES = 1000
SHORTER, CROP = 256, 224
FOLDERS = {"train": "train", "test": "val"}
LISTS = ("{}.txt", "labels.txt", "{}_labels.txt")
KIT, KIT_MAP = "ILSVRC2012_validation_ground_truth.txt", "map_clsloc.txt"
WORDS = ("synset_words.txt", "LOC_synset_mapping.txt")
"""Lines "n01440764 tench, Tinca tinca", in the order of the classes."""

LARGEST = 1 << 28

RECIPE = ImageRecipe(
    colour="RGB",
    resize=None,
    shorter=SHORTER,
    crop=(CROP, CROP),
    method=Image.Resampling.BILINEAR,
    mean=np.zeros(1, np.float32),
    std=np.ones(1, np.float32),
    layout="NHWC",
    dtype=np.dtype(np.uint8),
)


def find_imagenet(place: Path, split: str) -> Found | None:
    """List the images of a folder with their labels; None: there is no such folder.

    Raises:
        DataError: images and labels do not belong together, or there are none.
    """
    folder = place / FOLDERS[split]
    if not folder.is_dir():
        return None
    files = [f for f in list_files(folder) if f.suffix.lower() in IMAGES]
    if not files:
        raise EmptyData(f"{folder} holds no image; put {FOLDERS[split]}/<class folder>/*.JPEG there")
    words = _words(place)
    flat = [f for f in files if len(f.parts) == 1]
    if flat and len(flat) < len(files):
        raise DataError(
            f"{folder} holds {len(flat)} images beside class folders, {flat[0]} being one; sort them into the folders"
        )
    if flat:
        labels = _listed(place, folder, files, split)
        check_classes(labels, CLASSES, str(folder))
        classes, note = tuple(words.values()) or tuple(map(str, range(CLASSES))), ""
    else:
        labels, classes, note = _by_folder(folder, files, words)
    return Found(FilePixels(folder, files, RECIPE), labels, str(folder), classes, note)


def _by_folder(
    folder: Path, files: Sequence[Path], words: dict[str, str]
) -> tuple[NDArray[np.int64], tuple[str, ...], str]:
    """Class numbers, class names and a note, from the folder that each image lies in."""
    names = sorted({f.parts[0] for f in files})
    if words:
        if strange := [n for n in names if n not in words]:
            raise DataError(f"{folder} holds the class folder {strange[0]!r}, which {WORDS[0]} beside it lacks")
        number = {name: i for i, name in enumerate(words)}
        return np.array([number[f.parts[0]] for f in files], np.int64), tuple(words.values()), ""
    labels = class_labels(files)
    assert labels is not None
    if all(n.isdecimal() for n in names):
        check_classes(labels, CLASSES, str(folder))
        return labels, tuple(map(str, range(int(labels.max()) + 1))), ""
    note = ""
    if len(names) != CLASSES:
        note = (
            f"{len(names)} class folders are numbered 0 to {len(names) - 1} in sorted order; networks of {CLASSES} "
            f"classes number them otherwise: put {WORDS[0]} beside {folder.name}/"
        )
    return labels, tuple(names), note


def _words(place: Path) -> dict[str, str]:
    """Folder name → what the class is, in the order of the classes; empty: there is no such file."""
    file = next((place / name for name in WORDS if (place / name).is_file()), None)
    if file is None:
        return {}
    found = {}
    for number, words in _lines(file):
        if len(words) < 2 or words[0] in found:
            raise DataError(f"line {number} of {file} must be a class folder of its own, a space, and its name")
        found[words[0]] = " ".join(words[1:])
    if len(found) != CLASSES:
        raise DataError(f"{file} has {len(found)} lines; it must have one for each of the {CLASSES} classes")
    return found


def _listed(place: Path, folder: Path, files: Sequence[Path], split: str) -> NDArray[np.int64]:
    """Labels from a file of labels."""
    names = [name.format(folder.name) for name in LISTS]
    lists = [p for at in (place, folder) for name in names if (p := at / name).is_file()]
    kit = next((p for at in (place, folder) if (p := at / KIT).is_file()), None) if split == "test" else None
    if not lists and kit is None:
        raise DataError(
            f"{folder} holds images without class folders and there is no file of labels; sort them into class "
            f"folders, or put {names[0]} into {place}: lines 'file number', classes counting from 0"
        )
    if lists:
        return _labels(lists[0], files)
    assert kit is not None
    table = next((p for at in (place, folder) if (p := at / KIT_MAP).is_file()), None)
    if table is None:
        raise DataError(
            f"{kit} numbers the classes from 1 in an order of its own, not in that of networks; put {KIT_MAP} of the "
            f"development kit beside it, or {names[0]}: lines 'file number', classes counting from 0"
        )
    return _kit_order(table)[_labels(kit, files, first=1) - 1]


def _labels(file: Path, files: Sequence[Path], first: int = 0) -> NDArray[np.int64]:
    """One number for each image: by its name, or by the order of the names."""
    named: dict[str, int] = {}
    plain: list[int] = []
    for number, words in _lines(file):
        *name, label = words
        if not (label.isascii() and label.isdecimal() and len(label) < 10) or (named if not name else plain):
            raise DataError(
                f"line {number} of {file} is {' '.join(words)[:60]!r}; each line must be a file and a class number, or "
                "each a class number alone"
            )
        if not first <= int(label) < CLASSES + first:
            raise DataError(
                f"line {number} of {file} has the class {label}; classes count from {first} to {CLASSES - 1 + first}"
            )
        if name:
            named[" ".join(name).rpartition("/")[2]] = int(label)
        else:
            plain.append(int(label))
    if not named:
        check_count(len(files), len(plain), f"{len(files)} files, and {file}")
        return np.array(plain, np.int64)
    if missing := [f for f in files if f.name not in named]:
        raise DataError(f"{file} lacks {len(missing)} of {len(files)} images; the first: {missing[0]}")
    return np.array([named[f.name] for f in files], np.int64)


def _kit_order(table: Path) -> NDArray[np.int64]:
    """Number of the development kit − 1 → place among the sorted class folders."""
    folders: dict[int, str] = {}
    for number, words in _lines(table):
        if len(words) < 2 or not words[1].isdecimal() or len(words[1]) > 9:
            raise DataError(f"line {number} of {table} must be: class folder, number, name")
        folders[int(words[1])] = words[0]
    place = {name: i for i, name in enumerate(sorted(folders.values()))}
    if sorted(folders) != list(range(1, CLASSES + 1)) or len(place) != CLASSES:
        raise DataError(
            f"{table} has {len(folders)} numbers for {len(place)} class folders; it must have the numbers 1 to "
            f"{CLASSES}, a folder for each"
        )
    return np.array([place[folders[i + 1]] for i in range(CLASSES)], np.int64)


def _lines(file: Path) -> Iterator[tuple[int, list[str]]]:
    """The words of each line that is not empty, with its number."""
    try:
        text = read_whole_file(file, LARGEST).decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise DataError(f"{file} is no text in UTF-8: {e}") from e
    return ((i, words) for i, line in enumerate(text.splitlines(), 1) if (words := line.split()))
