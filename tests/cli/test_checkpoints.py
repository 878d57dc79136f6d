"""MXNet's quantized checkpoints on the command line."""

from __future__ import annotations

from pathlib import Path

from fewbit.core.plan import Plan
from tests.cli.conftest import Cli
from tests.frontends.mxnet.quantized_cases import write


def test_quantize_takes_the_old_ranges(cli: Cli, tmp_path: Path) -> None:
    symbol, out = write(tmp_path, "residual", "fused naive post"), tmp_path / "out.onnx"
    done = cli("quantize", symbol, "-o", out, "--no-verify")
    assert done.code == 0, done.err
    assert "there was no data: ranges are those of the checkpoint" in done.out and out.exists()
    assert "range from the checkpoint" in (tmp_path / "out.plan.json").read_text()


def test_calibrate_writes_them_into_a_plan_that_can_be_applied(cli: Cli, tmp_path: Path) -> None:
    symbol, plan = write(tmp_path, "residual", "fused naive post"), tmp_path / "plan.json"
    done = cli("calibrate", symbol, "-o", plan)
    assert done.code == 0, done.err
    assert "not tried: they are fitted to data" in " ".join(done.out.split()) and Plan.load(plan).calibrated
    done = cli("apply", symbol, plan, "-o", tmp_path / "out.onnx")
    assert done.code == 0, done.err


def test_one_that_was_not_calibrated_needs_data(cli: Cli, tmp_path: Path) -> None:
    symbol = write(tmp_path, "residual", "fused none")
    done = cli("quantize", symbol, "-o", tmp_path / "out.onnx")
    assert done.code == 2 and "give it with --data PATH" in done.err and not (tmp_path / "out.onnx").exists()
    done = cli("calibrate", symbol, "-o", tmp_path / "plan.json")
    assert done.code == 2 and "calibrating needs data; give it with --data PATH" in done.err


def test_layers_without_a_range_are_named(cli: Cli, tmp_path: Path) -> None:
    symbol = write(tmp_path, "mixed", "fused naive post")
    done = cli("quantize", symbol, "-o", tmp_path / "out.onnx", "--no-verify")
    said = " ".join((done.out + done.err).split())
    assert (
        done.code == 0 and "1 layer stays float: sq. The checkpoint holds no range for what it reads or makes" in said
    )
