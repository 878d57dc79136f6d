"""The network of examples/mxnet_tutorial.py: trained on Fashion-MNIST in MXNet, with what MXNet's own int8 makes of it.

Run in the oracle environment (see casefile.py), with the folder of the four .gz files:

    oracle/bin/python tests/golden/mxnet/make/tutorial.py /usr/share/datasets/fashion-mnist

Writes examples/mxnet/fashion-{symbol.json,0000.params}, fashion.{rec,idx} (600 test images) and
tests/golden/mxnet/tutorial.npz (MXNet's float and int8 scores, accuracies and naive ranges for these images).
"""

from __future__ import annotations

import gzip
import io
import sys
from itertools import islice
from pathlib import Path

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon, recordio
from mxnet.contrib.quantization import calib_graph, quantize_graph
from mxnet.gluon import nn
from PIL import Image

ROOT = Path(__file__).resolve().parents[4]
OUT = ROOT / "examples" / "mxnet"
IMAGES, BATCH, CALIB = 600, 20, 10


def read(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 28, 28) and labels (N,)."""

    def raw(name: str) -> bytes:
        with gzip.open(folder / f"{part}-{name}-ubyte.gz") as file:
            return file.read()

    images = np.frombuffer(raw("images-idx3"), np.uint8, offset=16)
    return images.reshape(-1, 28, 28), np.frombuffer(raw("labels-idx1"), np.uint8, offset=8)


class Block(gluon.HybridBlock):
    """Two convolutions and a way around them."""

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        with self.name_scope():
            self.a = nn.Conv2D(channels, 3, stride, 1, use_bias=False)
            self.an = nn.BatchNorm()
            self.b = nn.Conv2D(channels, 3, 1, 1, use_bias=False)
            self.bn = nn.BatchNorm()
            self.way = nn.Conv2D(channels, 1, stride, use_bias=False) if stride > 1 else None

    def hybrid_forward(self, F, x):
        y = F.Activation(self.an(self.a(x)), act_type="relu")
        y = self.bn(self.b(y))
        return F.Activation(y + (self.way(x) if self.way else x), act_type="relu")


def network() -> gluon.HybridBlock:
    """A small residual network, 62,000 parameters."""
    net = nn.HybridSequential(prefix="fashion_")
    with net.name_scope():
        net.add(nn.Conv2D(16, 3, 1, 1, use_bias=False), nn.BatchNorm(), nn.Activation("relu"))
        net.add(Block(16, 1), Block(32, 2), Block(48, 2), nn.GlobalAvgPool2D(), nn.Flatten(), nn.Dense(10))
    return net


def train(net: gluon.HybridBlock, images: np.ndarray, labels: np.ndarray, epochs: int = 3) -> None:
    """Adam on the training images."""
    net.initialize(mx.init.Xavier())
    net.hybridize()
    loss = gluon.loss.SoftmaxCrossEntropyLoss()
    steps = epochs * (len(images) // 64)
    rate = mx.lr_scheduler.CosineScheduler(steps, 0.004, 1e-5)
    trainer = gluon.Trainer(net.collect_params(), "adam", {"lr_scheduler": rate})
    rng = np.random.RandomState(0)
    for epoch in range(epochs):
        order, total = rng.permutation(len(images)), 0.0
        for start in range(0, len(order) - 63, 64):
            rows = order[start : start + 64]
            x = mx.nd.array((images[rows, None].astype(np.float32) - 72.9) / 90.0)
            with autograd.record():
                value = loss(net(x), mx.nd.array(labels[rows]))
            value.backward()
            trainer.step(64)
            total += float(value.mean().asscalar())
        print("epoch", epoch, "loss", total / (len(order) // 64))


def pack(images: np.ndarray, labels: np.ndarray) -> None:
    """Write the image-record file."""
    record = recordio.MXIndexedRecordIO(str(OUT / "fashion.idx"), str(OUT / "fashion.rec"), "w")
    for i in range(IMAGES):
        png = io.BytesIO()
        Image.fromarray(images[i]).save(png, "PNG", optimize=True)
        record.write_idx(i, recordio.pack(recordio.IRHeader(0, float(labels[i]), i, 0), png.getvalue()))
    record.close()


def batches() -> mx.io.DataIter:
    """The images as the tutorial reads them."""
    return mx.io.ImageRecordIter(
        path_imgrec=str(OUT / "fashion.rec"), data_shape=(1, 28, 28), batch_size=BATCH,
        mean_r=72.9, std_r=90.0, preprocess_threads=1, prefetch_buffer=1,
    )  # fmt: skip


def module(sym, args, auxs, data) -> mx.mod.Module:
    """A bound module."""
    mod = mx.mod.Module(symbol=sym, label_names=None, context=mx.cpu())
    mod.bind(for_training=False, data_shapes=data.provide_data)
    mod.set_params(args, auxs)
    return mod


def scores(mod: mx.mod.Module) -> tuple[np.ndarray, np.ndarray]:
    """Scores and labels for all images."""
    found, labels = [], []
    for batch in batches():
        mod.forward(batch, is_train=False)
        keep = BATCH - batch.pad
        found.append(mod.get_outputs()[0].asnumpy()[:keep])
        labels.append(batch.label[0].asnumpy()[:keep])
    return np.concatenate(found), np.concatenate(labels)


def main(folder: Path) -> None:
    """Train, export, quantize in MXNet, keep everything."""
    mx.random.seed(1)
    np.random.seed(1)
    net = network()
    train(net, *read(folder, "train"))
    net.export(str(OUT / "fashion"), epoch=0)
    pack(*read(folder, "t10k"))
    sym, args, auxs = mx.model.load_checkpoint(str(OUT / "fashion"), 0)
    data = batches()
    floats, labels = scores(module(sym, args, auxs, data))
    kept = {"float": floats, "labels": labels}
    print("float", (floats.argmax(1) == labels).mean())
    fused = sym.get_backend_symbol("MKLDNN_QUANTIZE")
    for mode in ("naive", "entropy"):
        qsym, qargs, qauxs, collector = quantize_graph(sym=fused, arg_params=args, aux_params=auxs, calib_mode=mode,
                                                       quantized_dtype="auto")  # fmt: skip
        mod = module(fused, args, auxs, data)
        mod._exec_group.execs[0].set_monitor_callback(collector.collect, monitor_all=True)
        for batch in islice(batches(), CALIB):
            mod.forward(batch, is_train=False)
        qsym, qargs, qauxs = calib_graph(qsym=qsym, arg_params=args, aux_params=auxs, collector=collector,
                                         calib_mode=mode, quantized_dtype="auto")  # fmt: skip
        qsym = qsym.get_backend_symbol("MKLDNN_QUANTIZE")
        quant, _ = scores(module(qsym, qargs, qauxs, data))
        kept[f"{mode}_int8"] = quant
        print(mode, (quant.argmax(1) == labels).mean())
        if mode == "naive":
            kept |= {f"range|{k}": np.array([v[0], v[1]], np.float32) for k, v in collector.min_max_dict.items()}
    np.savez_compressed(ROOT / "tests" / "golden" / "mxnet" / "tutorial.npz", **kept)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
