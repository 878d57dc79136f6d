"""A converter config of MindSpore Lite, as settings of fewbit.

    [common_quant_param] quant_type=FULL_QUANT          quant: QuantConfig(quant_type="full", calib_mode="kl", …)
    [full_quant_param] activation_quant_method=KL   →   data: DataConfig(batch_size=1, resize_width=256, …)
    [data_preprocess_param] calibrate_path=x:/dir …     calibrate_path: "x:/dir"

Defaults are the converter's. What a file says and cannot have an effect is told, one sentence for each key.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from fewbit.config import DataConfig, QuantConfig, read_config
from fewbit.errors import ConfigError, FewbitWarning
from fewbit.mindspore.data import read_data
from fewbit.mindspore.file import File
from fewbit.mindspore.ini import Sections, read_file
from fewbit.mindspore.keys import COMMON, DATA, DEVICES, DYNAMIC, FULL, METHODS, MIXED, SECTIONS, TYPES, WEIGHT

ENDINGS = (".cfg", ".ini", ".config", ".conf")
OUTLIERS = 99.99  # percent: the quantiles 0.0001 and 0.9999
AS_THEY_ARE = "no quant_type is given, so nothing is quantized"
WAYS_OUT = {
    "KIRIN": "nothing is made for the NPU of Kirin chips",
    "DSP": "nothing is made for DSPs",
    "ASCEND": "nothing is made for Ascend chips",
}
"""target_device → why it is refused."""


@dataclass(frozen=True)
class MindSporeSettings:
    """What a config file asks for.

    Args:
        quant: how to quantize; None: only convert.
        data: how data is read.
        calibrate_path: the data, as `fewbit.data.open_data` takes it, `in1:dir1,in2:dir2`; relative paths start at the
            working folder. None: the file names none.
        encode: whether weights may be entropy-coded; with bit_num 0 a `.fewbit` file is written beside the network.
        warnings: what has no effect, and why. missing: what of the data is not there; empty if all is.
    """

    quant: QuantConfig | None
    data: DataConfig
    calibrate_path: str | None = None
    encode: bool = True
    warnings: tuple[str, ...] = ()
    missing: str = field(default="", compare=False)

    def tables(self) -> dict[str, dict[str, Any]]:
        """The tables [quantize] and [data] of a TOML file that says the same: what differs from fewbit's defaults."""
        quant = self.quant if self.quant is not None else QuantConfig()
        return {"quantize": _said(quant, QuantConfig()), "data": _said(self.data, DataConfig())}

    def data_at_hand(self) -> str | None:
        """The data, to be read.

        Raises:
            ConfigError: a folder that the file names is not there.
        """
        if self.missing:
            raise ConfigError(self.missing)
        return self.calibrate_path

    def warn(self, stacklevel: int = 2) -> None:
        """Give the warnings."""
        for text in self.warnings:
            warnings.warn(text, FewbitWarning, stacklevel=stacklevel + 1)


def _said(config: QuantConfig | DataConfig, plain: QuantConfig | DataConfig) -> dict[str, Any]:
    derived = {"calib_mode"} if getattr(config, "quant_type", "") == "dynamic" else set()
    pairs = ((f.name, getattr(config, f.name)) for f in fields(config) if f.name not in derived)
    return {name: value for name, value in pairs if value != getattr(plain, name)}


def is_mindspore(path: str | Path) -> bool:
    """Whether a file is a converter config: by its ending, or by a section that only these have."""
    path = Path(path)
    if path.suffix.lower() in ENDINGS:
        return True
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
        return False  # whoever reads it says what is wrong
    heads = {line.strip()[1:-1].strip() for line in lines if line.strip().startswith("[")}
    return not heads.isdisjoint(SECTIONS)


def read_settings(path: str | Path) -> MindSporeSettings:
    """Read a converter config: an INI file, or TOML with the same sections and keys.

    Raises:
        UnknownName: a section, a key or a word that there is none of; the nearest one is offered.
        ConfigError: a value that is not allowed, or values that exclude each other; a device that nothing is made for.
    """
    return to_settings(read_file(path), str(path))


def asked(path: str | Path) -> MindSporeSettings:
    """The settings of a config that is to quantize; its warnings are given.

    Raises:
        ConfigError: as `read_settings`; or it has no quant_type.
    """
    found = read_settings(path)
    if found.quant is None:
        raise ConfigError(
            f"{path} has no quant_type, so there is nothing to quantize; say quant_type=FULL_QUANT, WEIGHT_QUANT or "
            f"DYNAMIC_QUANT in [{COMMON}]"
        )
    found.warn(stacklevel=3)
    return found


def read_tables(path: str | Path) -> dict[str, dict[str, Any]]:
    """The tables [quantize] and [data] of a config file, be it fewbit's own TOML or a converter config.

    Raises:
        ConfigError, UnknownName: as `fewbit.config.read_config` and `asked`.
    """
    return asked(path).tables() if is_mindspore(path) else read_config(path)


def data_named(config: object) -> str | None:
    """The data that a converter config names, if `config` is the path of one and it names any.

    Raises:
        ConfigError: as `read_settings`; or a folder that it names is not there.
    """
    if not isinstance(config, (str, Path)) or not is_mindspore(config):
        return None
    return read_settings(config).data_at_hand()


def to_settings(sections: Sections, name: str) -> MindSporeSettings:
    """Settings out of what a file gives; see `read_settings`."""
    file = File(sections, name)
    quant = _quant(file)
    path, data, missing = read_data(file)
    encode = bool(file(COMMON, "enable_encode"))
    return MindSporeSettings(quant, data, path, encode, tuple(file.told), missing)


def _quant(file: File) -> QuantConfig | None:
    kind = file(COMMON, "quant_type")
    if kind is None:
        for section in (COMMON, WEIGHT, MIXED, FULL, DYNAMIC, DATA):
            file.unused(section, AS_THEY_ARE)
        return None
    bits = file(COMMON, "bit_num")
    if kind != "WEIGHT_QUANT" and bits != 8:
        raise ConfigError(f"{file.name}: bit_num is {bits}; with quant_type {kind} it must be 8")
    if kind == "WEIGHT_QUANT" and bits not in (8, 16) and not file(COMMON, "enable_encode"):
        raise ConfigError(
            f"{file.name}: enable_encode is false, and bit_num {bits} is packed or coded; it must be true for 0 to 7 "
            "and 9 to 15, or bit_num 8 or 16"
        )
    own = {"FULL_QUANT": FULL, "WEIGHT_QUANT": WEIGHT, "DYNAMIC_QUANT": DYNAMIC}[kind]
    for section in (FULL, WEIGHT, DYNAMIC):
        if section != own:
            file.unused(section, f"quant_type is {kind}")
    if own != WEIGHT:
        file.unused(MIXED, f"quant_type is {kind}")
    words = {"quant_type": TYPES[kind], "bit_num": bits, **_common(file, kind)}
    words |= {FULL: _full, WEIGHT: _weight, DYNAMIC: _dynamic}[own](file)
    return QuantConfig(**words)


def _common(file: File, kind: str) -> dict[str, Any]:
    """Thresholds there are the largest size that stays float, here the smallest that does not."""
    size, channels = file(COMMON, "min_quant_weight_size"), file(COMMON, "min_quant_weight_channel")
    if kind == "DYNAMIC_QUANT":
        file.unused(COMMON, "it is about convolutions, which stay float", only=("min_quant_weight_channel",))
    if kind == "FULL_QUANT":
        file.unused(COMMON, "it is about weights that are stored in few bits", only=("min_quant_weight_channel",))
    return {
        "min_quant_weight_size": size + 1 if size else 0,
        "min_quant_weight_channel": channels + 1 if channels and kind == "WEIGHT_QUANT" else 0,
        "exclude_layers": file(COMMON, "skip_quant_node"),
        "debug_info_save_path": file(COMMON, "debug_info_save_path"),
        "num_calib_batches": file(DATA, "calibrate_size"),
    }


def _full(file: File) -> dict[str, Any]:
    device = file(FULL, "target_device")
    target = DEVICES[device]
    if not target:
        raise ConfigError(
            f"{file.name}: target_device is {device}: {WAYS_OUT[device]}; for integers that a CPU runs say CPU, or "
            "leave it out; for NVIDIA GPUs say NVGPU"
        )
    mode = METHODS[file(FULL, "activation_quant_method")]
    return {
        "calib_mode": mode,
        **({"percentile": OUTLIERS} if mode == "quantile" else {}),
        "bias_correction": file(FULL, "bias_correction"),
        "target": target,
        "quantize_mode": "full" if file(FULL, "enable_all_ops") else "smart",
        "quantize_granularity": "channel-wise" if file(FULL, "per_channel") else "tensor-wise",
    }


def _weight(file: File) -> dict[str, Any]:
    words: dict[str, Any] = {
        "quant_strategy": file(WEIGHT, "quant_strategy"),
        "bias_correction": file(WEIGHT, "bias_correction"),
    }
    bits = file(COMMON, "bit_num")
    if bits != 0:
        file.unused(MIXED, f"bit_num is {bits}, and mixed bit is 0")
        return words | {"quantize_granularity": "channel-wise" if file(WEIGHT, "per_channel") else "tensor-wise"}
    file.unused(WEIGHT, "mixed bit has one step for each weight", only=("per_channel",))
    words |= {name: file(MIXED, name) for name in ("init_scale", "auto_tune", "max_iterations")}
    if file(MIXED, "use_cv_data"):
        _without_pictures(file)
    return words | {"mixed_bit_search": "step"}


def _without_pictures(file: File) -> None:
    """use_cv_data asks for pictures that come with the converter."""
    if not file(MIXED, "auto_tune"):
        file.unused(MIXED, "auto_tune is false", only=("use_cv_data",))
    elif file(DATA, "calibrate_path") is None:
        raise ConfigError(
            f"{file.name}: use_cv_data is true, and no pictures come with fewbit; name a folder of your own: "
            f"calibrate_path in [{DATA}]"
        )
    else:
        file.unused(MIXED, "calibrate_path names data", only=("use_cv_data",))


def _dynamic(file: File) -> dict[str, Any]:
    return {"quant_strategy": file(DYNAMIC, "quant_strategy")}
