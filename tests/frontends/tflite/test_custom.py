"""MediaPipe's own operator, which LiteRT does not have: against the TRANSPOSE_CONV that it is with a bias."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from fewbit.errors import ModelFormatError
from tests.frontends.tflite.cases import f
from tests.frontends.tflite.one import Const, Fed, Lite, lite, read, run, write

SIZES = [(1, 2, 2, (6, 10)), (1, 2, 3, (6, 10)), (2, 2, 2, (6, 10)), (2, 2, 3, (7, 11)), (1, 1, 3, (3, 5))]


@pytest.mark.parametrize(("padding", "stride", "kernel", "size"), SIZES)
def test_it_is_a_transposed_convolution(padding: int, stride: int, kernel: int, size: tuple[int, int]) -> None:
    weight, bias, x = f(3, kernel, kernel, 4), f(3), f(1, 3, 5, 4)
    shape = (1, *size, 3)
    tensors = {"x": Fed(x.shape), "w": Const(weight), "b": Const(bias), "y": Fed(shape)}
    custom = Lite(
        "Convolution2DTransposeBias", ["x", "w", "b"], ["y"], custom=struct.pack("<3i", padding, stride, stride)
    )
    options = {"padding": padding - 1, "strideH": stride, "strideW": stride}
    known = Lite("TRANSPOSE_CONV", ["s", "w", "x", "b"], ["y"], "TransposeConvOptions", options, version=3)
    sized = {**tensors, "s": Const(np.asarray(shape, np.int32))}
    model = read(write([custom], tensors, ["x"], ["y"]))
    want, got = lite(write([known], sized, ["x"], ["y"]), {"x": x})["y"], run(model, {"x": x})["y"]
    assert want.shape == got.shape and np.allclose(want, got, atol=1e-5)


@pytest.mark.parametrize(("options", "words"), [(b"\1\0\0", "cut off"), (struct.pack("<3i", 7, 2, 2), "padding is 7")])
def test_odd_options_are_refused(options: bytes, words: str) -> None:
    tensors = {"x": Fed((1, 3, 5, 4)), "w": Const(f(3, 2, 2, 4)), "b": Const(f(3)), "y": Fed((1, 6, 10, 3))}
    file = write([Lite("Convolution2DTransposeBias", ["x", "w", "b"], ["y"], custom=options)], tensors, ["x"], ["y"])
    with pytest.raises(ModelFormatError, match=f"Convolution2DTransposeBias that makes 'y'.*{words}"):
        read(file)
