"""What the folders for ONNX Runtime and OpenVINO have in common: they run on a server with that engine alone.

model.onnx plan.json network.json README.md
run.py verify.py feeds.py network.py preprocess.py    numpy, pillow, the engine
cpp/                                          the same in C++: CMakeLists.txt main.cpp network.hpp tensor.hpp
inputs/0/image.npy … expected/0/logits.npy …  some samples, and what this machine answers to them
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fewbit.core.tables import dumps
from fewbit.deployment.about import about
from fewbit.deployment.base import Deployed, Engine, Job
from fewbit.deployment.readme import readme
from fewbit.deployment.samples import sample_feeds
from fewbit.errors import VerificationError

if TYPE_CHECKING:
    from fewbit.graph.model import Model

TEMPLATES = Path(__file__).parent / "templates"
SCRIPTS = ("run.py", "verify.py", "feeds.py", "preprocess.py")
SAMPLES = 4


def write_server(job: Job, engine: Engine, model: str, form: str, notes: tuple[str, ...] = ()) -> Deployed:
    """Write everything around a model that is in the folder already, and check it.

    Args:
        model: name of its file. form: how it holds its integers.

    Raises:
        VerificationError: run by the engine alone, the model answers something else. EngineError: it cannot be run.
    """
    from fewbit.engines import engine_version, open_runner

    facts = about(job.model, job.recipe)
    feeds = sample_feeds(job, SAMPLES)
    facts = {"model": model, "engine": engine.name, "form": form, "samples": len(feeds), **facts}
    job.say(f"running {len(feeds)} samples on {engine.title}")
    runner = open_runner(engine.name, job.model)
    for number, fed in enumerate(feeds):
        _save(job.folder / "inputs" / str(number), facts["inputs"], fed)
        _save(job.folder / "expected" / str(number), facts["outputs"], runner.run(fed))
    if job.plan is not None:
        job.plan.save(job.folder / "plan.json")
    (job.folder / "network.json").write_text(dumps(facts), "utf-8")
    _copy_templates(job.folder, engine.name)
    job.say("checking the folder as it will be used")
    told = verified(job.folder)
    kind = "made-up inputs" if job.samples is None else "samples of the data"
    checks = (f"verify.py on {len(feeds)} {kind}, {engine_version(engine.name)}: {told}",)
    (job.folder / "README.md").write_text(readme(job, engine, facts, checks, notes), "utf-8")
    files = sorted(f.relative_to(job.folder).as_posix() for f in job.folder.rglob("*") if f.is_file())
    return Deployed(tuple(files), checks, (*notes, *image_notes(facts, job)))


def form_of(model: Model) -> str:
    """How a network holds its numbers: a key of `readme.FORMS`."""
    from fewbit.graph.files import QUANTIZED_OPS
    from fewbit.graph.model import PACKED

    ops = {n.op_type for n in model.nodes} & QUANTIZED_OPS
    if ops & {"DynamicQuantizeLinear", "DynamicQuantizeLSTM", "MatMulInteger", "ConvInteger"}:
        return "dynamic"
    if ops:
        return "qdq"
    return "packed" if PACKED in model.metadata else "float"


def image_notes(facts: dict[str, Any], job: Job) -> tuple[str, ...]:
    """What to tell of images, if nobody said how they become inputs."""
    from fewbit.config import DataConfig

    found = [i["name"] for i in facts["inputs"] if i["image"]]
    if not found or job.recipe != DataConfig():
        return ()
    return (
        f"nobody said how images become input {found[0]!r}: run.py resizes them and feeds 0 … 255; if the network was "
        "trained on something else, say so: normalize_mean, normalize_std, image_to_format …",
    )


def _save(folder: Path, entries: list[dict[str, Any]], arrays: dict[str, Any]) -> None:
    folder.mkdir(parents=True)
    for entry in entries:
        np.save(folder / entry["file"], arrays[entry["name"]], allow_pickle=False)


def _copy_templates(folder: Path, engine: str) -> None:
    (folder / "cpp").mkdir()
    for name in SCRIPTS:
        shutil.copyfile(TEMPLATES / name, folder / name)
    shutil.copyfile(TEMPLATES / engine / "network.py", folder / "network.py")
    for source in (TEMPLATES / "cpp", TEMPLATES / engine):
        for file in sorted(source.iterdir()):
            if file.suffix in (".cpp", ".hpp", ".txt"):
                shutil.copyfile(file, folder / "cpp" / file.name)


def verified(folder: Path) -> str:
    """Run the folder's verify.py in an interpreter of its own; what it says.

    Raises:
        VerificationError: it says no.
    """
    done = subprocess.run(
        [sys.executable, "-B", "verify.py", "--threads", "1"],
        cwd=folder, capture_output=True, text=True, env={**os.environ, "PYTHONIOENCODING": "utf-8"},
    )  # fmt: skip
    said = done.stdout + done.stderr if done.returncode else done.stdout  # there are no sums yet, as stderr says
    lines = [" ".join(line.split()) for line in said.splitlines() if line.strip()]
    if done.returncode:
        raise VerificationError(
            f"the deployed network does not answer as the one that it was made from: {'; '.join(lines[-3:])}"
        )
    return "; ".join(lines[:-1])
