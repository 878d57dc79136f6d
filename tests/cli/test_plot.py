"""`fewbit plot`: pictures from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Cli


@pytest.mark.parametrize("ending", ["svg", "png", "html", "dot", "json"])
def test_a_drawing_of_each_form(cli: Cli, net: Path, tmp_path: Path, ending: str) -> None:
    out = tmp_path / f"x.{ending}"
    done = cli("plot", net, "-o", out)
    assert done.code == 0 and f"wrote {out}" in done.out and "4 layers" in done.out and not done.err
    assert out.stat().st_size > 500


def test_both_networks_side_by_side(cli: Cli, net: Path, quantized: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.dot"
    assert cli("plot", net, quantized, "--output", out).code == 0
    text = out.read_text("utf-8")
    assert all(f"cluster_{s}" in text for s in ("float", "fused", "quantized")) and "u8" in text


def test_what_a_plan_would_make(cli: Cli, net: Path, quantized: Path, tmp_path: Path) -> None:
    plan = quantized.with_name("int8.plan.json")
    for words in (["--stage", "quantized", "--quantize-mode", "full"], ["--plan", plan]):
        done = cli("plot", net, "-o", tmp_path / "x.json", "--json", *words)
        found = json.loads(done.out)
        assert [s["name"] for s in found["stages"]] == ["quantized"]
        assert "integer" in {b["verdict"] for b in found["stages"][0]["boxes"]}
    assert json.loads((tmp_path / "x.json").read_text("utf-8")) == found


def test_ways_to_draw(cli: Cli, net: Path, quantized: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.dot"
    assert cli("plot", quantized, "-o", out, "--every-node", "--weights", "--no-fold").code == 0
    assert "QuantizeLinear" in out.read_text("utf-8") and "weight" in out.read_text("utf-8")
    assert cli("plot", net, "-o", out, "--depth", 0, "--quiet", "--input-shapes", "x:2,3,6,6").said == ""
    assert "2×3×6×6" in out.read_text("utf-8")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "-o net.html"),
        (["-o", "x.pdf"], ".svg, .png, .html, .dot or .json"),
        (["-o", "gone/x.svg"], "no folder"),
        (["-o", "x.svg", "--stage", "int"], "unknown stage"),
        (["-o", "x.svg", "--depth", "1", "--no-fold"], "give one of them"),
        (["-o", "x.svg", "--params", "w.params"], "leave params out"),
    ],
)
def test_what_is_refused(
    cli: Cli, net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.iterdir())
    done = cli("plot", net, *words)
    assert done.code and said in " ".join(done.err.split())
    assert set(tmp_path.iterdir()) == before


def test_the_network_is_not_overwritten(cli: Cli, net: Path) -> None:
    link = net.with_name("x.dot")
    link.symlink_to(net)
    done = cli("plot", net, "-o", link)
    assert done.code == 2 and "is the input itself" in " ".join(done.err.split())
