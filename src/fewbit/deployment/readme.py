"""README.md of a folder for a server: everything that somebody who gets the folder, and nothing else, has to know."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fewbit import __version__
from fewbit.core.tables import size
from fewbit.deployment.about import image_text
from fewbit.deployment.base import Engine, Job

FORMS = {
    "float": "float32",
    "qdq": "integers, written as QuantizeLinear / DequantizeLinear pairs that the engine merges into integer layers",
    "qoperator": "integers, written as the integer operators themselves (QLinearConv, …)",
    "dynamic": "integers, the ranges of what they are multiplied with measured at run time",
    "packed": "float32, its weights stored in few bits; engines unpack them once, when they load the network",
    "ort": "ONNX Runtime's own format, for builds without the ONNX parser; integers as in the ONNX form",
}


def readme(job: Job, engine: Engine, facts: Mapping[str, Any], checks: Sequence[str], notes: Sequence[str]) -> str:
    """The whole text."""
    model = str(facts["model"])
    parts = [
        f"# {job.name} on {engine.title}",
        f"`{model}`, {_weight(job.folder, model)}; {FORMS[facts['form']]}. Written by fewbit {__version__}, which is "
        "not needed to run it.",
        f"{job.result}." if job.result else "",
        _tensors("inputs", facts["inputs"]),
        *_images(facts["inputs"]),
        _tensors("outputs", facts["outputs"]),
        _python(engine, facts),
        _cpp(engine, facts, model),
        _check(checks),
        _list("Notes", notes),
        _files(job, model),
    ]
    return "\n\n".join(p for p in parts if p) + "\n"


def _weight(folder: Path, model: str) -> str:
    return size(sum(f.stat().st_size for f in folder.glob(f"{model}*")))


def _tensors(title: str, entries: Sequence[Mapping[str, Any]]) -> str:
    rows = [f"| `{e['name']}` | {e['type']} | {e['shape']} |".replace("'", "") for e in entries]
    return "\n".join([f"## {title.capitalize()}", "", "| name | type | shape |", "|---|---|---|", *rows])


def _images(inputs: Sequence[Mapping[str, Any]]) -> list[str]:
    return [f"Images become `{i['name']}` like this: {image_text(i['image'])}." for i in inputs if i["image"]]


def _python(engine: Engine, facts: Mapping[str, Any]) -> str:
    files = " ".join(shlex.quote(f"{i['name']}={i['file']}") for i in facts["inputs"])
    own = files if len(facts["inputs"]) > 1 else facts["inputs"][0]["file"]
    lines = ["python run.py              # the first sample of inputs/", f"python run.py {own}"]
    if any(i["image"] for i in facts["inputs"]) and len(facts["inputs"]) == 1:
        lines.append("python run.py photo.jpg")
    lines.append("python run.py --random --threads 1 --time")
    shell = "\n".join(["```sh", f"pip install numpy pillow {engine.package}", *lines, "```"])
    return f"## Python\n\n{shell}\n\n`network.py` is the part for a program of your own: `Network(file).run(feeds)`."


def _cpp(engine: Engine, facts: Mapping[str, Any], model: str) -> str:
    files = " ".join(f"inputs/0/{i['file']}" for i in facts["inputs"])
    return "\n".join([
        "## C++", "", engine.library, "",
        "```sh",
        f"cmake -S cpp -B build {engine.cmake}".rstrip(),
        "cmake --build build",
        f"mkdir -p out && build/run --threads 1 --out out {shlex.quote(model)} {files}",
        "```", "",
        "Inputs are `.npy` files or raw bytes, one file for each input in the order above; outputs are written as "
        "`output0.npy`, … in the order above.",
    ])  # fmt: skip


def _check(checks: Sequence[str]) -> str:
    text = (
        "```sh\npython verify.py\n```\n\nruns the samples in `inputs/` and compares with `expected/`, which is what "
        "the machine answered that wrote this folder. Exit code 1: they differ by more than `network.json` allows, or "
        "a file is no longer what `SHA256SUMS` says; 2: the folder is incomplete."
    )
    return "## Check\n\n" + text + "\n\nWhat was checked when this folder was written:\n\n" + _items(checks)


def _list(title: str, items: Sequence[str]) -> str:
    return f"## {title}\n\n{_items(items)}" if items else ""


def _items(items: Sequence[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def _files(job: Job, model: str) -> str:
    found = [
        (model, "the network"),
        ("plan.json", "what is integer in it, in which format and range, and why") if job.plan is not None else None,
        ("network.json", "inputs, outputs, how images become inputs: what the scripts read"),
        ("run.py, feeds.py, network.py, preprocess.py, verify.py", "Python, without fewbit"),
        ("cpp/", "the same in C++17"),
        ("inputs/, expected/", "samples to check with"),
        ("SHA256SUMS", "`sha256sum --check SHA256SUMS`"),
    ]
    return "## Files\n\n" + "\n".join(f"- `{row[0]}`: {row[1]}" for row in found if row is not None)
