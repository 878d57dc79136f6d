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
from typing import TYPE_CHECKING, Any

from fewbit.errors import EngineMissing

_WHERE = {
    "export": "fewbit.api.retraining",
    "prepare": "fewbit.api.retraining",
    "ActQuantizer": "fewbit.torch.quantizer",
    "WeightQuantizer": "fewbit.torch.quantizer",
    "fake_quantize": "fewbit.torch.rounding",
    **dict.fromkeys(
        ("QuantConv1d", "QuantConv2d", "QuantConv3d", "QuantConvTranspose1d", "QuantConvTranspose2d",
         "QuantConvTranspose3d", "QuantLinear"),
        "fewbit.torch.layers",
    ),
}  # fmt: skip

__all__ = sorted(_WHERE)

if TYPE_CHECKING:
    from fewbit.torch.quantizer import ActQuantizer, WeightQuantizer


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
