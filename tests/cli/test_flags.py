"""Every config field is a flag that arrives in the config; a new field is tested as soon as it is there."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, get_args, get_origin, get_type_hints

import pytest
import typer

from fewbit.cli.flags import flag, read_overrides, with_flags
from fewbit.config import DataConfig, QuantConfig, default_of
from fewbit.errors import ConfigError, UnknownName

KINDS = (QuantConfig, DataConfig)
FIELDS = [(kind, f) for kind in KINDS for f in fields(kind)]
IDS = [f.name for _, f in FIELDS]


def parse(*words: str) -> dict[str, Any]:
    """What a verb with all flags is handed."""
    heard: list[dict[str, Any]] = []

    @with_flags(*KINDS)
    def verb(*, words: dict[str, Any]) -> None:
        heard.append(words)

    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command()(verb)
    typer.main.get_command(app).main(args=list(words), standalone_mode=False)
    return heard[0]


def sample(kind: type, f: Any) -> tuple[list[str], Any]:
    """Words that set a field to something that is not its default, and what the field is then."""
    hint = get_type_hints(kind)[f.name]
    plain = next((a for a in get_args(hint) if a is not type(None)), hint) if type(None) in get_args(hint) else hint
    if "choices" in f.metadata:
        return [flag(f.name), f.metadata["choices"][-1]], f.metadata["choices"][-1]
    if plain is bool:
        wish = not default_of(f)
        return [flag(f.name) if wish else f"--no-{flag(f.name)[2:]}"], wish
    if get_origin(plain) is tuple:
        text, value = ("1.5,2", (1.5, 2.0)) if get_args(plain)[0] is float else ("a, b", ("a", "b"))
        return [flag(f.name), text], value
    if plain in (int, float, str):
        said = {int: "7", float: "77.5", str: "openvino"}[plain]
        return [flag(f.name), said], plain(said)
    return [flag(f.name), "a/*=bit_num:16,symmetric:true"], {"a/*": {"bit_num": 16, "symmetric": True}}


@pytest.mark.parametrize(("kind", "f"), FIELDS, ids=IDS)
def test_a_field_is_a_flag_that_arrives(kind: type, f: Any) -> None:
    words, value = sample(kind, f)
    assert parse(*words) == {f.name: value}
    assert value != default_of(f) or len(f.metadata.get("choices", ())) == 1


@pytest.mark.parametrize(("kind", "f"), FIELDS, ids=IDS)
def test_a_field_has_a_help_text(kind: type, f: Any) -> None:
    assert f.metadata["help"]


def test_a_flag_that_is_not_given_says_nothing() -> None:
    assert parse() == {}


def test_lists_may_be_given_in_parts() -> None:
    assert parse("--exclude-layers", "a,b", "--exclude-layers", "c") == {"exclude_layers": ("a", "b", "c")}


def test_no_numbers_are_an_error_that_names_them() -> None:
    with pytest.raises(ConfigError, match="normalize_mean is '1,x'; it must be numbers with commas"):
        parse("--normalize-mean", "1,x")


def test_a_field_that_is_added_is_a_flag_for_free() -> None:
    @dataclass(frozen=True)
    class More(QuantConfig):
        new_word: int | None = field(default=None, metadata={"help": "something new"})

    heard: list[dict[str, Any]] = []

    def verb(*, words: dict[str, Any]) -> None:
        heard.append(words)

    from fewbit.cli import flags

    flags.TITLES[More] = "More"
    try:
        app = typer.Typer(add_completion=False, rich_markup_mode=None)
        app.command()(with_flags(More)(verb))
        typer.main.get_command(app).main(args=["--new-word", "3"], standalone_mode=False)
    finally:
        del flags.TITLES[More]
    assert heard == [{"new_word": 3}]


# -- overrides ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "found"),
    [
        (["layer4/*=bit_num:16"], {"layer4/*": {"bit_num": 16}}),
        (["a=signed:true,granularity:tensor"], {"a": {"signed": True, "granularity": "tensor"}}),
        (["a=bit_num:4", "a=float:false", "b=bit_num:2"], {"a": {"bit_num": 4, "float": False}, "b": {"bit_num": 2}}),
        (["x=y=bit_num:4"], {"x=y": {"bit_num": 4}}),
    ],
)  # fmt: skip
def test_overrides_are_read(given: list[str], found: dict[str, Any]) -> None:
    assert read_overrides(given) == found
    assert QuantConfig(overrides=found).overrides == found


@pytest.mark.parametrize("text", ["layer4", "=bit_num:4", "a=bit_num", "a=bit_num:", "a=:4", "a=bit_num:4,"])
def test_another_form_is_an_error_that_shows_the_right_one(text: str) -> None:
    with pytest.raises(ConfigError, match=r"it must look like 'layer4/\*=bit_num:16") as e:
        read_overrides([text])
    assert repr(text) in str(e.value)


def test_an_unknown_key_offers_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean 'bit_num'"):
        QuantConfig(overrides=read_overrides(["a=bitnum:4"]))
