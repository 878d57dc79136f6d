"""MXNet 1.9.1's side of compare.py: a process that does what it is told, one JSON line after the other.

Runs in an environment of its own: python3.11 -m venv oracle && oracle/bin/pip install mxnet==1.9.1 numpy==1.23.5
scipy==1.10.1. Networks have random weights and the BatchNorm statistics of the images they are given.
"""

from __future__ import annotations

import json
import sys
import time

import mxnet as mx
import numpy as np
from mxnet import autograd
from mxnet.contrib.quantization import calib_graph, quantize_graph
from mxnet.gluon import nn
from mxnet.gluon.model_zoo import vision

READY: dict[str, mx.mod.Module] = {}
BACKEND = "MKLDNN_QUANTIZE"


def make(net: str, data: str, prefix: str) -> dict[str, float]:
    """Export a zoo network: Xavier weights, the BatchNorm statistics of these images, scores of mean size 1."""
    mx.random.seed(0)
    np.random.seed(0)
    block = vision.get_model(net, pretrained=False)
    block.initialize(mx.init.Xavier(rnd_type="gaussian", factor_type="in", magnitude=2))
    block.apply(forget)
    images = mx.nd.array(np.load(data))
    block(images[:1])
    with autograd.record():
        answer = block(images)
    answer.backward()  # which is when statistics are taken over
    mx.nd.waitall()
    block.hybridize()
    size = float(block(images[:8]).abs().mean().asscalar())
    last = [p for n, p in block.collect_params().items() if n.endswith("weight")][-1]
    last.set_data(last.data() / max(size, 1e-6))
    block(images[:1])
    block.export(prefix, 0)
    return {"size": size}


def forget(block: nn.HybridBlock) -> None:
    """Have a BatchNorm take over the statistics of the next batch as they are."""
    if isinstance(block, nn.BatchNorm):
        block._kwargs["momentum"] = 0.0


def module(sym, args, auxs, shape) -> mx.mod.Module:
    """A bound module."""
    mod = mx.mod.Module(symbol=sym, label_names=None, context=mx.cpu())
    mod.bind(for_training=False, data_shapes=[("data", tuple(shape))])
    mod.set_params(args, auxs)
    return mod


def load(prefix: str, key: str, shape: list[int]) -> dict[str, float]:
    """Make a float module ready under a key."""
    READY[key] = module(*mx.model.load_checkpoint(prefix, 0), shape)
    return {}


def quantize(prefix: str, data: str, mode: str, key: str, ranges: str, batches: list[int]) -> dict[str, float]:
    """Fuse, quantize, calibrate, fuse; the int8 module is ready under `key/<batch>`. Says how long it took.

    The integer network is saved as `prefix-mode`, with its ranges in six decimals; exact naive ranges in `ranges`.
    """
    images = np.load(data)
    start = time.perf_counter()
    sym, args, auxs = mx.model.load_checkpoint(prefix, 0)
    fused = sym.get_backend_symbol(BACKEND)
    qsym, _, _, collector = quantize_graph(sym=fused, arg_params=args, aux_params=auxs, calib_mode=mode,
                                           quantized_dtype="auto", quantize_mode="smart")  # fmt: skip
    mod = module(fused, args, auxs, (1, *images.shape[1:]))
    mod._exec_group.execs[0].set_monitor_callback(collector.collect, monitor_all=True)
    for image in images:
        mod.forward(mx.io.DataBatch([mx.nd.array(image[None])]), is_train=False)
    mod.get_outputs()[0].wait_to_read()
    limits = dict(collector.min_max_dict) if mode == "naive" else {}
    csym, cargs, cauxs = calib_graph(qsym=qsym, arg_params=args, aux_params=auxs, collector=collector,
                                     calib_mode=mode, quantized_dtype="auto")  # fmt: skip
    csym = csym.get_backend_symbol(BACKEND)
    wall = time.perf_counter() - start
    mx.model.save_checkpoint(f"{prefix}-{mode}", 0, csym, cargs, cauxs)
    np.savez(ranges, **{k: np.array(v, np.float64).reshape(-1) for k, v in limits.items()})
    for batch in batches:
        READY[f"{key}/{batch}"] = module(csym, cargs, cauxs, (batch, *images.shape[1:]))
    return {"wall": wall}


def run(key: str, data: str, out: str) -> dict[str, float]:
    """Outputs for all images, one by one."""
    found = []
    for image in np.load(data):
        READY[key].forward(mx.io.DataBatch([mx.nd.array(image[None])]), is_train=False)
        found.append(READY[key].get_outputs()[0].asnumpy()[0])
    np.save(out, np.stack(found))
    return {}


def clock(key: str, batch: int, shape: list[int], seconds: float) -> dict[str, float]:
    """Mean seconds of a run, for some seconds."""
    feed = mx.io.DataBatch([mx.nd.array(np.random.RandomState(0).standard_normal((batch, *shape)).astype(np.float32))])
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 3:
        start = time.perf_counter()
        READY[key].forward(feed, is_train=False)
        READY[key].get_outputs()[0].wait_to_read()
        times.append(time.perf_counter() - start)
    return {"median": float(np.median(times))}


DO = {"make": make, "load": load, "quantize": quantize, "run": run, "clock": clock}

for line in sys.stdin:
    order = json.loads(line)
    answer = DO[order.pop("do")](**order)
    print("ANSWER " + json.dumps(answer), flush=True)
