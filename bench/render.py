"""results/NAME.md made again from results/NAME.json, without measuring anything.

    python bench/render.py [NAME …]            writes what differs
    python bench/render.py --check [NAME …]    says what differs; exit status 1 if anything does

A page whose script says things otherwise by now is made anew this way. The tests run `--check`, so no figure can be
changed on one side only. (sizes: the tables are text in the JSON, too.)

A new script needs no line here if its file is called as its result and has a function page(data) → text; `data` is what
it gives to `write`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from common import RESULTS, head

sys.path.append(str(Path(__file__).parent / "mxnet"))

Data = Mapping[str, Any]
PAGES: dict[str, tuple[str, Callable[[Any, Data], str]]] = {
    "accuracy": ("accuracy_page", lambda script, d: script.page(d["networks"])),
    "caffe": ("caffe_check", lambda script, d: script.page(d["networks"], d["opencv"])),
    "calibration": ("calibration", lambda script, d: script.page(d["tools"], d["kl_ms"])),
    "deploy": ("deploy", lambda script, d: script.page(d["networks"])),
    "dynamic": ("dynamic", lambda script, d: script.page(d["layers"], d["minilm"])),
    "fse": ("fse", lambda script, d: script.page(d["rows"], d["left_out"])),
    "latency": ("latency", lambda script, d: script.page(d["rows"])),
    "measured": ("measured", lambda script, d: script.page(d["networks"])),
    "mixed_bit": ("mixed_bit", lambda script, d: script.page(d["networks"])),
    "mxnet": ("compare", lambda script, d: script.page(d)),
    "mxnet_ssd": ("ssd_check", lambda script, d: script.page(d["float"], d["int8"])),
    "mxnet_zoo": ("zoo_check", lambda script, d: script.page(d["networks"])),
    "ncnn": ("ncnn_check", lambda script, d: script.text(d["rows"])),
    "networks": ("networks", lambda script, d: script.page(d["networks"])),
    "operators-onnxruntime": ("operators", lambda script, d: script.page(d["cases"], d["rounds"])),
    "operators-openvino": ("operators", lambda script, d: script.page(d["cases"], d["rounds"])),
    "packed": ("packed", lambda script, d: script.page(d["sizes"], d["loads"])),
    "qat": ("qat", lambda script, d: script.page(d["rows"])),
    "qat_step": ("qat_step", lambda script, d: script.page(d["networks"], d["threads"], d["load"])),
    "simulate": ("simulate", lambda script, d: script.page(d["results"])),
    "sizes": ("sizes", lambda script, d: script.page(d["tables"])),
    "tensorrt": ("tensorrt_check", lambda script, d: script.text(d["results"])),
    "tflite": ("tflite_check", lambda script, d: script.page(d["rows"], d["quantized"])),
    "weight_only": ("weight_only", lambda script, d: script.page(d["networks"])),
}


def rendered(name: str) -> str:
    """The markdown of a result; empty if nothing makes it."""
    data = json.loads((RESULTS / f"{name}.json").read_text("utf-8"))
    machine = data.pop("machine")
    script, make = PAGES.get(name, (name, lambda script, d: script.page(d)))
    module = import_module(script)
    if name not in PAGES and not hasattr(module, "page"):
        return ""
    return f"# {name}\n\n{head(machine)}\n\n{make(module, data)}\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    names = args.names or sorted(f.stem for f in RESULTS.glob("*.json"))
    pages = {n: rendered(n) for n in names}
    unknown = [n for n, text in pages.items() if not text]
    for name in unknown:
        print(f"{name}: bench/{name}.py has no function page(data), nor is it in PAGES of bench/render.py")
    differ = [n for n, text in pages.items() if text and text != (RESULTS / f"{n}.md").read_text("utf-8")]
    for name in differ:
        if not args.check:
            (RESULTS / f"{name}.md").write_text(pages[name], "utf-8")
        print(f"{name}.md {'is not what' if args.check else 'was made again: it was not what'} {name}.json says")
    return 1 if unknown or (args.check and differ) else 0


if __name__ == "__main__":
    sys.exit(main())
