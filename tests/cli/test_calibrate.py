"""`fewbit calibrate` and `fewbit apply`: the plan as a table that is read, edited and used without data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

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
    said = cli(*words).out.splitlines()
    found = json.loads(cli(*words, "--json").out)
    assert (found["output"], found["layers"], found["integer"]) == (str(tmp_path / "p.json"), 4, 4)
    assert found["ranges"] == len(set(Plan.load(tmp_path / "p.json").observed().values())) > 1
    assert said[-1] == f"wrote {tmp_path / 'p.json'}: {found['ranges']} ranges, 4 of 4 layers integer"
    told = [f"  {c['name']}: " for c in found["corrections"]]
    assert said[0] == "corrections, judged on held-out samples:" and told
    assert all(line.startswith(head) for line, head in zip(said[1:], told, strict=False))
    fast = cli(*words, "--effort", "fast").out
    assert fast == f"{said[-1]}\n" and not Plan.load(tmp_path / "p.json").rescales
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
    from fewbit.core.tables import size

    assert done.code == 0 and done.out.startswith(
        f"wrote {tmp_path / 'q.onnx'} and {tmp_path / 'q.plan.json'}: weights {size(api.load(net).nbytes)} -> "
    )
    made, other = (api.load(p, allow_quantized=True) for p in (tmp_path / "q.onnx", quantized))
    assert made.digest() == other.digest()


@pytest.mark.parametrize("words", [["--effort", "fast"], ["--effort", "best"], ["--batch-size", 3]], ids=str)
def test_it_does_so_at_each_effort(cli: Cli, net: Path, data: Path, tmp_path: Path, words: list[object]) -> None:
    words = ["--data", data, "--no-adaptive-rounding", *FULL, *words]
    assert cli("calibrate", net, "-o", tmp_path / "p.json", *words).code == 0
    assert cli("apply", net, tmp_path / "p.json", "-o", tmp_path / "a.onnx").code == 0
    assert cli("quantize", net, "-o", tmp_path / "b.onnx", "--no-verify", *words).code == 0
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    assert (tmp_path / "a.plan.json").read_bytes() == (tmp_path / "b.plan.json").read_bytes()


def test_data_is_read_once(cli: Cli, net: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fewbit.data.indexed import IndexedSource

    passes: list[int] = []
    real = IndexedSource.iterate

    def iterate(self: Any, start: int = 0) -> Any:
        passes.append(start)
        return real(self, start)

    monkeypatch.setattr(IndexedSource, "iterate", iterate)
    assert cli("calibrate", net, "-o", tmp_path / "p.json", "--data", data).code == 0
    assert passes == [0]


def test_what_is_for_quantize_has_no_flag_and_no_effect(cli: Cli, net: Path, data: Path, tmp_path: Path) -> None:
    said = cli("calibrate", "--help").out
    for flag in ("--measure", "--min-sqnr", "--min-cosine", "--min-agreement", "--max-drop", "--max-latency"):
        assert flag not in said
    assert "--effort" in said and "--bias-correction" in said and "--time-limit" in said
    file = tmp_path / "c.toml"
    file.write_text("[quantize]\nmeasure = true\nmin_sqnr = 30\n")
    done = cli("calibrate", net, "-o", tmp_path / "p.json", "--data", data, "--config", file)
    assert done.code == 0
    assert done.err == "warning: no effect here: measure, min_sqnr; only fewbit quantize times and searches\n"
    assert Plan.load(tmp_path / "p.json").config == {}


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
