"""The verbs put together. A new verb is a file here with a function `run`, and its name in `GROUPS`.

A verb that takes words of another tool has a function `READ`, too: (words, parameters of the verb) → words as flags.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from fewbit import __version__

GROUPS = {
    "Make an integer network": ("quantize", "calibrate", "apply", "train"),
    "See what it costs": ("report", "compare", "evaluate", "verify", "sensitivity", "explain"),
    "See what it gains": ("benchmark", "sizes"),
    "Look before": ("inspect", "plot", "targets", "simulate"),
    "Take it elsewhere": ("deploy", "convert", "expand"),
    "Data and help": ("records", "demo", "completion"),
}
"""In the order of the help."""

VERBS = tuple(verb for verbs in GROUPS.values() for verb in verbs)

HELP = "Trained float networks in, small and fast integer networks out, with proof of what that cost."

SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


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


class Verbs(TyperGroup):
    """All verbs; each is imported when it is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Their names."""
        return list(VERBS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """One of them; None if there is none of that name."""
        if cmd_name in VERBS and cmd_name not in self.commands:
            self.commands[cmd_name] = verb_command(cmd_name)
        return self.commands.get(cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The verb that was meant; the nearest ones are offered among all of them."""
        for verb in VERBS if args[0] not in VERBS else ():
            self.get_command(ctx, verb)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write them group by group."""
        wide = max(map(len, VERBS))
        for title, verbs in GROUPS.items():
            with formatter.section(title):
                limit = formatter.width - 6 - wide
                formatter.write_dl(
                    [(f"{v:<{wide}}", self.get_command(ctx, v).get_short_help_str(limit)) for v in verbs]
                )


def reading(read: Callable[[Sequence[str], Sequence[Any]], list[str]]) -> type[Sectioned]:
    """The class of a verb's command whose words are read anew before they are taken as flags."""

    class Reading(Sectioned):
        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            return super().parse_args(ctx, read(args, self.get_params(ctx)))

    return Reading


def _app(**more: Any) -> Any:
    return typer.Typer(
        add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, context_settings=SETTINGS, **more
    )


def verb_command(verb: str) -> Any:
    """One verb, ready to be run."""
    module = import_module(f"fewbit.cli.{verb}")
    read = getattr(module, "READ", None)
    app = _app()
    app.command(verb, cls=reading(read) if read else Sectioned, context_settings=SETTINGS)(module.run)
    return typer.main.get_command(app)


def command() -> Any:
    """The whole command line, ready to be run."""
    app = _app(help=HELP, cls=Verbs)
    app.callback()(_top)
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
