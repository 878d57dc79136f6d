"""NVIDIA TensorRT, explicit quantization: Q and DQ where its documentation asks for them. Nothing of this ran here.

    Q DQ → Conv ─ Relu → Q DQ →          one integer layer: inputs are quantized, and outputs only by who reads them
    Q DQ → Conv ──┐
                  Add ─ Relu → Q DQ →    one integer layer: the residual side is quantized, that of the layer is not
    … → Q DQ ─────┘

* Integers are s8, with zero point 0: weights −127…127, one scale an output channel; activations one scale.
* Biases are float: the parser refuses a DQ of int32.
* Between a layer and its BatchNorm or Relu stands nothing.
* Non-weighted layers (AveragePool, Add of two activations) with integer inputs need integer outputs too.
* Layers that only move values change places with Q and DQ, if both sides have the same scale.
* All else computes in float: FP16 where the builder may (before version 11), or where the file says so.

What the written network must obey is checked by `fewbit.graph.tensorrt_legal`. Here it is run in ONNX Runtime, which
computes Q and DQ as they stand, in float: errors are those to expect on the device, times are not.
"""

from __future__ import annotations

from fewbit.core.spec import QuantSpec
from fewbit.core.target import OpRule, Target, register_target

SIGNED = QuantSpec(8, signed=True, symmetric=True)

LAYER = ("act", "weight", "keep")
CLAMPS = ("Relu", "Clip")
PLACED = "NVIDIA's placement rules"
MOVES = "only moves values; TensorRT takes Q and DQ across it"
BOTH = "integer inputs need an integer output"

RULES = (
    # -- what carries the cost
    OpRule("Conv", LAYER, ("float",), core=True, absorbs=CLAMPS, when="2-D convolution", note=PLACED),
    OpRule("Conv", LAYER, ("float",), core=True, absorbs=CLAMPS, when="3-D convolution", note=PLACED),
    OpRule(
        "ConvTranspose", LAYER, ("float",), core=True, absorbs=CLAMPS, when="weight is constant, one group", note=PLACED
    ),
    OpRule("Gemm", LAYER, ("float",), core=True, absorbs=CLAMPS, when="plain Gemm", note=PLACED),
    OpRule("MatMul", ("act", "weight"), ("float",), core=True, absorbs=CLAMPS, when="matrix weight", note=PLACED),
    OpRule("MatMul", ("act",), ("float",), when="both computed", note=PLACED),
    # -- what stands between
    OpRule(
        "Add", ("act",), absorbs=CLAMPS, when="both computed", residual=True,
        note="part of the layer in front, whose side stays float; else integer inputs need an integer output",
    ),
    OpRule("AveragePool", ("act",), when="no dilations", note=BOTH),
    OpRule("GlobalAveragePool", ("act",), note=BOTH),
    OpRule("Concat", ("act",), shares=True, note="one scale for all parts: nothing is computed"),
    # -- what only moves values
    OpRule("MaxPool", ("act",), ("same", "float"), note=MOVES),
    OpRule("Reshape", ("act", "keep"), ("same",), note=MOVES),
    OpRule("Transpose", ("act",), ("same",), note=MOVES),
    OpRule("Flatten", ("act",), ("same",), note=MOVES),
    OpRule("Squeeze", ("act", "keep"), ("same",), note=MOVES),
    OpRule("Unsqueeze", ("act", "keep"), ("same",), note=MOVES),
    OpRule("Slice", ("act", "keep"), ("same",), note=MOVES),
    OpRule("Split", ("act", "keep"), ("same",), note=MOVES),
    OpRule("Gather", ("act", "keep"), ("same",), note=MOVES),
)  # fmt: skip

FLOATS = "computed in float, beside the integer layers"

FLOAT_ONLY = {
    "Relu": "merged into the layer before; alone computed in float",
    "Clip": "merged into the layer before; alone computed in float",
    "LeakyRelu": FLOATS,
    "Sigmoid": FLOATS,
    "Tanh": FLOATS,
    "HardSwish": FLOATS,
    "Mul": FLOATS,
    "Sub": FLOATS,
    "Softmax": FLOATS,
    "Pad": FLOATS,
    "Resize": "TensorRT takes the Q behind it across by itself",
    "LSTM": FLOATS,
    "GRU": FLOATS,
}

REFUSES = {
    "run-time ranges": "it has no integers with ranges measured at run time; use quant_type full, with data",
    "weights alone": "it reads integer weights only for layers with integer inputs; use quant_type full",
    "uint8 activations": "its integers are signed, with zero point 0; leave it out, or say int8",
    "zero points": "its integers are symmetric, with zero point 0; leave it out",
    "activations of other widths": "activations have 8 bits there; for smaller weights say weight_bit_num",
    "weights over 8 bits": "weights have 8 bits or fewer there; keep the layer float instead (exclude_layers)",
    "groups": "it has one scale a tensor or an output channel; use quantize_granularity channel-wise",
    "timing": "TensorRT does not run here, and nothing else has its speed; leave it out, and time with trtexec",
}

TARGET = register_target(
    Target(
        name="tensorrt",
        form="qdq",
        activation=SIGNED,
        signed=SIGNED,
        weight=QuantSpec(8, signed=True, symmetric=True, granularity="channel", axis=0, narrow=True),
        rules=RULES,
        float_only=FLOAT_ONLY,
        checked="not run here",
        engine="onnxruntime",
        engine_options={"literal": True},
        laws="tensorrt",
        refuses=REFUSES,
    )
)
