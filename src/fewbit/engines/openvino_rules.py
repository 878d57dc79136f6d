"""OpenVINO: what it does in integers, as measured by `bench/operators.py`.

    Q DQ → Conv            → integer convolution, whatever stands behind: the output may be float
    Q DQ → Conv → act → …  → one convolution; it merges Relu, Clip, LeakyRelu, Sigmoid, Tanh, HardSwish, and constants
                             added or multiplied: Q belongs behind all of them, and only where integers are read
    Q DQ → Conv + Q DQ     → a residual Add becomes part of the convolution

It moves Q and DQ through the graph itself: what only moves values needs none of its own, and has rows here with a
measured factor around 1, which smart mode leaves out. The factors are against its own default, bf16 where the CPU has
it; against f32 they are about half (Conv 0.32, MatMul 0.30).

* Asymmetric u8 costs nothing in Conv, Gemm and MatMul with weights. ConvTranspose and MatMul of two computed values are
  integer only without zero points: signed, symmetric.
* A convolution whose float output forks and meets itself again in an Add or Mul (squeeze-excitation) answers with wrong
  numbers in 2026.4, if a dimension is free. With Q and DQ in front of the fork it is right (`fork` below); so it is
  where something is merged into the convolution.
* AveragePool that counts its padding (count_include_pad) answers with wrong numbers behind a DQ.
* MatMul with weights behind a Concat along another axis than the last: OpenVINO keeps zero points for each part, cannot
  spread them over the product, and refuses the network; with a Relu between it ends the process.
* The stride of 1×1 convolutions is moved in front of them, behind the DQ, which costs them their integers: six of 53 in
  ResNet-50, an eighth of its time. With a MaxPool in front of the DQ they keep them (`sampled`). If they are padded,
  that is moved wrongly, in float as well; a 1×1 MaxPool right in front holds it back.
* Signed integers of a Concat that a convolution reads are taken for unsigned ones; not with a MaxPool behind the Q.
* Weights must be signed: with u8 weights everything stays float.
* 16-bit Q and DQ are ignored or computed in float.
* A float input and an s8 weight behind a DQ: MatMul and Gemm quantize the input by themselves, 32 values at a time, and
  multiply integers; Gemm with transA, α or β does not, nor Conv, LSTM, GRU. DynamicQuantizeLinear and MatMulInteger
  compute in float.
"""

from __future__ import annotations

from fewbit.core.spec import QuantSpec
from fewbit.core.target import OpRule, Target, register_target

LAYER = ("act", "weight", "bias")
MERGED = ("Relu", "Clip", "LeakyRelu", "Sigmoid", "Tanh", "HardSwish")
SIGNED = QuantSpec(8, signed=True, symmetric=True)

TABLE = OpRule(
    "Gather", ("weight", "keep"), ("float",), core=True, when="table of 65536 or more", pays=0.99, runs="Gather",
    note="a quarter of the memory",
)  # fmt: skip

RULES = (
    # -- what carries the cost
    OpRule(
        "Conv", LAYER, ("fork",), absorbs=MERGED, when="depthwise", pays=0.99, runs="Convolution",
        note="alone 0.9 to 1.3 of its float time; pays between integer layers",
    ),
    OpRule("Conv", LAYER, ("fork",), core=True, absorbs=MERGED, when="grouped", pays=0.87, runs="Convolution"),
    OpRule(
        "Conv", LAYER, ("fork",), core=True, absorbs=MERGED, when="weight is constant", pays=0.57,
        runs="Convolution",
    ),
    OpRule(
        "ConvTranspose", LAYER, ("fork",), core=True, absorbs=MERGED, when="weight is constant", pays=0.46,
        runs="Deconvolution", note="only signed and symmetric", act=SIGNED,
    ),
    OpRule("Gemm", LAYER, ("float",), core=True, absorbs=MERGED, when="plain Gemm", pays=0.60, runs="FullyConnected"),
    OpRule(
        "MatMul", ("act", "weight"), ("float",), core=True, absorbs=MERGED, when="matrix weight, not behind Concat",
        pays=0.56, runs="FullyConnected",
    ),
    OpRule(
        "MatMul", ("act",), ("float",), when="both computed", pays=0.83, runs="MatMul Subgraph",
        note="only signed and symmetric", act=SIGNED,
    ),
    TABLE,
    # -- what stands between
    OpRule("Add", ("act",), ("float",), absorbs=MERGED, when="both computed", pays=0.96, note="part of a convolution"),
    OpRule("Sub", ("act",), ("float",), when="both computed", pays=1.09, note="part of a convolution"),
    OpRule("Concat", ("act",), shares=True, pays=1.16, runs="Concatenation"),
    OpRule("GlobalAveragePool", ("act",), ("float",), pays=1.01, runs="Reduce"),
    OpRule(
        "AveragePool", ("act",), ("float",), when="no dilations, no padding counted", pays=1.03, runs="Pooling",
    ),
    # -- what only moves values
    OpRule("MaxPool", ("act",), ("same", "float"), pays=0.93, runs="Pooling"),
    OpRule("Reshape", ("act", "keep"), ("same",), pays=1.10, runs="Reshape"),
    OpRule("Transpose", ("act",), ("same",), pays=1.02, runs="Transpose"),
    OpRule("Flatten", ("act",), ("same",), pays=1.08, runs="Reshape"),
    OpRule("Squeeze", ("act", "keep"), ("same",), pays=1.10, runs="Reshape"),
    OpRule("Unsqueeze", ("act", "keep"), ("same",), pays=1.10, runs="Reshape"),
    OpRule("Slice", ("act", "keep"), ("same",), pays=1.04, runs="StridedSlice"),
    OpRule("Split", ("act", "keep"), ("same",), pays=1.12, runs="Split"),
    OpRule("Gather", ("act", "keep"), ("same",), pays=1.00, runs="Gather"),
    OpRule("Resize", ("act", "keep"), ("same",), when="nearest", pays=1.05, runs="Interpolate"),
)  # fmt: skip

OWN = "OpenVINO measures ranges itself, in groups of 32 values"

DYNAMIC = (
    OpRule("MatMul", ("keep", "weight"), ("float",), core=True, when="matrix weight of 140000 or more", pays=0.93,
           runs="FullyConnected", note=OWN),
    OpRule("MatMul", ("keep", "weight"), ("float",), core=True, when="matrix weight", pays=1.08,
           runs="FullyConnected", note=OWN),
    OpRule("Gemm", ("keep", "weight", "keep"), ("float",), core=True, when="plain Gemm of 140000 or more",
           pays=0.91, runs="FullyConnected", note=OWN),
    OpRule("Gemm", ("keep", "weight", "keep"), ("float",), core=True, when="plain Gemm", pays=1.08,
           runs="FullyConnected", note=OWN),
    TABLE,
    OpRule("LSTM", ("keep", "weight", "weight", "keep"), ("float",), core=True, when="recurrent weights",
           storage="packed", runs="RNNSeq", note="no integer kernel; as fast as in float, its file is smaller"),
    OpRule("GRU", ("keep", "weight", "weight", "keep"), ("float",), core=True, when="recurrent weights",
           storage="packed", runs="RNNSeq", note="no integer kernel; as fast as in float, its file is smaller"),
)  # fmt: skip
"""Ranges measured at run time: weights behind a DQ, activations float; OpenVINO then multiplies integers. Against its
default: 0.80 for one row, 0.96 for 128×384→1536. DynamicQuantizeLinear and MatMulInteger run in float there, at 1.4 to
2.5 of its time."""

DYNAMIC_FLOAT = {
    "Conv": "integer weights are unpacked when it is loaded; 1.00 of the float time",
    "ConvTranspose": "integer weights are unpacked when it is loaded",
}

FLOAT_ONLY = {
    "Mul": "computed in float; 1.16 of the float time, or merged into the layer before if one side is constant",
    "Relu": "merged into the layer before; alone computed in float",
    "LeakyRelu": "merged into the layer before; alone computed in float",
    "Clip": "merged into the layer before; alone computed in float",
    "Sigmoid": "merged into the layer before; alone computed in float",
    "Tanh": "merged into the layer before; alone computed in float",
    "HardSwish": "merged into the layer before; alone computed in float",
    "Softmax": "computed in float; 1.25 of the float time",
    "Pad": "computed in float; 1.20 of the float time",
    "LSTM": "its weights are unpacked when it is loaded; 1.01 of the float time",
    "GRU": "its weights are unpacked when it is loaded; 0.97 of the float time",
}

TARGET = register_target(
    Target(
        name="openvino",
        form="qdq",
        activation=QuantSpec(8, signed=False),
        signed=SIGNED,
        weight=QuantSpec(8, signed=True, symmetric=True, granularity="channel", axis=0, narrow=True),
        rules=RULES,
        slow={"int16": 1.0, "uint16": 1.0},
        sampled=True,
        float_only=FLOAT_ONLY,
        dynamic=DYNAMIC,
        dynamic_float=DYNAMIC_FLOAT,
        checked="OpenVINO 2026.4 on AMD EPYC (Zen 4: AVX512-VNNI, bf16), one thread, against its default precision",
    )
)
