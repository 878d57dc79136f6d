"""README.md of a folder for NVIDIA GPUs: how the engine is built there, by version, and how it is run and checked."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fewbit import __version__
from fewbit.deployment.about import image_text
from fewbit.deployment.base import Job
from fewbit.graph.model import Model, is_const

OPSETS = "TensorRT 8.0 to 8.4 read opset 13, 8.5 and 8.6 opset 17, 10.0 opset 20, 10.15 and 11 opset 24"

OLD = ((13, "8.0"), (17, "8.5"))
"""Newest opset → the first of the versions before 10 that reads it."""
TEN = ((20, "TensorRT 10"), (24, "TensorRT 10.15 and later 10"))

COMMANDS = {
    "11": """\
# TensorRT 11: types are those of the file; what is not integer computes in float32
trtexec --onnx={model} --saveEngine=model.engine --timingCacheFile=timing.cache{shapes}""",
    "10": """\
# {ten}: what is not integer may compute in FP16; with --stronglyTyped instead of both flags, as in 11
trtexec --onnx={model} --int8 --fp16 --saveEngine=model.engine --timingCacheFile=timing.cache{shapes}""",
    "8": """\
# TensorRT {old} to 9
trtexec --onnx={model} --int8 --fp16 --saveEngine=model.engine{shapes}""",
}

BUILD = """\
```sh
{commands}
```

- `--int8` has to be there up to version 10, though all ranges stand in the file; no calibration cache is needed.
- For FP16 beside the integers with strong typing, convert what is float in the file (NVIDIA Model Optimizer: AutoCast).
- An engine runs with the version of TensorRT and on the kind of GPU that it was built with. The timing cache makes the
  next build faster.
- Which layers are integer: `--profilingVerbosity=detailed --dumpLayerInfo --exportLayerInfo=layers.json`.
- {opsets}; this file has opset {opset}{left}."""

PYTHON = """\
```python
import numpy as np
import tensorrt as trt
import torch  # for memory on the GPU

logger = trt.Logger(trt.Logger.WARNING)
builder = trt.Builder(logger)
batch = getattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH", None)  # asked for before version 10
old = int(trt.__version__.split(".")[0]) < 10
network = builder.create_network(1 << int(batch) if old else 0)
parser = trt.OnnxParser(network, logger)
if not parser.parse_from_file("{model}"):
    raise SystemExit("\\n".join(str(parser.get_error(i)) for i in range(parser.num_errors)))
config = builder.create_builder_config()
for name in ("INT8", "FP16"):  # gone in version 11
    if hasattr(trt.BuilderFlag, name):
        config.set_flag(getattr(trt.BuilderFlag, name))
{profile}engine = trt.Runtime(logger).deserialize_cuda_engine(builder.build_serialized_network(network, config))

context = engine.create_execution_context()
feeds = {feeds}
held = {{}}
for name, x in feeds.items():
    held[name] = torch.from_numpy(np.ascontiguousarray(x)).cuda()
    context.set_input_shape(name, tuple(x.shape))
for i in range(engine.num_io_tensors):
    name = engine.get_tensor_name(i)
    if name not in held:
        kind = getattr(torch, np.dtype(trt.nptype(engine.get_tensor_dtype(name))).name)
        held[name] = torch.empty(tuple(context.get_tensor_shape(name)), dtype=kind, device="cuda")
    context.set_tensor_address(name, held[name].data_ptr())
context.execute_async_v3(torch.cuda.current_stream().cuda_stream)
torch.cuda.synchronize()
for name, file in {outputs}.items():
    x, y = held[name].cpu().numpy().astype(np.float64), np.load(f"expected/0/{{file}}").astype(np.float64)
    print(name, "distance to expected:", np.linalg.norm(x - y) / max(np.linalg.norm(y), 1e-30))
```"""


Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Profile:
    """Sizes of the inputs that have free ones: the least, and those of the samples."""

    least: Shapes
    usual: Shapes

    def words(self) -> str:
        """For trtexec."""
        kinds = (("min", self.least), ("opt", self.usual), ("max", self.usual))
        found = [(k, ",".join(f"{n}:{'x'.join(map(str, s))}" for n, s in shapes.items())) for k, shapes in kinds]
        return "".join(f" --{kind}Shapes={shlex.quote(text)}" for kind, text in found if text)

    def code(self) -> str:
        """For Python."""
        if not self.usual:
            return ""
        lines = ["profile = builder.create_optimization_profile()  # least, usual and largest size of each input"]
        lines += [f"profile.set_shape({json.dumps(n)}, {self.least[n]}, {s}, {s})" for n, s in self.usual.items()]
        return "\n".join([*lines, "config.add_optimization_profile(profile)", ""])


def readme(
    job: Job, model: Model, facts: Mapping[str, Any], profile: Profile, checks: Sequence[str], notes: Sequence[str]
) -> str:
    """The whole text."""
    file = f"{job.name}.onnx"
    feeds = {e["name"]: e["file"] for e in facts["inputs"]}
    loads = ", ".join(f'{json.dumps(name)}: np.load("inputs/0/{f}")' for name, f in feeds.items())
    python = PYTHON.format(
        model=file, profile=profile.code(), feeds="{" + loads + "}",
        outputs=json.dumps({e["name"]: e["file"] for e in facts["outputs"]}),
    )  # fmt: skip
    parts = [
        f"# {job.name} on NVIDIA TensorRT",
        f"`{file}` holds int8 layers as QuantizeLinear / DequantizeLinear pairs (explicit quantization): zero point 0, "
        f"one scale an activation, one a channel of a weight, float biases. Written by fewbit {__version__}, which is "
        "not needed to run it.",
        f"{job.result}." if job.result else "",
        _tensors("Inputs", facts["inputs"]),
        *(f"Images become `{i['name']}` like this: {image_text(i['image'])}." for i in facts["inputs"] if i["image"]),
        _tensors("Outputs", facts["outputs"]),
        "## Build\n\n" + _build(file, model, profile),
        "Free sizes are from the least to those of the samples above: put in those that you need, such as a larger "
        "batch."
        if profile.usual
        else "",
        "## Python\n\n" + python + "\n\nThis was written after NVIDIA's documentation and was not run.",
        "## Check\n\n`inputs/` holds samples, `expected/` what ONNX Runtime answers when it computes every Q and DQ as "
        "it stands. TensorRT rounds other sums, so answers differ by some percent of their length, not in class. "
        f"Side by side, layer by layer if you like: `polygraphy run {shlex.quote(file)} --trt --onnxrt --int8` "
        "(version 11: without `--int8`).\n\nWhat was checked when this folder was written:\n\n" + _items(checks),
        f"## Notes\n\n{_items(notes)}" if notes else "",
    ]
    return "\n\n".join(p for p in parts if p) + "\n"


def _build(file: str, model: Model, profile: Profile) -> str:
    """Commands of those versions that read the file, and what has to be known of them."""
    old = next((version for opset, version in OLD if model.opset <= opset), None)
    ten = next((version for opset, version in TEN if model.opset <= opset), None)
    if stores_integers(model):
        old = None
    commands = [COMMANDS["11"], *([COMMANDS["10"]] if ten else []), *([COMMANDS["8"]] if old else [])]
    words = {"model": shlex.quote(file), "shapes": profile.words(), "ten": ten, "old": old}
    left = "" if old else ", and versions before 10 do not read it"
    if stores_integers(model):
        left = ", and versions before 10 do not read its weights, which are stored as integers"
    return BUILD.format(
        commands="\n\n".join(c.format(**words) for c in commands), opsets=OPSETS, opset=model.opset, left=left
    )


def stores_integers(model: Model) -> bool:
    """Whether weights are integers in the file, which TensorRT reads from version 10 on."""
    return any(n.op_type == "DequantizeLinear" and n.inputs[0] is not None and is_const(n.inputs[0])
               for n in model.nodes)  # fmt: skip


def _tensors(title: str, entries: Sequence[Mapping[str, Any]]) -> str:
    rows = [f"| `{e['name']}` | {e['type']} | {e['shape']} |".replace("'", "") for e in entries]
    return "\n".join([f"## {title}", "", "| name | type | shape |", "|---|---|---|", *rows])


def _items(items: Sequence[str]) -> str:
    return "\n".join(f"- {item}" for item in items)
