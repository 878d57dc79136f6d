"""`fewbit report` and `quantize --report`: the page is there or nothing is, and says how to make it again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fewbit.cli.report import NUMBERS, _pictures
from tests.cli.conftest import Cli


def test_a_page_with_its_numbers(cli: Cli, net: Path, quantized: Path, data: Path, tmp_path: Path) -> None:
    page, folder = tmp_path / "r.html", tmp_path / "numbers"
    words = ["report", net, quantized, "--data", data, "-o", page, "--save-data", folder, "--limit", 4, "--threads", 1]
    done = cli(*words)
    assert done.code == 0 and "worst layer" in done.out
    assert f"wrote {page} and {folder}" in " ".join(done.out.split())
    text = page.read_text("utf-8")
    assert text.startswith("<!doctype html>") and "http://" not in text.replace("http://www.w3.org/", "")
    found = json.loads((folder / "report.json").read_text("utf-8"))
    assert found["summary"]["command"].startswith("fewbit report ") and "--limit 4" in found["summary"]["command"]
    assert found["summary"]["samples"] == 4
    assert (folder / "layers.csv").exists() and (folder / "histograms.csv").exists()
    drawn = tmp_path / "drawn"
    assert cli("report", net, quantized, "--data", data, "--save-pictures", drawn, "--limit", 1).code == 0
    assert (drawn / "errors.svg").exists()


def test_json_alone(cli: Cli, net: Path, quantized: Path, data: Path) -> None:
    done = cli("report", net, quantized, "--data", data, "--json", "--engine", "onnxruntime")
    assert done.code == 0 and json.loads(done.out)["layers"] and not done.err


def test_quiet_says_nothing(cli: Cli, net: Path, quantized: Path, data: Path, tmp_path: Path) -> None:
    plan = quantized.with_name("int8.plan.json")
    done = cli("report", net, quantized, "--data", data, "-o", tmp_path / "r.json", "--quiet", "--plan", plan)
    assert done.said == "" and json.loads((tmp_path / "r.json").read_text("utf-8"))["fewbit"]


def test_what_other_verbs_measured_is_shown(cli: Cli, net: Path, quantized: Path, data: Path, tmp_path: Path) -> None:
    ranked = tmp_path / "ranked.json"
    ranked.write_text(cli("sensitivity", net, "--data", data, "--json", "--quantize-mode", "full").out)
    out = tmp_path / "r.json"
    assert cli("report", net, quantized, "--data", data, "-o", out, "--add", ranked).code == 0
    assert json.loads(out.read_text("utf-8"))["sensitivity"]["kind"] == "measured"
    out.unlink()
    assert cli("report", net, quantized, "--data", data, "-o", out, "--include", "sensitivity").code == 0
    assert json.loads(out.read_text("utf-8"))["sensitivity"]["kind"] == "measured"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "-o report.html"),
        (["-o", "r.pdf"], ".html or .json"),
        (["-o", "gone/r.html"], "no folder"),
        (["-o", "r.html", "--include", "sense"], "sensitivity"),
        (["-o", "r.html", "--add", "gone.json"], "cannot read gone.json"),
        (["-o", "r.html", "--engine", "onnx"], "onnxruntime"),
    ],
)
def test_mistakes_cost_nothing(
    cli: Cli, net: Path, quantized: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    words: list[str], said: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    done = cli("report", net, quantized, "--data", data, *words)
    assert done.code in (1, 2) and said in done.err and not list(tmp_path.iterdir())


def test_data_is_needed(cli: Cli, net: Path, quantized: Path, tmp_path: Path) -> None:
    assert "--data" in cli("report", net, quantized, "-o", tmp_path / "r.html").err


def test_inputs_are_never_overwritten(cli: Cli, net: Path, quantized: Path, data: Path, tmp_path: Path) -> None:
    twin = tmp_path / "r.json"
    twin.symlink_to(quantized.with_name("int8.plan.json"))
    before = twin.read_bytes()
    plan = ["--plan", quantized.with_name("int8.plan.json")]
    assert "input itself" in cli("report", net, quantized, "--data", data, "-o", twin, *plan).err
    assert twin.read_bytes() == before


def test_folders_hold_what_they_say(cli: Cli, net: Path, quantized: Path, data: Path, tmp_path: Path) -> None:
    numbers, drawn = tmp_path / "numbers", tmp_path / "drawn"
    words = ["report", net, quantized, "--data", data, "--limit", 1]
    assert cli(*words, "--save-data", numbers, "--save-pictures", drawn).code == 0
    assert {f.name for f in numbers.iterdir()} == set(NUMBERS)
    assert {f.name for f in drawn.iterdir()} <= set(_pictures(0))


@pytest.mark.parametrize("flag", ["--save-data", "--save-pictures"])
@pytest.mark.parametrize("way", ["plan", "config", "link", "folder", "file", "foreign"])
def test_folders_lose_nothing_that_is_read(
    cli: Cli, net: Path, quantized: Path, data: Path, tmp_path: Path, flag: str, way: str
) -> None:
    """Each refused before the work, with the way of it; what is there stays."""
    name = "report.json" if flag == "--save-data" else "errors.svg"
    folder = tmp_path / "out"
    folder.mkdir()
    plan, more, code, said = quantized.with_name("int8.plan.json"), [], 2, "is the input itself"
    if way == "plan":
        (folder / name).write_bytes(plan.read_bytes())
        more = ["--plan", folder / name]
    elif way == "config":
        (folder / name).write_text("[data]\nbatch_size = 2\n")
        more = ["--config", folder / name]
    elif way == "link":  # to the plan that is read unasked
        (folder / name).symlink_to(plan)
    elif way == "folder":
        (folder / name).mkdir()
        code, said = 1, "it is a folder"
    elif way == "file":
        folder.rmdir()
        folder.write_text("mine")
        code, said = 1, "it is not a folder"
    else:
        (folder / name).write_text("an older one")
        code, said = 0, ""
    before = {p: p.read_bytes() for p in (plan, *tmp_path.rglob("*")) if p.is_file()}
    done = cli("report", net, quantized, "--data", data, "--limit", 1, flag, folder, *more)
    assert done.code == code and said in done.err, done.said
    if code:
        assert {p: p.read_bytes() for p in (plan, *tmp_path.rglob("*")) if p.is_file()} == before


def test_the_plan_beside_is_not_the_page(cli: Cli, net: Path, quantized: Path, data: Path) -> None:
    plan = quantized.with_name("int8.plan.json")
    before = plan.read_bytes()
    done = cli("report", net, quantized, "--data", data, "-o", plan)
    assert done.code == 2 and "is the input itself" in done.err and plan.read_bytes() == before


def test_page_and_numbers_are_two(cli: Cli, net: Path, quantized: Path, data: Path, tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    done = cli(
        "report", net, quantized, "--data", data, "-o", tmp_path / "d/report.json", "--save-data", tmp_path / "d"
    )
    assert done.code == 2 and "the numbers of --save-data and the output are both" in done.err
    assert not list((tmp_path / "d").iterdir())


def test_quantize_writes_it_as_well(cli: Cli, net: Path, data: Path, tmp_path: Path) -> None:
    out, page = tmp_path / "q.onnx", tmp_path / "q.json"
    words = ["quantize", net, "-o", out, "--data", data, "--quantize-mode", "full", "--report", page]
    done = cli(*words, "--num-calib-batches", 4)
    assert done.code == 0 and f"{page} shows it" in done.out
    found = json.loads(page.read_text("utf-8"))["summary"]
    assert found["samples"] == 8 and found["command"].startswith("fewbit quantize") and not found["notes"]
    assert cli(*words).code == 0
    assert "calibrated on" in json.loads(page.read_text("utf-8"))["summary"]["notes"][-1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--report", "q.onnx"], "html"),
        (["--report", "r.txt"], ".html or .json"),
        (["--report", "q.plan.json"], "its plan and the report are both q.plan.json"),
        (["--report", "q-symbol.json", "-o", "q-symbol.json"], "the output and the report are both q-symbol.json"),
        (["--report", "d/../q.plan.json", "-o", "q-symbol.json"], "its plan and the report are both"),
        (["--report", "plan.json", "--debug-info-save-path", "."], "debug tables and the report are both plan.json"),
    ],
)
def test_quantize_refuses_before_the_work(
    cli: Cli, net: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d").mkdir()
    done = cli("quantize", net, "-o", "q.onnx", "--data", data, *words)
    assert done.code == 2 and said in done.err and not list((tmp_path / "d").iterdir())
    (tmp_path / "d").rmdir()
    assert not list(tmp_path.iterdir())
    done = cli("quantize", net, "-o", "q.onnx", "--quant-type", "dynamic", "--report", "r.html")
    assert done.code == 2 and "--data" in done.err and not list(tmp_path.iterdir())
