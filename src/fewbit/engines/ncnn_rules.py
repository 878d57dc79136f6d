"""ncnn: int8 layers in a float network, as its runtime computes them.

    x ─ Q ─ Conv ─ act ─          one layer: x · (127/T) is rounded to −127…127 in front of it, its answer is float
    x ─ Q ─ Conv ─ act ─ Q ─ Conv     two; if nothing else reads the value between them, it goes there as int8
    Add, pooling, concat …        float

* Integers are s8 with zero point 0; weights −127…127, one scale an output channel; biases are float.
* Convolutions of 3×3 with stride 1 are computed in the Winograd domain, whose int32 sums may overflow with weights of 8
  bits and many channels. ncnn's own tools give them 6 bits (`ncnn`); with 8 bits (`ncnn-8bit`) what is written for ncnn
  switches Winograd off for those layers, and only those, whose sums could overflow.
* ncnn rounds half away from zero, the simulation half to even: ties are rare.

Networks are simulated in ONNX Runtime, which computes Q and DQ as they stand: the engine `ncnn` runs them itself.
"""

from __future__ import annotations

from dataclasses import replace

from fewbit.core.spec import QuantSpec
from fewbit.core.target import OpRule, Target, register_target

ACT = QuantSpec(8, signed=True, symmetric=True, narrow=True)
WEIGHT = QuantSpec(8, signed=True, symmetric=True, granularity="channel", axis=0, narrow=True)

LAYER = ("act", "weight", "keep")
MERGED = ("Relu", "Clip", "LeakyRelu", "Sigmoid")
ONE = "one int8 layer, float answer"

WINOGRAD = OpRule(
    "Conv", LAYER, ("both",), core=True, absorbs=MERGED, when="3x3 convolution, stride 1",
    weight=replace(WEIGHT, bits=6),
    note="weights of 6 bits, since Winograd sums of 8 bits may overflow; target ncnn-8bit keeps 8",
)  # fmt: skip

RULES = (
    OpRule("Conv", LAYER, ("both",), core=True, absorbs=MERGED, when="2-D convolution", note=ONE),
    OpRule("Gemm", LAYER, ("both",), core=True, absorbs=MERGED, when="plain Gemm", note=ONE),
    OpRule("MatMul", ("act", "weight"), ("both",), core=True, absorbs=MERGED, when="matrix weight", note=ONE),
)

FLOATS = "computed in float, beside the integer layers"

FLOAT_ONLY = {
    "ConvTranspose": "no integer deconvolution in ncnn",
    **dict.fromkeys(
        "Add Sub Mul Concat MaxPool AveragePool GlobalAveragePool Tanh HardSwish Softmax LSTM GRU Split Slice Resize "
        "Reshape Transpose Flatten Squeeze Unsqueeze Pad Gather".split(),
        FLOATS,
    ),
    **dict.fromkeys(MERGED, "merged into the layer before; alone computed in float"),
}

REFUSES = {
    "run-time ranges": "its int8 convolutions have ranges that are measured beforehand; use quant_type full, with data",
    "weights alone": "it reads integer weights only for layers with integer inputs; use quant_type full",
    "uint8 activations": "its integers are signed, with zero point 0; leave it out, or say int8",
    "zero points": "its integers are symmetric, with zero point 0; leave it out",
    "activations of other widths": "activations have 8 bits there; for smaller weights say weight_bit_num",
    "weights over 8 bits": "weights have 8 bits or fewer there; keep the layer float instead (exclude_layers)",
    "groups": "it has one scale an output channel; use quantize_granularity channel-wise",
    "timing": "the simulation has not its speed; leave it out, and time with fewbit benchmark --engine ncnn",
}

TARGET = register_target(
    Target(
        name="ncnn",
        form="qdq",
        activation=ACT,
        signed=ACT,
        weight=WEIGHT,
        rules=(WINOGRAD, *RULES),
        float_only=FLOAT_ONLY,
        checked="arithmetic: ncnn 1.0.20261020 on AMD EPYC (Zen 4); speed hangs on the device",
        engine="onnxruntime",
        engine_options={"literal": True},
        refuses=REFUSES,
    )
)

WIDE = register_target(replace(TARGET, name="ncnn-8bit", rules=RULES))
