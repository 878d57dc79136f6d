"""A case: a network of one layer, with what it must answer: by `reference.py`, by OpenCV, or by both.

Inputs and weights are random numbers of the case's own name, so that only OpenCV's answers need to be stored
(tests/golden/caffe/outputs.npz, made by tests/golden/caffe/make/outputs.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from tests.frontends.caffe.writing import caffemodel, layer, network

Array = NDArray[Any]
Shape = tuple[int, ...]
IMAGE: Shape = (2, 6, 7, 8)


@dataclass(frozen=True)
class Case:
    """One layer called "l".

    Args:
        reference: inputs and weights → what it must answer; None leaves that to OpenCV.
        opencv: whether OpenCV reads it, and reads it as Caffe does.
        positive: inputs above 0. made: inputs that are not random.
    """

    name: str
    type: str
    body: str
    feeds: Mapping[str, Shape]
    blobs: Mapping[str, Sequence[Shape]] = field(default_factory=dict)
    reference: Callable[..., Any] | None = None
    opencv: bool = True
    positive: bool = False
    made: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        return network(self.body, **self.feeds)

    def inputs(self) -> dict[str, Array]:
        rng = np.random.default_rng(crc32(self.name.encode()))
        found = {k: rng.normal(0, 2, s).astype(np.float32) for k, s in self.feeds.items()}
        if self.positive:
            found = {k: np.abs(x) + np.float32(0.1) for k, x in found.items()}
        return found | {k: np.array(v, np.float32) for k, v in self.made.items()}

    def weights(self) -> dict[str, list[Array]]:
        rng = np.random.default_rng(crc32(self.name.encode()) + 1)
        return {k: [rng.uniform(0.5, 1.5, s).astype(np.float32) for s in shapes] for k, shapes in self.blobs.items()}

    def caffemodel(self) -> bytes:
        return caffemodel(self.weights())


def one(
    name: str, type_: str, settings: str = "", *shapes: Shape, blobs: Sequence[Shape] = (), tops: int = 1, **more: Any
) -> Case:
    """A case of one layer with inputs x, x1 …"""
    feeds = {f"x{i or ''}": s for i, s in enumerate(shapes or (IMAGE,))}
    body = layer(type_, settings, list(feeds), [f"y{i or ''}" for i in range(tops)])
    return Case(name, type_, body, feeds, {"l": blobs} if blobs else {}, **more)


def arranged(case: Case, found: Array) -> Array:
    """What a case answers; detections in Caffe's order."""
    return in_order(found) if case.type == "DetectionOutput" else found


def in_order(rows: Array) -> Array:
    """Detections by image, class and falling score. OpenCV has them by score alone."""
    rows = rows.reshape(-1, 7)
    return rows[np.lexsort((-rows[:, 2], rows[:, 1], rows[:, 0]))].reshape(1, 1, -1, 7)


def chan(a: Array) -> Array:
    """Numbers a channel, to go with (N, C, H, W)."""
    return a.reshape(-1, 1, 1)
