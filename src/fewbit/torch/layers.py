"""Layers that compute with rounded weights: convolutions of any rank, their transposes, Linear.

    y = layer(input_quantizer(x), weight_quantizer(w), b)        with a BatchNorm inside: see fake_bn.py

They share the Parameters of the layer they are made from, so tied weights stay tied and optimizers keep working.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fewbit.core.params import TINY
from fewbit.errors import ConfigError, UnsupportedModel, UsageError
from fewbit.torch.engine import MOST_BITS, counts, integer_layer, known_scale
from fewbit.torch.fake_bn import (
    batch_statistics,
    check_bn,
    folded_bias,
    gamma,
    never_zero,
    running_factor,
)
from fewbit.torch.quantizer import ActQuantizer, WeightQuantizer
from fewbit.torch.winograd import check_winograd, winograd_quantize


class _QuantLayer(nn.Module):
    """What all of them share.

    Attributes:
        weight_quantizer, input_quantizer, bn: may be None. fake_bn: "batch", "running" or "frozen".
        quantize_enabled: off, it is the float layer, BatchNorm included.
        round_bias: round the bias to multiples of s_x·s_w, as integer layers hold it; where there is such a step: the
            scale of the input is known and one s_w holds for all of an output (not for groups, not for Winograd). In
            training with fake_bn "running" the error of rounding the folded bias is added to the output.
        winograd: "none", or "F23", "F43", "F63": round 3x3 weights in Winograd's domain.
    """

    FLOAT: type[nn.Module]
    weight: nn.Parameter
    bias: nn.Parameter | None

    def __init__(self, *args: Any, **words: Any) -> None:
        super().__init__(*args, **words)
        self._dress(None, None, None, "batch")

    def _dress(self, weight: Any, input: Any, bn: Any, fake_bn: str) -> None:
        self.register_module("weight_quantizer", weight)
        self.register_module("input_quantizer", input)
        self.register_module("bn", bn)
        self.fake_bn = fake_bn
        self.round_bias = False
        self.quantize_enabled = True
        self._winograd = "none"

    @classmethod
    def from_float(
        cls,
        layer: nn.Module,
        weight: WeightQuantizer | None,
        input: ActQuantizer | None = None,
        bn: nn.Module | None = None,
        fake_bn: str = "batch",
    ) -> Any:
        """The same layer, with quantizers; Parameters and `bn` are shared, not copied.

        Args:
            layer: the float layer. weight, input: quantizers. bn: the BatchNorm behind it, to be taken in.
            fake_bn: how, see `fewbit.torch.fake_bn`.

        Raises:
            ConfigError: the layer is of another type, or a quantizer or the BatchNorm does not fit it.
            UnsupportedModel: the layer computes in its own way, or the BatchNorm has no running statistics.
        """
        _check(cls, layer, weight)
        if bn is not None:
            check_bn(bn, _outputs(layer), fake_bn)
        new = cls.__new__(cls)
        nn.Module.__init__(new)
        own = ("_parameters", "_buffers", "_modules", "_compiled_call_impl")
        new.__dict__.update({k: v for k, v in layer.__dict__.items() if k not in own})  # with the layer's hooks
        for kind in ("_parameters", "_buffers", "_modules"):
            getattr(new, kind).update(getattr(layer, kind))
        new._dress(weight, input, bn, fake_bn)
        for quantizer in (weight, input):
            if quantizer is not None:
                quantizer.to(layer.weight.device)
                quantizer.train(layer.training)
        if weight is not None and weight.learned:
            w = layer.weight.detach()
            weight.start(w if bn is None else new._scaled(w, never_zero(bn, running_factor(bn))))
        return new

    @property
    def winograd(self) -> str:
        return self._winograd

    @winograd.setter
    def winograd(self, kind: str) -> None:
        self._winograd = check_winograd(self, self.weight_quantizer, kind)

    def forward(self, x: Tensor, input_scale: Tensor | None = None, output_scale: Tensor | None = None) -> Tensor:
        """The layer.

        Args:
            x: as the float layer takes it.
            input_scale: of `x`, for `round_bias`, or the quantizer that has it; an own input quantizer goes before.
            output_scale: of the quantizer behind the layer, if that is 8 bits or less: in evaluation the layer then
                computes over integers, see `fewbit.torch.engine`.
        """
        return self._run(x, input_scale, output_scale)

    def folded(self) -> tuple[Tensor, Tensor | None]:
        """Weight and bias of evaluation, BatchNorm folded, not rounded."""
        if self.bn is None:
            return self.weight, self.bias
        factor = running_factor(self.bn)
        mean = self.bn.running_mean.to(factor.dtype)
        return self._scaled(self.weight, factor), folded_bias(self.bn, self.bias, mean, factor).to(self.weight.dtype)

    def _run(self, x: Tensor, input_scale: Tensor | None, output_scale: Tensor | None, *more: Any) -> Tensor:
        bn, rounding = self.bn, self.quantize_enabled
        input_scale, output_scale = known_scale(input_scale), known_scale(output_scale)
        if self.input_quantizer is not None:
            x = self.input_quantizer(x) if rounding else self.input_quantizer.hold(x)
            input_scale = self._own_scale()
        if bn is None or not bn.training or self.fake_bn == "frozen":
            if self._over_integers(input_scale, output_scale):
                return integer_layer(self, x, input_scale, output_scale, *more)
            w, b = self.folded()
            return self._compute(x, self._rounded(w), self._rounded_bias(b, w, input_scale), *more)
        if not (rounding and self.weight_quantizer is not None and self.weight_quantizer.enabled):
            return bn(self._compute(x, self._rounded(self.weight), self.bias, *more))
        if self.fake_bn == "running":
            return self._running(x, input_scale, *more)
        mean, var = batch_statistics(bn, self._compute(x, self.weight, None, *more), self.bias)
        factor = gamma(bn) * torch.rsqrt(var + bn.eps)
        w, b = self._scaled(self.weight, factor), folded_bias(bn, self.bias, mean, factor).to(self.weight.dtype)
        return self._compute(x, self._rounded(w), self._rounded_bias(b, w, input_scale), *more)

    def _running(self, x: Tensor, input_scale: Tensor | None, *more: Any) -> Tensor:
        factor = never_zero(self.bn, running_factor(self.bn))
        w = self._scaled(self.weight, factor)
        y = self.bn(self._compute(x, self._scaled(self._rounded(w), 1 / factor), self.bias, *more))
        if not self.round_bias or input_scale is None:
            return y
        with torch.no_grad():
            folded, b = self.folded()
            off = self._rounded_bias(b, folded, input_scale) - b
        return y + off.reshape(-1, *[1] * (y.dim() - 2))

    def _over_integers(self, input_scale: Tensor | None, output_scale: Tensor | None) -> bool:
        """Whether to compute as engines do: in evaluation, where all scales are known and one for each output."""
        quantizer = self.weight_quantizer
        if input_scale is None or output_scale is None or quantizer is None or not counts():
            return False
        rounded = self.quantize_enabled and quantizer.enabled and self._winograd == "none"
        return rounded and quantizer.spec.bits <= MOST_BITS and self._output_scales(self.weight) is not None

    def _rounded(self, w: Tensor) -> Tensor:
        quantizer = self.weight_quantizer
        if quantizer is None:
            return w
        if not (self.quantize_enabled and quantizer.enabled):
            return quantizer.hold(w)
        return quantizer(w) if self._winograd == "none" else winograd_quantize(w, quantizer, self._winograd)

    def _own_scale(self) -> Tensor | None:
        """Scale of the own input, None where it is not rounded."""
        needed = self.round_bias and self.quantize_enabled and self.input_quantizer.enabled
        return self.input_quantizer.scale_in_use() if needed else None

    def _rounded_bias(self, b: Any, w: Tensor, input_scale: Tensor | None) -> Any:
        """The bias in multiples of s_x·s_w; its gradient passes."""
        quantizer = self.weight_quantizer
        if b is None or not self.round_bias or input_scale is None or quantizer is None:
            return b
        if not (self.quantize_enabled and quantizer.enabled):
            return b
        with torch.no_grad():
            s = self._output_scales(w)
            if s is None:
                return b
            step = input_scale.abs().clamp_min(TINY) * s
            exact = b.float()
            off = (torch.round(exact / step) * step - exact).to(b.dtype)
        return b + off

    def _output_scales(self, w: Tensor) -> Tensor | None:
        """s_w of each output; `()` where one is for all, None where an output has several."""
        spec = self.weight_quantizer.spec
        if self._winograd != "none" or spec.granularity == "group":
            return None
        s = self.weight_quantizer.scale_of(w)
        return s if spec.granularity == "tensor" else self._to_outputs(s, spec.axis % w.dim())

    def _to_outputs(self, s: Tensor, axis: int) -> Tensor | None:
        return s if axis == 0 else None

    def _scaled(self, w: Tensor, factor: Tensor) -> Tensor:
        """w·f, one f for each output, computed as wide as f."""
        return (w * factor.reshape(-1, *[1] * (w.dim() - 1))).to(w.dtype)

    def _compute(self, x: Tensor, w: Tensor, b: Tensor | None, *more: Any) -> Tensor:
        return self._conv_forward(x, w, b)


class _QuantTranspose(_QuantLayer):
    """Weights are (in, out / groups, …), so outputs lie on axis 1, in each group anew."""

    def forward(  # type: ignore[override]
        self,
        x: Tensor,
        output_size: list[int] | None = None,
        input_scale: Tensor | None = None,
        output_scale: Tensor | None = None,
    ) -> Tensor:
        """The layer.

        Args:
            x: as the float layer takes it. output_size: which of the sizes with the same input is meant.
            input_scale, output_scale: see `QuantConv2d`.
        """
        return self._run(x, input_scale, output_scale, output_size)

    def _compute(self, x: Tensor, w: Tensor, b: Tensor | None, *more: Any) -> Tensor:
        rank = len(self.kernel_size)
        size = more[0] if more else None
        out = self._output_padding(x, size, self.stride, self.padding, self.kernel_size, rank, self.dilation)
        run = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[rank - 1]
        return run(x, w, b, self.stride, self.padding, out, self.groups, self.dilation)

    def _scaled(self, w: Tensor, factor: Tensor) -> Tensor:
        cells = w.reshape(self.groups, w.shape[0] // self.groups, *w.shape[1:])
        return (cells * factor.reshape(self.groups, 1, -1, *[1] * (w.dim() - 2))).reshape(w.shape).to(w.dtype)

    def _to_outputs(self, s: Tensor, axis: int) -> Tensor | None:
        if axis == 1:
            return s.repeat(self.groups)
        if axis == 0 and self.weight_quantizer.conv_groups == self.groups:
            return s[:: self.in_channels // self.groups].repeat_interleave(self.out_channels // self.groups)
        return None


class QuantConv1d(_QuantLayer, nn.Conv1d):
    """nn.Conv1d with rounded weights."""

    FLOAT = nn.Conv1d


class QuantConv2d(_QuantLayer, nn.Conv2d):
    """nn.Conv2d with rounded weights; `winograd` rounds 3x3 ones in Winograd's domain."""

    FLOAT = nn.Conv2d


class QuantConv3d(_QuantLayer, nn.Conv3d):
    """nn.Conv3d with rounded weights."""

    FLOAT = nn.Conv3d


class QuantConvTranspose1d(_QuantTranspose, nn.ConvTranspose1d):
    """nn.ConvTranspose1d with rounded weights."""

    FLOAT = nn.ConvTranspose1d


class QuantConvTranspose2d(_QuantTranspose, nn.ConvTranspose2d):
    """nn.ConvTranspose2d with rounded weights."""

    FLOAT = nn.ConvTranspose2d


class QuantConvTranspose3d(_QuantTranspose, nn.ConvTranspose3d):
    """nn.ConvTranspose3d with rounded weights."""

    FLOAT = nn.ConvTranspose3d


class QuantLinear(_QuantLayer, nn.Linear):
    """nn.Linear with rounded weights."""

    FLOAT = nn.Linear

    def _compute(self, x: Tensor, w: Tensor, b: Tensor | None, *more: Any) -> Tensor:
        if self.bn is not None and x.dim() != 2:
            raise UsageError(
                f"the input has shape {tuple(x.shape)}; a BatchNorm that was taken into a Linear needs (N, features), "
                "since behind others it normalizes another axis. Leave it out of the layer"
            )
        return F.linear(x, w, b)


QUANT_LAYERS: dict[type[nn.Module], Any] = {
    kind.FLOAT: kind
    for kind in (
        QuantConv1d, QuantConv2d, QuantConv3d, QuantConvTranspose1d, QuantConvTranspose2d, QuantConvTranspose3d,
        QuantLinear,
    )
}  # fmt: skip
"""Float layer → its form with rounded weights."""


def _outputs(layer: Any) -> int:
    return int(layer.out_features if isinstance(layer, nn.Linear) else layer.out_channels)


def _check(cls: Any, layer: Any, weight: WeightQuantizer | None) -> None:
    """Refuse a layer that would compute something else as `cls`."""
    plain, name = cls.FLOAT, type(layer).__name__
    if not isinstance(layer, plain) or isinstance(layer, _QuantLayer):
        raise ConfigError(f"{cls.__name__} is made from {plain.__name__}, not from {name}")
    if "weight" not in layer._parameters:
        raise UnsupportedModel(
            f"the weight of this {name} is computed (weight_norm, pruning or another parametrization); make it a plain "
            "Parameter first, for example by torch.nn.utils.parametrize.remove_parametrizations"
        )
    if nn.parameter.is_lazy(layer.weight):
        raise UnsupportedModel(f"this {name} has no weight yet; run a batch through the network first")
    for method in ("forward", "_conv_forward"):
        if method in layer.__dict__ or getattr(type(layer), method, None) is not getattr(plain, method, None):
            raise UnsupportedModel(f"{name} computes in its own way ({method} of {plain.__name__} is replaced)")
    if weight is not None and tuple(weight.shape) != tuple(layer.weight.shape):
        raise ConfigError(
            f"the weight quantizer is for the shape {tuple(weight.shape)}, the layer has {tuple(layer.weight.shape)}"
        )
