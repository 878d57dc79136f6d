"""Small whole networks as checkpoints, with MXNet's own answers (nets/). How to run it: see casefile.py.

resnetv2, mobilenetv2    blocks of Gluon's zoo, exported
old                      of the old symbol zoo, in the JSON of MXNet 0.8, with a label
"""

from __future__ import annotations

from pathlib import Path

import mxnet as mx
import numpy as np
from mxnet import autograd
from mxnet.gluon import nn
from mxnet.gluon.model_zoo.vision import mobilenet, resnet
from symbol_zoo import old_json
from symbol_zoo import resnet as old_resnet

FOLDER = Path(__file__).resolve().parent.parent / "nets"


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    data = np.random.RandomState(0).standard_normal((2, 3, 20, 20)).astype("float32")
    gluon("resnetv2", resnet.ResNetV2(resnet.BasicBlockV2, [1, 1], [8, 8, 12], classes=10, prefix="resnetv20_"), data)
    gluon("mobilenetv2", mobile(), data)
    old("old", data)
    print(sum(f.stat().st_size for f in FOLDER.iterdir()), "bytes")


def mobile():
    """Inverted bottlenecks with and without a shortcut, between ordinary convolutions."""
    net = nn.HybridSequential(prefix="mobilenetv20_")
    with net.name_scope():
        mobilenet._add_conv(net, 8, kernel=3, stride=2, pad=1, relu6=True)
        for i, o, t, s in ((8, 8, 1, 1), (8, 12, 4, 2), (12, 12, 4, 1)):
            net.add(mobilenet.LinearBottleneck(in_channels=i, channels=o, t=t, stride=s))
        mobilenet._add_conv(net, 24, relu6=True)
        net.add(nn.GlobalAvgPool2D(), nn.Conv2D(10, 1, use_bias=False, prefix="pred_"), nn.Flatten())
    return net


def gluon(name, net, data) -> None:
    net.initialize(mx.init.Xavier())
    net(mx.nd.array(data))
    for _ in range(8):  # moving means and variances come near those of the data
        with autograd.record():
            answer = net(mx.nd.array(data))
        answer.backward()
    net.hybridize()
    out = net(mx.nd.array(data)).asnumpy()
    net.export(str(FOLDER / name), epoch=0)
    np.savez_compressed(FOLDER / f"{name}.npz", data=data, out=out)


def old(name, data) -> None:
    sym = old_resnet((1, 1), classes=10, width=2)
    rng = np.random.RandomState(1)
    shapes, _, states = sym.infer_shape(data=data.shape)
    given = dict(zip(sym.list_arguments(), shapes, strict=True))
    args = {k: mx.nd.array(rng.standard_normal(s) * 0.3) for k, s in given.items()} | {"data": mx.nd.array(data)}
    names = sym.list_auxiliary_states()
    auxs = {k: mx.nd.array(rng.random_sample(s) + 0.5) for k, s in zip(names, states, strict=True)}
    out = sym.bind(mx.cpu(), args, aux_states=auxs, grad_req="null").forward(is_train=False)[0].asnumpy()
    (FOLDER / f"{name}-symbol.json").write_text(old_json(sym), "utf-8")
    kept = {f"arg:{k}": v for k, v in args.items() if k not in ("data", "softmax_label")}
    mx.nd.save(str(FOLDER / f"{name}-0000.params"), kept | {f"aux:{k}": v for k, v in auxs.items()})
    np.savez_compressed(FOLDER / f"{name}.npz", data=data, out=out)


if __name__ == "__main__":
    main()
