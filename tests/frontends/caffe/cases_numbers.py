"""Cases: functions of one number, matrices, pooling, numbers a channel."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.frontends.caffe import reference as ref
from tests.frontends.caffe.case import IMAGE, Case, Shape, chan, one

ACTIVATIONS = [
    one("AbsVal", "AbsVal", reference=np.abs),
    one("BNLL", "BNLL", reference=lambda x: np.log1p(np.exp(x))),
    one("Sigmoid", "Sigmoid", reference=ref.sigmoid),
    one("TanH", "TanH", reference=np.tanh),
    one("ReLU", "ReLU", reference=lambda x: x.clip(0)),
    one("ReLU slope", "ReLU", "relu_param { negative_slope: 0.1 }", reference=lambda x: np.where(x > 0, x, x * 0.1)),
    one("ReLU6", "ReLU6", reference=lambda x: x.clip(0, 6)),
    one("Clip", "Clip", "clip_param { min: -1 max: 1.5 }", opencv=False, reference=lambda x: x.clip(-1, 1.5)),
    one("PReLU", "PReLU", blobs=[(6,)], reference=lambda x, a: np.where(x > 0, x, x * chan(a))),
    one(
        "PReLU shared",
        "PReLU",
        "prelu_param { channel_shared: true }",
        blobs=[(1,)],
        reference=lambda x, a: np.where(x > 0, x, x * a),
    ),
    one("PReLU matrix", "PReLU", "", (3, 6), blobs=[(6,)], reference=lambda x, a: np.where(x > 0, x, x * a)),
    one("ELU", "ELU", "elu_param { alpha: 1.5 }", reference=lambda x: np.where(x > 0, x, 1.5 * np.expm1(x))),
    one("Swish", "Swish", "swish_param { beta: 1.5 }", opencv=False, reference=lambda x: x * ref.sigmoid(1.5 * x)),
    one("Swish plain", "Swish", reference=lambda x: x * ref.sigmoid(x)),
    one("Mish", "Mish", reference=lambda x: x * np.tanh(np.log1p(np.exp(x)))),
    one("HardSwish", "HardSwish", reference=lambda x: x * (x / 6 + 0.5).clip(0, 1)),
    one("HardSigmoid", "HardSigmoid", opencv=False, reference=lambda x: (x / 6 + 0.5).clip(0, 1)),
    one("Threshold", "Threshold", "threshold_param { threshold: 0.5 }", opencv=False, reference=lambda x: x > 0.5),
    one("Dropout", "Dropout", "dropout_param { dropout_ratio: 0.4 }", reference=lambda x: x),
    one("Power", "Power", "power_param { power: 2 scale: 0.5 shift: 1.5 }", reference=lambda x: (1.5 + 0.5 * x) ** 2),
    one("Power linear", "Power", "power_param { scale: 0.5 shift: -1 }", reference=lambda x: 0.5 * x - 1),
    one("Power plain", "Power", reference=lambda x: x),
    one("Exp", "Exp", "exp_param { base: 2 scale: 0.5 shift: 1 }", reference=lambda x: 2 ** (1 + 0.5 * x)),
    one("Exp e", "Exp", reference=np.exp),
    one(
        "Log",
        "Log",
        "log_param { base: 10 scale: 2 shift: 1 }",
        positive=True,
        opencv=False,
        reference=lambda x: np.log10(1 + 2 * x),
    ),
    one("Log e", "Log", positive=True, reference=np.log),
    one("Softmax", "Softmax", reference=ref.softmax),
    one("Softmax last", "Softmax", "softmax_param { axis: -1 engine: CAFFE }", reference=lambda x: ref.softmax(x, -1)),
]

MATRICES = [
    one(
        "Convolution",
        "Convolution",
        "convolution_param { num_output: 4 kernel_size: 3 pad: 1 stride: 2 }",
        blobs=[(4, 6, 3, 3), (4,)],
        reference=lambda x, w, b: ref.conv(x, w, b, (2, 2), (1, 1), (1, 1)),
    ),
    one(
        "Convolution group",
        "Convolution",
        "convolution_param { num_output: 4 kernel_size: 3 group: 2 bias_term: false }",
        blobs=[(4, 3, 3, 3)],
        reference=lambda x, w: ref.conv(x, w, None, (1, 1), (0, 0), (1, 1), 2),
    ),
    one(
        "Convolution dilated",
        "Convolution",
        "convolution_param { num_output: 3 kernel_size: 3 dilation: 2 pad: 2 }",
        blobs=[(3, 6, 3, 3), (3,)],
        reference=lambda x, w, b: ref.conv(x, w, b, (1, 1), (2, 2), (2, 2)),
    ),
    one(
        "Convolution flat",
        "Convolution",
        "convolution_param { num_output: 3 kernel_h: 1 kernel_w: 5 pad_h: 0 pad_w: 2 stride_h: 2 stride_w: 1 }",
        blobs=[(3, 6, 1, 5), (3,)],
        reference=lambda x, w, b: ref.conv(x, w, b, (2, 1), (0, 2), (1, 1)),
    ),
    one(
        "Convolution pairs",
        "Convolution",
        "convolution_param { num_output: 3 kernel_size: 1 kernel_size: 3 pad: 0 pad: 1 }",
        blobs=[(3, 6, 1, 3), (3,)],
        reference=lambda x, w, b: ref.conv(x, w, b, (1, 1), (0, 1), (1, 1)),
    ),
    one(
        "Convolution 1d",
        "Convolution",
        "convolution_param { num_output: 3 kernel_size: 3 stride: 2 pad: 1 }",
        (2, 4, 9),
        blobs=[(3, 4, 3), (3,)],
        reference=lambda x, w, b: ref.conv(x, w, b, (2,), (1,), (1,)),
    ),
    one(
        "Convolution 3d",
        "Convolution",
        "convolution_param { num_output: 3 kernel_size: 2 kernel_size: 3 kernel_size: 3 }",
        (1, 2, 4, 5, 6),
        blobs=[(3, 2, 2, 3, 3), (3,)],
        reference=lambda x, w, b: ref.conv(x, w, b, (1,) * 3, (0,) * 3, (1,) * 3),
    ),
    *[
        one(
            kind,
            kind,
            f"convolution_param {{ num_output: 6 kernel_size: 3 pad: 1 {group} }}",
            blobs=[(6, 1, 3, 3), (6,)],
            opencv=kind == "ConvolutionDepthwise",
            reference=lambda x, w, b: ref.conv(x, w, b, (1, 1), (1, 1), (1, 1), 6),
        )
        for kind, group in (
            ("DepthwiseConvolution", "group: 6"),
            ("ConvolutionDepthwise", ""),
            ("ConvolutionDepthWise", ""),
        )
    ],
    one(
        "Deconvolution",
        "Deconvolution",
        "convolution_param { num_output: 4 kernel_size: 4 stride: 2 pad: 1 }",
        blobs=[(6, 4, 4, 4), (4,)],
        reference=lambda x, w, b: ref.deconv(x, w, b, 2, 1),
    ),
    one(
        "Deconvolution group",
        "Deconvolution",
        "convolution_param { num_output: 6 kernel_size: 3 stride: 2 group: 3 bias_term: false }",
        blobs=[(6, 2, 3, 3)],
        reference=lambda x, w: ref.deconv(x, w, None, 2, 0, 3),
    ),
    one(
        "DeconvolutionDepthwise",
        "DeconvolutionDepthwise",
        "convolution_param { num_output: 6 kernel_size: 4 stride: 2 pad: 1 bias_term: false }",
        blobs=[(6, 1, 4, 4)],
        opencv=False,
        reference=lambda x, w: ref.deconv(x, w, None, 2, 1, 6),
    ),
    one(
        "InnerProduct",
        "InnerProduct",
        "inner_product_param { num_output: 5 }",
        (3, 2, 3, 4),
        blobs=[(5, 24), (5,)],
        reference=lambda x, w, b: x.reshape(3, -1) @ w.T + b,
    ),
    one(
        "InnerProduct matrix",
        "InnerProduct",
        "inner_product_param { num_output: 5 bias_term: false }",
        (3, 8),
        blobs=[(5, 8)],
        reference=lambda x, w: x @ w.T,
    ),
    one(
        "InnerProduct turned",
        "InnerProduct",
        "inner_product_param { num_output: 5 transpose: true }",
        (3, 8),
        blobs=[(8, 5), (5,)],
        opencv=False,
        reference=lambda x, w, b: x @ w + b,
    ),
    one(
        "InnerProduct axis",
        "InnerProduct",
        "inner_product_param { num_output: 5 axis: 2 }",
        (3, 2, 3, 4),
        blobs=[(5, 12), (5,)],
        reference=lambda x, w, b: x.reshape(3, 2, 12) @ w.T + b,
    ),
    one(
        "InnerProduct last",
        "InnerProduct",
        "inner_product_param { num_output: 5 axis: -1 }",
        (3, 2, 4),
        blobs=[(5, 4), (5,)],
        reference=lambda x, w, b: x @ w.T + b,
    ),
    one(
        "InnerProduct all",
        "InnerProduct",
        "inner_product_param { num_output: 5 axis: 0 }",
        (3, 4),
        blobs=[(5, 12), (5,)],
        opencv=False,
        reference=lambda x, w, b: x.reshape(-1) @ w.T + b,
    ),
    one(
        "Embed",
        "Embed",
        "embed_param { num_output: 3 input_dim: 5 }",
        (2, 4),
        blobs=[(5, 3), (3,)],
        opencv=False,
        made={"x": [[0, 1, 2, 3], [4, 3, 2, 1]]},
        reference=lambda x, w, b: w[x.astype(int)] + b,
    ),
]


def pooling(name: str, settings: str, shape: Shape = IMAGE, *, opencv: bool = True, **words: Any) -> Case:
    given = {"kind": "MAX", "kernel": (3, 3), "stride": (2, 2), "pad": (0, 0)} | words
    return one(
        f"Pooling {name}",
        "Pooling",
        f"pooling_param {{ {settings} }}",
        shape,
        opencv=opencv,
        reference=lambda x: ref.pool(x, **given),
    )


POOLS = [
    pooling("max", "pool: MAX kernel_size: 3 stride: 2"),
    pooling("max pad", "kernel_size: 3 stride: 2 pad: 1", pad=(1, 1)),
    pooling("ave", "pool: AVE kernel_size: 3 stride: 2", kind="AVE"),
    pooling("ave pad", "pool: AVE kernel_size: 3 stride: 2 pad: 1", kind="AVE", pad=(1, 1)),
    pooling(
        "ave clipped", "pool: AVE kernel_size: 2 stride: 2 pad: 1", (1, 2, 4, 5), kind="AVE", kernel=(2, 2), pad=(1, 1)
    ),
    pooling(
        "sides",
        "kernel_h: 2 kernel_w: 3 stride_h: 1 stride_w: 3 pad_h: 0 pad_w: 1",
        kernel=(2, 3),
        stride=(1, 3),
        pad=(0, 1),
    ),
    pooling("floor", "kernel_size: 3 stride: 2 round_mode: FLOOR", opencv=False, ceil=False),
    pooling("whole", "pool: AVE kernel_size: 7 stride: 1", (1, 3, 7, 7), kind="AVE", kernel=(7, 7), stride=(1, 1)),
    one(
        "Pooling global",
        "Pooling",
        "pooling_param { pool: AVE global_pooling: true }",
        reference=lambda x: x.mean((2, 3), keepdims=True),
    ),
    one(
        "Pooling global max",
        "Pooling",
        "pooling_param { pool: MAX global_pooling: true }",
        reference=lambda x: x.max((2, 3), keepdims=True),
    ),
    one(
        "SPP",
        "SPP",
        "spp_param { pyramid_height: 2 pool: AVE }",
        (2, 3, 6, 8),
        opencv=False,
        reference=lambda x: np.concatenate(
            [x.mean((2, 3)), x.reshape(2, 3, 2, 3, 2, 4).mean((3, 5)).reshape(2, -1)], 1
        ),
    ),
    one(
        "SPP max",
        "SPP",
        "spp_param { pyramid_height: 2 }",
        (2, 3, 7, 7),
        opencv=False,
        reference=lambda x: np.concatenate(
            [x.max((2, 3)), ref.pool(x, "MAX", (4, 4), (4, 4), (1, 1)).reshape(2, -1)], 1
        ),
    ),
]

AFFINE = [
    one(
        "BatchNorm",
        "BatchNorm",
        "batch_norm_param { use_global_stats: true eps: 0.001 }",
        blobs=[(6,), (6,), (1,)],
        reference=lambda x, m, v, f: (x - chan(m / f)) / np.sqrt(chan(v / f) + 0.001),
    ),
    one(
        "BatchNorm matrix",
        "BatchNorm",
        "",
        (3, 6),
        blobs=[(6,), (6,), (1,)],
        reference=lambda x, m, v, f: (x - m / f) / np.sqrt(v / f + 1e-5),
    ),
    one(
        "BatchNorm NVIDIA",
        "BatchNorm",
        "",
        blobs=[(6,)] * 2 + [(1,)] + [(6,)] * 2,
        opencv=False,
        reference=lambda x, m, v, f, s, b: (x - chan(m / f)) / np.sqrt(chan(v / f) + 1e-5) * chan(s) + chan(b),
    ),
    one(
        "BN",
        "BN",
        "bn_param { momentum: 0.95 frozen: true }",
        blobs=[(1, 6, 1, 1)] * 4,
        opencv=False,
        reference=lambda x, s, b, m, v: (x - chan(m)) / np.sqrt(chan(v) + 1e-5) * chan(s) + chan(b),
    ),
    one(
        "BN merged",
        "BN",
        "bn_param { bn_mode: INFERENCE }",
        blobs=[(1, 6, 1, 1)] * 2,
        opencv=False,
        reference=lambda x, s, b: x * chan(s) + chan(b),
    ),
    one(
        "Scale",
        "Scale",
        "scale_param { bias_term: true }",
        blobs=[(6,), (6,)],
        reference=lambda x, s, b: x * chan(s) + chan(b),
    ),
    one(
        "Scale axes",
        "Scale",
        "scale_param { axis: 1 num_axes: 2 }",
        blobs=[(6, 7)],
        reference=lambda x, s: x * s[:, :, None],
    ),
    one(
        "Scale all",
        "Scale",
        "scale_param { axis: 1 num_axes: -1 bias_term: true }",
        blobs=[(6, 7, 8)] * 2,
        reference=lambda x, s, b: x * s + b,
    ),
    one("Scale one", "Scale", "scale_param { num_axes: 0 }", blobs=[()], opencv=False, reference=lambda x, s: x * s),
    one("Scale two", "Scale", "scale_param { axis: 0 }", IMAGE, (2, 6), reference=lambda x, s: x * s[:, :, None, None]),
    one(
        "Scale two bias",
        "Scale",
        "scale_param { bias_term: true }",
        IMAGE,
        (6,),
        blobs=[(6,)],
        opencv=False,
        reference=lambda x, s, b: x * chan(s) + chan(b),
    ),
    one(
        "Bias",
        "Bias",
        "bias_param { axis: 2 num_axes: -1 }",
        blobs=[(7, 8)],
        opencv=False,
        reference=lambda x, b: x + b,
    ),
    one(
        "Bias two",
        "Bias",
        "bias_param { axis: 0 }",
        IMAGE,
        (2, 6),
        opencv=False,
        reference=lambda x, b: x + b[:, :, None, None],
    ),
    one("Axpy", "Axpy", "", (2, 6, 1, 1), IMAGE, IMAGE, opencv=False, reference=lambda a, x, y: a * x + y),
    one(
        "Axpy flat",
        "Axpy",
        "",
        (2, 6),
        IMAGE,
        IMAGE,
        opencv=False,
        reference=lambda a, x, y: a[:, :, None, None] * x + y,
    ),
]
