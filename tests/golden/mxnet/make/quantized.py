"""Golden networks, quantized and fused by MXNet 1.9.1 in many ways: ../quantized.npz.

Run in an environment of its own (it only reads and writes files here):

    python3.11 -m venv oracle && oracle/bin/pip install mxnet==1.9.1 numpy==1.23.5 scipy==1.10.1
    oracle/bin/python tests/golden/mxnet/make/quantized.py

Keys: `<network>|float|json`, `<network>|param|<name>`, `<network>|in|<name>`, `<network>|out|<i>` (MXNet's float
answers), `<network>|aux|<name>`; `<network>|<case>|json`, `…|param|<name>` (only what quantizing made),
`…|out|<i>` (MXNet's answers in integers), `<network>|calib|data` what was calibrated on.
"""

from __future__ import annotations

import os
from pathlib import Path

os.environ["MXNET_SUBGRAPH_BACKEND"] = "NONE"  # or the collector would see fused layers where there are none

import mxnet as mx
import numpy as np
from mxnet.contrib.quantization import quantize_model

S = mx.sym
PATH = Path(__file__).resolve().parent.parent / "quantized.npz"
FUSE = "MKLDNN_QUANTIZE"


def residual():
    """conv-bn-relu, conv-bn-add-relu, pooling, two convolutions, concat, flatten, two dense layers."""
    x = S.var("data")
    r = S.Activation(S.BatchNorm(conv(x, 8, 3, "conv0"), fix_gamma=False, name="bn0"), act_type="relu", name="relu0")
    b = S.BatchNorm(conv(r, 8, 3, "conv1", no_bias=True), name="bn1")
    r = S.Activation(S.elemwise_add(b, r, name="add1"), act_type="relu", name="relu1")
    p = S.Pooling(r, kernel=(2, 2), stride=(2, 2), pool_type="max", name="pool1")
    c = S.Flatten(S.Concat(conv(p, 4, 1, "conv2"), conv(p, 4, 1, "conv3"), name="cat"), name="flat")
    d = S.Activation(S.FullyConnected(c, num_hidden=8, name="fc0"), act_type="relu", name="relu2")
    return S.FullyConnected(d, num_hidden=5, name="fc1"), (3, 8, 8)


def mixed():
    """A sum whose first operand is not the convolution, clip, leaky, Dropout, a lone BatchNorm, two outputs."""
    r = S.Activation(S.var("data"), act_type="relu", name="r")
    a = r + S.BatchNorm(conv(r, 4, 1, "ca", no_bias=True), name="ba")
    c = S.clip(conv(a, 4, 3, "cb"), a_min=0, a_max=6, name="r6")
    k = S.LeakyReLU(conv(c, 4, 1, "cc"), act_type="leaky", slope=0.1, name="lk")
    s = S.Dropout(S.elemwise_add(c, conv(k, 4, 1, "cd"), name="addd"), name="drop")
    e = S.Activation(S.BatchNorm(s, name="bne"), act_type="relu", name="re")
    p = S.Pooling(e, global_pool=True, kernel=(1, 1), pool_type="avg", name="gap")
    f = S.FullyConnected(S.square(S.FullyConnected(p, num_hidden=6, name="f0"), name="sq"), num_hidden=3, name="f1")
    return S.Group([f, s]), (4, 6, 6)


def attention():
    """One self-attention of two heads, in MXNet's interleaved form."""
    qkv = S.FullyConnected(S.var("data"), num_hidden=24, flatten=False, name="qkv")
    score = S.softmax(S.contrib.interleaved_matmul_selfatt_qk(qkv, heads=2, name="qk"), name="sm")
    v = S.contrib.interleaved_matmul_selfatt_valatt(qkv, score, heads=2, name="va")
    return S.FullyConnected(v, num_hidden=8, flatten=False, no_bias=True, name="out"), (4, 8)


def lstm():
    """A recurrent layer between an embedding and a dense layer."""
    e = S.SwapAxis(S.Embedding(S.var("data"), input_dim=20, output_dim=6, name="emb"), dim1=0, dim2=1, name="sw0")
    states = S.zeros((1, 8, 8), name="h0"), S.zeros((1, 8, 8), name="c0")
    y = S.RNN(e, S.var("rnn_parameters"), *states, state_size=8, num_layers=1, mode="lstm", name="lstm")
    last = S.SequenceLast(y, name="last")
    return S.FullyConnected(last, num_hidden=3, name="fc"), (5,)


def conv(x, filters, size, name, **more):
    return S.Convolution(x, num_filter=filters, kernel=(size, size), pad=(size // 2,) * 2, name=name, **more)


CASES = {
    "residual": {
        "fused naive": ("naive", "auto", "tensor-wise", "full", True, False, []),
        "fused naive post": ("naive", "auto", "tensor-wise", "full", True, True, []),
        "fused entropy post": ("entropy", "auto", "tensor-wise", "smart", True, True, []),
        "fused none": ("none", "auto", "tensor-wise", "full", True, False, []),
        "fused channel post": ("naive", "auto", "channel-wise", "smart", True, True, []),
        "fused uint8": ("naive", "uint8", "channel-wise", "smart", True, False, []),
        "fused excluded": ("naive", "auto", "tensor-wise", "full", True, True, ["sg_mkldnn_conv_bn_add_act_1", "flat"]),
        "plain naive": ("naive", "auto", "tensor-wise", "full", False, False, []),
        "plain entropy int8 post": ("entropy", "int8", "tensor-wise", "smart", False, True, []),
        "plain uint8": ("naive", "uint8", "tensor-wise", "full", False, False, []),
        "plain none": ("none", "int8", "tensor-wise", "full", False, False, []),
    },
    "mixed": {
        "fused naive": ("naive", "auto", "tensor-wise", "smart", True, False, []),
        "fused naive post": ("naive", "auto", "tensor-wise", "full", True, True, []),
        "plain naive": ("naive", "auto", "tensor-wise", "full", False, False, []),
    },
    "attention": {"fused naive post": ("naive", "auto", "tensor-wise", "full", True, True, [])},
    "lstm": {"plain naive": ("naive", "auto", "tensor-wise", "full", False, False, [])},
}
"""calib_mode, quantized_dtype, quantize_granularity, quantize_mode, fused before, fused after, excluded_sym_names."""

BATCH = 8


def run(sym, args, auxs, x):
    """Answers of a network."""
    shaped = {"data": mx.nd.array(x), **args}
    found = sym.bind(mx.cpu(), {k: shaped[k] for k in sym.list_arguments()}, aux_states=auxs, grad_req="null")
    return [o.asnumpy() for o in found.forward(is_train=False)]


def values(name, shape, rng):
    """Random parameters in sizes as training leaves them."""
    if name.endswith(("gamma", "moving_var")):
        return rng.uniform(0.5, 1.5, shape)
    if len(shape) < 2 or name.startswith("emb"):
        return rng.standard_normal(shape) * 0.3
    return rng.standard_normal(shape) * np.sqrt(1.6 / np.prod(shape[1:]))


def text(sym):
    return np.frombuffer(sym.tojson().encode(), np.uint8)


def main():
    """Make the file."""
    kept = {}
    for number, (network, cases) in enumerate(CASES.items()):
        rng = np.random.RandomState(number)
        sym, shape = globals()[network]()
        shape = (BATCH, *shape)

        def feed(count, shape=shape, rng=rng, whole=network == "lstm"):
            found = [rng.randint(0, 20, shape) if whole else rng.standard_normal(shape) for _ in range(count)]
            return np.concatenate(found).astype(np.float32)

        calib, x = feed(4), feed(1)
        shapes, _, aux_shapes = sym.infer_shape(data=shape)
        args = {
            k: mx.nd.array(values(k, s, rng)) for k, s in zip(sym.list_arguments(), shapes, strict=True) if k != "data"
        }
        auxs = {k: mx.nd.array(values(k, s, rng)) for k, s in zip(sym.list_auxiliary_states(), aux_shapes, strict=True)}
        kept |= {f"{network}|float|json": text(sym), f"{network}|in|data": x, f"{network}|calib|data": calib}
        kept |= {f"{network}|param|{k}": v.asnumpy() for k, v in {**args, **auxs}.items()}
        kept |= {f"{network}|out|{i}": v for i, v in enumerate(run(sym, args, auxs, x))}
        for backend in ("MKLDNN", FUSE):
            kept[f"{network}|float {backend}|json"] = text(sym.get_backend_symbol(backend))
        for case, (mode, dtype, grain, quantize_mode, fuse, post, excluded) in cases.items():
            made, more, states = quantize_model(
                sym.get_backend_symbol(FUSE) if fuse else sym,
                args,
                auxs,
                ctx=mx.cpu(),
                excluded_sym_names=excluded,
                calib_mode=mode,
                calib_data=None if mode == "none" else mx.io.NDArrayIter(calib, batch_size=BATCH),
                num_calib_examples=len(calib),
                quantized_dtype=dtype,
                quantize_mode=quantize_mode,
                quantize_granularity=grain,
            )
            made = made.get_backend_symbol(FUSE) if post else made
            key = f"{network}|{case}"
            kept[f"{key}|json"] = text(made)
            kept |= {f"{key}|param|{k}": v.asnumpy() for k, v in more.items() if k not in args}
            try:
                outs = run(made, more, states, x)
            except mx.MXNetError as e:  # MXNet quantizes networks that it cannot run then
                print(f"{key}: not run:", next(line for line in str(e).splitlines() if "MXNetError" in line))
                continue
            kept |= {f"{key}|out|{i}": v for i, v in enumerate(outs)}
            want = kept[f"{network}|out|0"]
            error = np.square(want - outs[0]).mean()
            print(f"{key}: {10 * np.log10(np.square(want).mean() / error):.1f} dB")
    np.savez_compressed(PATH, **kept)
    print(PATH.name, PATH.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
