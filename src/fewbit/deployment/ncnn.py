"""Folders for phones with ncnn: the two files its runtime loads, made for the layers that compute in int8.

model.param model.bin model.table             table: the scales, as ncnn's own tools write and read them
model-float.param model-float.bin             option float: the same network in float32, which the table belongs to
plan.json network.json README.md              README: names of blobs, preprocessing, Python and C++
run.py verify.py network.py preprocess.py     numpy, pillow, ncnn
inputs/0/image.npy … expected/0/logits.npy …  some samples, and what ncnn answers to them

What is checked: the files in ncnn's runtime, against the simulation (Q and DQ as they stand), and against ncnn
computing in float with the same weights; and the folder by its own verify.py.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fewbit.deployment.base import Deployed, Job, Option, deployer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from fewbit.engines.ncnn.net import NcnnNet
    from fewbit.graph.model import Model

    Array = NDArray[Any]
    Feeds = Mapping[str, Array]

SAMPLES = 32
LEAST_SQNR = 10.0
"""dB below which what ncnn computes is not what was simulated."""

LIMIT = 127
"""Largest integer of a value."""

KEPT = 4
"""Samples that go into the folder."""


def check(model: Model, sample: Feeds | None) -> None:
    """Raise EngineError if ncnn cannot take a float network; the sample tells sizes that are free."""
    from fewbit.engines.ncnn.net import to_ncnn

    to_ncnn(model, sample)


@deployer(
    "ncnn",
    options={
        "winograd": Option("Winograd for 3x3 convolutions where their sums cannot overflow; off: for none", True),
        "fp16": Option("weights of float layers are stored in 16 bits", True),
        "float": Option("write the float network as well, which the table belongs to", False),
    },
    check=check,
)
def deploy(job: Job) -> Deployed:
    """Write the folder.

    Raises:
        EngineMissing: ncnn or pnnx is not installed. EngineError: the network cannot be converted, has sizes that
            neither it nor data tells, or was quantized for another target.
        VerificationError: ncnn computes something else than was simulated.
    """
    from fewbit.data.signature import counted
    from fewbit.deployment.about import about
    from fewbit.deployment.ncnn_readme import readme
    from fewbit.deployment.samples import sample_feeds
    from fewbit.deployment.server import image_notes, verified
    from fewbit.engines.ncnn.net import check_sizes, to_ncnn

    if job.samples is None:
        check_sizes(job.model)
    feeds = sample_feeds(job, SAMPLES)
    job, fixed = _fixed(job, feeds[0])
    facts = about(job.model, job.recipe)
    job.say("converting with pnnx")
    net = to_ncnn(job.model, feeds[0])
    if not job.options.get("winograd", True):
        net = without_winograd(net)
    files = _write(job, net)
    job.say(f"running {len(feeds)} samples in ncnn")
    facts = _facts(job, net, facts, len(feeds[:KEPT]))
    checks = [_layers(net), *_checked(job, net, facts, feeds)]
    notes = (*fixed, *net.notes, *_lossy(job, net), *image_notes(facts, job))
    files += _write_scripts(job, facts, feeds[:KEPT])
    job.say("checking the folder as it will be used")
    checks.append(f"verify.py on {counted(len(feeds[:KEPT]), 'sample')}: {verified(job.folder)}")
    if job.plan is not None:
        job.plan.save(job.folder / "plan.json")
        files.append("plan.json")
    (job.folder / "README.md").write_text(readme(job, facts, checks, notes), "utf-8")
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


def _fixed(job: Job, feeds: Feeds) -> tuple[Job, list[str]]:
    """Fix sizes that are free, but the first axis, to those of the sample; what to tell of it."""
    from fewbit.graph.shapes import with_input_shapes

    free = [i for i in job.model.inputs if not all(isinstance(d, int) for d in i.shape[1:])]
    if not free:
        return job, []
    sizes = {i.name: (i.shape[0] if isinstance(i.shape[0], int) else None, *feeds[i.name].shape[1:]) for i in free}
    told = ", ".join(f"{name} {' × '.join(map(str, shape[1:]))}" for name, shape in sizes.items())
    note = f"sizes that were free are those of the first sample: {told}; input_shapes, --input-shapes: others"
    return replace(job, model=with_input_shapes(job.model, sizes)), [note]


def _facts(job: Job, net: NcnnNet, facts: Mapping[str, Any], samples: int) -> dict[str, Any]:
    """network.json: what `about` says, and the blob of each input and output; a scale, if the blob is to be rounded.

    Raises:
        EngineError: an output is a rounded input.
    """
    from fewbit.errors import EngineError

    inputs = [{**i, "blob": net.inputs[i["name"]]} for i in facts["inputs"]]
    outputs = []
    for entry in facts["outputs"]:
        value, scale = net.rounded.get(entry["name"], (entry["name"], None))
        if value not in net.outputs:
            raise EngineError(f"output {entry['name']!r} is input {value!r}, rounded, which ncnn cannot hand out")
        shape, scaled = [*entry["shape"][:1], *net.shapes[value]], {"scale": float(scale)} if scale else {}
        outputs.append({**entry, "shape": shape, "blob": net.outputs[value], **scaled})
    model = f"{job.name}.param"
    return {
        "model": model, "engine": "ncnn", "form": "ncnn", "samples": samples, "inputs": inputs, "outputs": outputs
    }  # fmt: skip


def _write_scripts(job: Job, facts: dict[str, Any], feeds: Sequence[Feeds]) -> list[str]:
    """The scripts, and samples with what ncnn answers to them as it computes by default; names of the files."""
    import numpy as np

    from fewbit.core.tables import dumps
    from fewbit.deployment.server import SCRIPTS, TEMPLATES

    for name in SCRIPTS:
        shutil.copyfile(TEMPLATES / name, job.folder / name)
    shutil.copyfile(TEMPLATES / "ncnn" / "network.py", job.folder / "network.py")
    (job.folder / "network.json").write_text(dumps(facts), "utf-8")
    files, loaded = [*SCRIPTS, "network.py", "network.json"], _loaded(job, exact=False)
    for number, fed in enumerate(feeds):
        arrays = [(f"inputs/{number}/{i['file']}", fed[i["name"]]) for i in facts["inputs"]]
        found = _answers(loaded, facts, fed)
        arrays += [(f"expected/{number}/{o['file']}", found[o["name"]]) for o in facts["outputs"]]
        for name, x in arrays:
            (job.folder / name).parent.mkdir(parents=True, exist_ok=True)
            np.save(job.folder / name, x, allow_pickle=False)
        files += [name for name, _ in arrays]
    return files


def _answers(loaded: Any, facts: Mapping[str, Any], fed: Feeds) -> dict[str, Array]:
    """What the network answers to one sample, by name, in the shapes and types of its outputs: as network.py does."""
    import numpy as np

    blobs = loaded.run({i["blob"]: fed[i["name"]][0] for i in facts["inputs"]}, [o["blob"] for o in facts["outputs"]])
    found = {}
    for o in facts["outputs"]:
        x = blobs[o["blob"]].reshape(1, *o["shape"][1:])
        if "scale" in o:
            x = np.clip(np.rint(x / np.float32(o["scale"])), -LIMIT, LIMIT) * np.float32(o["scale"])
        found[o["name"]] = x.astype(o["type"])
    return found


def _loaded(job: Job, exact: bool = True) -> Any:
    """The written files in ncnn's runtime; exact: float layers compute in 32 bits."""
    from fewbit.engines.ncnn.runtime import Loaded

    return Loaded(job.folder / f"{job.name}.param", job.folder / f"{job.name}.bin", exact=exact)


def _layers(net: NcnnNet) -> str:
    from fewbit.data.signature import counted
    from fewbit.engines.ncnn.integer import NO_WINOGRAD, is_integer
    from fewbit.engines.ncnn.weights import FUSED

    integer = [x for x in net.layers if is_integer(x)]
    passed = sum(x.int(8) > FUSED for x in integer)
    direct = sum(x.int(31) == NO_WINOGRAD for x in integer)
    text = f"{counted(len(integer), 'layer')} in int8"
    text += f"; {passed} of them {'hands' if passed == 1 else 'hand'} on int8" if passed else ""
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
    text = (
        "weight of a float layer is stored as float16 and loses"
        if lossy == 1
        else ("weights of float layers are stored as float16 and lose")
    )
    return [f"{lossy} {text} digits by it (option fp16 off keeps them); what was checked is that form"] * bool(lossy)


def _checked(job: Job, net: NcnnNet, facts: Mapping[str, Any], feeds: Sequence[Feeds]) -> list[str]:
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
    found: dict[str, dict[str, list[Array]]] = {}
    for fed in feeds:
        answers = {way: _answers(loaded, facts, fed) for way, loaded in ways.items()} | {
            "simulated": simulation.run(fed)
        }
        for way, named in answers.items():
            for name, x in named.items():
                found.setdefault(way, {}).setdefault(name, []).append(np.asarray(x))
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
    """How often the largest number is at the same place, where the one output looks like scores of classes."""
    from fewbit.core.metrics import class_like

    (first, *more) = ours
    pairs = list(zip(ours[first], theirs[first], strict=True))
    if more or not class_like(pairs[0][0]):
        return ""
    same = sum(a.argmax() == b.argmax() for a, b in pairs)
    return f", the largest number at the same place in {same} of {len(pairs)}"
