"""QuantConfig: every word a user can say about quantizing, checked once, when it is said."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from fewbit.config.fields import check_whole, default_of, is_number, plain, say, settle, whole, word
from fewbit.core.spec import GRANULARITIES
from fewbit.errors import ConfigError, one_of

OBSERVED = ("naive", "entropy", "kl", "percentile", "quantile", "mse", "ema", "ncnn-kl", "aciq", "eq")
CALIB_MODES = ("none", *OBSERVED, "custom")
CORRECTIONS = (
    "smooth_quant", "equalization", "range_search", "weight_range", "adaptive_rounding", "bias_correction"
)  # fmt: skip
EFFORTS = ("fast", "default", "best")
QUANT_TYPES = ("full", "dynamic", "weight")
STRATEGIES = {
    "auto": QUANT_TYPES, "MAX_MIN": ("weight",), "GPTQ": ("weight",), "ALWC": ("dynamic",), "ACWL": ("dynamic",)
}  # fmt: skip
"""quant_strategy -> the quant_type that it belongs to."""
BUDGETS = {  # field -> least and most that make sense
    "min_sqnr": (-100.0, 200.0),
    "min_cosine": (-1.0, 1.0),
    "min_agreement": (0.0, 1.0),
    "max_drop": (0.0, 1.0),
    "max_latency": (0.0, 100.0),
}
MIXED_BIT = ("init_scale", "auto_tune", "mixed_bit_search", "max_iterations")
"""Words that say something with bit_num 0 only."""
GROUP = 32
"""Weights in a group, if nothing is said."""

OVERRIDE_KEYS = ("bit_num", "weight_bit_num", "signed", "symmetric", "granularity", "group_size", "calib_mode", "float")


@dataclass(frozen=True)
class QuantConfig:
    """How to quantize.

    Raises:
        UnknownName: a word that is not among the choices; the nearest one is offered.
        ConfigError: a value out of range, or settings that exclude each other.
    """

    quant_type: str = word(
        "full", QUANT_TYPES,
        "what becomes integer: full = weights and activations; dynamic = activations at run time; "
        "weight = weights, stored small and computed in float",
    )  # fmt: skip
    calib_mode: str = word("naive", CALIB_MODES, "how a range follows from the data")
    num_calib_batches: int | None = say(None, "stop calibrating after this many batches (default: all data)")
    quantized_dtype: str = word("auto", ("auto", "int8", "uint8"), "activation type; auto = the target's fastest")
    quantize_mode: str = word("smart", ("smart", "full"), "smart = only where it pays; full = wherever legal")
    quantize_granularity: str = word(
        "channel-wise", ("tensor-wise", "channel-wise", "group-wise"), "what shares one weight scale"
    )
    bit_num: int = say(8, "bits of weights and activations, 1 to 16; 0 = mixed bit, for quant_type weight")
    weight_bit_num: int | None = say(None, "bits of weights alone, 1 to 16 (default: bit_num)")
    group_size: int | None = say(None, "weights that share a scale; makes weights group-wise (there 32 by default)")
    quant_strategy: str = word(
        "auto", tuple(STRATEGIES),
        "weight: MAX_MIN = nearest integers, GPTQ = fitted to data; dynamic: ALWC = one activation range, weights per "
        "channel, ACWL = one range a row, weights per tensor",
    )  # fmt: skip
    init_scale: float = say(0.02, "mixed bit: relative error of each weight, over 0 and below 1")
    auto_tune: bool = say(False, "mixed bit: search init_scale for the smallest network with an output cosine of 0.995")
    mixed_bit_search: str = word(
        "auto", ("auto", "step", "output"),
        "mixed bit: step = one step a layer by the weight's error; output = one a channel by the network's, needs data",
    )  # fmt: skip
    max_iterations: int = say(40, "mixed bit: networks that auto_tune may try, 40 to 65535")
    min_quant_weight_size: int = say(0, "keep layers with fewer weights than this in float")
    min_quant_weight_channel: int = say(0, "keep layers with fewer output channels than this in float")
    exclude_layers: tuple[str, ...] = say((), "layers to keep in float: names or globs such as 'layer4/*'")
    exclude_layers_match: tuple[str, ...] = say((), "keep layers in float whose name contains one of these")
    exclude_operators: tuple[str, ...] = say((), "operator types to keep in float")
    overrides: Mapping[str, Mapping[str, Any]] = say({}, "settings for some layers: glob -> key -> value")
    target: str = say("onnxruntime", "the engine to quantize for (see: fewbit targets)")
    effort: str = word("default", EFFORTS, "how much to do for accuracy: fast = ranges only; best = takes minutes")
    smooth_quant: bool | None = say(None, "move outlier channels into weights, SmoothQuant (default: effort decides)")
    equalization: bool | None = say(None, "equalize weights across layers (default: effort decides)")
    range_search: bool | None = say(None, "search ranges of activations by the error behind (default: effort decides)")
    weight_range: bool | None = say(None, "search ranges of weights by the layer's error (default: effort decides)")
    adaptive_rounding: bool | None = say(None, "round weights by the layer's error (default: effort decides)")
    bias_correction: bool | None = say(None, "correct biases for what rounding shifts (default: effort decides)")
    measure: bool = say(False, "smart mode by timing this network on this machine, instead of by the table")
    min_sqnr: float | None = say(None, "budget: least SQNR of the worst output against float, in dB")
    min_cosine: float | None = say(None, "budget: least cosine of the worst output against float")
    min_agreement: float | None = say(None, "budget: least share of samples with the class of float, 0 to 1")
    max_drop: float | None = say(None, "budget: largest loss of top-1 against float; 0.01 = one point (needs labels)")
    max_latency: float | None = say(None, "budget: largest latency as a share of float, such as 0.6")
    time_limit: float | None = say(None, "seconds that corrections and searches may take; the best so far counts")
    percentile: float = say(99.99, "share of values kept by calib_mode percentile and quantile, in percent")
    ema_momentum: float = say(0.9, "weight of the old range in calib_mode ema")
    memory_limit: int | None = say(None, "MiB that calibration may use for values in flight; smaller micro-batches")
    debug_info_save_path: str | None = say(None, "folder for the debug tables, as MindSpore Lite writes them")

    def __post_init__(self) -> None:
        settle(self)
        whole(self, "bit_num", 0 if self.quant_type == "weight" else 1, 16)
        whole(self, "weight_bit_num", 1, 16, optional=True)
        whole(self, "group_size", 1, optional=True)
        whole(self, "max_iterations", 40, 65535)
        whole(self, "min_quant_weight_size", 0)
        whole(self, "min_quant_weight_channel", 0)
        whole(self, "num_calib_batches", 1, optional=True)
        whole(self, "memory_limit", 1, optional=True)
        if not (is_number(self.percentile) and 50 < self.percentile <= 100):
            raise ConfigError(f"percentile is {self.percentile!r}; it must be a number over 50 and at most 100")
        if not (is_number(self.ema_momentum) and 0 <= self.ema_momentum < 1):
            raise ConfigError(f"ema_momentum is {self.ema_momentum!r}; it must be a number from 0 to less than 1")
        for name in CORRECTIONS:
            if getattr(self, name) not in (None, True, False):
                raise ConfigError(f"{name} is {getattr(self, name)!r}; it must be true or false")
        for name, (least, most) in BUDGETS.items():
            value = getattr(self, name)
            if value is not None and not (is_number(value) and least <= value <= most):
                raise ConfigError(f"{name} is {value!r}; it must be a number from {least:g} to {most:g}")
        if not (is_number(self.init_scale) and 0 < self.init_scale < 1):
            raise ConfigError(f"init_scale is {self.init_scale!r}; it must be a number over 0 and below 1")
        if self.time_limit is not None and not (is_number(self.time_limit) and self.time_limit > 0):
            raise ConfigError(f"time_limit is {self.time_limit!r}; it must be a number of seconds over 0")
        if not isinstance(self.overrides, Mapping):
            raise ConfigError(f"overrides is {self.overrides!r}; it must map layers to settings")
        for glob, settings in self.overrides.items():
            _check_override(glob, settings)
        _check_type(self)
        _check_together(self)


def _check_type(c: QuantConfig) -> None:
    """Let what follows from quant_type follow, and refuse what says nothing there."""
    if c.group_size is not None and c.quantize_granularity == "tensor-wise":
        raise ConfigError("group_size makes weights group-wise; leave it out, or say quantize_granularity='group-wise'")
    if c.group_size is not None:
        object.__setattr__(c, "quantize_granularity", "group-wise")
    if c.quant_type not in STRATEGIES[c.quant_strategy]:
        raise ConfigError(
            f"quant_strategy {c.quant_strategy!r} is for quant_type {STRATEGIES[c.quant_strategy][0]!r}; "
            f"with {c.quant_type!r} there is {', '.join(k for k, v in STRATEGIES.items() if c.quant_type in v)}"
        )
    if c.bit_num != 0:
        for name in MIXED_BIT:
            if getattr(c, name) != getattr(QuantConfig, name):
                raise ConfigError(
                    f"{name} is for mixed bit, which is quant_type='weight' with bit_num=0; set these, or leave it out"
                )
    elif c.weight_bit_num is not None:
        raise ConfigError("bit_num 0 lets each weight have a step of its own; leave weight_bit_num out")
    elif c.quantize_granularity == "group-wise":
        raise ConfigError("mixed bit has one step a layer or a channel; leave group_size and 'group-wise' out")
    if c.quant_type == "dynamic":
        if c.calib_mode not in ("naive", "none"):
            raise ConfigError(
                f"quant_type 'dynamic' measures ranges at run time; calib_mode {c.calib_mode!r} is for 'full'"
            )
        object.__setattr__(c, "calib_mode", "none")
    if c.quant_type == "weight":
        _check_weight_only(c)


def _check_weight_only(c: QuantConfig) -> None:
    """Refuse what is said of activations where there are no integer ones."""
    said = {key for settings in c.overrides.values() for key in settings}
    wrong = [n for n in ("calib_mode", "quantized_dtype", "measure") if getattr(c, n) != getattr(QuantConfig, n)]
    wrong += [n for n in ("smooth_quant", "equalization", "range_search") if getattr(c, n)]
    wrong += [f"an override with {key}" for key in ("calib_mode", "signed") if key in said]
    if wrong:
        raise ConfigError(f"{wrong[0]} is about integer activations; quant_type 'weight' keeps them in float")
    asked = [name for name in BUDGETS if getattr(c, name) is not None]
    if asked and (asked != ["min_cosine"] or c.bit_num != 0 or c.mixed_bit_search == "step" or c.auto_tune):
        raise ConfigError(
            f"{asked[0]} cannot be searched for with quant_type 'weight'; what can is min_cosine with bit_num 0 "
            "(mixed_bit_search 'output' and data)"
        )


def _check_together(c: QuantConfig) -> None:
    """Refuse what the calib_mode would ignore."""
    said = {key for settings in c.overrides.values() for key in settings}
    if c.calib_mode in ("none", "custom") and "calib_mode" in said:
        raise ConfigError(f"calib_mode is {c.calib_mode!r} for the whole network; no override can change it")
    if c.measure and c.quantize_mode != "smart":
        raise ConfigError(f"measure is for quantize_mode 'smart'; {c.quantize_mode!r} does not ask what pays")
    if c.calib_mode != "none":
        return
    for asked in ("effort 'best'" if c.effort == "best" else "", *(n for n in CORRECTIONS if getattr(c, n))):
        if asked:
            raise ConfigError(f"{asked} needs ranges measured on data; calib_mode 'none' has none")
    for name in BUDGETS:
        if getattr(c, name) is not None:
            raise ConfigError(f"{name} needs data to measure on; calib_mode 'none' takes none")
    for key in ("bit_num", "weight_bit_num"):
        if (getattr(c, key) or 8) != 8 or any(s.get(key, 8) != 8 for s in c.overrides.values()):
            raise ConfigError(
                f"ranges at run time mean 8 bits; {key} must be 8. For fewer: quant_type 'weight'; for more: calibrate"
            )
    if c.quant_strategy == "ALWC" and c.quantize_granularity == "tensor-wise":
        raise ConfigError("quant_strategy 'ALWC' has weights per channel; leave it out, or leave 'tensor-wise' out")
    if c.quant_strategy == "ACWL" and any("granularity" in s for s in c.overrides.values()):
        raise ConfigError("quant_strategy 'ACWL' has one scale a weight; leave granularity out of overrides")
    if c.quantized_dtype == "int8":
        raise ConfigError("calib_mode 'none' makes uint8 activations; quantized_dtype must be 'auto' or 'uint8'")
    if c.quantize_granularity == "group-wise" or any(s.get("granularity") == "group" for s in c.overrides.values()):
        raise ConfigError("calib_mode 'none' computes in integers, which no engine does group-wise; use 'channel-wise'")
    for key in ("signed", "symmetric"):
        if key in said:
            raise ConfigError(f"calib_mode 'none' settles the format of activations; leave {key!r} out of overrides")


def _check_override(glob: str, settings: Mapping[str, Any]) -> None:
    if not isinstance(settings, Mapping):
        raise ConfigError(f"override for {glob!r} is {settings!r}; it must map keys to values")
    for key, value in settings.items():
        one_of(f"key in the override for {glob!r}", key, OVERRIDE_KEYS)
        if key == "calib_mode":
            one_of("calib_mode", value, OBSERVED)
        if key in ("float", "signed", "symmetric") and not isinstance(value, bool):
            raise ConfigError(f"override {glob!r}: {key} is {value!r}; it must be true or false")
    for key, most in (("bit_num", 16), ("weight_bit_num", 16), ("group_size", None)):
        if key in settings:
            check_whole(f"override {glob!r}: {key}", settings[key], 1, most)
    if "granularity" in settings:
        one_of("granularity", settings["granularity"], GRANULARITIES)


def needs_ranges(config: QuantConfig) -> bool:
    """Whether activations become integer by ranges that are known beforehand."""
    return config.quant_type == "full" and config.calib_mode != "none"


def budgets(config: QuantConfig) -> dict[str, float]:
    """The budgets that a search must meet, by field; with quant_type weight the choice of steps meets min_cosine."""
    if config.quant_type == "weight":
        return {}
    return {name: float(getattr(config, name)) for name in BUDGETS if getattr(config, name) is not None}


def said(config: QuantConfig) -> dict[str, Any]:
    """The settings that differ from their defaults, as plain JSON data."""
    words = asdict(config)
    told = [f for f in fields(config) if f.name != "debug_info_save_path"]
    return {f.name: plain(words[f.name]) for f in told if words[f.name] != default_of(f)}


def read_config(path: str | Path) -> dict[str, dict[str, Any]]:
    """Read a TOML file with the tables `[quantize]` and `[data]`.

    Returns:
        `{"quantize": {...}, "data": {...}}`, the keys not yet checked.

    Raises:
        ConfigError: the file is missing, is not TOML, or has another table.
    """
    try:
        found = tomllib.loads(Path(path).read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as e:
        raise ConfigError(f"cannot read the config file {path}: {e}; check its name and rights") from e
    except tomllib.TOMLDecodeError as e:
        raise ConfigError(f"{path} is not valid TOML: {e}; mend that line") from e
    for table in found:
        one_of(f"table in {path}", table, ("quantize", "data"))
        if not isinstance(found[table], dict):
            raise ConfigError(f"{table} in {path} is {found[table]!r}; it must be a table: [{table}]")
    return {"quantize": found.get("quantize", {}), "data": found.get("data", {})}
