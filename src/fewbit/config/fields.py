"""What all settings have in common: a field is a word with its help, checked when it is said.

A field of a settings class is the flag (`--calib-mode`), the TOML and INI key (`calib_mode`) and the Python keyword at
once. The help text of a flag is the `help` of the field's metadata; the allowed words are its `choices`.
"""

from __future__ import annotations

import math
from dataclasses import MISSING, Field, field, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

from fewbit.errors import ConfigError, one_of, unknown

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

C = TypeVar("C", bound="DataclassInstance")


def word(default: str, choices: tuple[str, ...], text: str) -> Any:
    """A field that takes one of some words."""
    return field(default=default, metadata={"help": text, "choices": choices})


def say(default: Any, text: str) -> Any:
    """A field with its help text."""
    if isinstance(default, (dict, list)):
        return field(default_factory=type(default), metadata={"help": text})
    return field(default=default, metadata={"help": text})


def settle(config: DataclassInstance) -> None:
    """Lists become tuples, a lone string a one-element tuple; words are checked against their choices."""
    for f in fields(config):
        value = getattr(config, f.name)
        if isinstance(f.default, tuple):
            value = value.tolist() if hasattr(value, "tolist") else value  # an array
            value = (value,) if isinstance(value, (str, int, float)) else tuple(value or ())
            object.__setattr__(config, f.name, value)
        elif "choices" in f.metadata:
            one_of(f.name, value, f.metadata["choices"])
        elif isinstance(f.default, bool) and not isinstance(value, bool):
            raise ConfigError(f"{f.name} is {value!r}; it must be true or false")
        elif isinstance(f.default, str) and not isinstance(value, str):
            raise ConfigError(f"{f.name} is {value!r}; it must be a word")
    for name in ("exclude_layers", "exclude_layers_match", "exclude_operators"):
        if not all(isinstance(x, str) for x in getattr(config, name, ())):
            raise ConfigError(f"{name} is {getattr(config, name)!r}; it must be names")


def is_number(value: object) -> bool:
    """Whether this is a finite number; true and false are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def whole(config: object, name: str, least: int, most: int | None = None, *, optional: bool = False) -> None:
    """Raise ConfigError unless a field holds a whole number in a span."""
    value = getattr(config, name)
    if value is not None or not optional:
        check_whole(name, value, least, most)


def check_whole(what: str, value: object, least: int, most: int | None = None) -> None:
    """As `whole`, for a value that is no field."""
    bad = not isinstance(value, int) or isinstance(value, bool) or value < least
    if bad or (most is not None and isinstance(value, int) and value > most):
        span = f"from {least} to {most}" if most is not None else f"of {least} or more"
        raise ConfigError(f"{what} is {value!r}; it must be a whole number {span}")


def configure(kind: type[C], base: C | None = None, /, **words: Any) -> C:
    """Build a config from keywords, on top of `base`; an unknown keyword offers the nearest one."""
    names = [f.name for f in fields(kind)]
    for name in words:
        if name not in names:
            raise unknown("setting", name, names)
    return replace(base, **words) if base is not None else kind(**words)


def default_of(f: Field[Any]) -> Any:
    """The default of a config field, whether it is a value or made anew each time."""
    factory: Any = f.default_factory
    return factory() if f.default is MISSING else f.default


def plain(value: Any) -> Any:
    """As JSON has it: a tuple is a list."""
    return list(value) if isinstance(value, tuple) else value
