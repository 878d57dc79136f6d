"""Flags out of config fields: a new field is a new flag, with its help and its choices, and no list to keep in step.

    calib_mode: str              --calib-mode naive|entropy|…
    num_calib_batches: int|None  --num-calib-batches INT
    exclude_layers: tuple        --exclude-layers A,B           may be repeated
    skip_bad: bool               --skip-bad / --no-skip-bad
    overrides: Mapping           --override 'GLOB=key:value,…'  may be repeated

A flag that is not given is None and says nothing: a config file, or the field's default, decides. Words are checked by
the configs themselves, so that the message is the same in Python.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, fields
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer

from fewbit.config import DataConfig, QuantConfig, default_of
from fewbit.config.simulate import SimulateConfig
from fewbit.config.train import TrainConfig
from fewbit.errors import ConfigError

TITLES = {
    QuantConfig: "How to quantize", SimulateConfig: "What is simulated", TrainConfig: "How to train",
    DataConfig: "How data is read",
}  # fmt: skip
METAVARS = {int: "INT", float: "NUMBER", str: "WORD"}
OVERRIDE = "GLOB=key:value"

Verb = Callable[..., Any]


def with_flags(*kinds: type, without: Sequence[str] = ()) -> Callable[[Verb], Verb]:
    """Give a verb a flag for each field of these configs; those that were said arrive as the dict `words`.

    Args:
        kinds: of config; a field that two have is that of the first. without: fields that the verb has no use for.
    """

    def add(verb: Verb) -> Verb:
        own = [p for p in inspect.signature(verb, eval_str=True).parameters.values() if p.name != "words"]
        hints, made = dict[str, Any](), []
        for kind in kinds:
            types = get_type_hints(kind)
            new = [f for f in fields(kind) if f.name not in hints and f.name not in without]
            hints |= {f.name: types[f.name] for f in new}
            made += [_parameter(f, types[f.name], TITLES[kind]) for f in new]

        @functools.wraps(verb)
        def call(**given: Any) -> Any:
            said = {name: given.pop(name) for name in hints}
            words = {k: _value(k, hints[k], v) for k, v in said.items() if v is not None and v != []}
            return verb(**given, words=words)

        params = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in (*own, *made)]
        call.__signature__ = inspect.Signature(params)  # type: ignore[attr-defined]
        call.__annotations__ = {p.name: p.annotation for p in params}
        return call

    return add


def flag(field: str) -> str:
    """The flag of a config field."""
    return "--override" if field == "overrides" else "--" + field.replace("_", "-")


def _parameter(f: Field[Any], hint: Any, title: str) -> inspect.Parameter:
    kind = _plain(hint)
    choices = f.metadata.get("choices")
    names, metavar = flag(f.name), "|".join(choices) if choices else METAVARS.get(kind)
    if kind is bool:
        names += f"/--no-{names[2:]}"
    elif get_origin(kind) is tuple:
        kind, metavar = list[str], "X,Y,…" if get_args(kind)[0] is float else "A,B,…"
    elif kind not in METAVARS:
        kind, metavar = list[str], f"'{OVERRIDE}'"
    also = f.metadata.get("also", ())
    option = typer.Option(names, *also, help=_help(f), metavar=metavar, rich_help_panel=title, show_default=False)
    return inspect.Parameter(
        f.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )


def _help(f: Field[Any]) -> str:
    default = default_of(f)
    text = str(f.metadata["help"])
    shown = default not in (None, False, (), {}) and "default" not in text
    return f"{text} [default: {default}]" if shown else text


def _plain(hint: Any) -> Any:
    """`int | None` → int."""
    found = [a for a in get_args(hint) if a is not type(None)]
    return found[0] if type(None) in get_args(hint) else hint


def _value(name: str, hint: Any, given: Any) -> Any:
    """What a flag's text means to the config."""
    kind = _plain(hint)
    if get_origin(kind) is tuple:
        parts = [part.strip() for text in given for part in text.split(",") if part.strip()]
        return _numbers(name, parts) if get_args(kind)[0] is float else tuple(parts)
    return read_overrides(given) if isinstance(given, list) else given


def _numbers(name: str, parts: Sequence[str]) -> tuple[float, ...]:
    try:
        return tuple(float(p) for p in parts)
    except ValueError:
        raise ConfigError(f"{name} is {','.join(parts)!r}; it must be numbers with commas between them") from None


def read_overrides(given: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
    """`layer4/*=bit_num:16,symmetric:true` → {"layer4/*": {"bit_num": 16, "symmetric": True}}.

    Raises:
        ConfigError: a text of another form.
    """
    found: dict[str, dict[str, Any]] = {}
    for text in given:
        glob, _, settings = text.rpartition("=")
        pairs = [part.partition(":") for part in settings.split(",")]
        if not glob or not all(key and value for key, _, value in pairs):
            raise ConfigError(f"override is {text!r}; it must look like 'layer4/*=bit_num:16,symmetric:true'")
        found.setdefault(glob, {}).update((key.strip(), _scalar(value.strip())) for key, _, value in pairs)
    return found


def _scalar(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    return int(text) if text.lstrip("-").isdecimal() else text
