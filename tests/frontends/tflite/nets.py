"""Small networks as TFLite writes them."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.frontends.tflite.cases import C2, DW, FC, SAME, VALID, conv, f
from tests.frontends.tflite.one import Const, Fed, Lite, write

NO = {"fusedActivationFunction": 0}


class Net:
    """A network in the making: each call adds an operator, and gives the name of what it makes."""

    def __init__(self, **inputs: Fed) -> None:
        self.tensors: dict[str, Any] = dict(inputs)
        self.inputs, self.ops = list(inputs), list[Lite]()

    def const(self, data: Any, **more: Any) -> str:
        name = f"const{len(self.tensors)}"
        self.tensors[name] = Const(np.asarray(data), **more)
        return name

    def half(self, data: Any) -> str:
        """A weight in half precision, behind DEQUANTIZE."""
        return self.add("DEQUANTIZE", [self.const(np.asarray(data, np.float16))], np.shape(data))

    def add(self, op: str, inputs: list[str], shape: Any, kind: str = "", options: Any = None, **more: Any) -> str:
        name = more.pop("name", f"{op.lower()}{len(self.ops)}")
        self.tensors[name] = Fed(tuple(shape), **more)
        self.ops.append(Lite(op, inputs, [name], kind, options or {}))
        return name

    def file(self, *outputs: str, **more: Any) -> bytes:
        return write(self.ops, self.tensors, self.inputs, list(outputs), **more)


def mobile(free: bool = False) -> bytes:
    """Stem, depthwise block with a residual and a gate, mean, dense, softmax; weights in half precision."""
    net = Net(image=Fed((1, 12, 12, 3), free=(-1, 12, 12, 3) if free else None))
    batch: dict[str, Any] = {}

    def shape(*sizes: int) -> tuple[int, ...]:
        batch["free"] = (-1, *sizes) if free else None
        return (1, *sizes)

    def layer(op: str, x: str, w: Any, out: tuple[int, ...], kind: str, options: Any) -> str:
        channels = w.shape[3] if op.startswith("DEPTH") else w.shape[0]
        bias = net.half(f(channels))
        return net.add(op, [x, net.half(w), bias], shape(*out), kind, options, **batch)

    stem = layer("CONV_2D", "image", f(8, 3, 3, 3), (6, 6, 8), C2, conv(SAME, 2, 3))
    deep = layer("DEPTHWISE_CONV_2D", stem, f(1, 3, 3, 8), (6, 6, 8), DW, conv(SAME, 1, 1, depthMultiplier=1))
    axes = net.const(np.asarray([1, 2], np.int32))
    mean = net.add("MEAN", [deep, axes], shape(1, 1, 8), "ReducerOptions", {"keepDims": True}, **batch)
    gate = layer("CONV_2D", mean, f(8, 1, 1, 8), (1, 1, 8), C2, conv(VALID))
    gate = net.add("LOGISTIC", [gate], shape(1, 1, 8), **batch)
    scaled = net.add("MUL", [deep, gate], shape(6, 6, 8), "MulOptions", NO, **batch)
    back = layer("CONV_2D", scaled, f(8, 1, 1, 8), (6, 6, 8), C2, conv(SAME))
    total = net.add("ADD", [back, stem], shape(6, 6, 8), "AddOptions", {"fusedActivationFunction": 1}, **batch)
    joined = net.add("CONCATENATION", [total, deep], shape(6, 6, 16), "ConcatenationOptions", {"axis": 3}, **batch)
    pads = net.const(np.asarray([[0, 0], [1, 1], [1, 1], [0, 0]], np.int32))
    padded = net.add("PAD", [joined, pads], shape(8, 8, 16), "PadOptions", **batch)
    flat = net.add("MEAN", [padded, axes], shape(16), "ReducerOptions", {"keepDims": False}, **batch)
    dense = net.add("FULLY_CONNECTED", [flat, net.half(f(5, 16)), net.const(f(5))], shape(5), FC, NO, **batch)
    net.add("SOFTMAX", [dense], shape(5), "SoftmaxOptions", {"beta": 1.0}, name="probabilities", **batch)
    return net.file("probabilities", signature={"picture": "image", "scores": "probabilities"})


def flattened() -> bytes:
    """A convolution, RESHAPE, FULLY_CONNECTED."""
    net = Net(image=Fed((1, 5, 6, 3)))
    y = net.add("CONV_2D", ["image", net.const(f(4, 3, 3, 3)), net.const(f(4))], (1, 5, 6, 4), C2, conv(SAME))
    shape = net.const(np.asarray([-1, 120], np.int32))
    y = net.add("RESHAPE", [y, shape], (1, 120), "ReshapeOptions")
    y = net.add("FULLY_CONNECTED", [y, net.const(f(7, 120)), net.const(f(7))], (1, 7), FC, NO)
    return net.file(y)


def dilated(pads: Any, crops: Any, how: int = VALID, op: str = "CONV_2D") -> bytes:
    """A convolution between SPACE_TO_BATCH_ND and BATCH_TO_SPACE_ND, blocks of 2, on pictures of 9x10."""
    net, sizes = Net(image=Fed((1, 9, 10, 3))), np.asarray([9, 10])
    block = net.const(np.asarray([2, 2], np.int32))
    inner = (sizes + np.sum(pads, 1)) // 2
    x = net.add("SPACE_TO_BATCH_ND", ["image", block, net.const(np.asarray(pads, np.int32))], (4, *inner, 3),
                "SpaceToBatchNDOptions")  # fmt: skip
    after = inner - (2 if how == VALID else 0)
    deep = op.startswith("DEPTH")
    w, kind, more = (f(1, 3, 3, 3), DW, {"depthMultiplier": 1}) if deep else (f(3, 3, 3, 3), C2, {})
    y = net.add(op, [x, net.const(w), net.const(f(3))], (4, *after, 3), kind, conv(how, 1, 1, **more))
    out = after * 2 - np.sum(crops, 1)
    y = net.add("BATCH_TO_SPACE_ND", [y, block, net.const(np.asarray(crops, np.int32))], (1, *out, 3),
                "BatchToSpaceNDOptions")  # fmt: skip
    return net.file(y)


def attention() -> bytes:
    """Heads apart by RESHAPE and TRANSPOSE, BATCH_MATMUL, SOFTMAX, and back."""
    net = Net(tokens=Fed((2, 6, 8)))
    heads = net.const(np.asarray([2, 6, 2, 4], np.int32))
    order = net.const(np.asarray([0, 2, 1, 3], np.int32))

    def part() -> str:
        x = net.add("FULLY_CONNECTED", ["tokens", net.const(f(8, 8)), net.const(f(8))], (2, 6, 8), FC,
                    {**NO, "keepNumDims": True})  # fmt: skip
        x = net.add("RESHAPE", [x, heads], (2, 6, 2, 4), "ReshapeOptions")
        return net.add("TRANSPOSE", [x, order], (2, 2, 6, 4), "TransposeOptions")

    q, k, v = part(), part(), part()
    scores = net.add("BATCH_MATMUL", [q, k], (2, 2, 6, 6), "BatchMatMulOptions", {"adjY": True})
    soft = net.add("SOFTMAX", [scores], (2, 2, 6, 6), "SoftmaxOptions", {"beta": 1.0})
    y = net.add("BATCH_MATMUL", [soft, v], (2, 2, 6, 4), "BatchMatMulOptions")
    y = net.add("TRANSPOSE", [y, order], (2, 6, 2, 4), "TransposeOptions")
    y = net.add("RESHAPE", [y, net.const(np.asarray([2, 6, 8], np.int32))], (2, 6, 8), "ReshapeOptions")
    return net.file(y)


def sizes_of_itself() -> bytes:
    """RESHAPE to a shape that is computed from the input's, with the batch free."""
    net = Net(image=Fed((1, 4, 5, 3), free=(-1, 4, 5, 3)))
    y = net.add("CONV_2D", ["image", net.const(f(2, 1, 1, 3)), net.const(f(2))], (1, 4, 5, 2), C2, conv(SAME),
                free=(-1, 4, 5, 2))  # fmt: skip
    shape = net.add("SHAPE", [y], (4,), "ShapeOptions", {"outType": 2}, dtype="int32")
    one, two = (net.const(np.asarray([n], np.int32)) for n in (0, 1))
    masks = {"beginMask": 0, "endMask": 0, "ellipsisMask": 0, "newAxisMask": 0, "shrinkAxisMask": 1}
    batch = net.add("STRIDED_SLICE", [shape, one, two, two], (), "StridedSliceOptions", masks, dtype="int32")
    rest = net.const(np.asarray(40, np.int32))
    new = net.add("PACK", [batch, rest], (2,), "PackOptions", {"valuesCount": 2, "axis": 0}, dtype="int32")
    y = net.add("RESHAPE", [y, new], (1, 40), "ReshapeOptions", free=(-1, 40))
    return net.file(y)
