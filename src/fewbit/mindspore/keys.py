"""Every section and key of a MindSpore Lite converter config: type, what is allowed, default, and its meaning here.

A key either has a meaning (`SETTINGS`, read by settings.py) or none (`IDLE`): then it is checked as far as its type
goes, and ignored with a warning that says why.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fewbit.errors import ConfigError, UnknownName, unknown

COMMON, WEIGHT, MIXED = "common_quant_param", "weight_quant_param", "mixed_bit_weight_quant_param"
FULL, DYNAMIC, DATA = "full_quant_param", "dynamic_quant_param", "data_preprocess_param"
IMAGES = "IMAGE"

TYPES = {"FULL_QUANT": "full", "WEIGHT_QUANT": "weight", "DYNAMIC_QUANT": "dynamic"}
METHODS = {"MAX_MIN": "naive", "KL": "kl", "REMOVAL_OUTLIER": "quantile"}
DEVICES = {"CPU": "onnxruntime", "NVGPU": "tensorrt", "KIRIN": "", "DSP": "", "ASCEND": ""}
"""target_device → the target; "": none."""


@dataclass(frozen=True)
class Key:
    """One key.

    Args:
        section, name: where it stands.
        kind: "word", "flag" (true, false), "switch" (on, off), "whole", "number", "numbers", "names", "text".
        default: as the converter has it. choices: of a word. least, most: of numbers; "number" excludes both ends.
        means: what it becomes here, for the documentation. because: why it is ignored.
        same: values of an ignored key that ask for what is done here anyway, and so need no warning.
    """

    section: str
    name: str
    kind: str
    default: Any = None
    choices: tuple[str, ...] = ()
    least: float = -math.inf
    most: float = math.inf
    means: str = ""
    because: str = ""
    same: tuple[str, ...] = ()

    def check_type(self, value: Any, where: str) -> None:
        """Refuse a value of a TOML file that is of another type than the key: "4" is no number there.

        Raises:
            ConfigError: it is.
        """
        types, allowed = TOML_TYPES[self.kind]
        parts = value if isinstance(value, list) and self.kind in ("numbers", "names") else [value]
        if not all(isinstance(part, types) and (bool in types or not isinstance(part, bool)) for part in parts):
            shown = json.dumps(value) if isinstance(value, (str, bool)) else repr(value)
            raise ConfigError(f"{where}: {self.name} is {shown}; it must be {allowed}")

    def check_quotes(self, text: str, where: str) -> None:
        """Refuse words in quotes, which are TOML.

        Raises:
            ConfigError: they are in quotes.
        """
        if text.removeprefix("[").startswith('"') and text.removesuffix("]").endswith('"'):
            raise ConfigError(
                f"{where}: {self.name} is {text}, in quotes, as TOML has words; leave the quotes out, or name the file "
                ".toml"
            )

    def read(self, text: str, where: str) -> Any:
        """The value of a text.

        Raises:
            ConfigError, UnknownName: it is none that is allowed.
        """
        what = f"{where}: {self.name}"
        if self.kind == "word" and text not in self.choices:
            raise unknown(f"word for {self.name} in {where}:", text, self.choices)
        if self.kind in ("flag", "switch"):
            return _one_of_two(text, ("false", "true") if self.kind == "flag" else ("off", "on"), what)
        if self.kind == "names":
            return tuple(part for part in _parts(text) if part)
        if self.kind == "numbers":
            return tuple(
                _number(part, what, "numbers with commas between them, such as [0.5, 0.5]") for part in _parts(text)
            )
        return self._bounded(text, what) if self.kind in ("whole", "number") else text

    def _bounded(self, text: str, what: str) -> int | float:
        bounds = f"from {self.least:g} to {self.most:g}" if self.most < math.inf else f"of {self.least:g} or more"
        if self.kind == "number":
            allowed = f"a number over {self.least:g} and below {self.most:g}"
            value = _number(text, what, allowed)
            if not self.least < value < self.most:
                raise ConfigError(f"{what} is {text!r}; it must be {allowed}")
            return value
        allowed = f"a whole number {bounds}" if self.least > -math.inf else "a whole number"
        digits = text.removeprefix("-")
        if not (digits.isascii() and digits.isdecimal() and len(digits) < 19 and self.least <= int(text) <= self.most):
            raise ConfigError(f"{what} is {text!r}; it must be {allowed}")
        return int(text)


TOML_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "word": ((str,), "a word in quotes"),
    "flag": ((bool,), "true or false, without quotes"),
    "switch": ((str,), 'a word in quotes, "on" or "off"'),
    "whole": ((int,), "a whole number, without quotes"),
    "number": ((int, float), "a number, without quotes"),
    "numbers": ((int, float), "a list of numbers, without quotes"),
    "names": ((str,), "words in quotes, in a list if there are several"),
    "text": ((str, int, float, bool), "text"),
}
"""Kind of key → what TOML may give for it, and how that is said."""


def _parts(text: str) -> list[str]:
    """`[a, b]` and `a,b`."""
    inner = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    return [part.strip() for part in inner.split(",")]


def _one_of_two(text: str, words: tuple[str, str], what: str) -> bool:
    if text.lower() not in words:
        raise ConfigError(f"{what} is {text!r}; it must be {words[1]} or {words[0]}")
    return text.lower() == words[1]


def _number(text: str, what: str, allowed: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ConfigError(f"{what} is {text!r}; it must be {allowed}")
    return value


SETTINGS = (
    Key(COMMON, "quant_type", "word", None, tuple(TYPES), 
        means="`quant_type` full, weight, dynamic; without one: only convert"),
    Key(COMMON, "bit_num", "whole", 8, least=0, most=16, means="`bit_num`; full and dynamic: 8; weight: 0 = mixed bit"),
    Key(COMMON, "min_quant_weight_size", "whole", 0, least=0, most=65535, means="`min_quant_weight_size`, one more"),
    Key(COMMON, "min_quant_weight_channel", "whole", 16, least=0, most=65535,
        means="`min_quant_weight_channel`, one more, for WEIGHT_QUANT"),
    Key(COMMON, "skip_quant_node", "names", (), means="`exclude_layers`"),
    Key(COMMON, "debug_info_save_path", "text", None, means="`debug_info_save_path`"),
    Key(COMMON, "enable_encode", "flag", True,
        means="with bit_num 0 also a `.fewbit` file, entropy-coded; must be true for 0 to 7 and 9 to 15"),
    Key(WEIGHT, "quant_strategy", "word", "MAX_MIN", ("MAX_MIN", "GPTQ"), means="`quant_strategy`"),
    Key(WEIGHT, "per_channel", "flag", True, means="`quantize_granularity` channel-wise, tensor-wise"),
    Key(WEIGHT, "bias_correction", "flag", True, means="`bias_correction`"),
    Key(MIXED, "init_scale", "number", 0.02, least=0, most=1, means="`init_scale`"),
    Key(MIXED, "auto_tune", "flag", False, means="`auto_tune`"),
    Key(MIXED, "max_iterations", "whole", 40, least=40, most=65535, means="`max_iterations`"),
    Key(MIXED, "use_cv_data", "flag", False, means="true needs calibrate_path: no pictures come with fewbit"),
    Key(FULL, "activation_quant_method", "word", "MAX_MIN", tuple(METHODS), means="`calib_mode` naive, kl, quantile"),
    Key(FULL, "bias_correction", "flag", True, means="`bias_correction`"),
    Key(FULL, "target_device", "word", "CPU", tuple(DEVICES), means="`target` onnxruntime, tensorrt; or refused"),
    Key(FULL, "enable_all_ops", "flag", False, means="`quantize_mode` full; false: smart"),
    Key(FULL, "per_channel", "flag", True, means="`quantize_granularity` channel-wise, tensor-wise"),
    Key(DYNAMIC, "quant_strategy", "word", "ALWC", ("ALWC", "ACWL"), means="`quant_strategy`"),
    Key(DATA, "calibrate_path", "text", None, means="the data; paths are relative to the working folder"),
    Key(DATA, "calibrate_size", "whole", None, least=1, most=65535, means="`num_calib_batches`, with `batch_size` 1"),
    Key(DATA, "input_type", "word", None, (IMAGES, "BIN"), means="checked against the files of the folders"),
    Key(DATA, "image_to_format", "word", "BGR", ("RGB", "GRAY", "BGR"), means="`image_to_format`; BGR if left out"),
    Key(DATA, "normalize_mean", "numbers", (), means="`normalize_mean`"),
    Key(DATA, "normalize_std", "numbers", (), means="`normalize_std`"),
    Key(DATA, "resize_width", "whole", None, least=1, most=65535, means="`resize_width`"),
    Key(DATA, "resize_height", "whole", None, least=1, most=65535, means="`resize_height`"),
    Key(DATA, "resize_method", "word", "LINEAR", ("LINEAR", "NEAREST", "CUBIC"), means="`resize_method`"),
    Key(DATA, "center_crop_width", "whole", None, least=1, most=65535, means="`center_crop_width`"),
    Key(DATA, "center_crop_height", "whole", None, least=1, most=65535, means="`center_crop_height`"),
)  # fmt: skip

QAT = "networks that MindSpore trained quantized cannot be read; there is nothing to export"
PLUGIN = "plug-ins and fusions of the converter are its own; here every fusion is exact"
ASCEND = "it is for Ascend chips, for which nothing is made here"
MICRO = "it is for the converter's C code, which is not written here; ONNX is"
CPU = "the engine finds out by itself what the processor can do"

IDLE = (
    Key(COMMON, "workspace", "text", because="weights over 2 GB need no folder in between: they go into OUTPUT.data"),
    Key(WEIGHT, "dequant_strategy", "word", None, ("ON_THE_FLY",),
        because="weights are unpacked once, when the engine loads the file"),
    Key(WEIGHT, "update_mindir", "flag", True, because="no MindIR is written; the output is ONNX"),
    Key(WEIGHT, "max_segments", "whole", 1, least=1, because="it cuts codes for threads of MindSpore's decoder"),
    Key(FULL, "smooth_alpha", "number", 0.5, least=-math.inf, most=math.inf,
        because="smooth_quant tries α for each layer instead of taking one"),
    Key(FULL, "enable_smooth_shift", "flag", False, same=("false",),
        because="smooth_quant scales channels and does not shift them"),
    Key("transform_quant_param", "export_precision_mode", "word", None, ("QUANT", "FLOAT32"), because=QAT),
    Key("registry", "plugin_path", "text", because=PLUGIN),
    Key("registry", "disable_fusion", "switch", False, same=("off",), because=PLUGIN),
    Key("registry", "fusion_blacklists", "names", because=PLUGIN),
    *(
        Key(section, name, "text", because=ASCEND)
        for section in ("ascend_context", "acl_option_cfg_param")
        for name in (
            "device_id", "input_format", "input_shape", "input_shape_vector", "output_type", "precision_mode",
            "op_select_impl_mode", "fusion_switch_config_file_path", "dynamic_batch_size", "buffer_optimize",
            "insert_op_config_file_path", "dynamic_image_size", "dynamic_dims", "aoe_mode", "custom_opp_path",
            "provider", "om_file_path", "dump_model_name", "enable_tiling_generation", "enable_custom_op",
            "plugin_custom_ops", "custom_fusion_pattern", "op_attrs", "inputs_to_variable", "outputs_to_variable",
        )
    ),
    *(
        Key("micro_param", name, "text", same=("false",) if name == "enable_micro" else (), because=MICRO)
        for name in (
            "target", "codegen_mode", "debug_mode", "support_parallel", "enable_micro", "save_path", "project_name",
            "keep_original_weight", "changeable_weights_name", "inputs_shape", "dynamic_dim_params",
        )
    ),
    Key("cpu_option_cfg_param", "architecture", "text", because=CPU),
    Key("cpu_option_cfg_param", "instruction", "text", because=CPU),
)  # fmt: skip

OPEN = {
    "graph_kernel_param": "graph kernels are MindSpore's own; here the engine fuses what it computes together",
    "custom_opp_path": "it names operators for Ascend chips, for which nothing is made here",
}
"""Sections whose keys the converter hands on, whatever they are → why they are ignored."""

TABLE = {(k.section, k.name): k for k in (*SETTINGS, *IDLE)}
SECTIONS = (*dict.fromkeys(k.section for k in TABLE.values()), *OPEN)
HINTS = {
    "encode": f"encoding is switched by enable_encode in [{COMMON}]",
    "ascend_quant": f"Ascend is target_device=ASCEND in [{FULL}]",
    "quantize": "fewbit's own [quantize] and [data], and the sections of MindSpore Lite, do not go together in a file",
    "data": "fewbit's own [quantize] and [data], and the sections of MindSpore Lite, do not go together in a file",
}


def check_section(section: str, where: str) -> None:
    """Refuse a section that there is none of, with the nearest one."""
    if section not in SECTIONS:
        raise unknown(f"section in {where}:", section, SECTIONS, hint=HINTS.get(section, ""))


def key_named(section: str, name: str, where: str) -> Key:
    """The key of that name; in an open section any.

    Raises:
        UnknownName: there is none; the nearest one is offered, and the section where it stands if that is another.
    """
    if section in OPEN:
        return Key(section, name, "text", because=OPEN[section])
    key = TABLE.get((section, name))
    if key is None:
        raise _unknown_key(section, name, where)
    return key


def _unknown_key(section: str, name: str, where: str) -> UnknownName:
    own = [k.name for k in keys_of(section)]
    others = [k.section for k in TABLE.values() if k.name == name]
    hint = f"It belongs into {' or '.join(f'[{s}]' for s in others)}" if others else ""
    return unknown(f"key in {where}, [{section}]:", name, own, hint=hint)


def keys_of(section: str) -> Iterator[Key]:
    """The keys of a section."""
    return (k for k in TABLE.values() if k.section == section)
