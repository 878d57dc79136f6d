"""What `fewbit report` takes beyond the comparison, how large its page is, how fast a browser opens it.

    python bench/report.py [--only NAME …] [--samples 16] [--opened 7]

Comparison and report run in turns, three times each. The page is opened in Chromium without a window, from a file:
`ready` is from the start of loading until the page has drawn its first charts and answers to the keyboard,
`click` until another layer that was chosen is drawn. Medians. Writes results/report.json and .md.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from common import table, write
from zoo.nets import NETWORKS

import fewbit as fb
from fewbit.errors import FewbitWarning

NAMES = ("demo", "efficientnet_lite0", "resnet50_random")
ROUNDS = 3

READY = """() => {
    const [n] = performance.getEntriesByType("navigation");
    return {ready: n.loadEventEnd, parsed: n.domInteractive};
}"""

CHOOSE = """() => new Promise(done => {
    const start = performance.now();
    location.hash = "#layer-3";
    requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now() - start)));
})"""


def measure(name: str, samples: int, opened: int, folder: Path) -> dict[str, Any]:
    """One network."""
    network = NETWORKS[name]
    given, out = network.build(), folder / f"{name}-int8.onnx"
    data = list(islice(network.calib(), samples))
    fb.quantize(given, data, effort="fast", verify=False).save(out)
    page = folder / f"{name}.html"
    seconds: dict[str, list[float]] = {"compare": [], "report": [], "page": []}
    for _ in range(ROUNDS):
        start = time.perf_counter()
        fb.compare(given, out, data)
        middle = time.perf_counter()
        made = fb.make_report(given, out, data)
        end = time.perf_counter()
        made.save(page)
        for key, took in (("compare", middle - start), ("report", end - middle), ("page", time.perf_counter() - end)):
            seconds[key].append(took)
    took = {key: statistics.median(x) for key, x in seconds.items()}
    return {
        "network": name, "layers": len(made.layers), "samples": samples,
        "compare s": took["compare"], "beyond s": took["report"] + took["page"] - took["compare"],
        "MB": page.stat().st_size / 1e6, **open_in_browser(page, opened),
    }  # fmt: skip


def open_in_browser(page: Path, times: int) -> dict[str, float]:
    """Milliseconds until it is ready, and until a layer that was chosen is drawn."""
    from playwright.sync_api import sync_playwright

    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        sys.exit("there is no browser: apt-get install chromium")
    found: dict[str, list[float]] = {"parsed": [], "ready": [], "click": []}
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--disable-gpu"])
        for _ in range(times):
            view = browser.new_page(viewport={"width": 1280, "height": 900})
            view.goto(page.resolve().as_uri(), wait_until="load")
            for key, ms in view.evaluate(READY).items():
                found[key].append(ms)
            found["click"].append(view.evaluate(CHOOSE))
            view.close()
        browser.close()
    return {f"{key} ms": statistics.median(ms) for key, ms in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", default=list(NAMES))
    parser.add_argument("--samples", type=int, default=16)
    parser.add_argument("--opened", type=int, default=7)
    args = parser.parse_args()
    warnings.simplefilter("ignore", FewbitWarning)
    with tempfile.TemporaryDirectory() as folder:
        rows = [measure(name, args.samples, args.opened, Path(folder)) for name in args.only]
    data = {"rounds": ROUNDS, "opened": args.opened, "rows": rows}
    write("report", data, page(data))


def page(data: Mapping[str, Any]) -> str:
    """The result for people."""
    rows = data["rows"]
    return (
        "`compare s`: `fewbit.compare` of both networks; `beyond s`: what the report takes in addition on the same "
        f"samples, page included (medians of {data['rounds']}).\n`parsed`, `ready`, `click`: milliseconds in Chromium "
        "until the page is parsed, until its first charts are drawn and it answers, until another layer that was "
        f"chosen is drawn (medians of {data['opened']}).\n\n" + table(list(rows[0]), [list(r.values()) for r in rows])
    )


if __name__ == "__main__":
    main()
