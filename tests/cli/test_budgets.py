"""`fewbit quantize` with budgets, --measure and --time-limit: exit codes, what is on disk, how to go on."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fewbit import api
from fewbit.api import job
from fewbit.core.plan import Plan
from fewbit.search.smart import Measured
from tests.cli.conftest import Cli

FULL = ["--quantize-mode", "full", "--no-verify"]
NEVER = ["--min-sqnr", 60, "--time-limit", "1e-6"]


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@pytest.fixture
def words(net: Path, data: Path, tmp_path: Path) -> list[Any]:
    return ["quantize", net, "-o", tmp_path / "q.onnx", "--data", data, *FULL]


def test_a_budget_that_is_met_is_told(cli: Cli, words: list[Any], tmp_path: Path) -> None:
    done = cli(*words, "--min-sqnr", 10, "--resume")
    assert (done.code, done.err) == (0, "") and "\nbudget: Budget met: " in done.out
    assert names(tmp_path) == ["q.onnx", "q.plan.json"]
    report = json.loads(cli(*words, "--min-cosine", "0.5", "--json").out)["report"]
    assert report["budget_met"] is True and report["config"]["min_cosine"] == 0.5


def test_layers_turn_float_for_it(cli: Cli, words: list[Any]) -> None:
    words += ["--effort", "fast", "--json"]
    plain = json.loads(cli(*words, "--min-sqnr", -100, "--min-agreement", 0, "--max-drop", 1).out)["report"]
    assert (plain["integer"], plain["kept"]) == (["conv", "relu", "flatten", "fc"], [])
    sqnr = float(plain["budget"].partition("SQNR ")[2].split()[0])
    found = json.loads(cli(*words, "--min-sqnr", sqnr + 1).out)["report"]
    assert found["budget_met"] and [k["node"] for k in found["kept"]] == ["fc"]
    assert found["kept"][0]["reason"].startswith(f"float to meet min_sqnr {sqnr + 1:g}; SQNR ")


def test_over_budget_the_best_is_written_said_loudly_and_the_code_is_1(
    cli: Cli, words: list[Any], tmp_path: Path
) -> None:
    done = cli(*words, *NEVER)
    assert done.code == 1 and names(tmp_path) == ["q.onnx", "q.plan.json"]
    assert "! OVER BUDGET. Could not meet the budget: sqnr is " in done.out
    assert done.err == f"error: over budget; {tmp_path / 'q.onnx'} holds the best network that was found\n"
    assert api.load(tmp_path / "q.onnx", allow_quantized=True).metadata["fewbit.version"]
    done = cli(*words, *NEVER, "--json")
    report = json.loads(done.out)["report"]
    assert done.code == 1 and report["budget_met"] is False and not report["ok"]
    done = cli(*words, *NEVER, "--quiet")
    assert (done.code, done.out) == (1, "") and done.err.startswith("warning: OVER BUDGET. ")


def test_a_budget_that_cannot_be_measured_is_said(cli: Cli, words: list[Any], files: Path, tmp_path: Path) -> None:
    words[words.index("--data") + 1] = files / "bare.npz"
    done = cli(*words, "--max-drop", 0.01)
    assert done.code == 2 and "max_drop needs labels" in done.err and names(tmp_path) == []


def test_when_time_is_up_a_longer_limit_goes_on(cli: Cli, words: list[Any], tmp_path: Path) -> None:
    words += ["--min-sqnr", 60, "--resume"]
    done = cli(*words, "--time-limit", "1e-6")
    state = tmp_path / "q.onnx.search"
    assert done.code == 1 and "The time limit came first" in " ".join(done.out.replace("!", "").split())
    assert (
        f"the search is kept in {state}; the same command with a longer --time-limit goes on from there\n" in done.err
    )
    assert names(tmp_path) == ["q.onnx", "q.onnx.search", "q.onnx.search.plan.json", "q.plan.json"]
    judged = len(json.loads(state.read_text())["trials"])
    start = Plan.load(tmp_path / "q.onnx.search.plan.json")
    done = cli(*words, "--time-limit", 600)
    assert "time limit" not in done.out and "kept in" not in done.err and judged == 1
    assert names(tmp_path) == ["q.onnx", "q.plan.json"]
    assert Plan.load(tmp_path / "q.plan.json").config == {**start.config, "time_limit": 600.0}


def test_a_search_of_something_else_is_refused(
    cli: Cli, words: list[Any], files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = ["--min-sqnr", 60, "--resume", "--time-limit", "1e-6"]
    assert cli(*words, *limit).code == 1
    done = cli(*words, *limit, "--min-sqnr", 50)
    assert done.code == 1 and "q.onnx.search.plan.json belongs to another network, other data or other" in done.err
    shutil.copy(files / "net.onnx", tmp_path / "d.npz")
    words[words.index("--data") + 1] = files / "bare.npz"
    assert "to start over" in cli(*words, *limit).err


# -- interruptions --------------------------------------------------------------------------------------------------


def interrupt(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Ctrl-C at a judgement."""
    real = job.make_judge

    def make_judge(*args: Any, **more: Any) -> Any:
        judge, count = real(*args, **more), iter(range(after))

        def judged(plan: Plan) -> Any:
            if next(count, None) is None:
                raise KeyboardInterrupt
            return judge(plan)

        return judged

    monkeypatch.setattr(job, "make_judge", make_judge)


def test_an_interrupted_search_leaves_the_best_and_says_so(
    cli: Cli, words: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(monkeypatch, 2)
    done = cli(*words, "--min-sqnr", 60)
    assert (done.code, done.out) == (130, "") and names(tmp_path) == ["q.onnx", "q.plan.json"]
    said = f"{tmp_path / 'q.onnx'} holds the best network that was found so far"
    assert done.err == f"{said}; with --resume a search could go on after this\ninterrupted\n"


def test_an_interrupted_search_goes_on_to_the_same_result(
    cli: Cli, words: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words += ["--min-sqnr", 60]
    words[words.index("-o") + 1] = tmp_path / "whole.onnx"
    assert cli(*words).code == 1
    words[words.index("-o") + 1] = tmp_path / "q.onnx"
    with monkeypatch.context() as m:
        interrupt(m, 2)
        done = cli(*words, "--resume")
    first, second, _ = done.err.splitlines()
    assert done.code == 130 and first == f"{tmp_path / 'q.onnx'} holds the best network that was found so far"
    assert second == f"progress is kept in {tmp_path / 'q.onnx.search'}; the same command goes on from there"
    assert cli(*words, "--resume").code == 1
    assert names(tmp_path) == ["q.onnx", "q.plan.json", "whole.onnx", "whole.plan.json"]
    assert (tmp_path / "q.onnx").read_bytes() == (tmp_path / "whole.onnx").read_bytes()


def test_before_the_search_an_older_output_is_not_called_the_best(
    cli: Cli, words: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "q.onnx").write_text("old")
    interrupt(monkeypatch, 0)
    done = cli(*words, "--min-sqnr", 60)
    assert (done.code, done.err) == (130, "interrupted\n") and (tmp_path / "q.onnx").read_text() == "old"
    done = cli(*words, "--min-sqnr", 60, "--resume")
    kept = tmp_path / "q.onnx.search.plan.json"
    assert done.err == f"progress is kept in {kept}; the same command goes on from there\ninterrupted\n"


# -- measured -------------------------------------------------------------------------------------------------------


def test_what_was_measured_is_told(cli: Cli, net: Path, data: Path, tmp_path: Path) -> None:
    done = cli("quantize", net, "-o", tmp_path / "q.onnx", "--data", data, "--measure", "--no-verify")
    assert done.code == 0 and "\nmeasured: " in done.out and names(tmp_path) == ["q.onnx", "q.plan.json"]


def test_where_nothing_pays_the_float_network_is_written_and_that_is_said(
    cli: Cli, net: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(model: Any, plan: Plan, *args: Any, **more: Any) -> Measured:
        nodes = {k: replace(n, quantized=False, reason="slow") for k, n in plan.nodes.items()}
        return Measured(Plan({}, nodes, plan.target, model=plan.model), 1.2, 1.1, 1.3, (), "nothing pays here")

    monkeypatch.setattr(job, "measure", measure)
    done = cli("quantize", net, "-o", tmp_path / "q.onnx", "--data", data, "--measure")
    assert done.code == 0 and "\nmeasured: nothing pays here\n" in done.out
    assert "! NOTHING WAS QUANTIZED: all 4 layers stay float." in done.out and "FASTER" not in done.out
    assert done.out.endswith("q.plan.json: the float network, its layers fused; nothing in it is integer\n")
    assert [n.op_type for n in api.load(tmp_path / "q.onnx").nodes] == ["Conv", "Relu", "Flatten", "Gemm"]


def test_a_dry_run_says_what_time_and_data_may_change(cli: Cli, net: Path) -> None:
    done = cli("quantize", net, "--dry-run", "--measure", "--min-sqnr", 30, "--max-latency", 0.5)
    assert "\nnote: these are the table's verdicts; --measure decides by timing the network" in done.out
    assert "\nnote: more layers may stay float to meet min_sqnr 30, max_latency 0.5" in done.out
    assert "note:" not in cli("quantize", net, "--dry-run").out
