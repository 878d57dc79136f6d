"""How well objects are found: average precision as in PASCAL VOC.

    hit        a detection that overlaps an object of its class enough, and is the best-scored to do so
    precision  hits ÷ detections so far, by falling score over all images      recall  hits so far ÷ objects
    AP         area under the envelope of precision over recall (VOC 2010 on), or the mean of that envelope at
               recall 0, 0.1 … 1 (VOC 2007)
    mAP        mean over the classes that have objects

An object that is marked difficult need not be found: it is not counted, and who finds it neither gains nor loses.
Boxes are [xmin, ymin, xmax, ymax], all in the same unit; overlap is shared area ÷ area of both together.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fewbit.errors import DataError

Array = NDArray[Any]
HIT, MISS, PASSED = 1, 0, -1
"""Verdicts on a detection; `PASSED`: it found a difficult object."""

RECALLS = np.arange(11) / 10


def overlaps(a: ArrayLike, b: ArrayLike) -> Array:
    """Overlap of all boxes (n, 4) with all boxes (m, 4), (n, m), 0 to 1; 0 where a box has no area."""
    x, y = np.asarray(a, np.float64)[:, None], np.asarray(b, np.float64)[None]
    side = np.minimum(x[..., 2:], y[..., 2:]) - np.maximum(x[..., :2], y[..., :2])
    both = np.maximum(side, 0).prod(-1)
    area = [np.maximum(z[..., 2:] - z[..., :2], 0).prod(-1) for z in (x, y)]
    union = area[0] + area[1] - both
    shared: Array = np.divide(both, union, out=np.zeros_like(both), where=union > 0)
    return shared


def judged(boxes: ArrayLike, objects: ArrayLike, difficult: ArrayLike, least: float = 0.5) -> Array:
    """The verdict on each detection of one class in one image.

    Args:
        boxes: (n, 4), best score first. objects: (m, 4). difficult: (m,), whether each need not be found.
        least: overlap that is enough.
    """
    shared = overlaps(boxes, objects)
    verdicts, found = np.full(len(shared), MISS), np.zeros(shared.shape[1], bool)
    passed = np.asarray(difficult, bool)
    for i, row in enumerate(shared):
        best = int(row.argmax()) if row.size else -1
        if best < 0 or row[best] < least:
            continue
        if passed[best]:
            verdicts[i] = PASSED
        elif not found[best]:
            found[best] = True
            verdicts[i] = HIT
    return verdicts


def average_precision(scores: ArrayLike, hits: ArrayLike, objects: int, *, points: bool = False) -> float:
    """AP of one class; NaN if there are no objects.

    Args:
        scores: of all detections, in any order; of equal ones the earlier counts first.
        hits: whether each is a hit. objects: how many there are to find.
        points: take the mean at eleven recalls instead of the area.
    """
    if objects == 0:
        return math.nan
    order = np.argsort(-np.asarray(scores, np.float64), kind="stable")
    right = np.asarray(hits, bool)[order].cumsum()
    recall, precision = right / objects, right / np.arange(1, len(right) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    if points:
        at = np.searchsorted(recall, RECALLS - 1e-12)
        return float(np.where(at < len(recall), np.append(envelope, 0)[at], 0).mean())
    return float((np.diff(recall, prepend=0) * envelope).sum())


@dataclass(frozen=True)
class ClassScore:
    """What was found of one class.

    Args:
        objects: that count, so not the difficult ones. detections: that count. hits: of these.
        area, points: AP by area and by eleven points; NaN without objects.
    """

    objects: int
    detections: int
    hits: int
    area: float
    points: float


@dataclass
class Matches:
    """Verdicts on detections, learned batch by batch; the boxes are not kept.

    Args:
        least: overlap that is enough.
    """

    least: float = 0.5
    objects: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    scores: dict[int, list[Array]] = field(default_factory=lambda: defaultdict(list))
    verdicts: dict[int, list[Array]] = field(default_factory=lambda: defaultdict(list))

    def update(self, detections: ArrayLike, objects: ArrayLike) -> None:
        """Add images.

        Args:
            detections: (images, n, 6) or more: id, score, box; rows with an id below 0, or that hold NaN or inf,
                are none.
            objects: (images, m, 5) or more: id, box, difficult if there; rows with an id below 0 are none.

        Raises:
            DataError: shapes do not fit.
        """
        found, given = np.asarray(detections), np.asarray(objects)
        if found.ndim != 3 or given.ndim != 3 or found.shape[2] < 6 or given.shape[2] < 5 or len(found) != len(given):
            raise DataError(
                f"detections have shape {found.shape}, objects {given.shape}; they must be (images, n, 6), "
                "(images, m, 5)"
            )
        for rows, wanted in zip(found, given, strict=True):
            usable = (rows[:, 0] >= 0) & np.isfinite(rows[:, :6]).all(1)
            self._image(rows[usable], wanted[wanted[:, 0] >= 0])

    def _image(self, rows: Array, objects: Array) -> None:
        rows = rows[np.argsort(-rows[:, 1], kind="stable")]
        difficult = objects[:, 5] > 0 if objects.shape[1] > 5 else np.zeros(len(objects), bool)
        for kind in np.unique(np.concatenate([rows[:, 0], objects[:, 0]])):
            own, there = rows[:, 0] == kind, objects[:, 0] == kind
            self.objects[int(kind)] += int(np.count_nonzero(there & ~difficult))
            self.scores[int(kind)].append(rows[own, 1])
            self.verdicts[int(kind)].append(judged(rows[own, 2:6], objects[there, 1:5], difficult[there], self.least))

    def result(self) -> dict[int, ClassScore]:
        """Class number → what was found, in order of class numbers."""
        return {kind: self._score(kind) for kind in sorted(self.objects)}

    def _score(self, kind: int) -> ClassScore:
        verdicts = np.concatenate(self.verdicts[kind])
        counts = verdicts != PASSED
        scores, hits, n = np.concatenate(self.scores[kind])[counts], verdicts[counts] == HIT, self.objects[kind]
        area, points = (average_precision(scores, hits, n, points=p) for p in (False, True))
        return ClassScore(n, len(hits), int(hits.sum()), area, points)


def mean_average_precision(classes: dict[int, ClassScore], *, points: bool = False) -> float:
    """MAP over the classes that have objects; NaN if there are none.

    Args:
        points: of the AP by eleven points instead of the area.
    """
    found = [c.points if points else c.area for c in classes.values() if c.objects]
    return float(np.mean(found)) if found else math.nan
