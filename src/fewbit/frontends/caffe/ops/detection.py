"""DetectionOutput of SSD and ROIPooling.

    offsets (N, A·4), scores (N, A·C), boxes (1, 2, A·4)
      → decode → the best `top_k` of each class → NonMaxSuppression → the best `keep_top_k` of an image
      → rows [image, class, score, xmin, ymin, xmax, ymax], (1, 1, K, 7), by image, class and falling score

Without any detection there is a row [image, -1, …] for each image, as in Caffe. All nodes are tagged as one, so that
nobody makes parts of them integer: boxes and scores of 8 bits would fall together.
"""

from __future__ import annotations

import numpy as np

from fewbit.frontends.caffe.layer import Layer, op, whole
from fewbit.graph.build import Value

NONE = -1.0
"""What stands where there is no detection. Scores must be above it."""

MOST = 1 << 24
"""Boxes times classes, of an image."""

CODES = ("CORNER", "CENTER_SIZE", "CORNER_SIZE")


@op("DetectionOutput", settings="detection_output_param")
@whole
def detection_output(layer: Layer) -> Value:
    """Detections, with boxes that all classes share or of their own."""
    settings = layer.settings
    classes, background = settings.positive("num_classes"), settings.whole("background_label_id", 0)
    least, most = settings.number("confidence_threshold", NONE), settings.whole("keep_top_k", -1)
    inner = settings.inner("nms_param")
    overlap, top, eta = inner.number("nms_threshold", 0.3), inner.whole("top_k", -1), inner.number("eta", 1.0)
    inner.check()
    if eta != 1:
        raise layer.unsupported(f"eta is {eta}; ONNX suppresses with one threshold, which is eta 1")
    if not 0 <= overlap <= 1 or (most < 1 and most != -1):
        raise layer.misfit(f"nms_threshold is {overlap} and keep_top_k {most}; 0 to 1 and at least 1 are allowed")
    anchors = _anchors(layer, classes)
    kinds = [c for c in range(classes) if c != background]
    if not kinds:
        raise layer.misfit(f"num_classes is {classes}, with the background {background}; nothing is left to be found")
    shared = settings.flag("share_location", True)
    boxes = _decoded(layer, anchors, 1 if shared else classes)  # (N, A, L, 4)
    scores = layer.node("Reshape", layer.inputs[1], layer.const([0, anchors, classes]))
    scores = layer.node("Transpose", layer.node("Gather", scores, layer.const(kinds), axis=2), perm=(0, 2, 1))
    if 0 < top < anchors:
        scores = _best_of_each(layer, scores, top)
    own = (
        None
        if shared
        else layer.node("Gather", layer.node("Transpose", boxes, perm=(0, 2, 1, 3)), layer.const(kinds), axis=1)
    )
    boxes = layer.node("Squeeze", boxes, layer.const([2])) if own is None else own
    kept = _kept(layer, boxes, scores, (anchors, len(kinds)), overlap, max(least, NONE), shared)
    each = min(top, anchors) if top > 0 else anchors
    count = min(most, each * len(kinds)) if most > 0 else each * len(kinds)
    return _rows(layer, boxes, kept, kinds, anchors, count)


def _anchors(layer: Layer, classes: int) -> int:
    """How many boxes there are."""
    _, conf, prior = layer.takes(3)
    found = layer.size(2, prior) // 4
    if not 0 < found * classes <= MOST:
        raise layer.misfit(f"{found} boxes of {classes} classes; 1 to {MOST} in all are possible")
    if layer.shape(conf)[1] not in (None, found * classes):
        raise layer.misfit(f"{layer.shape(conf)[1]} scores for {found} boxes and {classes} classes do not fit")
    return found


def _decoded(layer: Layer, anchors: int, sets: int) -> Value:
    """Offsets relative to boxes → corners, (N, A, L, 4)."""
    code = layer.settings.word("code_type", "CORNER", CODES)
    offsets = layer.node("Reshape", layer.inputs[0], layer.const([0, anchors, sets, 4]))
    prior = layer.node("Reshape", layer.inputs[2], layer.const([2, anchors, 1, 4]))
    at, variance = (layer.node("Gather", prior, layer.const(np.int64(i)), axis=0) for i in (0, 1))  # (A, 1, 4)
    if not layer.settings.flag("variance_encoded_in_target", False):
        offsets = layer.node("Mul", offsets, variance)
    low, high = layer.cut(at, 0, 2), layer.cut(at, 2, 4)
    if code == "CORNER":
        return layer.node("Add", offsets, at)
    side = layer.node("Sub", high, low)
    move, grow = layer.cut(offsets, 0, 2), layer.cut(offsets, 2, 4)
    if code == "CORNER_SIZE":
        ends = [layer.node("Add", c, layer.node("Mul", o, side)) for c, o in ((low, move), (high, grow))]
        return layer.node("Concat", *ends, axis=-1)
    centre = layer.node("Mul", layer.node("Add", low, high), layer.const(0.5))
    middle = layer.node("Add", layer.node("Mul", move, side), centre)
    half = layer.node("Mul", layer.node("Mul", layer.node("Exp", grow), side), layer.const(0.5))
    return layer.node("Concat", layer.node("Sub", middle, half), layer.node("Add", middle, half), axis=-1)


def _best_of_each(layer: Layer, scores: Value, count: int) -> Value:
    """Scores (N, C, A) with all but the best of each class set to NONE."""
    best, place = layer.nodes("TopK", scores, layer.const([count]), outputs=2, axis=2)
    nothing = layer.node("Expand", layer.const(NONE), layer.node("Shape", scores))
    return layer.node("ScatterElements", nothing, place, best, axis=2)


def _kept(
    layer: Layer, boxes: Value, scores: Value, size: tuple[int, int], overlap: float, least: float, shared: bool
) -> Value:
    """Scores (N, C·A) of what survives, NONE elsewhere."""
    anchors, kinds = size
    if (
        layer.settings.word("code_type", "CORNER", CODES) != "CENTER_SIZE"
    ):  # ONNX would turn boxes round that end before they start
        low = layer.cut(boxes, 0, 2)
        boxes = layer.node("Concat", low, layer.node("Max", low, layer.cut(boxes, 2, 4)), axis=-1)
    boxes = boxes if shared else layer.node("Reshape", boxes, layer.const([-1, anchors, 4]))  # an image for each class
    shown = scores if shared else layer.node("Reshape", scores, layer.const([-1, 1, anchors]))
    found = layer.node(
        "NonMaxSuppression", boxes, shown, layer.const([anchors]), layer.const([overlap]), layer.const([least])
    )  # (kept, 3): image, class, box
    nothing = layer.node("Expand", layer.const(NONE), layer.node("Shape", shown))
    kept = layer.node("ScatterND", nothing, found, layer.node("GatherND", shown, found))
    return layer.node("Reshape", kept, layer.const([-1, kinds * anchors]))


def _rows(layer: Layer, boxes: Value, kept: Value, kinds: list[int], anchors: int, count: int) -> Value:
    """The best of each image, sorted by class, as rows."""
    score, place = layer.nodes("TopK", kept, layer.const([count]), outputs=2, axis=1)  # (N, k)
    which = layer.node("Div", place, layer.const([anchors]))
    key = layer.node(
        "Add", layer.node("Mul", which, layer.const([count])), layer.const(np.arange(count))
    )  # no two alike
    order = layer.nodes("TopK", key, layer.const([count]), outputs=2, axis=1, largest=0)[1]
    score, place, which = (layer.node("GatherElements", v, order, axis=1) for v in (score, place, which))
    kind = layer.node("Cast", layer.node("Gather", layer.const(np.array(kinds, np.int64)), which), to=1)
    shared = layer.rank(boxes) == 3
    own = layer.node("Mod", place, layer.const([anchors])) if shared else place
    flat = boxes if shared else layer.node("Reshape", boxes, layer.const([0, -1, 4]))
    corners = layer.node("GatherND", flat, layer.column(own), batch_dims=1)  # (N, k, 4)
    there = layer.node("Greater", score, layer.const(NONE))
    rows = layer.node("Concat", layer.column(kind), layer.column(score), corners, axis=2)
    rows = layer.node("Where", layer.column(there), rows, layer.const(NONE))
    images = layer.node("Shape", score, start=0, end=1)
    number = layer.node(
        "Range", layer.const(np.int64(0)), layer.node("Squeeze", images, layer.const([0])), layer.const(np.int64(1))
    )
    number = layer.node("Cast", layer.node("Reshape", number, layer.const([-1, 1, 1])), to=1)
    number = layer.node("Expand", number, layer.node("Shape", layer.column(score)))
    all_rows = layer.node("Concat", number, rows, axis=2)  # (N, k, 7)
    found = layer.node("GatherND", all_rows, layer.node("Transpose", _shown(layer, there), perm=(1, 0)))
    return layer.told(layer.main("Unsqueeze", found, layer.const([0, 1])), (1, 1, None, 7))


def _shown(layer: Layer, there: Value) -> Value:
    """Places of detections (2, K); of the first row of each image, if there is none at all."""
    marked = layer.node("Cast", there, to=1)
    nowhere = layer.node("Less", layer.node("ReduceMax", marked, axes=(0, 1), keepdims=1), layer.const(0.5))  # (1, 1)
    ones = layer.node("Expand", layer.const(1.0), layer.node("Shape", there))
    first = layer.node("Equal", layer.node("CumSum", ones, layer.const(np.int64(1))), layer.const(1.0))
    return layer.node("NonZero", layer.node("Or", there, layer.node("And", first, nowhere)))


@op("ROIPooling", settings="roi_pooling_param")
def roi_pooling(layer: Layer) -> Value:
    """Maximum over the cells of regions [image, x1, y1, x2, y2]; both sides round their corners alike."""
    x, regions = layer.takes(2)
    size = layer.settings.positive("pooled_h"), layer.settings.positive("pooled_w")
    return layer.main(
        "MaxRoiPool", x, regions, pooled_shape=size, spatial_scale=layer.settings.number("spatial_scale", 1.0)
    )
