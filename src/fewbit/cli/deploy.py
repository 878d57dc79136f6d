"""`fewbit deploy`: a folder that runs on a target without fewbit.

Flags of single targets are made of the registry of deployers, as those of settings are made of the configs.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from fewbit.cli.bar import work
from fewbit.cli.flags import METAVARS, flag, with_flags
from fewbit.cli.given import Config, Data, InputShapes, Json, Quiet, read_shapes
from fewbit.cli.screen import answer
from fewbit.config import DataConfig
from fewbit.deployment import DEPLOYERS, Option

Folder = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FOLDER", help="Where it goes; it appears whole.", show_default=False),
]
Target = Annotated[
    str | None, typer.Option(metavar="NAME", help=f"What it runs on: {', '.join(DEPLOYERS)}.", show_default=False)
]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="FOLDER may hold other files; they stay, but for those of the same name.")
]

TITLE = "Options of single targets"


def with_options(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Give a verb a flag for each option of each deployer; those that were said arrive as the dict `options`."""
    rows: dict[str, list[tuple[str, Option]]] = {}
    for target, deployer in DEPLOYERS.items():
        for name, option in deployer.options.items():
            rows.setdefault(name, []).append((target, option))
    own = [p for p in inspect.signature(verb, eval_str=True).parameters.values() if p.name != "options"]
    made = [_parameter(name, options) for name, options in rows.items()]
    at = next(i for i, p in enumerate(own) if p.name == "words")

    @functools.wraps(verb)
    def call(**given: Any) -> Any:
        said = {name: given.pop(name) for name in rows}
        return verb(**given, options={k: v for k, v in said.items() if v is not None})

    params = [*own[:at], *made, *own[at:]]
    call.__signature__ = inspect.Signature(params)  # type: ignore[attr-defined]
    call.__annotations__ = {p.name: p.annotation for p in params}
    return call


def _parameter(name: str, options: list[tuple[str, Option]]) -> inspect.Parameter:
    kind = type(options[0][1].default)
    assert all(type(o.default) is kind for _, o in options), f"option {name!r} has two types"
    choices = tuple(dict.fromkeys(c for _, o in options for c in o.choices))
    names = f"{flag(name)}/--no-{flag(name)[2:]}" if kind is bool else flag(name)
    metavar = "|".join(choices) if choices else None if kind is bool else METAVARS[kind]
    texts = [f"{target}: {o.help} [default: {str(o.default).lower()}]" for target, o in options]
    option = typer.Option(names, help="; ".join(texts), metavar=metavar, rich_help_panel=TITLE, show_default=False)
    return inspect.Parameter(
        name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )


@with_flags(DataConfig, without=("batch_size",))
@with_options
def run(
    *,
    model: Annotated[
        Path,
        typer.Argument(metavar="MODEL", help="The network: quantized, or float and --data.", show_default=False),
    ],
    target: Target = None,
    output: Folder = None,
    data: Data = None,
    config: Config = None,
    input_shapes: InputShapes = None,
    name: Annotated[str, typer.Option(metavar="WORD", help="What the network's files are called.")] = "model",
    overwrite: Overwrite = False,
    json: Json = False,
    quiet: Quiet = False,
    options: dict[str, Any],
    words: dict[str, Any],
) -> None:
    """Write a folder that runs on a target without fewbit.

    It holds the network, programs that run it, samples to check with, and a README. A float network is quantized for
    the target on the way, if there is data; settings come from the config file.
    """
    from fewbit import api
    from fewbit.errors import UsageError

    if target is None:
        raise UsageError(f"there is no target; give one with --target NAME: {', '.join(DEPLOYERS)}")
    if output is None:
        raise UsageError("there is no output; give a folder with -o FOLDER")
    _check_inputs(output, (model, config), data, name if overwrite else None)
    with work("reading", None, quiet=quiet) as (_, step):
        tell = (lambda what: step(what, 0, 0)) if step is not None else None
        found = api.deploy(
            model, target, output, data=data, config=config, name=name, overwrite=overwrite,
            input_shapes=read_shapes(input_shapes), say=tell, **options, **words,
        )  # fmt: skip
    answer(found.text, found.to_json, json=json, quiet=quiet)


def _check_inputs(out: Path, read: Iterable[Path | None], data: str | None, name: str | None) -> None:
    """Refuse to write a folder anew that holds what is read, as a file that would go or be replaced.

    Args:
        name: what the network's files are called if files that are not fewbit's may be replaced, too.
    """
    from fewbit.cli.outputs import data_paths
    from fewbit.core.writing_folder import written
    from fewbit.errors import UsageError
    from fewbit.graph.external import external_files

    given = [f for f in read if f is not None]
    files = [*given, *(w for f in given for w in external_files(f)), *data_paths(data)]
    place = out.resolve()
    inside = [f.resolve().relative_to(place).as_posix() for f in files if f.exists() and place in f.resolve().parents]
    ours = written(out) if inside else set()
    for file in inside:
        named = name is not None and (file.startswith(f"{name}.") or file == "plan.json")
        if named or any(known == file or known.startswith(f"{file}/") for known in ours):
            raise UsageError(f"the folder {out} is written anew, and {file} in it is read; give another folder")
