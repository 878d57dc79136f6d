"""The verbs that look at networks: compare, evaluate, benchmark, inspect, targets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fewbit import api
from fewbit.api import TARGETS
from fewbit.cli.benchmark import read_sizes
from fewbit.data.demo import DEMO_MODEL
from fewbit.errors import UsageError
from tests.cli.conftest import Cli, golden

# -- compare --------------------------------------------------------------------------------------------------------


def test_compare_shows_outputs_and_worst_layers(cli: Cli, net: Path, quantized: Path, data: Path) -> None:
    out = cli("compare", net, quantized, "--data", data).out
    assert out.startswith("outputs, 12 batches\n") and "worst layers, 5 of 5" in out


def test_compare_takes_limits_and_settings(cli: Cli, net: Path, quantized: Path, data: Path, tmp_path: Path) -> None:
    words = ["compare", net, quantized, "--data", data]
    out = cli(*words, "--worst", 2, "--limit", 2, "--batch-size", 3).out
    assert out.startswith("outputs, 2 batches\n") and "worst layers, 2 of 5" in out
    file = tmp_path / "c.toml"
    file.write_text("[data]\nbatch_size = 6\n")
    assert cli(*words, "--config", file).out.startswith("outputs, 2 batches\n")
    assert cli(*words, "--config", file, "--batch-size", 4).out.startswith("outputs, 3 batches\n")


def test_compare_keeps_the_layers(cli: Cli, net: Path, quantized: Path, data: Path, tmp_path: Path) -> None:
    assert cli("compare", net, quantized, "--data", data, "--save", tmp_path / "new" / "layers").code == 0
    names = sorted(p.name for p in (tmp_path / "new" / "layers").iterdir())
    assert names == ["layers.csv", "outputs.csv", "summary.json"]


def test_compare_in_json(cli: Cli, net: Path, quantized: Path, data: Path) -> None:
    found = json.loads(cli("compare", net, quantized, "--data", data, "--json").out)
    assert found["batches"] == 12 and found["cosine"] > 0.9 and len(found["layers"]) == 5


# -- evaluate -------------------------------------------------------------------------------------------------------


def test_evaluate_counts_with_intervals(cli: Cli, net: Path, quantized: Path, data: Path) -> None:
    done = cli("evaluate", quantized, "--data", data, "--reference", net)
    assert done.code == 0 and "12, 12 with a label" in done.out
    assert "top-1 float" in done.out and "agrees with float" in done.out and "flips" in done.out


def test_evaluate_takes_its_part_of_the_data(cli: Cli, net: Path, data: Path) -> None:
    words = ["--batch-size", 2, "--num-skipped-batches", 1, "--num-inference-batches", 3, "--threads", 1]
    found = json.loads(cli("evaluate", net, "--data", data, *words, "--json").out)
    assert found["samples"] == 6


def test_evaluate_reads_the_output_it_is_told(cli: Cli, net: Path, data: Path) -> None:
    assert json.loads(cli("evaluate", net, "--data", data, "--scores", "y", "--json").out)["output"] == "y"
    done = cli("evaluate", net, "--data", data, "--scores", "z")
    assert done.code == 2 and "unknown output 'z'" in done.err


def test_evaluate_needs_labels_or_a_reference(cli: Cli, net: Path, files: Path) -> None:
    done = cli("evaluate", net, "--data", files / "bare.npz")
    assert done.code == 1 and "no labels" in done.err


# -- benchmark ------------------------------------------------------------------------------------------------------

QUICK = ["--min-time", "0.001", "--warmup", "0"]


def test_benchmark_times_both_at_each_size(cli: Cli, net: Path, quantized: Path) -> None:
    words = ["benchmark", quantized, "--against", net, "--batch-sizes", "1,4", "--threads", 2, *QUICK]
    found = json.loads(cli(*words, "--json").out)
    assert [t["batch"] for t in found["timings"]] == [1, 1, 4, 4]
    assert found["about"] == "onnxruntime, 2 threads" and "profile" not in found
    assert "onnxruntime, 2 threads; interleaved" in cli(*words).out


def test_benchmark_profiles_layers(cli: Cli, net: Path, quantized: Path) -> None:
    words = ["benchmark", quantized, "--against", net, "--profile", *QUICK]
    assert "\n\nprofile, batch 1\nlayers, " in cli(*words).out
    found = json.loads(cli(*words, "--json").out)["profile"]
    assert found["rows"] and found["batch"] == 1


def test_the_profile_is_of_the_last_batch_size(
    cli: Cli, net: Path, quantized: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[int] = []
    real = api.profile

    def profile(*args: Any, batch_size: int, **words: Any) -> Any:
        heard.append(batch_size)
        return real(*args, batch_size=batch_size, **words)

    monkeypatch.setattr(api, "profile", profile)
    out = cli("benchmark", quantized, "--against", net, "--profile", "--batch-sizes", "1,3", *QUICK).out
    assert "\n\nprofile, batch 3\nlayers, " in out and heard == [3]


def test_benchmark_feeds_data_if_given(cli: Cli, net: Path, tmp_path: Path) -> None:
    done = cli("benchmark", net, "--data", tmp_path / "none.npz", *QUICK)
    assert done.code == 1 and "none.npz" in done.err


def test_benchmark_reads_data_as_it_is_told(
    cli: Cli, net: Path, quantized: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[dict[str, Any]] = []
    real = {name: getattr(api, name) for name in ("benchmark", "profile")}
    for name in real:

        def call(*args: Any, _name: str = name, **words: Any) -> Any:
            heard.append(words)
            return real[_name](*args, **words)

        monkeypatch.setattr(api, name, call)
    file = tmp_path / "c.toml"
    file.write_text("[data]\nbatch_size = 7\nshuffle = true\n")
    words = ["--data", data, "--config", file, "--seed", 5, "--batch-sizes", "1,4", "--profile", *QUICK]
    done = cli("benchmark", quantized, "--against", net, *words)
    assert done.code == 0, done.err
    assert [(w["shuffle"], w["seed"], w["batch_size"]) for w in heard] == [(True, 5, 4)] * 2
    assert cli("benchmark", net, "--batch-size", 2).code == 2  # it is --batch-sizes here


def test_benchmark_has_no_use_for_data_settings_without_data(cli: Cli, net: Path) -> None:
    done = cli("benchmark", net, "--seed", 5)
    assert done.code == 2 and "--seed says how data is read; give it with --data PATH" in done.err


def test_a_profile_needs_two_networks(cli: Cli, net: Path) -> None:
    done = cli("benchmark", net, "--profile")
    assert done.code == 2 and "--against FLOAT" in done.err


@pytest.mark.parametrize("words", [["--min-time", "0"], ["--batch-sizes", "1,x"], ["--warmup", "-1"]], ids=" ".join)
def test_benchmark_refuses_wrong_numbers(cli: Cli, net: Path, words: list[str]) -> None:
    done = cli("benchmark", net, *words)
    assert done.code == 2 and done.err.startswith("error: ") and "Traceback" not in done.err


def test_batch_sizes_are_numbers_with_commas() -> None:
    assert read_sizes("1, 32,1") == (1, 32)
    for text in ("", "0", "1,", "-1", "a"):
        with pytest.raises(UsageError, match=r"batch_sizes is .*whole numbers of 1 or more"):
            read_sizes(text)


# -- all of them ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["compare", "evaluate"])
def test_data_is_needed(cli: Cli, net: Path, quantized: Path, verb: str) -> None:
    done = cli(verb, net, *([quantized] if verb == "compare" else []))
    assert done.code == 2 and "give it with --data PATH" in done.err


@pytest.mark.parametrize("verb", ["compare", "evaluate", "benchmark"])
def test_an_unknown_engine_offers_the_nearest(cli: Cli, net: Path, quantized: Path, data: Path, verb: str) -> None:
    words = [verb, net, *([quantized] if verb == "compare" else []), "--data", data]
    done = cli(*words, "--engine", "openvin")
    assert done.code == 2 and "did you mean 'openvino'?" in done.err


# -- inspect --------------------------------------------------------------------------------------------------------


def test_inspect_the_demo_network(cli: Cli) -> None:
    golden("inspect", cli("inspect", DEMO_MODEL).out)


def test_inspect_lists_layers_with_verdicts(cli: Cli) -> None:
    plain, listed = cli("inspect", DEMO_MODEL).out, cli("inspect", DEMO_MODEL, "--layers").out
    assert listed.startswith(plain)
    rows = {row[0]: row[1:] for row in map(str.split, listed[len(plain) :].splitlines()) if row}
    assert rows["/stem/conv/Conv"][:2] == ["Conv", "float"] and rows["/layer1/conv1/conv/Conv"][:2] == [
        "Conv",
        "integer",
    ]
    assert rows["/layer1/relu1/Relu"][:2] == ["Relu", "merged"]
    assert rows["/stem/bn/BatchNormalization"][-1] == "/stem/conv/Conv"
    assert rows["layer"][1:5] == ["onnxruntime", "onnxruntime-avx2", "onnxruntime-arm", "openvino"]


def test_inspect_in_json(cli: Cli) -> None:
    found = json.loads(cli("inspect", DEMO_MODEL, "--json").out)
    assert found["nodes"] == 42 and "verdicts" not in found
    layers = json.loads(cli("inspect", DEMO_MODEL, "--layers", "--json").out)["verdicts"]
    assert len(layers) == 42 and set(layers[0]["verdicts"]) == set(TARGETS)


def test_inspect_takes_a_quantized_network(cli: Cli, quantized: Path) -> None:
    out = cli("inspect", quantized, "--layers").out
    assert "quantized" in out and "DequantizeLinear" in out and "layer" in out


# -- targets --------------------------------------------------------------------------------------------------------


def test_targets_are_told_side_by_side(cli: Cli) -> None:
    golden("targets", cli("targets").out)


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_is_told_row_by_row(cli: Cli, name: str) -> None:
    target = TARGETS[name]
    out = cli("targets", name).out
    assert out.startswith(f"target       {name}\n") and target.checked in out
    assert all(f"\n{rule.op}" in out and rule.note in out for rule in target.rules)
    assert all(f"{kind} activations: {factor:.2f} of float time" in out for kind, factor in target.slow.items())


def test_targets_in_json(cli: Cli) -> None:
    assert [t["name"] for t in json.loads(cli("targets", "--json").out)] == list(TARGETS)
    assert json.loads(cli("targets", "openvino", "--json").out)["name"] == "openvino"


def test_an_unknown_target_offers_the_nearest(cli: Cli) -> None:
    done = cli("targets", "openvin")
    assert done.code == 2 and "did you mean 'openvino'" in done.err
