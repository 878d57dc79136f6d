"""Train the network that `fewbit demo` quantizes, and write the files of src/fewbit/demo_data.

    stem conv → residual block → residual block, stride 2 → depthwise-separable residual block
              → residual block, stride 2 → average → linear                     (BatchNorm after each convolution)

The data is Fashion-MNIST (60,000 + 10,000 grey images of 28×28, 10 classes, MIT) as the Debian package
`dataset-fashion-mnist` installs it. Needs `pip install 'fewbit[torch]'`; takes about seven minutes on two cores:

    python examples/train_demo_network.py --out src/fewbit/demo_data

BatchNorm stays in the exported graph, as it does in most models that people own: folding it is fewbit's work.
The seed is fixed; another machine or thread count may still round differently.
"""

from __future__ import annotations

import argparse
import gzip
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewbit.data.demo import normalize

CLASSES = 10


class ConvBN(nn.Module):
    """Convolution and BatchNorm, padded so that stride 1 keeps the size."""

    def __init__(self, cin: int, cout: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(cout)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x))


class Residual(nn.Module):
    """relu(conv(relu(conv(x))) + shortcut(x)), the basic block of ResNet."""

    def __init__(self, cin: int, cout: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = ConvBN(cin, cout, 3, stride)
        self.conv2 = ConvBN(cout, cout, 3)
        self.shortcut = nn.Identity() if cin == cout and stride == 1 else ConvBN(cin, cout, 1, stride)
        self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu2(self.conv2(self.relu1(self.conv1(x))) + self.shortcut(x))


class Separable(nn.Module):
    """x + project(relu6(depthwise(relu6(expand(x))))), the block of MobileNetV2."""

    def __init__(self, channels: int, expansion: int) -> None:
        super().__init__()
        wide = channels * expansion
        self.expand = ConvBN(channels, wide, 1)
        self.depthwise = ConvBN(wide, wide, 3, groups=wide)
        self.project = ConvBN(wide, channels, 1)
        self.relu1, self.relu2 = nn.ReLU6(), nn.ReLU6()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.project(self.relu2(self.depthwise(self.relu1(self.expand(x)))))


class DemoNet(nn.Module):
    """image (N, 1, 28, 28) → logits (N, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvBN(1, 16, 3)
        self.relu = nn.ReLU()
        self.layer1 = Residual(16, 16)
        self.layer2 = Residual(16, 32, stride=2)
        self.layer3 = Separable(32, expansion=3)
        self.layer4 = Residual(32, 64, stride=2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(64, CLASSES)

    def forward(self, image: Tensor) -> Tensor:
        x = self.relu(self.stem(image))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.flatten(self.pool(x)))


def read_idx(path: Path) -> np.ndarray:
    """Read an IDX file of bytes: 2 zeros, type 8, number of axes, the sizes (big endian), then the data."""
    raw = gzip.decompress(path.read_bytes())
    assert raw[:3] == b"\0\0\x08", f"{path} is not an IDX file of bytes"
    sizes = np.frombuffer(raw, ">i4", raw[3], 4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(sizes)


def train(images: np.ndarray, labels: np.ndarray, epochs: int, batch: int = 128) -> DemoNet:
    """SGD under one cycle of the learning rate; images are mirrored at random."""
    net = DemoNet().to(memory_format=torch.channels_last)
    x, y = torch.from_numpy(normalize(images)), torch.from_numpy(labels.astype(np.int64))
    optimizer = torch.optim.SGD(net.parameters(), momentum=0.9, weight_decay=5e-4, nesterov=True)
    steps = epochs * (len(x) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.2, total_steps=steps, pct_start=0.25)
    for epoch in range(epochs):
        start, right, loss_sum = time.perf_counter(), 0, 0.0
        order = torch.randperm(len(x))[: steps // epochs * batch].reshape(-1, batch)
        for pick in order:
            image = torch.where(torch.rand(batch, 1, 1, 1) < 0.5, x[pick].flip(-1), x[pick])
            logits = net(image.contiguous(memory_format=torch.channels_last))
            loss = F.cross_entropy(logits, y[pick], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            right += int((logits.argmax(1) == y[pick]).sum())
            loss_sum += loss.item()
        loss_mean, share, seconds = loss_sum / len(order), right / order.numel(), time.perf_counter() - start
        print(f"epoch {epoch + 1}: loss {loss_mean:.3f}  train accuracy {share:.4f}  {seconds:.0f} s", flush=True)
    return net.eval().to(memory_format=torch.contiguous_format)


def export(net: DemoNet, path: Path) -> None:
    """Write ONNX with readable node names and BatchNorm kept apart from the convolutions."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # this exporter names nodes after the modules
        torch.onnx.export(
            net,
            (torch.zeros(1, 1, 28, 28),),
            path,
            dynamo=False,
            opset_version=17,
            input_names=["image"],
            output_names=["logits"],
            dynamic_axes={"image": {0: "N"}, "logits": {0: "N"}},
            training=torch.onnx.TrainingMode.PRESERVE,  # EVAL would fold BatchNorm
            do_constant_folding=False,
        )
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    counts = Counter(node.op_type for node in model.graph.node)
    assert counts["BatchNormalization"] == counts["Conv"], f"BatchNorm was folded: {dict(counts)}"
    print(f"{path.name}: {path.stat().st_size:,} bytes, operators {dict(counts)}")


def balanced(labels: np.ndarray, each: int, rng: np.random.Generator) -> np.ndarray:
    """Indices of `each` samples of every class, in random order."""
    picks = [rng.choice(np.flatnonzero(labels == c), each, replace=False) for c in range(CLASSES)]
    return rng.permutation(np.concatenate(picks))


def accuracy(session: ort.InferenceSession, images: np.ndarray, labels: np.ndarray) -> float:
    """Top-1 accuracy in ONNX Runtime."""
    logits = [session.run(None, {"image": normalize(part)})[0] for part in np.array_split(images, len(images) // 100)]
    return float((np.concatenate(logits).argmax(1) == labels).mean())


def main() -> None:
    """Train, export, sample, report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    parser.add_argument("--out", type=Path, required=True, help="folder for demo.onnx, calib.npz and test.npz")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)

    images, labels = (read_idx(args.data / f"train-{name}-ubyte.gz") for name in ("images-idx3", "labels-idx1"))
    test, truth = (read_idx(args.data / f"t10k-{name}-ubyte.gz") for name in ("images-idx3", "labels-idx1"))
    net = train(images, labels, args.epochs)
    print(f"{sum(p.numel() for p in net.parameters()):,} parameters")
    export(net, args.out / "demo.onnx")

    rng = np.random.default_rng(args.seed)
    calib, pick = balanced(labels, 32, rng), balanced(truth, 100, rng)
    np.savez_compressed(args.out / "calib.npz", images=images[calib])
    np.savez_compressed(args.out / "test.npz", images=test[pick], labels=truth[pick])
    session = ort.InferenceSession(args.out / "demo.onnx", providers=["CPUExecutionProvider"])
    everything, shipped = accuracy(session, test, truth), accuracy(session, test[pick], truth[pick])
    print(f"test accuracy {everything:.4f} on {len(test):,} images, {shipped:.4f} on the {len(pick):,} shipped")


if __name__ == "__main__":
    main()
