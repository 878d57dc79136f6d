"""The verbs put together. A new verb is a file here with a function `run`, and its name in `VERBS`.

A verb that takes words of another tool has a function `READ`, too: (words, parameters of the verb) → words as flags.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from fewbit import __version__

VERBS = (
    "quantize", "calibrate", "apply", "compare", "verify", "sensitivity", "evaluate", "benchmark", "deploy", "inspect",
    "targets", "train", "convert", "expand", "sizes", "explain", "simulate", "records", "demo",
)  # fmt: skip
"""In the order of use, which is the order in the help."""

HELP = "Trained float networks in, small and fast integer networks out, with proof of what that cost."


class Sectioned(TyperCommand):
    """A verb whose help shows its flags under headings: its own first, then those of each config."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the sections."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                usual = "Arguments" if param.param_type_name == "argument" else "Options"
                sections.setdefault(getattr(param, "rich_help_panel", None) or usual, []).append(record)
        own = ("Arguments", "Options")
        for title in sorted(sections, key=lambda t: own.index(t) if t in own else len(own)):
            with formatter.section(title):
                formatter.write_dl(sections[title], col_max=36)


def reading(read: Callable[[Sequence[str], Sequence[Any]], list[str]]) -> type[Sectioned]:
    """The class of a verb's command whose words are read anew before they are taken as flags."""

    class Reading(Sectioned):
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            return super().parse_args(ctx, read(args, self.get_params(ctx)))

    return Reading


def command() -> Any:
    """The whole command line, ready to be run."""
    app = typer.Typer(
        help=HELP,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    )
    app.callback()(_top)
    for verb in VERBS:
        module = import_module(f"fewbit.cli.{verb}")
        read = getattr(module, "READ", None)
        app.command(verb, cls=reading(read) if read else Sectioned)(module.run)
    return typer.main.get_command(app)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"fewbit {__version__}")
        raise typer.Exit


def _top(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


_top.__doc__ = HELP
