"""A folder for NVIDIA GPUs: the network as TensorRT's explicit quantization wants it, and how to build its engine.

model.onnx plan.json README.md                       README: trtexec, Python, what was checked here and what was not
inputs/0/image.npy … expected/0/logits.npy …         samples, and what Q and DQ as they stand answer to them

No TensorRT runs here. What is checked: NVIDIA's rules (`fewbit.graph.tensorrt_legal`), and that ONNX Runtime and
OpenVINO, which compute the same file, agree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewbit.deployment.base import Deployed, Job, Option, deployer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fewbit.deployment.tensorrt_readme import Profile
    from fewbit.graph.model import Model

SAMPLES = 4
WEIGHTS = ("float32", "int8")


@deployer(
    "tensorrt",
    options={
        "weights": Option(
            "float32: behind Q and DQ, a form that versions from 8.0 on know; int8: a quarter of the file, from 10.0",
            "float32",
            WEIGHTS,
        )
    },
)
def deploy(job: Job) -> Deployed:
    """Write the folder.

    Raises:
        UnsupportedModel: TensorRT would not take the network, such as one that was quantized for another target.
    """
    from fewbit.core.tables import listed
    from fewbit.deployment.about import about
    from fewbit.deployment.samples import sample_feeds
    from fewbit.deployment.tensorrt_readme import readme
    from fewbit.graph.files import save_model
    from fewbit.graph.tensorrt_legal import RULES, check_tensorrt
    from fewbit.graph.tensorrt_weights import float_weights

    legal(job.model)
    facts = about(job.model, job.recipe)
    model, count = float_weights(job.model) if job.options.get("weights", WEIGHTS[0]) == "float32" else (job.model, 0)
    legal(model)
    slow = check_tensorrt(model)
    file = job.folder / f"{job.name}.onnx"
    save_model(model, file)
    feeds = sample_feeds(job, SAMPLES)
    job.say(f"running {len(feeds)} samples in the engines that are here")
    checks = [f"{len(RULES)} rules of NVIDIA's: nothing illegal, {len(slow)} found to cost speed"]
    checks += _compared(job.folder, model, job.model if count else None, facts, feeds)
    profile = _profile(model, feeds)
    notes = ["TensorRT itself did not run here: errors are those to expect there, and there are no times"]
    for rule in dict.fromkeys(v.rule for v in slow):
        places = [v.node for v in slow if v.rule == rule]
        notes.append(f"may cost speed, {listed(places)}: {RULES[rule].why}")
    if not any(n.op_type == "QuantizeLinear" for n in model.nodes):
        notes.append("no layer of the network is integer: TensorRT will compute all of it in float")
    if job.plan is not None:
        job.plan.save(job.folder / "plan.json")
    (job.folder / "README.md").write_text(readme(job, model, facts, profile, checks, notes), "utf-8")
    files = sorted(f.relative_to(job.folder).as_posix() for f in job.folder.rglob("*") if f.is_file())
    return Deployed(tuple(files), tuple(checks), tuple(notes))


def legal(model: Model) -> None:
    """Raise UnsupportedModel, with the way out, if TensorRT would not take the network."""
    from fewbit.errors import UnsupportedModel
    from fewbit.graph.model import PACKED
    from fewbit.graph.tensorrt_legal import refuse_illegal

    way = "Quantize the float network with target='tensorrt' (fewbit quantize --target tensorrt), and deploy that"
    if PACKED in model.metadata:
        raise UnsupportedModel(f"TensorRT would not take this network: its weights are packed in few bits. {way}")
    try:
        refuse_illegal(model)
    except UnsupportedModel as e:
        raise UnsupportedModel(f"{e}. {way}") from e


def _compared(
    folder: Path, model: Model, before: Model | None, facts: Mapping[str, Any], feeds: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Write samples and answers; tell how far the other engines, and the form before, are from these answers."""
    import numpy as np

    from fewbit.engines import engine_version, open_runner
    from fewbit.errors import EngineError, EngineMissing, VerificationError
    from fewbit.graph.ranked import in_front, ranked

    runner = open_runner("tensorrt", model)  # the engine that stands in for it
    answers = [runner.run(fed) for fed in feeds]
    for number, (fed, answer) in enumerate(zip(feeds, answers, strict=True)):
        for kind, entries, arrays in (("inputs", facts["inputs"], fed), ("expected", facts["outputs"], answer)):
            place = folder / kind / str(number)
            place.mkdir(parents=True)
            for entry in entries:
                np.save(place / entry["file"], arrays[entry["name"]], allow_pickle=False)
    told = []
    if before is not None:
        plain = open_runner("tensorrt", before)
        sqnr, _ = _apart(answers, [plain.run(fed) for fed in feeds])
        if sqnr is not None and sqnr < SAME:
            raise VerificationError(f"with weights as floats the network answers otherwise: {sqnr:.1f} dB")
        told.append("weights as floats: the same answers as with integers")
    front = in_front(model, ranked(model))  # of detectors, what enters their ranking
    try:
        ours = open_runner("tensorrt", front)
        other = open_runner("openvino", front, precision="f32", optimize=False)  # as it stands, here too
        sqnr, agreement = _apart([ours.run(fed) for fed in feeds], [other.run(fed) for fed in feeds])
        same = f", {agreement:.0%} with the same class" if agreement is not None else ""
        told.append(
            f"{engine_version('tensorrt')} and {engine_version('openvino')} on {len(feeds)} samples: {_db(sqnr)}{same}"
        )
    except EngineMissing:
        told.append(f"{engine_version('tensorrt')} on {len(feeds)} samples; OpenVINO is not installed")
    except EngineError as e:
        told.append(f"OpenVINO refuses the network: {e}")
    return told


def _profile(model: Model, feeds: Sequence[Mapping[str, NDArray[Any]]]) -> Profile:
    """Sizes of inputs with free ones: as in the samples; at least 1, on all axes or of the batch, if that computes."""
    import numpy as np

    from fewbit.data.signature import read_signature
    from fewbit.deployment.tensorrt_readme import Profile
    from fewbit.engines import open_runner
    from fewbit.errors import EngineError

    free = {i.name: [a for a, d in enumerate(i.shape) if not isinstance(d, int)] for i in model.inputs}
    free = {name: axes for name, axes in free.items() if axes}
    if not free:
        return Profile({}, {})
    usual = {n: tuple(int(d) for d in np.max([fed[n].shape for fed in feeds], axis=0)) for n in free}
    stacked = {s.name for s in read_signature(model.inputs).slots if s.stacked}
    batch = {n: [a for a in axes if a == 0 and n in stacked] for n, axes in free.items()}
    runner = open_runner("tensorrt", model)
    for axes in (free, batch):
        least = dict(feeds[0])
        for name, cut in axes.items():
            for axis in cut:
                least[name] = least[name].take([0], axis)
        try:
            runner.run(least)
        except EngineError:
            continue
        return Profile({n: least[n].shape for n in free}, usual)
    return Profile({n: feeds[0][n].shape for n in free}, usual)


SAME = 60.0
"""dB above which two forms of one network compute the same."""


def _db(sqnr: float | None) -> str:
    if sqnr is None:
        return "answers of other sizes, or of no floats: not compared"
    return "the same answers" if sqnr == float("inf") else f"{sqnr:.1f} dB apart"


def _apart(
    ours: Sequence[Mapping[str, NDArray[Any]]], theirs: Sequence[Mapping[str, NDArray[Any]]]
) -> tuple[float | None, float | None]:
    """SQNR of the output that differs most, and share of rows whose largest number is at the same place.

    None where nothing can be compared: outputs of whole numbers, or of other shapes.
    """
    from fewbit.core.metrics import sqnr_db

    found: list[float] = []
    same = rows = 0
    for name, x in ours[0].items():
        a, b = ([run[name] for run in runs] for runs in (ours, theirs))
        if x.dtype.kind != "f" or any(p.shape != q.shape for p, q in zip(a, b, strict=True)):
            continue
        found += (sqnr_db(p, q) for p, q in zip(a, b, strict=True))
        if x.ndim == 2 and x.shape[1] > 1:
            same += sum(int((p.argmax(1) == q.argmax(1)).sum()) for p, q in zip(a, b, strict=True))
            rows += sum(len(p) for p in a)
    return min(found, default=None), same / rows if rows else None
