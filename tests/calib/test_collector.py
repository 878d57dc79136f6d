import numpy as np
import pytest

from fewbit.calib import CalibrationCollector
from fewbit.calib.collector import collected_ranges, included
from fewbit.errors import UnknownName, UsageError

KNOWN = ["conv0", "conv1", "fc"]


class MinMax(CalibrationCollector):
    def collect(self, name, op_name, arr):
        lo, hi = self.min_max_dict.get(name, (np.inf, -np.inf))
        self.min_max_dict[name] = (min(lo, arr.min()), max(hi, arr.max()))


class Returns(CalibrationCollector):
    def __init__(self, ranges):
        super().__init__()
        self.ranges = ranges

    def post_collect(self):
        return self.ranges


def test_a_collector_gives_its_ranges():
    collector = MinMax()
    collector.collect("fc", "Gemm", np.array([1, 2], np.float32))
    collector.collect("fc", "Gemm", np.array([-1, 0], np.float32))
    ranges = collected_ranges(collector, KNOWN)
    assert ranges == {"fc": (-1, 2)}
    assert all(type(v) is float for v in ranges["fc"])


def test_instances_share_nothing():
    MinMax().min_max_dict["fc"] = (0, 1)
    assert MinMax().min_max_dict == {} and MinMax().include_layers is None


def test_collect_must_be_defined():
    with pytest.raises(UsageError, match=r"CalibrationCollector must define collect\(self, name, op_name, arr\)"):
        CalibrationCollector().collect("fc", "Gemm", np.zeros(1, np.float32))


def test_include_layers():
    collector = MinMax()
    assert included(collector, KNOWN) == KNOWN
    collector.include_layers = ["fc", "conv0"]
    assert included(collector, KNOWN) == ["conv0", "fc"]
    collector.include_layers = []
    assert included(collector, KNOWN) == []


def test_include_layers_that_do_not_exist():
    collector = MinMax()
    collector.include_layers = ["conv2"]
    with pytest.raises(UnknownName, match="unknown name in include_layers 'conv2'; did you mean 'conv1' or 'conv0'"):
        included(collector, KNOWN)
    collector.include_layers = "conv1"
    with pytest.raises(UsageError, match="include_layers is the string 'conv1'; it must be a list of names"):
        included(collector, KNOWN)


@pytest.mark.parametrize(
    "ranges, message",
    [
        (None, "Returns.post_collect returned NoneType; it must return a dict"),
        ([("fc", 0, 1)], "returned list; it must return a dict"),
        ({"fc": 3}, r"returned 3 for 'fc'; it must be two numbers \(min, max\)"),
        ({"fc": (1, 2, 3)}, r"returned \(1, 2, 3\) for 'fc'; it must be two numbers"),
        ({"fc": ("a", "b")}, "it must be two numbers"),
        ({"fc": (0, np.nan)}, r"returned \(0.0, nan\) for 'fc'; both must be finite"),
        ({"fc": (2, 1)}, r"returned \(2.0, 1.0\) for 'fc'; min is greater than max"),
        ({"conf1": (0, 1)}, "unknown name returned by Returns.post_collect 'conf1'; did you mean 'conv1'"),
    ],
)
def test_what_post_collect_returns_is_checked(ranges, message):
    with pytest.raises(UsageError, match=message):
        collected_ranges(Returns(ranges), KNOWN)
