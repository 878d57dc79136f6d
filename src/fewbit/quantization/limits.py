"""Settings that a target cannot take at all: refused when the plan is made, not when somebody's engine breaks on them.

Target.refuses = {"uint8 activations": "it has int8 only; leave quantized_dtype out"}
QuantConfig(target=…, quantized_dtype="uint8")  →  ConfigError: target '…' does not take quantized_dtype 'uint8': …
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from fewbit.config import QuantConfig
from fewbit.core.target import Target
from fewbit.errors import ConfigError

Words = Mapping[str, Any]


def _is(key: str, *values: Any) -> Callable[[Words], str]:
    """The word, if it is one of these."""
    return lambda words: f"{key} {words[key]!r}" if key in words and words[key] in values else ""


def _beyond(key: str, least: int, most: int) -> Callable[[Words], str]:
    return lambda words: f"{key} {words[key]}" if words.get(key) and not least <= words[key] <= most else ""


def _either(*tests: Callable[[Words], str]) -> Callable[[Words], str]:
    return lambda words: next((said for t in tests if (said := t(words))), "")


LIMITS: dict[str, Callable[[Words], str]] = {
    "run-time ranges": _is("calib_mode", "none"),
    "weights alone": _is("quant_type", "weight"),
    "uint8 activations": _either(_is("quantized_dtype", "uint8"), _is("signed", False)),
    "zero points": _is("symmetric", False),
    "activations of other widths": _beyond("bit_num", 8, 8),
    "weights over 8 bits": _beyond("weight_bit_num", 1, 8),
    "groups": _either(_is("granularity", "group"), _is("quantize_granularity", "group-wise")),
    "timing": _either(
        _is("measure", True), lambda w: f"max_latency {w['max_latency']}" if w.get("max_latency") else ""
    ),
}
"""What a target may refuse → finds what the user said that asks for it, in the settings or in an override."""


def check_limits(config: QuantConfig, target: Target) -> None:
    """Refuse what the target cannot take.

    Raises:
        ConfigError: a setting or an override asks for it; says what to do.
    """
    for key, why in target.refuses.items():
        for where, words in _all_words(config):
            said = LIMITS[key](words)
            if said:
                raise ConfigError(f"{where}target {target.name!r} does not take {said}: {why}")


def _all_words(config: QuantConfig) -> Iterator[tuple[str, Words]]:
    yield "", vars(config)
    for glob, settings in config.overrides.items():
        yield f"override for {glob!r}: ", settings
