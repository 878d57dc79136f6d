"""`fewbit completion`: what the Tab key needs to know, for bash, zsh and fish.

The script that is printed asks `fewbit completion SHELL --next -- WORDS` at each Tab, so that it never goes stale:
verbs, flags, and the words that a flag takes; nothing means that the shell completes names of files.
"""

from __future__ import annotations

import sys
from itertools import pairwise
from typing import Annotated, Any

import typer

from fewbit.errors import one_of

BASH = """\
# Tab completion of fewbit for bash
_fewbit() {
    local IFS=$'\\n'
    COMPREPLY=($(fewbit completion bash --next -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *= ]] && compopt -o nospace
}
complete -o bashdefault -o default -F _fewbit fewbit
"""

ZSH = """\
#compdef fewbit
# Tab completion of fewbit for zsh
_fewbit() {
    local -a found
    found=("${(@f)$(fewbit completion zsh --next -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
    if [[ -n "${found[1]}" ]]; then _describe -V fewbit found; else _files; fi
}
if [[ "${funcstack[1]}" == _fewbit ]]; then _fewbit; else compdef _fewbit fewbit; fi
"""

FISH = """\
# Tab completion of fewbit for fish
function __fewbit_next
    set -l words (commandline -opc) (commandline -ct)
    set -l found (fewbit completion fish --next -- $words[2..-1] 2>/dev/null)
    if test (count $found) -gt 0
        printf '%s\\n' $found
    else
        __fish_complete_path (commandline -ct)
    end
end
complete -c fewbit -f -a '(__fewbit_next)'
"""

SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}

ENGINES = ("onnxruntime", "openvino", "ncnn")
DATASETS = ("fashion-mnist", "mnist", "cifar10", "cifar100", "imagenet")
NAMES = {
    "engine": ENGINES,
    "engines": ENGINES,
    "target": ("onnxruntime", "onnxruntime-avx2", "onnxruntime-arm", "ncnn", "ncnn-8bit", "openvino", "tensorrt"),
    "deploy target": ("ncnn", "onnxruntime", "openvino", "tensorrt"),
    "train dataset": DATASETS,
    "simulate dataset": DATASETS,
    "forms": ("float", "weight-8", "weight-6", "weight-4", "mixed", "mixed-coded", "dynamic", "full"),
    "device": ("cpu", "cuda", "auto"),
    "sweep_quant_type": ("layer", "channel", "group"),
    "sweep_calib_mode": ("naive", "kl"),
    "sweep_merge_bn": ("no", "yes"),
}
"""Words of flags that take a name; written down here, since the registries they stand in take long to import."""

NAMES["targets name"] = NAMES["target"]
LISTS = ("engines", "forms", "sweep_quant_type", "sweep_calib_mode", "sweep_merge_bn")
"""Flags that take several, with commas."""


def run(
    *,
    shell: Annotated[str, typer.Argument(metavar="bash|zsh|fish", help="For which shell.", show_default=False)],
) -> None:
    """Print a script that lets the Tab key complete fewbit."""
    sys.stdout.write(SCRIPTS[one_of("shell", shell, SCRIPTS)])


run.__doc__ = f"""{run.__doc__}

Verbs, flags and the words they take. To have it in every new shell:

\b
fewbit completion bash > ~/.local/share/bash-completion/completions/fewbit
fewbit completion zsh > "${{fpath[1]}}/_fewbit"
fewbit completion fish > ~/.config/fish/completions/fewbit.fish
"""  # \b keeps the lines behind it apart


def answer_tab(shell: str, words: list[str]) -> int:
    """Print what may follow, one a line, as the shell's script wants it.

    Args:
        words: behind `fewbit`, the last one as far as it is typed.
    """
    for word, about in following(words or [""], about=shell != "bash"):
        if shell == "zsh":
            word = word.replace("\\", "\\\\").replace(":", "\\:")
        print(word + {"zsh": ":", "fish": "\t"}[shell] + about if about and shell != "bash" else word)
    return 0


def following(words: list[str], *, about: bool = False) -> list[tuple[str, str]]:
    """What may stand where the last word is, with a remark on it; empty: a file, or something only the user knows.

    Args:
        words: behind `fewbit`, the last one as far as it is typed. Bash hands `--flag=x` over as three.
        about: verbs with their remarks, which takes longer.
    """
    from fewbit.cli.app import VERBS, verb_command

    words = _joined(words)
    last = words[-1]
    if len(words) == 1:
        flags = ("--help", "--version") if last.startswith("-") else ()
        return _matching(last, [*((v, _about(v) if about else "") for v in VERBS), *((f, "") for f in flags)])
    if words[0] not in VERBS:
        return []
    params = verb_command(words[0]).params
    named = {name: p for p in params for name in (*p.opts, *p.secondary_opts) if name.startswith("-")}
    flag, equals, part = last.partition("=")
    if equals and flag in named:
        return [(f"{flag}={w}", "") for w, _ in _values(words[0], named[flag], part)]
    if words[-2] in named and not named[words[-2]].is_flag:
        return _values(words[0], named[words[-2]], last)
    if last.startswith("-"):
        found = [(name, p.help or "") for name, p in named.items() if not getattr(p, "hidden", False)]
        return _matching(last, [*found, ("--help", "Show this message and exit.")])
    free = [p for p in params if p.param_type_name == "argument" and not p.hidden]
    given = sum(not w.startswith("-") and not _takes(named, before) for before, w in pairwise(words[:-1]))
    return _values(words[0], free[given], last) if given < len(free) else []


def _joined(words: list[str]) -> list[str]:
    """`--flag`, `=`, `x` → `--flag=x`, but only for what stands in front; the last stays what bash replaces."""
    found: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "=" and found and found[-1].startswith("--"):
            if rest:
                continue  # the value stands behind its flag, as if there were a space
            found.append("")
        else:
            found.append(word)
    return found


def _takes(named: dict[str, Any], word: str) -> bool:
    return word in named and not named[word].is_flag


def _values(verb: str, param: Any, part: str) -> list[tuple[str, str]]:
    """Words that a parameter takes and that begin as typed; of lists the last one."""
    metavar = (param.metavar or "").strip("[]")
    words = NAMES.get(f"{verb} {param.name}") or NAMES.get(param.name) or (metavar.split("|") if "|" in metavar else ())
    before, comma, part = part.rpartition(",") if param.name in LISTS else ("", "", part)
    return [(before + comma + w, "") for w in words if w.startswith(part)]


def _matching(part: str, found: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return [(word, about) for word, about in found if word.startswith(part)]


def _about(verb: str) -> str:
    from fewbit.cli.app import verb_command

    return str(verb_command(verb).get_short_help_str(80))
