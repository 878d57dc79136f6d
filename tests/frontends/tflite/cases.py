"""One operator at a time: what goes in, and the options. LiteRT says what comes out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
RNG = np.random.default_rng(7)
SAME, VALID, RELU, RELU6, CLAMP = 0, 1, 1, 3, 2
SEEN: dict[str, int] = {}


@dataclass(frozen=True)
class Case:
    """An operator.

    Args:
        inputs: arrays that are fed; `Kept` ones are constants, None are left out, `State` are variables.
        outputs: types, with scale and zero point of integers.
        close: tolerance of the largest difference, relative to the largest number.
        size: of the outputs, where LiteRT does not find it out.
    """

    op: str
    inputs: tuple[Any, ...]
    kind: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    outputs: tuple[str, ...] = ("float32",)
    close: float = 2e-6
    version: int = 1
    size: tuple[int, ...] = (1,)

    @property
    def name(self) -> str:
        said = " ".join(f"{k}={v}" for k, v in self.options.items())
        shapes = " ".join("-" if i is None else str(np.shape(getattr(i, "data", i))) for i in self.inputs)
        return f"{self.op} {shapes} {said}".replace(", ", ",")


@dataclass(frozen=True)
class Kept:
    """A constant."""

    data: Array


@dataclass(frozen=True)
class State:
    """A variable that starts as zeros."""

    data: Array


def f(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def p(*shape: int) -> Array:
    return (np.abs(f(*shape)) + np.float32(0.1)).astype(np.float32)


def w(*shape: int) -> Kept:
    return Kept(f(*shape))


def i(*numbers: Any) -> Kept:
    """Whole numbers as a constant."""
    return Kept(
        np.asarray(numbers[0] if len(numbers) == 1 and isinstance(numbers[0], (list, int)) else numbers, np.int32)
    )


def whole(*shape: int, low: int = -9, high: int = 9) -> Array:
    return RNG.integers(low, high, shape).astype(np.int32)


def truth(*shape: int) -> Array:
    return RNG.integers(0, 2, shape).astype(bool)


X, Y = (1, 5, 7, 4), (2, 6, 8, 4)


def conv(pad: int, stride: int = 1, act: int = 0, dilation: int = 1, **more: int) -> dict[str, int]:
    return {"padding": pad, "strideH": stride, "strideW": stride, "fusedActivationFunction": act,
            "dilationHFactor": dilation, "dilationWFactor": dilation, **more}  # fmt: skip


def pool(pad: int, size: tuple[int, int], stride: int, act: int = 0) -> dict[str, int]:
    return {"padding": pad, "strideH": stride, "strideW": stride, "filterHeight": size[0], "filterWidth": size[1],
            "fusedActivationFunction": act}  # fmt: skip


def grow(pad: int, stride: int, act: int = 0) -> dict[str, int]:
    return {"padding": pad, "strideH": stride, "strideW": stride, "fusedActivationFunction": act}


C2, DW, TC, P2 = "Conv2DOptions", "DepthwiseConv2DOptions", "TransposeConvOptions", "Pool2DOptions"
FC, RS, SS = "FullyConnectedOptions", "ReshapeOptions", "StridedSliceOptions"

CONVS = (
    Case("CONV_2D", (f(*X), w(6, 3, 3, 4), w(6)), C2, conv(SAME)),
    Case("CONV_2D", (f(*X), w(6, 3, 3, 4), w(6)), C2, conv(SAME, 2, RELU)),
    Case("CONV_2D", (f(*Y), w(6, 3, 2, 4), w(6)), C2, conv(SAME, 2, RELU6)),
    Case("CONV_2D", (f(*X), w(6, 3, 3, 4), w(6)), C2, conv(VALID, act=CLAMP)),
    Case("CONV_2D", (f(2, 9, 9, 4), w(3, 3, 3, 4), w(3)), C2, conv(SAME, dilation=2)),
    Case("CONV_2D", (f(*X), w(6, 3, 3, 2), w(6)), C2, conv(SAME)),
    Case("DEPTHWISE_CONV_2D", (f(*X), w(1, 3, 3, 4), w(4)), DW, conv(SAME, depthMultiplier=1)),
    Case("DEPTHWISE_CONV_2D", (f(*Y), w(1, 3, 3, 8), w(8)), DW, conv(SAME, 2, RELU6, depthMultiplier=2)),
    Case("DEPTHWISE_CONV_2D", (f(*X), w(1, 2, 2, 4), w(4)), DW, conv(VALID, dilation=2, depthMultiplier=1)),
    Case("TRANSPOSE_CONV", (i(1, 10, 14, 3), w(3, 3, 3, 4), f(*X), w(3)), TC, grow(SAME, 2), version=3),
    Case("TRANSPOSE_CONV", (i(1, 9, 13, 3), w(3, 3, 3, 4), f(*X)), TC, grow(SAME, 2)),
    Case("TRANSPOSE_CONV", (i(1, 11, 15, 3), w(3, 3, 3, 4), f(*X)), TC, grow(VALID, 2)),
    Case("TRANSPOSE_CONV", (i(1, 10, 14, 3), w(3, 1, 1, 4), f(*X)), TC, grow(SAME, 2)),
    Case("CONV_3D", (f(1, 4, 5, 6, 3), w(2, 3, 2, 3, 5), w(5)), "Conv3DOptions",
         {"padding": SAME, "strideD": 1, "strideH": 2, "strideW": 1, "fusedActivationFunction": RELU}),
    Case("AVERAGE_POOL_2D", (f(*X),), P2, pool(SAME, (3, 3), 2)),
    Case("AVERAGE_POOL_2D", (f(*X),), P2, pool(VALID, (2, 3), 1, RELU)),
    Case("AVERAGE_POOL_2D", (f(*X),), P2, pool(VALID, (5, 7), 1)),
    Case("MAX_POOL_2D", (f(*X),), P2, pool(SAME, (3, 3), 2)),
    Case("MAX_POOL_2D", (f(*Y),), P2, pool(VALID, (2, 2), 2, RELU6)),
    Case("L2_POOL_2D", (f(*X),), P2, pool(SAME, (3, 2), 2)),
    Case("FULLY_CONNECTED", (f(3, 8), w(5, 8), w(5)), FC, {"fusedActivationFunction": RELU}),
    Case("FULLY_CONNECTED", (f(3, 8), w(5, 8)), FC),
    Case("FULLY_CONNECTED", (f(2, 3, 8), w(5, 8), w(5)), FC, {"keepNumDims": True, "fusedActivationFunction": RELU}),
    Case("FULLY_CONNECTED", (f(*Y), w(5, 192), w(5)), FC),
    Case("FULLY_CONNECTED", (f(*Y), w(5, 4), w(5)), FC),
    Case("BATCH_MATMUL", (f(2, 3, 4), f(2, 4, 5)), "BatchMatMulOptions"),
    Case("BATCH_MATMUL", (f(2, 2, 3, 4), f(2, 2, 3, 5)), "BatchMatMulOptions", {"adjX": True}),
    Case("BATCH_MATMUL", (f(2, 3, 4), w(2, 5, 4)), "BatchMatMulOptions", {"adjY": True}),
    Case("EMBEDDING_LOOKUP", (whole(3, low=0, high=5), w(5, 4))),
)  # fmt: skip

UNARY = ("ABS", "CEIL", "COS", "EXP", "FLOOR", "NEG", "ROUND", "SIN", "SIGN", "SQUARE", "ELU", "HARD_SWISH", "LOGISTIC",
         "RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1", "TANH", "ZEROS_LIKE")  # fmt: skip

ELEMENTWISE = (
    *(Case(op, (f(*X) * 4,)) for op in UNARY),
    *(Case(op, (p(*X),)) for op in ("LOG", "SQRT", "RSQRT")),
    Case("ROUND", (np.asarray([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5], np.float32),)),
    Case("LEAKY_RELU", (f(*X),), "LeakyReluOptions", {"alpha": 0.2}),
    Case("GELU", (f(*X),), "GeluOptions", {"approximate": False}),
    Case("GELU", (f(*X),), "GeluOptions", {"approximate": True}, close=1e-5),
    Case("PRELU", (f(*X), w(1, 1, 4))),
    Case("PRELU", (f(*X), w(5, 7, 4))),
    Case("SOFTMAX", (f(*X),), "SoftmaxOptions", {"beta": 1.0}),
    Case("SOFTMAX", (f(3, 6),), "SoftmaxOptions", {"beta": 0.5}),
    Case("LOG_SOFTMAX", (f(*X),), "LogSoftmaxOptions"),
    Case("CAST", (f(*X) * 9,), "CastOptions", {"inDataType": 0, "outDataType": 2}, ("int32",)),
    Case("CAST", (whole(3, 4),), "CastOptions", {"inDataType": 2, "outDataType": 0}),
    Case("CAST", (truth(3, 4),), "CastOptions", {"inDataType": 6, "outDataType": 0}),
    *(Case(op, (f(*X), p(*X)), f"{op.title()}Options") for op in ("ADD", "SUB", "MUL", "DIV")),
    *(Case(op, (f(*X), Kept(p(4))), f"{op.title()}Options", {"fusedActivationFunction": RELU6})
      for op in ("ADD", "SUB", "MUL", "DIV")),
    Case("ADD", (w(4), f(*X)), "AddOptions", {"fusedActivationFunction": RELU}),
    Case("ADD", (f(*X), f(4)), "AddOptions"),
    Case("ADD", (f(*X), w()), "AddOptions"),
    Case("MUL", (f(*X), f(1, 1, 1, 4)), "MulOptions"),
    Case("MUL", (f(*X), w(5, 7, 1)), "MulOptions"),
    Case("ADD", (whole(3, 4), whole(3, 4)), "AddOptions", outputs=("int32",)),
    Case("ADD_N", (f(*X), f(*X), f(*X))),
    *(Case(op, (f(*X), f(*X)), "MaximumMinimumOptions") for op in ("MAXIMUM", "MINIMUM")),
    Case("MINIMUM", (whole(3, 4), i(2)), "MaximumMinimumOptions", outputs=("int32",)),
    Case("POW", (p(*X), w(4)), close=1e-5),
    Case("SQUARED_DIFFERENCE", (f(*X), f(*X))),
    Case("FLOOR_DIV", (f(*X) * 5, p(*X))),
    Case("FLOOR_DIV", (whole(4, 6), i(-4, -3, -2, 1, 2, 3)), outputs=("int32",)),
    Case("FLOOR_MOD", (f(*X) * 5, Kept(np.asarray([-1.5, 0.7, 2, 3], np.float32))), close=1e-5),
    Case("FLOOR_MOD", (whole(4, 6), i(-4, -3, -2, 1, 2, 3)), outputs=("int32",)),
    *(Case(op, (f(*X).round(), f(*X).round()), outputs=("bool",))
      for op in ("EQUAL", "NOT_EQUAL", "LESS", "LESS_EQUAL", "GREATER", "GREATER_EQUAL")),
    *(Case(op, (truth(3, 4), truth(3, 4)), outputs=("bool",)) for op in ("LOGICAL_AND", "LOGICAL_OR")),
    Case("LOGICAL_NOT", (truth(3, 4),), outputs=("bool",)),
    Case("SELECT", (truth(3), f(3, 4), f(3, 4))),
    Case("SELECT", (truth(3, 4), f(3, 4), f(3, 4))),
    Case("SELECT_V2", (truth(1, 5, 7, 1), f(*X), w(4))),
    Case("QUANTIZE", (f(*X),), outputs=("int8 0.05 3",)),
    Case("DEQUANTIZE", (Kept(f(3, 4).astype(np.float16)),)),
)  # fmt: skip

KEEP, GO = {"keepDims": True}, {"keepDims": False}
RED = "ReducerOptions"

SHAPES = (
    Case("RESHAPE", (f(*Y), i(2, 48, 4)), RS),
    Case("RESHAPE", (f(*Y), i(-1, 192)), RS),
    Case("RESHAPE", (f(1, 1, 6, 4), i(1, 6, 4)), RS),
    Case("RESHAPE", (f(3, 4), i(3, 1, 1, 4)), RS),
    Case("RESHAPE", (f(3, 4),), RS, {"newShape": [2, 6]}),
    Case("SQUEEZE", (f(1, 5, 1, 4),), "SqueezeOptions", {"squeezeDims": [2]}),
    Case("SQUEEZE", (f(1, 5, 1, 4),), "SqueezeOptions", {"squeezeDims": [-4, 2]}),
    Case("SQUEEZE", (f(1, 5, 1, 4),), "SqueezeOptions"),
    *(Case("EXPAND_DIMS", (f(3, 4, 5), i(a)), "ExpandDimsOptions") for a in (0, 1, 2, 3, -1)),
    Case("EXPAND_DIMS", (f(*X), i(2)), "ExpandDimsOptions"),
    Case("TRANSPOSE", (f(*X), i(0, 3, 1, 2)), "TransposeOptions"),
    Case("TRANSPOSE", (f(*X), i(2, 1, 3, 0)), "TransposeOptions"),
    *(Case("PACK", (f(*s), f(*s)), "PackOptions", {"axis": a, "valuesCount": 2})
      for s, a in (((3, 4), 0), ((3, 4), 1), ((1, 5, 3), -1), (X, 2))),
    Case("UNPACK", (f(*X),), "UnpackOptions", {"axis": 3, "num": 4}, ("float32",) * 4),
    Case("UNPACK", (f(*X),), "UnpackOptions", {"axis": -3, "num": 5}, ("float32",) * 5),
    Case("SHAPE", (f(*X),), "ShapeOptions", {"outType": 2}, ("int32",)),
    Case("RANK", (f(*X),), "RankOptions", outputs=("int32",)),
    Case("FILL", (i(2, 3), f())),
    Case("BROADCAST_TO", (f(1, 4), i(2, 3, 4)), version=2),
    Case("TILE", (f(*X), i(1, 2, 1, 3)), "TileOptions"),
    Case("RANGE", (Kept(np.float32(1)), Kept(np.float32(9)), Kept(np.float32(1.5)))),
    Case("RANGE", (i(1), i(9), i(3)), outputs=("int32",)),
    *(Case("CONCATENATION", (f(*X), f(*X), w(*X)), "ConcatenationOptions", {"axis": a, "fusedActivationFunction": 0})
      for a in (3, -2, 0)),
    *(Case(op, (p(*X), i(1, 2)), RED, keep) for op in ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD")
      for keep in (KEEP, GO)),
    *(Case("MEAN", (f(*X), i(*axes)), RED, keep) for axes in ((3,), (-1, 1), (0, 1, 2, 3)) for keep in (KEEP, GO)),
    *(Case(op, (truth(3, 4), i(1)), RED, GO, ("bool",)) for op in ("REDUCE_ANY", "REDUCE_ALL")),
    *(Case(op, (f(*X), i(a)), "ArgMaxOptions" if op == "ARG_MAX" else "ArgMinOptions", {"outputType": kind},
           ("int32" if kind == 2 else "int64",))
      for op, a, kind in (("ARG_MAX", 3, 4), ("ARG_MAX", -3, 2), ("ARG_MIN", 1, 2))),
    Case("TOPK_V2", (f(3, 9), i(4)), "TopKV2Options", outputs=("float32", "int32")),
    *(Case("CUMSUM", (f(*X), i(2)), "CumsumOptions", {"exclusive": e, "reverse": r})
      for e, r in ((False, False), (True, True))),
)  # fmt: skip

BEGIN = {"beginMask": 0, "endMask": 0, "ellipsisMask": 0, "newAxisMask": 0, "shrinkAxisMask": 0}

PARTS = (
    Case("SLICE", (f(*X), i(0, 1, 2, 0), i(1, 3, -1, 2)), "SliceOptions", size=(1, 3, 5, 2)),
    Case("STRIDED_SLICE", (f(*X), i(0, 1, 2, 0), i(1, 4, 7, 3), i(1, 1, 2, 1)), SS, BEGIN),
    Case("STRIDED_SLICE", (f(*X), i(0, -1, 2, 0), i(0, 0, 7, 3), i(1, -2, 2, 1)), SS,
         {**BEGIN, "beginMask": 1, "endMask": 3}),
    Case("STRIDED_SLICE", (f(*X), i(0, 2, 0, -1), i(0, 3, 0, 0), i(1, 1, 1, 1)), SS,
         {**BEGIN, "beginMask": 5, "endMask": 5, "shrinkAxisMask": 10}),
    Case("STRIDED_SLICE", (f(*X), i(0, 1), i(0, 3), i(1, 1)), SS, {**BEGIN, "ellipsisMask": 1}),
    Case("STRIDED_SLICE", (f(3, 4), i(0, 0, 1), i(0, 0, 3), i(1, 1, 1)), SS,
         {**BEGIN, "beginMask": 1, "endMask": 1, "newAxisMask": 2}),
    Case("SPLIT", (i(3), f(*X)), "SplitOptions", {"numSplits": 2}, ("float32",) * 2),
    Case("SPLIT_V", (f(*X), i(2, -1, 1), i(2)), "SplitVOptions", {"numSplits": 3}, ("float32",) * 3),
    Case("PAD", (f(*X), i([[0, 0], [1, 2], [0, 3], [2, 1]])), "PadOptions"),
    Case("PADV2", (f(*X), i([[0, 0], [1, 2], [0, 3], [2, 1]]), w()), "PadV2Options"),
    *(Case("MIRROR_PAD", (f(*X), i([[0, 0], [1, 2], [0, 3], [0, 1]])), "MirrorPadOptions", {"mode": m})
      for m in (0, 1)),
    Case("REVERSE_V2", (f(*X), i(2, 3))),
    Case("REVERSE_V2", (f(*X), i([1]))),
    Case("REVERSE_SEQUENCE", (f(3, 5, 2), i(2, 5, 1)), "ReverseSequenceOptions", {"seqDim": 1, "batchDim": 0}),
    *(Case("GATHER", (f(*X), ids), "GatherOptions", {"axis": a, "batchDims": 0})
      for ids, a in ((i(1, 0, 3), 3), (i(2), 1), (whole(2, 2, low=0, high=4), -1))),
    Case("GATHER", (f(3, 5, 2), whole(3, 2, low=0, high=4)), "GatherOptions", {"axis": 1, "batchDims": 1}),
    Case("GATHER_ND", (f(3, 4, 5), i([[0, 1], [2, 3]])), "GatherNdOptions"),
    Case("SCATTER_ND", (i([[0], [2], [0]]), f(3, 4), i(5, 4)), "ScatterNdOptions"),
    *(Case("ONE_HOT", (whole(3, low=-1, high=5), i(5), Kept(np.float32(2)), Kept(np.float32(-1))), "OneHotOptions",
           {"axis": a}) for a in (-1, 0)),
    Case("WHERE", (truth(3, 4),), "WhereOptions", outputs=("int64",)),
)  # fmt: skip

BL, NN = "ResizeBilinearOptions", "ResizeNearestNeighborOptions"
WAYS = ({}, {"alignCorners": True}, {"halfPixelCenters": True})

PICTURES = (
    *(Case("RESIZE_BILINEAR", (f(*X), i(10, 14)), BL, way, close=1e-5) for way in WAYS),
    *(Case("RESIZE_BILINEAR", (f(*X), i(4, 3)), BL, way, close=1e-5) for way in WAYS),
    *(Case("RESIZE_NEAREST_NEIGHBOR", (f(*X), i(10, 21)), NN, way) for way in WAYS),
    *(Case("RESIZE_NEAREST_NEIGHBOR", (f(*X), i(3, 4)), NN, way) for way in WAYS),
    Case("SPACE_TO_DEPTH", (f(*Y),), "SpaceToDepthOptions", {"blockSize": 2}),
    Case("DEPTH_TO_SPACE", (f(*Y),), "DepthToSpaceOptions", {"blockSize": 2}),
    Case("SPACE_TO_BATCH_ND", (f(*Y), i(2, 4), i([[0, 0], [1, 3]])), "SpaceToBatchNDOptions"),
    Case("SPACE_TO_BATCH_ND", (f(2, 6, 4), i([2]), i([[1, 1]])), "SpaceToBatchNDOptions"),
    Case("BATCH_TO_SPACE_ND", (f(8, 2, 3, 4), i(2, 2), i([[0, 1], [2, 0]])), "BatchToSpaceNDOptions"),
    Case("BATCH_TO_SPACE_ND", (f(4, 3, 4), i([2]), i([[0, 1]])), "BatchToSpaceNDOptions"),
    Case("L2_NORMALIZATION", (f(*X),), "L2NormOptions"),
    Case("LOCAL_RESPONSE_NORMALIZATION", (f(*X),), "LocalResponseNormalizationOptions",
         {"radius": 1, "bias": 1.5, "alpha": 0.3, "beta": 0.5}, close=1e-5),
)  # fmt: skip


def cell(hidden: int, wide: int, coupled: bool = False, peep: bool = False) -> tuple[Any, ...]:
    """Inputs 1 to 17 of an LSTM, and its states."""
    gates = [None if coupled and k == 0 else k for k in range(4)]
    peeps = [w(hidden) if peep and not (coupled and k == 0) else None for k in range(3)]
    return (
        *(None if g is None else w(hidden, wide) for g in gates),
        *(None if g is None else w(hidden, hidden) for g in gates),
        *peeps, *(None if g is None else w(hidden) for g in gates), None, None,
        State(np.zeros((2, hidden), np.float32)), State(np.zeros((2, hidden), np.float32)),
    )  # fmt: skip


LSTM, ON = "UnidirectionalSequenceLSTMOptions", {"fusedActivationFunction": 4}
RECURRENT = (
    Case("UNIDIRECTIONAL_SEQUENCE_LSTM", (f(2, 5, 3), *cell(4, 3)), LSTM, {**ON, "timeMajor": False}, close=1e-5),
    Case("UNIDIRECTIONAL_SEQUENCE_LSTM", (f(5, 2, 3), *cell(4, 3, peep=True)), LSTM, {**ON, "timeMajor": True},
         close=1e-5),
    Case("UNIDIRECTIONAL_SEQUENCE_LSTM", (f(2, 5, 3), *cell(4, 3, coupled=True)), LSTM, {**ON, "timeMajor": False},
         close=1e-5),
)  # fmt: skip

CASES = (*CONVS, *ELEMENTWISE, *SHAPES, *PARTS, *PICTURES, *RECURRENT)
ELSEWHERE = frozenset({"Convolution2DTransposeBias"})
"""Operators that LiteRT does not have; their tests are in `test_custom.py`."""
