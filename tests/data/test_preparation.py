"""What is told of images: the settings in words, and the numbers that were really used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fewbit.config import DataConfig
from fewbit.data import open_data
from fewbit.data.datasets import open_dataset
from fewbit.data.images import image_recipe
from fewbit.data.preparation import of_dataset, of_recipe
from fewbit.data.signature import read_signature
from fewbit.graph.model import TensorInfo
from tests.datasets import write_fashion

INPUT = [TensorInfo("x", np.dtype(np.float32), ("n", 3, 224, 224))]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({}, "resized to 224x224, LINEAR RGB, pixel"),
        ({"normalize_mean": (127.5,)}, "resized to 224x224, LINEAR RGB, (pixel - 127.5)"),
        ({"normalize_std": (255.0,), "image_to_format": "BGR"}, "resized to 224x224, LINEAR BGR, pixel / 255"),
        (
            {
                "resize_shorter": 256,
                "resize_method": "CUBIC",
                "normalize_mean": (1, 2, 3.5),
                "normalize_std": (5, 5, 5),
            },
            "shorter edge to 256, CUBIC; centre 224x224 RGB, (pixel - (1, 2, 3.5)) / 5",
        ),
        (
            {"resize_width": 256, "resize_height": 240, "center_crop_width": 224, "center_crop_height": 224},
            "resized to 256x240, LINEAR; centre 224x224 RGB, pixel",
        ),
    ],
)
def test_settings_in_words(words: dict[str, Any], told: str) -> None:
    assert str(of_recipe(image_recipe(read_signature(INPUT).slots[0], DataConfig(**words)))) == told


def test_numbers_are_those_that_were_given() -> None:
    mean = (123.675, 116.28, 103.53)
    slot = read_signature(INPUT).slots[0]
    assert of_recipe(image_recipe(slot, DataConfig(normalize_mean=mean))).mean == mean  # though float32 is computed


def test_a_data_set_in_words(tmp_path: Path) -> None:
    images = open_dataset("fashion-mnist", write_fashion(tmp_path, 20, 20))
    assert str(of_dataset(images)) == "28x28 GRAY, (pixel / 255 - 0.286) / 0.353"


def test_image_files_of_a_data_set_are_cut(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "val" / name).mkdir(parents=True)
        Image.new("RGB", (300, 260), 9).save(tmp_path / "val" / name / "x.png")
    told = str(of_dataset(open_dataset("imagenet", tmp_path)))
    assert told.startswith("shorter edge to 256, LINEAR; centre 224x224 RGB, (pixel / 255 - (0.485, 0.456, 0.406)) / (")


def test_a_source_of_images_knows_its_recipe_and_others_have_none(tmp_path: Path) -> None:
    Image.new("RGB", (5, 5)).save(tmp_path / "a.png")
    assert open_data(tmp_path, INPUT).recipe == image_recipe(read_signature(INPUT).slots[0], DataConfig())
    assert open_data(np.zeros((2, 3, 224, 224), np.float32), INPUT).recipe is None
