"""SSD on VGG16 for 300 x 300 images, as published, with random weights: symbol, parameters, an input, MXNet's outputs.

    oracle/bin/python tests/golden/mxnet/make/ssd_vgg16.py FOLDER           (see casefile.py; about 100 MB)

bench/mxnet/ssd_check.py reads what this writes:

    ssd300-symbol.json, ssd300-0000.params    detections (N, 8732, 6)
    ssd300_parts-symbol.json                  class probabilities, offsets, anchors, detections
    ssd300.npz                                data, and the four outputs

The last layers are scaled until class scores and offsets spread as in a trained network: random ones would all be the
same, and which of a thousand equal boxes survives would hang on the last bit.
"""

from __future__ import annotations

import sys
from pathlib import Path

import mxnet as mx
import numpy as np
from ssd_symbol import Map, detecting

CLASSES, SIZE, BATCH = 20, 300, 2
MEAN = np.float32([123, 117, 104])[None, :, None, None]

STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
SIZES = ((0.1, 0.141), (0.2, 0.272), (0.37, 0.447), (0.54, 0.619), (0.71, 0.79), (0.88, 0.961))
FEW, MANY = (1, 2, 0.5), (1, 2, 0.5, 3, 1.0 / 3)
RATIOS = (FEW, MANY, MANY, MANY, FEW, FEW)
STEPS = [step / SIZE for step in (8, 16, 32, 64, 100, 300)]
EXTRA = ((512, 2, 1), (256, 2, 1), (256, 1, 0), (256, 1, 0))
"""Maps behind the backbone: filters, stride, pad."""


def relu(x, name):
    """An activation."""
    return mx.sym.Activation(x, act_type="relu", name=name)


def feature_maps():
    """The six maps: 38, 19, 10, 5, 3 and 1 wide."""
    x, first = mx.sym.Variable("data"), None
    for i, stage in enumerate(STAGES, 1):
        for k, width in enumerate(stage, 1):
            x = mx.sym.Convolution(x, kernel=(3, 3), pad=(1, 1), num_filter=width, name=f"conv{i}_{k}")
            x = relu(x, f"relu{i}_{k}")
        first = x if i == 4 else first
        words = {"kernel": (2, 2), "stride": (2, 2)} if i < 5 else {"kernel": (3, 3), "stride": (1, 1), "pad": (1, 1)}
        if i == 3:
            words["pooling_convention"] = "full"
        x = mx.sym.Pooling(x, pool_type="max", name=f"pool{i}", **words)
    x = mx.sym.Convolution(x, kernel=(3, 3), pad=(6, 6), dilate=(6, 6), num_filter=1024, name="fc6")
    x = mx.sym.Convolution(relu(x, "relu6"), kernel=(1, 1), num_filter=1024, name="fc7")
    maps = [x := relu(x, "relu7")]
    for i, (width, stride, pad) in enumerate(EXTRA, 2):
        name = f"multi_feat_{i}_conv"
        x = mx.sym.Convolution(x, kernel=(1, 1), num_filter=max(128, width // 2), name=f"{name}_1x1_conv")
        x = mx.sym.Convolution(
            relu(x, f"{name}_1x1_relu"), kernel=(3, 3), stride=(stride, stride), pad=(pad, pad), num_filter=width,
            name=f"{name}_3x3_conv",
        )  # fmt: skip
        maps.append(x := relu(x, f"{name}_3x3_relu"))
    found = [Map(first, SIZES[0], RATIOS[0], STEPS[0], norm=20, channels=512)]
    return found + [Map(m, s, r, step) for m, s, r, step in zip(maps, SIZES[1:], RATIOS[1:], STEPS[1:], strict=True)]


def weights(symbol):
    """Random parameters, He-like, so that activations neither fade nor grow."""
    rng, shapes = np.random.RandomState(5), {"data": (BATCH, 3, SIZE, SIZE)}
    found = {}
    for name, shape in zip(symbol.list_arguments(), symbol.infer_shape(**shapes)[0], strict=True):
        if name == "data":
            continue
        if name.endswith("_scale"):
            found[name] = np.full(shape, 20, np.float32)
        elif name.endswith("_bias"):
            found[name] = rng.normal(0, 0.05, shape).astype(np.float32)
        else:
            found[name] = rng.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape).astype(np.float32)
    return found


def run(symbol, params, data):
    """Outputs of a symbol."""
    bound = {n: mx.nd.array(x) for n, x in {**params, "data": data}.items() if n in symbol.list_arguments()}
    return [x.asnumpy() for x in symbol.bind(mx.cpu(), bound, grad_req="null").forward(is_train=False)]


def main(folder):
    """Write everything."""
    folder.mkdir(parents=True, exist_ok=True)
    deploy = detecting(feature_maps(), CLASSES, nms_threshold=0.45)
    inner = deploy.get_internals()
    parts = mx.sym.Group(
        [inner[f"{n}_output"] for n in ("cls_prob", "multibox_loc_pred", "multibox_anchors")] + [deploy]
    )
    params = weights(deploy)
    blocks = np.random.RandomState(6).randint(0, 256, (BATCH, 3, 15, 15)).repeat(20, 2).repeat(20, 3)
    noise = np.random.RandomState(7).normal(0, 20, blocks.shape)
    data = np.float32(np.clip(blocks + noise, 0, 255)) - MEAN
    heads = [n for n in inner.list_outputs() if n.endswith("_pred_conv_output")]
    for name, x in zip(heads, run(mx.sym.Group([inner[n] for n in heads]), params, data), strict=True):
        wanted = 2.5 if "_cls_" in name else 1.0
        for part in ("weight", "bias"):
            params[name.replace("output", part)] *= np.float32(wanted / x.std())
    deploy.save(str(folder / "ssd300-symbol.json"))
    parts.save(str(folder / "ssd300_parts-symbol.json"))
    mx.nd.save(str(folder / "ssd300-0000.params"), {f"arg:{n}": mx.nd.array(x) for n, x in params.items()})
    outs = dict(zip(("cls_prob", "loc", "anchors", "detection"), run(parts, params, data), strict=True))
    np.savez(folder / "ssd300.npz", data=data, **outs)
    print({k: (v.shape, float(v.min()), float(v.max())) for k, v in outs.items()})
    print("detections", (outs["detection"][..., 0] >= 0).sum(1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
