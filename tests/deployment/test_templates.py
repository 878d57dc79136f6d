"""The scripts that are copied into folders compute what fewbit does."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fewbit.config import DataConfig
from fewbit.data.images import image_recipe, load_image
from fewbit.data.signature import read_signature
from fewbit.deployment.about import about, image_text
from fewbit.deployment.server import TEMPLATES
from fewbit.errors import BadSample
from fewbit.graph.model import TensorInfo
from tests.models import info, load, node, proto


def template(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A template as a module; those beside it can be imported meanwhile."""
    monkeypatch.syspath_prepend(str(TEMPLATES))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    spec = importlib.util.spec_from_file_location(f"template_{name}", TEMPLATES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for beside in ("feeds", "run"):
        sys.modules.pop(beside, None)
    return module


RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (37, 53, 4), np.uint8)


def turned(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.fromarray(NOISE[..., :3]).save(path, exif=exif)


PICTURES = {
    "rgb.png": lambda p: Image.fromarray(NOISE[..., :3]).save(p),
    "photo.jpg": lambda p: Image.fromarray(NOISE[..., :3]).save(p, quality=90),
    "grey.png": lambda p: Image.fromarray(NOISE[..., 0]).save(p),
    "grey16.png": lambda p: Image.fromarray(RNG.integers(0, 65536, (37, 53), np.uint16)).save(p),
    "through.png": lambda p: Image.fromarray(NOISE).save(p),
    "palette.png": lambda p: Image.fromarray(NOISE[..., :3]).quantize(16).save(p),
    "bits.png": lambda p: Image.fromarray(NOISE[..., 0] > 99).save(p),
    "turned.jpg": turned,
}
RECIPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "bgr, cubic": {"image_to_format": "BGR", "resize_method": "CUBIC", "normalize_mean": [1, 2, 3]},
    "shorter edge": {"resize_shorter": 30, "normalize_std": [58.4], "resize_method": "NEAREST"},
    "cut out": {"resize_width": 40, "resize_height": 32, "center_crop_width": 24, "center_crop_height": 20},
}
SHAPES = {"NCHW": ("n", 3, 20, 24), "NHWC": ("n", 20, 24, 3)}


@pytest.mark.parametrize("layout", SHAPES)
@pytest.mark.parametrize("words", RECIPES)
def test_images_become_the_same_numbers(
    words: str, layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = template("preprocess", monkeypatch)
    dtype = np.dtype(np.uint8 if words == "cut out" else np.float32)
    config = DataConfig(**RECIPES[words])
    slot = read_signature([TensorInfo("x", dtype, SHAPES[layout])]).slots[0]
    kind = 2 if dtype == np.uint8 else 1
    model = load(proto([node("Identity", "x", "y")], [info("x", SHAPES[layout], kind)], [info("y", None, kind)]))
    recipe = about(model, config)["inputs"][0]["image"]
    for name, save in PICTURES.items():
        save(tmp_path / name)
        ours = load_image(tmp_path / name, image_recipe(slot, config))
        np.testing.assert_array_equal(script.load_image(tmp_path / name, recipe), ours[None], err_msg=name)
    assert image_text(recipe)


@pytest.mark.parametrize(
    ("pixels", "says"),
    [
        (np.full((5, 7), 0.5, np.float32), "its pixels are floating point numbers"),
        (np.full((5, 7), 70000, np.int32), r"its pixels are 70000 (…|\.\.\.) 70000, more than 16 bits"),
        (np.full((5, 7), -1, np.int32), r"its pixels are -1 (…|\.\.\.) -1, more than 16 bits"),
    ],
    ids=["floats", "32 bits", "negative"],
)
def test_pixels_of_unknown_range_are_refused_as_the_reader_of_data_does(
    pixels: Any, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(pixels).save(tmp_path / "x.tiff")
    slot = read_signature([TensorInfo("x", np.dtype(np.float32), ("n", 1, 5, 7))]).slots[0]
    with pytest.raises(BadSample, match=says):
        load_image(tmp_path / "x.tiff", image_recipe(slot, DataConfig(image_to_format="GRAY")))
    recipe = {"colour": "GRAY", "shorter": None, "resize": None, "crop": None, "method": "LINEAR"}
    with pytest.raises(SystemExit, match=f"{says}; hand it as .npy" if "bits" in says else says):
        template("preprocess", monkeypatch).load_image(tmp_path / "x.tiff", recipe)


def test_too_small_a_picture_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    PICTURES["rgb.png"](tmp_path / "rgb.png")
    recipe = {"colour": "RGB", "shorter": None, "resize": None, "crop": [60, 20], "method": "LINEAR"}
    with pytest.raises(SystemExit, match="the image is 53x37, smaller than the piece of 60x20"):
        template("preprocess", monkeypatch).load_image(tmp_path / "rgb.png", recipe)


ONES = np.ones((2, 3), np.float32)
DIFFERENCES = {
    "same": (ONES, ONES, 0.0),
    "a tenth": (ONES * 1.1, ONES, 0.1),
    "zeros": (ONES * 0, ONES * 0, 0.0),
    "from zeros": (ONES * 3, ONES * 0, 3 * 6**0.5),
    "shape": (ONES[:1], ONES, np.inf),
    "type": (ONES.astype(np.float64), ONES, np.inf),
    "nan": (np.full_like(ONES, np.nan), ONES, np.inf),
    "nan in both": (ONES * [np.nan, 1, 1], ONES * [np.nan, 1, 1], 0.0),
    "infinity of the other sign": (ONES * [np.inf, 1, 1], ONES * [-np.inf, 1, 1], np.inf),
    "whole numbers": (np.array([1, 2, 3, 4]), np.array([1, 2, 3, 5]), 0.25),
    "nothing": (np.zeros(0, np.int64), np.zeros(0, np.int64), 0.0),
}


@pytest.mark.parametrize("name", DIFFERENCES)
def test_what_verify_counts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found, expected, want = DIFFERENCES[name]
    assert template("verify", monkeypatch).difference(found, expected) == pytest.approx(want, rel=1e-6)


ERRORS = {
    "[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Got : 9 : Expected": "Got : 9 : Expected",
    "Exception from core.cpp:96:\nCheck 'x' failed at a.cpp\nIt failed:\nbad shape\nmore": "It failed: bad shape",
    "": "ValueError",
}


@pytest.mark.parametrize("text", ERRORS)
def test_what_an_engine_says_in_one_line(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert template("run", monkeypatch).first_line(ValueError(text)) == ERRORS[text]


def test_an_output_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    told = template("run", monkeypatch).told
    assert told("y", np.float32([[1, 3, 2]]), 2) == "y: float32[1, 3]  index: number, largest first\n  0: 1: 3  2: 2"
    assert told("y", np.uint8([[0, 255]]), 5).endswith("0: 1: 255  0: 0")
    assert told("class", np.int64([7]), 5) == "class: int64[1]  [7]"
    assert told("map", np.zeros((1, 2, 2), np.float32), 2) == "map: float32[1, 2, 2]  from 0.0 to 0.0"


def test_outputs_get_the_axes_that_the_model_says(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("openvino_network", TEMPLATES / "openvino" / "network.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    spec.loader.exec_module(module)
    x = np.zeros((1, 4), np.float32)
    assert [module.with_axes(x, rank).shape for rank in (1, 2, 3)] == [(4,), (1, 4), (1, 1, 4)]
