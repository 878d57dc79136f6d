"""Samples from a record file: every record an image behind its labels.

    one label a record                      labels (B,)                     class numbers; float32 if one is a fraction
    header, then objects (detection)        labels (B, objects, width)      class, left, top, right, bottom, …
    several labels otherwise                labels (B, most)

The labels of detection begin with the length of their header and that of an object. Where a record has fewer objects or
labels than another one of the file, the rest is -1. The order is that of the file.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fewbit.config import DataConfig
from fewbit.data.base import Array, Rows
from fewbit.data.imagelist import HEADER, read_labels, unpack
from fewbit.data.images import ImageRecipe, image_recipe, load_image
from fewbit.data.recordio import RecordReader
from fewbit.data.signature import Slot, fit_values
from fewbit.errors import BadSample, DataError, EmptyData

CHUNK = 1 << 20
SEEN = HEADER.size + 8
"""Bytes of a record that tell the form of its labels: header and two labels."""

WIDTH = 5
"""Numbers of an object, at least: class and four sides."""


@dataclass(frozen=True)
class LabelForm:
    """What labels become.

    Args:
        shape: of one sample's labels. objects: whether a header stands before them.
    """

    shape: tuple[int, ...]
    objects: bool = False


class RecordSamples:
    """One image a record, for one input. See `base.Samples`."""

    single = True

    def __init__(self, reader: RecordReader, recipe: ImageRecipe, slot: Slot) -> None:
        self._reader, self.recipe, self._slot = reader, recipe, slot
        self._form = label_form(reader)
        self.workers = min(4, os.cpu_count() or 1)

    def __len__(self) -> int:
        return len(self._reader)

    def read(self, index: Sequence[int]) -> Rows:
        """See `base.Samples`."""
        names, samples, labels = [], [], []
        for i in index:
            where = self._reader.where(i)
            header, content = unpack(self._reader.read(i), where)
            samples.append(load_image(io.BytesIO(content), self.recipe, where))
            labels.append(shaped(np.array(header.labels, np.float32), self._form, where))
            names.append(f"record {header.id}")
        x = np.stack(samples) if self._slot.stacked else samples[0]
        return Rows({self._slot.name: fit_values(self._slot, x, names)}, _whole(np.stack(labels), self._form), names)

    def digest(self) -> str:
        """See `base.Samples`: the bytes of the file."""
        sha = hashlib.sha256()
        try:
            with self._reader.path.open("rb") as stream:
                while block := stream.read(CHUNK):
                    sha.update(block)
        except OSError as e:
            raise DataError(f"cannot read {self._reader.path}: {e}") from e
        return sha.hexdigest()


def record_samples(path: Path, slot: Slot, config: DataConfig) -> RecordSamples:
    """Open a record file.

    Raises:
        EmptyData: it holds no record.
        DataError: it is damaged, or the input takes no images.
    """
    try:
        recipe = image_recipe(slot, config)
    except DataError as e:
        raise DataError(f"of record files only images are read: {path} cannot be fed here. {e}") from e
    reader = RecordReader(path)
    if not len(reader):
        raise EmptyData(f"{path} holds no record")
    return RecordSamples(reader, recipe, slot)


def label_form(reader: RecordReader) -> LabelForm:
    """What the labels of a file become. If the first record has one label, so must all; else all are looked at.

    Raises:
        BadSample: a record is too short for its labels.
    """
    head, length = next(reader.heads(SEEN))
    if _count(head, length, reader.where(0)) <= 1:
        return LabelForm(())
    counts, objects = [], []
    for i, (head, length) in enumerate(reader.heads(SEEN)):
        counts.append(_count(head, length, reader.where(i)))
        objects.append(_objects(read_labels(head, length, reader.where(i))[0], counts[-1]))
    most, width = max(found or (0, 0) for found in objects)
    if most and all(found is not None and found[1] == width for found in objects):
        return LabelForm((most, width), objects=True)
    return LabelForm((max(counts),))


def _count(head: bytes, length: int, where: str) -> int:
    read_labels(head, length, where)  # checks
    return max(1, HEADER.unpack_from(head)[0])


def _objects(labels: Array, count: int) -> tuple[int, int] | None:
    """How many objects `count` labels hold and how long one is, by the first two of them; None: they are others."""
    if count < 2 or not np.isfinite(labels[:2]).all():
        return None
    before, width = (float(x) for x in labels[:2])
    if before % 1 or width % 1 or not 2 <= before <= count or width < WIDTH or (count - before) % width:
        return None
    return int((count - before) // width), int(width)


def shaped(labels: Array, form: LabelForm, where: str) -> Array:
    """The labels of one record in the form that all have, with -1 where there are none.

    Raises:
        BadSample: they have another form.
    """
    if not form.shape:
        if labels.size > 1:
            raise BadSample(
                f"{where} has {labels.size} labels, and the first record has one; pack those of one kind into a file"
            )
        return labels.reshape(())
    if form.objects:
        found = _objects(labels, labels.size)
        if found is None or found[1] != form.shape[1] or found[0] > form.shape[0]:
            raise BadSample(f"{where} has labels that are no objects as those of the others; was the file replaced?")
        labels = labels[int(labels[0]) :].reshape(found)
    y = np.full(form.shape, -1, np.float32)
    y[tuple(slice(0, n) for n in labels.shape)] = labels
    return y


def _whole(labels: Array, form: LabelForm) -> Array:
    """Class numbers as int64; whatever else stays as it is."""
    if form.shape or not np.isfinite(labels).all() or (labels % 1).any() or (np.abs(labels) > 2**24).any():
        return labels
    return labels.astype(np.int64)
