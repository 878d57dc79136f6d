"""`fewbit calibrate` and `fewbit apply`: the plan as a table that is read, edited and used without data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fewbit.core.plan import Plan
from tests.cli.conftest import Cli

FULL = ["--quantize-mode", "full"]


@pytest.fixture
def plan(cli: Cli, net: Path, data: Path, tmp_path: Path) -> Path:
    assert cli("calibrate", net, "-o", tmp_path / "plan.json", "--data", data, *FULL).code == 0
    return tmp_path / "plan.json"


def test_calibrate_writes_a_plan_with_ranges(plan: Path) -> None:
    found = Plan.load(plan)
    assert found.calibrated and found.config == {"quantize_mode": "full"}
    assert [p.name for p in plan.parent.iterdir()] == ["plan.json"]


def test_calibrate_tells_what_it_wrote(cli: Cli, net: Path, data: Path, tmp_path: Path) -> None:
    words = ["calibrate", net, "-o", tmp_path / "p.json", "--data", data, *FULL]
    said = cli(*words).out
    found = json.loads(cli(*words, "--json").out)
    assert (found["output"], found["layers"], found["integer"]) == (str(tmp_path / "p.json"), 4, 4)
    assert found["ranges"] == len(set(Plan.load(tmp_path / "p.json").observed().values())) > 1
    assert said == f"wrote {tmp_path / 'p.json'}: {found['ranges']} ranges, 4 of 4 layers integer\n"
    assert cli(*words, "--quiet").said == ""


def test_calibrate_takes_settings(cli: Cli, net: Path, data: Path, tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('[quantize]\ncalib_mode = "percentile"\n')
    words = ["--config", file, "--percentile", "90", "--threads", 1, "--resume", *FULL]
    assert cli("calibrate", net, "-o", tmp_path / "p.json", "--data", data, *words).code == 0
    assert Plan.load(tmp_path / "p.json").config == {
        "calib_mode": "percentile", "percentile": 90.0, "quantize_mode": "full",
    }  # fmt: skip
    assert sorted(p.name for p in tmp_path.iterdir()) == ["c.toml", "p.json"]


def test_apply_makes_what_quantize_makes(cli: Cli, net: Path, plan: Path, quantized: Path, tmp_path: Path) -> None:
    done = cli("apply", net, plan, "-o", tmp_path / "q.onnx")
    from fewbit import api
    from fewbit.report.tables import size

    assert done.code == 0 and done.out.startswith(
        f"wrote {tmp_path / 'q.onnx'} and {tmp_path / 'q.plan.json'}: weights {size(api.load(net).nbytes)} -> "
    )
    made, other = (api.load(p, allow_quantized=True) for p in (tmp_path / "q.onnx", quantized))
    assert made.digest() == other.digest()


def test_an_edited_range_is_honoured(cli: Cli, net: Path, plan: Path, tmp_path: Path) -> None:
    found = json.loads(plan.read_text())
    found["values"]["x"]["range"] = [-1.0, 1.0]
    plan.write_text(json.dumps(found))
    assert cli("apply", net, plan, "-o", tmp_path / "q.onnx").code == 0
    assert Plan.load(tmp_path / "q.plan.json").values["x"].hi == 1.0


def test_apply_in_json_and_quiet(cli: Cli, net: Path, plan: Path, tmp_path: Path) -> None:
    found = json.loads(cli("apply", net, plan, "-o", tmp_path / "q.onnx", "--json").out)
    assert found["output"] == str(tmp_path / "q.onnx") and found["size_quantized"] < found["size_float"]
    assert found["size_float"] == json.loads(cli("quantize", net, "--dry-run", "--json").out)["size_float"]
    assert cli("apply", net, plan, "-o", tmp_path / "q.onnx", "--quiet").said == ""


def test_a_plan_of_another_network_is_refused(cli: Cli, plan: Path, tmp_path: Path) -> None:
    from fewbit.data.demo import DEMO_MODEL

    done = cli("apply", DEMO_MODEL, plan, "-o", tmp_path / "q.onnx")
    assert done.code == 1 and done.err.startswith("error: ") and not (tmp_path / "q.onnx").exists()


def test_a_damaged_plan_is_refused(cli: Cli, net: Path, plan: Path, tmp_path: Path) -> None:
    plan.write_text(plan.read_text()[:100])
    done = cli("apply", net, plan, "-o", tmp_path / "q.onnx")
    assert done.code == 1 and "is not valid JSON" in done.err


@pytest.mark.parametrize("verb", ["calibrate", "apply"])
def test_the_output_must_be_another_file(cli: Cli, net: Path, plan: Path, verb: str) -> None:
    words = [plan] if verb == "apply" else []
    done = cli(verb, net, *words, "-o", net)
    assert done.code == 2 and "is the input itself" in done.err
