"""README.md of a folder for ncnn: names of blobs, how images get in, Python and C++, what was checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewbit import __version__
from fewbit.core.tables import size
from fewbit.deployment.about import image_text
from fewbit.deployment.base import Job

if TYPE_CHECKING:
    from fewbit.engines.ncnn.net import NcnnNet

PIXELS = {"RGB": "PIXEL_RGB", "BGR": "PIXEL_RGB2BGR", "GRAY": "PIXEL_RGB2GRAY"}
"""Order of channels that the network takes → how ncnn makes it of RGB bytes."""


def readme(job: Job, net: NcnnNet, facts: Mapping[str, Any], checks: Sequence[str], notes: Sequence[str]) -> str:
    """The whole text."""
    name = job.name
    weight = size(sum((job.folder / f).stat().st_size for f in (f"{name}.param", f"{name}.bin")))
    parts = [
        f"# {name} on ncnn",
        f"`{name}.param` and `{name}.bin`, {weight}. Written by fewbit {__version__}, which is not needed to run it.",
        _blobs(net, facts),
        *_images(facts, net),
        _python(name, net),
        _cpp(name, net, facts),
        "## Checked when this folder was written\n\n" + _items(checks),
        "## Notes\n\n" + _items([*notes, *_always()]),
        _files(job),
    ]
    return "\n\n".join(p for p in parts if p) + "\n"


def _blobs(net: NcnnNet, facts: Mapping[str, Any]) -> str:
    rows = [
        f"| `{net.inputs[i['name']]}` | input | `{i['name']}` | {_shape(i['shape'][1:])} |" for i in facts["inputs"]
    ]
    rows += [
        f"| `{net.outputs[o['name']]}` | output | `{o['name']}` | {_shape(net.shapes[o['name']])} |"
        for o in facts["outputs"]
        if o["name"] in net.outputs
    ]
    head = ["## Blobs", "", "| blob | | in ONNX | shape, without the batch axis |", "|---|---|---|---|"]
    return "\n".join([*head, *rows])


def _shape(dims: Sequence[Any]) -> str:
    return " × ".join(str(d) for d in dims) or "1"


def _images(facts: Mapping[str, Any], net: NcnnNet) -> list[str]:
    found = []
    for entry in facts["inputs"]:
        if entry["image"]:
            means, norms = mean_norm(entry["image"])
            found.append(
                f"Images become `{net.inputs[entry['name']]}` like this: {image_text(entry['image'])}. In ncnn: "
                f"`substract_mean_normalize` with mean `{_list(means)}`, norm `{_list(norms)}` on "
                f"`{PIXELS[entry['image']['colour']]}` (of RGB bytes). ncnn resizes without smoothing: shrink "
                "photographs by the method named here before they get there, or accuracy suffers."
            )
    return found


def mean_norm(image: Mapping[str, Any]) -> tuple[list[float], list[float]]:
    """What `substract_mean_normalize` takes: (x - mean) · norm, one number a channel."""
    channels = 1 if image["colour"] == "GRAY" else 3
    means, stds = (list(image[key]) for key in ("mean", "std"))
    means = means * channels if len(means) == 1 else means or [0.0] * channels
    stds = stds * channels if len(stds) == 1 else stds or [1.0] * channels
    return means, [1 / s for s in stds]


def _list(numbers: Sequence[float]) -> str:
    return ", ".join(f"{x:.7g}" for x in numbers)


def _python(name: str, net: NcnnNet) -> str:
    feeds = [
        f'    ex.input("{b}", ncnn.Mat(np.load("{b}.npy")).clone())  # Mat alone would not keep the array'
        for b in net.inputs.values()
    ]
    blobs = ", ".join(f'"{b}"' for b in net.outputs.values())
    return "\n".join([
        "## Python", "", "`pip install ncnn numpy`. The `.npy` files: one sample, and what ncnn answered here.", "",
        "```python",
        "import ncnn", "import numpy as np", "",
        "net = ncnn.Net()",
        f'net.load_param("{name}.param")',
        f'net.load_model("{name}.bin")',
        "with net.create_extractor() as ex:",
        *feeds,
        f"    answers = {{blob: np.array(ex.extract(blob)[1]) for blob in ({blobs},)}}",
        "for blob, x in answers.items():",
        '    print(blob, x.shape, "off by", np.abs(x - np.load(f"{blob}.npy")).max())',
        "```",
    ])  # fmt: skip


def _cpp(name: str, net: NcnnNet, facts: Mapping[str, Any]) -> str:
    lines = ["#include <ncnn/net.h>", "", "ncnn::Net net;", f'net.load_param("{name}.param");']
    lines += [f'net.load_model("{name}.bin");', "", "ncnn::Extractor ex = net.create_extractor();"]
    for entry in facts["inputs"]:
        blob = net.inputs[entry["name"]]
        lines += _fill(blob, entry)
        lines.append(f'ex.input("{blob}", {blob});')
    for blob in net.outputs.values():
        lines += [f"ncnn::Mat {blob};", f'ex.extract("{blob}", {blob});']
    first = next(iter(net.outputs.values()))
    lines.append(f"const float* numbers = {first}.channel(0);")
    return "\n".join(["## C++ (Android, iOS, Linux)", "", "```cpp", *lines, "```"])


def _fill(blob: str, entry: Mapping[str, Any]) -> list[str]:
    """C++ that makes the array of an input."""
    image, dims = entry["image"], entry["shape"][1:]
    if not image or image["layout"] != "NCHW":
        sides = ", ".join(str(d) for d in reversed(dims))
        return [f"ncnn::Mat {blob}({sides});  // fill it: row by row, channel by channel ({blob}.channel(c))"]
    height, width = dims[-2:]
    means, norms = mean_norm(image)
    return [
        f"// pixels: RGB bytes of an image of {width}x{height}; from_pixels_resize takes other sizes",
        f"ncnn::Mat {blob} = ncnn::Mat::from_pixels(pixels, ncnn::Mat::{PIXELS[image['colour']]}, {width}, {height});",
        f"const float mean_{blob}[] = {{{_floats(means)}}}, norm_{blob}[] = {{{_floats(norms)}}};",
        f"{blob}.substract_mean_normalize(mean_{blob}, norm_{blob});",
    ]


def _floats(numbers: Sequence[float]) -> str:
    return ", ".join(f"{x:#.7g}f" for x in numbers)


def _always() -> list[str]:
    return [
        "by default ncnn computes float layers in 16 bits where the processor can (`net.opt.use_fp16_arithmetic`, …); "
        "the checks above were made in 32",
        "networks are for one size of input; for another one load the ONNX network with other input_shapes and deploy "
        "again",
    ]


def _items(items: Sequence[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def _files(job: Job) -> str:
    rows = {
        f"{job.name}.param, {job.name}.bin": "the network, int8 where the table has a line",
        f"{job.name}.table": "its scales, as ncnn2table writes and ncnn2int8 reads them",
        f"{job.name}-float.param, {job.name}-float.bin": "the same network in float32, which the table belongs to",
        "plan.json": "what is integer in it, in which range, and why",
    }
    there = {f: text for f, text in rows.items() if (job.folder / Path(f.split(",")[0])).is_file()}
    return "## Files\n\n" + "\n".join(f"- `{f}`: {text}" for f, text in there.items())
