from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import fewbit as fb
from fewbit.data.demo import DEMO_MODEL, demo_calibration, demo_test
from fewbit.errors import ModelError, UnknownName, UsageError
from fewbit.report.quantized import plan_path
from tests.cli.conftest import Cli


def test_all_engines_that_are_there(cli: Cli, net: Path, quantized: Path, data: Path) -> None:
    done = cli("verify", net, quantized, "--data", data)
    assert done.code == 0 and "onnxruntime  " in done.out and "openvino  " in done.out
    assert "they part at" in done.out


def test_a_plan_instead_of_the_network(cli: Cli, net: Path, quantized: Path, data: Path) -> None:
    words = ["--data", data, "--engines", "onnxruntime", "--json"]
    a, b = (json.loads(cli("verify", net, p, *words).out) for p in (quantized, plan_path(quantized)))
    assert a == b and a["wrong"] == [] and [s["engine"] for s in a["sides"]] == ["simulation", "onnxruntime"]
    assert [v["name"] for v in a["twos"][0]["values"]] == ["x", "r", "f"]


def test_limits_and_settings(cli: Cli, net: Path, quantized: Path, data: Path, tmp_path: Path) -> None:
    words = ["verify", net, quantized, "--data", data, "--engines", "onnxruntime"]
    found = json.loads(cli(*words, "--limit", 2, "--batch-size", 3, "--outputs-only", "--threads", 1, "--json").out)
    assert (found["batches"], found["samples"], found["twos"][0]["values"]) == (2, 6, [])
    file = tmp_path / "c.toml"
    file.write_text("[data]\nbatch_size = 6\n")
    assert json.loads(cli(*words, "--config", file, "--json").out)["batches"] == 2
    assert cli(*words, "--save", tmp_path / "all").code == 0
    assert sorted(p.name for p in (tmp_path / "all").iterdir()) == ["engines.json", "values.csv"]


def test_bad_words(cli: Cli, net: Path, quantized: Path, data: Path) -> None:
    done = cli("verify", net, quantized, "--data", data, "--engines", "onnxruntme")
    assert done.code == 2 and "did you mean 'onnxruntime'" in done.err
    assert "give it with --data PATH" in cli("verify", net, quantized).err
    with pytest.raises(UsageError, match="engines is empty"):
        fb.verify(net, quantized, data, engines=[])
    with pytest.raises(UnknownName):
        fb.verify(net, quantized, data, engines=["tensorflow"])


def test_networks_that_do_not_belong_together(quantized: Path, data: Path) -> None:
    with pytest.raises(ModelError, match="takes"):
        fb.verify(DEMO_MODEL, quantized, data)


def test_the_demo_network_is_the_same_on_all_engines() -> None:
    q = fb.quantize(DEMO_MODEL, demo_calibration(), verify=False, target="openvino")
    found = fb.verify(DEMO_MODEL, q, {"image": demo_test()["image"][:100]}, engines=["onnxruntime", "openvino"])
    assert not found.wrong and all((s.agreement or 0) >= 0.97 for s in found.sides)
    onnxruntime = found.twos[0]
    assert onnxruntime.parted is None and all(v.differ < 0.01 for v in onnxruntime.values)


def test_a_wrong_network_is_told(
    cli: Cli, net: Path, quantized: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fewbit.engines import ENGINES

    plain = ENGINES["openvino"]

    class Wrong:
        def __init__(self, inner: object) -> None:
            self.inner = inner

        def run(self, feeds: object) -> dict[str, np.ndarray]:
            return {k: -v for k, v in self.inner.run(feeds).items()}  # type: ignore[attr-defined]

        def executed(self) -> list[object]:
            return []

    monkeypatch.setitem(ENGINES, "openvino", lambda *a, **k: Wrong(plain(*a, **k)))
    done = cli("verify", net, quantized, "--data", data, "--outputs-only")
    assert done.code == 1 and "! differs !" in done.out


def test_a_network_of_other_weights_is_strange(
    cli: Cli, net: Path, quantized: Path, data: Path, tmp_path: Path
) -> None:
    import onnx
    from onnx import numpy_helper

    proto = onnx.load(net)
    for t in proto.graph.initializer:
        if t.name in ("w", "v"):
            t.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(t)[::-1].copy(), t.name))
    onnx.save(proto, tmp_path / "other.onnx")
    done = cli("verify", tmp_path / "other.onnx", quantized, "--data", data, "--engines", "onnxruntime")
    assert done.code == 1 and "! " in done.out and "other weights, or data read otherwise?" in done.out


def photos(folder: Path) -> Path:
    from PIL import Image

    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(12):
        Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return folder


def test_images_are_read_as_they_were_for_calibration(cli: Cli, net: Path, tmp_path: Path) -> None:
    """What quantize was told is in the network's file, and beside its plan; what is said now comes on top."""
    where, out = photos(tmp_path / "photos"), tmp_path / "q.onnx"
    words = ["--normalize-mean", "120,120,120", "--normalize-std", "60,60,60", "--image-to-format", "BGR"]
    assert cli("quantize", net, "-o", out, "--data", where, *words, "--quiet").code == 0

    def noise(*given: object) -> float:
        done = cli(*given, "--data", where, "--json")
        found = json.loads(done.out)
        return float(found["sides"][0]["float_sqnr"] if "sides" in found else found["sqnr"])

    engine = ["--engines", "onnxruntime"]
    wanted = noise("verify", net, out, *engine, *words)
    assert noise("verify", net, out, *engine) == wanted == noise("verify", net, plan_path(out), *engine)
    assert noise("verify", net, out, *engine, "--image-to-format", "RGB") != wanted
    assert noise("compare", net, out) == noise("compare", net, out, *words)


def test_a_halved_engine_is_noted(cli: Cli, net: Path, quantized: Path, data: Path) -> None:
    """Float against itself: bfloat16 is no error."""
    done = cli("verify", net, net, "--data", data)
    assert done.code == 0 and "nothing is rounded" in done.out
