"""Simulation of integer networks in PyTorch, and training for them.

    net = fb.torch.prepare(net, sample, bit_num=4)          # computes as its integer form will
    …                                                       # any training loop
    fb.torch.export(net, sample).save("net-w4a4.onnx")      # the same numbers, in ONNX Runtime

Layer by layer, in the words of Quantization.MXNet: `convert_model(net)`, then `net.update_ema()` and so on.
PyTorch is the extra `torch`; names are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from fewbit.errors import EngineMissing

_WHERE = {
    name: f"fewbit.{folder}"
    for folder, names in {
        "api.retraining": "export prepare",
        "torch.blocks": "QuantActivation collect_quantized_blocks",
        "torch.calibrate": "calibrate_inputs",
        "torch.convert": "convert_model",
        "torch.converters": (
            "gen_act_converter gen_bn_converter gen_conv2d_converter gen_conv_converter gen_dense_converter"
        ),
        "torch.layers": (
            "QuantConv1d QuantConv2d QuantConv3d QuantConvTranspose1d QuantConvTranspose2d QuantConvTranspose3d "
            "QuantLinear"
        ),
        "torch.merging": "merge_bn",
        "torch.methods": "disable_quantize enable_quantize fix_params qparams_init quantize_input update_ema",
        "torch.quantizer": "ActQuantizer WeightQuantizer",
        "torch.report": "quantization_report",
        "torch.rounding": "fake_quantize",
    }.items()
    for name in names.split()
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'fewbit.torch' has no attribute {name!r}")
    if find_spec("torch") is None:
        raise EngineMissing("PyTorch", "torch")
    found = getattr(import_module(_WHERE[name]), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(_WHERE)
