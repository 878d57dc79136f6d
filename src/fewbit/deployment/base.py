"""The registry of deployers: a target, and the function that writes the folder which runs there without fewbit.

    @deployer("ncnn", options={"winograd": Option("6-bit weights where …", default=True)})
    def deploy(job: Job) -> Deployed:
        (job.folder / f"{job.name}.param").write_text(…)
        return Deployed(files=(f"{job.name}.param", …), checks=("1,000 images: …",), notes=())

The flags of the command line are made of this registry: at its top a deployer's file loads neither numpy nor onnx nor
an engine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewbit.config import DataConfig
from fewbit.errors import ConfigError, one_of, unknown

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fewbit.core.plan import Plan
    from fewbit.graph.model import Model


Check = Callable[["Model", "Mapping[str, NDArray[Any]] | None"], None]


@dataclass(frozen=True)
class Option:
    """A word of one deployer.

    Args:
        help: one line. default: what holds if nobody says it; its type (bool, int, str) is that of the option.
        choices: what a word may be.
    """

    help: str
    default: bool | int | str = False
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Job:
    """What a deployer is given.

    Args:
        model: float or integer (Q/DQ). folder: fresh and temporary; it appears whole at its place when all is done.
        name: stem of the network's files. recipe: how images become inputs; the defaults if nobody said.
        samples: some real inputs to check with, first axis = samples; None: make some up. See `samples.sample_feeds`.
        options: all options of the deployer, those that nobody said with their defaults.
        say: tells what is done now. plan: what the integer model follows, if it is known.
        result: what quantizing came to: how many layers became integer, how near to float; "" if it is not known.
    """

    model: Model
    folder: Path
    name: str = "model"
    recipe: DataConfig = field(default_factory=DataConfig)
    samples: Mapping[str, NDArray[Any]] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    say: Callable[[str], None] = lambda text: None
    plan: Plan | None = None
    result: str = ""


@dataclass(frozen=True)
class Deployed:
    """What a deployer made.

    Args:
        files: paths in the folder. checks: what was run to see that it is right, with numbers.
        notes: what the user should know.
    """

    files: tuple[str, ...]
    checks: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Deployment:
    """A folder that was written.

    Args:
        target: the deployer's name. folder: where it lies. sizes: its files → bytes. checks, notes: see `Deployed`.
        result: see `Job`.
    """

    target: str
    folder: Path
    sizes: Mapping[str, int]
    checks: tuple[str, ...]
    notes: tuple[str, ...]
    result: str = ""

    def text(self) -> str:
        """For people."""
        from fewbit.core.tables import size, table, wrapped

        folders: dict[str, list[int]] = {}
        for name, count in self.sizes.items():
            top, slash, _ = name.partition("/")
            folders.setdefault(top + slash, []).append(count)
        rows = [
            (name + (f" ({len(n)} files)" if name.endswith("/") else ""), size(sum(n))) for name, n in folders.items()
        ]
        lines = [f"wrote {self.folder} for target {self.target}", "", table(("<file", ">size"), rows), ""]
        quantized = (self.result,) if self.result else ()
        for title, items in (("quantized", quantized), ("checked", self.checks), ("note", self.notes)):
            lines += [line for item in items for line in wrapped(f"{title}: {item}")]
        return "\n".join(lines).rstrip()

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        return {
            "target": self.target, "folder": str(self.folder), "files": dict(self.sizes),
            "result": self.result, "checks": list(self.checks), "notes": list(self.notes),
        }  # fmt: skip


@dataclass(frozen=True)
class Deployer:
    """One target: its name, its options, the function that writes the folder.

    `check(model, sample)` raises EngineError for a float network that the target cannot take, before it is quantized.
    """

    name: str
    run: Callable[[Job], Deployed]
    options: Mapping[str, Option]
    check: Check | None = None

    def settled(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """All options: those that were given, checked, and defaults for the rest.

        Raises:
            UnknownName: no such option, or a word that is none of its choices. ConfigError: of another type.
        """
        found = {name: option.default for name, option in self.options.items()}
        for name, value in given.items():
            if name not in found:
                raise unknown(f"option of target {self.name}", name, found)
            option = self.options[name]
            if type(value) is not type(option.default):
                kind = {bool: "true or false", int: "a whole number", str: "a word"}[type(option.default)]
                raise ConfigError(f"{name} is {value!r}; it must be {kind}")
            if option.choices:
                one_of(name, str(value), option.choices)
            found[name] = value
        return found


@dataclass(frozen=True)
class Engine:
    """An engine for servers, as the README of its folder speaks of it.

    Args:
        name: of the templates and the runner. title: for people. package: that pip installs.
        cmake: words that tell cmake where it is. library: how to get it for C++.
    """

    name: str
    title: str
    package: str
    cmake: str
    library: str


DEPLOYERS: dict[str, Deployer] = {}

Function = Callable[[Job], Deployed]


def deployer(
    name: str, options: Mapping[str, Option | str] | None = None, check: Check | None = None
) -> Callable[[Function], Function]:
    """Register the function that writes a folder for this target.

    Args:
        options: name → what it is; a text alone is the help of a switch that is off by default.
        check: see `Deployer`.
    """

    def add(function: Function) -> Function:
        assert name not in DEPLOYERS, f"deployer {name!r} is registered twice"
        settled = {k: Option(o) if isinstance(o, str) else o for k, o in (options or {}).items()}
        DEPLOYERS[name] = Deployer(name, function, settled, check)
        return function

    return add


def deployer_named(name: str) -> Deployer:
    """The deployer of a target; an unknown one offers the nearest."""
    return DEPLOYERS[one_of("deployment target", name, DEPLOYERS)]
