"""Golden cases that MXNet computes only without its oneDNN kernels. How to run it: see casefile.py."""

from __future__ import annotations

import os

os.environ["MXNET_MKLDNN_ENABLED"] = "0"  # read when mxnet is imported

import mxnet as mx
import numpy as np
from casefile import CaseFile

S = mx.sym
X = S.var("data")


def main() -> None:
    file = CaseFile("plain")
    image = {"data": (2, 4, 5, 4)}
    for size in ((11, 9), (10, 8), (12, 10), (9, 9), (8, 7)):
        sym = S.Deconvolution(X, kernel=(4, 4), stride=(2, 2), target_shape=size, num_filter=3, name="deconv0")
        file.add(f"deconv_target_{size[0]}_{size[1]}", sym, shapes=image)
    sym = S.Deconvolution(X, kernel=(4, 4), stride=(2, 2), pad=(1, 1), adj=(1, 1), target_shape=(9, 9), num_filter=3,
                          name="deconv0")  # fmt: skip
    file.add("deconv_target_pad", sym, shapes=image)
    sym = S.Deconvolution(X, kernel=(3, 3), stride=(3, 3), pad=(1, 1), adj=(2, 2), num_filter=3, name="deconv0")
    file.add("deconv_adj_large", sym, shapes=image)
    shape = (2, 3, 2, 4)
    file.add("softmax_output_image", S.SoftmaxOutput(X, name="softmax"), shapes={"data": shape},
             feeds={"softmax_label": np.zeros(shape[:3], "float32")})  # fmt: skip
    file.save()


if __name__ == "__main__":
    main()
