"""Folders for phones with ncnn: the two files its runtime loads, made for the layers that compute in int8.

model.param model.bin model.table           table: the scales, as ncnn's own tools write and read them
model-float.param model-float.bin           option float: the same network in float32, which the table belongs to
plan.json README.md in0.npy … out0.npy …    README: names of blobs, preprocessing, Python and C++; one sample

What is checked: the files in ncnn's runtime, against the simulation (Q and DQ as they stand), and against ncnn
computing in float with the same weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fewbit.deployment.base import Deployed, Job, Option, deployer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fewbit.engines.ncnn.net import NcnnNet

    Array = NDArray[Any]
    Feeds = Mapping[str, Array]

SAMPLES = 32
LEAST_SQNR = 10.0
"""dB below which what ncnn computes is not what was simulated."""


@deployer(
    "ncnn",
    options={
        "winograd": Option("Winograd for 3x3 convolutions where their sums cannot overflow; off: for none", True),
        "fp16": Option("weights of float layers are stored in 16 bits", True),
        "float": Option("write the float network as well, which the table belongs to", False),
    },
)
def deploy(job: Job) -> Deployed:
    """Write the folder.

    Raises:
        EngineMissing: ncnn or pnnx is not installed. EngineError: the network cannot be converted, or was quantized for
            another target. VerificationError: ncnn computes something else than was simulated.
    """
    from fewbit.deployment.about import about
    from fewbit.deployment.ncnn_readme import readme
    from fewbit.deployment.samples import sample_feeds
    from fewbit.deployment.server import image_notes
    from fewbit.engines.ncnn.net import to_ncnn

    facts = about(job.model, job.recipe)
    feeds = sample_feeds(job, SAMPLES)
    job.say("converting with pnnx")
    net = to_ncnn(job.model, feeds[0])
    if not job.options.get("winograd", True):
        net = without_winograd(net)
    files = _write(job, net)
    job.say(f"running {len(feeds)} samples in ncnn")
    checks = [_layers(net), *_checked(job, net, feeds)]
    notes = (*net.notes, *_lossy(job, net), *image_notes(facts, job))
    files += _write_sample(job, net, feeds[0])
    if job.plan is not None:
        job.plan.save(job.folder / "plan.json")
        files.append("plan.json")
    (job.folder / "README.md").write_text(readme(job, net, facts, checks, notes), "utf-8")
    return Deployed((*files, "README.md"), tuple(checks), notes)


def without_winograd(net: NcnnNet) -> NcnnNet:
    """The same network with Winograd switched off for all convolutions that it is for."""
    from fewbit.engines.ncnn.integer import NO_WINOGRAD, takes_winograd

    layers = [x.with_params(_31=NO_WINOGRAD) if takes_winograd(x) else x for x in net.layers]
    return replace(net, layers=tuple(layers))


def _write(job: Job, net: NcnnNet) -> list[str]:
    """The network's files; their names."""
    from fewbit.engines.ncnn.param import write_param
    from fewbit.engines.ncnn.table import write_table
    from fewbit.engines.ncnn.weights import write_bin

    half = bool(job.options.get("fp16", True))
    made = {
        ".param": write_param(net.layers).encode(),
        ".bin": write_bin(net.layers, net.weights, half),
        ".table": write_table(net.layers, net.weights).encode(),
    }
    if job.options.get("float"):
        made["-float.param"] = write_param(net.float_layers).encode()
        made["-float.bin"] = write_bin(net.float_layers, net.float_weights)
    for tail, data in made.items():
        (job.folder / f"{job.name}{tail}").write_bytes(data)
    return [job.name + tail for tail in made]


def _write_sample(job: Job, net: NcnnNet, feeds: Feeds) -> list[str]:
    """One sample and what ncnn answers to it, as arrays without the batch axis; names of the files."""
    import numpy as np

    arrays = {net.inputs[name]: x[0] for name, x in feeds.items()}
    answers = _loaded(job).run(arrays, net.outputs.values())
    for blob, x in {**arrays, **answers}.items():
        np.save(job.folder / f"{blob}.npy", x, allow_pickle=False)
    return [f"{blob}.npy" for blob in (*arrays, *answers)]


def _loaded(job: Job, exact: bool = True) -> Any:
    """The written files in ncnn's runtime; exact: float layers compute in 32 bits."""
    from fewbit.engines.ncnn.runtime import Loaded

    return Loaded(job.folder / f"{job.name}.param", job.folder / f"{job.name}.bin", exact=exact)


def _layers(net: NcnnNet) -> str:
    from fewbit.engines.ncnn.integer import NO_WINOGRAD, is_integer
    from fewbit.engines.ncnn.weights import FUSED

    integer = [x for x in net.layers if is_integer(x)]
    passed = sum(x.int(8) > FUSED for x in integer)
    direct = sum(x.int(31) == NO_WINOGRAD for x in integer)
    text = f"{len(integer)} layers in int8; {passed} of them hand on int8"
    return text + (f"; {direct} without Winograd" if direct else "")


def _lossy(job: Job, net: NcnnNet) -> list[str]:
    """What 16 bits take from the weights of float layers."""
    import numpy as np

    from fewbit.engines.ncnn.integer import is_integer
    from fewbit.engines.ncnn.weights import fits_half, parts_of

    if not job.options.get("fp16", True):
        return []
    parts = [net.weights[x.name][p.name] for x in net.layers if not is_integer(x) for p in parts_of(x) if p.tagged]
    halved = [a for a in parts if fits_half(a)]
    lossy = sum(not np.array_equal(a, a.astype(np.float16).astype(np.float32)) for a in halved)
    return [
        f"{lossy} weights of float layers are stored as float16 and lose digits by it (option fp16 off keeps them); "
        "what was checked is that form"
    ] * bool(lossy)


def _checked(job: Job, net: NcnnNet, feeds: Sequence[Feeds]) -> list[str]:
    """Compare the written files with the simulation, and with ncnn in float.

    Raises:
        VerificationError: they compute something else than the simulation.
    """
    import numpy as np

    from fewbit.core.metrics import sqnr_db
    from fewbit.engines import engine_version, open_runner
    from fewbit.engines.ncnn.runtime import load
    from fewbit.errors import VerificationError

    ways = {
        "ncnn": _loaded(job),
        "short": _loaded(job, exact=False),
        "float": load(net.float_layers, net.float_weights),
    }
    simulation = open_runner("onnxruntime", job.model, literal=True)
    found: dict[str, dict[str, list[Array]]] = {k: {n: [] for n in net.outputs} for k in (*ways, "simulated")}
    for fed in feeds:
        x, simulated = {net.inputs[name]: a[0] for name, a in fed.items()}, simulation.run(fed)
        for way, loaded in ways.items():
            blobs = loaded.run(x, net.outputs.values())
            for name, blob in net.outputs.items():
                found[way][name].append(blobs[blob].reshape(-1))
        for name in net.outputs:
            found["simulated"][name].append(np.asarray(simulated[name]).reshape(-1))
    on = f"{len(feeds)} {'made-up inputs' if job.samples is None else 'samples of the data'}"
    told = [f"ran in {engine_version('ncnn')} on {on}"]
    for ours, theirs, what in (
        ("ncnn", "simulated", "against the simulation"),
        ("short", "simulated", "with 16-bit floats, as ncnn computes by default, against the simulation"),
        ("ncnn", "float", "against ncnn with float activations and the same weights"),
    ):
        worst = min(sqnr_db(np.stack(found[theirs][n]), np.stack(x)) for n, x in found[ours].items())
        if (ours, theirs) == ("ncnn", "simulated") and worst < LEAST_SQNR:
            raise VerificationError(f"ncnn answers otherwise than was simulated: {worst:.1f} dB on {on}")
        text = "the same numbers" if worst == float("inf") else f"{worst:.1f} dB apart"
        told.append(f"{what}: {text}{_agreement(found[ours], found[theirs])}")
    return told


def _agreement(ours: Mapping[str, Sequence[Array]], theirs: Mapping[str, Sequence[Array]]) -> str:
    """How often the largest number is at the same place, where that is one output of a few numbers."""
    (first, *more) = ours
    if more or not 1 < ours[first][0].size <= 100_000:
        return ""
    pairs = list(zip(ours[first], theirs[first], strict=True))
    return f", the largest number at the same place in {sum(a.argmax() == b.argmax() for a, b in pairs)}"
