"""Iterables: batches and samples, tuples and mappings, one pass or many."""

from __future__ import annotations

from collections import UserDict

import numpy as np
import pytest

from fewbit.config import DataConfig
from fewbit.data import open_data
from fewbit.errors import BadSample, ConfigError, DataError, EmptyData, FewbitWarning, UnknownName
from tests.data.helpers import PAIR, VECTOR, fed, rows, tensor

X = rows(7, 3)
BATCHES = [X[:3], X[3:6], X[6:]]


class Loader:
    """What a DataLoader looks like from outside."""

    def __init__(self, items):
        self.items = items

    def __iter__(self):
        return iter(self.items)

    def __len__(self):
        return len(self.items)


class FakeTensor:
    """Has `.numpy()`, and nothing else but a shape."""

    def __init__(self, x):
        self.x, self.shape = x, x.shape

    def numpy(self):
        return self.x


def test_batches_as_they_come():
    source = open_data(BATCHES, VECTOR, DataConfig(batch_size=2))
    assert (len(source), source.batches, source.samples) == (3, 3, None)
    for _ in range(2):
        batches = list(source)
        assert [len(b.names) for b in batches] == [3, 3, 1]
        assert [b.index for b in batches] == [0, 1, 2]
        np.testing.assert_array_equal(fed(batches), X)
    assert batches[1].names == ["item 1[0]", "item 1[1]", "item 1[2]"]
    assert [b.index for b in source.iterate(2)] == [2]


def test_single_samples_are_put_together():
    source = open_data(list(X), VECTOR, DataConfig(batch_size=3))
    assert (len(source), source.samples) == (3, 7)
    batches = list(source)
    assert [len(b.names) for b in batches] == [3, 3, 1]
    np.testing.assert_array_equal(fed(batches), X)
    assert batches[2].names == ["item 6"]


@pytest.mark.parametrize("items", [list(X), BATCHES], ids=["samples", "batches"])
def test_fixed_batch_size_cuts_and_joins(items):
    source = open_data(items, [tensor("x", 2, 3)], DataConfig(batch_size=5))
    with pytest.warns(FewbitWarning, match="batches of exactly 2; left out 1 sample at the end"):
        batches = list(source)
    assert [b.feeds["x"].shape for b in batches] == [(2, 3)] * 3
    np.testing.assert_array_equal(fed(batches), X[:6])
    assert len(list(source)) == 3  # no second warning
    with pytest.raises(DataError, match="batches of exactly 8, and there are only 7 samples"):
        list(open_data(items, [tensor("x", 8, 3)]))


def test_fixed_batch_of_one_takes_large_batches():
    source = open_data(BATCHES, [tensor("x", 1, 3)])
    assert source.batches is None
    np.testing.assert_array_equal(fed(source), X)
    assert [b.feeds["x"].shape for b in source] == [(1, 3)] * 7


def test_a_generator_is_used_once():
    source = open_data((x for x in BATCHES), VECTOR)
    assert source.batches is None
    with pytest.raises(TypeError, match="the generator does not tell how many batches it gives"):
        len(source)
    assert source.digest() is None
    np.testing.assert_array_equal(fed(source), X)
    with pytest.raises(DataError, match=r"the generator can be visited once, and was; hand a list, a DataLoader"):
        next(iter(source))


def test_loaders_tell_their_length_after_the_first_item():
    source = open_data(Loader(BATCHES), VECTOR)
    assert source.batches is None
    next(iter(source))
    assert source.batches == 3
    np.testing.assert_array_equal(fed(source), X)


def test_opening_starts_no_pass():
    class Counting(Loader):
        passes = 0

        def __iter__(self):
            self.passes += 1
            return super().__iter__()

    data = Counting(BATCHES)
    source = open_data(data, VECTOR)
    assert data.passes == 0
    list(source)
    assert data.passes == 1


def test_length_that_raises_is_unknown():
    class Endless(Loader):
        def __len__(self):
            raise TypeError("no length")

    assert open_data(Endless(BATCHES), VECTOR).batches is None


def test_sets_with_numbers_instead_of_an_iterator():
    class Dataset:
        def __len__(self):
            return 7

        def __getitem__(self, i):
            return X[i % 7], i  # never an IndexError

    source = open_data(Dataset(), VECTOR, DataConfig(batch_size=7))
    with pytest.warns(FewbitWarning, match="1 element more"):
        (batch,) = source
    assert batch.labels.tolist() == list(range(7))
    np.testing.assert_array_equal(batch.feeds["x"], X)


def test_tensors_without_their_framework():
    np.testing.assert_array_equal(fed(open_data([FakeTensor(b) for b in BATCHES], VECTOR)), X)
    with pytest.warns(FewbitWarning, match="1 element more"):
        source = open_data([[FakeTensor(X), FakeTensor(np.arange(7))]], VECTOR)
    assert next(iter(source)).labels.tolist() == list(range(7))


def test_lists_of_numbers_are_one_array():
    np.testing.assert_array_equal(fed(open_data([[1, 2, 3], [4, 5, 6]], VECTOR)), [[1, 2, 3], [4, 5, 6]])
    np.testing.assert_array_equal(fed(open_data([[[1, 2, 3]], [[4, 5, 6]]], VECTOR)), [[1, 2, 3], [4, 5, 6]])


def test_tuples_feed_the_inputs_in_order():
    batch = next(iter(open_data([(rows(4, 2), rows(4, 1))], PAIR)))
    assert {k: v.shape for k, v in batch.feeds.items()} == {"a": (4, 2), "b": (4, 1)}
    assert batch.labels is None


@pytest.mark.parametrize(
    ("surplus", "labels"),
    [
        ((np.arange(4),), [0, 1, 2, 3]),
        ((np.arange(4)[:, None],), [0, 1, 2, 3]),
        ((np.ones((4, 2)),), None),
        ((["a", "b", "c", "d"],), None),
        (([[1], [2, 3]],), None),
        ((np.arange(4), np.arange(4)), None),
    ],
)
def test_surplus_elements(surplus, labels):
    text = f"the list: items have {len(surplus)} elements? more than the model has inputs, not fed to the model"
    with pytest.warns(FewbitWarning, match=text) as seen:
        source = open_data([(rows(4, 3), *surplus)] * 3, VECTOR)
        batches = [*source, *source]
    assert len(seen) == 1
    assert all(set(b.feeds) == {"x"} for b in batches)
    assert all((b.labels is None and labels is None) or b.labels.tolist() == labels for b in batches)


def test_labels_of_single_samples():
    with pytest.warns(FewbitWarning, match="class numbers are kept as labels"):
        source = open_data([(x, i) for i, x in enumerate(X)], VECTOR, DataConfig(batch_size=4))
    assert [b.labels.tolist() for b in source] == [[0, 1, 2, 3], [4, 5, 6]]


@pytest.mark.filterwarnings("ignore:.*more than the model has inputs")
def test_labels_of_another_count():
    with pytest.raises(DataError, match="item 0 has 4 samples and 3 labels; hand one a sample"):
        list(open_data([(rows(4, 3), np.arange(3))], VECTOR))


def test_mappings():
    items = [UserDict(b=rows(4, 1), a=rows(4, 2), labels=np.arange(4))]
    batch = next(iter(open_data(items, PAIR)))
    assert batch.feeds["a"].shape == (4, 2)
    assert batch.labels.tolist() == [0, 1, 2, 3]
    with pytest.warns(FewbitWarning, match="item 0: 'image' is fed to 'x', the only input") as given:
        assert len(list(open_data([{"image": X}, {"image": X}], VECTOR))) == 2
    assert len(given) == 1


def test_scalars_come_with_each_item():
    items = [{"x": x, "scale": np.float32(i)} for i, x in enumerate(X)]
    batches = list(open_data(items, [*VECTOR, tensor("scale")]))
    assert [float(b.feeds["scale"]) for b in batches] == list(range(7))


def test_mappings_that_do_not_fit():
    with pytest.raises(UnknownName, match=r"unknown input name 'aa'; did you mean 'a'\?.*It is a key of item 0"):
        open_data([{"aa": X, "b": X}], PAIR)
    with pytest.raises(DataError, match="item 0 lacks input 'b'; it has 'a'"):
        open_data([{"a": X}], PAIR)
    with pytest.raises(DataError, match="item 0 has 1 element, and the model 2 inputs: a, b"):
        open_data([(rows(4, 2),)], PAIR)
    with pytest.raises(DataError, match="item 0, a single array, feeds one input, and the model has 2"):
        open_data([rows(4, 2)], PAIR)


ITEMS = [
    (
        [rows(2, 2, 3)],
        r"item 0 has shape \(2, 2, 3\) for input 'x' .*, which takes 2 axes for a batch or 1 for one sample",
    ),
    ([X, rows(2, 4)], r"item 1 has shape \(2, 4\), and input 'x' .* axis 1 is 4, not 3"),
    ([X[0], rows(4)], r"item 1 has shape \(4\), and input 'x' \(.*\) takes \(3\): axis 0 is 4, not 3"),
    ([X, X[0]], "item 1 is a single sample, and the items before are batches; hand one kind"),
    ([X[0], X], "item 1 is a batch, and the items before are single samples"),
    ([X, X[:0]], "item 1 is a batch without a sample"),
    ([X, np.full((2, 3), np.nan)], r"item 1\[0\] has 3 values that are not finite"),
    ([[[1.0, 2], [3]]], "item 0, input 'x' cannot become an array"),
]


@pytest.mark.parametrize(("items", "text"), ITEMS)
def test_items_that_do_not_fit(items, text):
    with pytest.raises(BadSample, match=text):
        list(open_data(items, VECTOR))


def test_images_with_channels_last_are_recognised():
    slot = tensor("x", "N", 3, 4, 6)
    with pytest.raises(BadSample, match=r"the data looks like NHWC: use x.transpose\(0, 3, 1, 2\)"):
        list(open_data([rows(2, 4, 6, 3)], [slot]))
    with pytest.raises(BadSample, match=r"the data looks like HWC: use x.transpose\(2, 0, 1\)"):
        list(open_data([rows(4, 6, 3)], [slot]))


def test_inputs_of_different_counts():
    with pytest.raises(DataError, match="item 0: the inputs have different numbers of samples: 'a' has 4, 'b' has 3"):
        list(open_data([(rows(4, 2), rows(3, 1))], PAIR))


def test_ragged_samples_need_a_batch_of_their_own():
    items = [rows(5), rows(8)]
    slot = [tensor("x", "N", "T")]
    assert [b.feeds["x"].shape for b in open_data(items, slot)] == [(1, 5), (1, 8)]
    with pytest.raises(DataError, match=r"input 'x' is \(5,\) in item 0 and \(8,\) in item 1; use batch_size 1"):
        list(open_data(items, slot, DataConfig(batch_size=2)))


def test_skip_bad_leaves_out_rows_and_items():
    x = X.copy()
    x[1, 0] = np.nan
    source = open_data([x[:3], rows(2, 4), x[3:]], VECTOR, DataConfig(skip_bad=True))
    with pytest.warns(
        FewbitWarning, match=r"left out 2 samples: item 0\[1\] has .*; item 1 has shape \(2, 4\)"
    ) as seen:
        batches = list(source)
    assert len(seen) == 1
    np.testing.assert_array_equal(fed(batches), x[[0, 2, 3, 4, 5, 6]])
    assert [b.names for b in source] == [b.names for b in batches]


def test_all_bad():
    source = open_data([X * np.nan, rows(2, 4)], VECTOR, DataConfig(skip_bad=True))
    with pytest.warns(FewbitWarning), pytest.raises(EmptyData, match=r"holds no usable item; the first: item 0\[0\]"):
        list(source)


def test_empty():
    with pytest.raises(EmptyData, match="the list holds no item"):
        open_data([], VECTOR)
    with pytest.raises(EmptyData, match="the generator holds no item"):
        list(open_data((x for x in ()), VECTOR))


def test_whole_inputs():
    inputs = [tensor("x", None, 3), tensor("state", 2, None, 4), tensor("rate", dtype=np.int64)]
    item = {"x": rows(5, 3), "state": rows(2, 5, 4), "rate": 16000}
    (batch,) = open_data([item], inputs)
    assert {k: v.shape for k, v in batch.feeds.items()} == {"x": (5, 3), "state": (2, 5, 4), "rate": ()}
    sample = {"x": rows(3), "state": rows(2, 1, 4), "rate": 16000}
    batches = list(open_data([sample] * 2, inputs))
    assert [b.feeds["x"].shape for b in batches] == [(1, 3)] * 2
    fixed = [tensor("x", 1, 3), *inputs[1:]]
    with pytest.raises(BadSample, match="item 0 has 5 samples, and the model takes batches of exactly 1"):
        list(open_data([item], fixed))


def test_shuffle_is_refused():
    with pytest.raises(ConfigError, match="shuffle cannot reorder the list, which is taken as it comes"):
        open_data(BATCHES, VECTOR, DataConfig(shuffle=True))


def test_digest_is_of_what_was_given():
    source = open_data(BATCHES, VECTOR)
    list(source)
    full = source.digest()
    list(source.iterate(2))
    assert source.digest() == full
    next(iter(source))
    assert source.digest() not in (full, None)
    again = open_data((x for x in BATCHES), VECTOR)
    list(again)
    assert again.digest() == full
    other = open_data([X[:3], X[3:6], X[6:] + 1], VECTOR)
    list(other)
    assert other.digest() != full
