"""How long drawings take: a static picture, and the page's first layout in Chromium.

    python bench/plot.py [--rounds 3] [--chromium PATH]

demo         the demo network, float, fused and quantized by plan
resnet50     of the zoo (FEWBIT_ZOO), likewise
500 nodes    125 residual blocks of four nodes, named by scopes; `unfolded`: every box drawn
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from common import table, write
from onnx import TensorProto, helper, numpy_helper

import fewbit as fb
from fewbit.api import plot

BLOCKS = 125

NOTE = """Seconds, median of some runs. data: reading the network's structure, groups and formats. svg, png: the whole \
way from the loaded network to the picture of the quantized stage. Chromium: from opening the page of all three stages \
to the end of their layout."""


def residual(blocks: int = BLOCKS) -> onnx.ModelProto:
    """x ─ [Conv ─ Relu ─ Conv ─ Add with what came in] × blocks, in stages of 25."""
    nodes, weights, at = [], [], "x"
    for i in range(blocks):
        scope = f"stage{i // 25}/block{i % 25}"
        for k in (1, 2):
            weights.append(numpy_helper.from_array(np.zeros((8, 8, 3, 3), np.float32), f"{scope}/w{k}"))
        conv = {"pads": [1, 1, 1, 1]}
        nodes += [
            helper.make_node("Conv", [at, f"{scope}/w1"], [f"{scope}/a"], f"{scope}/conv1", **conv),
            helper.make_node("Relu", [f"{scope}/a"], [f"{scope}/b"], f"{scope}/relu"),
            helper.make_node("Conv", [f"{scope}/b", f"{scope}/w2"], [f"{scope}/c"], f"{scope}/conv2", **conv),
            helper.make_node("Add", [f"{scope}/c", at], [f"{scope}/y"], f"{scope}/add"),
        ]
        at = f"{scope}/y"
    ends = [[helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 8, 32, 32])] for n in ("x", at)]
    graph = helper.make_graph(nodes, "residual", *ends, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


def seconds(run: Callable[[], Any], rounds: int) -> float:
    """Median of some rounds."""
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def first_layout(page: Path, chromium: str, rounds: int) -> float:
    """From opening the page to all panes laid out."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--disable-gpu"])

        def run() -> None:
            tab = browser.new_page()
            tab.goto(page.resolve().as_uri())
            tab.wait_for_selector("html[data-ready]", timeout=120_000)
            tab.close()

        run()
        found = seconds(run, rounds)
        browser.close()
    return found


def measure(model: Path, folder: Path, chromium: str | None, rounds: int, *, fold: bool) -> dict[str, Any]:
    """One network."""
    loaded = fb.load(model)
    drawn = plot(loaded, stage="all", fold=fold)
    page = folder / f"{model.stem}.html"
    drawn.save(page)
    one = plot(loaded, stage="quantized", fold=fold)
    return {
        "nodes": len(loaded.nodes),
        "boxes": sum(1 for line in one.dot().splitlines() if ' [id="' in line),
        "data": seconds(lambda: plot(loaded, stage="quantized"), rounds),
        "svg": seconds(lambda: plot(loaded, stage="quantized", fold=fold).svg(), rounds),
        "png": seconds(lambda: plot(loaded, stage="quantized", fold=fold).png(), rounds),
        "html": page.stat().st_size,
        "first_layout": first_layout(page, chromium, rounds) if chromium else None,
    }


def page(data: Mapping[str, Any]) -> str:
    """The results, for people."""
    heads = ["network", "nodes", "boxes", "data s", "svg s", "png s", "page MB", "three stages in Chromium s"]
    rows = [
        [what, r["nodes"], r["boxes"], r["data"], r["svg"], r["png"], r["html"] / 1e6, r["first_layout"]]
        for what, r in data["networks"].items()
    ]
    return f"{NOTE}\n\n{table(heads, rows)}"


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--chromium", default=shutil.which("chromium"))
    args = parser.parse_args()
    demo = Path(fb.__file__).parent / "demo_data" / "demo.onnx"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        large = folder / "residual500.onnx"
        onnx.save(residual(), large)
        cases: dict[str, tuple[Path, bool]] = {"demo": (demo, True)}
        zoo = Path(os.environ.get("FEWBIT_ZOO", "")) / "resnet50.onnx"
        if zoo.is_file():
            cases |= {"resnet50": (zoo, True), "resnet50, unfolded": (zoo, False)}
        cases |= {"500 nodes": (large, True), "500 nodes, unfolded": (large, False)}
        found = {what: measure(m, folder, args.chromium, args.rounds, fold=fold) for what, (m, fold) in cases.items()}
    packages = {p: version(p) for p in ("mini-racer", "resvg-py")}
    data = {"packages": packages, "networks": found}
    write("plot", data, page(data))


if __name__ == "__main__":
    main()
