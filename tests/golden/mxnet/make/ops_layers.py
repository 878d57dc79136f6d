"""Golden cases of layers with weights: Convolution, Deconvolution, FullyConnected. How to run it: see casefile.py."""

from __future__ import annotations

import mxnet as mx
from casefile import CaseFile

S = mx.sym
X = S.var("data")


def main() -> None:
    file = CaseFile("layers")
    convolutions(file)
    deconvolutions(file)
    dense(file)
    file.save()


def convolutions(file: CaseFile) -> None:
    def add(name, shape, *, free=True, **attrs):
        make = S.Convolution_v1 if "v1" in name else S.Convolution
        file.add(name, make(X, name="conv0", **attrs), shapes={"data": shape}, free={"data"} if free else ())

    image = (2, 4, 7, 6)
    add("conv", image, kernel=(3, 3), num_filter=3)
    add("conv_told", image, free=False, kernel=(3, 3), num_filter=3)
    add("conv_stride_pad", image, kernel=(3, 2), stride=(2, 1), pad=(1, 1), num_filter=3)
    add("conv_dilate", image, kernel=(2, 2), dilate=(2, 3), num_filter=3)
    add("conv_groups", image, kernel=(3, 3), num_group=2, num_filter=6)
    add("conv_depthwise", image, kernel=(3, 3), pad=(1, 1), num_group=4, num_filter=4, no_bias=True)
    add("conv_no_bias", image, kernel=(1, 1), num_filter=3, no_bias=True)
    add("conv_layout", image, kernel=(1, 1), num_filter=3, layout="NCHW")
    add("conv_1d", (2, 4, 7), kernel=(3,), stride=(2,), pad=(1,), num_filter=3)
    add("conv_3d", (1, 2, 4, 5, 4), kernel=(2, 3, 2), pad=(0, 1, 0), num_filter=3)
    add("conv_v1", image, kernel=(3, 3), stride=(2, 2), pad=(1, 1), num_filter=3)
    add("conv_v1_groups", image, kernel=(3, 3), num_group=2, num_filter=4, no_bias=True)
    add("conv_harmless", image, kernel=(3, 3), num_filter=3, workspace=512, cudnn_tune="off", cudnn_off=True)
    weight = S.var("weight") * 2
    file.add("conv_computed_weight", S.Convolution(X, weight, kernel=(3, 3), num_filter=3, no_bias=True, name="conv0"),
             shapes={"data": image}, params={"weight": file.rng.standard_normal((3, 4, 3, 3)).astype("float32")},
             free={"data"})  # fmt: skip


def deconvolutions(file: CaseFile) -> None:
    def add(name, shape, *, free=True, **attrs):
        sym = S.Deconvolution(X, name="deconv0", **attrs)
        file.add(name, sym, shapes={"data": shape}, free={"data"} if free else ())

    image = (2, 4, 5, 4)
    add("deconv", image, kernel=(3, 3), num_filter=3)
    add("deconv_stride_pad", image, kernel=(4, 4), stride=(2, 2), pad=(1, 1), num_filter=3)
    add("deconv_adj", image, kernel=(3, 3), stride=(2, 2), pad=(1, 1), adj=(1, 1), num_filter=3)
    add("deconv_adj_no_pad", image, kernel=(3, 3), stride=(2, 2), adj=(1, 0), num_filter=3)
    add("deconv_adj_large", image, kernel=(3, 3), stride=(3, 3), pad=(1, 1), adj=(2, 2), num_filter=3)
    add("deconv_dilate", image, kernel=(2, 2), dilate=(2, 2), stride=(2, 2), num_filter=3)
    add("deconv_groups", image, kernel=(2, 2), num_group=2, num_filter=6)
    add("deconv_bias", image, kernel=(2, 2), num_filter=3, no_bias=False)
    add("deconv_1d", (2, 4, 5), kernel=(4,), stride=(2,), pad=(1,), num_filter=3)
    add("deconv_3d", (1, 2, 3, 2, 3), kernel=(2, 2, 2), stride=(2, 1, 1), num_filter=2)


def dense(file: CaseFile) -> None:
    def add(name, shape, *, free=True, **attrs):
        sym = S.FullyConnected(X, name="fc0", **attrs)
        file.add(name, sym, shapes={"data": shape}, free={"data"} if free else ())

    add("fc", (2, 5), num_hidden=3)
    add("fc_no_bias", (2, 5), num_hidden=3, no_bias=True)
    add("fc_image", (2, 3, 2, 2), free=False, num_hidden=3)
    add("fc_rows", (2, 3, 4), free=False, num_hidden=5, flatten=False)
    add("fc_rows_no_bias", (2, 3, 4), free=False, num_hidden=5, flatten=False, no_bias=True)
    add("fc_rows_2d", (2, 4), free=False, num_hidden=5, flatten=False)
    weight = S.var("weight") + 1
    file.add("fc_computed_weight", S.FullyConnected(X, weight, num_hidden=3, no_bias=True, flatten=False, name="fc0"),
             shapes={"data": (2, 3, 4)},
             params={"weight": file.rng.standard_normal((3, 4)).astype("float32")})  # fmt: skip
    file.add("fc_fed_weight", S.FullyConnected(X, S.var("w"), num_hidden=3, no_bias=True, flatten=False, name="fc0"),
             shapes={"data": (2, 3, 4), "w": (3, 4)})  # fmt: skip
    hidden = S.Activation(S.FullyConnected(X, num_hidden=6, name="fc0"), act_type="relu", name="relu0")
    file.add("mlp", S.FullyConnected(hidden, num_hidden=2, name="fc1"), shapes={"data": (3, 5)}, free={"data"})
    add("fc_one_axis", (6,), free=False, num_hidden=3)
    add("fc_one_axis_kept", (6,), free=False, num_hidden=3, flatten=False)


if __name__ == "__main__":
    main()
