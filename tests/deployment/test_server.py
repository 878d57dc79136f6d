"""Folders for ONNX Runtime and OpenVINO: complete, run without fewbit, and tell when something is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

import fewbit as fb
from fewbit.core.writing_folder import check_folder
from fewbit.data.demo import demo_test
from fewbit.deployment.replaced import replaced
from fewbit.errors import FewbitWarning, UsageError, VerificationError
from tests.models import info, load, node, proto, weight

ENGINES = ("onnxruntime", "openvino")
WHOLE = {
    "README.md", "cpp/CMakeLists.txt", "cpp/main.cpp", "cpp/network.hpp", "cpp/tensor.hpp", "model.onnx",
    "network.json", "network.py", "plan.json", "feeds.py", "preprocess.py", "run.py", "verify.py",
    *(f"inputs/{i}/image.npy" for i in range(4)), *(f"expected/{i}/logits.npy" for i in range(4)),
}  # fmt: skip


@pytest.fixture(scope="module")
def folders(demo: fb.Quantized, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("deployed")
    images = demo_test()["image"][:9]
    for engine in ENGINES:
        fb.deploy(
            demo, engine, place / engine, data=images, image_to_format="GRAY", normalize_mean=[73], normalize_std=[90]
        )
    return {engine: place / engine for engine in ENGINES}


@pytest.mark.parametrize("engine", ENGINES)
def test_the_folder_is_complete_and_tells_all(folders: dict[str, Path], engine: str) -> None:
    folder = folders[engine]
    assert {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} == WHOLE | {"SHA256SUMS"}
    np.testing.assert_array_equal(np.load(folder / "inputs/2/image.npy"), demo_test()["image"][2:3])
    onnx.checker.check_model(onnx.load(folder / "model.onnx"))
    readme = (folder / "README.md").read_text("utf-8")
    for words in (
        "| `image` | float32 | [N, 1, 28, 28] |", "| `logits` | float32 | [N, 10] |",
        f"pip install numpy pillow {engine}",
        "8-bit GRAY, 0 … 255; resized to 28x28 (width x height, linear); (x - [73]) / [90]; axes NCHW, float32",
        "cmake -S cpp -B build", "build/run --threads 1 --out out model.onnx inputs/0/image.npy", "python verify.py",
        "4 samples of the data", "ok logits: 0 (at most 0.05)", "\n\n28 of 28 layers integer.\n\n",
    ):  # fmt: skip
        assert words in readme, words
    assert "None" not in readme and "{" not in readme


@pytest.mark.parametrize("engine", ENGINES)
def test_it_runs_without_fewbit(folders: dict[str, Path], engine: str, script: Any, tmp_path: Path) -> None:
    folder = folders[engine]
    done = script(folder, "run.py", "--threads", "1", "--time", "--save", str(tmp_path))
    assert done.code == 0, done.err
    logits = np.load(tmp_path / "logits.npy")
    np.testing.assert_allclose(logits, np.load(folder / "expected/0/logits.npy"), atol=0.02)
    best = int(logits.argmax())
    assert f"  0: {best}: " in done.out and "ms a run, the median of 20" in done.out
    checked = script(folder, "verify.py")
    assert checked.code == 0 and "4 samples: all as expected" in checked.out


def test_it_takes_images_arrays_and_random_numbers(folders: dict[str, Path], script: Any, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    folder = folders["onnxruntime"]
    photo = script(folder, "run.py", str(tmp_path / "photo.png"), "--save", str(tmp_path))
    assert photo.code == 0, photo.err
    reading = {"image_to_format": "GRAY", "normalize_mean": [73], "normalize_std": [90]}
    (tmp_path / "photos").mkdir()
    (tmp_path / "photo.png").rename(tmp_path / "photos" / "photo.png")
    wanted = answer(folder / "model.onnx", tmp_path / "photos", **reading)
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), wanted, atol=1e-5)
    again = script(folder, "run.py", "inputs/1/image.npy", "--top", "1")
    best = int(np.load(folder / "expected/1/logits.npy").argmax())
    assert f"\n  0: {best}: " in again.out and again.out.count(":") == 4
    assert script(folder, "run.py", "--random").code == 0


def answer(model: Path, data: Path, **words: Any) -> Any:
    """What fewbit itself computes."""
    from fewbit.data import open_data
    from fewbit.engines import open_runner

    given = fb.load(model, allow_quantized=True)
    (batch,) = open_data(data, given.inputs, fb.DataConfig(**words))
    return open_runner("onnxruntime", given).run(batch.feeds)["logits"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["missing.npy"], "there is no file missing.npy"),
        (["a.npy", "b.npy"], "the network has 1 input: image; 2 files are given"),
    ],
)
def test_run_says_what_is_wrong(folders: dict[str, Path], script: Any, words: list[str], says: str) -> None:
    folder = folders["onnxruntime"]
    (folder.parent / "a.npy").write_bytes((folder / "inputs/0/image.npy").read_bytes())
    done = script(folder, "run.py", *(f"../{w}" if w == "a.npy" else w for w in words))
    assert done.code == 1 and says in done.err.splitlines()[-1]


@pytest.mark.parametrize("engine", ENGINES)
def test_verify_finds_a_changed_network(folders: dict[str, Path], engine: str, script: Any, tmp_path: Path) -> None:
    for name in ("model.onnx", "network.json", "network.py", "feeds.py", "run.py", "verify.py"):
        (tmp_path / name).write_bytes((folders[engine] / name).read_bytes())
    for name in ("inputs", "expected"):
        (tmp_path / name).symlink_to(folders[engine] / name)
    model = onnx.load(tmp_path / "model.onnx")
    first = next(t for t in model.graph.initializer if t.data_type == onnx.TensorProto.INT8 and len(t.dims) == 4)
    first.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(first)[::-1].copy(), first.name))
    onnx.save(model, tmp_path / "model.onnx")
    done = script(tmp_path, "verify.py", "--threads", "1")
    assert done.code == 1 and "DIFFERS logits: " in done.out and "1 output differs\n" in done.out
    assert "SHA256SUMS is missing" in done.err


# -- other networks ---------------------------------------------------------------------------------------------------


def two_inputs() -> fb.Model:
    """x/a[n, 4], b [n, 4] int64 → sum, and which is largest; names that are no file names."""
    nodes = [
        node("Cast", "b", "c", to=1),
        node("Add", "x/a c", "s"),
        node("MatMul", "s w", "sum:0"),
        node("ArgMax", "sum:0", "class", axis=1),
    ]
    inputs = [info("x/a", ["n", 4]), info("b", ["n", 4], onnx.TensorProto.INT64)]
    outputs = [info("sum:0", ["n", 4]), info("class", ["n", 1], onnx.TensorProto.INT64)]
    return load(proto(nodes, inputs, outputs, {"w": weight(4, 4)}))


def test_several_inputs_and_odd_names(tmp_path: Path, script: Any) -> None:
    data = {"x/a": np.ones((3, 4), np.float32), "b": np.arange(12).reshape(3, 4)}
    q = fb.quantize(two_inputs(), data, verify=False, quantize_mode="full", effort="fast")
    done = fb.deploy(q, "onnxruntime", tmp_path / "out", data=data)
    assert {"inputs/2/x_a.npy", "inputs/2/b.npy", "expected/2/sum_0.npy", "expected/2/class.npy"} <= set(done.sizes)
    ran = script(tmp_path / "out", "run.py", "b=inputs/1/b.npy", "x/a=inputs/1/x_a.npy")
    assert ran.code == 0 and "sum:0: float32[1, 4]" in ran.out and "class: int64[1, 1]" in ran.out
    missing = script(tmp_path / "out", "run.py", "inputs/1/x_a.npy")
    assert missing.code == 1 and "there is no file for input b" in missing.err
    picture = script(tmp_path / "out", "run.py", "run.py", "inputs/1/b.npy")
    assert picture.code == 1 and "run.py: input 'x/a' (float32 (n, 4)) takes no images" in picture.err
    assert picture.err.count("takes no images") == 1 and picture.err.endswith("height and width; hand it as .npy\n")


def test_a_fixed_batch_and_packed_weights(tmp_path: Path) -> None:
    nodes = [node("MatMul", "x w", "h"), node("Relu", "h", "y")]
    model = load(proto(nodes, [info("x", [2, 300])], [info("y", [2, 40])], {"w": weight(300, 40)}))
    q = fb.quantize(model, quant_type="weight", bit_num=4, min_quant_weight_size=1, verify=False)
    x = np.random.default_rng(0).standard_normal((7, 300)).astype(np.float32)
    done = fb.deploy(q, "onnxruntime", tmp_path / "out", data=x[:6])
    about = json.loads((tmp_path / "out" / "network.json").read_text("utf-8"))
    assert about["samples"] == 3 and about["form"] == "packed"
    np.testing.assert_array_equal(np.load(tmp_path / "out/inputs/1/x.npy"), x[2:4])
    assert "weights stored in few bits" in (tmp_path / "out" / "README.md").read_text("utf-8") and done.notes == ()


def test_ranges_at_run_time(tmp_path: Path) -> None:
    nodes = [node("MatMul", "x w", "y")]
    model = load(proto(nodes, [info("x", ["n", 64])], [info("y", ["n", 32])], {"w": weight(64, 32)}))
    with pytest.warns(FewbitWarning, match="of float time"):  # so small a product gains nothing
        q = fb.quantize(model, quant_type="dynamic", verify=False, quantize_mode="full")
    fb.deploy(q, "onnxruntime", tmp_path / "out")
    assert "measured at run time" in (tmp_path / "out" / "README.md").read_text("utf-8")
    with pytest.raises(UsageError, match="this one has none"):
        fb.deploy(q, "onnxruntime", tmp_path / "out", form="qoperator")


@pytest.mark.parametrize("form", ["qoperator", "ort"])
def test_other_forms_of_onnx_runtime(demo: fb.Quantized, tmp_path: Path, form: str) -> None:
    done = fb.deploy(demo, "onnxruntime", tmp_path / "out", form=form)
    assert "made-up inputs" in done.checks[0] and "ok logits: " in done.checks[0]
    worst = float(done.checks[0].split("logits: ")[1].split()[0])
    assert worst < 1e-3
    if form == "qoperator":
        ops = {n.op_type for n in onnx.load(tmp_path / "out" / "model.onnx").graph.node}
        assert {"QLinearConv", "QLinearAdd", "QGemm"} <= ops and "Conv" not in ops
        assert any("QLinearConv" in note for note in done.notes)
    else:
        assert (tmp_path / "out" / "model.ort").read_bytes()[4:8] == b"ORTM" and "model.onnx" not in done.sizes


def test_float_networks_have_no_operator_form(demo: fb.Quantized, tmp_path: Path) -> None:
    model = load(proto([node("Relu", "x", "y")], [info("x", ["n", 4])], [info("y", ["n", 4])]))
    with pytest.warns(FewbitWarning, match="NOTHING WAS QUANTIZED"):
        q = fb.quantize(model, np.ones((2, 4), np.float32), verify=False)
    with pytest.raises(UsageError, match=r"form 'qoperator' is for networks with Q and DQ .* this one has none"):
        fb.deploy(q, "onnxruntime", tmp_path / "out", form="qoperator")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_answers_otherwise_never_appears(
    demo: fb.Quantized, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fewbit.engines.onnxruntime import OnnxRuntime

    run: Callable[..., Any] = OnnxRuntime.run
    monkeypatch.setattr(OnnxRuntime, "run", lambda self, feeds: {k: x[:, ::-1] for k, x in run(self, feeds).items()})
    with pytest.raises(VerificationError, match=r"does not answer as the one.*DIFFERS logits"):
        fb.deploy(demo, "onnxruntime", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    check_folder(tmp_path / "out")


# -- deployed over, and out of, a folder -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[fb.Quantized, fb.Deployment]:
    """A small network that was measured against float, deployed under a name that a shell would take for two."""
    data = {"x/a": np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32), "b": np.ones((8, 4), np.int64)}
    q = fb.quantize(two_inputs(), data, quantize_mode="full", effort="fast", verify=False)
    assert q.report is not None
    q.report = replace(q.report, cosine=0.99912, sqnr=27.54)
    return q, fb.deploy(q, "onnxruntime", tmp_path_factory.mktemp("measured") / "out", data=data, name="my net")


def test_what_quantizing_came_to_is_told(measured: tuple[fb.Quantized, fb.Deployment]) -> None:
    q, done = measured
    assert q.report is not None
    says = f"{q.report.quantized} of {q.report.layers} layers integer; output 27.5 dB to float, cosine 0.99912"
    assert done.result == says and f"\nquantized: {says}" in done.text()
    assert f"\n\n{done.result}.\n\n" in (done.folder / "README.md").read_text("utf-8")


def test_commands_take_a_name_with_spaces(measured: tuple[fb.Quantized, fb.Deployment]) -> None:
    _, done = measured
    assert " --out out 'my net.onnx' inputs/0/" in (done.folder / "README.md").read_text("utf-8")


def test_out_of_a_deployed_folder_the_plan_is_found(
    measured: tuple[fb.Quantized, fb.Deployment], tmp_path: Path
) -> None:
    q, done = measured
    again = fb.deploy(done.folder / "my net.onnx", "openvino", tmp_path / "out")
    assert "plan.json" in again.sizes and again.result == f"{q.report.quantized} of {q.report.layers} layers integer"
    assert not any("until now" in n for n in again.notes)


def test_replacing_another_network_is_told(demo: fb.Quantized, tmp_path: Path) -> None:
    relu = load(proto([node("Relu", "x", "y")], [info("x", ["n", 4])], [info("y", ["n", 4])]))
    with pytest.warns(FewbitWarning, match="NOTHING WAS QUANTIZED"):
        other = fb.quantize(relu, np.ones((2, 4), np.float32), verify=False)
    out = tmp_path / "out"
    assert replaced(out, other.plan) == ()
    fb.deploy(other, "onnxruntime", out, name="old")
    assert replaced(out, other.plan) == ()
    note = f"{out} held another network until now: old on ONNX Runtime; it was replaced"
    assert replaced(out, demo.plan) == (note,)
    assert fb.deploy(demo, "onnxruntime", out, name="new").notes[0] == note
    (out / "plan.json").unlink()
    assert replaced(out, demo.plan)[0].startswith(f"{out} held what was deployed before until now: new on ONNX")
    (out / "SHA256SUMS").write_text("of somebody else")
    assert replaced(out, demo.plan) == ()
