"""ONNX Runtime: what it does in integers, as measured by `bench/operators.py`.

    DQ → Conv → Q                → QLinearConv; Relu or Clip between them is cut off by Q, if its zero point is the
                                   lowest integer, else all is float. A Conv without Q behind it is float
    DQ → MatMul                  → MatMulIntegerToFloat; with Q behind it QLinearMatMul; Gemm likewise (QGemm)
    DQ → MaxPool, Reshape … → Q  → integer if both sides have the same parameters, else float between conversions
    DQ, DQ → Add → Q             → QLinearAdd, with Relu as above; without one of the three float
    DQ → Sigmoid, LeakyRelu → Q  → integer operators of their own; Conv does not merge them

Good to know, all seen in its optimized graphs (1.31):

* A bias whose scale is not input × weight (to about 1 %) leaves its Conv in float.
* `DQ → Conv with float weights → Q` is quantized by ONNX Runtime itself, per tensor; Gemm and ConvTranspose too, the
  latter only to be computed in float. To really stay float the operator needs something between itself and Q that is
  neither Relu nor Clip, such as a `Sum` of one input.
* `DQ → Conv with a float bias → Q` gets an int32 bias with the scale input × weight, and no look whether it overflows;
  with 16-bit inputs and weights it does. A bias behind a DQ is left alone.
* 16-bit pairs compute in float; weights behind a 16-bit DQ are unpacked in every run.
* In the same way Softmax and AveragePool between DQ and Q become integer, though slower. MatMul's output is left float
  here; readers that want integers put a Q there.
* QLinearAveragePool knows no dilations: a network with such a pool between DQ and Q cannot be loaded. With ceil_mode
  and count_include_pad it divides by another number than the float operator does.
* QLinearSoftmax overflows where the scale of its output is small: with ten flat classes the top one was never right.
  So there is no row for Softmax.
* On x86 the pairs of s8 are changed to u8 where that is possible, and what is not changed computes in float.
* `DQ → MatMul → Add` becomes a float Gemm where all shapes are known, before anything is made integer; 12 times slower.
  With a Sum in place of the Add (`summed`) it is the same as with free shapes.
* One DQ may have many readers.
* `Cast(MatMulInteger) · (s · s_W) + b` becomes one operator even where s has one number a row; that operator takes one
  number only, and answers wrongly. `s / (1 / s_W)` is left alone.
* Products are fastest as u8 · s8; u8 · u8 takes 1.3 to 2 times as long, and s8 · u8 with scales behind it is merged
  into an operator that there is no kernel for.
* A DQ in front of a Gather unpacks the whole table in every run.
"""

from __future__ import annotations

from dataclasses import replace

from fewbit.core.spec import QuantSpec
from fewbit.core.target import OpRule, Target, register_target

WEIGHT = QuantSpec(8, signed=True, symmetric=True, granularity="channel", axis=0, narrow=True)

LAYER = ("act", "weight", "bias")
CLAMPS = ("Relu", "Clip")

TABLE = OpRule(
    "Gather", ("weight", "keep"), ("float",), core=True, when="table of 65536 or more", runs="Gather Cast Mul",
    note="a quarter of the memory; 5 to 30 microseconds more than float, 1.3 to 2.1 of a Gather's time",
)  # fmt: skip

RULES = (
    # -- what carries the cost; pays: alone, in a row of its like
    OpRule(
        "Conv", LAYER, core=True, absorbs=CLAMPS, when="thin", pays=2.6, runs="QLinearConv",
        note="1.5 with 8 channels in and 4 out, 2.6 with 3 in and 16 out, 3.0 with 1 in and 16 out",
    ),
    OpRule("Conv", LAYER, core=True, absorbs=CLAMPS, when="1-D convolution", pays=0.24, runs="QLinearConv"),
    OpRule(
        "Conv", LAYER, absorbs=CLAMPS, when="2-D depthwise convolution", pays=0.83, runs="QLinearConv",
        note="alone 1.2 times slower than float; pays between integer layers, where float means converting twice",
    ),
    OpRule(
        "Conv", LAYER, core=True, absorbs=CLAMPS, when="few channels in a group", pays=1.34, runs="QLinearConv",
        note="2.3 with 4 channels in a group, 1.3 with 8, 1.1 with 16, 0.6 with 32",
    ),
    OpRule("Conv", LAYER, core=True, absorbs=CLAMPS, when="3-D convolution", pays=0.43, runs="QLinearConv"),
    OpRule("Conv", LAYER, core=True, absorbs=CLAMPS, when="weight is constant", pays=0.28, runs="QLinearConv"),
    OpRule("Gemm", LAYER, ("float",), core=True, absorbs=CLAMPS, when="plain Gemm", pays=0.27, runs="QGemm"),
    OpRule(
        "MatMul", ("act", "weight"), ("float",), core=True, absorbs=CLAMPS, when="matrix weight", pays=0.28,
        runs="QLinearMatMul MatMulIntegerToFloat",
    ),
    OpRule(
        "MatMul", ("act",), ("float",), when="both computed", pays=0.70, runs="QLinearMatMul MatMulIntegerToFloat",
        note="0.45 if the right side is s8, which ONNX Runtime makes only of a graph input",
    ),
    TABLE,
    # -- what stands between; pays: with its neighbours, integer ÷ float between Q and DQ
    OpRule("Add", ("act",), absorbs=CLAMPS, pays=0.76, runs="QLinearAdd"),
    OpRule("Mul", ("act",), pays=0.81, runs="QLinearMul"),
    OpRule("Concat", ("act",), shares=True, pays=0.72, runs="QLinearConcat", note="0.92 if parameters differ"),
    OpRule("GlobalAveragePool", ("act",), pays=0.62, runs="QLinearGlobalAveragePool"),
    OpRule("LeakyRelu", ("act",), pays=0.86, runs="QLinearLeakyRelu"),
    OpRule("Sigmoid", ("act",), pays=0.87, runs="QLinearSigmoid"),
    OpRule("Relu", ("act",), pays=0.87, note="not an operator any more: Q cuts off what is negative"),
    OpRule(
        "AveragePool", ("act",), when="no dilations, no padding counted with ceil_mode", pays=1.83,
        runs="QLinearAveragePool",
    ),
    # -- what only moves values
    OpRule("MaxPool", ("act",), ("same", "float"), pays=0.62, runs="MaxPool NhwcMaxPool"),
    OpRule("Reshape", ("act", "keep"), ("same",), pays=0.83, runs="Reshape"),
    OpRule("Transpose", ("act",), ("same",), pays=0.81, runs="Transpose"),
    OpRule("Flatten", ("act",), ("same",), pays=0.79, runs="Flatten"),
    OpRule("Squeeze", ("act", "keep"), ("same",), pays=0.83, runs="Squeeze", note="taken from Reshape"),
    OpRule("Unsqueeze", ("act", "keep"), ("same",), pays=0.83, runs="Unsqueeze", note="taken from Reshape"),
    OpRule("Slice", ("act", "keep"), ("same",), pays=0.80, runs="Slice"),
    OpRule("Split", ("act", "keep"), ("same",), pays=0.74, runs="Split"),
    OpRule("Gather", ("act", "keep"), ("same",), pays=0.57, runs="Gather"),
    OpRule("Resize", ("act", "keep"), ("same",), when="nearest", pays=1.18, runs="Resize"),
)  # fmt: skip

PRODUCT, GEMM = ("act", "weight"), ("act", "weight", "keep")
RECURRENT = ("act", "weight", "weight", "keep")
SMALL = "0.9 to 1.4 of float below 100000 weights: what measures the range takes as long as the product"

DYNAMIC = (
    OpRule("MatMul", PRODUCT, ("float",), core=True, when="weight matrices of 100000 or more", pays=0.29,
           runs="DynamicQuantizeMatMul MatMulIntegerToFloat", note="0.22 to 0.89, the more rows the better"),
    OpRule("MatMul", PRODUCT, ("float",), core=True, when="weight matrices", pays=1.16,
           runs="DynamicQuantizeMatMul MatMulIntegerToFloat", note=SMALL),
    OpRule("MatMul", ("weight", "act"), ("float",), core=True, when="left side a constant matrix of 65536 or more",
           pays=0.57, runs="MatMulInteger", note="weights as u8, input as s8: 0.73 and more the other way"),
    OpRule("MatMul", ("weight", "act"), ("float",), core=True, when="left side a constant matrix", pays=1.3,
           runs="MatMulInteger", note=SMALL),
    OpRule("MatMul", ("act",), ("float",), core=True, when="both computed, 128 rows or more", pays=0.80,
           runs="DynamicQuantizeMatMul", note="0.5 to 0.9, the wider the better"),
    OpRule("MatMul", ("act",), ("float",), core=True, when="both computed", pays=1.3, runs="DynamicQuantizeMatMul",
           note="1.1 to 1.5 below 128 rows, and nobody knows how many there will be"),
    OpRule("Gemm", GEMM, ("float",), core=True, when="weight matrices of 100000 or more", pays=0.28,
           runs="DynamicQuantizeMatMul MatMulIntegerToFloat"),
    OpRule("Gemm", GEMM, ("float",), core=True, when="weight matrices", pays=1.16,
           runs="DynamicQuantizeMatMul MatMulIntegerToFloat", note=SMALL),
    OpRule("LSTM", RECURRENT, ("float",), core=True, when="recurrent weights of 64 units or more", pays=0.52,
           runs="DynamicQuantizeLSTM", note="0.8 with 64 units, 0.5 with 128, 0.4 with 256, 0.3 with 512"),
    OpRule("LSTM", RECURRENT, ("float",), core=True, when="recurrent weights", pays=1.24, runs="DynamicQuantizeLSTM"),
    OpRule("GRU", ("keep", "weight", "weight", "keep"), ("float",), core=True, when="recurrent weights",
           storage="packed", runs="GRU", note="no integer kernel; as fast as in float, its file is smaller"),
    TABLE,
    OpRule("Conv", ("act", "weight", "keep"), ("float",), core=True, when="weight is constant", pays=3.94,
           runs="ConvInteger"),
)  # fmt: skip
"""Ranges measured at run time, one whole operator against float: MatMul 128×384→1536, computed 12×128×32×128, left
256×256×64, Gemm 32×1024→1024, LSTM 128, Conv 3×3 64 at 56²."""

BY_ROW = (
    OpRule("MatMul", PRODUCT, ("float",), core=True, when="weight matrices of 140000 or more", pays=0.43,
           runs="MatMulInteger", note="1.1 to 1.3 of the time with one range for all rows"),
    OpRule("MatMul", PRODUCT, ("float",), core=True, when="weight matrices", pays=1.85, runs="MatMulInteger"),
    OpRule("Gemm", GEMM, ("float",), core=True, when="weight matrices of 140000 or more", pays=0.43,
           runs="MatMulInteger", note="1.1 to 1.3 of the time with one range for all rows"),
    OpRule("Gemm", GEMM, ("float",), core=True, when="weight matrices", pays=1.85, runs="MatMulInteger"),
    *(r for r in DYNAMIC if r.op in ("GRU", "Gather")),
)  # fmt: skip
"""One range a row of the input: 128×384→384, small 128×64→64."""

DYNAMIC_FLOAT = {
    "Conv": "3.9 of the float time with one range for all of it, and one range a row means nothing to it",
    "LSTM": "its integer kernel measures one range a step; for quant_strategy 'ALWC'",
    "ConvTranspose": "no integer kernel",
    "RNN": "no integer kernel",
}

FLOAT_ONLY = {
    "ConvTranspose": "no integer kernel; integer weights would run at 1.06 of the float time",
    "Sub": "no integer kernel; 1.02 of the float time",
    "Tanh": "no integer kernel; 1.00 of the float time",
    "HardSwish": "no integer kernel; 0.97 of the float time, computed in float",
    "Softmax": "its integer kernel overflows where outputs are small, and runs at 2.61 of the float time",
    "Clip": "no integer kernel where it is not merged into the layer before; 1.01 of the float time",
    "Pad": "no integer kernel that ONNX Runtime would choose; 1.03 of the float time",
    "LSTM": "its weights would be unpacked in every run; 1.2 to 1.4 of the float time (use quant_type dynamic)",
    "GRU": "its weights would be unpacked in every run; 1.2 of the float time",
}

MACHINE = "ONNX Runtime 1.31 on AMD EPYC (Zen 4: AVX512-VNNI), one thread"

TARGET = register_target(
    Target(
        name="onnxruntime",
        form="qdq",
        activation=QuantSpec(8, signed=False),
        weight=WEIGHT,
        rules=RULES,
        slow={"int8": 1.31, "int16": 1.26, "uint16": 1.26},
        float_only=FLOAT_ONLY,
        dynamic=DYNAMIC,
        by_row=BY_ROW,
        dynamic_float=DYNAMIC_FLOAT,
        grabs=("Conv", "ConvTranspose", "Gemm", "AveragePool", "Softmax"),
        summed=True,
        checked=MACHINE,
    )
)

MEASURED = "measured on x86 with VNNI only"


def elsewhere(rules: tuple[OpRule, ...]) -> tuple[OpRule, ...]:
    """The same rows where nothing was measured: what is slow on one machine is taken to be slow here as well."""
    return tuple(
        replace(
            r,
            pays=r.pays if r.pays and r.pays >= 1 else None,
            note=f"{MEASURED}: {r.pays}" if r.pays else f"{MEASURED}; {r.note}",
        )
        for r in rules
    )


def seven_bits(rules: tuple[OpRule, ...]) -> tuple[OpRule, ...]:
    """Rows whose s8 side has 7 bits: not those where it is computed."""
    return tuple(r for r in rules if r.op != "MatMul" or r.inputs == PRODUCT)


AVX2 = register_target(
    replace(
        TARGET,
        name="onnxruntime-avx2",
        weight=replace(WEIGHT, bits=7),  # u8·s8 pairs are summed in 16 bits, which 2·255·127 would saturate
        rules=elsewhere(RULES),
        dynamic=elsewhere(seven_bits(DYNAMIC)),
        by_row=elsewhere(BY_ROW),
        checked="not run here",
    )
)

ARM = register_target(
    replace(
        TARGET,
        name="onnxruntime-arm",
        activation=QuantSpec(8, signed=True),  # not symmetric: Relu merges only if its Q has zero point -128
        rules=elsewhere(RULES),
        dynamic=elsewhere(DYNAMIC),
        by_row=elsewhere(BY_ROW),
        slow={},
        checked="not run here",
    )
)
