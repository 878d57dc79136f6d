"""Train a small ResNet, train it on with 8-bit integers in place, and export it for ONNX Runtime.

python examples/qat_int8_to_onnx.py          (needs: pip install 'fewbit[torch]')
"""

import numpy as np

import fewbit as fb
from fewbit.data.demo import FOLDER, MEAN, STD
from fewbit.torch.loader import image_set
from fewbit.torch.nets import build


def main() -> None:
    with np.load(FOLDER / "test.npz") as held:  # images of Fashion-MNIST; use all of yours, and more epochs
        images, labels = held["images"][..., None], held["labels"]
    data = image_set(images[:500], labels[:500], [MEAN], [STD])
    test = image_set(images[800:], labels[800:], [MEAN], [STD])

    net = build("resnet8")
    made = fb.train(net, data, test=test, float_only=True, epochs=3, batch_size=32, augment="none")
    print(made.text())

    made = fb.train(net, data, test=test, bit_num=8, epochs=1, batch_size=32, augment="none")
    print(made.text())
    made.save("resnet8-int8.onnx")
    print("wrote resnet8-int8.onnx and its plan")


if __name__ == "__main__":
    main()
