"""MXNet's quantized checkpoints quantize again without data: their calibration is not lost."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fewbit as fb
from fewbit.engines import open_runner
from fewbit.errors import FewbitWarning, NotCalibrated, UsageError
from tests.frontends.mxnet.quantized_cases import answer, feed, sqnr, write

POST = "fused naive post"


def loaded(folder: Path, network: str = "residual", case: str = POST) -> fb.Model:
    return fb.load(write(folder, network, case), input_shapes={"data": (None, *feed(network).shape[1:])})


def answers(model: Any, network: str = "residual", target: str = "onnxruntime") -> Any:
    return next(iter(open_runner(target, model, threads=1).run({"data": feed(network)}).values()))


@pytest.mark.parametrize("target", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(
    ("network", "case"),
    [
        ("residual", "fused naive"),
        ("residual", POST),
        ("residual", "fused entropy post"),
        ("residual", "fused channel post"),
        ("residual", "fused excluded"),
        ("attention", POST),
    ],
)
def test_integers_from_old_ranges_are_as_close_to_float_as_mxnets(
    tmp_path: Path, network: str, case: str, target: str
) -> None:
    made = fb.quantize(loaded(tmp_path, network, case), target=target, verify=False)
    ours = sqnr(answer(network), answers(made, network, target))
    assert made.report.quantized >= 2
    assert ours > sqnr(answer(network), answer(network, case)) - 0.1


def test_the_plan_has_the_ranges_of_the_file_and_says_so(tmp_path: Path) -> None:
    model = loaded(tmp_path)
    plan = fb.quantize(model, quantize_mode="full", verify=False).plan
    for name, group in plan.observed().items():
        v = plan.values[name]
        assert (v.lo, v.hi) == model.ranges[name] == model.ranges[group]
        assert v.reason.endswith("; range from the checkpoint")
    assert {"data", "relu0_output", "relu1_output", "cat_output", "relu2_output"} <= plan.observed().keys()


def test_the_steps_one_by_one_do_the_same(tmp_path: Path) -> None:
    model = loaded(tmp_path)
    fused = fb.fuse(model)
    assert fused.ranges == model.ranges and fused.ranges is not model.ranges
    plan = fb.calibrate(fused, fb.make_plan(fused))
    same, told = fb.correct(fused, plan)
    assert same is plan and "not tried: they are fitted to data, and none was given" in str(told[0])
    whole = fb.quantize(model, verify=False)
    assert plan == whole.plan
    np.testing.assert_array_equal(answers(fb.apply(fused, plan)), answers(whole))


def test_with_data_everything_is_measured_anew(tmp_path: Path) -> None:
    model = loaded(tmp_path)
    plan = fb.quantize(model, feed("residual", "calib"), effort="fast", verify=False).plan
    assert not any("checkpoint" in v.reason for v in plan.values.values())
    model.ranges = {}
    assert plan.values == fb.quantize(model, feed("residual", "calib"), effort="fast", verify=False).plan.values


def test_the_report_tells_that_there_was_no_data(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FewbitWarning)  # so small a network is not faster
        report = fb.quantize(loaded(tmp_path)).report
    text = " ".join(report.text().split())
    assert "there was no data: ranges are those of the checkpoint; error and speed were measured on random" in text
    assert "corrections: not tried: they are fitted to data, and none was given" in text
    assert report.cosine is not None and report.cosine > 0.99  # random, but within the range of the input
    silent = fb.quantize(loaded(tmp_path), verify=False).report
    assert silent.warnings == ("there was no data: ranges are those of the checkpoint",)


@pytest.mark.parametrize("mode", ["smart", "full"])
def test_layers_without_a_range_stay_float_and_are_named(tmp_path: Path, mode: str) -> None:
    model = loaded(tmp_path, "mixed", POST)
    with pytest.warns(FewbitWarning, match=r"stays? float: .*; with data all ranges would be measured$"):
        made = fb.quantize(model, quantize_mode=mode, verify=False)
    left = [k for k, n in made.plan.nodes.items() if n.reason == "no range in the checkpoint, and no data"]
    assert left and made.plan.calibrated and made.report.quantized
    assert sqnr(answer("mixed"), answers(made, "mixed")) > sqnr(answer("mixed"), answer("mixed", POST))


def test_if_nothing_could_be_integer_that_is_an_error(tmp_path: Path) -> None:
    model = loaded(tmp_path)
    model.ranges = {"relu0_output": (0.0, 1.0)}
    with pytest.raises(NotCalibrated, match=r"holds no range for \d+ of the \d+ .* Give data to measure them all"):
        fb.quantize(model, exclude_layers=["conv*"], verify=False)


def test_weights_that_were_stored_as_integers_are_not_rounded_twice(tmp_path: Path) -> None:
    model = loaded(tmp_path, case="plain naive")
    made = fb.quantize(model, quantize_mode="full", verify=False)
    weights = [v for v in made.plan.values.values() if v.role == "weight"]
    assert weights and all(v.scale and v.reason.endswith("; steps kept") for v in weights)


def test_what_cannot_be_done_without_data(tmp_path: Path) -> None:
    model = loaded(tmp_path)
    with pytest.raises(
        UsageError, match="min_cosine needs data to measure on, and none was given; the checkpoint holds"
    ):
        fb.quantize(model, min_cosine=0.99)
    with pytest.raises(UsageError, match="calib_mode 'entropy' needs data to measure on"):
        fb.quantize(model, calib_mode="entropy")
    with pytest.raises(UsageError, match="calib_mode 'mse' needs data to measure on"):
        fb.quantize(model, overrides={"conv0": {"calib_mode": "mse"}})
    with pytest.raises(UsageError, match="a collector needs data to measure on, and none was given"):
        fb.quantize(model, calib_mode="custom", collector=fb.CalibrationCollector())
    with pytest.raises(UsageError, match="give data=, or calib_mode='none'"):
        fb.quantize(loaded(tmp_path, case="fused none"))
    fused = fb.fuse(loaded(tmp_path, case="fused none"))
    with pytest.raises(UsageError, match="give data=, or calib_mode='none'"):
        fb.calibrate(fused, fb.make_plan(fused))


def test_ranges_at_run_time_are_still_to_be_had(tmp_path: Path) -> None:
    with pytest.warns(FewbitWarning) as told:
        made = fb.quantize(loaded(tmp_path), calib_mode="none", quantize_mode="full", verify=False)
    assert all("when ranges are measured at run time" in str(w.message) for w in told)
    assert not any("checkpoint" in v.reason for v in made.plan.values.values())
    assert made.report.warnings == ()
