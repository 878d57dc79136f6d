"""Parts of a set, and what a network is fed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fewbit as fb
from fewbit.config import DataConfig
from fewbit.data import open_data
from fewbit.data.datasets import Labelled, open_dataset
from fewbit.data.datasets.found import PlanePixels
from fewbit.data.datasets.labelled import Stream
from fewbit.data.demo import DEMO_MODEL
from fewbit.errors import ConfigError, DataError
from tests.data.helpers import tensor
from tests.datasets import write_fashion


def labelled(labels: list[int], channels: int = 3) -> Labelled:
    planes = np.random.default_rng(0).integers(0, 256, (len(labels), channels, 4, 5), np.uint8)
    planes[:, 0, 0, 0] = np.arange(len(labels))  # tells the images apart
    classes = tuple(f"class {i}" for i in range(max(labels) + 1))
    rows, y = np.arange(len(labels)), np.array(labels, np.int64)
    mean, std = (0.1, 0.5, 0.9)[:channels], (0.2, 0.3, 0.4)[:channels]
    return Labelled("made", "test", PlanePixels(planes), rows, y, classes, mean, std, (channels, 4, 5), "memory")


def ids(data: Labelled) -> list[int]:
    return data.images()[:, 0, 0, 0].tolist()


@pytest.fixture(scope="module")
def fashion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fashion(tmp_path_factory.mktemp("sets") / "fashion-mnist", n_train=300, n_test=120)


@pytest.mark.parametrize("index", [None, slice(1, 4), [3, 0, 0], np.array([5, -1]), [], np.array([2], np.uint8)])
def test_images_and_numbers_go_together(index: object) -> None:
    data = labelled([0, 1, 2, 0, 1, 2])
    x, y = data.images(index), data.normalized(index)  # type: ignore[arg-type]
    want = (
        list(range(6)) if index is None else np.arange(6)[index if isinstance(index, slice) else np.array(index, int)]
    )
    assert x[:, 0, 0, 0].tolist() == list(want) and x.flags.c_contiguous and x.shape[1:] == (4, 5, 3)
    real = ((x / 255.0 - data.mean) / data.std).transpose(0, 3, 1, 2)
    assert y.dtype == np.float32 and y.flags.c_contiguous and np.allclose(y, real, atol=1e-5)


@pytest.mark.parametrize(
    ("index", "word"),
    [
        ([6], "index 6 is out of range: made test has 6 samples"),
        ([-7], "index -7"),
        ([0.5], "float64"),
        ([[1]], "2 axes"),
    ],
)
def test_indices_that_do_not_exist(index: list[int], word: str) -> None:
    with pytest.raises(DataError, match=word):
        labelled([0, 1, 2, 0, 1, 2]).images(index)


@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=60),
    limit=st.integers(1, 70),
    seed=st.integers(0, 3),
)
def test_a_part_is_balanced_from_its_begin_on(labels: list[int], limit: int, seed: int) -> None:
    data = labelled(labels)
    part = data.subset(limit=limit, seed=seed)
    assert len(part) == min(limit, len(labels)) and len(set(ids(part))) == len(part)
    assert [labels[i] for i in ids(part)] == part.labels.tolist()
    have, got = np.bincount(labels, minlength=5), np.bincount(part.labels, minlength=5)
    assert all(got[c] >= got.max() - 1 or got[c] == have[c] for c in range(5))
    assert ids(data.subset(limit=limit, seed=seed)) == ids(part)
    assert ids(data.subset(limit=limit + 5, seed=seed))[: len(part)] == ids(part)


def test_the_same_number_of_each_class() -> None:
    data = labelled([0] * 30 + [1] * 20 + [2] * 25)
    part = data.subset(per_class=7, seed=1)
    assert np.bincount(part.labels).tolist() == [7, 7, 7] and np.bincount(part.labels[:9]).tolist() == [3, 3, 3]
    assert ids(part) != ids(data.subset(per_class=7, seed=2))
    assert ids(data.subset(per_class=7, limit=10, seed=1)) == ids(part)[:10]
    again = part.subset(per_class=2)
    assert set(ids(again)) <= set(ids(part)) and sorted(again.labels.tolist()) == [0, 0, 1, 1, 2, 2]
    assert data.subset() is data


def test_parts_that_cannot_be() -> None:
    data = labelled([0, 0, 2])
    with pytest.raises(
        DataError, match=r"per_class is 2, and class 1 \(class 1\) of made test has 0 samples; use limit"
    ):
        data.subset(per_class=2)
    with pytest.raises(DataError, match="has 1 sample; use at most 1"):
        labelled([0, 0, 1]).subset(per_class=2)
    for words in ({"per_class": 0}, {"limit": 0}, {"limit": -3}):
        with pytest.raises(ConfigError, match="it must be 1 or more"):
            data.subset(**words)


def test_a_large_set_is_normalized_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    data = labelled([0, 1] * 20)
    whole = data.normalized()
    monkeypatch.setattr("fewbit.data.datasets.labelled.CHUNK", 7)
    assert np.array_equal(data.normalized(), whole)


@pytest.mark.filterwarnings("error")
def test_evaluate_and_quantize_take_it(fashion: Path) -> None:
    test = open_dataset("fashion-mnist", fashion)
    found = fb.evaluate(DEMO_MODEL, test.feeds(), batch_size=40)
    assert found.samples == 120 and found.accuracy[1].hits > 100
    streamed = fb.evaluate(DEMO_MODEL, Stream(test), batch_size=40)
    assert streamed.accuracy == found.accuracy
    train = open_dataset("fashion-mnist", fashion, "train", per_class=5)
    small = fb.quantize(DEMO_MODEL, train.feeds(), verify=False, batch_size=10, effort="fast")
    assert fb.evaluate(small, test.feeds(), batch_size=40).accuracy[1].hits > 95


def test_both_feeds_hold_the_same(fashion: Path) -> None:
    test = open_dataset("fashion-mnist", fashion, limit=10)
    inputs, config = [tensor("x", "N", 1, 28, 28)], DataConfig(batch_size=4)
    one, two = (list(open_data(f, inputs, config)) for f in (test.feeds(), Stream(test)))
    for a, b in zip(one, two, strict=True):
        assert np.array_equal(a.feeds["x"], b.feeds["x"]) and np.array_equal(a.labels, b.labels)
    assert len(Stream(test)) == 10
