"""Batches of one size from pieces of any; reading ahead."""

from __future__ import annotations

import threading
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewbit.config import DataConfig
from fewbit.data import open_data
from fewbit.data.base import Rows
from fewbit.data.regroup import Notes, read_ahead, regroup
from tests.data.helpers import VECTOR, rows


def pieces(sizes):
    at = 0
    for n in sizes:
        numbers = np.arange(at, at + n)
        yield Rows({"x": numbers[:, None]}, numbers, [str(i) for i in numbers])
        at += n


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(1, 12))
def test_regroup_keeps_every_sample(sizes, size):
    groups = list(regroup(pieces(sizes), size, exact=False, earlier=0, notes=Notes()))
    assert [len(g.names) for g in groups[:-1]] == [size] * (len(groups) - 1)
    assert 1 <= len(groups[-1].names) <= size
    total = list(range(sum(sizes)))
    assert np.concatenate([g.feeds["x"][:, 0] for g in groups]).tolist() == total
    assert np.concatenate([g.labels for g in groups]).tolist() == total
    assert [n for g in groups for n in g.names] == [str(i) for i in total]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_read_ahead_keeps_the_order(workers):
    def slow_at_first(i):
        time.sleep(0.01 if i == 0 else 0)
        return i * i

    assert list(read_ahead(slow_at_first, range(20), workers, 5)) == [i * i for i in range(20)]


def test_read_ahead_is_bounded_and_stops():
    started = []
    results = read_ahead(lambda i: started.append(i) or i, range(1000), 2, 4)
    assert next(results) == 0
    assert len(started) <= 4
    results.close()
    assert len(started) <= 5
    assert not [t for t in threading.enumerate() if t.name.startswith("fewbit-data")]


def test_errors_come_through():
    def fails_at_3(i):
        if i == 3:
            raise ValueError("three")
        return i

    results = read_ahead(fails_at_3, range(9), 2, 4)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)


@pytest.mark.parametrize("save", [np.save, np.savez, np.savez_compressed])
def test_memory_does_not_grow_with_the_file(save, tmp_path):
    def peak(samples):
        path = tmp_path / f"{samples}.{'npy' if save is np.save else 'npz'}"
        save(path, rows(samples, 4096))
        source = open_data(path, [type(VECTOR[0])("x", np.dtype("f4"), ("N", 4096))], DataConfig(batch_size=4))
        tracemalloc.start()
        for _ in source:
            pass
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    small, large = peak(40), peak(400)
    assert large - small < 400_000  # the larger file has 6 MB
