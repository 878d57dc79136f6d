"""Golden cases of activations, softmax and loss layers. How to run it: see casefile.py."""

from __future__ import annotations

import mxnet as mx
import numpy as np
from casefile import CaseFile

S = mx.sym
X = S.var("data")
IMAGE = (2, 3, 2, 4)


def main() -> None:
    file = CaseFile("activations")
    activations(file)
    softmaxes(file)
    losses(file)
    file.save()


def activations(file: CaseFile) -> None:
    for kind in ("relu", "sigmoid", "tanh", "softrelu", "softsign"):
        file.add(kind, S.Activation(X, act_type=kind, name="act0"), shapes={"data": IMAGE})

    def leaky(name, shape=IMAGE, **attrs):
        file.add(name, S.LeakyReLU(X, name="act0", **attrs)[0], shapes={"data": shape})

    leaky("leaky")
    leaky("leaky_slope", act_type="leaky", slope=0.1)
    leaky("elu", act_type="elu", slope=0.7)
    leaky("selu", act_type="selu")
    leaky("gelu", act_type="gelu")
    leaky("rrelu", act_type="rrelu")
    leaky("rrelu_bounds", act_type="rrelu", lower_bound=0.1, upper_bound=0.5)
    for shape in ((2, 3), (2, 3, 4), IMAGE):
        leaky(f"prelu_{len(shape)}d", shape, act_type="prelu")
    one = file.rng.random_sample(1).astype("float32")
    prelu = S.LeakyReLU(X, S.var("gamma"), act_type="prelu", name="act0")
    file.add("prelu_one", prelu, shapes={"data": IMAGE}, params={"gamma": one})


def softmaxes(file: CaseFile) -> None:
    for name in ("softmax", "softmin", "log_softmax"):
        make = getattr(S, name)
        file.add(name, make(X, name="sm0"), shapes={"data": (2, 5)})
        file.add(f"{name}_axis", make(X, axis=1, name="sm0"), shapes={"data": IMAGE})
        file.add(f"{name}_temperature", make(X, axis=-2, temperature=3.0, name="sm0"), shapes={"data": IMAGE})
        file.add(f"{name}_dtype", make(X, dtype="float32", name="sm0"), shapes={"data": (2, 5)})
    for axis, shape in ((-1, (3, 4)), (1, (2, 3, 2)), (-1, (2, 3, 4)), (1, (2, 5, 2, 2))):
        rest = shape[:axis] if axis == -1 else shape[:axis] + shape[axis + 1 :]
        length = (np.arange(np.prod(rest)) % (shape[axis] + 1)).reshape(rest).astype("int32")
        sym = S.softmax(X, S.var("length", dtype="int32"), axis=axis, use_length=True, name="sm0")
        file.add(f"softmax_length_{axis}_{len(shape)}", sym, shapes={"data": shape}, feeds={"length": length})
    for mode in ("instance", "channel"):
        for shape in ((2, 5), IMAGE):
            sym = S.SoftmaxActivation(X, mode=mode, name="sm0")
            if mode == "instance" or len(shape) > 2:
                file.add(f"softmax_activation_{mode}_{len(shape)}", sym, shapes={"data": shape})


def losses(file: CaseFile) -> None:
    label = np.zeros
    file.add("softmax_output", S.SoftmaxOutput(X, name="softmax"), shapes={"data": (2, 5)},
             feeds={"softmax_label": label(2, "float32")})  # fmt: skip
    file.add("softmax_output_old", S.Softmax(X, name="softmax", grad_scale=2, use_ignore=True, ignore_label=0,
                                             normalization="valid"), shapes={"data": (2, 5)},
             feeds={"softmax_label": label(2, "float32")})  # fmt: skip
    file.add("softmax_output_multi", S.SoftmaxOutput(X, name="softmax", multi_output=True), shapes={"data": IMAGE},
             feeds={"softmax_label": label((2, 8), "float32")})  # fmt: skip
    file.add("softmax_output_kept", S.SoftmaxOutput(X, name="softmax", preserve_shape=True), shapes={"data": IMAGE},
             feeds={"softmax_label": label(IMAGE[:3], "float32")})  # fmt: skip
    for make in (S.LinearRegressionOutput, S.LogisticRegressionOutput, S.MAERegressionOutput):
        file.add(make.__name__, make(X, name="out", grad_scale=2), shapes={"data": (2, 5)},
                 feeds={"out_label": label((2, 5), "float32")})  # fmt: skip
    file.add("svm", S.SVMOutput(X, name="svm", margin=0.5, use_linear=True), shapes={"data": (2, 5)},
             feeds={"svm_label": label(2, "float32")})  # fmt: skip
    relu = S.Activation(X, act_type="relu", name="relu0")
    for make in (S.identity, S.BlockGrad, S.MakeLoss, S.make_loss, S.Dropout):
        file.add(make.__name__, make(relu, name="last"), shapes={"data": (2, 5)})
    inside = S.Dropout(relu, p=0.3, axes=(1,), name="drop")
    file.add("dropout_inside", S.Activation(inside, act_type="tanh", name="act"), shapes={"data": (2, 5)})


if __name__ == "__main__":
    main()
