"""Golden cases of UpSampling, BilinearResize2D, AdaptiveAvgPooling2D and Pad. How to run it: see casefile.py."""

from __future__ import annotations

import mxnet as mx
from casefile import CaseFile

S = mx.sym
X, Y = S.var("data"), S.var("other")
IMAGE = (2, 3, 4, 5)


def main() -> None:
    file = CaseFile("resize")
    upsampling(file)
    bilinear(file)
    means(file)
    pads(file)
    file.save()


def upsampling(file: CaseFile) -> None:
    def add(name, *inputs, shapes, **attrs):
        file.add(name, S.UpSampling(*inputs, num_args=len(inputs), name="up0", **attrs), shapes=shapes)

    add("nearest", X, shapes={"data": IMAGE}, scale=2, sample_type="nearest")
    add("nearest_3", X, shapes={"data": IMAGE}, scale=3, sample_type="nearest")
    both = {"data": IMAGE, "other": (2, 2, 8, 10)}
    add("nearest_two", X, Y, shapes=both, scale=2, sample_type="nearest")
    add("nearest_two_grown", X, Y, shapes={"data": (2, 3, 4, 6), "other": (2, 2, 2, 3)}, scale=2, sample_type="nearest")
    add("nearest_sum", X, Y, shapes={"data": IMAGE, "other": (2, 3, 8, 10)}, scale=2, sample_type="nearest",
        multi_input_mode="sum")  # fmt: skip
    for scale in (2, 3, 4):
        add(f"bilinear_{scale}", X, S.var("weight"), shapes={"data": IMAGE}, scale=scale, sample_type="bilinear",
            num_filter=3)  # fmt: skip
    conv = S.Convolution(X, kernel=(1, 1), num_filter=2, name="conv0")
    up = S.UpSampling(conv, scale=2, sample_type="nearest", name="up0", num_args=1)
    file.add("nearest_free", up, shapes={"data": IMAGE}, free={"data"})


def bilinear(file: CaseFile) -> None:
    def add(name, *inputs, shape=IMAGE, **attrs):
        shapes = {"data": shape} | ({"other": (2, 1, 6, 3)} if len(inputs) > 1 else {})
        file.add(f"resize_{name}", S.contrib.BilinearResize2D(*inputs, name="up0", **attrs), shapes=shapes)

    for corners in (True, False):
        for size in ((8, 10), (7, 9), (2, 3), (1, 1)):
            add(f"size_{size[0]}_{corners}", X, height=size[0], width=size[1], align_corners=corners)
        add(f"scale_{corners}", X, scale_height=1.5, scale_width=0.7, align_corners=corners)
        add(f"like_{corners}", X, Y, mode="like", align_corners=corners)
    for shape in (IMAGE, (2, 3, 5, 4)):
        for mode in ("to_even_down", "to_even_up", "to_odd_down", "to_odd_up"):
            add(f"{mode}_{shape[2]}", X, shape=shape, mode=mode)
        for factor in (2, 0.5):
            add(
                f"odd_scale_{shape[2]}_{factor}",
                X,
                shape=shape,
                mode="odd_scale",
                scale_height=factor,
                scale_width=factor,
            )


def means(file: CaseFile) -> None:
    for size in ((), (1, 1), (2, 5), (3, 2), (4, 5), (3,), (6, 7)):
        name = "mean_" + ("x".join(map(str, size)) or "default")
        file.add(name, S.contrib.AdaptiveAvgPooling2D(X, output_size=size, name="pool0"), shapes={"data": IMAGE})


def pads(file: CaseFile) -> None:
    for mode in ("constant", "edge", "reflect"):
        more = {"constant_value": 1.5} if mode == "constant" else {}
        sym = S.Pad(X, mode=mode, pad_width=(0, 0, 0, 0, 1, 2, 3, 0), name="pad0", **more)
        file.add(f"pad_{mode}", sym, shapes={"data": IMAGE})
        sym = S.pad(X, mode=mode, pad_width=(0, 0, 0, 0, 1, 1, 1, 0, 1, 1), name="pad0")
        file.add(f"pad_{mode}_5d", sym, shapes={"data": (1, 2, 2, 3, 3)})


if __name__ == "__main__":
    main()
