"""Golden cases of GridGenerator, BilinearSampler and SpatialTransformer. How to run it: see casefile.py."""

from __future__ import annotations

import mxnet as mx
import numpy as np
from casefile import CaseFile

S = mx.sym
X, Y = S.var("data"), S.var("other")
AFFINE = np.asarray([[1, 0, 0, 0, 1, 0], [0.8, 0.3, 0.1, -0.2, 1.1, 0.2]], "float32")


def main() -> None:
    file = CaseFile("warp")
    file.add(
        "affine", S.GridGenerator(X, transform_type="affine", target_shape=(3, 4), name="grid0"), feeds={"data": AFFINE}
    )
    file.add("warp", S.GridGenerator(X, transform_type="warp", name="grid0"), shapes={"data": (2, 2, 3, 4)})
    places = np.clip(file.rng.standard_normal((2, 2, 3, 5)), -1.5, 1.5).astype("float32")
    sampler = S.BilinearSampler(X, Y, name="sample0")
    file.add("sampler", sampler, shapes={"data": (2, 3, 5, 4)}, feeds={"other": places})
    sym = S.SpatialTransformer(X, Y, transform_type="affine", sampler_type="bilinear", target_shape=(4, 6), name="st0")
    file.add("transformer", sym, shapes={"data": (2, 3, 5, 4)}, feeds={"other": AFFINE})
    file.save()


if __name__ == "__main__":
    main()
