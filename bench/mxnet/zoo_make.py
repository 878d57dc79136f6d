"""Make one network of MXNet's zoos as a checkpoint, with an input and MXNet's own output. Run in MXNet's environment.

    oracle/bin/python bench/mxnet/zoo_make.py NAME FOLDER

Weights are random (Xavier), statistics of batch normalization those of a batch of random images, and the last layer is
scaled so that the mean absolute output is 1. Writes FOLDER/net-symbol.json, net-0000.params and net.npz, in which
`exact` is the output in double precision; networks of the old symbol zoo also get logits-symbol.json, which stops in
front of the softmax.
"""

from __future__ import annotations

import sys
from pathlib import Path

import mxnet as mx
import numpy as np
from mxnet import autograd
from mxnet.gluon import nn
from mxnet.gluon.model_zoo import vision

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "golden" / "mxnet" / "make"))
from symbol_zoo import RESNET_152, inception_bn, old_json, resnet

OLD = {"inception-bn": inception_bn, "resnet-152": lambda: resnet(RESNET_152)}
STATISTICS, SHOWN = 6, 2
"""Images for the statistics, and in the file."""


def main() -> None:
    name, folder = sys.argv[1], Path(sys.argv[2])
    mx.random.seed(0)
    rng = np.random.RandomState(0)
    size = 299 if name == "inceptionv3" else 224
    images = _images(rng, STATISTICS + SHOWN, size)
    seen, shown = images[:STATISTICS], images[STATISTICS:]
    (old if name in OLD else gluon)(name, folder, seen, shown)


def _images(rng, count, size):
    """Smooth colour fields with noise, of about unit deviation: photographs are no white noise either."""
    coarse = rng.standard_normal((count, 3, 8, 8)).astype("float32")
    grown = mx.nd.contrib.BilinearResize2D(mx.nd.array(coarse), height=size, width=size).asnumpy()
    return (grown + 0.3 * rng.standard_normal(grown.shape)).astype("float32")


def gluon(name, folder, seen, shown) -> None:
    net = vision.get_model(name, classes=1000)
    net.initialize(mx.init.Xavier(rnd_type="gaussian", factor_type="in", magnitude=2))
    blocks = _norms(net)
    for block in blocks:
        block._kwargs["momentum"] = 0.0
    net(mx.nd.array(shown))
    if blocks:
        with autograd.record():
            answer = net(mx.nd.array(seen))
        answer.backward()
        mx.nd.waitall()
    for block in blocks:
        block._kwargs["momentum"] = 0.9
    scale = float(np.abs(net(mx.nd.array(shown)).asnumpy()).mean())
    for param in _last(net).collect_params().values():
        param.set_data(param.data() / scale)
    net.hybridize()
    out = net(mx.nd.array(shown)).asnumpy()
    net.export(str(folder / "net"), epoch=0)
    net.cast("float64")
    exact = net(mx.nd.array(shown, dtype="float64")).asnumpy()
    np.savez(folder / "net.npz", data=shown, out=out, exact=exact)


def _norms(block) -> list:
    """All batch normalizations."""
    found = [block] if isinstance(block, nn.BatchNorm) else []
    return found + [b for child in block._children.values() for b in _norms(child)]


def _last(net):
    """The layer whose weights scale the output."""
    weighted = (nn.Dense, nn.Conv2D)
    layers: list = []

    def walk(block) -> None:
        if isinstance(block, weighted):
            layers.append(block)
        for child in block._children.values():
            walk(child)

    walk(net)
    return layers[-1]


def old(name, folder, seen, shown) -> None:
    sym = OLD[name]()
    args, auxs = _statistics(sym, seen)
    logits = sym.get_internals()["fc1_output"]
    raw = _run(logits, args, auxs, shown)
    for key in ("fc1_weight", "fc1_bias"):
        args[key] = args[key] / float(np.abs(raw).mean())
    outs = {"out": _run(sym, args, auxs, shown), "exact": _run(sym, args, auxs, shown, "float64")}
    outs |= {"logits": _run(logits, args, auxs, shown), "logits_exact": _run(logits, args, auxs, shown, "float64")}
    (folder / "net-symbol.json").write_text(old_json(sym), "utf-8")
    (folder / "logits-symbol.json").write_text(old_json(logits), "utf-8")
    given = {f"arg:{k}": mx.nd.array(v) for k, v in args.items()} | {
        f"aux:{k}": mx.nd.array(v) for k, v in auxs.items()
    }
    mx.nd.save(str(folder / "net-0000.params"), given)
    np.savez(folder / "net.npz", data=shown, **outs)


def _statistics(sym, seen):
    """Random parameters, and the auxiliary states after one batch in training, with all momentum at zero."""
    rng = np.random.RandomState(1)
    fresh = mx.sym.load_json(sym.tojson().replace('"momentum": "0.9"', '"momentum": "0.0"'))
    inputs = ("data", "softmax_label")
    shapes, _, states = fresh.infer_shape(data=seen.shape)
    args = {}
    for key, shape in zip(fresh.list_arguments(), shapes, strict=True):
        if key not in inputs:
            wide = np.sqrt(2 / np.prod(shape[1:])) if len(shape) > 1 else 0
            args[key] = (rng.standard_normal(shape) * wide + key.endswith("gamma")).astype("float32")
    fed = {k: mx.nd.array(v) for k, v in args.items()} | {
        "data": mx.nd.array(seen),
        "softmax_label": mx.nd.zeros(len(seen)),
    }
    names = fresh.list_auxiliary_states()
    auxs = {k: mx.nd.zeros(s) + k.endswith("var") for k, s in zip(names, states, strict=True)}
    run = fresh.bind(mx.cpu(), fed, args_grad={k: mx.nd.zeros(v.shape) for k, v in fed.items()}, aux_states=auxs)
    run.forward(is_train=True)
    run.backward()
    mx.nd.waitall()
    return args, {k: v.asnumpy() for k, v in run.aux_dict.items()}


def _run(sym, args, auxs, data, dtype="float32"):
    given = {**args, "data": data, "softmax_label": np.zeros(len(data))}
    fed = {k: mx.nd.array(given[k], dtype=dtype) for k in sym.list_arguments()}
    states = {k: mx.nd.array(v, dtype=dtype) for k, v in auxs.items()}
    run = sym.bind(mx.cpu(), fed, aux_states=states, grad_req="null")
    return run.forward(is_train=False)[0].asnumpy()


if __name__ == "__main__":
    main()
