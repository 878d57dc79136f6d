"""Four-bit weights and activations: the scales are learned, too (LSQ), and bits go down in stages.

python examples/qat_w4_lsq.py          (needs: pip install 'fewbit[torch]')
"""

import numpy as np
import torch
from torch import nn

import fewbit as fb
from fewbit.data.demo import FOLDER, MEAN, STD
from fewbit.torch.fit import fit
from fewbit.torch.loader import image_set


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10),
    )  # fmt: skip


def main() -> None:
    with np.load(FOLDER / "test.npz") as held:
        images, labels = held["images"][..., None], held["labels"]
    data = image_set(images[:800], labels[:800], [MEAN], [STD])
    test = image_set(images[800:], labels[800:], [MEAN], [STD])

    net = network()
    print(fit(net, data, fb.TrainConfig(epochs=12, batch_size=32, augment="none"), test=test))

    sample = torch.from_numpy(test.normalized(slice(0, 64)))
    four = fb.torch.prepare(net, sample, bit_num=4, data=data.feeds(), learned=True)
    recipe = fb.TrainConfig(epochs=6, batch_size=32, augment="none", progressive_bits=(8, 6), distill=0.7)
    print(fit(four, data, recipe, test=test, teacher=net))

    out = fb.torch.export(four, sample)
    print(out.check)
    out.save("net-w4a4.onnx")


if __name__ == "__main__":
    main()
