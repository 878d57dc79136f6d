"""Golden cases of Pooling, with sizes that fit the windows and sizes that do not. How to run it: see casefile.py."""

from __future__ import annotations

import os

os.environ["MXNET_MKLDNN_ENABLED"] = "0"  # oneDNN's kernels refuse some windows; read when mxnet is imported

import mxnet as mx
import numpy as np
from casefile import CaseFile

S = mx.sym
X = S.var("data")


def main() -> None:
    file = CaseFile("pool")
    windows(file)
    kinds(file)
    padded(file)
    file.save()


def add(file, name, shape=(1, 2, 7, 8), make=S.Pooling, *, free=False, **attrs):
    file.add(name, make(X, name="pool0", **attrs), shapes={"data": shape}, free={"data"} if free else ())


def windows(file: CaseFile) -> None:
    """Every convention, kind, padding and stride; sizes 6 to 9 leave 0, 1 and 2 places over."""
    for convention in ("valid", "full"):
        for kind in ("max", "avg", "sum"):
            for k, s, p in ((3, 2, 0), (3, 2, 1), (2, 2, 0), (3, 1, 1), (3, 3, 0), (5, 3, 2)):
                for shape in ((1, 1, 6, 7), (1, 1, 8, 9)):
                    name = f"{convention}_{kind}_{k}_{s}_{p}_{shape[2]}"
                    add(file, name, shape, kernel=(k, k), stride=(s, s), pad=(p, p), pool_type=kind,
                        pooling_convention=convention)  # fmt: skip
    for p in (0, 1):
        add(file, f"full_avg_not_counted_{p}", kernel=(3, 3), stride=(2, 2), pad=(p, p), pool_type="avg",
            pooling_convention="full", count_include_pad=False)  # fmt: skip
    for size in (7, 8):
        add(file, f"same_{size}", (1, 2, size), kernel=(3,), stride=(2,), pad=(0, 0, 0), pooling_convention="same")
    conv = S.Convolution(X, kernel=(1, 1), num_filter=2, name="conv0")
    for kind in ("max", "avg", "sum"):
        for p in (0, 1):
            sym = S.Pooling(
                conv, kernel=(3, 3), stride=(2, 2), pad=(p, p), pool_type=kind, pooling_convention="full", name="p"
            )
            file.add(f"free_full_{kind}_{p}", sym, shapes={"data": (1, 2, 6, 7)}, free={"data"})


def kinds(file: CaseFile) -> None:
    for kind in ("max", "avg", "sum", "lp"):
        more = {"p_value": 2} if kind == "lp" else {}
        add(file, f"global_{kind}", global_pool=True, pool_type=kind, **more)
        add(
            file,
            f"global_kernel_{kind}",
            global_pool=True,
            kernel=(2, 2),
            stride=(2, 2),
            pad=(1, 1),
            pool_type=kind,
            **more,
        )
        add(file, f"nhwc_{kind}", kernel=(2, 2), stride=(2, 2), pool_type=kind, layout="NHWC", **more)
        add(file, f"one_axis_{kind}", (1, 2, 9), kernel=(3,), stride=(2,), pool_type=kind, **more)
        add(file, f"three_axes_{kind}", (1, 2, 4, 5, 6), kernel=(2, 2, 3), stride=(2, 1, 2), pool_type=kind, **more)
    for power in (1, 2, 3):
        add(file, f"lp_{power}", kernel=(2, 3), stride=(2, 2), pad=(0, 1), pool_type="lp", p_value=power)
        add(
            file,
            f"lp_full_{power}",
            kernel=(3, 3),
            stride=(2, 2),
            pool_type="lp",
            p_value=power,
            pooling_convention="full",
        )
        add(file, f"lp_global_{power}", global_pool=True, pool_type="lp", p_value=power)
    add(file, "avg_not_counted", kernel=(3, 3), pad=(1, 1), pool_type="avg", count_include_pad=False)
    add(file, "avg_counted", kernel=(3, 3), pad=(1, 1), pool_type="avg", count_include_pad=True)
    add(file, "default", kernel=(2, 2))
    for kind in ("max", "avg", "sum"):
        for convention in ("valid", "full"):
            for p in (0, 1):
                add(file, f"v1_{kind}_{convention}_{p}", make=S.Pooling_v1, kernel=(3, 3), stride=(2, 2), pad=(p, p),
                    pool_type=kind, pooling_convention=convention)  # fmt: skip
        add(file, f"v1_global_{kind}", make=S.Pooling_v1, global_pool=True, kernel=(1, 1), pool_type=kind)


def padded(file: CaseFile) -> None:
    """Numbers below 0 beside zeros that count, and padding as wide as the kernel."""
    below = -1 - np.abs(file.rng.standard_normal((1, 2, 6, 7))).astype(np.float32)
    around = {"mode": "constant", "pad_width": (0, 0, 0, 0, 1, 1, 1, 1)}

    def below_zero(name, sym):
        file.add(f"below_zero_{name}", sym, feeds={"data": below})

    for kind in ("max", "avg", "sum", "lp"):
        more = {"pool_type": kind, "name": "pool0", **({"p_value": 2} if kind == "lp" else {})}
        zeros = S.Pad(X, name="pad0", **around)
        below_zero(f"pad_{kind}", S.Pooling(zeros, kernel=(2, 2), **more))
        below_zero(f"pad_pad_{kind}", S.Pooling(zeros, kernel=(3, 3), stride=(2, 2), pad=(1, 1), **more))
        if kind != "lp":
            for p in (1, 2):
                below_zero(f"v1_{kind}_{p}", S.Pooling_v1(X, kernel=(2, 2), pad=(p, p), **more))
    below_zero("pad_avg_not_counted", S.Pooling(zeros, kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type="avg",
                                                count_include_pad=False, name="pool0"))  # fmt: skip
    last = S.Pad(X, mode="constant", pad_width=(0, 0, 0, 0, 1, 1, 0, 0), name="pad0")
    below_zero("pad_nhwc", S.Pooling(last, kernel=(2, 2), layout="NHWC", name="pool0"))
    below_zero("pad_same", S.Pooling(S.identity(zeros), kernel=(2, 2), name="pool0"))
    pools = [S.Pooling(zeros, kernel=(2, 2), pool_type=kind, name=kind) for kind in ("max", "avg")]
    below_zero("pad_two", S.Group(pools))
    below_zero("pad_used", S.Group([pools[0], S.log(S.abs(zeros, name="abs0") + 1, name="log0")]))
    for kind in ("avg", "sum", "lp"):
        for k, s, p in ((1, 2, 1), (2, 1, 2), (2, 2, 3)):
            more = {"p_value": 3} if kind == "lp" else {}
            add(file, f"wide_{kind}_{k}_{s}_{p}", (1, 2, 6), kernel=(k,), stride=(s,), pad=(p,), pool_type=kind, **more)


if __name__ == "__main__":
    main()
