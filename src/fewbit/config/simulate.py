"""SimulateConfig: every word about simulating a bit width; SweepConfig: the axes of a grid of simulations.

Words and defaults are those of the simulator that users bring their scripts from; `input_bits_width=4,
weight_bits_width=4` is what papers call u4/w4.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from itertools import product
from typing import Any

from fewbit.config.fields import configure, default_of, say, settle, whole, word
from fewbit.errors import ConfigError

QUANT_TYPES = ("layer", "group", "channel")
CALIB_MODES = ("naive", "kl")
WINOGRAD = ("none", "F23", "F43", "F63")
OFFLINE = ("calib_mode", "calib_epoch", "num_sample", "eval_per_calib")
"""Words about ranges that are measured beforehand."""
EPOCHS = ("calib_epoch", "eval_per_calib")
"""Words about going over the data again and again, which only naive does."""


@dataclass(frozen=True)
class SimulateConfig:
    """What is simulated, and how ranges are found.

    Raises:
        UnknownName: a word that is not among the choices; the nearest one is offered.
        ConfigError: a value out of range, or words that say nothing beside others.
    """

    quant_type: str = word(
        "layer", QUANT_TYPES, "what shares one weight scale: a layer, a group of a grouped convolution, or a channel"
    )
    input_bits_width: int = say(8, "bits of what layers read, 1 to 16")
    weight_bits_width: int = say(8, "bits of weights, 1 to 16")
    input_signed: bool = say(False, "signed integers for what layers read; unsigned ones cut off what is negative")
    quantize_input_offline: bool = say(
        False, "measure ranges of inputs beforehand, on training data; else each batch has its own"
    )
    calib_mode: str = word(
        "naive", CALIB_MODES, "offline: naive = moving average of the largest magnitude; kl = least divergence"
    )
    calib_epoch: int = say(3, "offline, naive: times to go over the calibration data")
    num_sample: int = say(5, "offline: calibration samples of each class")
    eval_per_calib: bool = say(False, "offline, naive: evaluate after each calibration epoch")
    exclude_first_conv: bool = say(True, "keep the first convolution in float")
    exclude_layers: tuple[str, ...] = say((), "layers to keep in float: names or globs such as 'layer4/*'")
    merge_bn: bool = say(False, "merge BatchNorm into weights before these are quantized")
    wino_quantize: str = field(
        default="none",
        metadata={
            "help": "quantize 3x3 weights in the Winograd domain; quant_type channel only",
            "choices": WINOGRAD,
            "also": ("--wino_quantize",),
        },
    )
    fixed_random_seed: int = say(7, "seed of everything that is drawn")
    batch_size: int = say(128, "samples in a batch; ranges are means over batches")

    def __post_init__(self) -> None:
        settle(self)
        whole(self, "input_bits_width", 1, 16)
        whole(self, "weight_bits_width", 1, 16)
        whole(self, "calib_epoch", 1)
        whole(self, "num_sample", 1)
        whole(self, "fixed_random_seed", 0, 2**32 - 1)
        whole(self, "batch_size", 1)
        if self.wino_quantize != "none" and self.quant_type != "channel":
            raise ConfigError(
                f"wino_quantize {self.wino_quantize!r} quantizes channel by channel; quant_type is "
                f"{self.quant_type!r}: say quant_type 'channel', or leave wino_quantize out"
            )
        if not self.quantize_input_offline:
            for name in self._said(OFFLINE):
                raise ConfigError(
                    f"{name} is about ranges of inputs that are measured beforehand, and here each batch has its own; "
                    f"add quantize_input_offline, or leave {name} out"
                )
        elif self.calib_mode == "kl":
            for name in self._said(EPOCHS):
                raise ConfigError(
                    f"{name} is for calib_mode 'naive', which goes over the data again and again; 'kl' counts once: "
                    f"leave {name} out"
                )

    def _said(self, names: tuple[str, ...]) -> list[str]:
        defaults = {f.name: default_of(f) for f in fields(self)}
        return [n for n in names if getattr(self, n) != defaults[n]]

    @property
    def form(self) -> str:
        """What is simulated, in a word: `u4/w4 channel`."""
        sign = "s" if self.input_signed else "u"
        return f"{sign}{self.input_bits_width}/w{self.weight_bits_width} {self.quant_type}"


AXES = {
    "bits": ("input_bits_width", "weight_bits_width"),
    "quant_type": ("quant_type",),
    "calib_mode": ("calib_mode",),
    "merge_bn": ("merge_bn",),
}
"""Axis of a sweep -> the words that it sets."""


@dataclass(frozen=True)
class SweepConfig:
    """The axes of a grid: each combination is simulated once.

    Raises:
        ConfigError, UnknownName: an axis is empty, or a value is not one of its word.
    """

    bits: tuple[int, ...] = (8, 6, 5, 4, 3)
    quant_type: tuple[str, ...] = ("layer", "channel")
    calib_mode: tuple[str, ...] = ("naive", "kl")
    merge_bn: tuple[bool, ...] = (False, True)

    def __post_init__(self) -> None:
        for f in fields(self):
            values = getattr(self, f.name)
            values = tuple(values) if isinstance(values, (tuple, list)) else (values,)
            if not values:
                raise ConfigError(f"the axis {f.name} of the sweep is empty; give it a value or more")
            if len(set(values)) < len(values):
                raise ConfigError(f"the axis {f.name} of the sweep holds a value twice: {values}; leave one out")
            object.__setattr__(self, f.name, values)

    def cells(self, words: Mapping[str, Any]) -> list[SimulateConfig]:
        """The settings of each simulation, in the order of the axes, the last one running fastest.

        Args:
            words: settings that all of them share.
        """
        found = []
        order = product(self.merge_bn, self.quant_type, self.calib_mode, self.bits)
        for merge, kind, mode, bits in order:
            own = {"merge_bn": merge, "quant_type": kind, "calib_mode": mode}
            shared = {k: v for k, v in words.items() if not (mode == "kl" and k in EPOCHS)}
            both = {"input_bits_width": bits, "weight_bits_width": bits}
            found.append(configure(SimulateConfig, None, **{**shared, **both, **own}))
        return found


def swept(words: Mapping[str, Any], axes: Mapping[str, Any]) -> list[SimulateConfig]:
    """The settings of each simulation of a sweep: a word that is said makes its axis one value long.

    Ranges are measured beforehand, unless the words say otherwise; there is no axis of calib_mode then.

    Args:
        words: fields of SimulateConfig. axes: fields of SweepConfig; None = nothing was said.

    Raises:
        ConfigError: a word and its axis are both said, or something else is wrong with one of them.
    """
    shared, grid = dict(words), {k: v for k, v in axes.items() if v is not None}
    if shared.get("eval_per_calib"):
        raise ConfigError("eval_per_calib shows how one simulation settles; leave it out of a sweep")
    for axis, names in AXES.items():
        said = [n for n in names if n in shared]
        if said and axis in grid:
            raise ConfigError(f"{said[0]} and the axis {axis} of the sweep say the same; leave one of them out")
        if not said:
            continue
        values = {n: shared.pop(n) for n in said}
        if axis == "bits" and (len(values) < 2 or len(set(values.values())) > 1):
            raise ConfigError(
                f"a sweep gives inputs and weights the same width; leave {said[0]} out, or give the axis bits"
            )
        grid[axis] = (next(iter(values.values())),)
    shared.setdefault("quantize_input_offline", True)
    if shared["quantize_input_offline"] is False:
        grid.setdefault("calib_mode", ("naive",))
    return configure(SweepConfig, None, **grid).cells(shared)
