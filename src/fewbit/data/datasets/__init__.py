"""Labelled sets of images: fashion-mnist, mnist, cifar10, cifar100, imagenet.

    data = open_dataset("fashion-mnist", split="test", per_class=10)
    data.images([0, 1])              uint8 (2, 28, 28, 1)
    data.normalized(slice(0, 32))    float32 (32, 1, 28, 28), what a network takes
    fb.evaluate("net.onnx", data.feeds())

The files are read as they are handed out; nothing is fetched, unpacked to disk or unpickled.
"""

from fewbit.data.datasets.idx import write_idx
from fewbit.data.datasets.labelled import Labelled
from fewbit.data.datasets.registry import DATASETS, open_dataset

__all__ = ["DATASETS", "Labelled", "open_dataset", "write_idx"]
