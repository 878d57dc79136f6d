from dataclasses import FrozenInstanceError, fields
from typing import Any

import numpy as np
import pytest

from fewbit.config import OVERRIDE_KEYS, STRATEGIES, DataConfig, QuantConfig, configure, default_of, read_config
from fewbit.errors import ConfigError, UnknownName

QUANT = {f.name: f for f in fields(QuantConfig)}


@pytest.mark.parametrize("kind", [QuantConfig, DataConfig])
def test_every_setting_has_a_help_text_and_a_default_that_is_allowed(kind):
    config = kind()
    for f in fields(kind):
        assert f.metadata["help"], f.name
        assert getattr(config, f.name) == default_of(f)
        if "choices" in f.metadata:
            assert default_of(f) in f.metadata["choices"]
    with pytest.raises(FrozenInstanceError):
        config.batch_size = 2


@pytest.mark.parametrize("kind", [QuantConfig, DataConfig])
def test_every_choice_is_taken_and_a_misspelt_one_gets_the_nearest(kind):
    for f in fields(kind):
        for word in f.metadata.get("choices", ()):
            with_it: dict[str, Any] = {}
            if f.name == "quant_strategy":
                with_it = {"quant_type": STRATEGIES[word][0]}
            if f.name == "mixed_bit_search":
                with_it = {"quant_type": "weight", "bit_num": 0}
            assert getattr(kind(**{f.name: word}, **with_it), f.name) == word
            with pytest.raises(UnknownName, match=f"unknown {f.name} '{word}x'; did you mean .*'{word}'"):
                kind(**{f.name: word + "x"})


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"bit_num": 0}, r"bit_num is 0; it must be a whole number from 1 to 16"),
        ({"bit_num": 17}, r"bit_num is 17; it must be a whole number from 1 to 16"),
        ({"bit_num": 8.0}, r"bit_num is 8.0; it must be a whole number"),
        ({"bit_num": True}, r"bit_num is True; it must be a whole number"),
        ({"bit_num": "8"}, r"bit_num is '8'; it must be a whole number"),
        ({"bit_num": None}, r"bit_num is None; it must be a whole number"),
        ({"group_size": 0}, r"group_size is 0; it must be a whole number of 1 or more"),
        ({"min_quant_weight_size": -1}, r"min_quant_weight_size is -1; it must be a whole number of 0 or more"),
        ({"min_quant_weight_channel": -1}, r"min_quant_weight_channel is -1"),
        ({"num_calib_batches": 0}, r"num_calib_batches is 0; it must be a whole number of 1 or more"),
        ({"memory_limit": 0}, r"memory_limit is 0; it must be a whole number of 1 or more"),
        ({"percentile": 50}, r"percentile is 50; it must be a number over 50 and at most 100"),
        ({"percentile": 100.1}, r"percentile is 100.1"),
        ({"percentile": float("nan")}, r"percentile is nan"),
        ({"percentile": "99"}, r"percentile is '99'; it must be a number"),
        ({"ema_momentum": 1}, r"ema_momentum is 1; it must be a number from 0 to less than 1"),
        ({"ema_momentum": -0.1}, r"ema_momentum is -0.1"),
        ({"ema_momentum": None}, r"ema_momentum is None; it must be a number"),
        ({"target": 3}, r"target is 3; it must be a word"),
        ({"exclude_layers": [1]}, r"exclude_layers is \(1,\); it must be names"),
        ({"exclude_operators": (None,)}, r"exclude_operators is \(None,\); it must be names"),
        ({"overrides": ["a"]}, r"overrides is \['a'\]; it must map layers to settings"),
        ({"overrides": {"l*": 8}}, r"override for 'l\*' is 8; it must map keys to values"),
        ({"overrides": {"l*": {"bits": 8}}}, r"unknown key in the override for 'l\*' 'bits'.*bit_num"),
        (
            {"overrides": {"l*": {"bit_num": 32}}},
            r"override 'l\*': bit_num is 32; it must be a whole number from 1 to 16",
        ),
        ({"overrides": {"l*": {"group_size": 0}}}, r"override 'l\*': group_size is 0; it must be a whole number of 1"),
        ({"overrides": {"l*": {"signed": "no"}}}, r"override 'l\*': signed is 'no'; it must be true or false"),
        ({"overrides": {"l*": {"float": 1}}}, r"override 'l\*': float is 1; it must be true or false"),
        ({"overrides": {"l*": {"calib_mode": "klo"}}}, r"unknown calib_mode 'klo'; did you mean 'kl'"),
        ({"overrides": {"l*": {"calib_mode": "none"}}}, r"unknown calib_mode 'none'"),
        (
            {"calib_mode": "custom", "overrides": {"l*": {"calib_mode": "mse"}}},
            r"calib_mode is 'custom' for the whole network; no override can change it",
        ),
        ({"calib_mode": "none", "bit_num": 16}, r"ranges at run time mean 8 bits; bit_num must be 8"),
        ({"calib_mode": "none", "overrides": {"l*": {"bit_num": 9}}}, r"ranges at run time mean 8 bits"),
        ({"calib_mode": "none", "quantized_dtype": "int8"}, r"'none' makes uint8 activations; quantized_dtype must"),
        ({"calib_mode": "none", "quantize_granularity": "group-wise"}, r"no engine does group-wise"),
        ({"calib_mode": "none", "overrides": {"l*": {"granularity": "group"}}}, r"no engine does group-wise"),
        ({"calib_mode": "none", "overrides": {"l*": {"signed": True}}}, r"leave 'signed' out of overrides"),
        ({"overrides": {"l*": {"granularity": "chanel"}}}, r"unknown granularity 'chanel'; did you mean 'channel'"),
    ],
)
def test_quantize_settings_out_of_range(words, says):
    with pytest.raises((ConfigError, UnknownName), match=says):
        QuantConfig(**words)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"batch_size": 0}, r"batch_size is 0; it must be a whole number of 1 or more"),
        ({"seed": -1}, r"seed is -1"),
        ({"resize_width": 0, "resize_height": 2}, r"resize_width is 0"),
        ({"resize_width": 224}, r"resize_width and resize_height go together; one of them is missing"),
        ({"center_crop_height": 224}, r"center_crop_width and center_crop_height go together"),
        ({"normalize_std": (1, 0, 1)}, r"normalize_std is \(1, 0, 1\); it divides, so no number may be 0"),
        ({"normalize_mean": ("a",)}, r"normalize_mean is \('a',\); it must be numbers"),
        ({"skip_bad": "yes"}, r"skip_bad is 'yes'; it must be true or false"),
        ({"shuffle": 1}, r"shuffle is 1; it must be true or false"),
        (
            {"resize_width": 10, "resize_height": 20, "center_crop_width": 11, "center_crop_height": 20},
            r"the centre crop 11x20 is larger than the resized image 10x20",
        ),
    ],
)
def test_data_settings_out_of_range(words, says):
    with pytest.raises(ConfigError, match=says):
        DataConfig(**words)


def test_the_limits_themselves_are_allowed():
    QuantConfig(bit_num=1, percentile=100, ema_momentum=0, num_calib_batches=None)
    QuantConfig(bit_num=16, percentile=50.01, num_calib_batches=1, memory_limit=1)
    QuantConfig(
        overrides={"*": dict.fromkeys(("signed", "symmetric", "float"), True) | {"bit_num": 16, "group_size": 1}}
    )
    DataConfig(resize_width=10, resize_height=10, center_crop_width=10, center_crop_height=10)
    assert set(OVERRIDE_KEYS) >= {"bit_num", "float"}


@pytest.mark.parametrize(
    ("given", "kept"),
    [("fc", ("fc",)), (["a", "b"], ("a", "b")), (("a",), ("a",)), ([], ()), (None, ())],
)
def test_names_may_be_one_a_list_or_none(given, kept):
    assert QuantConfig(exclude_layers=given).exclude_layers == kept


def test_one_number_may_stand_for_a_list():
    assert DataConfig(normalize_mean=127.5, normalize_std=[1, 2]).normalize_mean == (127.5,)


def test_keywords_go_on_top_of_a_base():
    base = QuantConfig(bit_num=4, calib_mode="entropy")
    assert configure(QuantConfig, base, bit_num=6) == QuantConfig(bit_num=6, calib_mode="entropy")
    assert configure(QuantConfig, bit_num=6) == QuantConfig(bit_num=6)
    assert base.bit_num == 4
    with pytest.raises(UnknownName, match=r"unknown setting 'calib_mod'; did you mean 'calib_mode'"):
        configure(QuantConfig, base, calib_mod="naive")
    with pytest.raises(ConfigError, match="bit_num is 99"):
        configure(QuantConfig, base, bit_num=99)


def test_two_configs_share_no_overrides():
    assert default_of(QUANT["overrides"]) is not default_of(QUANT["overrides"])


def test_a_toml_file_has_two_tables(tmp_path):
    file = tmp_path / "c.toml"
    file.write_text(
        '[quantize]\nbit_num = 4\nexclude_layers = ["a"]\n[quantize.overrides."l*"]\nbit_num = 16\n[data]\nseed = 1\n'
    )
    found = read_config(file)
    assert found == {
        "quantize": {"bit_num": 4, "exclude_layers": ["a"], "overrides": {"l*": {"bit_num": 16}}},
        "data": {"seed": 1},
    }
    assert configure(QuantConfig, **found["quantize"]).overrides == {"l*": {"bit_num": 16}}
    file.write_text("")
    assert read_config(file) == {"quantize": {}, "data": {}}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"[quantise]\n", r"unknown table in .*c\.toml 'quantise'; did you mean 'quantize'"),
        (b"bit_num = 4\n", r"unknown table in .*c\.toml 'bit_num'"),
        (b"quantize = 3\n", r"quantize in .*c\.toml is 3; it must be a table"),
        (b"[quantize\n", r"c\.toml is not valid TOML"),
        (b"\xff\xfe", r"cannot read the config file .*c\.toml"),
    ],
)
def test_bad_config_files_are_named(tmp_path, content, says):
    file = tmp_path / "c.toml"
    file.write_bytes(content)
    with pytest.raises((ConfigError, UnknownName), match=says):
        read_config(file)


def test_a_missing_config_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read the config file .*none\.toml.*No such file"):
        read_config(tmp_path / "none.toml")


def test_an_array_of_numbers_is_taken_as_a_list():
    assert DataConfig(normalize_mean=np.array([1, 2.5], np.float32)).normalize_mean == (1.0, 2.5)
