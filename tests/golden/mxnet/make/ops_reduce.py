"""Golden cases of sums, extremes and sorting; run as casefile.py says."""

from __future__ import annotations

import numpy as np
from casefile import CaseFile

X = (2, 3, 4)
HOLES = np.array([[1, np.nan, 2], [3, 4, np.nan]], np.float32)
WHOLE = np.array([[-3, 0, 1], [2, 5, -7]], np.int32)
TIED = np.array([[1, 0, 1, 2, 0], [3, 3, 1, 0, 3]], np.float32)


def reductions(file: CaseFile) -> None:
    for name in ("sum", "mean", "prod", "max", "min"):
        file.run(name, X)
        file.run(name, X, axis=1)
        file.run(name, X, axis=(0, -1), keepdims=True)
        file.run(name, X, axis=1, exclude=True)
        file.run(name, WHOLE, axis=1)
    file.run("sum", X, keepdims=True)
    file.run("sum", X, axis="()")
    file.run("sum", (4,), axis=0)
    file.run("mean", X, axis=(2, 1), exclude=True, keepdims=True)
    file.run("nansum", HOLES, axis=1)
    file.run("nanprod", HOLES)
    for name in ("_np_sum", "_np_max", "_np_min", "_np_prod", "_npi_mean"):
        file.run(name, X)
        file.run(name, X, axis=(0, 2))
        file.run(name, X, axis=1, keepdims=True)
    file.run("_npi_mean", WHOLE)
    file.run("_npi_var", X, axis=1)
    file.run("_npi_std", X)
    for axis in ("None", "1", "(0, 2)"):
        for order in (1, 2):
            file.run("norm", X, ord=order, axis=axis)
    file.run("norm", X, axis=-1, keepdims=True)
    file.run("norm", X, ord=1, axis=(1, 2), keepdims=True)
    for name in ("_np_any", "_np_all"):
        file.run(name, np.array([[1, 0, 2], [3, 1, -1]], np.float32), axis=1)
        file.run(name, WHOLE)
    file.run("moments", X, axes=(0, 2), outputs=2)
    file.run("moments", X, axes=1, keepdims=True, outputs=2)
    file.run("cumsum", X)
    file.run("cumsum", X, axis=1)
    file.run("_np_cumsum", X, axis=2)


def extremes(file: CaseFile) -> None:
    for name in ("argmax", "argmin"):
        file.run(name, TIED, axis=1)
        file.run(name, TIED)
        file.run(name, X, axis=-2, keepdims=True)
        file.run(name, (5,), axis=0)
    file.run("argmax", (2, 3), keepdims=True)
    file.run("argmax_channel", TIED)
    file.run("_npi_argmax", TIED, axis=1)
    file.run("_npi_argmin", TIED)


def orders(file: CaseFile) -> None:
    for up in (True, False):
        file.run("sort", X, axis=1, is_ascend=up)
        file.run("argsort", TIED, is_ascend=up)
    file.run("sort", X, axis=None)
    file.run("argsort", TIED, axis=None)
    file.run("argsort", TIED, axis=0, dtype="int32")
    for answer, n in (("indices", 1), ("value", 1), ("mask", 1), ("both", 2)):
        file.run("topk", TIED, k=3, ret_typ=answer, outputs=n)
        file.run("topk", X, k=2, axis=1, ret_typ=answer, is_ascend=True, outputs=n)
        file.run("topk", X, k=5, axis=None, ret_typ=answer, outputs=n)
    file.run("topk", TIED, k=2, dtype="int32")
    file.run("topk", TIED, k=0, ret_typ="value")
    file.run("topk", WHOLE, k=2, ret_typ="both", outputs=2)


def all_but(file: CaseFile) -> None:
    """`exclude` counts where there are axes; all of them leave everything as it is."""
    for name in ("sum", "mean", "prod", "max", "min", "nansum"):
        file.run(name, X, exclude=True)
        file.run(name, X, exclude=True, axis=(0, 1, 2))
    file.run("sum", X, exclude=True, axis="()", keepdims=True)
    file.run("max", X, exclude=True, axis=(0, -2, -1), keepdims=True)
    file.run("nansum", HOLES, exclude=True, axis=(0, 1), keepdims=False)
    file.run("norm", X, ord=1, axis=0)


if __name__ == "__main__":
    cases = CaseFile("reduce")
    for add in (reductions, extremes, orders, all_but):
        add(cases)
    cases.save()
