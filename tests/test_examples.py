"""Each script of examples/ runs, offline and in seconds, and says what its docstring promises."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
SCRIPTS = sorted(p for p in EXAMPLES.glob("*.py") if p.name != "train_demo_network.py")  # that one needs torch and data

LENGTHY = {"mxnet_tutorial"}  # somebody else's script, as long as it is

SAYS = {
    "mxnet_tutorial": ["float 0.9300, int8 0.92", "wrote quantized-fashion.onnx"],
    "quantize_demo": ["26 of 28 integer", "top-1 int8   9", "agreement    9", "wrote demo-int8.onnx"],
    "custom_collector": ["top-1 9", "the last logits have shape (16, 10)", "image      -0.8"],
    "deploy_server": ["wrote server for target openvino", "4 samples: all as expected", "ms a run, the median"],
    "edit_plan": ["as calibrated  top-1 9", "far too narrow", "lies outside of its range"],
    "small_file": ["float     355.9 kB   top-1 0.9", "4 bits", "mixed", "top-1 0.92"],
    "qat_own_loop": ["4 bits, trained  top-1 0.", "against simulation: 0.0000%"],
    "qat_w4_lsq": ["against simulation: 0.0000%"],
    "qat_int8_to_onnx": ["float ResNet on", "wrote resnet8-int8.onnx"],
    "mixed_precision": ["16 bits everywhere", "excluded by exclude_layers '/stem/*'"],
}
TUTORIAL = "quantized-fashion"
MAKES = {
    "mxnet_tutorial": [f"{TUTORIAL}{end}" for end in ("-0000.params", "-symbol.json", ".onnx", ".plan.json")],
    "quantize_demo": ["demo-int8.onnx", "demo-int8.plan.json"],
    "deploy_server": ["server"],
    "edit_plan": ["table.json"],
    "qat_own_loop": ["own-w4a4.onnx", "own-w4a4.plan.json"],
    "qat_w4_lsq": ["net-w4a4.onnx", "net-w4a4.plan.json"],
    "qat_int8_to_onnx": ["resnet8-int8.onnx", "resnet8-int8.plan.json"],
    "small_file": ["demo-mixed.fewbit", "demo-mixed.plan.json", "demo-w4.onnx", "demo-w4.plan.json"],
}


@pytest.mark.filterwarnings("default::fewbit.errors.FewbitWarning")  # such as: slower, on a busy machine
@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: p.stem)
def test_an_example_runs(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(path), run_name="__main__")
    said = capsys.readouterr().out
    for words in SAYS[path.stem]:
        assert words in said
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(MAKES.get(path.stem, []))


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: p.stem)
def test_an_example_is_short(path: Path) -> None:
    assert path.stem in LENGTHY or len(path.read_text("utf-8").splitlines()) < 60


def test_every_example_is_here() -> None:
    assert {p.stem for p in SCRIPTS} == set(SAYS)
