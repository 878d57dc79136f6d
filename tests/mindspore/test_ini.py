"""Files of sections and keys, line by line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewbit.errors import ConfigError
from fewbit.mindspore.ini import read_file, read_text, read_toml


def plain(text: str) -> dict[str, dict[str, str]]:
    return {s: {k: v.text for k, v in keys.items()} for s, keys in read_text(text, "x.cfg").items()}


def test_sections_keys_comments_and_blanks() -> None:
    assert plain("# top\n\n[a]\r\nx=1\n  # not = a key\n y = p:q, [1, 2] = # all of it \n[ b ]\nz=\n") == {
        "a": {"x": "1", "y": "p:q, [1, 2] = # all of it"},
        "b": {"z": ""},
    }


def test_names_keep_their_case_and_nothing_is_replaced() -> None:
    assert plain("[a]\nKey=%(x)s ${y}\nkey=\\n") == {"a": {"Key": "%(x)s ${y}", "key": "\\n"}}


def test_where_a_key_stands_is_known() -> None:
    assert read_text("[a]\n\nx=1", "x.cfg")["a"]["x"].where == "x.cfg, line 3"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[a]\nx", "x.cfg, line 2: 'x' is neither [section] nor key=value; comments begin with #"),
        ("[a]\n; x", "line 2: '; x' is neither [section] nor key=value"),
        ("[a]\n=1", "line 2: '=1' is neither"),
        ("[a]\nx: 1", "line 2: 'x: 1' is neither"),
        ("x=1", "line 1: 'x' stands before the first section, such as [common_quant_param]"),
        ("[a]\nx=1\n\nx=2", "line 4: 'x' is given twice in [a]; keep one of them"),
        ("[a]\nx=1\n[b]\n[a]", "line 4: the section [a] is there twice; put its keys together"),
        ("[a", "line 1: '[a' is no section; it must look like [common_quant_param]"),
        ("[]", "line 1: '[]' is no section"),
        ("[a] # b", "line 1: '[a] # b' is no section"),
    ],
)
def test_a_line_that_is_wrong_is_told_with_its_number(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as e:
        read_text(text, "x.cfg")
    assert said in str(e.value)


def test_toml_has_the_same_words() -> None:
    found = read_toml('[a]\nx = true\ny = [127.5, 1]\nz = "KL"\nn = -4\nm = 0.02\ns = ["p", "q"]', "x.toml")
    assert {k: v.text for k, v in found["a"].items()} == {
        "x": "true", "y": "127.5,1", "z": "KL", "n": "-4", "m": "0.02", "s": "p,q",
    }  # fmt: skip
    assert found["a"]["x"].where == "x.toml"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1", "x.toml: 'x' stands before the first section"),
        ("[a]\nx =", "x.toml is not valid TOML"),
        ("[a.b]\nx = 1", "x.toml: a.b is {'x': 1}; it must be text, a number, true or false, or a list of these"),
        ("[a]\nx = [[1]]", "a.x is [[1]]"),
        ("[a]\nx = 1979-05-27", "a.x is datetime.date"),
    ],
)
def test_toml_that_is_wrong(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as e:
        read_toml(text, "x.toml")
    assert said in str(e.value)


def test_files(tmp_path: Path) -> None:
    (tmp_path / "a.cfg").write_bytes(b"\xef\xbb\xbf[a]\nx=1\n")
    (tmp_path / "a.toml").write_text("[a]\nx = 1\n")
    texts = [read_file(tmp_path / f)["a"]["x"].text for f in ("a.cfg", "a.toml")]
    assert texts == ["1", "1"]
    with pytest.raises(ConfigError, match=r"cannot read the config file .*none.cfg: .*No such file"):
        read_file(tmp_path / "none.cfg")
    (tmp_path / "b.cfg").write_bytes(b"[a]\nx=\xff\n")
    with pytest.raises(ConfigError, match=r"cannot read the config file .*b.cfg"):
        read_file(tmp_path / "b.cfg")


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="[]=#ab \n\r:,", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found = read_text(text, "x.cfg")
    except ConfigError as e:
        assert "x.cfg, line" in str(e)
    else:
        assert all(key and key == key.strip() for keys in found.values() for key in keys)
