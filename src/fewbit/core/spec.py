"""QuantSpec: the wish for one value – how many bits, signed or not, and what shares a scale.

real = (q - z) * s        q in [qmin, qmax]

bits=8 signed             -128 … 127      narrow: -127 … 127
bits=8 unsigned              0 … 255
bits=1 signed               -1 … 1        two levels, ±s; 0 is not one of them
bits=1 unsigned              0 … 1        two levels, 0 and s
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, cast

from fewbit.errors import ConfigError, one_of

Granularity = Literal["tensor", "channel", "group"]
GRANULARITIES: tuple[str, ...] = ("tensor", "channel", "group")


@dataclass(frozen=True)
class QuantSpec:
    """The number format wished for one value.

    Args:
        bits: width, 1 to 16.
        signed: signed or unsigned integers; None leaves it to the data (unsigned if no value is negative).
        symmetric: zero point fixed: 0 when signed; when unsigned, the range starts at 0.
        granularity: what shares one scale: the whole tensor, a channel along `axis`, or `group_size`
            consecutive elements along `axis`.
        axis: the axis of channels or groups; None for `tensor`.
        group_size: elements in a group; for `group` only.
        narrow: leave out the lowest signed value, so that the range is the same on both sides.
        dynamic: the range is measured at run time, not by calibration.

    Raises:
        ConfigError: a field is out of range, or fields contradict each other.
    """

    bits: int = 8
    signed: bool | None = None
    symmetric: bool = False
    granularity: Granularity = "tensor"
    axis: int | None = None
    group_size: int | None = None
    narrow: bool = False
    dynamic: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.bits, int) or isinstance(self.bits, bool) or not 1 <= self.bits <= 16:
            raise ConfigError(f"bits is {self.bits!r}; it must be a whole number from 1 to 16")
        one_of("granularity", self.granularity, GRANULARITIES)
        if self.granularity == "tensor" and (self.axis is not None or self.group_size is not None):
            raise ConfigError("granularity 'tensor' takes neither axis nor group_size")
        if self.granularity != "tensor" and self.axis is None:
            raise ConfigError(f"granularity {self.granularity!r} needs an axis")
        if (self.granularity == "group") != (self.group_size is not None):
            raise ConfigError("group_size goes with granularity 'group', and only with it")
        if self.group_size is not None and self.group_size < 1:
            raise ConfigError(f"group_size is {self.group_size}; it must be 1 or more")
        if self.narrow and self.signed is False:
            raise ConfigError("narrow is for signed formats; unsigned ones have no lowest value to leave out")
        if self.dynamic and self.granularity == "group":
            raise ConfigError("a dynamic range is per tensor or per channel, not per group")

    @property
    def qmin(self) -> int:
        """Smallest integer. For `signed=None` the unsigned one: resolve first."""
        if not self.signed:
            return 0
        if self.bits == 1:
            return -1
        return -(1 << (self.bits - 1)) + int(self.narrow)

    @property
    def qmax(self) -> int:
        """Largest integer."""
        if not self.signed:
            return (1 << self.bits) - 1
        return 1 if self.bits == 1 else (1 << (self.bits - 1)) - 1

    @property
    def storage(self) -> str:
        """Smallest numpy integer type that holds the format: int8, uint8, int16 or uint16."""
        return ("int" if self.signed else "uint") + ("8" if self.bits <= 8 else "16")

    @property
    def fills_storage(self) -> bool:
        """Whether saturation of the storage type is the saturation of the format."""
        return self.bits in (8, 16) and not self.narrow

    def resolve(self, lo: float) -> QuantSpec:
        """Decide `signed=None` from the smallest value: unsigned if nothing is negative."""
        return self if self.signed is not None else replace(self, signed=lo < 0, narrow=False)

    def to_json(self) -> dict[str, Any]:
        """Fields that differ from the defaults, for the plan file."""
        default = QuantSpec()
        return {k: v for k, v in self.__dict__.items() if v != getattr(default, k)} | {"bits": self.bits}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> QuantSpec:
        """Inverse of `to_json`; unknown keys are an error."""
        for key in fields:
            one_of("format field", key, cls.__dataclass_fields__)
        return cls(**cast(Any, fields))
