"""Benchmark pages: bench/results/NAME.md as its script wrote it, with a title, its question and its machine on top.

    # calibration                          # Calibration: time and memory
                                           How long does calibration take …?
    AMD EPYC, …; fewbit 0.1.0, …; date  ⇒  Machine, versions, date, script, calibration.json: a small table
    table                                  table

Machine, versions and date come from NAME.json. Nothing is kept here, so a new result has its page, and its line in the
index, with the next build.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

FOLDER = "bench/results/"
INDEX = "docs/benchmarks"
MARK = "<!-- results -->"
TITLES = {
    "accuracy": "Accuracy at each effort, beside other tools",
    "caffe": "Caffe networks beside OpenCV",
    "calibration": "Calibration: time and memory",
    "deploy": "What each target makes of a network",
    "dynamic": "Ranges at run time",
    "fse": "The entropy coder",
    "latency": "Latency in two engines",
    "measured": "Smart mode by measuring",
    "mixed_bit": "Mixed-bit weights",
    "mxnet": "Beside MXNet, same checkpoints",
    "mxnet_ssd": "SSD300-VGG16 beside MXNet",
    "mxnet_zoo": "MXNet's model zoo",
    "ncnn": "ncnn: runtime against simulation",
    "networks": "Real networks in two engines",
    "operators-onnxruntime": "Operators in ONNX Runtime",
    "operators-openvino": "Operators in OpenVINO",
    "packed": "Packed weights: size, loading, speed",
    "qat": "What retraining wins back",
    "qat_step": "What a training step costs",
    "simulate": "Simulated bit widths",
    "sizes": "All forms of a network side by side",
    "tensorrt": "Target tensorrt: legality and error",
    "tflite": "TFLite networks beside LiteRT",
    "weight_only": "Weights alone, 8 to 2 bits",
}
"""A result that has no title here goes by its name."""
SCRIPTS = {
    "mxnet": "mxnet/compare.py",
    "mxnet_ssd": "mxnet/ssd_check.py",
    "mxnet_zoo": "mxnet/zoo_check.py",
    "operators-onnxruntime": "operators.py",
    "operators-openvino": "operators.py",
}
"""Where the script is called otherwise than NAME.py and NAME_check.py."""
ROW = re.compile(r"^\| (`.+?) \| (.+?) \|", re.M)


def title_of(name: str) -> str:
    """The heading of a result's page."""
    return TITLES.get(name, name.replace("_", " "))


def script_of(name: str, bench: Path) -> str:
    """The script that writes a result, below bench/."""
    found = [SCRIPTS.get(name, ""), f"{name}.py", f"{name}_check.py"]
    return next((s for s in found if s and (bench / s).is_file()), "")


def question_of(script: str, bench: Path) -> str:
    """What a script asks, from the table in bench/README.md; or the first line of its docstring."""
    for scripts, question in ROW.findall((bench / "README.md").read_text("utf-8")):
        if script and re.search(rf"`{re.escape(script)}[` ]", scripts):
            return question
    said = ast.get_docstring(ast.parse((bench / script).read_text("utf-8"))) if script else ""
    return (said or "").partition("\n")[0]


def facts_of(name: str, bench: Path) -> dict[str, str]:
    """Machine, versions and date, from the result's JSON."""
    held = json.loads((bench / "results" / f"{name}.json").read_text("utf-8"))["machine"]
    return {
        "Machine": f"{held['cpu']}, {held['cores']} cores, {' '.join(held['flags'])}; Python {held['python']}",
        "Versions": ", ".join(f"{k} {v}" for k, v in held["versions"].items()),
        "Date": held["date"],
    }


def page(name: str, text: str, bench: Path) -> str:
    """A result's page, from the markdown that its script wrote."""
    body = text.split("\n\n", 2)[2] if text.count("\n\n") > 1 else ""
    script = script_of(name, bench)
    question = question_of(script, bench)
    facts = facts_of(name, bench)
    if script:
        facts["Made by"] = f"`python bench/{script}`" + (", see [bench/README.md](../README.md)" if question else "")
    facts["All figures"] = f"[{name}.json]({name}.json)"
    lines = [f"# {title_of(name)}", ""]
    lines += [f"*{question[0].upper()}{question[1:]}*", ""] if question else []
    lines += ["```{list-table}", ":class: facts", ":widths: 1 6", ""]
    lines += [line for k, v in facts.items() for line in (f"* - {k}", f"  - {v}")]
    return "\n".join([*lines, "```", "", body])


def index(bench: Path) -> str:
    """The table of all results."""
    rows = ["| | question | date |", "|---|---|---|"]
    for file in sorted((bench / "results").glob("*.json"), key=lambda f: title_of(f.stem).lower()):
        name = file.stem
        rows.append(
            f"| [{title_of(name)}](../{FOLDER}{name}.md) | {question_of(script_of(name, bench), bench)} "
            f"| {facts_of(name, bench)['Date']} |"
        )
    return "\n".join(rows)


def read(app: Sphinx, docname: str, source: list[str]) -> None:
    """source-read."""
    bench = Path(app.srcdir) / "bench"
    if docname.startswith(FOLDER):
        source[0] = page(docname.removeprefix(FOLDER), source[0], bench)
    elif docname == INDEX:
        source[0] = source[0].replace(MARK, index(bench))


def setup(app: Sphinx) -> Mapping[str, Any]:
    """Called by Sphinx."""
    app.connect("source-read", read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
