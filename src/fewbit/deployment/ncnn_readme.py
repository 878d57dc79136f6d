"""README.md of a folder for ncnn: names of blobs, how images get in, Python and C++, what was checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fewbit import __version__
from fewbit.core.tables import size
from fewbit.deployment.about import image_text
from fewbit.deployment.base import Job

PIXELS = {"RGB": "PIXEL_RGB", "BGR": "PIXEL_RGB2BGR", "GRAY": "PIXEL_RGB2GRAY"}
"""Order of channels that the network takes → how ncnn makes it of RGB bytes."""


def readme(job: Job, facts: Mapping[str, Any], checks: Sequence[str], notes: Sequence[str]) -> str:
    """The whole text."""
    name = job.name
    weight = size(sum((job.folder / f).stat().st_size for f in (f"{name}.param", f"{name}.bin")))
    parts = [
        f"# {name} on ncnn",
        f"`{name}.param` and `{name}.bin`, {weight}. Written by fewbit {__version__}, which is not needed to run it.",
        f"{job.result}." if job.result else "",
        _blobs(facts),
        *_images(facts),
        _python(name, facts),
        _cpp(name, facts),
        "## Checked when this folder was written\n\n" + _items(checks),
        "## Notes\n\n" + _items([*notes, *_always()]),
        _files(job),
    ]
    return "\n\n".join(p for p in parts if p) + "\n"


def _blobs(facts: Mapping[str, Any]) -> str:
    rows = [f"| `{i['blob']}` | input | `{i['name']}` | {_shape(i['shape'][1:])} |" for i in facts["inputs"]]
    for o in facts["outputs"]:
        rounded = f", once rounded to multiples of {o['scale']:.7g}, at most 127 of them" if "scale" in o else ""
        rows.append(f"| `{o['blob']}` | output | `{o['name']}`{rounded} | {_shape(o['shape'][1:])} |")
    head = ["## Blobs", "", "| blob | | in ONNX | shape, without the batch axis |", "|---|---|---|---|"]
    return "\n".join([*head, *rows])


def _shape(dims: Sequence[Any]) -> str:
    return " × ".join(str(d) for d in dims) or "1"


def _images(facts: Mapping[str, Any]) -> list[str]:
    found = []
    for entry in facts["inputs"]:
        if entry["image"]:
            means, norms = mean_norm(entry["image"])
            found.append(
                f"Images become `{entry['blob']}` like this: {image_text(entry['image'])}. In ncnn: "
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


def _python(name: str, facts: Mapping[str, Any]) -> str:
    inputs = facts["inputs"]
    lines = ["pip install numpy pillow ncnn", "python verify.py           # inputs/ → outputs, compared with expected/"]
    lines.append("python run.py              # the first sample of inputs/")
    if any(i["image"] for i in inputs) and len(inputs) == 1:
        lines.append("python run.py photo.jpg")
    lines.append("python run.py --threads 1 --time")
    return "\n".join([
        "## Python", "", "```sh", *lines, "```", "",
        "`network.py` is the part for a program of your own: `Network(file).run(feeds)`. Or ncnn alone:", "",
        "```python", *_snippet(name, facts), "```",
    ])  # fmt: skip


def _snippet(name: str, facts: Mapping[str, Any]) -> list[str]:
    """Python that runs the first sample, and compares with what ncnn answered here."""
    lines = ["import ncnn", "import numpy as np", "", "net = ncnn.Net()"]
    lines += [f'net.load_param("{name}.param")', f'net.load_model("{name}.bin")']
    lines.append("# Mat borrows an array, so keep it in a variable; ncnn gets a copy, as it may write into its input")
    for i in facts["inputs"]:
        kind = "float32" if i["type"].startswith("float") else "int32"
        lines.append(f'{i["blob"]} = np.load("inputs/0/{i["file"]}")[0].astype(np.{kind})')
    lines.append("with net.create_extractor() as ex:")
    lines += [f'    ex.input("{i["blob"]}", ncnn.Mat({i["blob"]}).clone())' for i in facts["inputs"]]
    blobs = list(dict.fromkeys(o["blob"] for o in facts["outputs"]))
    lines += [f'    {b} = np.array(ex.extract("{b}")[1])' for b in blobs]
    for o in facts["outputs"]:
        found, want = o["blob"], f'np.load("expected/0/{o["file"]}").reshape({o["blob"]}.shape)'
        if "scale" in o:
            found = f"np.rint({found} / np.float32({o['scale']!r})).clip(-127, 127) * np.float32({o['scale']!r})"
        lines.append(f'print("{o["blob"]}", {o["blob"]}.shape, "off by", abs({found} - {want}).max())')
    return lines


def _cpp(name: str, facts: Mapping[str, Any]) -> str:
    lines = ["#include <ncnn/net.h>", "", "ncnn::Net net;", f'net.load_param("{name}.param");']
    lines += [f'net.load_model("{name}.bin");', "", "ncnn::Extractor ex = net.create_extractor();"]
    for entry in facts["inputs"]:
        blob = entry["blob"]
        lines += _fill(blob, entry)
        lines.append(f'ex.input("{blob}", {blob});')
    blobs = list(dict.fromkeys(o["blob"] for o in facts["outputs"]))
    for blob in blobs:
        lines += [f"ncnn::Mat {blob};", f'ex.extract("{blob}", {blob});']
    lines.append(f"const float* numbers = {blobs[0]}.channel(0);")
    return "\n".join(["## C++ (Android, iOS, Linux)", "", "```cpp", *lines, "```"])


def _fill(blob: str, entry: Mapping[str, Any]) -> list[str]:
    """C++ that makes the array of an input."""
    image, dims = entry["image"], entry["shape"][1:]
    if not image or image["layout"] != "NCHW":
        sides = ", ".join(str(d) for d in reversed(dims)) or "1"
        what = "" if entry["type"].startswith("float") else " with int32_t"
        return [f"ncnn::Mat {blob}({sides});  // fill it{what}: row by row, channel by channel ({blob}.channel(c))"]
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
        "networks are for one size of input; for another one deploy the ONNX network again, if its sizes are free, "
        "with input_shapes or --input-shapes",
    ]


def _items(items: Sequence[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def _files(job: Job) -> str:
    rows = {
        f"{job.name}.param, {job.name}.bin": "the network, int8 where the table has a line",
        f"{job.name}.table": "its scales, as ncnn2table writes and ncnn2int8 reads them",
        f"{job.name}-float.param, {job.name}-float.bin": "the same network in float32, which the table belongs to",
        "run.py, feeds.py, network.py, preprocess.py, verify.py": "Python, without fewbit",
        "network.json": "blobs, inputs, outputs, how images become inputs: what the scripts read",
        "inputs/, expected/": "samples, and what ncnn answered to them where this folder was written",
        "plan.json": "what is integer in it, in which range, and why",
    }
    there = {f: text for f, text in rows.items() if (job.folder / Path(f.split(",")[0])).exists()}
    return "## Files\n\n" + "\n".join(f"- `{f}`: {text}" for f, text in there.items())
