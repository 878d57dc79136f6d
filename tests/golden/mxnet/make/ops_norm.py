"""Golden cases of normalizations. How to run it: see casefile.py."""

from __future__ import annotations

import mxnet as mx
from casefile import CaseFile

S = mx.sym
X = S.var("data")
IMAGE = (2, 4, 3, 5)


def main() -> None:
    file = CaseFile("norm")
    batch_norms(file)
    others(file)
    file.save()


def batch_norms(file: CaseFile) -> None:
    def add(name, shape=IMAGE, make=S.BatchNorm, *, free=False, **attrs):
        file.add(name, make(X, name="bn0", **attrs), shapes={"data": shape}, free={"data"} if free else ())

    add("bn")
    add("bn_gamma", fix_gamma=False)
    add("bn_fixed", fix_gamma=True, eps=2e-5, momentum=0.95)
    add("bn_eps", fix_gamma=False, eps=0.1, use_global_stats=True)
    add("bn_2d", (3, 4), fix_gamma=False)
    add("bn_3d", (3, 4, 2), fix_gamma=False)
    add("bn_last_axis", axis=-1, fix_gamma=False)
    add("bn_axis_2", axis=2, fix_gamma=False)
    add("bn_axis_0", axis=0, fix_gamma=False)
    add("bn_mean_var", output_mean_var=True, fix_gamma=False)
    add("bn_sync", make=S.contrib.SyncBatchNorm, fix_gamma=False, key="bn0", ndev=2)
    add("bn_relu", make=S.contrib.BatchNormWithReLU, fix_gamma=False)
    conv = S.Convolution(X, kernel=(3, 3), num_filter=4, no_bias=True, name="conv0")
    act = S.Activation(S.BatchNorm(conv, name="bn0", fix_gamma=False), act_type="relu", name="relu0")
    file.add("conv_bn_relu", act, shapes={"data": (2, 3, 5, 6)}, free={"data"})
    first = S.BatchNorm(X, name="bn_data", eps=2e-5)
    file.add("bn_conv", S.Convolution(first, kernel=(3, 3), num_filter=4, name="conv0"), shapes={"data": (2, 3, 5, 6)},
             free={"data"})  # fmt: skip


def others(file: CaseFile) -> None:
    def add(name, make, shape=IMAGE, **attrs):
        file.add(name, make(X, name="norm0", **attrs), shapes={"data": shape})

    add("ln", S.LayerNorm)
    add("ln_eps", S.LayerNorm, (2, 3, 4), axis=-1, eps=0.01)
    add("ln_axis_1", S.LayerNorm, axis=1)
    add("ln_axis_2", S.LayerNorm, axis=-2)
    add("ln_mean_var", S.LayerNorm, (2, 3, 4), output_mean_var=True, eps=0.01)
    add("ln_mean_var_axis", S.LayerNorm, axis=1, output_mean_var=True)
    add("in", S.InstanceNorm)
    add("in_eps_1d", S.InstanceNorm, (2, 3, 6), eps=0.1)
    add("gn", S.GroupNorm, num_groups=2)
    add("gn_one", S.GroupNorm)
    add("gn_eps", S.GroupNorm, (2, 6, 4), num_groups=3, eps=0.1)
    add("l2", S.L2Normalization)
    add("l2_2d", S.L2Normalization, (2, 5), eps=0.1)
    add("l2_channel", S.L2Normalization, mode="channel")
    add("l2_channel_3d", S.L2Normalization, (2, 3, 4), mode="channel", eps=0.1)
    add("l2_spatial", S.L2Normalization, mode="spatial")
    add("lrn", S.LRN, (2, 7, 3, 3), nsize=5)
    add("lrn_attrs", S.LRN, (2, 7, 3, 3), nsize=3, alpha=0.5, beta=0.6, knorm=1)


if __name__ == "__main__":
    main()
