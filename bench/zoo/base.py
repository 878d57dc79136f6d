"""Network: where a file comes from, what to calibrate it on, what to judge it on, and by what measure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Feeds = dict[str, np.ndarray[Any, Any]]
Outputs = Mapping[str, np.ndarray[Any, Any]]
Metric = Callable[[Sequence[Outputs], Sequence[Any]], dict[str, float]]
Versus = Callable[[Sequence[Outputs], Sequence[Outputs]], dict[str, float]]


@dataclass(frozen=True)
class Network:
    """One network of the zoo.

    Args:
        name: its word. build: path of the .onnx file; fetched or written when it is missing.
        calib: feeds to calibrate on, batch 1, the same in every call.
        judge: pairs of feeds and label (None: there is none); not among those calibrated on.
        metric: outputs and labels of all judged samples, in their order -> figures of the task.
        versus: outputs of the float network and of the integer one -> figures of their agreement on the task.
        scores: output whose last axis are classes; the highest of float and integer network are compared.
        note: what one should know to read the figures.
    """

    name: str
    build: Callable[[], Path]
    calib: Callable[[], Iterator[Feeds]]
    judge: Callable[[], Iterator[tuple[Feeds, Any]]]
    metric: Metric | None = None
    versus: Versus | None = None
    scores: str = ""
    note: str = ""


def top1(output: str) -> Metric:
    """Share of the labelled samples whose label is the highest score, in percent."""

    def measure(outputs: Sequence[Outputs], labels: Sequence[Any]) -> dict[str, float]:
        hits = [int(o[output][0].argmax()) == y for o, y in zip(outputs, labels, strict=True) if y is not None]
        return {"top-1 %": 100 * float(np.mean(hits))} if hits else {}

    return measure
