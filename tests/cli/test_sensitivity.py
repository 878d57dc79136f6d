"""`fewbit sensitivity`: ranks layers, keeps what it measured, and says what to paste."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

import fewbit as fb
from fewbit.config import CORRECTIONS
from fewbit.errors import UsageError
from tests.cli.conftest import Cli

FULL = ["--quantize-mode", "full"]


def test_layers_are_ranked(cli: Cli, net: Path, data: Path) -> None:
    done = cli("sensitivity", net, "--data", data, *FULL)
    assert done.code == 0 and done.out.startswith("as planned: SQNR ")
    assert "12 samples" in done.out and "layers, 2 of 2" in done.out and "left dB" in done.out
    found = json.loads(cli("sensitivity", net, "--data", data, *FULL, "--no-left", "--samples", 5, "--json").out)
    assert {x["node"] for x in found["layers"]} == {"conv", "fc"} and found["samples"] == 5
    assert all(x["left"] is None for x in found["layers"])
    assert cli("sensitivity", net, "--data", data, *FULL, "--quiet").said == ""


def test_all_layers_go_into_a_file(cli: Cli, net: Path, data: Path, tmp_path: Path) -> None:
    words = ["sensitivity", net, "--data", data, *FULL, "--worst", 0, "-o"]
    assert cli(*words, tmp_path / "s.json").code == 0 and cli(*words, tmp_path / "s.csv").code == 0
    told = json.loads((tmp_path / "s.json").read_text())["layers"]
    rows = list(csv.DictReader((tmp_path / "s.csv").read_text().splitlines()))
    assert [r["node"] for r in rows] == [x["node"] for x in told]
    assert [float(r["alone"]) for r in rows] == [x["alone"] for x in told]
    done = cli(*words, tmp_path / "s.txt")
    assert done.code == 2 and "must end in .json or .csv" in done.err
    done = cli(*words, net)
    assert done.code == 2 and "is the input itself" in done.err


def test_measurements_are_kept(cli: Cli, net: Path, data: Path, tmp_path: Path) -> None:
    words = ["sensitivity", net, "--data", data, *FULL, "--store", tmp_path / "kept"]
    first = cli(*words).out
    before = (tmp_path / "kept").stat().st_mtime_ns
    assert cli(*words).out == first and (tmp_path / "kept").stat().st_mtime_ns == before
    done = cli(*words, "--calib-mode", "entropy")
    assert done.code == 1 and "kept belongs to another network" in done.err


def test_the_store_is_not_the_output(cli: Cli, net: Path, data: Path, tmp_path: Path) -> None:
    file = tmp_path / "s.json"
    done = cli("sensitivity", net, "--data", data, "-o", file, "--store", file)
    assert done.code == 2 and f"the output and the store are both {file}" in done.err and not file.exists()


def test_time_runs_out(cli: Cli, net: Path, data: Path) -> None:
    out = cli("sensitivity", net, "--data", data, *FULL, "--time-limit", "1e-9").out
    assert "note: time ran out: alone was measured for 0 of 2 layers" in out


def test_a_plan_is_measured_as_it_is(cli: Cli, net: Path, data: Path, tmp_path: Path) -> None:
    plan = tmp_path / "p.json"
    assert cli("calibrate", net, "-o", plan, "--data", data, *FULL, "--effort", "fast").code == 0
    words = ["sensitivity", net, "--data", data, "--plan", plan]
    assert cli(*words).out == cli("sensitivity", net, "--data", data, *FULL).out
    assert "time ran out" in cli(*words, "--time-limit", "1e-9").out
    done = cli(*words, "--calib-mode", "mse")
    assert done.code == 2 and "the plan holds the settings that it was made with" in done.err
    found = json.loads(plan.read_text())
    found["values"]["x"]["range"] = [-500.0, 500.0]
    plan.write_text(json.dumps(found))
    assert json.loads(cli(*words, "--json").out)["layers"][0]["node"] == "conv"


def test_data_is_needed_and_budgets_have_no_flag(cli: Cli, net: Path, data: Path) -> None:
    done = cli("sensitivity", net)
    assert done.code == 2 and "layers are measured on data; give it with --data" in done.err
    for flag in ("--effort", "--measure", "--min-sqnr", "--max-latency", *(f"--{c}" for c in CORRECTIONS)):
        assert flag.replace("_", "-") not in cli("sensitivity", "--help").out
    assert "--time-limit" in cli("sensitivity", "--help").out


def test_the_same_in_python(net: Path, data: Path, cli: Cli) -> None:
    found = fb.sensitivity(net, str(data), quantize_mode="full", samples=12)
    assert found.to_json() == json.loads(cli("sensitivity", net, "--data", data, *FULL, "--json").out)
    with pytest.raises(UsageError, match="samples is 0; it must be 1 or more"):
        fb.sensitivity(net, str(data), samples=0)


def test_what_a_proposal_says_can_be_pasted(cli: Cli, data: Path, tmp_path: Path) -> None:
    import shlex

    import numpy as np

    from fewbit.data.demo import DEMO_MODEL, demo_calibration

    np.savez(tmp_path / "d.npz", **{k: x[::20] for k, x in demo_calibration().items()})
    words = ["--data", tmp_path / "d.npz"]
    found = json.loads(cli("sensitivity", DEMO_MODEL, *words, "--no-left", "--json").out)
    assert found["proposals"]
    for p in found["proposals"]:
        made = ["quantize", DEMO_MODEL, "-o", tmp_path / "q.onnx", *words, "--effort", "fast", *shlex.split(p["words"])]
        assert cli(*made, "--json").code == 0
        sqnr = fb.compare(DEMO_MODEL, tmp_path / "q.onnx", str(tmp_path / "d.npz")).sqnr
        assert sqnr == pytest.approx(p["measured"], abs=0.1) and sqnr > found["sqnr"] + 1
