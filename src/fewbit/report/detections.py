"""How well a detector does: mean average precision, and that of its float original; see `core/detection.py`.

labels   (images, objects, 5): id, xmin, ymin, xmax, ymax, relative; a sixth number above 0 marks difficult ones
output   (images, rows, 6): id, score, xmin, ymin, xmax, ymax; rows with an id below 0 are none
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.core.blocks import Block, Facts, Loud, Shown, Table, to_text
from fewbit.core.detection import ClassScore, Matches, mean_average_precision
from fewbit.core.runner import Runner
from fewbit.core.tables import number, percent, plain
from fewbit.data.base import Batch
from fewbit.errors import ConfigError, DataError, EmptyData, ModelError, unknown

Array = NDArray[Any]
ROW, OBJECT = 6, 5
METRICS = ("accuracy", "map")


@dataclass(frozen=True, repr=False)
class DetectionEvaluation(Shown):
    """What was counted.

    Args:
        output: the output that was read as detections. samples: images seen.
        overlap: that makes a hit.
        classes: class number → what was found. reference: the same for the float network; empty without one.
        not_finite: images for which detections hold NaN or inf.
    """

    output: str
    samples: int
    overlap: float = 0.5
    classes: Mapping[int, ClassScore] = field(default_factory=dict)
    reference: Mapping[int, ClassScore] = field(default_factory=dict)
    not_finite: int = 0

    @property
    def map(self) -> float:
        """Mean over the classes of the area under precision over recall, 0 to 1; NaN without objects."""
        return mean_average_precision(dict(self.classes))

    @property
    def map_points(self) -> float:
        """The same by eleven points, as VOC 2007 has it."""
        return mean_average_precision(dict(self.classes), points=True)

    @property
    def drop(self) -> float | None:
        """Loss of mAP (area) against the reference, as a share (0.01 = one point); None without one."""
        return mean_average_precision(dict(self.reference)) - self.map if self.reference else None

    def text(self) -> str:
        """Lines for people."""
        return to_text(self._blocks())

    def _blocks(self) -> list[Block]:
        objects = sum(c.objects for c in self.classes.values())
        lines = [("output", f"{self.output}, an overlap of {number(self.overlap)} is a hit")]
        lines += [("samples", f"{self.samples}, {objects} objects")]
        lines += [("mAP", _both(self.map, self.map_points))]
        if self.reference:
            before = dict(self.reference)
            means = (mean_average_precision(before, points=p) for p in (False, True))
            lines += [("mAP float", _both(*means)), ("mAP lost", f"{number((self.drop or 0) * 100, 2)} points")]
        head = ["<class", ">objects", ">detections", ">hits", ">AP"] + [">AP float"] * bool(self.reference)
        parts: list[Block] = [Facts(lines), "", Table(head, [self._row(k, c) for k, c in self.classes.items()])]
        loud = f"{self.not_finite} of {self.samples} samples give NaN or inf detections"
        return [*parts, Loud([loud])] if self.not_finite else parts

    def _brief(self) -> str:
        lost = f", {number(self.drop * 100, 2)} points lost" if self.drop is not None else ""
        return f"mAP {_both(self.map, self.map_points)}{lost}, {self.samples} samples"

    def _row(self, kind: int, score: ClassScore) -> list[str]:
        row = [str(kind), str(score.objects), str(score.detections), str(score.hits), _share(score.area)]
        if self.reference:
            row.append(_share(self.reference[kind].area) if kind in self.reference else "-")
        return row

    def to_json(self) -> dict[str, Any]:
        """Everything, as plain dicts, with the means."""
        found = plain(self) | {"map": plain(self.map), "map_points": plain(self.map_points), "drop": plain(self.drop)}
        if self.reference:
            means = {p: mean_average_precision(dict(self.reference), points=p) for p in (False, True)}
            found |= {"map_reference": plain(means[False]), "map_points_reference": plain(means[True])}
        return found


def _both(area: float, points: float) -> str:
    return f"{_share(area)} (by 11 points {_share(points)})"


def _share(x: float) -> str:
    return percent(None if np.isnan(x) else x, 2)


def metric_of(batch: Batch | None, wish: str | None = None) -> str:
    """What to count: what was wished for, else mAP where labels are objects, else accuracy.

    Raises:
        UnknownName: there is no such metric.
    """
    if wish is not None and wish not in METRICS:
        raise unknown("metric", wish, METRICS)
    objects = batch is not None and batch.labels is not None and np.ndim(batch.labels) == 3
    return wish or ("map" if objects else "accuracy")


def evaluate_detector(
    runner: Runner,
    batches: Iterable[Batch],
    reference: Runner | None = None,
    *,
    output: str | None = None,
    overlap: float = 0.5,
    num_skipped_batches: int = 0,
    num_inference_batches: int | None = None,
) -> DetectionEvaluation:
    """Compare what a detector finds with what is there.

    Args:
        runner: the network. reference: its float original. batches: the data, with objects as labels.
        output: which output holds the detections; default: the last of shape (images, rows, 6).
        overlap: that makes a hit, above 0 and up to 1.
        num_skipped_batches: pass over this many first. num_inference_batches: stop after this many.

    Raises:
        UnknownName: no such output. ModelError: no output looks like detections.
        DataError: labels are missing, or no objects. EmptyData: no batch is left.
    """
    for name, n, least in (
        ("num_skipped_batches", num_skipped_batches, 0),
        ("num_inference_batches", num_inference_batches, 1),
    ):
        if n is not None and n < least:
            raise ConfigError(f"{name} is {n!r}; it must be {least} or more")
    if not 0 < overlap <= 1:
        raise ConfigError(f"overlap is {overlap!r}; it must be above 0 and up to 1")
    stop = None if num_inference_batches is None else num_skipped_batches + num_inference_batches
    ours, theirs, samples, broken = Matches(overlap), Matches(overlap), 0, 0
    for batch in islice(batches, num_skipped_batches, stop):
        answers = runner.run(batch.feeds)
        output = output if samples else pick_detections(answers, output)
        found = _rows(answers, str(output))
        objects = _objects(batch, len(found))
        ours.update(found, objects)
        if reference is not None:
            theirs.update(_rows(reference.run(batch.feeds), str(output)), objects)
        samples += len(found)
        broken += int(np.count_nonzero(~np.isfinite(found).all((1, 2))))
    if not samples:
        after = f" after the first {num_skipped_batches}" if num_skipped_batches else ""
        raise EmptyData(f"the data holds no batch{after}; there is nothing to evaluate")
    return DetectionEvaluation(str(output), samples, overlap, ours.result(), theirs.result(), broken)


def _detection_like(x: Array) -> bool:
    return x.dtype.kind == "f" and x.ndim == 3 and x.shape[2] == ROW


def pick_detections(answers: Mapping[str, Array], wish: str | None = None) -> str:
    """The output to read as detections: the one wished for, else the last that looks like it.

    Symbols for training give class probabilities (images, classes, rows) as well, and first.
    """
    if wish is not None and wish not in answers:
        raise unknown("output", wish, answers)
    fit = [name for name, x in answers.items() if _detection_like(x) and wish in (None, name)]
    if fit:
        return fit[-1]
    shown = ", ".join(f"{k} {x.dtype}{list(x.shape)}" for k, x in answers.items())
    which = f"output {wish!r} does not look" if wish is not None else "no output looks"
    raise ModelError(
        f"{which} like detections, which are floating-point of shape (images, rows, 6): id, score, xmin, ymin, xmax, "
        f"ymax; the outputs are {shown}. The metric accuracy is for classifiers; compare works for every network"
    )


def _rows(answers: Mapping[str, Array], output: str) -> Array:
    if output not in answers:
        raise unknown("output of the float network", output, answers)
    return np.asarray(answers[output])


def _objects(batch: Batch, images: int) -> Array:
    """Labels, checked."""
    if batch.labels is None:
        raise DataError("the data has no labels; mAP needs the objects of every image, as a .rec file can hold them")
    objects = np.asarray(batch.labels)
    if objects.ndim != 3 or len(objects) != images or objects.shape[2] < OBJECT:
        raise DataError(
            f"batch {batch.index}: labels are {objects.dtype}{list(objects.shape)}; mAP needs ({images}, objects, 5), "
            "each object [id, xmin, ymin, xmax, ymax]"
        )
    return objects
