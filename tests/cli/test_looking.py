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
from tests.checkpoints import zoo_like
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


def test_evaluate_a_checkpoint_on_a_record_file(cli: Cli) -> None:
    folder = Path(__file__).parents[2] / "examples" / "mxnet"
    images = ["--image-to-format", "GRAY", "--normalize-mean", 72.9, "--normalize-std", 90, "--resize-width", 28]
    part = ["--batch-size", 20, "--num-skipped-batches", 2, "--num-inference-batches", 3, "--resize-height", 28]
    done = cli("evaluate", folder / "fashion-symbol.json", "--data", folder / "fashion.rec", *images, *part, "--json")
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert found["samples"] == 60 and found["accuracy"]["top1"]["hits"] > 45


def test_evaluate_a_detector(cli: Cli) -> None:
    folder = Path(__file__).parents[1] / "golden" / "mxnet" / "detector"
    call = [
        "evaluate", folder / "shapes-symbol.json", "--data", folder / "shapes.rec", "--resize-width", 96,
        "--resize-height", 96, "--normalize-mean", "123,117,104", "--normalize-std", "58,57,57",
        "--num-inference-batches", 24,
    ]  # fmt: skip
    done = cli(*call, "--metric", "map")
    assert done.code == 0 and "mAP" in done.out, done.err
    done = cli(*call, "--metric", "mpa")
    assert done.code == 2 and "unknown metric 'mpa'; did you mean 'map'?" in done.err


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


def test_benchmark_counts_batches_instead_of_seconds(cli: Cli, net: Path, quantized: Path) -> None:
    words = ["benchmark", quantized, "--against", net, "--num-warmup-batches", 1, "--num-inference-batches", 10]
    found = json.loads(cli(*words, "--json").out)["timings"]
    assert all(t["rounds"] == 7 and t["runs"] == 2 for t in found)  # 10 in 7 rounds: 2, 2, 2, 1, 1, 1, 1


def test_benchmark_by_several_instances(cli: Cli, net: Path, quantized: Path) -> None:
    words = ["benchmark", quantized, "--against", net, "--num-inference-batches", 8, "--batch-sizes", "1,2"]
    done = cli(*words, "--instances", 1, "--cores-per-instance", 1, "--json")
    found = json.loads(done.out)
    assert done.code == 0 and found["about"] == "onnxruntime, 1 instance of 1 core"
    assert [(t["name"], t["batch"]) for t in found["timings"]] == [
        ("against", 1),
        ("model", 1),
        ("against", 2),
        ("model", 2),
    ]
    for t in found["timings"]:
        assert [(i["runs"], len(i["cores"])) for i in t["instances"]] == [(8, 1)] and t["throughput"] > 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--warmup", 1, "--num-warmup-batches", 1], "warmup is 1 and num_warmup_batches is 1; each stands for"),
        (["--min-time", 1, "--num-inference-batches", 1], "min_time is 1.0 and num_inference_batches is 1; each"),
        (["--threads", 2, "--instances", 1], "threads is 2, which is for one process; each instance uses all of its"),
        (["--cores-per-instance", 2], "cores_per_instance says how many cores each of several instances has; give"),
        (["--instances", 100000], "100000 instances of 1 core each need 100000 cores; this process may use"),
        (["--instances", 1, "--engine", "openvin"], "unknown engine 'openvin'; did you mean 'openvino'?"),
        (["--instances", 0], "invalid value for '--instances'"),
    ],
)
def test_benchmark_refuses_words_that_exclude_each_other(cli: Cli, net: Path, words: list[object], said: str) -> None:
    done = cli("benchmark", net, *words)
    assert done.code in (1, 2) and said in done.err and "Traceback" not in done.err


def test_a_profile_is_of_one_process(cli: Cli, net: Path, quantized: Path) -> None:
    done = cli("benchmark", quantized, "--against", net, "--profile", "--instances", 1)
    assert done.code == 2 and "--profile times the layers of one process" in done.err


def test_benchmark_makes_random_inputs_of_the_shape_that_is_said(cli: Cli, tmp_path: Path) -> None:
    symbol = zoo_like(tmp_path, "net", "")
    done = cli("benchmark", symbol, "--num-inference-batches", 1)
    assert done.code == 0 and "warning: sizes that input data: float32[?, 3, ?, ?] leaves free are 1" in done.err
    assert "fix them with --input-shapes, or give data" in done.err
    done = cli("benchmark", symbol, "--num-inference-batches", 1, "--input-shapes", "data:0,3,8,8", "--batch-sizes", 2)
    assert (done.code, done.err) == (0, "") and "\nmodel        2  " in done.out


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
    assert rows["layer"][1 : 1 + len(TARGETS)] == list(TARGETS) and next(iter(TARGETS)) == "onnxruntime"


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
