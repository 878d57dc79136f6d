"""Calibration: what range of each value to represent. Importing this registers the built-in observers."""

from fewbit.calib import histogram, kl, minmax, ncnn  # noqa: F401  # they register themselves
from fewbit.calib.base import OBSERVERS, Observer, make_observer, observer
from fewbit.calib.collector import CalibrationCollector

__all__ = ["OBSERVERS", "CalibrationCollector", "Observer", "make_observer", "observer"]
