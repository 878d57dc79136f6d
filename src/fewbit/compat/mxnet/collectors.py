"""MXNet's two built-in collectors, with its histograms: 8001 bins over [-th, th], th from the first batch.

A later batch with larger values widens the histogram by whole bins on both sides, so that counts never move. The
threshold search is fewbit's own (core/threshold.py), which gives MXNet's result.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fewbit.calib import CalibrationCollector
from fewbit.core.threshold import entropy_threshold
from fewbit.errors import NotCalibrated, UsageError, one_of

Hist = tuple[np.ndarray, np.ndarray, float, float, float]  # counts, edges, min, max, th
DTYPES = ("int8", "uint8", "auto")
BINS = 8001


class LayerHistogramCollector(CalibrationCollector):
    """Histograms of values, for ranges that lose least information (calib_mode entropy).

    Args:
        quantized_dtype: "auto" and "uint8" give values without negative numbers a range from 0, and twice the levels.
        num_bins: of a histogram; odd. include_layers: names of the values to look at (1.x: include_layer).
        logger: told of each value.

    Attributes:
        hist_dict: name → (counts, edges, min, max, th).
    """

    def __init__(
        self,
        quantized_dtype: str = "int8",
        num_bins: int = BINS,
        include_layers: Sequence[str] | None = None,
        logger: Any = None,
        *,
        include_layer: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        if isinstance(quantized_dtype, int):  # 1.x: (num_bins, include_layer, logger)
            quantized_dtype, num_bins = "int8", quantized_dtype
        include_layers = include_layers if include_layers is not None else include_layer
        self.hist_dict: dict[str, Hist] = {}
        self.num_bins, self.logger = num_bins, logger
        self.include_layers = list(include_layers) if include_layers is not None else None
        self.quantized_dtype = one_of("quantized_dtype", quantized_dtype, DTYPES)

    def collect(self, name: str, op_name: str, arr: Any) -> None:
        """Count the values of one batch."""
        if self.include_layers is not None and name not in self.include_layers:
            return
        values = np.asarray(arr)
        if self.logger:
            self.logger.debug("collecting a histogram of %s, shape %s", name, values.shape)
        lo, hi = float(values.min()), float(values.max())
        th = max(abs(lo), abs(hi))
        if name in self.hist_dict:
            self.hist_dict[name] = self.combine_histogram(self.hist_dict[name], values, lo, hi, th)
        else:
            counts, edges = np.histogram(values, bins=self.num_bins, range=(-th, th))
            self.hist_dict[name] = (counts, edges, lo, hi, th)

    def post_collect(self) -> dict[str, tuple[float, float]]:
        """The range of each value."""
        self.min_max_dict = self.get_optimal_thresholds(self.hist_dict, self.quantized_dtype, logger=self.logger)
        return self.min_max_dict

    @staticmethod
    def combine_histogram(old_hist: Hist, arr: Any, new_min: float, new_max: float, new_th: float) -> Hist:
        """See `combine_histogram`."""
        return combine_histogram(old_hist, arr, new_min, new_max, new_th)

    @staticmethod
    def get_optimal_threshold(
        hist_data: Hist, quantized_dtype: str, num_quantized_bins: int = 255
    ) -> tuple[float, float, float, float]:
        """See `get_optimal_threshold`."""
        return get_optimal_threshold(hist_data, quantized_dtype, num_quantized_bins)

    @staticmethod
    def get_optimal_thresholds(
        hist_dict: dict[str, Hist], quantized_dtype: str, num_quantized_bins: int = 255, logger: Any = None
    ) -> dict[str, tuple[float, float]]:
        """See `get_optimal_thresholds`."""
        return get_optimal_thresholds(hist_dict, quantized_dtype, num_quantized_bins, logger)


class LayerOutputMinMaxCollector(CalibrationCollector):
    """Smallest and largest values (calib_mode naive).

    Args:
        quantized_dtype: "int8", "uint8" or "auto"; the range is the same for all.
        include_layers: names of the values to look at. logger: told of each value.
    """

    def __init__(
        self,
        quantized_dtype: str = "int8",
        include_layers: Sequence[str] | None = None,
        logger: Any = None,
        *,
        include_layer: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        include_layers = include_layers if include_layers is not None else include_layer
        self.quantized_dtype, self.logger = one_of("quantized_dtype", quantized_dtype, DTYPES), logger
        self.include_layers = list(include_layers) if include_layers is not None else None

    def collect(self, name: str, op_name: str, arr: Any) -> None:
        """Widen the range of a value."""
        if self.include_layers is not None and name not in self.include_layers:
            return
        values = np.asarray(arr)
        lo, hi = float(values.min()), float(values.max())
        old = self.min_max_dict.get(name, (lo, hi))
        self.min_max_dict[name] = (min(old[0], lo), max(old[1], hi))
        if self.logger:
            self.logger.debug("collecting the range of %s: %g … %g", name, lo, hi)


def combine_histogram(old_hist: Hist, arr: Any, new_min: float, new_max: float, new_th: float) -> Hist:
    """A histogram with the values of one more batch.

    Args:
        old_hist: (counts, edges, min, max, th). arr: the values.
        new_min, new_max, new_th: of these values; `new_th` is the larger of the absolute values of both.
    """
    counts, edges, lo, hi, th = old_hist
    step = 2 * th / len(counts)
    if new_th > th and step > 0:
        more = int((new_th - th) // step + 1)
        th += more * step
        grown, edges = np.histogram(arr, bins=len(counts) + 2 * more, range=(-th, th))
        grown[more : more + len(counts)] += counts
        counts = grown
    elif new_th > th:  # zeros only so far: they all lie in the middle, whatever the bins
        zeros = counts.sum()
        counts, edges = np.histogram(arr, bins=len(counts), range=(-new_th, new_th))
        counts[len(counts) // 2] += zeros
        th = new_th
    else:
        counts = counts + np.histogram(arr, bins=len(counts), range=(-th, th))[0]
    return counts, edges, min(lo, new_min), max(hi, new_max), th


def get_optimal_threshold(
    hist_data: Hist, quantized_dtype: str, num_quantized_bins: int = 255
) -> tuple[float, float, float, float]:
    """The threshold at which a histogram loses least information.

    Returns:
        min, max, threshold, divergence (nats).
    """
    counts, edges, lo, hi, th = hist_data
    if len(counts) % 2 == 0:
        raise UsageError(f"a histogram of {len(counts)} bins; their number must be odd, so that 0 is the middle of one")
    levels = num_quantized_bins * 2 + 1 if _one_sided(lo, quantized_dtype) else num_quantized_bins
    if th == 0:  # all values are 0
        return lo, hi, 0.0, 0.0
    threshold, divergence = entropy_threshold(counts, edges, levels)
    return lo, hi, threshold, divergence


def get_optimal_thresholds(
    hist_dict: dict[str, Hist], quantized_dtype: str, num_quantized_bins: int = 255, logger: Any = None
) -> dict[str, tuple[float, float]]:
    """Ranges of many values: (0, T) where none is negative and the type may be unsigned, else (-T, T).

    The histograms are kept, so that it may be asked again; MXNet's function empties `hist_dict`.
    """
    one_of("quantized_dtype", quantized_dtype, DTYPES)
    if not hist_dict:
        raise NotCalibrated("the collector saw no value; run batches through the network with its `collect` attached")
    found = {}
    for name, data in hist_dict.items():
        lo, _, th, divergence = get_optimal_threshold(data, quantized_dtype, num_quantized_bins)
        found[name] = (0.0 if _one_sided(lo, quantized_dtype) else -th, th)
        if logger:
            logger.debug("%s: threshold %g, divergence %g", name, th, divergence)
    return found


def _one_sided(lowest: float, quantized_dtype: str) -> bool:
    return lowest >= 0 and quantized_dtype in ("auto", "uint8")


_LayerHistogramCollector = LayerHistogramCollector
_LayerOutputMinMaxCollector = LayerOutputMinMaxCollector
