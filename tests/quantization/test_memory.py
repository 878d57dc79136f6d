"""Calibration memory does not grow with the number of samples."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

CHILD = """
import json, resource, sys
import numpy as np
from tests.quantization.nets import net
import fewbit as fb

count, mode = int(sys.argv[1]), sys.argv[2]
weights = {f"w{i}": (64, 4 if i == 0 else 64, 3, 3) for i in range(4)}
nodes = " ".join(
    f"c{i} = Conv <pads = [1, 1, 1, 1]> ({'x' if i == 0 else f'r{i - 1}'}, w{i}) r{i} = Relu (c{i})" for i in range(4)
)
model = net(nodes + " y = Identity (r3)", inputs="float[N, 4, 48, 48] x", **weights)
rng = np.random.default_rng(0)
samples = (rng.standard_normal((1, 4, 48, 48), dtype=np.float32) for _ in range(count))
fb.quantize(model, samples, calib_mode=mode, verify=False, workers=2)
print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))
"""


def peak(count: int, mode: str) -> float:
    found = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CHILD, str(count), mode], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    return float(json.loads(found.stdout.splitlines()[-1]))


SLOW = pytest.mark.slow
MODES = ["entropy", pytest.param("naive", marks=SLOW), pytest.param("quantile", marks=SLOW)]


@pytest.mark.parametrize("mode", MODES)
def test_ten_times_the_samples_take_no_more_memory(mode: str) -> None:
    few, many = peak(20, mode), peak(200, mode)
    assert many < few * 1.1, f"{few:.0f} MiB for 20 samples, {many:.0f} MiB for 200"  # their values alone are 420 MiB
