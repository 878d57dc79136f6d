"""The collectors give MXNet's histograms exactly, and its thresholds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fewbit.compat.mxnet import collectors as c
from fewbit.errors import NotCalibrated, UnknownName, UsageError

GOLDEN = np.load(Path(__file__).parents[1] / "golden" / "mxnet" / "collectors.npz")
NAMES = sorted({k.split("|")[0] for k in GOLDEN.files})


def batches(name: str) -> list[np.ndarray]:
    return [GOLDEN[k] for k in sorted(GOLDEN.files) if k.startswith(f"{name}|batch|")]


def filled(name: str, dtype: str = "int8") -> c.LayerHistogramCollector:
    collector = c.LayerHistogramCollector(dtype, include_layers=["x"])
    for batch in batches(name):
        collector.collect("x", "relu", batch)
        collector.collect("left out", "relu", batch)
    return collector


@pytest.mark.parametrize("name", NAMES)
def test_histograms_are_mxnets(name: str) -> None:
    collector = filled(name)
    assert list(collector.hist_dict) == ["x"]
    counts, edges, *_ = collector.hist_dict["x"]
    np.testing.assert_array_equal(counts, GOLDEN[f"{name}|counts"])
    np.testing.assert_allclose(edges[[0, -1]], GOLDEN[f"{name}|edges"], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["int8", "auto"])
@pytest.mark.parametrize("name", NAMES)
def test_thresholds_are_mxnets(name: str, dtype: str) -> None:
    lowest, _, threshold = GOLDEN[f"{name}|{dtype}"]
    lo, hi = filled(name, dtype).post_collect()["x"]
    assert hi == pytest.approx(threshold, rel=1e-5)
    assert lo == (0.0 if dtype == "auto" and lowest >= 0 else -hi)


def test_ranges_are_the_lowest_and_highest_values() -> None:
    collector = c.LayerOutputMinMaxCollector("auto", include_layers=["x"])
    for batch in batches("normal"):
        collector.collect("x", "relu", batch)
    values = np.concatenate(batches("normal"))
    assert collector.post_collect() == {"x": (float(values.min()), float(values.max()))}


@given(st.lists(st.lists(st.floats(-1e3, 1e3, width=32), min_size=1, max_size=30), min_size=1, max_size=5))
def test_no_value_is_lost(parts: list[list[float]]) -> None:
    collector = c.LayerHistogramCollector(num_bins=101)
    for part in parts:
        collector.collect("x", "", np.array(part, np.float32))
    counts, edges, lo, hi, th = collector.hist_dict["x"]
    values = np.array([v for part in parts for v in part], np.float32)
    assert counts.sum() == len(values) and len(counts) % 2 == 1 and len(edges) == len(counts) + 1
    assert (lo, hi) == (values.min(), values.max()) and th >= max(abs(lo), abs(hi)) * (1 - 1e-6)


def test_a_value_that_is_always_zero_gets_an_empty_range() -> None:
    collector = c.LayerHistogramCollector("auto")
    for _ in range(2):
        collector.collect("x", "", np.zeros(10, np.float32))
    assert collector.post_collect() == {"x": (0.0, 0.0)}


def test_zeros_first_and_numbers_later() -> None:
    collector = c.LayerHistogramCollector("int8")
    collector.collect("x", "", np.zeros(10, np.float32))
    collector.collect("x", "", np.ones(5, np.float32))
    counts, *_ = collector.hist_dict["x"]
    assert counts[len(counts) // 2] == 10 and counts[-1] == 5


def test_asking_twice_gives_the_same() -> None:
    collector = filled("normal")
    assert collector.post_collect() == collector.post_collect()


def test_a_collector_that_saw_nothing_says_so() -> None:
    with pytest.raises(NotCalibrated, match="saw no value; run batches through the network"):
        c.LayerHistogramCollector().post_collect()


def test_an_even_number_of_bins_is_refused() -> None:
    with pytest.raises(UsageError, match="10 bins; their number must be odd"):
        c.get_optimal_threshold((np.ones(10), np.arange(11), -1.0, 1.0, 1.0), "int8")


def test_an_unknown_type_offers_the_nearest() -> None:
    with pytest.raises(UnknownName, match="unknown quantized_dtype 'int9'; did you mean 'int8'"):
        c.LayerHistogramCollector("int9")
