"""Train a small ResNet, train it on with 8-bit integers in place, and export it for ONNX Runtime.

python examples/qat_int8_to_onnx.py          (needs: pip install 'fewbit[torch]')
"""

import numpy as np

from fewbit.api.training import train
from fewbit.data.demo import FOLDER, MEAN, STD
from fewbit.torch.loader import image_set
from fewbit.torch.nets import build


def main() -> None:
    with np.load(FOLDER / "test.npz") as held:  # 1,000 images of Fashion-MNIST; use all of yours
        images, labels = held["images"][..., None], held["labels"]
    data = image_set(images[:800], labels[:800], [MEAN], [STD])
    test = image_set(images[800:], labels[800:], [MEAN], [STD])

    net = build("resnet8")
    made = train(net, data, test=test, float_only=True, epochs=10, batch_size=32)
    print(made.text())

    made = train(net, data, test=test, bit_num=8, epochs=2, batch_size=32)  # answers of the float network are learned
    print(made.text())
    made.save("resnet8-int8.onnx")
    print("wrote resnet8-int8.onnx and its plan")


if __name__ == "__main__":
    main()
