"""Reports of simulations and sweeps: text, tables, plots."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fewbit.config.simulate import SimulateConfig
from fewbit.core.tables import dumps
from fewbit.errors import EngineMissing, UsageError
from fewbit.report import pictures
from fewbit.report.evaluate import Evaluation, Share
from fewbit.report.simulation import Simulation
from fewbit.report.sweep import Sweep, SweepRow
from fewbit.report.sweep_plot import save_plot

BEFORE = {1: Share(90, 100), 5: Share(99, 100)}


def evaluation(hits: int = 80) -> Evaluation:
    now = {1: Share(hits, 100), 5: Share(98, 100)}
    return Evaluation("y", 10, 100, 100, now, BEFORE, Share(85, 100), 3, 13)


def simulation(**words: object) -> Simulation:
    config = SimulateConfig(input_bits_width=4, weight_bits_width=3, **words)  # type: ignore[arg-type]
    layers = {"conv1": "the first convolution (exclude_first_conv)", "conv2": "", "fc": ""}
    epochs = (evaluation(70), evaluation()) if config.quantize_input_offline else ()
    return Simulation("net.onnx", "test.npz", config, evaluation(), epochs, layers, {"c": 2.5}, 50, ("mind this",))


def row(bits: int = 4, kind: str = "layer", ranges: str = "naive", merged: bool = False, top1: float = 0.8) -> SweepRow:
    return SweepRow(bits, kind, ranges, merged, top1, 0.9 - top1, 0.85, 3, 13)


SWEEP = Sweep("net.onnx", "test.npz", 0.9, (row(8, top1=0.9), row(), row(kind="channel", merged=True)), ("mind this",))
BLIND = Sweep("net.onnx", "test.npz", None, (SweepRow(4, "layer", "kl", False, None, None, 0.85, None, None),))


def test_the_text_says_what_was_simulated() -> None:
    assert simulation().text() == (
        "network    net.onnx\n"
        "data       test.npz\n"
        "fed with   arrays, as they were given\n"
        "simulated  u4/w3 layer; 2 of 3 layers\n"
        "ranges     online: each batch has its own\n"
        "BatchNorm  beside the weights, in float\n"
        "float      conv1: the first convolution (exclude_first_conv)\n" + evaluation().text() + "\nnote: mind this"
    )


def test_the_text_says_how_ranges_were_measured() -> None:
    text = simulation(quantize_input_offline=True, merge_bn=True, quant_type="channel", wino_quantize="F43").text()
    assert "offline: naive, 3 epochs, 50 samples" in text
    assert "merged into weights" in text and "in the domain of F43" in text
    assert "epoch  top-1 %   lost\n-----  -------  -----\n    1    70.00  20.00\n    2    80.00  10.00" in text
    assert "offline: kl, 50 samples" in simulation(quantize_input_offline=True, calib_mode="kl").text()


def test_layers_are_listed() -> None:
    assert simulation(input_signed=True).layers_text().splitlines()[2:] == [
        "conv1  no           the first convolution (exclude_first_conv)",
        "conv2  s4/w3 layer",
        "fc     s4/w3 layer",
    ]


def test_json_holds_everything() -> None:
    found = json.loads(dumps(simulation(quantize_input_offline=True).to_json()))
    assert found["config"]["weight_bits_width"] == 3
    assert found["result"]["accuracy"]["top1"]["hits"] == 80
    assert [e["accuracy"]["top1"]["hits"] for e in found["epochs"]] == [70, 80]
    assert found["ranges"] == {"c": 2.5} and found["notes"] == ["mind this"]


def test_a_torch_network_is_not_saved_as_onnx(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"net\.onnx was simulated in torch"):
        simulation().save(tmp_path / "x.onnx")


def test_a_sweep_is_a_table_for_everybody(tmp_path: Path) -> None:
    for name in ("t.md", "t.csv", "t.json"):
        SWEEP.save(tmp_path / name)
    assert (tmp_path / "t.md").read_text("utf-8") == (
        "net.onnx on test.npz, float top-1 90.00 %\n\n"
        "| bits | weights | ranges | BatchNorm | top-1 % | lost | agrees % | fixed | broken |\n"
        "| ---: | --- | --- | --- | ---: | ---: | ---: | ---: | ---: |\n"
        "| 8 | layer | naive | beside | 90.00 | 0.00 | 85.00 | 3 | 13 |\n"
        "| 4 | layer | naive | beside | 80.00 | 10.00 | 85.00 | 3 | 13 |\n"
        "| 4 | channel | naive | merged | 80.00 | 10.00 | 85.00 | 3 | 13 |\n"
        "\nNote: mind this\n"
    )
    lines = (tmp_path / "t.csv").read_text("utf-8").splitlines()
    assert lines[0] == "bits,quant_type,ranges,merge_bn,top1,drop,agreement,fixed,broken"
    assert len(lines) == 4 and lines[1].startswith("8,layer,naive,False,0.9,")
    found = json.loads((tmp_path / "t.json").read_text("utf-8"))
    assert found["top1"] == 0.9 and found["rows"][2]["quant_type"] == "channel"
    with pytest.raises(UsageError, match=r"must end in \.md, \.csv or \.json"):
        SWEEP.save(tmp_path / "t.txt")


def test_without_labels_a_sweep_has_agreement_alone() -> None:
    assert BLIND.text().splitlines()[-1].split() == ["4", "layer", "kl", "beside", "-", "-", "85.00", "-", "-"]
    assert "float top-1" not in BLIND.text()


def test_a_missing_matplotlib_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(pictures, "find_spec", lambda name: None)
    with pytest.raises(EngineMissing, match=r"pip install 'fewbit\[plot\]'"):
        save_plot(SWEEP, tmp_path / "p.png")
    with pytest.raises(UsageError, match=r"must end in \.png or \.svg"):
        save_plot(SWEEP, tmp_path / "p.pdf")


def test_a_plot_shows_every_line_and_is_the_same_each_time(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for name in ("a.svg", "b.svg", "a.png"):
        save_plot(SWEEP, tmp_path / name)
    text = (tmp_path / "a.svg").read_text("utf-8")
    assert text == (tmp_path / "b.svg").read_text("utf-8")
    for word in ("per layer, naive", "per channel, naive", "float", "top-1, %", "BatchNorm merged"):
        assert word in text
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
    save_plot(BLIND, tmp_path / "c.svg")
    assert "agreement with float, %" in (tmp_path / "c.svg").read_text("utf-8")
