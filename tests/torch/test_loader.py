"""Batches of images: order, changes, normalizing, sets that are read from disk."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from fewbit.data.datasets.found import PlanePixels
from fewbit.data.datasets.labelled import Labelled
from fewbit.errors import DataError
from fewbit.torch.fit import changes
from fewbit.torch.loader import Loader, Pictures, generator, image_set, moved


def images(n: int = 10, channels: int = 1, size: int = 8) -> Labelled:
    """Images whose first pixel is their number."""
    pixels = np.random.default_rng(0).integers(0, 256, (n, channels, size, size)).astype(np.uint8)
    pixels[:, :, 0, 0] = np.arange(n)[:, None]
    return Labelled(
        "fashion-mnist", "train", PlanePixels(pixels), np.arange(n), np.arange(n) % 3, ("a", "b", "c"),
        (0.3,) * channels, (0.4,) * channels, (channels, size, size), "here",
    )  # fmt: skip


@dataclass(frozen=True)
class Slow:
    """As if the images came from disk."""

    pixels: PlanePixels
    lazy = True

    def __len__(self) -> int:
        return len(self.pixels)

    def take(self, index: np.ndarray) -> np.ndarray:
        return self.pixels.take(index)


def loader(data: Labelled, **words: object) -> Loader:
    common = {"batch_size": 4, **words}
    return Loader(Pictures(data), torch.arange(len(data)), **common)  # type: ignore[arg-type]


def test_images_are_those_of_the_set_bit_by_bit() -> None:
    data = images(channels=3)
    x, labels = (torch.cat(parts) for parts in zip(*loader(data).epoch(), strict=True))
    assert np.array_equal(x.numpy(), data.normalized()) and x.dtype == torch.float32
    assert np.array_equal(labels.numpy(), data.labels)


def test_every_image_comes_once_in_another_order_each_epoch() -> None:
    mixed = loader(images(), shuffle=True)
    first, second = (torch.cat([x[:, 0, 0, 0] for x, _ in mixed.epoch(e)]) for e in (0, 1))
    assert not torch.equal(first, second) and len(first.unique()) == 10
    assert torch.equal(first.sort().values, second.sort().values)


def test_an_epoch_is_the_same_whenever_it_comes() -> None:
    words = {"shuffle": True, "crop": True, "flip": True}
    a, b = loader(images(), **words), loader(images(), **words)
    list(a.epoch(0))
    for (x, y), (v, w) in zip(a.epoch(1), b.epoch(1), strict=True):
        assert torch.equal(x, v) and torch.equal(y, w)
    other = loader(images(), seed=1, **words)
    assert not torch.equal(next(iter(a.epoch(1)))[0], next(iter(other.epoch(1)))[0])


def test_counts() -> None:
    data = images(10)
    assert len(loader(data)) == 3 and loader(data).samples == 10
    assert len(loader(data, whole=True)) == 2 and loader(data, whole=True).samples == 8
    assert [len(y) for _, y in loader(data, limit=1).epoch()] == [4]
    assert len(loader(images(3), whole=True)) == 1  # the only batch there is


def test_moved_images_are_parts_of_themselves() -> None:
    x = torch.arange(1, 65, dtype=torch.uint8).reshape(1, 1, 8, 8).expand(64, -1, -1, -1)
    y = moved(x, generator(0), crop=True, flip=False)
    shifts = set()
    for image in y[:, 0]:
        wide = torch.zeros(10, 10, dtype=torch.uint8)
        wide[1:9, 1:9] = x[0, 0]
        (at,) = [(i, j) for i in range(3) for j in range(3) if torch.equal(wide[i : i + 8, j : j + 8], image)]
        shifts.add(at)
    assert len(shifts) == 9  # all of them


def test_flipped_images_are_mirrored_or_not() -> None:
    x = torch.randint(0, 256, (64, 3, 8, 8), dtype=torch.uint8)
    y = moved(x, generator(0), crop=False, flip=True)
    kept = [torch.equal(a, b) for a, b in zip(x, y, strict=True)]
    turned = [torch.equal(a.flip(-1), b) for a, b in zip(x, y, strict=True)]
    assert 16 < sum(kept) < 48 and all(a or b for a, b in zip(kept, turned, strict=True))


@pytest.mark.parametrize("workers", [0, 2])
def test_images_from_disk_give_the_same_batches(workers: int) -> None:
    data = images()
    slow = replace(data, pixels=Slow(data.pixels))
    words = {"batch_size": 4, "shuffle": True, "crop": True, "flip": True}
    places = torch.arange(10)
    lazy = Loader(Pictures(slow, workers), places, **words)
    assert lazy.pictures.held is None
    for (x, y), (v, w) in zip(lazy.epoch(2), Loader(Pictures(data), places, **words).epoch(2), strict=True):
        assert torch.equal(x, v) and torch.equal(y, w)


def test_channels_last_changes_the_layout_only() -> None:
    data = images(channels=3)
    (x, _), (y, _) = (next(iter(loader(data, channels_last=c).epoch())) for c in (False, True))
    assert torch.equal(x, y) and y.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("augment", "name", "wanted"),
    [
        ("auto", "fashion-mnist", (True, True)),
        ("auto", "mnist", (True, False)),
        ("none", "mnist", (False, False)),
        ("crop", "cifar10", (True, False)),
        ("flip", "cifar10", (False, True)),
        ("crop-flip", "mnist", (True, True)),
    ],
)
def test_augment(augment: str, name: str, wanted: tuple[bool, bool]) -> None:
    assert changes(augment, name) == wanted


def test_arrays_become_a_set_of_images() -> None:
    data = images(channels=3)
    own = image_set(data.images(), data.labels.astype(np.uint8), data.mean, data.std)
    assert np.array_equal(own.normalized(), data.normalized()) and own.classes == ("0", "1", "2")
    assert own.shape == data.shape and len(own) == 10


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"images": np.zeros((2, 8, 8, 1))},
            r"images are float64 of shape \(2, 8, 8, 1\); they must be uint8 \(n, height",
        ),
        ({"images": np.zeros((2, 8, 8), np.uint8)}, r"images are uint8 of shape \(2, 8, 8\); they must be"),
        ({"labels": np.arange(3)}, r"labels are int64 of shape \(3,\); they must be 2 class numbers from 0 on"),
        ({"labels": np.array([0, -1])}, "they must be 2 class numbers from 0 on"),
        ({"mean": (0.1, 0.2)}, "mean and std have 2 and 1 numbers; images have 1 channels"),
    ],
)
def test_arrays_that_are_no_images(change: dict[str, object], says: str) -> None:
    right = {"images": np.zeros((2, 8, 8, 1), np.uint8), "labels": np.arange(2), "mean": (0.1,), "std": (0.2,)}
    with pytest.raises(DataError, match=says):
        image_set(**{**right, **change})  # type: ignore[arg-type]
