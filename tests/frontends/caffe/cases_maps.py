"""Cases: several values, norms, shapes, sizes, detection, recurrence."""

from __future__ import annotations

from typing import Any
from zlib import crc32

import numpy as np

from tests.frontends.caffe import reference as ref
from tests.frontends.caffe.case import IMAGE, Array, Case, chan, one
from tests.frontends.caffe.writing import layer

ARITHMETIC = [
    one("Eltwise sum", "Eltwise", "", IMAGE, IMAGE, reference=lambda a, b: a + b),
    one(
        "Eltwise factors",
        "Eltwise",
        "eltwise_param { operation: SUM coeff: 0.5 coeff: -2 coeff: 1 }",
        IMAGE,
        IMAGE,
        IMAGE,
        reference=lambda a, b, c: 0.5 * a - 2 * b + c,
    ),
    one("Eltwise minus", "Eltwise", "eltwise_param { coeff: 1 coeff: -1 }", IMAGE, IMAGE, reference=lambda a, b: a - b),
    one(
        "Eltwise product",
        "Eltwise",
        "eltwise_param { operation: PROD stable_prod_grad: false }",
        IMAGE,
        IMAGE,
        IMAGE,
        reference=lambda a, b, c: a * b * c,
    ),
    one(
        "Eltwise max",
        "Eltwise",
        "eltwise_param { operation: MAX }",
        IMAGE,
        IMAGE,
        IMAGE,
        reference=lambda a, b, c: np.maximum(np.maximum(a, b), c),
    ),
    one(
        "Reduction",
        "Reduction",
        "reduction_param { axis: 1 coeff: 0.5 }",
        opencv=False,
        reference=lambda x: x.sum((1, 2, 3)) * 0.5,
    ),
    one(
        "Reduction all",
        "Reduction",
        "reduction_param { operation: ASUM }",
        opencv=False,
        reference=lambda x: np.abs(x).sum(),
    ),
    one(
        "Reduction squares",
        "Reduction",
        "reduction_param { operation: SUMSQ axis: -1 }",
        opencv=False,
        reference=lambda x: (x * x).sum(-1),
    ),
    one(
        "Reduction mean",
        "Reduction",
        "reduction_param { operation: MEAN axis: 2 }",
        opencv=False,
        reference=lambda x: x.mean((2, 3)),
    ),
    one("ArgMax", "ArgMax", "argmax_param { axis: 1 }", opencv=False, reference=lambda x: x.argmax(1, keepdims=True)),
    one(
        "ArgMax value",
        "ArgMax",
        "argmax_param { axis: 1 out_max_val: true }",
        opencv=False,
        reference=lambda x: x.max(1, keepdims=True),
    ),
    one(
        "ArgMax flat",
        "ArgMax",
        "argmax_param { top_k: 3 }",
        (2, 3, 4, 5),
        opencv=False,
        reference=lambda x: np.argsort(-x.reshape(2, -1), 1)[:, None, :3, None],
    ),
    one(
        "ArgMax both",
        "ArgMax",
        "argmax_param { top_k: 2 out_max_val: true }",
        (2, 7),
        opencv=False,
        reference=lambda x: np.stack([np.argsort(-x, 1)[:, :2], -np.sort(-x, 1)[:, :2]], 1),
    ),
]

NORMS = [
    one(
        "LRN",
        "LRN",
        "lrn_param { local_size: 3 alpha: 0.5 beta: 0.75 k: 2 }",
        opencv=False,
        reference=lambda x: ref.lrn_across(x, 3, 0.5, 0.75, 2),
    ),
    one("LRN plain", "LRN", "lrn_param { alpha: 0.5 beta: 0.5 }", reference=lambda x: ref.lrn_across(x, 5, 0.5, 0.5)),
    one(
        "LRN within",
        "LRN",
        "lrn_param { local_size: 3 alpha: 0.5 beta: 0.75 norm_region: WITHIN_CHANNEL k: 3 }",
        reference=lambda x: ref.lrn_within(x, 3, 0.5, 0.75),
    ),
    one(
        "MVN",
        "MVN",
        "mvn_param { }",
        reference=lambda x: (x - x.mean((2, 3), keepdims=True)) / (x.std((2, 3), keepdims=True) + 1e-9),
    ),
    one(
        "MVN across",
        "MVN",
        "mvn_param { across_channels: true eps: 0.5 }",
        opencv=False,
        reference=lambda x: (x - x.mean((1, 2, 3), keepdims=True)) / (x.std((1, 2, 3), keepdims=True) + 0.5),
    ),
    one(
        "MVN mean",
        "MVN",
        "mvn_param { normalize_variance: false }",
        reference=lambda x: x - x.mean((2, 3), keepdims=True),
    ),
    one(
        "Normalize",
        "Normalize",
        "norm_param { across_spatial: false channel_shared: false eps: 0.001 }",
        blobs=[(6,)],
        reference=lambda x, s: x / np.sqrt((x * x).sum(1, keepdims=True) + 0.001) * chan(s),
    ),
    one(
        "Normalize all",
        "Normalize",
        "norm_param { }",
        blobs=[()],
        opencv=False,
        reference=lambda x, s: x / np.sqrt((x * x).sum((1, 2, 3), keepdims=True) + 1e-10) * s,
    ),
]

SHAPES = [
    one("Split", "Split", tops=2, reference=lambda x: (x, x)),
    one("Concat", "Concat", "", (2, 3, 4, 5), (2, 4, 4, 5), reference=lambda a, b: np.concatenate([a, b], 1)),
    one(
        "Concat axis",
        "Concat",
        "concat_param { axis: -1 }",
        (2, 3, 4),
        (2, 3, 2),
        reference=lambda a, b: np.concatenate([a, b], 2),
    ),
    one(
        "Concat old",
        "Concat",
        "concat_param { concat_dim: 2 }",
        (2, 3, 4),
        (2, 3, 4),
        opencv=False,
        reference=lambda a, b: np.concatenate([a, b], 2),
    ),
    one(
        "Slice",
        "Slice",
        "slice_param { slice_point: 1 slice_point: 4 }",
        tops=3,
        reference=lambda x: (x[:, :1], x[:, 1:4], x[:, 4:]),
    ),
    one(
        "Slice equal",
        "Slice",
        "slice_param { axis: 3 }",
        tops=2,
        opencv=False,
        reference=lambda x: (x[..., :4], x[..., 4:]),
    ),
    one(
        "Slice old",
        "Slice",
        "slice_param { slice_dim: 1 }",
        tops=2,
        opencv=False,
        reference=lambda x: (x[:, :3], x[:, 3:]),
    ),
    one("Flatten", "Flatten", reference=lambda x: x.reshape(2, -1)),
    one("Flatten some", "Flatten", "flatten_param { axis: 1 end_axis: 2 }", reference=lambda x: x.reshape(2, 42, 8)),
    one(
        "Reshape",
        "Reshape",
        "reshape_param { shape { dim: 0 dim: 3 dim: -1 dim: 8 } }",
        reference=lambda x: x.reshape(2, 3, 14, 8),
    ),
    one(
        "Reshape number",
        "Reshape",
        "reshape_param { shape { dim: 2 dim: 42 dim: 8 } }",
        reference=lambda x: x.reshape(2, 42, 8),
    ),
    one(
        "Reshape middle",
        "Reshape",
        "reshape_param { shape { dim: 3 dim: 2 } axis: 1 num_axes: 1 }",
        reference=lambda x: x.reshape(2, 3, 2, 7, 8),
    ),
    one(
        "Reshape more",
        "Reshape",
        "reshape_param { shape { dim: 1 } axis: -1 num_axes: 0 }",
        opencv=False,
        reference=lambda x: x[..., None],
    ),
    one(
        "Permute",
        "Permute",
        "permute_param { order: 0 order: 2 order: 3 order: 1 }",
        reference=lambda x: x.transpose(0, 2, 3, 1),
    ),
    one(
        "Permute some",
        "Permute",
        "permute_param { order: 0 order: 2 }",
        opencv=False,
        reference=lambda x: x.transpose(0, 2, 1, 3),
    ),
    one("Tile", "Tile", "tile_param { axis: 2 tiles: 3 }", opencv=False, reference=lambda x: np.tile(x, (1, 1, 3, 1))),
    one(
        "Crop",
        "Crop",
        "crop_param { axis: 2 offset: 1 offset: 2 }",
        IMAGE,
        (2, 3, 4, 5),
        reference=lambda x, y: x[:, :, 1:5, 2:7],
    ),
    one(
        "Crop one",
        "Crop",
        "crop_param { axis: 1 offset: 1 }",
        IMAGE,
        (2, 3, 4, 5),
        reference=lambda x, y: x[:, 1:4, 1:5, 1:6],
    ),
    one(
        "ShuffleChannel",
        "ShuffleChannel",
        "shuffle_channel_param { group: 3 }",
        reference=lambda x: x.reshape(2, 3, 2, 7, 8).swapaxes(1, 2).reshape(IMAGE),
    ),
    one("Reorg", "Reorg", "reorg_param { stride: 2 }", (2, 8, 4, 6), reference=lambda x: ref.reorg(x, 2)),
    one(
        "BatchReindex",
        "BatchReindex",
        "",
        IMAGE,
        (3,),
        made={"x1": [1, 0, 1]},
        opencv=False,
        reference=lambda x, i: x[i.astype(int)],
    ),
    Case(
        "Parameter",
        "Parameter",
        layer("Parameter", "parameter_param { shape { dim: 1 dim: 6 dim: 7 dim: 8 } }", (), ["p"])
        + layer("Bias", "bias_param { axis: 0 }", ["x", "p"], name="add"),
        {"x": (1, 6, 7, 8)},
        {"l": [(1, 6, 7, 8)]},
        lambda x, p: x + p,
        opencv=False,
    ),
]

RESIZES = [
    one("Interp", "Interp", "interp_param { height: 13 width: 10 }", reference=lambda x: ref.bilinear(x, 13, 10)),
    one(
        "Interp zoom",
        "Interp",
        "interp_param { zoom_factor: 2 pad_beg: 0 pad_end: -1 }",
        opencv=False,
        reference=lambda x: ref.bilinear(x[:, :, :-1, :-1], 11, 13),
    ),
    one(
        "Interp shrink",
        "Interp",
        "interp_param { shrink_factor: 2 }",
        opencv=False,
        reference=lambda x: ref.bilinear(x, 4, 4),
    ),
    one(
        "Interp like",
        "Interp",
        "interp_param { }",
        IMAGE,
        (2, 1, 9, 9),
        opencv=False,
        reference=lambda x, y: ref.bilinear(x, 9, 9),
    ),
    one(
        "Upsample",
        "Upsample",
        "upsample_param { scale: 2 }",
        opencv=False,
        reference=lambda x: x.repeat(2, 2).repeat(2, 3),
    ),
    Case(
        "Upsample places",
        "Upsample",
        layer("Pooling", "pooling_param { kernel_size: 2 stride: 2 }", tops=["p", "m"], name="p")
        + layer("Upsample", "upsample_param { scale: 2 }", ["p", "m"], name="l"),
        {"x": (2, 3, 4, 6)},
        reference=lambda x: x * (x == ref.pool(x, "MAX", (2, 2), (2, 2), (0, 0)).repeat(2, 2).repeat(2, 3)),
        opencv=False,
    ),
]

PRIORS = "min_size: 3 max_size: 6 aspect_ratio: 2 aspect_ratio: 3 flip: true variance: [0.1, 0.1, 0.2, 0.2]"


def priors(count: int) -> Array:
    rng = np.random.default_rng(count)
    low = rng.uniform(0, 0.7, (count, 2))
    boxes = np.concatenate([low, low + rng.uniform(0.1, 0.3, (count, 2))], 1)
    return np.stack([boxes.reshape(-1), np.tile([0.1, 0.1, 0.2, 0.2], count)])[None].astype(np.float32)


def detector(
    name: str, settings: str, *, shared: bool = True, opencv: bool = True, most: float = 1.0, **words: Any
) -> Case:
    count, classes = 40, 4
    rng = np.random.default_rng(crc32(name.encode()))
    made = {
        "x": rng.normal(0, 0.5, (2, count * 4 * (1 if shared else classes))),
        "x1": ref.softmax(rng.normal(0, 2, (2, count, classes)), 2).reshape(2, -1) * most,
        "x2": priors(count),
    }
    given = {"classes": classes, "code": "CENTER_SIZE", "nms": 0.45, "least": 0.1} | words
    body = (
        f"detection_output_param {{ num_classes: {classes} share_location: {str(shared).lower()} "
        f"nms_param {{ nms_threshold: {given['nms']} top_k: {given.get('top', 400)} }} code_type: {given['code']} "
        f"confidence_threshold: {given['least']} background_label_id: {given.get('background', 0)} {settings} }}"
    )
    shapes = [np.shape(v) for v in made.values()]
    return one(
        f"DetectionOutput {name}",
        "DetectionOutput",
        body,
        *shapes,
        made=made,
        opencv=opencv,
        reference=lambda x, y, z: ref.detections(x, y, z, shared=shared, **given),
    )


DETECTION = [
    one(
        "PriorBox",
        "PriorBox",
        f"prior_box_param {{ {PRIORS} clip: true }}",
        (1, 2, 3, 4),
        (1, 3, 20, 30),
        reference=None,
    ),
    one(
        "PriorBox step",
        "PriorBox",
        f"prior_box_param {{ {PRIORS} clip: false step_h: 7 step_w: 5 offset: 0.25 }}",
        (1, 2, 3, 4),
        (1, 3, 20, 30),
        reference=None,
    ),
    one(
        "PriorBox ratios",
        "PriorBox",
        "prior_box_param { min_size: 4 min_size: 8 aspect_ratio: 2 flip: false variance: 0.1 clip: false }",
        (1, 2, 3, 4),
        (1, 3, 20, 30),
        reference=None,
    ),
    one(
        "PriorBox image",
        "PriorBox",
        "prior_box_param { min_size: 3.7 img_h: 8 img_w: 16 step: 4 }",
        (1, 2, 2, 2),
        (1, 3, 20, 30),
        opencv=False,
        reference=lambda x, y: np.stack(
            [
                np.array(
                    [
                        [((i + 0.5) * 4 + u * 1.5) / 16, ((j + 0.5) * 4 + v * 1.5) / 8]
                        for j in range(2)
                        for i in range(2)
                        for u, v in ((-1, -1), (1, 1))
                    ]
                ).reshape(-1),
                np.full(16, 0.1),
            ]
        )[None],
    ),
    detector("plain", "keep_top_k: 20", keep=20),
    detector("few", "keep_top_k: 5", keep=5, top=10),
    detector("all", "", top=-1, nms=0.3, opencv=False),
    detector("corners", "keep_top_k: 20", keep=20, code="CORNER"),
    detector("sizes", "keep_top_k: 20", keep=20, code="CORNER_SIZE", opencv=False),
    detector("encoded", "keep_top_k: 20 variance_encoded_in_target: true", keep=20, encoded=True, opencv=False),
    detector("background", "keep_top_k: 20", keep=20, background=2),
    detector("no background", "keep_top_k: 20", keep=20, opencv=False, background=-1),
    detector("own boxes", "keep_top_k: 20", keep=20, shared=False),
    detector("nothing", "keep_top_k: 20", keep=20, most=0.05, opencv=False),
    one(
        "ROIPooling",
        "ROIPooling",
        "roi_pooling_param { pooled_h: 2 pooled_w: 3 spatial_scale: 0.5 }",
        (1, 3, 8, 8),
        (3, 5),
        made={"x1": [[0, 0, 0, 15, 15], [0, 3, 4, 12, 9], [0, 6, 6, 7, 7]]},
    ),
]

CONT = [[0, 0], [1, 1], [1, 0], [1, 1]]
RECURRENT = [
    one(
        "LSTM",
        "LSTM",
        "recurrent_param { num_output: 3 }",
        (4, 2, 5),
        (4, 2),
        blobs=[(12, 5), (12,), (12, 3)],
        opencv=False,
        made={"x1": CONT},
        reference=lambda x, c, w, b, u: ref.lstm(x, c, w, b, u)[0],
    ),
    one(
        "LSTM static",
        "LSTM",
        "recurrent_param { num_output: 3 }",
        (4, 2, 5),
        (4, 2),
        (2, 2),
        opencv=False,
        made={"x1": CONT},
        blobs=[(12, 5), (12,), (12, 2), (12, 3)],
        reference=lambda x, c, s, w, b, v, u: ref.lstm(x, c, w, b, u, s @ v.T)[0],
    ),
    one(
        "LSTM state",
        "LSTM",
        "recurrent_param { num_output: 3 expose_hidden: true }",
        (4, 2, 5),
        (4, 2),
        (1, 2, 3),
        (1, 2, 3),
        opencv=False,
        tops=3,
        made={"x1": CONT},
        blobs=[(12, 5), (12,), (12, 3)],
        reference=lambda x, c, h, m, w, b, u: ref.lstm(x, c, w, b, u),
    ),
    one(
        "RNN",
        "RNN",
        "recurrent_param { num_output: 3 }",
        (4, 2, 5),
        (4, 2),
        opencv=False,
        made={"x1": CONT},
        blobs=[(3, 5), (3,), (3, 3), (3, 3), (3,)],
        reference=ref.rnn,
    ),
]
