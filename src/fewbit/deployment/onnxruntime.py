"""Folders for servers and phones with ONNX Runtime.

form "qdq"        the model as it was quantized
form "qoperator"  integer operators themselves, for builds and engines that do not merge Q/DQ pairs
form "ort"        ONNX Runtime's own format, for builds without the ONNX parser (phones)
"""

from __future__ import annotations

from pathlib import Path

from fewbit.deployment.base import Deployed, Engine, Job, Option, deployer
from fewbit.errors import UsageError

FORMS = ("qdq", "qoperator", "ort")

ENGINE = Engine(
    "onnxruntime",
    "ONNX Runtime",
    "onnxruntime",
    "-DONNXRUNTIME=FOLDER",
    "Needs cmake, a C++17 compiler, and ONNX Runtime with its headers: FOLDER is an unpacked archive of its releases; "
    "where the development package of a distribution is installed (Debian 13 and later: `libonnxruntime-dev`), leave "
    "it out. The Python package holds no headers.",
)


@deployer(
    "onnxruntime",
    options={
        "form": Option("how integers are written: as quantized, integer operators, ONNX Runtime's own", "qdq", FORMS)
    },
)
def deploy(job: Job) -> Deployed:
    """Write the folder.

    Raises:
        UsageError: a form that the model cannot have.
    """
    from fewbit.deployment.server import form_of, write_server
    from fewbit.graph.files import save_model

    form, have = str(job.options.get("form", "qdq")), form_of(job.model)
    if form == "qoperator" and have != "qdq":
        raise UsageError(
            "form 'qoperator' is for networks with Q and DQ whose ranges come from data; this one has none"
        )
    file, notes = job.folder / f"{job.name}.onnx", tuple[str, ...]()
    if form == "qoperator":
        notes = _write_qoperator(job, file)
    elif form == "ort":
        file = job.folder / f"{job.name}.ort"
        notes = _write_ort(job, file)
    else:
        save_model(job.model, file)
    return write_server(job, ENGINE, file.name, have if form == "qdq" else form, notes)


def _write_qoperator(job: Job, file: Path) -> tuple[str, ...]:
    from fewbit.core.tables import listed
    from fewbit.graph.files import save_model
    from fewbit.graph.qoperator import to_qoperator

    made = to_qoperator(job.model)
    save_model(made.model, file)
    counts = ", ".join(f"{n} {op}" for op, n in sorted(made.made.items()))
    notes = [f"integer operators: {counts}"]
    if made.left:
        notes.append(
            f"{made.left.total()} layers between Q/DQ pairs have no integer operator and stay so: {listed(made.left)}"
        )
    return tuple(notes)


def _write_ort(job: Job, file: Path) -> tuple[str, ...]:
    """Let ONNX Runtime write its own format, with only those optimizations that hold for every processor."""
    import platform

    import onnxruntime as ort

    from fewbit.graph.light import self_contained

    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(file)
    options.add_session_config_entry("session.save_model_format", "ORT")
    with self_contained(job.model) as source:
        ort.InferenceSession(source if isinstance(source, bytes) else str(source), options, ["CPUExecutionProvider"])
    return (
        f"the .ort file was written by ONNX Runtime {ort.__version__} on {platform.machine()}; older ones may not read "
        "it. Q/DQ pairs are merged into integer layers in it",
    )
