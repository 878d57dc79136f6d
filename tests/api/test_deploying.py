"""`fb.deploy`: words sorted, folders refused before the work, what is known of a network found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fewbit as fb
from fewbit.config.data import READING, reading_info, reading_of
from fewbit.deployment import DEPLOYERS, Deployed, Job, Option, deployer
from fewbit.errors import ConfigError, OutputError, UnknownName, UsageError
from tests.models import info, load, node, proto, weight

pytestmark = pytest.mark.filterwarnings("default::fewbit.errors.FewbitWarning")  # such as: slower, on a busy machine


@pytest.fixture(scope="module")
def model() -> fb.Model:
    """x[n, 3, 4, 4] → Conv → y"""
    nodes = [node("Conv", "x w", "y", "conv", pads=[1, 1, 1, 1])]
    return load(proto(nodes, [info("x", ["n", 3, 4, 4])], [info("y", None)], {"w": weight(4, 3, 3, 3)}))


@pytest.fixture(scope="module")
def data() -> Any:
    return np.random.default_rng(0).standard_normal((40, 3, 4, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def made(model: fb.Model, data: Any) -> fb.Quantized:
    return fb.quantize(model, data, verify=False, quantize_mode="full", effort="fast")


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """Target "openvino" becomes one that only notes its jobs, with options `fine` and `depth`."""
    seen: list[Job] = []
    monkeypatch.delitem(DEPLOYERS, "openvino")

    @deployer(
        "openvino",
        options={"fine": "a switch", "depth": Option("how deep", 3), "mood": Option("a word", "a", ("a", "b"))},
    )
    def deploy(job: Job) -> Deployed:
        (job.folder / "x.txt").write_text("12")
        seen.append(job)
        return Deployed(("x.txt",), ("seen",), ("noted",))

    monkeypatch.setattr("fewbit.api.deploying.DEPLOYERS", DEPLOYERS)
    yield seen
    del DEPLOYERS["openvino"]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def test_a_quantized_network_is_handed_over_as_it_is(made: fb.Quantized, data: Any, jobs: list[Job], out: Path) -> None:
    said: list[str] = []
    done = fb.deploy(made, "openvino", out, data=data, name="net", fine=True, say=said.append)
    (job,) = jobs
    assert job.model is made and job.plan is made.plan and job.name == "net" and said == []
    assert job.options == {"fine": True, "depth": 3, "mood": "a"} and job.recipe == fb.DataConfig()
    assert job.samples is not None and job.samples["x"].shape == (32, 3, 4, 4)
    assert (done.folder, done.sizes, done.checks) == (out, {"x.txt": 2}, ("seen",))
    assert done.notes[-1] == "noted" and "quantized for onnxruntime; target=openvino" in done.notes[0]
    assert "wrote" in done.text() and "note: noted" in done.text()
    assert done.to_json()["files"] == {"x.txt": 2}


def test_a_file_brings_its_plan(made: fb.Quantized, jobs: list[Job], out: Path, tmp_path: Path) -> None:
    made.save(tmp_path / "q.onnx")
    fb.deploy(tmp_path / "q.onnx", "openvino", out)
    assert jobs[0].plan == made.plan and jobs[0].samples is None
    text = (tmp_path / "q.plan.json").read_text()
    (tmp_path / "q.plan.json").write_text(text.replace(made.plan.model, "0" * 64))
    fb.deploy(tmp_path / "q.onnx", "openvino", out)
    assert jobs[1].plan is None, "that of another network"
    (tmp_path / "q.plan.json").write_text("{")
    fb.deploy(tmp_path / "q.onnx", "openvino", out)
    assert jobs[2].plan is None


def test_a_float_network_is_quantized_for_the_target(model: fb.Model, data: Any, jobs: list[Job], out: Path) -> None:
    said: list[str] = []
    words = {"effort": "fast", "quantize_mode": "full", "calib_mode": "entropy", "normalize_mean": [1, 2, 3]}
    done = fb.deploy(model, "openvino", out, data=data, say=said.append, **words)
    assert isinstance(jobs[0].model, fb.Quantized) and jobs[0].plan is not None
    assert jobs[0].plan.target == "openvino" and jobs[0].plan.config["calib_mode"] == "entropy"
    assert said[0] == "quantizing" and done.notes == ("noted",)
    assert jobs[0].recipe.normalize_mean == (1, 2, 3), "for images; the data are arrays"
    assert jobs[0].model.metadata[READING] == '{"normalize_mean": [1, 2, 3]}'


def test_a_float_network_needs_data(model: fb.Model, jobs: list[Job], out: Path) -> None:
    with pytest.raises(UsageError, match=r"the network is float; quantize it first .*or give data"):
        fb.deploy(model, "openvino", out)
    assert not out.exists() and not jobs


@pytest.mark.parametrize(
    ("words", "error", "says"),
    [
        ({"target": "openvin"}, UnknownName, "unknown deployment target 'openvin'; did you mean 'openvino'"),
        ({"form": "ort"}, UsageError, "form is an option of target onnxruntime, and the target is openvino"),
        ({"normalise_mean": [1]}, UnknownName, "unknown setting 'normalise_mean'; did you mean 'normalize_mean'"),
        ({"calib_mode": "entropy"}, UsageError, "calib_mode is about quantizing, and the network is quantized already"),
        ({"config": {"effort": "best"}}, UsageError, "config is about quantizing"),
        ({"depth": 2.5}, ConfigError, "depth is 2.5; it must be a whole number"),
        ({"fine": 1}, ConfigError, "fine is 1; it must be true or false"),
        ({"mood": "c"}, UnknownName, "unknown mood 'c' (allowed: a, b)"),
        ({"name": "a/b"}, UsageError, "name is 'a/b'; it must be the start of a file name"),
        ({"name": ""}, UsageError, "name is ''"),
        ({"normalize_std": [0]}, ConfigError, "no number may be 0"),
    ],
)
def test_wrong_words(
    made: fb.Quantized, jobs: list[Job], out: Path, words: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error) as caught:
        fb.deploy(made, **{"target": "openvino", "folder": out, **words})
    assert says in str(caught.value)
    assert not out.exists() and not jobs


def test_a_full_folder_is_refused_before_the_work(made: fb.Quantized, jobs: list[Job], out: Path) -> None:
    out.mkdir()
    (out / "mine").write_text("mine")
    with pytest.raises(OutputError, match="it holds mine"):
        fb.deploy(made, "openvino", out)
    assert not jobs
    fb.deploy(made, "openvino", out, overwrite=True)
    assert sorted(p.name for p in out.iterdir()) == ["SHA256SUMS", "mine", "x.txt"]


def test_images_are_remembered_from_quantizing(model: fb.Model, jobs: list[Job], tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 256, (9, 7, 3), np.uint8)
        Image.fromarray(pixels).save(photos / f"{i}.png")
    words = {"image_to_format": "BGR", "normalize_std": [58.0], "input_layout": "NCHW", "batch_size": 2}
    q = fb.quantize(model, photos, verify=False, effort="fast", quantize_mode="full", **words)
    q.save(tmp_path / "q.onnx")
    fb.deploy(tmp_path / "q.onnx", "openvino", tmp_path / "out", data=photos)
    assert jobs[0].recipe == fb.DataConfig(image_to_format="BGR", normalize_std=(58.0,), input_layout="NCHW")
    assert jobs[0].samples is not None and np.abs(jobs[0].samples["x"]).max() < 5
    fb.deploy(tmp_path / "q.onnx", "openvino", tmp_path / "out", normalize_std=[1.0])
    assert jobs[1].recipe == fb.DataConfig(image_to_format="BGR", normalize_std=(1.0,), input_layout="NCHW")


def test_samples_of_another_shape_are_left_out(jobs: list[Job], out: Path) -> None:
    model = load(
        proto([node("MatMul", "x w", "y")], [info("x", ["n", "t", 8])], [info("y", None)], {"w": weight(8, 8)})
    )
    data = [np.ones((1, t, 8), np.float32) for t in (3, 5, 3)]
    q = fb.quantize(model, data, verify=False, effort="fast", quantize_mode="full")
    fb.deploy(q, "openvino", out, data=iter(data))
    assert jobs[0].samples is not None and jobs[0].samples["x"].shape == (2, 3, 8)


def test_reading_info_round_trips_and_says_when_damaged() -> None:
    config = fb.DataConfig(image_to_format="GRAY", resize_shorter=40, batch_size=8, shuffle=True)
    assert reading_of(reading_info(config)) == fb.DataConfig(image_to_format="GRAY", resize_shorter=40)
    assert reading_info(fb.DataConfig(batch_size=8)) == {} and reading_of({}) == fb.DataConfig()
    for text in ("{", "[1]", '{"image_to_format": "HSV"}', '{"normalize_std": [0]}'):
        with pytest.raises(ConfigError, match=r"the metadata 'fewbit\.reading' of the network is damaged"):
            reading_of({READING: text})
