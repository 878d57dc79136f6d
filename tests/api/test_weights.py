"""Weights alone, from the call to the file: with data and without, fixed widths and mixed ones."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import fewbit as fb
from fewbit.data.demo import DEMO_MODEL, demo_calibration, demo_test
from fewbit.engines import open_runner
from fewbit.errors import ConfigError, FewbitWarning, NotCalibrated, UsageError
from tests.models import info, load, node, proto, weight


@pytest.fixture(scope="module")
def data() -> dict[str, np.ndarray]:
    return {"image": demo_calibration()["image"][:96]}


def sqnr(model: fb.Model) -> float:
    x = {"image": demo_test()["image"][:64]}
    (a,), (b,) = (open_runner("onnxruntime", m).run(x).values() for m in (fb.load(DEMO_MODEL), model))
    return float(10 * np.log10((a**2).sum() / ((a - b) ** 2).sum()))


@pytest.mark.filterwarnings("ignore::fewbit.errors.FewbitWarning")
def test_data_helps_and_so_does_looking_at_weights(data) -> None:
    words = {"quant_type": "weight", "bit_num": 4, "verify": False}
    plain = sqnr(fb.quantize(DEMO_MODEL, quant_strategy="MAX_MIN", bias_correction=False, **words))
    alone = sqnr(fb.quantize(DEMO_MODEL, **words))
    fitted = sqnr(fb.quantize(DEMO_MODEL, data, **words))
    assert plain + 1 < alone < fitted - 1


def test_the_steps_give_what_the_call_gives(data, tmp_path: Path) -> None:
    q = fb.quantize(DEMO_MODEL, data, quant_type="weight", bit_num=5, verify=False)
    fused = fb.fuse(fb.load(DEMO_MODEL))
    plan, told = fb.correct(fused, fb.make_plan(fused, quant_type="weight", bit_num=5), data)
    assert told and any(c.kept for c in told)
    q.save(tmp_path / "a.onnx")
    fb.apply(fused, replace(plan, data=q.plan.data)).save(tmp_path / "b.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    assert fb.apply(fused, tmp_path / "a.plan.json").nbytes == q.nbytes


def test_the_report_tells_of_weights_and_not_of_speed(data) -> None:
    q = fb.quantize(DEMO_MODEL, data, quant_type="weight")
    assert q.report is not None and q.report.ok and q.report.weights_only
    assert q.report.sqnr > 35 and 0.5 < q.report.latency.ratio < 2
    assert not any(v.spec.dynamic for v in q.plan.values.values())


def test_mixed_bit_by_output_keeps_the_cosine_asked_for(data, tmp_path: Path) -> None:
    q = fb.quantize(DEMO_MODEL, data, quant_type="weight", bit_num=0, min_cosine=0.99)
    assert q.report.budget_met and q.report.cosine >= 0.99
    assert "asked for was 0.99" in q.report.budget
    q.save(tmp_path / "q.fewbit")
    step = fb.quantize(DEMO_MODEL, quant_type="weight", bit_num=0, verify=False)
    step.save(tmp_path / "s.fewbit")
    assert (tmp_path / "q.fewbit").stat().st_size < (tmp_path / "s.fewbit").stat().st_size
    assert np.array_equal(fb.load(tmp_path / "q.fewbit").stored["fc.weight"].q, q.stored["fc.weight"].q)


@pytest.mark.filterwarnings("ignore::fewbit.errors.FewbitWarning")
def test_mixed_bit_without_data() -> None:
    step = fb.quantize(DEMO_MODEL, quant_type="weight", bit_num=0, init_scale=0.05, verify=False)
    finer = fb.quantize(DEMO_MODEL, quant_type="weight", bit_num=0, init_scale=0.01, verify=False)
    assert sqnr(step) + 6 < sqnr(finer)
    tuned = fb.quantize(DEMO_MODEL, quant_type="weight", bit_num=0, auto_tune=True)
    assert tuned.report.cosine > 0.99


@pytest.mark.parametrize(
    ("words", "error", "says"),
    [
        ({"bit_num": 3, "quant_strategy": "GPTQ"}, UsageError, "'GPTQ' fits integers to data, and none was given"),
        ({"bit_num": 0, "min_cosine": 0.99}, UsageError, "min_cosine needs data to measure the network's error on"),
        ({"bit_num": 0, "mixed_bit_search": "output"}, UsageError, "'output' needs data to measure"),
        ({"bit_num": 4, "min_cosine": 0.99}, ConfigError, "what can is min_cosine with bit_num 0"),
        ({"bit_num": 4, "calib_mode": "entropy"}, ConfigError, "calib_mode is about integer activations"),
        ({"bit_num": 4, "init_scale": 0.1}, ConfigError, "init_scale is for mixed bit"),
        ({"bit_num": 0, "group_size": 32}, ConfigError, "mixed bit has one step a layer or a channel"),
    ],
)
def test_what_is_refused(words, error, says) -> None:
    with pytest.raises(error, match=says):
        fb.quantize(DEMO_MODEL, quant_type="weight", **words)


def test_a_plan_for_mixed_bit_must_be_searched_first() -> None:
    fused = fb.fuse(fb.load(DEMO_MODEL))
    with pytest.raises(NotCalibrated, match=r"its weights have no steps yet; fewbit\.correct chooses them"):
        fb.apply(fused, fb.make_plan(fused, quant_type="weight", bit_num=0))


def test_a_network_that_random_numbers_do_not_suit_is_kept() -> None:
    pads = np.array([0, 4, 0, 4])
    model = load(
        proto([node("Pad", "x pads", "p", "pad", mode="reflect"), node("MatMul", "p w", "y", "mm")],
              [info("x", [1, "n"])], [info("y", None)], {"pads": pads, "w": weight(72, 32)})
    )  # fmt: skip
    with pytest.warns(FewbitWarning, match=r"not verified: there is no data.*x: float32\[1, n\].*input_shapes"):
        q = fb.quantize(model, quant_type="weight", bit_num=4)
    assert q.report.cosine is None and list(q.stored) == ["w"]


def test_the_command_line_needs_no_data(tmp_path: Path, capsys, monkeypatch) -> None:
    from fewbit.cli import main

    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FewbitWarning)
        assert main(["quantize", str(DEMO_MODEL), "-o", "q.onnx", "--quant-type", "weight", "--bit-num", "6"]) == 0
        assert main(["quantize", str(DEMO_MODEL), "-o", "q.fewbit", "--quant-type", "weight", "--bit-num", "0"]) == 0
    assert Path("q.fewbit").stat().st_size < Path("q.onnx").stat().st_size
    assert main(["quantize", str(DEMO_MODEL), "--quant-type", "weight", "--bit-num", "0", "--dry-run"]) == 0
    assert "sizes are those of steps by init_scale" in capsys.readouterr().out


def test_group_wise_says_which_weights_have_no_groups() -> None:
    fused = fb.fuse(fb.load(DEMO_MODEL))
    with pytest.warns(FewbitWarning) as said:
        plan = fb.make_plan(fused, quant_type="weight", bit_num=4, group_size=32)
    single = [k for k, v in plan.values.items() if v.role == "weight" and v.spec.granularity != "group"]
    assert single and any(v.spec.granularity == "group" for v in plan.values.values())
    (told,) = [str(w.message) for w in said if "per channel" in str(w.message)]
    assert "quantized per channel: they sum over fewer inputs than the 32 of a group (" in told
    assert told.startswith(f"{len(single)} of ") and single[0] in told
    with pytest.warns(FewbitWarning, match="fewer inputs than a group has, or an override says so"):
        fb.make_plan(fused, quant_type="weight", bit_num=4, group_size=32, overrides={"*": {"group_size": 16}})
