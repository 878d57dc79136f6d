"""QuantConfig and DataConfig: every word a user can say, checked once, when it is said.

A field here is the flag (`--calib-mode`), the TOML and INI key (`calib_mode`) and the Python keyword at once.
The help text of a flag is the `help` of the field's metadata; the allowed words are its `choices`.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from fewbit.core.spec import GRANULARITIES
from fewbit.errors import ConfigError, one_of, unknown

OBSERVED = ("naive", "entropy", "kl", "percentile", "quantile", "mse", "ema")
CALIB_MODES = ("none", *OBSERVED, "custom")
RESIZES = ("LINEAR", "NEAREST", "CUBIC")
COLOURS = ("RGB", "BGR", "GRAY")
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

C = TypeVar("C", "QuantConfig", "DataConfig")


def _word(default: str, choices: tuple[str, ...], text: str) -> Any:
    return field(default=default, metadata={"help": text, "choices": choices})


def _say(default: Any, text: str) -> Any:
    if isinstance(default, (dict, list)):
        return field(default_factory=type(default), metadata={"help": text})
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class QuantConfig:
    """How to quantize.

    Raises:
        UnknownName: a word that is not among the choices; the nearest one is offered.
        ConfigError: a value out of range, or settings that exclude each other.
    """

    quant_type: str = _word(
        "full", QUANT_TYPES,
        "what becomes integer: full = weights and activations; dynamic = activations at run time; "
        "weight = weights, stored small and computed in float",
    )  # fmt: skip
    calib_mode: str = _word("naive", CALIB_MODES, "how a range follows from the data")
    num_calib_batches: int | None = _say(None, "stop calibrating after this many batches (default: all data)")
    quantized_dtype: str = _word("auto", ("auto", "int8", "uint8"), "activation type; auto = the target's fastest")
    quantize_mode: str = _word("smart", ("smart", "full"), "smart = only where it pays; full = wherever legal")
    quantize_granularity: str = _word(
        "channel-wise", ("tensor-wise", "channel-wise", "group-wise"), "what shares one weight scale"
    )
    bit_num: int = _say(8, "bits of weights and activations, 1 to 16; 0 = mixed bit, for quant_type weight")
    weight_bit_num: int | None = _say(None, "bits of weights alone, 1 to 16 (default: bit_num)")
    group_size: int | None = _say(None, "weights that share a scale; makes weights group-wise (there 32 by default)")
    quant_strategy: str = _word(
        "auto", tuple(STRATEGIES),
        "weight: MAX_MIN = nearest integers, GPTQ = fitted to data; dynamic: ALWC = one activation range, weights per "
        "channel, ACWL = one range a row, weights per tensor",
    )  # fmt: skip
    init_scale: float = _say(0.02, "mixed bit: relative error of each weight, over 0 and below 1")
    auto_tune: bool = _say(
        False, "mixed bit: search init_scale for the smallest network with an output cosine of 0.995"
    )
    mixed_bit_search: str = _word(
        "auto", ("auto", "step", "output"),
        "mixed bit: step = one step a layer by the weight's error; output = one a channel by the network's, needs data",
    )  # fmt: skip
    max_iterations: int = _say(40, "mixed bit: networks that auto_tune may try, 40 to 65535")
    min_quant_weight_size: int = _say(0, "keep layers with fewer weights than this in float")
    min_quant_weight_channel: int = _say(0, "keep layers with fewer output channels than this in float")
    exclude_layers: tuple[str, ...] = _say((), "layers to keep in float: names or globs such as 'layer4/*'")
    exclude_layers_match: tuple[str, ...] = _say((), "keep layers in float whose name contains one of these")
    exclude_operators: tuple[str, ...] = _say((), "operator types to keep in float")
    overrides: Mapping[str, Mapping[str, Any]] = _say({}, "settings for some layers: glob -> key -> value")
    target: str = _say("onnxruntime", "the engine to quantize for (see: fewbit targets)")
    effort: str = _word("default", EFFORTS, "how much to do for accuracy: fast = ranges only; best = takes minutes")
    smooth_quant: bool | None = _say(None, "move outlier channels into weights, SmoothQuant (default: effort decides)")
    equalization: bool | None = _say(None, "equalize weights across layers (default: effort decides)")
    range_search: bool | None = _say(None, "search ranges of activations by the error behind (default: effort decides)")
    weight_range: bool | None = _say(None, "search ranges of weights by the layer's error (default: effort decides)")
    adaptive_rounding: bool | None = _say(None, "round weights by the layer's error (default: effort decides)")
    bias_correction: bool | None = _say(None, "correct biases for what rounding shifts (default: effort decides)")
    measure: bool = _say(False, "smart mode by timing this network on this machine, instead of by the table")
    min_sqnr: float | None = _say(None, "budget: least SQNR of the worst output against float, in dB")
    min_cosine: float | None = _say(None, "budget: least cosine of the worst output against float")
    min_agreement: float | None = _say(None, "budget: least share of samples with the class of float, 0 to 1")
    max_drop: float | None = _say(None, "budget: largest loss of top-1 against float; 0.01 = one point (needs labels)")
    max_latency: float | None = _say(None, "budget: largest latency as a share of float, such as 0.6")
    time_limit: float | None = _say(None, "seconds that corrections and searches may take; the best so far counts")
    percentile: float = _say(99.99, "share of values kept by calib_mode percentile and quantile, in percent")
    ema_momentum: float = _say(0.9, "weight of the old range in calib_mode ema")
    memory_limit: int | None = _say(None, "MiB that calibration may use for values in flight; smaller micro-batches")
    debug_info_save_path: str | None = _say(None, "folder for the debug tables, as MindSpore Lite writes them")

    def __post_init__(self) -> None:
        _settle(self)
        _whole(self, "bit_num", 0 if self.quant_type == "weight" else 1, 16)
        _whole(self, "weight_bit_num", 1, 16, optional=True)
        _whole(self, "group_size", 1, optional=True)
        _whole(self, "max_iterations", 40, 65535)
        _whole(self, "min_quant_weight_size", 0)
        _whole(self, "min_quant_weight_channel", 0)
        _whole(self, "num_calib_batches", 1, optional=True)
        _whole(self, "memory_limit", 1, optional=True)
        if not (_is_number(self.percentile) and 50 < self.percentile <= 100):
            raise ConfigError(f"percentile is {self.percentile!r}; it must be a number over 50 and at most 100")
        if not (_is_number(self.ema_momentum) and 0 <= self.ema_momentum < 1):
            raise ConfigError(f"ema_momentum is {self.ema_momentum!r}; it must be a number from 0 to less than 1")
        for name in CORRECTIONS:
            if getattr(self, name) not in (None, True, False):
                raise ConfigError(f"{name} is {getattr(self, name)!r}; it must be true or false")
        for name, (least, most) in BUDGETS.items():
            value = getattr(self, name)
            if value is not None and not (_is_number(value) and least <= value <= most):
                raise ConfigError(f"{name} is {value!r}; it must be a number from {least:g} to {most:g}")
        if not (_is_number(self.init_scale) and 0 < self.init_scale < 1):
            raise ConfigError(f"init_scale is {self.init_scale!r}; it must be a number over 0 and below 1")
        if self.time_limit is not None and not (_is_number(self.time_limit) and self.time_limit > 0):
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
                raise ConfigError(f"{name} is for mixed bit, which is quant_type='weight' with bit_num=0")
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
    for word in ("effort 'best'" if c.effort == "best" else "", *(n for n in CORRECTIONS if getattr(c, n))):
        if word:
            raise ConfigError(f"{word} needs ranges measured on data; calib_mode 'none' has none")
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
            _check_whole(f"override {glob!r}: {key}", settings[key], 1, most)
    if "granularity" in settings:
        one_of("granularity", settings["granularity"], GRANULARITIES)


@dataclass(frozen=True)
class DataConfig:
    """How files on disk become model inputs. Sizes left out are taken from the model's input.

    Raises:
        UnknownName, ConfigError: as for `QuantConfig`.
    """

    batch_size: int = _say(1, "samples in one batch")
    image_to_format: str = _word("RGB", COLOURS, "channel order that the model expects")
    normalize_mean: tuple[float, ...] = _say((), "subtracted from every pixel (0…255), one number a channel")
    normalize_std: tuple[float, ...] = _say((), "divides every pixel after that, one number a channel")
    resize_width: int | None = _say(None, "width to resize to before cropping")
    resize_height: int | None = _say(None, "height to resize to before cropping")
    resize_shorter: int | None = _say(None, "shorter edge to resize to, keeping the aspect, before cropping")
    resize_method: str = _word("LINEAR", RESIZES, "interpolation")
    center_crop_width: int | None = _say(None, "width to cut from the centre after resizing")
    center_crop_height: int | None = _say(None, "height to cut from the centre after resizing")
    input_layout: str = _word("auto", ("auto", "NCHW", "NHWC"), "axis order of an image input")
    skip_bad: bool = _say(False, "leave out unreadable samples, with a warning that names them")
    shuffle: bool = _say(False, "visit the samples in a random order")
    seed: int = _say(0, "seed of that order")

    def __post_init__(self) -> None:
        _settle(self)
        _whole(self, "batch_size", 1)
        _whole(self, "seed", 0)
        for pair in ("resize", "center_crop"):
            _whole(self, f"{pair}_width", 1, optional=True)
            _whole(self, f"{pair}_height", 1, optional=True)
            if (getattr(self, f"{pair}_width") is None) != (getattr(self, f"{pair}_height") is None):
                raise ConfigError(f"{pair}_width and {pair}_height go together; one of them is missing")
        for name in ("normalize_mean", "normalize_std"):
            if not all(_is_number(x) for x in getattr(self, name)):
                raise ConfigError(f"{name} is {getattr(self, name)!r}; it must be numbers, one a channel")
        if any(s == 0 for s in self.normalize_std):
            raise ConfigError(f"normalize_std is {self.normalize_std}; it divides, so no number may be 0")
        _whole(self, "resize_shorter", 1, optional=True)
        if self.resize_shorter and self.resize_width:
            raise ConfigError(
                "resize_shorter keeps the aspect, resize_width and resize_height set it; give one of them"
            )
        if self.resize_shorter and self.center_crop_width and self.center_crop_height:
            least = min(self.center_crop_width, self.center_crop_height)
            if least > self.resize_shorter:
                raise ConfigError(
                    f"the centre crop {self.center_crop_width}x{self.center_crop_height} is larger than images "
                    f"whose shorter edge is {self.resize_shorter}; resize_shorter must be {least} or more"
                )
        if self.resize_width and self.center_crop_width:
            assert self.resize_height and self.center_crop_height
            if self.center_crop_width > self.resize_width or self.center_crop_height > self.resize_height:
                raise ConfigError(
                    f"the centre crop {self.center_crop_width}x{self.center_crop_height} is larger than "
                    f"the resized image {self.resize_width}x{self.resize_height}"
                )


def needs_ranges(config: QuantConfig) -> bool:
    """Whether activations become integer by ranges that are known beforehand."""
    return config.quant_type == "full" and config.calib_mode != "none"


def budgets(config: QuantConfig) -> dict[str, float]:
    """The budgets that a search must meet, by field; with quant_type weight the choice of steps meets min_cosine."""
    if config.quant_type == "weight":
        return {}
    return {name: float(getattr(config, name)) for name in BUDGETS if getattr(config, name) is not None}


def _settle(config: QuantConfig | DataConfig) -> None:
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


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _whole(config: object, name: str, least: int, most: int | None = None, *, optional: bool = False) -> None:
    value = getattr(config, name)
    if value is not None or not optional:
        _check_whole(name, value, least, most)


def _check_whole(what: str, value: object, least: int, most: int | None = None) -> None:
    bad = not isinstance(value, int) or isinstance(value, bool) or value < least
    if bad or (most is not None and isinstance(value, int) and value > most):
        span = f"from {least} to {most}" if most is not None else f"of {least} or more"
        raise ConfigError(f"{what} is {value!r}; it must be a whole number {span}")


def configure(kind: type[C], base: C | None = None, /, **words: Any) -> C:
    """Build a config from keywords, on top of `base`; an unknown keyword offers the nearest one."""
    names = [f.name for f in fields(kind)]
    for word in words:
        if word not in names:
            raise unknown("setting", word, names)
    return replace(base, **words) if base is not None else kind(**words)


def default_of(f: Field[Any]) -> Any:
    """The default of a config field, whether it is a value or made anew each time."""
    factory: Any = f.default_factory
    return factory() if f.default is MISSING else f.default


def said(config: QuantConfig) -> dict[str, Any]:
    """The settings that differ from their defaults, as plain JSON data."""
    plain = asdict(config)
    told = [f for f in fields(config) if f.name != "debug_info_save_path"]
    return {f.name: _plain(plain[f.name]) for f in told if plain[f.name] != default_of(f)}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


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
        raise ConfigError(f"cannot read the config file {path}: {e}") from e
    except tomllib.TOMLDecodeError as e:
        raise ConfigError(f"{path} is not valid TOML: {e}") from e
    for table in found:
        one_of(f"table in {path}", table, ("quantize", "data"))
        if not isinstance(found[table], dict):
            raise ConfigError(f"{table} in {path} is {found[table]!r}; it must be a table: [{table}]")
    return {"quantize": found.get("quantize", {}), "data": found.get("data", {})}
