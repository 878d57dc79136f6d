"""Functions that make the quantized form of one module; `convert_model` calls them.

    Conv2d ─ gen_conv2d_converter(weight_width=4) ─→ QuantConv2d        ReLU ─ gen_act_converter(8) ─→ ReLU, rounded

Scales as in Quantization.MXNet: max / (2^(b-1) - 1) signed, max / (2^b - 1) unsigned, zero point 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.modules.conv import _ConvTransposeNd

from fewbit.config.fields import check_whole, whole
from fewbit.core.spec import QuantSpec
from fewbit.errors import ConfigError, UsageError, one_of
from fewbit.torch.blocks import QuantActivation
from fewbit.torch.fake_bn import WAYS
from fewbit.torch.layers import QUANT_LAYERS
from fewbit.torch.quantizer import ActQuantizer, WeightQuantizer
from fewbit.torch.rounding import FIXED
from fewbit.torch.winograd import KINDS
from fewbit.torch.words import own_words

Converter = Callable[[nn.Module], nn.Module | None]

QUANT_TYPES = ("layer", "channel", "group")
NEVER_NEGATIVE = (nn.ReLU, nn.ReLU6, nn.Sigmoid, nn.Hardsigmoid, nn.Softmax, nn.Softplus, nn.Softmin)


@dataclass(frozen=True)
class LayerConverter:
    """Makes the quantized form of a convolution or Linear.

    Args:
        weight_width, input_width: bits.
        quant_type: what shares a scale of weights: the layer, an output channel, or the channels of one group of a
            grouped convolution (a Linear's group is a channel).
        quantize_input: round the input, too.
        input_signed: the input goes below zero; if not, what is negative becomes 0.
        fake_bn: take the BatchNorm behind the layer into it: False, "batch" (True), "running" or "frozen".
        wino_quantize: round the weights of 3x3 Conv2d in the domain of Winograd: "none", "F23", "F43" or "F63"; other
            layers as ever.
        ste: "plain" or "clipped". learned: learn the step sizes (LSQ) instead.
        momentum: weight of the old range in `update_ema`.
    """

    weight_width: int = 8
    input_width: int = 8
    quant_type: str = "channel"
    quantize_input: bool = True
    input_signed: bool = False
    fake_bn: bool | str = False
    wino_quantize: str = "none"
    ste: str = "plain"
    learned: bool = False
    momentum: float = 0.9

    def __post_init__(self) -> None:
        one_of("quant_type", self.quant_type, QUANT_TYPES)
        one_of("wino_quantize", self.wino_quantize, KINDS)
        one_of("ste", self.ste, FIXED)
        whole(self, "weight_width", 1, 16)
        whole(self, "input_width", 1, 16)
        if not isinstance(self.fake_bn, bool):
            one_of("fake_bn", self.fake_bn, WAYS)
        if self.wino_quantize != "none" and self.quant_type != "channel":
            raise ConfigError(f"wino_quantize {self.wino_quantize!r} goes with quant_type 'channel' only")
        if self.wino_quantize != "none" and self.learned:
            raise ConfigError("wino_quantize takes its scales from the weights; learned=True has none of its own")
        self._act()

    def __call__(self, module: nn.Module, bn: nn.Module | None = None) -> nn.Module:
        """The quantized layer; it shares the parameters of `module`, and takes in `bn` if given.

        Raises:
            UsageError: there is no quantized form of this type.
        """
        kind = quant_type_of(module)
        if kind is None:
            allowed = ", ".join(t.__name__ for t in QUANT_LAYERS)
            raise UsageError(f"there is no quantized form of {type(module).__name__}; this converter is for {allowed}")
        act = self._act() if self.quantize_input else None
        how = {} if bn is None else {"bn": bn, "fake_bn": "batch" if self.fake_bn is True else self.fake_bn}
        made = kind.from_float(module, self._weight(module), act, **how)
        if isinstance(module, nn.Conv2d) and tuple(module.kernel_size) == (3, 3):
            made.winograd = self.wino_quantize
        return made

    def _input_spec(self) -> QuantSpec:
        return QuantSpec(bits=self.input_width, signed=bool(self.input_signed), symmetric=True)

    def _act(self) -> ActQuantizer:
        return act_quantizer(self._input_spec(), self.ste, self.learned, self.momentum)

    def _weight(self, module: Any) -> nn.Module:
        form: dict[str, Any] = {"bits": self.weight_width, "signed": True, "symmetric": True}
        groups = getattr(module, "groups", 0)  # 0: Linear, where a group is a channel
        shared = groups if self.quant_type == "group" and groups > 1 else 1
        if self.quant_type == "channel" or (self.quant_type == "group" and groups != 1):
            transposed = isinstance(module, _ConvTransposeNd) and shared == 1  # (in, out / groups, …)
            form |= {"granularity": "channel", "axis": 1 if transposed else 0}
        ste = "lsq" if self.learned else self.ste
        return WeightQuantizer(
            QuantSpec(**form), module.weight.shape, ste=ste, learned=self.learned, conv_groups=shared
        )


@dataclass(frozen=True)
class NormConverter:
    """For BatchNorms that have to be taken into the layer before them: one that cannot be is an error."""

    def __call__(self, module: nn.Module) -> nn.Module:
        """What stands at its place afterwards."""
        return nn.Identity()


def gen_conv_converter(**words: Any) -> LayerConverter:
    """A converter for convolutions of any kind; the words are those of `LayerConverter`."""
    return _layer_converter(words)


def gen_conv2d_converter(**words: Any) -> LayerConverter:
    """The same, under the name that Quantization.MXNet has for it."""
    return _layer_converter(words)


def gen_dense_converter(**words: Any) -> LayerConverter:
    """A converter for Linear; the words are those of `LayerConverter`."""
    if words.get("wino_quantize", "none") != "none":
        raise ConfigError("wino_quantize is for 3x3 convolutions, not for Linear")
    return _layer_converter(words)


def gen_bn_converter() -> NormConverter:
    """A converter for BatchNorm types: each of them must be taken in (`fake_bn`); its old place is bypassed."""
    return NormConverter()


@own_words
def gen_act_converter(
    width: int | None = 8, *, signed: bool | None = None, relu6: bool = False, ste: str = "plain",
    learned: bool = False, momentum: float = 0.9,
) -> Converter:  # fmt: skip
    """A converter for activations.

    Args:
        width: bits of the output; None leaves it float.
        signed: by default by the kind: unsigned for ReLU, Sigmoid and others that are never negative.
        relu6: ReLU becomes ReLU6.
        ste, learned, momentum: see `LayerConverter`.
    """
    one_of("ste", ste, FIXED)
    if width is not None:
        check_whole("width", width, 1, 16)
    elif not relu6:
        raise ConfigError("width=None without relu6=True leaves an activation as it is; give one of them")

    def convert(module: nn.Module) -> nn.Module:
        act = nn.ReLU6(module.inplace).train(module.training) if relu6 and type(module) is nn.ReLU else module
        if width is None:
            return act
        sign = not isinstance(act, NEVER_NEGATIVE) if signed is None else signed
        spec = QuantSpec(bits=width, signed=sign, symmetric=True)
        return QuantActivation(act, act_quantizer(spec, ste, learned, momentum))

    return convert


def act_quantizer(spec: QuantSpec, ste: str, learned: bool, momentum: float) -> ActQuantizer:
    """A quantizer that rounds with the range of each batch and leaves the stored one to `update_ema`."""
    made = ActQuantizer(spec, ste="lsq" if learned else ste, learned=learned, momentum=momentum)
    made.tracking, made.observing, made.online = False, True, not learned
    return made


def quant_type_of(module: nn.Module) -> Any:
    """The quantized class for a module, or None; a subclass that computes in the same way counts as its base."""
    for kind in type(module).__mro__:
        if kind in QUANT_LAYERS:
            return QUANT_LAYERS[kind]
    return None


def _layer_converter(words: dict[str, Any]) -> LayerConverter:
    for word in words:
        one_of("word of a converter", word, LayerConverter.__dataclass_fields__)
    return LayerConverter(**words)
