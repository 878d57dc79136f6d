"""The errors fewbit raises. Each says what was given, what is allowed and what to do about it.

FewbitError
├── UsageError            a word or value the caller chose (command line: exit code 2)
│   ├── UnknownName       no such layer, operator, observer, target …; the nearest match is offered
│   └── ConfigError       a setting out of range, or settings that exclude each other
├── ModelError            a model file or graph
│   ├── ModelFormatError  not a model, truncated, corrupt
│   ├── UnsupportedModel  a legal model that fewbit cannot take
│   ├── AlreadyQuantized  quantizing it again would hide the first loss
│   └── UnsafePath        external data outside of the model's own folder
├── DataError             calibration or evaluation data
│   ├── EmptyData         no sample at all
│   └── BadSample         one sample is unusable; names the sample and the tensor
├── NotCalibrated         a range was asked for before any data was seen
├── PlanError             a plan that does not fit the model, or is damaged
├── EngineError           an engine refused or failed
│   └── EngineMissing     an optional engine is not installed; names the extra
├── VerificationError     what was made does not compute what it should
└── OutputError           the result cannot be written

FewbitWarning             what the user should know but need not act on

A message is `what is wrong; what to do`. Where there is nothing more special to do than its class says, the command
line adds that (`remedy`), or `see: fewbit VERB --help` for what the caller chose.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

TELLS = re.compile(r"; |\? |\?$|\bmust\b|\(allowed: |pip install|[a-z)]\. [A-Z]")
"""What only messages have that say what to do, or what would be right."""


class FewbitError(Exception):
    """Base of every error that fewbit raises on purpose."""

    exit_code = 1
    remedy = "see: fewbit --help"

    def says_what_to_do(self) -> bool:
        """Whether the message itself does."""
        return TELLS.search(str(self)) is not None


class UsageError(FewbitError, ValueError):
    """A word or value that the caller chose is not usable."""

    exit_code = 2


class UnknownName(UsageError, KeyError):
    """A name that stands for nothing: layer, operator, observer, target, key."""

    def __str__(self) -> str:  # KeyError would show the repr
        return str(self.args[0]) if self.args else ""


class ConfigError(UsageError):
    """A setting is out of range or contradicts another one."""


class ModelError(FewbitError):
    """Something is wrong with a model."""

    remedy = "fewbit inspect MODEL shows what the network holds"


class ModelFormatError(ModelError):
    """The file is not a model, or is truncated or corrupt."""

    remedy = "copy, download or export the file anew"


class UnsupportedModel(ModelError):
    """The model is legal but beyond what fewbit takes."""

    remedy = "export the network in another way, or without that part"


class AlreadyQuantized(ModelError):
    """The model holds quantized operators already."""

    remedy = "hand over the float network that it was made of"


class UnsafePath(ModelError):
    """The model points to a file outside of its own folder."""

    remedy = "put the files that belong to the model into its folder"


class DataError(FewbitError):
    """Something is wrong with calibration or evaluation data."""

    remedy = "mend the data, or give other data"


class EmptyData(DataError):
    """The data holds no sample."""

    remedy = "give data with at least one sample"


class BadSample(DataError):
    """One sample cannot be used."""

    remedy = "mend that sample, or take it out of the data"


class NotCalibrated(FewbitError):
    """A range is needed and no data has been seen."""

    remedy = "calibrate on data first"


class PlanError(FewbitError):
    """A plan does not fit the model, or its file is damaged."""

    remedy = "make the plan anew from this network, with fewbit calibrate"


class EngineError(FewbitError):
    """An engine refused the model or failed while running it."""

    remedy = "try another engine or target, or a newer release of this one"


class EngineMissing(EngineError):
    """An optional engine is not installed."""

    def __init__(self, engine: str, extra: str) -> None:
        super().__init__(f"{engine} is not installed; it comes with: pip install 'fewbit[{extra}]'")


class VerificationError(FewbitError):
    """What was made does not compute what it should."""

    remedy = "try another target, and please report it"


class OutputError(FewbitError):
    """A result cannot be written; nothing was left behind."""

    remedy = "give another place, or make room and permission there"


class FewbitWarning(UserWarning):
    """The category of every warning that fewbit gives."""


def unknown(kind: str, name: object, allowed: Iterable[str], *, hint: str = "") -> UnknownName:
    """Build the error for a name that is not among `allowed`, with the nearest match.

    Long lists are cut to the nearest few, so that the message stays readable.
    """
    names = sorted({str(a) for a in allowed})
    near = difflib.get_close_matches(str(name), names, n=3, cutoff=0.5)
    text, end = f"unknown {kind} {str(name)!r}", ". "
    if near:
        text, end = text + "; did you mean " + " or ".join(repr(n) for n in near) + "?", " "
    if names and len(names) <= 30:
        text, end = f"{text} (allowed: {', '.join(names)})", ". "
    elif not names:
        text += " (there are none)"
    return UnknownName(text + (f"{end}{hint}" if hint else ""))


def one_of(kind: str, name: str, allowed: Iterable[str]) -> str:
    """Return `name` if it is among `allowed`, else raise `UnknownName` with the nearest match."""
    names = tuple(allowed)
    if name not in names:
        raise unknown(kind, name, names)
    return name
