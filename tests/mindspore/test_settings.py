"""Every key of a converter config: what it becomes, or what is said of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fewbit.config import DataConfig, QuantConfig, configure
from fewbit.errors import ConfigError, FewbitWarning, UnknownName
from fewbit.mindspore import (
    MindSporeSettings,
    asked,
    data_named,
    is_mindspore,
    read_settings,
    read_tables,
    to_settings,
)
from fewbit.mindspore.flags import NAMES
from fewbit.mindspore.ini import read_text, read_toml
from fewbit.mindspore.keys import IDLE, OPEN, SECTIONS, SETTINGS, TABLE

GOLDEN = Path(__file__).parents[1] / "golden" / "mindspore"

ASCEND = (
    "device_id input_format input_shape input_shape_vector output_type precision_mode op_select_impl_mode "
    "fusion_switch_config_file_path dynamic_batch_size buffer_optimize insert_op_config_file_path dynamic_image_size "
    "dynamic_dims aoe_mode custom_opp_path provider"
)
FACTS = {
    "common_quant_param": "quant_type bit_num min_quant_weight_size min_quant_weight_channel skip_quant_node "
    "debug_info_save_path enable_encode workspace",
    "weight_quant_param": "dequant_strategy quant_strategy update_mindir max_segments per_channel bias_correction",
    "mixed_bit_weight_quant_param": "init_scale auto_tune use_cv_data max_iterations",
    "full_quant_param": "activation_quant_method bias_correction target_device per_channel smooth_alpha "
    "enable_smooth_shift",
    "data_preprocess_param": "calibrate_path calibrate_size input_type image_to_format normalize_mean normalize_std "
    "resize_width resize_height resize_method center_crop_width center_crop_height",
    "transform_quant_param": "export_precision_mode",
    "dynamic_quant_param": "quant_strategy",
    "registry": "plugin_path disable_fusion fusion_blacklists",
    "ascend_context": ASCEND,
    "acl_option_cfg_param": ASCEND,
    "micro_param": "target codegen_mode debug_mode support_parallel enable_micro save_path project_name "
    "keep_original_weight changeable_weights_name inputs_shape dynamic_dim_params",
    "cpu_option_cfg_param": "architecture instruction",
}
"""All that the converter knows, transcribed; graph_kernel_param and custom_opp_path take any key."""
KNOWN = {(section, key) for section, keys in FACTS.items() for key in keys.split()}

COMMON, WEIGHT, MIXED = "common_quant_param", "weight_quant_param", "mixed_bit_weight_quant_param"
FULL, DYNAMIC, DATA = "full_quant_param", "dynamic_quant_param", "data_preprocess_param"
IS = {"full": "quant_type=FULL_QUANT", "weight": "quant_type=WEIGHT_QUANT", "dynamic": "quant_type=DYNAMIC_QUANT"}
TYPE_OF = {FULL: IS["full"], WEIGHT: IS["weight"], MIXED: f"{IS['weight']}\nbit_num=0", DYNAMIC: IS["dynamic"]}
CALIBRATED = "calibrate_path=x:nowhere\ncalibrate_size=5\ninput_type=IMAGE"


def read(text: str) -> MindSporeSettings:
    return to_settings(read_text(text, "x.cfg"), "x.cfg")


def with_key(section: str, key: str, value: str, common: str | None = None) -> MindSporeSettings:
    """A file that gives a key, in the place where it counts."""
    lines = {COMMON: common if common is not None else TYPE_OF.get(section, IS["full"])}
    lines[DATA] = CALIBRATED if section == DATA else ""
    kept = [line for line in lines.get(section, "").split("\n") if not line.startswith(f"{key}=")]
    lines[section] = "\n".join([*kept, f"{key}={value}"])
    return read("\n".join(f"[{s}]\n{t}" for s, t in lines.items()))


def quant(field: str) -> Callable[[MindSporeSettings], object]:
    def get(found: MindSporeSettings) -> object:
        assert found.quant is not None
        return getattr(found.quant, field)

    return get


def data(field: str) -> Callable[[MindSporeSettings], object]:
    return lambda found: getattr(found.data, field)


EFFECTS: dict[tuple[str, str], tuple[Callable[[MindSporeSettings], object], dict[str, object]]] = {
    (COMMON, "bit_num"): (quant("bit_num"), {"8": 8}),
    (COMMON, "min_quant_weight_size"): (quant("min_quant_weight_size"), {"0": 0, "100": 101}),
    (COMMON, "skip_quant_node"): (quant("exclude_layers"), {"a/b, c:0": ("a/b", "c:0"), "d": ("d",)}),
    (COMMON, "debug_info_save_path"): (quant("debug_info_save_path"), {"some/folder": "some/folder"}),
    (COMMON, "enable_encode"): (lambda found: found.encode, {"true": True, "false": False}),
    (WEIGHT, "quant_strategy"): (quant("quant_strategy"), {"MAX_MIN": "MAX_MIN", "GPTQ": "GPTQ"}),
    (WEIGHT, "per_channel"): (quant("quantize_granularity"), {"true": "channel-wise", "false": "tensor-wise"}),
    (WEIGHT, "bias_correction"): (quant("bias_correction"), {"true": True, "false": False}),
    (MIXED, "init_scale"): (quant("init_scale"), {"0.1": 0.1}),
    (MIXED, "auto_tune"): (quant("auto_tune"), {"true": True, "false": False}),
    (MIXED, "max_iterations"): (quant("max_iterations"), {"40": 40, "65535": 65535}),
    (FULL, "activation_quant_method"): (
        quant("calib_mode"), {"MAX_MIN": "naive", "KL": "kl", "REMOVAL_OUTLIER": "quantile"},
    ),
    (FULL, "bias_correction"): (quant("bias_correction"), {"true": True, "False": False}),
    (FULL, "target_device"): (quant("target"), {"CPU": "onnxruntime"}),
    (FULL, "enable_all_ops"): (quant("quantize_mode"), {"true": "full", "false": "smart"}),
    (FULL, "per_channel"): (quant("quantize_granularity"), {"true": "channel-wise", "false": "tensor-wise"}),
    (DYNAMIC, "quant_strategy"): (quant("quant_strategy"), {"ALWC": "ALWC", "ACWL": "ACWL"}),
    (DATA, "calibrate_path"): (
        lambda found: found.calibrate_path,
        {"in1:/dir1, in2:dir2": "in1:/dir1,in2:dir2", "a:0:/d": "a:0:/d", "a:'/b:c'": "a:/b:c"},
    ),
    (DATA, "calibrate_size"): (quant("num_calib_batches"), {"1": 1, "65535": 65535}),
    (DATA, "input_type"): (data("image_to_format"), {"IMAGE": "BGR", "BIN": "RGB"}),  # RGB: said of no picture
    (DATA, "image_to_format"): (data("image_to_format"), {"RGB": "RGB", "GRAY": "GRAY", "BGR": "BGR"}),
    (DATA, "normalize_mean"): (data("normalize_mean"), {"[127.5, 1, 0]": (127.5, 1, 0), "127.5": (127.5,)}),
    (DATA, "normalize_std"): (data("normalize_std"), {"[127.5,1,2]": (127.5, 1, 2)}),
    (DATA, "resize_method"): (data("resize_method"), {"LINEAR": "LINEAR", "NEAREST": "NEAREST", "CUBIC": "CUBIC"}),
}  # fmt: skip
PAIRS = {(DATA, f"{word}_{side}") for word in ("resize", "center_crop") for side in ("width", "height")}
APART = {(COMMON, "quant_type"), (COMMON, "min_quant_weight_channel"), (MIXED, "use_cv_data"), *PAIRS}
"""Keys with tests of their own below."""


def test_the_table_has_every_key_there_is() -> None:
    assert set(TABLE) >= KNOWN
    assert set(SECTIONS) == {*FACTS, *OPEN} and set(OPEN) == {"graph_kernel_param", "custom_opp_path"}
    newer = set(TABLE) - KNOWN
    assert {s for s, _ in newer} == {"ascend_context", "acl_option_cfg_param", FULL}
    assert len(TABLE) == len(SETTINGS) + len(IDLE)


def test_every_key_is_tested() -> None:
    idle = {(k.section, k.name) for k in IDLE}
    assert {*EFFECTS, *APART} | idle == set(TABLE)
    assert not {*EFFECTS, *APART} & idle


CASES = [(s, k, text, want) for (s, k), (_, values) in EFFECTS.items() for text, want in values.items()]


@pytest.mark.parametrize(("section", "key", "text", "want"), CASES, ids=lambda v: str(v))
def test_a_key_has_its_effect(section: str, key: str, text: str, want: object) -> None:
    found = with_key(section, key, text)
    assert EFFECTS[section, key][0](found) == want
    assert not found.warnings


@pytest.mark.parametrize("key", IDLE, ids=lambda k: f"{k.section}-{k.name}")
def test_a_key_without_meaning_is_told(key: object) -> None:
    values = {"flag": "true", "switch": "on", "whole": "3", "number": "0.7", "word": "", "text": "x", "names": "a,b"}
    value = key.choices[0] if key.choices else values[key.kind]  # type: ignore[attr-defined]
    found = with_key(key.section, key.name, value)  # type: ignore[attr-defined]
    told = [f"x.cfg: {key.name} in [{key.section}] is ignored: {key.because}"]  # type: ignore[attr-defined]
    assert list(found.warnings) == told and len(key.because) > 20  # type: ignore[attr-defined]
    for same in key.same:  # type: ignore[attr-defined]
        assert not with_key(key.section, key.name, same).warnings  # type: ignore[attr-defined]


@pytest.mark.parametrize("section", sorted(OPEN))
def test_open_sections_take_any_key(section: str) -> None:
    assert read(f"[{section}]\nwhatever=1").warnings == (f"x.cfg: whatever in [{section}] is ignored: {OPEN[section]}",)


def test_quant_type() -> None:
    for word, name in (("FULL_QUANT", "full"), ("WEIGHT_QUANT", "weight"), ("DYNAMIC_QUANT", "dynamic")):
        found = read(f"[{COMMON}]\nquant_type={word}").quant
        assert found is not None and found.quant_type == name
    found = read(f"[{COMMON}]\nbit_num=4\nquant_type=\n[{FULL}]\nper_channel=true")
    assert found.quant is None
    assert [w.split("]")[0] for w in found.warnings] == [
        f"x.cfg: bit_num in [{COMMON}",
        f"x.cfg: per_channel in [{FULL}",
    ]
    assert "no quant_type is given, so nothing is quantized" in found.warnings[0]


def test_the_target_of_nvidia_gpus() -> None:
    found = with_key(FULL, "target_device", "NVGPU").quant
    assert found is not None and found.target == "tensorrt"
    with pytest.raises(ConfigError, match=r"target_device is DSP: nothing is made for DSPs; .* NVIDIA GPUs say NVGPU"):
        with_key(FULL, "target_device", "DSP")


def test_pairs() -> None:
    for word in ("resize", "center_crop"):
        found = read(f"[{DATA}]\n{word}_width=20\n{word}_height=30")
        assert (getattr(found.data, f"{word}_width"), getattr(found.data, f"{word}_height")) == (20, 30)
        for side in ("width", "height"):
            with pytest.raises(ConfigError, match=f"{word}_width and {word}_height go together"):
                read(f"[{DATA}]\n{word}_{side}=20")


def test_defaults_are_the_converters() -> None:
    assert TABLE[COMMON, "min_quant_weight_channel"].default == 16
    full, weight, mixed, dynamic = (
        read(f"[{COMMON}]\n{t}").quant for t in (IS["full"], IS["weight"], TYPE_OF[MIXED], IS["dynamic"])
    )
    assert full == QuantConfig(bias_correction=True)
    assert weight == QuantConfig(
        quant_type="weight", quant_strategy="MAX_MIN", bias_correction=True, min_quant_weight_channel=17
    )
    assert mixed == QuantConfig(
        quant_type="weight", bit_num=0, quant_strategy="MAX_MIN", bias_correction=True, min_quant_weight_channel=17,
        mixed_bit_search="step", init_scale=0.02, auto_tune=False, max_iterations=40,
    )  # fmt: skip
    assert dynamic == QuantConfig(quant_type="dynamic", quant_strategy="ALWC")


@pytest.mark.parametrize("bits", range(17))
def test_widths_of_weights(bits: int) -> None:
    found = read(f"[{COMMON}]\nquant_type=WEIGHT_QUANT\nbit_num={bits}").quant
    assert found is not None and found.bit_num == bits
    plain = f"[{COMMON}]\nquant_type=WEIGHT_QUANT\nbit_num={bits}\nenable_encode=false"
    if bits in (8, 16):
        assert not read(plain).encode
    else:
        with pytest.raises(
            ConfigError, match=f"enable_encode is false, and bit_num {bits} is packed or coded; it must"
        ):
            read(plain)


def test_outliers_are_the_converters_quantiles() -> None:
    found = with_key(FULL, "activation_quant_method", "REMOVAL_OUTLIER").quant
    assert found is not None and found.percentile == 99.99


@pytest.mark.parametrize(
    ("section", "key", "text", "said"),
    [
        (COMMON, "quant_type", "FULL", "unknown word for quant_type in x.cfg, line 2: 'FULL'; did you mean"),
        (COMMON, "bit_num", "17", "bit_num is '17'; it must be a whole number from 0 to 16"),
        (COMMON, "bit_num", "-1", "bit_num is '-1'"),
        (COMMON, "bit_num", "8.0", "bit_num is '8.0'"),
        (COMMON, "bit_num", "4", "x.cfg: bit_num is 4; with quant_type FULL_QUANT it must be 8"),
        (COMMON, "min_quant_weight_size", "65536", "must be a whole number from 0 to 65535"),
        (COMMON, "min_quant_weight_channel", "many", "min_quant_weight_channel is 'many'"),
        (COMMON, "enable_encode", "yes", "enable_encode is 'yes'; it must be true or false"),
        (WEIGHT, "dequant_strategy", "LATER", "unknown word for dequant_strategy"),
        (WEIGHT, "max_segments", "0", "max_segments is '0'; it must be a whole number of 1 or more"),
        (MIXED, "init_scale", "0", "init_scale is '0'; it must be a number over 0 and below 1"),
        (MIXED, "init_scale", "1", "it must be a number over 0 and below 1"),
        (MIXED, "init_scale", "nan", "it must be a number over 0 and below 1"),
        (MIXED, "max_iterations", "39", "it must be a whole number from 40 to 65535"),
        (FULL, "activation_quant_method", "kl", "unknown word for activation_quant_method in x.cfg, line 7: 'kl'"),
        (FULL, "target_device", "KIRIN", "target_device is KIRIN: nothing is made for the NPU of Kirin chips; for"),
        (FULL, "target_device", "DSP", "nothing is made for DSPs"),
        (FULL, "target_device", "ASCEND", "nothing is made for Ascend chips; for integers that a CPU runs say CPU"),
        (FULL, "target_device", "GPU", "did you mean 'NVGPU'"),
        (FULL, "smooth_alpha", "x", "smooth_alpha is 'x'; it must be a number"),
        (DATA, "calibrate_size", "0", "calibrate_size is '0'; it must be a whole number from 1 to 65535"),
        (DATA, "calibrate_size", "", "calibrate_path needs calibrate_size beside it in [data_preprocess_param]"),
        (DATA, "input_type", "", "calibrate_path needs input_type beside it"),
        (DATA, "input_type", "PNG", "(allowed: BIN, IMAGE)"),
        (DATA, "calibrate_path", "/only", "calibrate_path is '/only'; it must look like input1:/folder1,input2:"),
        (DATA, "calibrate_path", "a:/b,a:/c", "calibrate_path names the input 'a' twice"),
        (DATA, "normalize_mean", "[1, x]", "normalize_mean is 'x'; it must be numbers with commas between them"),
        (DATA, "normalize_std", "[0]", "normalize_std is (0.0,); it divides"),
        (DATA, "resize_method", "AREA", "unknown word for resize_method"),
        ("transform_quant_param", "export_precision_mode", "INT8", "(allowed: FLOAT32, QUANT)"),
        ("registry", "disable_fusion", "true", "disable_fusion is 'true'; it must be on or off"),
    ],
)  # fmt: skip
def test_what_is_not_allowed_is_said(section: str, key: str, text: str, said: str) -> None:
    with pytest.raises((ConfigError, UnknownName)) as e:
        with_key(section, key, text)
    assert said in str(e.value)


def test_a_number_of_any_length_is_refused() -> None:
    with pytest.raises(ConfigError, match="bit_num is '999"):
        with_key(COMMON, "bit_num", "9" * 5000)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[comon_quant_param]", "unknown section in x.cfg: 'comon_quant_param'; did you mean 'common_quant_param'"),
        ("[encode]\nx=1", "encoding is switched by enable_encode in [common_quant_param]"),
        ("[ascend_quant]", "Ascend is target_device=ASCEND in [full_quant_param]"),
        (f"[{COMMON}]\n[quantize]\nbit_num=8", "do not go together in a file"),
        (f"[{COMMON}]\nbitnum=8", "unknown key in x.cfg, [common_quant_param]: 'bitnum'; did you mean 'bit_num'"),
        (f"[{COMMON}]\ninit_scale=0.1", "It belongs into [mixed_bit_weight_quant_param]"),
        (f"[{DATA}]\nper_channel=true", "It belongs into [weight_quant_param] or [full_quant_param]"),
        (f"[{COMMON}]\nBit_num=8", "unknown key in x.cfg, [common_quant_param]: 'Bit_num'; did you mean 'bit_num'"),
    ],
)  # fmt: skip
def test_unknown_names_offer_the_nearest(text: str, said: str) -> None:
    with pytest.raises(UnknownName) as e:
        read(text)
    assert said in str(e.value)


@pytest.mark.parametrize(
    ("common", "section", "key", "value", "why"),
    [
        (IS["weight"], FULL, "per_channel", "false", "quant_type is WEIGHT_QUANT"),
        (IS["dynamic"], FULL, "activation_quant_method", "KL", "quant_type is DYNAMIC_QUANT"),
        (IS["full"], WEIGHT, "quant_strategy", "GPTQ", "quant_type is FULL_QUANT"),
        (IS["full"], DYNAMIC, "quant_strategy", "ACWL", "quant_type is FULL_QUANT"),
        (IS["full"], MIXED, "init_scale", "0.1", "quant_type is FULL_QUANT"),
        (IS["weight"], MIXED, "init_scale", "0.1", "bit_num is 8, and mixed bit is 0"),
        (TYPE_OF[MIXED], WEIGHT, "per_channel", "false", "mixed bit has one step for each weight"),
        (TYPE_OF[MIXED], MIXED, "use_cv_data", "true", "auto_tune is false"),
        (IS["dynamic"], COMMON, "min_quant_weight_channel", "4", "it is about convolutions, which stay float"),
        (IS["full"], COMMON, "min_quant_weight_channel", "16", "it is about weights that are stored in few bits"),
    ],
)
def test_what_is_not_used_is_told(common: str, section: str, key: str, value: str, why: str) -> None:
    text = f"{common}\n{key}={value}" if section == COMMON else f"{common}\n[{section}]\n{key}={value}"
    assert read(f"[{COMMON}]\n{text}").warnings == (f"x.cfg: {key} in [{section}] is not used: {why}",)


def test_channels_count_for_weights_only() -> None:
    for kind, given, want in (("weight", 0, 0), ("weight", 4, 5), ("full", 16, 0), ("dynamic", 16, 0)):
        found = read(f"[{COMMON}]\n{IS[kind]}\nmin_quant_weight_channel={given}").quant
        assert found is not None and found.min_quant_weight_channel == want


def test_what_is_told_of_a_section_is_one_sentence() -> None:
    text = f"[{COMMON}]\n{IS['full']}\n[{MIXED}]\ninit_scale=0.1\nauto_tune=true\nmax_iterations=50"
    assert read(text).warnings == (
        f"x.cfg: init_scale, auto_tune and max_iterations in [{MIXED}] are not used: quant_type is FULL_QUANT",
    )
    found = read("[registry]\nplugin_path=a\nfusion_blacklists=b\n[ascend_context]\ndevice_id=1").warnings
    assert [w.split(": ")[1] for w in found] == [
        "plugin_path and fusion_blacklists in [registry] are ignored", "device_id in [ascend_context] is ignored",
    ]  # fmt: skip


def test_pictures_of_the_converter() -> None:
    text = f"[{COMMON}]\n{TYPE_OF[MIXED]}\n[{MIXED}]\nauto_tune=true\nuse_cv_data=true\n[{DATA}]\n"
    with pytest.raises(
        ConfigError, match="use_cv_data is true, and no pictures come with fewbit; name a folder of you"
    ):
        read(text)
    assert read(text + CALIBRATED).warnings == (
        f"x.cfg: use_cv_data in [{MIXED}] is not used: calibrate_path names data",
    )
    assert not read(text.replace("data=true", "data=false")).warnings


def test_buffers_are_fed_as_they_are() -> None:
    text = f"[{DATA}]\n{CALIBRATED.replace('IMAGE', 'BIN')}\nimage_to_format=GRAY\nnormalize_mean=[1]"
    found = read(f"[{COMMON}]\n{IS['full']}\n{text}")
    assert found.data == DataConfig()
    assert found.warnings == (
        f"x.cfg: image_to_format and normalize_mean in [{DATA}] are not used: "
        "input_type is BIN, and buffers are fed as they are",
    )


def test_folders_are_compared_with_what_is_said(tmp_path: Path) -> None:
    text = f"[{COMMON}]\n{IS['full']}\n[{DATA}]\ncalibrate_path=x:{tmp_path}\ncalibrate_size=2\ninput_type="
    (tmp_path / "a.png").write_bytes(b"")
    (tmp_path / "notes.txt").write_bytes(b"")
    assert f"calibrate_size is 2, and {tmp_path} holds 1 samples; all are used" in read(text + "IMAGE").warnings[0]
    with pytest.raises(
        ConfigError, match=r"input_type is BIN, and .*, for input 'x', holds .png files; it must be IMAGE"
    ):
        read(text + "BIN")
    (tmp_path / "a.png").rename(tmp_path / "a.bin")
    with pytest.raises(ConfigError, match=r"input_type is IMAGE, and .* holds .bin files"):
        read(text + "IMAGE")
    (tmp_path / "b.BIN").write_bytes(b"")
    assert not read(text + "BIN").warnings


def test_golden_files() -> None:
    found = {path.name: read_settings(path) for path in sorted(GOLDEN.iterdir())}
    assert {n: s.quant.quant_type if s.quant else None for n, s in found.items()} == {
        "convert_only.cfg": None, "dynamic.cfg": "dynamic", "full.cfg": "full", "full.toml": "full",
        "weight_fixed.cfg": "weight", "weight_mixed.cfg": "weight",
    }  # fmt: skip
    full = found["full.cfg"]
    assert full == found["full.toml"]
    assert full.calibrate_path == "image:pictures"
    assert full.data == DataConfig(
        image_to_format="GRAY", normalize_mean=(72.9,), normalize_std=(90.0,), resize_width=32, resize_height=32,
        center_crop_width=28, center_crop_height=28,
    )  # fmt: skip
    fixed = found["weight_fixed.cfg"].quant
    assert fixed is not None
    assert (fixed.bit_num, fixed.exclude_layers, fixed.bias_correction) == (6, ("/stem/conv/Conv", "/fc/Gemm"), False)
    assert len(found["weight_fixed.cfg"].warnings) == 1
    assert len(found["convert_only.cfg"].warnings) == 2


@pytest.mark.parametrize("path", sorted(GOLDEN.iterdir()), ids=lambda p: p.name)
def test_tables_say_the_same(path: Path) -> None:
    found = read_settings(path)
    tables = found.tables()
    if found.quant is not None:
        assert configure(QuantConfig, None, **tables["quantize"]) == found.quant
    assert configure(DataConfig, None, **tables["data"]) == found.data


def test_a_file_is_recognized(tmp_path: Path) -> None:
    assert all(is_mindspore(path) for path in GOLDEN.iterdir())
    (tmp_path / "own.toml").write_text("[quantize]\nbit_num = 8\n[data]\n")
    (tmp_path / "no_ending").write_text(" [full_quant_param]\n")
    (tmp_path / "x.bin").write_bytes(b"\xff\xfe")
    assert not is_mindspore(tmp_path / "own.toml") and is_mindspore(tmp_path / "no_ending")
    assert not is_mindspore(tmp_path / "x.bin") and not is_mindspore(tmp_path / "none.toml")
    assert is_mindspore(tmp_path / "none.cfg")


def test_a_file_that_is_to_quantize(tmp_path: Path) -> None:
    with pytest.warns(FewbitWarning, match="dequant_strategy in .weight_quant_param. is ignored"):
        found = asked(GOLDEN / "weight_fixed.cfg")
    assert found == read_settings(GOLDEN / "weight_fixed.cfg")
    with pytest.raises(ConfigError, match=r"convert_only.cfg has no quant_type, so there is nothing to quantize"):
        asked(GOLDEN / "convert_only.cfg")


def test_either_kind_of_file_gives_tables(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text("[quantize]\nbit_num = 4\n[data]\nbatch_size = 3\n")
    assert read_tables(tmp_path / "own.toml") == {"quantize": {"bit_num": 4}, "data": {"batch_size": 3}}
    assert read_tables(GOLDEN / "dynamic.cfg") == {
        "quantize": {"quant_type": "dynamic", "quant_strategy": "ALWC"}, "data": {},
    }  # fmt: skip


def test_the_data_that_a_file_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as e:
        data_named(GOLDEN / "full.cfg")
    assert (
        f"full.cfg: calibrate_path in [{DATA}] is 'pictures' for input 'image'; there is no such folder in {tmp_path}, "
        "where relative paths start"
    ) in str(e.value)
    (tmp_path / "pictures").mkdir()
    (tmp_path / "own.toml").write_text("[quantize]\n")
    named = [data_named(c) for c in (GOLDEN / "full.cfg", str(GOLDEN / "full.toml"), GOLDEN / "dynamic.cfg")]
    assert named == ["image:pictures", "image:pictures", None]
    assert [data_named(c) for c in (tmp_path / "own.toml", None, QuantConfig(), {"bit_num": 8})] == [None] * 4


def test_fewbits_own_config_is_no_config_of_the_converter() -> None:
    said = "is fewbit's own config, with [quantize], and no config of the converter; "
    text = "[quantize]\nbit_num = 8"
    for make, name, advice in (
        (read_toml, "own.toml", "hand it to: fewbit quantize --config own.toml"),
        (read_text, "own.cfg", "name it .toml, and hand it to: fewbit quantize --config own.toml"),
    ):
        with pytest.raises(ConfigError) as e:
            make(text, name)
        assert f"{name} {said}{advice}" == str(e.value)
    with pytest.raises(ConfigError, match="own config"):
        read_toml(text + "\n[quantize.overrides.a]\nbit_num = 4", "own.toml")


@pytest.mark.parametrize(
    ("section", "line", "said"),
    [
        (COMMON, 'bit_num = "4"', 'x.toml: bit_num is "4"; it must be a whole number, without quotes'),
        (COMMON, "bit_num = true", "x.toml: bit_num is true; it must be a whole number"),
        (COMMON, "bit_num = 4.0", "x.toml: bit_num is 4.0; it must be a whole number"),
        (COMMON, 'enable_encode = "true"', 'enable_encode is "true"; it must be true or false, without quotes'),
        (COMMON, "quant_type = 8", "quant_type is 8; it must be a word in quotes"),
        (COMMON, "skip_quant_node = [1]", "skip_quant_node is [1]; it must be words in quotes, in a list if there are"),
        (MIXED, 'init_scale = "0.1"', 'init_scale is "0.1"; it must be a number, without quotes'),
        (DATA, 'normalize_mean = ["1"]', "normalize_mean is ['1']; it must be a list of numbers, without quotes"),
        ("registry", "disable_fusion = true", "disable_fusion is true; it must be a word in quotes"),
    ],
)
def test_values_in_toml_have_the_type_of_their_key(section: str, line: str, said: str) -> None:
    with pytest.raises(ConfigError) as e:
        to_settings(read_toml(f"[{section}]\n{line}", "x.toml"), "x.toml")
    assert said in str(e.value)


def test_values_in_toml() -> None:
    text = f'[{COMMON}]\nskip_quant_node = ["a", "b"]\nquant_type = "WEIGHT_QUANT"\nbit_num = 0\n'
    found = to_settings(read_toml(f"{text}[{MIXED}]\ninit_scale = 0.1\nauto_tune = true", "x.toml"), "x.toml").quant
    assert found is not None
    assert (found.exclude_layers, found.init_scale, found.auto_tune) == (("a", "b"), 0.1, True)


@pytest.mark.parametrize(
    ("section", "line"),
    [(COMMON, 'quant_type="FULL_QUANT"'), (COMMON, 'bit_num="8"'), (COMMON, 'skip_quant_node=["a", "b"]'),
     (DATA, 'calibrate_path = "image:pictures"')],
)  # fmt: skip
def test_words_in_quotes_are_toml(section: str, line: str) -> None:
    with pytest.raises(ConfigError, match=r"x.cfg, line 2: .*, in quotes, as TOML has words; leave the quotes out, or"):
        read(f"[{section}]\n{line}")


def test_warnings_are_given(recwarn: pytest.WarningsRecorder) -> None:
    with pytest.warns(FewbitWarning, match="workspace in .common_quant_param. is ignored: weights over 2 GB need no"):
        read(f"[{COMMON}]\nquant_type=FULL_QUANT\nworkspace=/x").warn()


def test_the_page_has_every_section_and_key() -> None:
    text = (Path(__file__).parents[2] / "docs" / "mindspore.md").read_text("utf-8")
    assert not [s for s in SECTIONS if f"[{s}]" not in text]
    assert not [key for _, key in TABLE if f"`{key}`" not in text]
    assert not [name for name in NAMES if f"`--{name}`" not in text]
