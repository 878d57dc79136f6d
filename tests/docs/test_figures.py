"""Figures in the README and the docs are those of the result files, and each result's page says what its JSON says.

A quote is written here as it is computed; it must stand in the page word for word, line breaks aside. Whoever measures
again is told which sentences to write again.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "bench" / "results"
README = "README.md"
NETWORKS = {  # as the README calls them
    "EfficientNet-Lite0": "efficientnet_lite0",
    "OCR detector": "rapidocr_det",
    "OCR recogniser": "rapidocr_rec",
    "MiniLM (BERT encoder)": "minilm",
    "silero-vad, half": "silero_vad_half",
    "silero-vad, sequence": "silero_vad_16k_sequence",
    "magika": "magika",
    "basic-pitch": "basic_pitch",
    "demo": "demo",
}
FORMS = ("float", "weight-8", "weight-6", "weight-4", "mixed", "mixed-coded", "dynamic", "full")


@cache
def result(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text("utf-8"))


@cache
def page(name: str) -> str:
    return " ".join((ROOT / name).read_text("utf-8").split())


def span(numbers: Iterable[float], form: str) -> tuple[str, str]:
    found = sorted(numbers)
    return format(found[0], form), format(found[-1], form)


# -- tables of the README ---------------------------------------------------------------------------------------------


def tool(network: str, name: str, what: str, digits: int) -> str:
    value = result("accuracy")["networks"][network]["tools"].get(name, {}).get(what)
    return "–" if value is None else f"{value:.{digits}f}"


def accuracy_row(label: str) -> str:
    network = NETWORKS[label]
    tools = result("accuracy")["networks"][network]["tools"]
    peers = {n: t["sqnr"] for n, t in tools.items() if "sqnr" in t and not n.startswith("fewbit") and "-w4" not in n}
    best = max(peers, key=lambda n: peers[n])
    ours = [tool(network, f"fewbit-{e}", "sqnr", 1) for e in ("fast", "default", "best")]
    theirs = [tool(network, n, "sqnr", 1) for n in ("ort-minmax", "nncf")]
    latency = [tool(network, n, "ratio", 2) for n in ("fewbit-default", "ort-minmax", "nncf")]
    return f"| {label} | {' | '.join([*ours, *theirs, f'{peers[best]:.1f} ({best})', *latency])} |"


def sizes_row(label: str, value: Callable[[dict[str, Any]], str]) -> str:
    rows = {r["form"]: r for r in result("sizes")["tables"]["minilm"]["rows"]}
    return f"| {label} | {' | '.join(value(rows[f]) for f in FORMS)} |".replace("|  |", "| |").replace("|  |", "| |")


def digits(key: str, form: str, by: float = 1.0) -> Callable[[dict[str, Any]], str]:
    return lambda row: "" if row[key] is None else format(row[key] / by, form)


def latency(row: dict[str, Any]) -> str:
    return "" if row["latency"] is None else "1" if row["form"] == "float" else f"{row['latency']:.2f}"


@pytest.mark.parametrize("label", NETWORKS)
def test_a_row_of_the_readmes_large_table(label: str) -> None:
    assert accuracy_row(label) in page(README)


def test_the_readmes_table_of_forms() -> None:
    rows = [
        sizes_row("file, MB", digits("file", ".1f", 1e6)),
        sizes_row("peak, MiB", digits("peak_mib", ".0f")),
        sizes_row("latency ÷ float", latency),
    ]
    for row in rows:
        assert row in page(README)


# -- sentences --------------------------------------------------------------------------------------------------------


def mxnet_entropy() -> str:
    return "{} to {}".format(*span((n["wall"]["entropy"]["ratio"] for n in mxnet_networks()), ".2f"))


def mxnet_networks() -> list[dict[str, Any]]:
    return [n for k, n in result("mxnet").items() if k not in ("machine", "params")]


def mxnet_latency(threads: int) -> str:
    ratios = (t["ratio"] for n in mxnet_networks() for k, t in n["latency"].items() if k.startswith(f"{threads}/"))
    return "{} to {}".format(*span(ratios, ".2f"))


def mxnet_gain() -> str:
    gains = (
        n["sqnr"][f"fewbit {mode} default"] - n["sqnr"][f"mxnet {mode}"]
        for n in mxnet_networks() for mode in ("naive", "entropy")
    )  # fmt: skip
    return "{} to {} dB".format(*span(gains, ".0f"))


def zoo_difference() -> str:
    found = [v for n in result("mxnet_zoo")["networks"].values() for k, v in n.items() if "difference" in k and v]
    return f"{max(found):.0e}".replace("e-0", "e-")


def calibration(tool: str) -> dict[str, float]:
    return result("calibration")["tools"][tool]


def mixed_gain() -> str:
    scales = result("mixed_bit")["networks"]["efficientnet_lite0"]["scales"].values()
    return "{} to {} dB".format(*span((s["ours"]["sqnr"] - s["twin"]["sqnr"] for s in scales), ".0f"))


def retrained(network: str, setting: str) -> list[dict[str, float]]:
    rows = result("qat")["rows"]
    return [v for k, v in rows.items() if k.startswith(f"{network}/{setting}") and k.split("/")[1] != "float"]


def won_back(*networks: str) -> str:
    """Of what naive ranges lose with 4 bits, by network and granularity, over seeds."""
    found = []
    for network in networks:
        for setting in ("u4-layer", "u4-channel"):
            if rows := retrained(network, setting):
                lost = sum(r["float"] - r["naive"] for r in rows)
                found.append(100 * sum(r["after"] - r["naive"] for r in rows) / lost)
    return "{} to {} %".format(*span(found, ".0f"))


def lost_with_2_bits() -> str:
    rows = retrained("resnet8", "u2-channel")
    return f"{100 * sum(r['float'] - r['after'] for r in rows) / len(rows):.1f}"


def step() -> str:
    ratios = (r for n in result("qat_step")["networks"].values() for k, r in n["ratios"].items() if k != "float")
    return "{} to {}".format(*span(ratios, ".1f"))


def faster(network: str, engine: str) -> str:
    return f"{result('latency')['rows'][f'{network}/{engine}/1']['ratio']['fewbit']:.2f}"


def deployer_row(label: str) -> str:
    network = NETWORKS[label]
    return f"| {label} | {tool(network, 'fewbit-default', 'ratio', 2)} | {tool(network, 'fewbit-default', 'sqnr', 1)} |"


QUOTES: list[tuple[str, Callable[[], str]]] = [
    (README, lambda: f"entropy calibration takes {mxnet_entropy()} of its time"),
    (README, lambda: f"runs at {mxnet_latency(1)} of the time of MXNet's on one thread, {mxnet_latency(2)} on two"),
    (README, lambda: f"has {mxnet_gain().replace(' dB', '')} dB less error"),
    (README, lambda: f"[to {zoo_difference()} at most]"),
    (README, lambda: f"takes {calibration('fewbit-entropy')['ratio']:.2f} times the float forward"),
    (README, lambda: f"and {calibration('fewbit-entropy')['rss_mib']:.0f} MiB"),
    (README, lambda: f"ORT's quantizer {calibration('ort-entropy')['ratio']:.1f} times"),
    (README, lambda: f"NNCF's min-max {calibration('nncf')['ratio']:.1f} times"),
    (README, lambda: f"mixed bit has {mixed_gain()} more SQNR"),
    (README, lambda: f"A training step takes {step()} times the float one"),
    (README, lambda: f"4 bits win back {won_back('resnet8', 'resnet20')} of what naive ranges lose on ResNets"),
    (README, lambda: f"{won_back('mobilenet0.25')} on MobileNet 0.25"),
    (README, lambda: f"2 bits lose {lost_with_2_bits()} points on ResNet-8"),
    ("docs/users/researcher.md", lambda: f"ResNets | {won_back('resnet8', 'resnet20')} of what naive ranges lose"),
    ("docs/users/researcher.md", lambda: f"four epochs | {won_back('mobilenet0.25')} |"),
    ("docs/users/researcher.md", lambda: f"six epochs | {lost_with_2_bits()} points lost |"),
    ("docs/users/legacy.md", lambda: f"| {mxnet_entropy()} of MXNet's time |"),
    ("docs/users/legacy.md", lambda: f"| {mxnet_gain()} less error"),
    ("docs/users/legacy.md", lambda: f"to {zoo_difference()} at most"),
    ("docs/users/legacy.md", lambda: f"one with {mixed_gain()} more SQNR"),
    ("docs/users/researcher.md", lambda: f"| a training step | {step()} times the float one |"),
    ("docs/users/deployer.md", lambda: deployer_row("EfficientNet-Lite0")),
    ("docs/users/deployer.md", lambda: deployer_row("OCR detector")),
    ("docs/users/deployer.md", lambda: deployer_row("MiniLM (BERT encoder)")),
    (
        "docs/howto/speed.md",
        lambda: (
            f"int8 takes {faster('resnet50_random', 'openvino')} of it for ResNet-50 and "
            f"{faster('efficientnet_lite0', 'openvino')} for EfficientNet-Lite0, in ONNX Runtime "
            f"{faster('resnet50_random', 'onnxruntime')} and {faster('efficientnet_lite0', 'onnxruntime')}"
        ),
    ),
]


@pytest.mark.parametrize(("name", "quote"), QUOTES, ids=range(len(QUOTES)))
def test_a_quoted_figure_is_that_of_the_result(name: str, quote: Callable[[], str]) -> None:
    assert quote() in page(name), f"{name} should say: {quote()}"


def test_a_figure_that_is_not_measured_is_not_found() -> None:
    assert accuracy_row("demo").replace("37.3", "38.3") not in page(README)


# -- pages of results -------------------------------------------------------------------------------------------------


def test_every_result_has_both_files() -> None:
    names = {f.stem for f in RESULTS.glob("*.json")}
    assert names == {f.stem for f in RESULTS.glob("*.md")}
    pictures = {m for f in RESULTS.glob("*.md") for m in re.findall(r"!\[[^]]*\]\(([^)]+)\)", f.read_text("utf-8"))}
    assert pictures == {f.name for f in RESULTS.glob("*.svg")}


def test_every_page_of_results_says_what_its_json_says() -> None:
    """Each is made again by its script, without measuring; in a process of its own, as scripts import each other."""
    env = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    made = subprocess.run(
        [sys.executable, str(ROOT / "bench" / "render.py"), "--check"],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stdout + made.stderr
