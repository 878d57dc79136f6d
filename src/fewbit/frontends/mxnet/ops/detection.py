"""Detection as in SSD: boxes from predictions, the best class of each, and non-maximum suppression.

    scores (N, 1 + C, A), offsets (N, 4·A), anchors (1, A, 4)
      → decode → best class → TopK by score → NonMaxSuppression → rows [id, score, xmin, ymin, xmax, ymax], (N, A, 6)

Rows stand as in MXNet: by falling score, what is suppressed has id -1, and the rest is -1 altogether. One thing is
simpler: rows past `nms_topk` are -1 too, where MXNet leaves scores and boxes of other rows behind the id -1.

The operator of ONNX keeps boxes that overlap by no more than its threshold, per class. It gets a row of scores for each
class; LEAST stands where a box is not of that class, or not to be looked at. All nodes of a layer are tagged as one, so
that nobody makes parts of it integer: boxes and scores of 8 bits would fall together.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fewbit.frontends.mxnet.layer import Layer, op
from fewbit.frontends.mxnet.whole import whole
from fewbit.graph.build import Value, shape_of
from fewbit.graph.model import Array

LEAST = -1.0
"""Score of what is no detection; MXNet writes it, too."""

END = np.iinfo(np.int64).max
VARIANCES = (0.1, 0.1, 0.2, 0.2)
FORMATS = ("corner", "center")


# -- anchors --------------------------------------------------------------------------------------------------------


@op("_contrib_MultiBoxPrior", "MultiBoxPrior", "_npx_multibox_prior")
@whole
def multibox_prior(layer: Layer) -> Value:
    """Anchors (1, H·W·n, 4) of a map (N, C, H, W): every size in the first ratio, then the first size in the others."""
    attrs = layer.attrs
    sizes, ratios = attrs.numbers("sizes", (1.0,)), attrs.numbers("ratios", (1.0,))
    steps, offsets = attrs.numbers("steps", (-1.0,), count=2), attrs.numbers("offsets", (0.5,), count=2)
    clip = attrs.flag("clip", False)
    if not sizes or not ratios:
        raise layer.unsupported("sizes and ratios must not be empty")
    size = np.array([*sizes, *(sizes[:1] * (len(ratios) - 1))], np.float32)
    root = np.sqrt(np.array([*(ratios[:1] * len(sizes)), *ratios[1:]], np.float32))
    high, wide = layer.shape()[2:]
    if high is None or wide is None:
        return _computed_prior(layer, size, root, steps, offsets, clip)
    half_w = size * np.float32(high) / np.float32(wide) * root / 2
    half_h = size / root / 2
    y = _centres(high, steps[0], offsets[0])[:, None, None]
    x = _centres(wide, steps[1], offsets[1])[None, :, None]
    boxes = np.stack(np.broadcast_arrays(x - half_w, y - half_h, x + half_w, y + half_h), -1).reshape(1, -1, 4)
    return layer.build.constant(np.clip(boxes, 0, 1) if clip else boxes, layer.name)


def _centres(count: int, step: float, offset: float) -> Array:
    far = np.float32(step) if step > 0 else np.float32(1) / np.float32(count)
    return (np.arange(count, dtype=np.float32) + np.float32(offset)) * far


def _computed_prior(
    layer: Layer, size: Array, root: Array, steps: Sequence[float], offsets: Sequence[float], clip: bool
) -> Value:
    """The same, where the size of the map is known only at run time."""
    sides = [layer.node("Shape", layer.x, start=i, end=i + 1) for i in (2, 3)]  # (1,) each
    counts = [layer.node("Cast", s, to=1) for s in sides]
    centres = []
    for count, step, offset, axes in zip(counts, steps, offsets, ([1, 2], [0, 2]), strict=True):
        far = layer.const(step) if step > 0 else layer.node("Reciprocal", count)
        scalar = layer.node("Squeeze", count, layer.const([0]))
        at = layer.node("Add", layer.node("Range", layer.const(0.0), scalar, layer.const(1.0)), layer.const(offset))
        centres.append(layer.node("Unsqueeze", layer.node("Mul", at, far), layer.const(axes)))
    y, x = centres  # (H, 1, 1), (1, W, 1)
    tall = layer.node("Div", layer.node("Mul", layer.const(size), counts[0]), counts[1])
    half_w = layer.node("Mul", tall, layer.const(root / 2))
    half_h = layer.const(size / root / 2)
    all_of = layer.node("Concat", *sides, layer.const([len(size)]), axis=0)
    edges = [layer.node(op, c, h) for op in ("Sub", "Add") for c, h in ((x, half_w), (y, half_h))]
    flat = [layer.node("Reshape", layer.node("Expand", e, all_of), layer.const([1, -1, 1])) for e in edges]
    if not clip:
        return layer.told(layer.main("Concat", *flat, axis=2), (1, None, 4))
    boxes = layer.node("Concat", *flat, axis=2)
    return layer.told(layer.main("Clip", boxes, layer.const(0.0), layer.const(1.0)), (1, None, 4))


# -- MultiBoxDetection ----------------------------------------------------------------------------------------------


@op("_contrib_MultiBoxDetection", "MultiBoxDetection", "_npx_multibox_detection")
@whole
def multibox_detection(layer: Layer) -> Value:
    """Class probabilities (N, 1 + C, A), offsets (N, 4·A), anchors (1, A, 4) → detections (N, A, 6)."""
    attrs = layer.attrs
    attrs.skip("background_id")  # MXNet takes class 0 for the background, whatever stands there
    threshold, overlap = attrs.number("threshold", 0.01), attrs.number("nms_threshold", 0.5)
    most, force = attrs.whole("nms_topk", -1), attrs.flag("force_suppress", False)
    classes = layer.shape(layer.inputs[0])[1]
    if classes is None or classes < 2:
        raise layer.unsupported(
            f"its class probabilities have shape {shape_of(layer.x)}; (N, 1 + classes, A) is needed"
        )
    objects = _cut(layer, layer.x, 1, END, axis=1)
    score = layer.node("ReduceMax", objects, axes=(1,), keepdims=0)  # (N, A)
    kind = layer.node("Cast", layer.node("ArgMax", objects, axis=1, keepdims=0), to=1)
    enough = layer.node("GreaterOrEqual", score, layer.const(threshold))
    score = layer.node("Where", enough, score, layer.const(LEAST))
    boxes = _decode(layer)
    rows = layer.node("Concat", _column(layer, kind), _column(layer, score), boxes, axis=2)
    if not 0 < overlap <= 1:  # nothing is suppressed, and nothing is sorted; what is too weak goes to the end
        first = layer.node("Cast", layer.node("Greater", score, layer.const(LEAST)), to=1)
        order = layer.nodes("TopK", first, _count(layer, score), outputs=2, axis=1)[1]
        return _only(layer, _rows(layer, rows, order), order, score)
    count = _count(layer, score) if most <= 0 else _at_most(layer, score, most)
    score, order = layer.nodes("TopK", score, count, outputs=2, axis=1)
    rows = _rows(layer, rows, order)
    kind, boxes = _cut(layer, rows, 0, 1), _cut(layer, rows, 2, 6)  # (N, k, 1), (N, k, 4)
    shown = _column(layer, score, 1)  # (N, 1, k)
    if not force:
        numbers = layer.const(np.arange(classes - 1, dtype=np.float32)[:, None])
        own = layer.node("Equal", layer.node("Transpose", kind, perm=(0, 2, 1)), numbers)  # (N, C, k)
        shown = layer.node("Where", own, shown, layer.const(LEAST))
    limit = float(np.nextafter(np.float32(overlap), np.float32(0)))  # MXNet suppresses at the threshold itself
    kept = _kept(layer, boxes, shown, score, limit, LEAST)
    return _finished(layer, rows, score, kept, None if most <= 0 else layer.inputs[0])


def _decode(layer: Layer) -> Value:
    """Offsets relative to anchors → corners (N, A, 4)."""
    variances = np.array(layer.attrs.numbers("variances", VARIANCES), np.float32)
    if variances.shape != (4,):
        raise layer.unsupported(f"variances are {tuple(variances.tolist())}; four are needed")
    offsets = layer.node("Reshape", layer.inputs[1], layer.const([0, -1, 4]))
    low, high = (_cut(layer, layer.inputs[2], i, i + 2) for i in (0, 2))
    side = layer.node("Sub", high, low)
    centre = layer.node("Div", layer.node("Add", low, high), layer.const(2.0))
    move, grow = (layer.node("Mul", _cut(layer, offsets, i, i + 2), layer.const(variances[i : i + 2])) for i in (0, 2))
    middle = layer.node("Add", layer.node("Mul", move, side), centre)
    half = layer.node("Div", layer.node("Mul", layer.node("Exp", grow), side), layer.const(2.0))
    boxes = layer.node("Concat", layer.node("Sub", middle, half), layer.node("Add", middle, half), axis=2)
    if layer.attrs.flag("clip", True):
        boxes = layer.node("Clip", boxes, layer.const(0.0), layer.const(1.0))
    return boxes


def _only(layer: Layer, rows: Value, order: Value, score: Value) -> Value:
    """Rows in this order, those without a detection -1."""
    ranked = layer.node("GatherElements", score, order, axis=1)
    live = _column(layer, layer.node("Greater", ranked, layer.const(LEAST)))
    return layer.told(layer.main("Where", live, rows, layer.const(LEAST)), (None, None, 6))


def _finished(layer: Layer, rows: Value, score: Value, kept: Value, all_of: Value | None) -> Value:
    """Sorted rows; ids of what was not kept are -1, and so is all of what is no detection.

    Args:
        all_of: class probabilities that tell how many rows there must be in the end; None = as many as there are.
    """
    live = _column(layer, layer.node("Greater", score, layer.const(LEAST)))
    kind = layer.node("Where", _column(layer, kept), _cut(layer, rows, 0, 1), layer.const(LEAST))
    rest = layer.node("Where", live, _cut(layer, rows, 1, 6), layer.const(LEAST))
    if all_of is None:
        return layer.main("Concat", kind, rest, axis=2)
    return _padded(layer, layer.node("Concat", kind, rest, axis=2), _count(layer, all_of, 2), main=True)


# -- box_nms --------------------------------------------------------------------------------------------------------


@op("_contrib_box_nms", "_contrib_box_non_maximum_suppression", "box_nms")
@whole
def box_nms(layer: Layer) -> Value:
    """Rows (…, n, width) → those that are not suppressed, by falling score, then rows of -1."""
    attrs = layer.attrs
    overlap, least = attrs.number("overlap_thresh", 0.5), attrs.number("valid_thresh", 0.0)
    most, start, at = attrs.whole("topk", -1), attrs.whole("coord_start", 2), attrs.whole("score_index", 1)
    id_at, background = attrs.whole("id_index", -1), attrs.whole("background_id", -1)
    force = attrs.flag("force_suppress", False)
    given, wanted = (attrs.word(k, "corner", FORMATS) for k in ("in_format", "out_format"))
    if overlap < 0:
        raise layer.unsupported(f"overlap_thresh is {overlap}; it must be 0 or more")
    if most == 0:
        return layer.main("Identity", layer.x)  # as MXNet does
    shape = layer.shape()
    rows = layer.x if len(shape) == 3 else layer.node("Reshape", layer.x, layer.const([-1, *_tail(layer, shape)]))
    score = layer.node("Squeeze", _cut(layer, rows, at, at + 1), layer.const([2]))  # (B, n)
    valid = layer.node("Greater", score, layer.const(least))
    if id_at >= 0:
        kind = layer.node("Squeeze", _cut(layer, rows, id_at, id_at + 1), layer.const([2]))
        other = layer.node("Not", layer.node("Equal", kind, layer.const(float(background))))
        valid = layer.node("And", valid, other)
    score, whole_count = layer.node("Where", valid, score, layer.const(least)), _count(layer, rows, 1)
    if most > 0:
        score, order = layer.nodes("TopK", score, _at_most(layer, score, most), outputs=2, axis=1)
        rows = _rows(layer, rows, order)
    boxes, shown = _cut(layer, rows, start, start + 4), _column(layer, score, 1)
    if id_at >= 0 and not force:
        kind = _cut(layer, rows, id_at, id_at + 1)
        numbers = layer.node("Unique", layer.node("Reshape", kind, layer.const([-1])))
        own = layer.node("Equal", layer.node("Transpose", kind, perm=(0, 2, 1)), _column(layer, numbers, 1))
        shown = layer.node("Where", own, shown, layer.const(least))
    corners = _corners(layer, boxes) if given == "center" else boxes
    kept = _kept(layer, corners, shown, score, min(overlap, 1.0), least)
    score, order = layer.nodes(
        "TopK", layer.node("Where", kept, score, layer.const(least)), _count(layer, score), outputs=2, axis=1
    )
    if given != wanted:
        boxes = corners if wanted == "corner" else _centred(layer, boxes)
        parts = [_cut(layer, rows, 0, start)] * (start > 0) + [boxes, _cut(layer, rows, start + 4, END)]
        rows = layer.node("Concat", *parts, axis=2)
    live = _column(layer, layer.node("Greater", score, layer.const(least)))
    rows = layer.node("Where", live, _rows(layer, rows, order), layer.const(LEAST))
    if most > 0:
        rows = _padded(layer, rows, whole_count)
    return layer.told(layer.main("Reshape", rows, layer.node("Shape", layer.x)), shape)


def _tail(layer: Layer, shape: Sequence[int | None]) -> list[int]:
    if len(shape) < 2 or None in shape[-2:]:
        raise layer.unsupported(f"its rows have shape {tuple(shape)}; the last two axes must be known")
    return [int(d or 0) for d in shape[-2:]]


@op("_contrib_box_iou", "box_iou")
@whole
def box_iou(layer: Layer) -> Value:
    """Overlap of all boxes (…, 4) with all others (…, 4): shared area ÷ area of both together."""
    center = layer.attrs.word("format", "corner", FORMATS) == "center"
    left, right = layer.inputs[0], layer.inputs[1]
    ranks = layer.rank(left), layer.rank(right)
    ends = []
    for boxes, shape in ((left, [-1, 1, 4]), (right, [1, -1, 4])):
        flat = layer.node("Reshape", boxes, layer.const(shape))
        flat = _corners(layer, flat) if center else flat
        ends.append((_cut(layer, flat, 0, 2), _cut(layer, flat, 2, 4)))
    (low, high), (low2, high2) = ends
    areas = [_area(layer, a, b) for a, b in ends]
    both = _area(layer, layer.node("Max", low, low2), layer.node("Min", high, high2))
    union = layer.node("Sub", layer.node("Add", *areas), both)
    some = layer.node("Greater", both, layer.const(0.0))
    share = layer.node("Div", both, layer.node("Where", some, union, layer.const(1.0)))
    if ranks == (2, 2):
        return layer.main("Identity", share)
    shapes = [layer.node("Shape", v, start=0, end=r - 1) for v, r in zip((left, right), ranks, strict=True)]
    found = layer.main("Reshape", share, layer.node("Concat", *shapes, axis=0))
    return layer.told(found, (*layer.shape(left)[:-1], *layer.shape(right)[:-1]))


def _area(layer: Layer, low: Value, high: Value) -> Value:
    """Width times height, 0 where one is negative."""
    side = layer.node("Relu", layer.node("Sub", high, low))
    return layer.node("ReduceProd", side, axes=(-1,), keepdims=0)


# -- regions --------------------------------------------------------------------------------------------------------


@op("ROIPooling", "_npx_roi_pooling")
def roi_pooling(layer: Layer) -> Value:
    """Maximum over the cells of regions [image, x1, y1, x2, y2]; both sides round their corners alike."""
    size, scale = layer.attrs.wholes("pooled_size", count=2), layer.attrs.number("spatial_scale")
    return layer.main("MaxRoiPool", layer.x, layer.inputs[1], pooled_shape=size, spatial_scale=scale)


@op("_contrib_ROIAlign", "ROIAlign")
@whole
def roi_align(layer: Layer) -> Value:
    """Mean over the cells of regions [image, x1, y1, x2, y2], bilinear; regions of no image (below 0) are 0."""
    attrs = layer.attrs
    if attrs.flag("position_sensitive", False):
        raise layer.unsupported("position_sensitive pooling has no ONNX operator")
    high, wide = attrs.wholes("pooled_size", count=2)
    corners = _cut(layer, layer.inputs[1], 1, 5, axis=1)
    image = layer.node("Squeeze", _cut(layer, layer.inputs[1], 0, 1, axis=1), layer.const([1]))
    found = layer.main(
        "RoiAlign",
        layer.x,
        corners,
        layer.node("Cast", layer.node("Relu", image), to=7),
        mode="avg",
        output_height=high,
        output_width=wide,
        sampling_ratio=max(attrs.whole("sample_ratio", -1), 0),
        spatial_scale=attrs.number("spatial_scale"),
        coordinate_transformation_mode="half_pixel" if attrs.flag("aligned", False) else "output_half_pixel",
    )
    there = layer.node("Cast", layer.node("GreaterOrEqual", image, layer.const(0.0)), to=1)
    return layer.node("Mul", found, layer.node("Unsqueeze", there, layer.const([1, 2, 3])))


# -- pieces ---------------------------------------------------------------------------------------------------------


def _kept(layer: Layer, boxes: Value, shown: Value, score: Value, overlap: float, least: float) -> Value:
    """Which boxes (N, k, 4) survive, (N, k), by scores (N, C, k); those not above `least` do not."""
    found = layer.node(
        "NonMaxSuppression", boxes, shown, _count(layer, score), layer.const([overlap]), layer.const([least])
    )  # (kept, 3): image, class, box
    place = layer.node("Gather", found, layer.const([0, 2]), axis=1)
    zeros = layer.node("Expand", layer.const(0.0), layer.node("Shape", score))
    ones = layer.node("Expand", layer.const(1.0), layer.node("Shape", place, start=0, end=1))
    marked = layer.node("ScatterND", zeros, place, ones)
    return layer.told(layer.node("Greater", marked, layer.const(0.5)), shape_of(score) or (None, None))


def _rows(layer: Layer, rows: Value, order: Value) -> Value:
    """Rows (N, A, w) in an order (N, k)."""
    return layer.node("GatherND", rows, _column(layer, order), batch_dims=1)


def _padded(layer: Layer, rows: Value, count: Value, main: bool = False) -> Value:
    """Rows of -1 behind, until there are `count` (1,)."""
    more = layer.node("Sub", count, _count(layer, rows))
    pads = layer.node("Concat", layer.const([0, 0, 0, 0]), more, layer.const([0]), axis=0)
    found = (layer.main if main else layer.node)("Pad", rows, pads, layer.const(LEAST), mode="constant")
    return layer.told(found, (None, None, (shape_of(rows) or (None,))[-1]))


def _corners(layer: Layer, boxes: Value) -> Value:
    """[x, y, width, height] → [xmin, ymin, xmax, ymax]."""
    middle, side = _cut(layer, boxes, 0, 2), _cut(layer, boxes, 2, 4)
    half = layer.node("Div", side, layer.const(2.0))
    return layer.node("Concat", layer.node("Sub", middle, half), layer.node("Add", middle, half), axis=-1)


def _centred(layer: Layer, boxes: Value) -> Value:
    """[xmin, ymin, xmax, ymax] → [x, y, width, height]."""
    low, high = _cut(layer, boxes, 0, 2), _cut(layer, boxes, 2, 4)
    middle = layer.node("Div", layer.node("Add", low, high), layer.const(2.0))
    return layer.node("Concat", middle, layer.node("Sub", high, low), axis=-1)


def _cut(layer: Layer, value: Value, start: int, end: int, axis: int = -1) -> Value:
    """A part of one axis, by default of the last."""
    return layer.node("Slice", value, layer.const([start]), layer.const([end]), layer.const([axis]))


def _column(layer: Layer, value: Value, axis: int = -1) -> Value:
    """One more axis, of size 1."""
    return layer.node("Unsqueeze", value, layer.const([axis]))


def _count(layer: Layer, value: Value, axis: int = 1) -> Value:
    """The size of an axis, (1,)."""
    size = (shape_of(value) or (None,) * (axis + 1))[axis]
    return layer.const([size]) if size is not None else layer.node("Shape", value, start=axis, end=axis + 1)


def _at_most(layer: Layer, value: Value, most: int) -> Value:
    """The size of axis 1, but no more than `most`, (1,)."""
    size = (shape_of(value) or (None, None))[1]
    if size is not None:
        return layer.const([min(size, most)])
    return layer.node("Min", _count(layer, value), layer.const([most]))
