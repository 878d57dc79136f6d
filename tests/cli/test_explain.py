"""`fewbit explain`: reads debug tables, proposes what to paste, and measures what it gains."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import fewbit as fb
from fewbit.api.explaining import explain
from fewbit.engines import open_runner
from fewbit.errors import ConfigError, UsageError
from fewbit.report.debug import write_debug
from tests.cli.conftest import Cli
from tests.models import info, node, proto, weight

FULL: dict[str, Any] = {"quantize_mode": "full", "effort": "fast", "exclude_layers": ("last",)}


def unlike() -> onnx.ModelProto:
    """x → two convolutions, one 500 times the other → Concat → Conv that evens it out → y"""
    last = weight(4, 4, 1, 1, seed=2) * np.repeat(np.float32([1, 0.002]), 2)[None, :, None, None]
    return proto(
        [
            node("Conv", "x w1", "a", "small"),
            node("Conv", "x w2", "b", "large"),
            node("Concat", "a b", "c", "cat", axis=1),
            node("Conv", "c w3", "y", "last"),
        ],
        [info("x", ["n", 3, 8, 8])],
        [info("y", ["n", 4, 8, 8])],
        {"w1": weight(2, 3, 1, 1), "w2": weight(2, 3, 1, 1, seed=1, scale=250.0), "w3": last},
    )


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with net.onnx, data.npz and tables: the debug folder of the network in integers."""
    folder = tmp_path_factory.mktemp("explain")
    onnx.save(unlike(), folder / "net.onnx")
    x = np.random.default_rng(0).standard_normal((16, 3, 8, 8)).astype(np.float32)
    np.savez(folder / "data.npz", x=x)
    debug(folder, folder / "tables", **FULL)
    return folder


def debug(folder: Path, out: Path, **words: Any) -> None:
    """Quantize the network and write its tables."""
    from fewbit.config import DataConfig
    from fewbit.data import open_data

    fused = fb.fuse(fb.load(folder / "net.onnx"))
    source = open_data(str(folder / "data.npz"), fused.inputs, DataConfig(batch_size=4))
    plan = fb.make_plan(fused, **words)
    plan = plan if words.get("calib_mode") == "none" else fb.calibrate(fused, plan, source)
    write_debug(fused, fb.apply(fused, plan), plan, source, partial(open_runner, "onnxruntime", threads=1), out)


# -- reading ----------------------------------------------------------------------------------------------------------


def test_the_tables_of_a_network_are_explained(cli: Cli, case: Path) -> None:
    done = cli("explain", case / "tables")
    assert done.code == 0 and done.out.startswith("4 rounds, 3 layers, output cosine 0.")
    assert "  skip_quant_node=cat\n  --exclude-layers cat\n" in done.out and "measured" not in done.out
    found = json.loads(cli("explain", case / "tables", "--json").out)
    assert found["skip_quant_node"] == "skip_quant_node=cat" and found["gain"] is None
    assert {"ranges", "cosine"} <= {f["kind"] for f in found["findings"]}
    assert "findings, 1 of" in cli("explain", case / "tables", "--worst", 1).out


def test_mistakes_are_told(cli: Cli, case: Path, tmp_path: Path) -> None:
    done = cli("explain", tmp_path / "gone")
    assert done.code == 2 and "there is no folder" in done.err
    done = cli("explain", tmp_path)
    assert done.code == 2 and "holds no round_0.csv" in done.err
    (tmp_path / "round_0.csv").write_text("a,b\n1,2\n")
    done = cli("explain", tmp_path)
    assert done.code == 1 and "has no column NodeName" in done.err
    done = cli("explain", case / "tables", "--model", case / "net.onnx")
    assert (
        done.code == 2 and "there is a network but no data; the gain is measured with both, or not at all" in done.err
    )
    done = cli("explain", case / "tables", "--data", case / "data.npz")
    assert done.code == 2 and "there is data but no network" in done.err
    done = cli("explain", case / "tables", "--bit-num", 4)
    assert (
        done.code == 2 and "settings say how to quantize and to read data; hand the network and data, too" in done.err
    )
    with pytest.raises(UsageError, match="samples is 0; it must be 1 or more"):
        explain(case / "tables", case / "net.onnx", case / "data.npz", samples=0)


# -- measuring --------------------------------------------------------------------------------------------------------


def test_the_gain_is_measured(cli: Cli, case: Path) -> None:
    words = ["explain", case / "tables", "--model", case / "net.onnx", "--data", case / "data.npz", "--threads", 1]
    out = cli(*words).out
    assert "measured on 16 samples" in out and "the proposal does not" not in out
    cosine, sqnr = (re.search(rf"^{what} +([\d.]+) +([\d.]+)$", out, re.M) for what in ("cosine", "SQNR dB"))
    assert cosine and sqnr and float(cosine[2]) > float(cosine[1]) and float(sqnr[2]) > float(sqnr[1]) + 10
    assert re.search(r"^latency against float +[\d.]+x +[\d.]+x$", out, re.M)
    found = json.loads(cli(*words, "--samples", 3, "--batch-size", 3, "--json").out)
    assert found["helps"] is True and found["gain"]["samples"] == 3


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The configs that networks are quantized with."""
    from fewbit.api import explaining

    seen: list[Any] = []
    real = explaining.quantize

    def spy(model: Any, data: Any, config: Any, **words: Any) -> Any:
        seen.append(config)
        return real(model, data, config, **words)

    monkeypatch.setattr(explaining, "quantize", spy)
    yield seen


def test_it_is_quantized_as_it_was(case: Path, asked: list[Any], tmp_path: Path) -> None:
    debug(case, tmp_path / "d", **FULL, calib_mode="percentile", percentile=99.9, min_cosine=0.5)
    explain(tmp_path / "d", case / "net.onnx", case / "data.npz")
    before, after = asked
    assert (before.calib_mode, before.percentile, before.quantize_mode) == ("percentile", 99.9, "full")
    assert before.min_cosine is None and before.debug_info_save_path is None
    assert (before.exclude_layers, after.exclude_layers) == (("last",), ("last", "cat"))


def test_words_come_on_top_and_a_config_takes_over(case: Path, asked: list[Any], tmp_path: Path) -> None:
    explain(case / "tables", case / "net.onnx", case / "data.npz", calib_mode="entropy", bit_num=8)
    assert [c.calib_mode for c in asked] == ["entropy"] * 2 and asked[0].quantize_mode == "full"
    assert [c.exclude_layers for c in asked] == [("last",), ("last", "cat")]
    file = tmp_path / "c.toml"
    file.write_text('[quantize]\neffort = "fast"\nbit_num = 7\n[data]\nbatch_size = 8\n')
    asked.clear()
    explain(case / "tables", case / "net.onnx", case / "data.npz", file)
    assert asked[0].bit_num == 7 and asked[0].quantize_mode == "smart"
    with pytest.raises(ConfigError):
        explain(case / "tables", case / "net.onnx", case / "data.npz", bit_num=99)


def test_layers_of_another_network_are_not_measured(case: Path, net: Path, data: Path, asked: list[Any]) -> None:
    found = explain(case / "tables", net, data)
    assert found.gain is None and not asked
    assert found.notes == ("the network has no layer called cat, small; not measured",)


def test_what_does_not_gain_is_not_proposed(case: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fewbit.api.explaining.HELPS", 1000.0)
    found = explain(case / "tables", case / "net.onnx", case / "data.npz")
    assert found.findings and found.proposal == () and found.gain is None
    assert re.fullmatch(r"none of \d layers gains 1000.0 dB in float by itself, so nothing is proposed", found.notes[0])


def test_nothing_to_propose_is_nothing_to_measure(case: Path, asked: list[Any], tmp_path: Path) -> None:
    debug(case, tmp_path / "d", **{**FULL, "exclude_layers": ("cat", "last")})
    found = explain(tmp_path / "d", case / "net.onnx", case / "data.npz")
    assert found.proposal == () and found.gain is None and not asked
    why = "nothing is proposed" if found.findings else "no layer stands out"
    assert found.notes[-1] == f"the data was not used: {why}, so there is nothing to try and to measure"


def test_a_folder_of_another_tool_has_no_plan(case: Path, asked: list[Any], tmp_path: Path) -> None:
    for file in (case / "tables").glob("*.csv"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    found = explain(tmp_path, case / "net.onnx", case / "data.npz", **FULL)
    assert found.gain is not None and found.gain.helps and asked[0].quantize_mode == "full"


def test_weights_in_few_bits_are_explained_and_measured(case: Path, tmp_path: Path) -> None:
    onnx.save(
        proto(
            [node("MatMul", "x w", "h", "one"), node("Relu", "h", "r", "relu"), node("MatMul", "r v", "y", "two")],
            [info("x", ["n", 64])],
            [info("y", ["n", 32])],
            {"w": weight(64, 64), "v": weight(64, 32)},
            opset=21,
        ),
        tmp_path / "net.onnx",
    )
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(1).standard_normal((8, 64)).astype(np.float32))
    words = {"quant_type": "weight", "bit_num": 2, "effort": "fast"}
    debug(tmp_path, tmp_path / "d", **words, calib_mode="naive")
    found = explain(tmp_path / "d", tmp_path / "net.onnx", tmp_path / "data.npz")
    assert set(found.proposal) <= {"one", "two"} and {f.kind for f in found.findings} == {"cosine"}
    assert found.gain is not None and found.gain.helps
