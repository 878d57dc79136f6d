"""PriorBox of SSD: boxes around every pixel of a map, which depend on sizes alone. They become a constant.

(1, 2, H·W·n·4): rows [xmin, ymin, xmax, ymax] as parts of the image; below them their variances
"""

from __future__ import annotations

import numpy as np

from fewbit.frontends.caffe.layer import Layer, op
from fewbit.graph.build import Value
from fewbit.graph.model import Array

MOST_BOXES = 1 << 21


@op("PriorBox", settings="prior_box_param")
def prior_box(layer: Layer) -> Value:
    """For each smallest size: a square of it, one between it and the largest, and the other ratios."""
    settings = layer.settings
    high, wide = layer.size(2), layer.size(3)
    image = _pair(layer, "img_size", "img_h", "img_w") or tuple(float(layer.size(a, layer.takes(2)[1])) for a in (2, 3))
    step = _pair(layer, "step", "step_h", "step_w") or (image[0] / high, image[1] / wide)
    size = _sizes(layer)  # (n, 2): width, height
    if high * wide * len(size) > MOST_BOXES:
        raise layer.misfit(f"{high}x{wide} pixels with {len(size)} boxes each are more than {MOST_BOXES}")
    offset = np.float32(settings.number("offset", 0.5))
    y, x = ((np.arange(n).astype(np.float32) + offset) * np.float32(s) for n, s in ((high, step[0]), (wide, step[1])))
    centre = np.stack(np.meshgrid(x, y), -1)[:, :, None].astype(np.float64)  # (H, W, 1, 2)
    sides = np.array([image[1], image[0]], np.float64)
    boxes = np.concatenate([(centre - size / 2) / sides, (centre + size / 2) / sides], -1).astype(np.float32)
    boxes = boxes.reshape(-1, 4)  # (H·W·n, 4)
    if settings.flag("clip", False):
        boxes = boxes.clip(0, 1)
    given = settings.numbers("variance") or (0.1,)
    if len(given) not in (1, 4):
        raise layer.misfit(f"variance has {len(given)} numbers; it must have 1 or 4")
    variance = np.broadcast_to(np.array(given, np.float32), boxes.shape)
    return layer.const(np.stack([boxes.reshape(-1), variance.reshape(-1)])[None], "boxes")


def _pair(layer: Layer, both: str, one: str, other: str) -> tuple[float, float] | None:
    """Height and width of a setting that is given once or twice; None if it is not."""
    settings = layer.settings
    if settings.has(one) or settings.has(other):
        found = settings.number(one), settings.number(other)
    elif settings.has(both):
        found = (settings.number(both),) * 2
    else:
        return None
    if min(found) <= 0:
        raise layer.misfit(f"{both} is {found}; it must be above 0")
    return found


def _sizes(layer: Layer) -> Array:
    """Widths and heights of the boxes of one pixel, in pixels of the image."""
    settings = layer.settings
    smallest, largest = settings.numbers("min_size"), settings.numbers("max_size")
    ratios, flip = [1.0], settings.flag("flip", True)
    for ratio in settings.numbers("aspect_ratio"):
        if ratio <= 0:
            raise layer.misfit(f"aspect_ratio is {ratio}; it must be above 0")
        if all(abs(np.float32(ratio) - r) >= 1e-6 for r in ratios):
            ratios += [float(np.float32(ratio)), *([float(np.float32(1 / np.float32(ratio)))] if flip else [])]
    if not smallest or (largest and len(largest) != len(smallest)):
        raise layer.misfit(f"min_size {smallest} and max_size {largest} must be given, as many of one as of the other")
    if min(smallest) < 1 or any(b <= a for a, b in zip(smallest, largest, strict=False)):
        raise layer.misfit(
            f"min_size is {smallest} and max_size {largest}; sizes must be at least 1, and max above min"
        )
    found: list[tuple[float, float]] = []
    for i, one in enumerate(smallest):
        side = int(one)  # as SSD's Caffe does
        found.append((side, side))
        if largest:
            between = float(np.float32(np.sqrt(side * int(largest[i]))))
            found.append((between, between))
        found += [(float(np.float32(side * np.sqrt(r))), float(np.float32(side / np.sqrt(r)))) for r in ratios[1:]]
    return np.array(found, np.float64)
