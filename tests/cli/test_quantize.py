"""`fewbit quantize`: what it writes, says and refuses."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fewbit import api
from fewbit.cli.quantize import warnings_at_the_end
from fewbit.data.demo import DEMO_MODEL
from fewbit.errors import FewbitWarning
from tests.cli.conftest import Cli, golden


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_it_writes_the_network_and_its_plan_and_reports(cli: Cli, net: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "q.onnx"
    done = cli("quantize", net, "-o", out, "--data", data)
    assert done.code == 0, done.err
    assert names(tmp_path) == ["q.onnx", "q.plan.json"]
    assert done.out.startswith("target") and "latency" in done.out
    assert done.out.endswith(f"wrote {out} and {tmp_path / 'q.plan.json'}\n")
    assert "\x1b" not in done.said
    assert api.load(out, allow_quantized=True).metadata["fewbit.version"]


def test_json_is_one_document(cli: Cli, net: Path, data: Path, tmp_path: Path) -> None:
    done = cli("quantize", net, "-o", tmp_path / "q.onnx", "--data", data, "--json")
    found = json.loads(done.out)
    assert found["output"] == str(tmp_path / "q.onnx") and found["plan"] == str(tmp_path / "q.plan.json")
    assert found["report"]["target"] == "onnxruntime" and found["report"]["latency"]["batch"] >= 1


def test_without_verify_nothing_is_measured(cli: Cli, net: Path, data: Path, tmp_path: Path) -> None:
    done = cli("quantize", net, "-o", tmp_path / "q.onnx", "--data", data, "--no-verify", "--json")
    report = json.loads(done.out)["report"]
    assert (report["latency"], report["cosine"]) == (None, None)


def test_ranges_at_run_time_need_no_data(cli: Cli, net: Path, tmp_path: Path) -> None:
    done = cli("quantize", net, "-o", tmp_path / "q.onnx", "--calib-mode", "none", "--no-verify", "--quiet")
    assert done.code == 0 and names(tmp_path) == ["q.onnx", "q.plan.json"]
    assert "NOTHING WAS QUANTIZED" in done.said  # convolutions and a small product: nothing that pays


def test_quiet_says_nothing(cli: Cli, net: Path, data: Path, tmp_path: Path) -> None:
    done = cli("quantize", net, "-o", tmp_path / "q.onnx", "--data", data, "--no-verify", "--quiet")
    assert (done.code, done.said) == (0, "")


def test_an_existing_output_is_replaced(cli: Cli, net: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "q.onnx"
    out.write_text("old")
    assert cli("quantize", net, "-o", out, "--data", data, "--no-verify").code == 0
    assert api.load(out, allow_quantized=True).nodes


def test_flags_win_over_the_config_file(cli: Cli, net: Path, data: Path, tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('[quantize]\ncalib_mode = "mse"\nexclude_layers = ["conv"]\n[data]\nbatch_size = 4\n')
    words = ["--config", file, "--calib-mode", "entropy", "--no-verify", "--quantize-mode", "full"]
    assert cli("quantize", net, "-o", tmp_path / "q.onnx", "--data", data, *words).code == 0
    plan = json.loads((tmp_path / "q.plan.json").read_text())
    assert plan["config"] == {"calib_mode": "entropy", "exclude_layers": ["conv"], "quantize_mode": "full"}
    assert not plan["nodes"]["conv"]["quantized"] and plan["nodes"]["fc"]["quantized"]


def test_an_override_reaches_its_layer(cli: Cli, net: Path, data: Path, tmp_path: Path) -> None:
    words = ["--override", "fc=float:true", "--no-verify"]
    assert cli("quantize", net, "-o", tmp_path / "q.onnx", "--data", data, *words).code == 0
    assert not json.loads((tmp_path / "q.plan.json").read_text())["nodes"]["fc"]["quantized"]


def test_threads_and_data_settings_arrive(
    cli: Cli, net: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: dict[str, Any] = {}
    real = api.quantize

    def quantize(model: Any, source: Any, *args: Any, **words: Any) -> Any:
        heard.update(words, batches=source.batches)
        return real(model, source, *args, **words)

    monkeypatch.setattr(api, "quantize", quantize)
    words = ["--threads", 1, "--batch-size", 5, "--no-verify"]
    assert cli("quantize", net, "-o", tmp_path / "q.onnx", "--data", data, *words).code == 0
    assert (heard["workers"], heard["batches"], heard["progress"], heard["checkpoint"]) == (1, 3, None, None)


# -- dry run --------------------------------------------------------------------------------------------------------


def test_a_dry_run_needs_no_data_and_writes_nothing(cli: Cli, net: Path, tmp_path: Path) -> None:
    before = names(net.parent)
    done = cli("quantize", net, "-o", tmp_path / "q.onnx", "--dry-run")
    assert done.code == 0 and names(tmp_path) == [] and names(net.parent) == before
    assert all(f"\n{layer}" in done.out for layer in ("conv", "relu", "flatten", "fc"))


def test_a_dry_run_knows_the_size(cli: Cli, net: Path, data: Path, tmp_path: Path) -> None:
    found = json.loads(cli("quantize", net, "--dry-run", "--json", "--quantize-mode", "full").out)
    cli("quantize", net, "-o", tmp_path / "q.onnx", "--data", data, "--no-verify", "--quantize-mode", "full")
    assert found["size_quantized"] == api.load(tmp_path / "q.onnx", allow_quantized=True).nbytes
    assert found["size_float"] == api.load(net).nbytes


def test_a_dry_run_gives_reasons(cli: Cli, net: Path) -> None:
    found = json.loads(cli("quantize", net, "--dry-run", "--json", "--exclude-layers", "fc").out)
    verdicts = {v["layer"]: v for v in found["verdicts"]}
    assert verdicts["fc"]["verdict"] == "float" and "exclude_layers 'fc'" in verdicts["fc"]["reason"]
    assert (verdicts["conv"]["verdict"], verdicts["conv"]["types"]) == ("integer", "u8 s8")
    assert verdicts["relu"]["verdict"] == "merged"


def test_a_dry_run_of_the_demo_network(cli: Cli) -> None:
    golden("dry_run", cli("quantize", DEMO_MODEL, "--dry-run").out)


# -- what is refused ------------------------------------------------------------------------------------------------

BAD = [
    (["--data", "{data}"], 2, "there is no output; give one with -o FILE"),
    (["-o", "{out}"], 2, "--calib-mode none leaves them to run time; give it with --data PATH"),
    (["-o", "{net}", "--data", "{data}"], 2, "is the input itself; give it another name"),
    (["-o", "{tmp}", "--data", "{data}"], 1, "it is a folder"),
    (["-o", "{tmp}/no/q.onnx", "--data", "{data}"], 1, "there is no folder"),
    (["-o", "{out}", "--data", "{tmp}/nothing"], 1, "there is no such file or folder"),
    (["-o", "{out}", "--data", "{data}", "--calib-mode", "entropi"], 2, "did you mean 'entropy'?"),
    (["-o", "{out}", "--data", "{data}", "--calib-mode", "custom"], 2, "calib_mode is 'custom'"),
    (["-o", "{out}", "--data", "{data}", "--target", "onnxrutime"], 2, "did you mean 'onnxruntime'"),
    (["-o", "{out}", "--data", "{data}", "--exclude-layers", "con"], 2, "unknown layer 'con'; did you mean 'conv'?"),
    (["-o", "{out}", "--data", "{data}", "--exclude-operators", "Cnv"], 2, "did you mean 'Conv'?"),
    (["-o", "{out}", "--data", "{data}", "--override", "fc"], 2, "it must look like 'layer4/*=bit_num:16"),
    (["-o", "{out}", "--data", "{data}", "--override", "fc=bits:4"], 2, "bit_num"),
    (["-o", "{out}", "--data", "{data}", "--bit-num", "17"], 2, "bit_num is 17; it must be a whole number"),
    (["-o", "{out}", "--data", "{data}", "--resize-width", "8"], 2, "resize_width and resize_height go together"),
    (["-o", "{out}", "--data", "{data}", "--config", "{tmp}/c.toml"], 2, "cannot read the config file"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "code", "message"), BAD, ids=[m for _, _, m in BAD])
def test_what_cannot_be_done_is_said(
    cli: Cli, net: Path, data: Path, tmp_path: Path, words: list[str], code: int, message: str
) -> None:
    places = {"net": net, "data": data, "tmp": tmp_path, "out": tmp_path / "q.onnx"}
    done = cli("quantize", net, *(w.format(**places) for w in words))
    assert (done.code, done.out) == (code, "")
    assert done.err.startswith("error: ") and message in done.err and "Traceback" not in done.err
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "there is no file"), (b"", "not an ONNX model"), (b"not a model at all", "not an ONNX model")],
    ids=["missing", "empty", "text"],
)
def test_no_model_is_said(cli: Cli, data: Path, tmp_path: Path, content: bytes | None, message: str) -> None:
    model = tmp_path / "m.onnx"
    if content is not None:
        model.write_bytes(content)
    done = cli("quantize", model, "-o", tmp_path / "q.onnx", "--data", data)
    assert done.code == 1 and message in done.err and str(model) in done.err and not (tmp_path / "q.onnx").exists()


def test_a_quantized_network_is_refused(cli: Cli, quantized: Path, data: Path, tmp_path: Path) -> None:
    done = cli("quantize", quantized, "-o", tmp_path / "q.onnx", "--data", data)
    assert done.code == 1 and "is quantized already" in done.err and names(tmp_path) == []
    assert "allow_quantized" not in done.err and "use inspect, compare, evaluate or benchmark" in done.err


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((4, 3, 5, 6), np.float32), "axis 2 is 5, not 6"),
        (np.full((4, 3, 6, 6), np.nan, np.float32), "sample 0 has 108 values that are not finite"),
        (np.zeros((0, 3, 6, 6), np.float32), "d.npz holds no sample"),
    ],
    ids=["shape", "nan", "empty"],
)
def test_bad_data_is_said(cli: Cli, net: Path, tmp_path: Path, x: Any, message: str) -> None:
    np.savez(tmp_path / "d.npz", x=x)
    done = cli("quantize", net, "-o", tmp_path / "q.onnx", "--data", tmp_path / "d.npz")
    assert done.code == 1 and names(tmp_path) == ["d.npz"]
    assert done.err.startswith("error: ") and message in done.err


def test_a_folder_without_permission_is_said(
    cli: Cli, net: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)  # root may write everywhere
    done = cli("quantize", net, "-o", tmp_path / "q.onnx", "--data", data)
    assert done.code == 1 and f"no permission in the folder {tmp_path}" in done.err


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [(OSError(28, "No space left on device"), 1, "No space left on device"), (KeyboardInterrupt(), 130, "interrupted")],
    ids=["no space", "ctrl-c"],
)
def test_trouble_while_saving_leaves_nothing_behind(
    cli: Cli, net: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    error: BaseException, code: int, message: str,
) -> None:  # fmt: skip
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(os, "replace", fail)
    done = cli("quantize", net, "-o", tmp_path / "q.onnx", "--data", data, "--no-verify")
    assert done.code == code and message in done.err and names(tmp_path) == []


# -- going on -------------------------------------------------------------------------------------------------------


def test_progress_is_removed_when_done(cli: Cli, net: Path, data: Path, tmp_path: Path) -> None:
    assert cli("quantize", net, "-o", tmp_path / "q.onnx", "--data", data, "--no-verify", "--resume").code == 0
    assert names(tmp_path) == ["q.onnx", "q.plan.json"]


def test_progress_of_something_else_is_refused(cli: Cli, net: Path, data: Path, tmp_path: Path) -> None:
    shutil.copy(data, tmp_path / "q.onnx.calib")
    done = cli("quantize", net, "-o", tmp_path / "q.onnx", "--data", data, "--resume")
    assert done.code == 1 and "not a checkpoint of fewbit" in done.err and names(tmp_path) == ["q.onnx.calib"]
    assert "goes on from there" not in done.err and len(done.err.splitlines()) == 1


def test_progress_that_would_have_to_be_unpickled_is_refused_without_a_word_of_numpy(
    cli: Cli, net: Path, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "q.onnx.calib").write_bytes(b"garbage" * 9)
    done = cli("quantize", net, "-o", tmp_path / "q.onnx", "--data", data, "--resume")
    assert done.code == 1 and "not a checkpoint of fewbit" in done.err and "pickle" not in done.err


# -- warnings -------------------------------------------------------------------------------------------------------


def test_a_slow_type_is_warned_of_in_one_line(cli: Cli, net: Path) -> None:
    done = cli("quantize", net, "--dry-run", "--quantized-dtype", "int8")
    (line,) = done.err.splitlines()
    assert line.startswith("warning: int8 activations run at ") and "quantized_dtype='auto'" in line


def test_warnings_wait_and_what_was_said_is_not_repeated() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(KeyError), warnings_at_the_end() as said:
            warnings.warn("one", FewbitWarning, stacklevel=1)
            warnings.warn("two", FewbitWarning, stacklevel=1)
            said.add("two")
            assert not caught
            raise KeyError
        assert [str(w.message) for w in caught] == ["one"]
