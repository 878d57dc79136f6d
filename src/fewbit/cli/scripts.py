"""Words of the script simulate_quantization.py (Quantization.MXNet), read as words of `fewbit simulate`.

    --exclude-first-conv false    --no-exclude-first-conv    whatever is on or off may have a value
    --input-signed=true           --input-signed
    --fixed-random-seed true      nothing: it is fixed, to 7
    --fixed-random-seed false     --fixed-random-seed N      N is drawn; --json tells it
    --fake-bn                     --merge-bn                 the same when nothing is trained
    --disable-cudnn-autotune      nothing: it is never on

What has no meaning here is refused, with the word to use instead.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from fewbit.errors import UsageError

SEED = "--fixed-random-seed"
ALSO = {"--fake-bn": "--merge-bn"}
ALREADY_SO = ("--disable-cudnn-autotune",)
READERS = (
    "{} is the number of processes that read images; here as many threads as pay read them: leave it out, or limit all "
    "work with --threads"
)
REFUSED = {
    "-j": READERS,
    "--num-data-workers": READERS,
    "--num-workers": READERS,
    "--batch-norm": "{} is a variant of VGG, which is no reference network; all of these have BatchNorm, or GroupNorm "
    "with --use-gn: leave it out",
}
TRUTH = {"true": True, "false": False}


def read_script_words(words: Sequence[str], params: Sequence[Any]) -> list[str]:
    """Words after `fewbit simulate` as its own flags understand them.

    Args:
        params: of the verb, as click has them.

    Raises:
        UsageError: a word that has no meaning here, or a switch with a value that is neither true nor false.
    """
    switches = {name: p for p in params if getattr(p, "is_flag", False) for name in (*p.opts, *p.secondary_opts)}
    found: list[str] = []
    rest = list(words)
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        if name == "--":
            return [*found, name, *rest]
        _refuse(name)
        if name in ALREADY_SO:
            continue
        name = ALSO.get(name, name)
        takes = name in switches or name == SEED
        if takes and not equals and rest and rest[0].lower() in TRUTH:
            equals, value = "=", rest.pop(0)
        if name == SEED and value.lower() in TRUTH:
            found += [] if TRUTH[value.lower()] else _drawn()
        elif name in switches and equals:
            found += _switch(name, value, switches[name])
        else:
            found.append(f"{name}{equals}{value}")
    return found


def _refuse(name: str) -> None:
    known = "-j" if name.startswith("-j") else name  # also -j4
    if known in REFUSED:
        raise UsageError(REFUSED[known].format(known))


def _switch(name: str, value: str, param: Any) -> list[str]:
    """A switch that has a value, as one that has none."""
    if value.lower() not in TRUTH:
        raise UsageError(f"{name} is {value!r}; it must be true or false")
    if TRUTH[value.lower()]:
        return [name]
    other = param.secondary_opts if name in param.opts else param.opts
    return list(other[:1])


def _drawn() -> list[str]:
    return [SEED, str(random.SystemRandom().randrange(2**32))]
