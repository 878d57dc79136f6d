import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from fewbit.calib import kernels

any_float32 = arrays(
    np.float32, st.integers(1, 50), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)
)


@given(any_float32)
def test_key_range_is_min_and_max(x):
    lo, hi = kernels.key_range(x.view(np.int32))
    assert kernels.all_finite(lo, hi)
    assert (kernels.to_float(lo), kernels.to_float(hi)) == (x.min(), x.max())


@pytest.mark.parametrize("bad", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [0, 17, 99])
def test_key_range_notices_what_is_not_finite(bad, at):
    x = np.linspace(-1, 1, 100, dtype=np.float32)
    x[at] = np.copysign(np.float32(np.nan), bad) if np.isnan(bad) else bad
    assert not kernels.all_finite(*kernels.key_range(x.view(np.int32)))


def test_zero_has_no_sign():
    lo, hi = kernels.key_range(np.array([-0.0], np.float32).view(np.int32))
    assert str(kernels.to_float(lo)) == str(kernels.to_float(hi)) == "0.0"


def bins_of(x, width):
    return (np.trunc(x.astype(np.float64) / width) - (x < 0)).astype(int)


@pytest.mark.parametrize("size", [0, 1, 3, 4, 4095, 4096, 4097, 10_000])
def test_fill_counts_each_value_once(size, rng):
    x = rng.standard_normal(size).astype(np.float32)
    half, width = 8, 2.0
    tables, counts = np.zeros(2 * half * kernels.LANES, np.uint32), np.zeros(2 * half, np.int64)
    bound = np.float32(half * width).view(np.int32)
    at, lo, hi = kernels.fill(x, x.view(np.int32), 0, np.float32(1 / width), bound, tables)
    kernels.flush(tables, counts)
    assert at == size and not tables.any()
    np.testing.assert_array_equal(counts, np.bincount(bins_of(x, width) + half, minlength=2 * half))
    if size:
        assert (kernels.to_float(lo), kernels.to_float(hi)) == (x.min(), x.max())


@pytest.mark.parametrize("bad", [16.0, -16.0, 1e30, np.inf, -np.inf, np.nan])
def test_fill_stops_before_the_chunk_that_leaves_the_grid(bad):
    x = np.ones(10_000, np.float32)
    x[5000] = bad
    tables = np.zeros(16 * kernels.LANES, np.uint32)
    bound = np.float32(16.0).view(np.int32)
    at, lo, hi = kernels.fill(x, x.view(np.int32), 0, np.float32(0.5), bound, tables)
    assert at == kernels.CHUNK == tables.sum()
    assert kernels.to_float(lo) == kernels.to_float(hi) == 1


def test_kernels_compile_where_nothing_can_be_written(monkeypatch):
    njit = kernels.numba.njit

    def read_only(signature, cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function 'f': no locator available")
        return njit(signature, **options)

    monkeypatch.setattr(kernels.numba, "njit", read_only)
    assert kernels.compiled("int64(int64)")(lambda x: x + 1)(1) == 2


def test_numba_waits_for_the_first_value():
    code = (
        "import sys, numpy as np, fewbit.calib as c; from fewbit.core.spec import QuantSpec\n"
        "o = c.make_observer('entropy', QuantSpec()); before = 'numba' in sys.modules\n"
        "o.update(np.ones(3, np.float32)); print(before, 'numba' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]
