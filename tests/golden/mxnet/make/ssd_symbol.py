"""What stands behind a backbone in MXNet's SSD: heads on several feature maps, anchors, targets and detection.

    maps -> (L2 norm, scale) -> class conv, location conv, MultiBoxPrior -> concat over maps
         -> softmax, MultiBoxDetection

Operators, their names and their order are those of the SSD symbols that are in circulation, so that files made here
look like those. Imported by detector.py and ssd_vgg16.py beside it, which run in the oracle environment (see
casefile.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import mxnet as mx

VARIANCES = (0.1, 0.1, 0.2, 0.2)


@dataclass
class Map:
    """A feature map with anchors.

    Args:
        data: the symbol. sizes, ratios: of its anchors. step: distance of anchors, relative; None = even.
        norm: scale that the normalised map starts with (needs `channels`); None = not normalised.
    """

    data: mx.sym.Symbol
    sizes: tuple
    ratios: tuple
    step: float | None = None
    norm: float | None = None
    channels: int = 0

    @property
    def anchors(self) -> int:
        """How many there are at each place."""
        return len(self.sizes) + len(self.ratios) - 1


def heads(maps, classes):
    """Location predictions (N, anchors·4), class scores (N, 1 + classes, anchors) and anchors (1, anchors, 4)."""
    locs, scores, boxes = [], [], []
    for m in maps:
        x, name = m.data, m.data.name
        if m.norm is not None:
            x = mx.sym.L2Normalization(x, mode="channel", name=f"{name}_norm")
            scale = mx.sym.Variable(
                f"{name}_scale", shape=(1, m.channels, 1, 1), init=mx.init.Constant(m.norm), attr={"__wd_mult__": "0.1"}
            )
            x = mx.sym.broadcast_mul(lhs=scale, rhs=x)
        for found, width, what in ((locs, 4, "loc"), (scores, classes + 1, "cls")):
            bias = mx.sym.Variable(
                f"{name}_{what}_pred_conv_bias", init=mx.init.Constant(0.0), attr={"__lr_mult__": "2.0"}
            )
            y = mx.sym.Convolution(
                x, bias=bias, kernel=(3, 3), stride=(1, 1), pad=(1, 1), num_filter=m.anchors * width,
                name=f"{name}_{what}_pred_conv",
            )  # fmt: skip
            found.append(mx.sym.Flatten(mx.sym.transpose(y, axes=(0, 2, 3, 1))))
        steps = {} if m.step is None else {"steps": (m.step, m.step)}
        prior = mx.sym.contrib.MultiBoxPrior(
            x, sizes=m.sizes, ratios=m.ratios, clip=False, name=f"{name}_anchors", **steps
        )
        boxes.append(mx.sym.Flatten(prior))
    loc = mx.sym.Concat(*locs, num_args=len(locs), dim=1, name="multibox_loc_pred")
    cls = mx.sym.Concat(*scores, num_args=len(scores), dim=1)
    cls = mx.sym.Reshape(cls, shape=(0, -1, classes + 1))
    cls = mx.sym.transpose(cls, axes=(0, 2, 1), name="multibox_cls_pred")
    anchors = mx.sym.Concat(*boxes, num_args=len(boxes), dim=1)
    return loc, cls, mx.sym.Reshape(anchors, shape=(0, -1, 4), name="multibox_anchors")


def detecting(maps, classes, *, nms_threshold=0.5, nms_topk=400, force_suppress=False):
    """The symbol for inference: (N, anchors, 6)."""
    loc, cls, anchors = heads(maps, classes)
    prob = mx.sym.SoftmaxActivation(cls, mode="channel", name="cls_prob")
    return mx.sym.contrib.MultiBoxDetection(
        prob, loc, anchors, name="detection", nms_threshold=nms_threshold, force_suppress=force_suppress,
        variances=VARIANCES, nms_topk=nms_topk,
    )  # fmt: skip


def training(maps, classes, *, nms_threshold=0.5, nms_topk=400, force_suppress=False):
    """The symbol for training: class probabilities, location loss, class targets, detections."""
    label = mx.sym.Variable("label")
    loc, cls, anchors = heads(maps, classes)
    loc_target, loc_mask, cls_target = mx.sym.contrib.MultiBoxTarget(
        anchors, label, cls, overlap_threshold=0.5, ignore_label=-1, negative_mining_ratio=3,
        minimum_negative_samples=0, negative_mining_thresh=0.5, variances=VARIANCES, name="multibox_target",
    )  # fmt: skip
    prob = mx.sym.SoftmaxOutput(
        data=cls, label=cls_target, ignore_label=-1, use_ignore=True, grad_scale=1.0, multi_output=True,
        normalization="valid", name="cls_prob",
    )  # fmt: skip
    off = mx.sym.smooth_l1(data=loc_mask * (loc - loc_target), scalar=1.0, name="loc_loss_")
    off = mx.sym.MakeLoss(off, grad_scale=1.0, normalization="valid", name="loc_loss")
    wanted = mx.sym.MakeLoss(data=cls_target, grad_scale=0, name="cls_label")
    found = mx.sym.contrib.MultiBoxDetection(
        prob, loc, anchors, name="detection", nms_threshold=nms_threshold, force_suppress=force_suppress,
        variances=VARIANCES, nms_topk=nms_topk,
    )  # fmt: skip
    return mx.sym.Group([prob, off, wanted, mx.sym.MakeLoss(data=found, grad_scale=0, name="det_out")])
