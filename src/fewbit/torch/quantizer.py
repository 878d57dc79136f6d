"""Quantizers of activations and of weights: they hold the ranges, and round with them.

activation   v ← (1 - m)·cur + m·old        the range of a batch goes into the stored one; the first is taken whole
             fewbit.core.params_from_range  turns it into scale and zero point
weight       the scale comes from the weights on every forward, is learned (LSQ), or is frozen
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from fewbit.core.params import QuantParams, params_from_range
from fewbit.core.spec import QuantSpec
from fewbit.errors import ConfigError, NotCalibrated, one_of
from fewbit.torch.rounding import always_zero, fake_quantize
from fewbit.torch.scales import Scales, as_params
from fewbit.torch.spread import first_step, from_range, mean_magnitude, range_of, scale_shape, spread

AVERAGES: tuple[str, ...] = ("sample", "batch")


class ActQuantizer(Scales):
    """Rounds activations, one scale for the whole tensor.

    Flags, kept in the state_dict:
        enabled: round at all. online: with the range of this very batch, not with the stored one.
        observing: note the range of each batch, for `update_ema`. tracking: in training mode, let each batch go into
        the stored range before rounding.

    Args:
        spec: the format, its sign settled.
        ste: gradient, see `fewbit.torch.rounding`.
        learned: the scale is a Parameter (LSQ) that starts at `set_range`, or else at the first training batch. The
            zero point is not learned. `tracking` is off then; switched on, it sets the scale, as `update_ema` does.
        momentum: the share of the old range; 0.9 keeps most of it.
        average: the range of a batch is the mean of its samples' ranges ("sample"; of max|x| for symmetric formats)
            or that of all its values ("batch").

    Attributes:
        scale, zero_point: float32, in use when offline; once `initialized`.
        lo, hi: the stored range. batch_lo, batch_hi: the last batch's; inf and -inf before the first.

    Raises:
        ConfigError: the sign of the format is open, or it is not per tensor; momentum is not within [0, 1].
    """

    FLAGS = ("enabled", "online", "observing", "tracking")

    def __init__(
        self,
        spec: QuantSpec,
        *,
        ste: str = "clipped",
        learned: bool = False,
        momentum: float = 0.9,
        average: str = "sample",
    ) -> None:
        if spec.granularity != "tensor":
            raise ConfigError(f"granularity is {spec.granularity!r}; activations take 'tensor'")
        super().__init__(spec, (), ste, learned)
        self.momentum = _share(momentum)
        self.average = one_of("average", average, AVERAGES)
        self.online = self.observing = False
        self.tracking = not learned
        for name, value in (("lo", 0.0), ("hi", 0.0), ("batch_lo", torch.inf), ("batch_hi", -torch.inf)):
            self.register_buffer(name, torch.tensor(value, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        """Observe and round, as the flags say.

        Raises:
            NotCalibrated: no range was set and none was observed (not found in a compiled graph).
        """
        if not x.numel():
            return x
        tracking = self.tracking and self.training
        if self.observing or self.online or tracking:
            self._observe(x.detach())
        if tracking:
            self.update_ema()
        if self.learned and self.training and self.enabled and not (self.online or self._ready):
            self._start(x.detach())
        return self.fake(x)

    def fake(self, x: Tensor) -> Tensor:
        """Round as `forward` does, with the range that is there: nothing is observed.

        Raises:
            NotCalibrated: there is none.
        """
        if not self.enabled:
            return self.hold(x)
        if self.online:
            scale, zero = from_range(self.spec, self.batch_lo, self.batch_hi)
            return self.hold(fake_quantize(x, scale, zero, self.spec, "clipped" if self.learned else self.ste))
        if not self._has_numbers():
            raise _not_calibrated()
        zero = self.zero_point if always_zero(self.spec) else self.zero_point.clone()
        return fake_quantize(x, self._used(), zero, self.spec, self.ste)

    def scale_in_use(self) -> Tensor:
        """The scale of the last forward: that of its own batch when online, else the stored one; without gradient."""
        if self.online:
            return from_range(self.spec, self.batch_lo, self.batch_hi)[0]
        return self._used().detach()

    @torch.no_grad()
    def _observe(self, x: Tensor) -> None:
        if self.average == "batch" or x.dim() < 2:
            lo, hi = range_of(self.spec, x)
        else:
            others = list(range(1, x.dim()))
            lo, hi = x.amin(others).float(), x.amax(others).float()
            if always_zero(self.spec):
                hi = torch.maximum(-lo, hi).mean()
                lo = -hi if self.spec.signed else torch.zeros_like(hi)
            else:
                lo, hi = lo.mean(), hi.mean()
        self.batch_lo.copy_(lo)
        self.batch_hi.copy_(hi)

    @torch.no_grad()
    def update_ema(self, momentum: float | None = None) -> None:
        """Let the range of the last batch go into the stored one: v ← (1 - m)·cur + m·old, at first v ← cur.

        A batch with infinite or NaN values leaves the stored range as it is, and so does no batch at all.
        """
        m = self.momentum if momentum is None else _share(momentum)
        seen = torch.isfinite(self.batch_hi - self.batch_lo)
        share = 1 - m if self._ready else torch.where(self.initialized, 1 - m, 1.0).float()
        for stored, cur in ((self.lo, self.batch_lo), (self.hi, self.batch_hi)):
            stored.lerp_(torch.where(seen, cur, stored), share)
        scale, zero = from_range(self.spec, self.lo, self.hi)
        self.scale.copy_(torch.where(seen, scale, self.scale))
        if not always_zero(self.spec):
            self.zero_point.copy_(torch.where(seen, zero, self.zero_point))
        if not self._ready:
            self.initialized.logical_or_(seen)

    @torch.no_grad()
    def set_range(self, lo: float, hi: float) -> None:
        """Take this range; scale and zero point are those of `fewbit.core.params.params_from_range`."""
        params = params_from_range(self.spec, float(lo), float(hi))
        self.lo.fill_(float(lo))
        self.hi.fill_(float(hi))
        self.scale.fill_(float(params.scale))
        self.zero_point.fill_(float(params.zero_point))
        self.initialized.fill_(True)
        self._ready = True

    def params(self) -> QuantParams:
        """Scale and zero point in use when offline.

        Raises:
            NotCalibrated: there are none.
        """
        if not self._has_numbers():
            raise _not_calibrated()
        return as_params(self.spec, self._used(), self.zero_point)

    @torch.no_grad()
    def _start(self, x: Tensor) -> None:
        """A learned scale without a range: from the first batch."""
        lo, hi = range_of(self.spec, x)
        scale, zero = from_range(self.spec, lo, hi)
        if always_zero(self.spec):
            scale = first_step(self.spec, mean_magnitude(self.spec, x))
        scale = torch.where(self.initialized, self.scale, scale)
        zero = torch.where(self.initialized, self.zero_point, zero)
        self._store(scale, zero)
        self.lo.copy_((self.spec.qmin - zero) * scale)
        self.hi.copy_((self.spec.qmax - zero) * scale)


class WeightQuantizer(Scales):
    """Rounds the weights of one layer.

    Flags, kept in the state_dict:
        enabled: round at all. frozen: keep the scale that `freeze` took.

    Args:
        spec: the format, its sign settled; per tensor, channel or group, counted in the weight's own axes.
        shape: of the weight.
        ste: gradient, see `fewbit.torch.rounding`. Where the scale of ±1 weights is their own mean magnitude, the range
            is no bound for them, and "clipped" cuts nothing off.
        learned: the scale is a Parameter (LSQ) that starts at the first weights it meets.
        conv_groups: over 1: the rows (axis 0) of one convolution group share a scale; `spec` is per channel.

    Attributes:
        scale, zero_point: float32, as last used; their shape is that of `scale_of`, or `(conv_groups,)`.

    Raises:
        ConfigError: the sign is open, or conv_groups does not fit the format or the shape.
    """

    FLAGS = ("enabled", "frozen")

    def __init__(
        self,
        spec: QuantSpec,
        shape: tuple[int, ...],
        *,
        ste: str = "clipped",
        learned: bool = False,
        conv_groups: int = 1,
    ) -> None:
        shape = tuple(shape)
        if conv_groups > 1:
            spec = _by_rows(spec, shape, conv_groups)
        super().__init__(spec, (conv_groups,) if conv_groups > 1 else scale_shape(spec, shape), ste, learned)
        self.shape = shape
        self.conv_groups = conv_groups
        self.frozen = False

    def forward(self, w: Tensor) -> Tensor:
        """Round, with the type and shape of `w`."""
        if not self.enabled:
            return self.hold(w)
        scale, zero = self._current(w)
        if not (self.learned or self.frozen):
            self._store(scale.detach(), zero)
        ste = "plain" if self.ste == "clipped" and self._by_mean else self.ste
        shared = w.numel() // self.scale.numel() if self.conv_groups > 1 else None
        return fake_quantize(w, self._wide(scale, w.shape), self._wide(zero, w.shape), self.spec, ste, shared)

    def scale_of(self, w: Tensor) -> Tensor:
        """The scale that these weights would be rounded with; shape `()`, `(C,)` or that of the groups."""
        scale, _ = self._current(w)
        return self._rows(scale, w.shape[0])

    def wide_scale(self, w: Tensor) -> Tensor:
        """As `scale_of`, shaped to meet `w`."""
        return self._wide(self._current(w)[0], w.shape)

    def params(self, w: Tensor) -> QuantParams:
        """Scale and zero point that these weights would be rounded with."""
        scale, zero = self._current(w)
        return as_params(self.spec, self._rows(scale, w.shape[0]), self._rows(zero, w.shape[0]))

    def freeze(self, w: Tensor | None = None) -> None:
        """Keep the present scale, or that of `w`, from now on; `frozen = False` ends it.

        Raises:
            NotCalibrated: there was no forward yet, and `w` is not given.
        """
        if w is not None:
            scale, zero = self._current(w)
            self._store(scale.detach(), zero)
        elif not self._has_numbers():
            raise NotCalibrated("a weight quantizer has no scale before its first forward; give freeze() the weights")
        self.frozen = True

    @property
    def _by_mean(self) -> bool:
        return self.spec.bits == 1 and bool(self.spec.signed) and not self.frozen

    def _current(self, w: Tensor) -> tuple[Tensor, Tensor]:
        """Scale and zero point in their stored shape."""
        if self.learned and not self._ready:
            self.start(w)
        if self.frozen:
            return self._used().detach(), self.zero_point
        if self.learned:
            return self._used(), self.zero_point
        with torch.no_grad():
            return self._measured(w)

    def _measured(self, w: Tensor) -> tuple[Tensor, Tensor]:
        w = self._cells(w.detach().float())
        if self._by_mean:
            mean = mean_magnitude(self.spec, w)
            return from_range(self.spec, -mean, mean)
        return from_range(self.spec, *range_of(self.spec, w))

    @torch.no_grad()
    def start(self, w: Tensor) -> None:
        """Set a learned scale from weights, if it was not set before: 2·mean|w| / √qmax, or what the range gives."""
        scale, zero = self._measured(w)
        if always_zero(self.spec):
            scale = first_step(self.spec, mean_magnitude(self.spec, self._cells(w)))
        zero = torch.where(self.initialized, self.zero_point, zero)
        self._store(torch.where(self.initialized, self.scale, scale), zero)

    def _cells(self, w: Tensor) -> Tensor:
        """The weight, each convolution group as one row."""
        return w if self.conv_groups == 1 else w.reshape(self.conv_groups, -1)

    def _rows(self, numbers: Tensor, rows: int) -> Tensor:
        """One number for each row."""
        return numbers if self.conv_groups == 1 else numbers.repeat_interleave(rows // self.conv_groups)

    def _wide(self, numbers: Tensor, shape: torch.Size) -> Tensor:
        return spread(self.spec, self._rows(numbers, shape[0]), shape)


def _share(momentum: float) -> float:
    if not 0 <= momentum <= 1:
        raise ConfigError(f"momentum is {momentum!r}; it must be a number from 0 to 1: the share of the old range")
    return float(momentum)


def _by_rows(spec: QuantSpec, shape: tuple[int, ...], conv_groups: int) -> QuantSpec:
    if spec.granularity != "channel":
        raise ConfigError(f"conv_groups is {conv_groups}; it goes with granularity 'channel', not {spec.granularity!r}")
    if shape[0] % conv_groups:
        raise ConfigError(f"conv_groups is {conv_groups}; it must divide the {shape[0]} rows of the weight")
    return replace(spec, axis=0)


def _not_calibrated() -> NotCalibrated:
    return NotCalibrated(
        "an activation quantizer has no range yet; call set_range(lo, hi), or run batches with observing = True and "
        "then update_ema(), or train with tracking = True, or set online = True"
    )
