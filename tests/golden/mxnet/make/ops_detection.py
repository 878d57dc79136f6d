"""Golden cases of detection: anchors, decoding, non-maximum suppression, regions. See casefile.py for how to run it."""

from __future__ import annotations

import mxnet as mx
import numpy as np
from casefile import CaseFile

contrib, var = mx.sym.contrib, mx.sym.Variable
file = CaseFile("detection")
rng = np.random.RandomState(3)


def predictions(batch, classes, anchors, peak=2.0):
    """Probabilities, offsets and anchors of a detector, in which many boxes overlap."""
    logits = rng.standard_normal((batch, classes + 1, anchors)) * peak
    prob = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    low = rng.random_sample((1, anchors, 2)) * 0.5
    boxes = np.concatenate([low, low + 0.15 + rng.random_sample((1, anchors, 2)) * 0.45], 2)
    loc = rng.standard_normal((batch, anchors * 4)) * 0.7
    return {"prob": np.float32(prob), "loc": np.float32(loc), "anchors": np.float32(boxes)}


def ranked(batch, count, width=6, classes=3, low=-0.1):
    """Rows [id, score, xmin, ymin, xmax, ymax, ...]."""
    rows = rng.random_sample((batch, count, width))
    rows[..., 0] = rng.randint(-1, classes, (batch, count))
    rows[..., 1] = rng.permutation(batch * count).reshape(batch, count) / (batch * count) + low
    rows[..., 2:4] *= 0.5
    rows[..., 4:6] = rows[..., 2:4] + 0.1 + rows[..., 4:6] * 0.4
    return {"data": np.float32(rows)}


# -- anchors
for name, words, shape in (
    ("prior", {"sizes": (0.4, 0.2), "ratios": (1, 2, 0.5)}, (1, 2, 4, 6)),
    ("prior_ratio", {"sizes": (0.4, 0.3), "ratios": (2.0, 3.0, 0.4)}, (2, 1, 3, 5)),
    ("prior_steps", {"sizes": (0.9,), "ratios": (1, 3), "steps": (0.3, 0.4), "offsets": (0.2, 0.7)}, (1, 1, 3, 2)),
    ("prior_clip", {"sizes": (0.9, 0.1), "ratios": (1, 3), "clip": True}, (1, 1, 3, 2)),
    ("prior_plain", {}, (1, 1, 2, 3)),
):
    file.add(name, contrib.MultiBoxPrior(var("data"), name="prior", **words), shapes={"data": shape})
    if name != "prior_plain":
        # of a map whose size the importer is not told
        conv = mx.sym.Convolution(var("data"), kernel=(1, 1), num_filter=2, name="conv")
        file.add(
            name + "_free", contrib.MultiBoxPrior(conv, name="prior", **words), shapes={"data": shape}, free=("data",)
        )

# -- MultiBoxDetection
DETECTIONS = {
    "detect": {},
    "detect_weak": {"threshold": 0.4, "nms_threshold": 0.3},
    "detect_force": {"force_suppress": True, "nms_threshold": 0.45},
    "detect_one": {"nms_threshold": 1.0},
    "detect_never": {"nms_threshold": 1.5, "threshold": 0.5},
    "detect_off": {"nms_threshold": 0, "threshold": 0.5, "clip": False},
    "detect_wide": {"clip": False, "variances": (0.2, 0.1, 0.3, 0.25)},
    "detect_background": {"background_id": 1},
    "detect_none": {"threshold": 1.0},
    "detect_topk_all": {"nms_topk": 400, "threshold": 0.2},
    "detect_topk": {"nms_topk": 8},
    "detect_topk_force": {"nms_topk": 12, "force_suppress": True},
}
for name, words in DETECTIONS.items():
    sym = contrib.MultiBoxDetection(var("prob"), var("loc"), var("anchors"), name="detection", **words)
    file.add(name, sym, feeds=predictions(2, 3, 30))
same = predictions(2, 2, 12)
same["prob"] = np.float32(np.round(same["prob"], 1))  # equal scores: the first anchor wins
file.add("detect_ties", contrib.MultiBoxDetection(var("prob"), var("loc"), var("anchors"), name="d"), feeds=same)
two = np.float32([[[0, 0, 0.5, 1], [0, 0, 0.25, 1], [0.5, 0.5, 1, 1]]])
file.add(  # an overlap of 0.5 exactly: MXNet suppresses
    "detect_edge",
    contrib.MultiBoxDetection(var("prob"), var("loc"), var("anchors"), name="d", nms_threshold=0.5),
    feeds={
        "prob": np.float32([[[0.1, 0.2, 0.3], [0.9, 0.8, 0.7]]]),
        "loc": np.zeros((1, 12), np.float32),
        "anchors": two,
    },
)
one = predictions(1, 1, 9)
file.add("detect_class", contrib.MultiBoxDetection(var("prob"), var("loc"), var("anchors"), name="d"), feeds=one)

# -- box_nms, box_iou
SUPPRESSIONS = {
    "nms": {},
    "nms_id": {"id_index": 0},
    "nms_force": {"id_index": 0, "force_suppress": True, "overlap_thresh": 0.3},
    "nms_background": {"id_index": 0, "background_id": 1},
    "nms_topk": {"id_index": 0, "topk": 7, "overlap_thresh": 0.2},
    "nms_topk_more": {"topk": 100},
    "nms_topk_zero": {"topk": 0},
    "nms_valid": {"id_index": 0, "valid_thresh": 0.5},
    "nms_nothing": {"id_index": 0, "valid_thresh": 2},
    "nms_center": {"in_format": "center", "out_format": "center", "id_index": 0},
    "nms_to_corner": {"in_format": "center", "id_index": 0},
    "nms_to_center": {"out_format": "center"},
    "nms_never": {"overlap_thresh": 1.0},
}
for name, words in SUPPRESSIONS.items():
    file.add(name, contrib.box_nms(var("data"), name="nms", **words), feeds=ranked(2, 20))
file.add("nms_wide", contrib.box_nms(var("data"), name="nms", id_index=0), feeds=ranked(2, 12, 9))
mixed = ranked(1, 12)
mixed["data"] = np.ascontiguousarray(mixed["data"][..., [2, 3, 4, 5, 1, 0]])
file.add(
    "nms_order",
    contrib.box_nms(var("data"), name="nms", coord_start=0, score_index=4, id_index=5, out_format="center"),
    feeds=mixed,
)
deep = {"data": ranked(6, 10)["data"].reshape(2, 3, 10, 6)}
file.add("nms_deep", contrib.box_nms(var("data"), name="nms", id_index=0, topk=5), feeds=deep)
file.add("nms_flat", contrib.box_nms(var("data"), name="nms", id_index=0), feeds={"data": ranked(1, 10)["data"][0]})
low = rng.random_sample((7, 2))
boxes = np.float32(np.concatenate([low, low + rng.random_sample((7, 2)) - 0.1], 1))
for form in ("corner", "center"):
    sym = contrib.box_iou(var("lhs"), var("rhs"), format=form, name="iou")
    file.add(f"iou_{form}", sym, feeds={"lhs": boxes[:4], "rhs": boxes[2:]})
file.add(
    "iou_deep",
    contrib.box_iou(var("lhs"), var("rhs"), name="iou"),
    feeds={"lhs": boxes[:6].reshape(2, 3, 4), "rhs": boxes},
)

# -- regions
rois = np.float32(
    [[0, 0, 0, 9, 9], [1, 2.4, 3.6, 20.5, 15.5], [0, 5, 5, 5.2, 5.3], [1, 10.5, 1.5, 30, 30], [0, -3, -2, 6, 40]]
)
for name, scale, size in (("roi_pool", 1.0, (2, 3)), ("roi_pool_half", 0.5, (3, 3)), ("roi_pool_odd", 0.37, (7, 7))):
    sym = mx.sym.ROIPooling(var("data"), var("rois"), pooled_size=size, spatial_scale=scale, name="pool")
    file.add(name, sym, shapes={"data": (2, 2, 10, 12)}, feeds={"rois": rois})
for name, at, words in (
    ("roi_align", rois, {"spatial_scale": 0.5, "sample_ratio": 2}),
    ("roi_align_adaptive", rois, {"spatial_scale": 0.4}),
    ("roi_align_aligned", rois[:4], {"spatial_scale": 0.5, "sample_ratio": 2, "aligned": True}),
):
    sym = contrib.ROIAlign(var("data"), var("rois"), pooled_size=(3, 2), name="align", **words)
    file.add(name, sym, shapes={"data": (2, 2, 10, 12)}, feeds={"rois": at})

# -- not at inference, and never
probe = predictions(2, 3, 10)
scores = var("prob")
target = contrib.MultiBoxTarget(var("anchors"), var("label"), scores, name="target")
label = np.full((2, 2, 5), -1, np.float32)
label[:, 0] = [1, 0.1, 0.1, 0.6, 0.6]
prob = mx.sym.SoftmaxOutput(scores, target[2], multi_output=True, use_ignore=True, ignore_label=-1, name="cls_prob")
loss = mx.sym.MakeLoss(target[1] * (var("loc") - target[0]), name="loc_loss")
heads = mx.sym.Group([loss, prob, mx.sym.MakeLoss(target[2], grad_scale=0, name="cls_label")])
file.add("target", heads, feeds={**probe, "label": label})
file.add("target_only", loss, feeds={**probe, "label": label})
file.add(
    "matching",
    contrib.bipartite_matching(var("data"), threshold=0.1, name="match"),
    feeds={"data": np.float32(rng.random_sample((1, 3, 4)))},
)
file.save()
