"""Casts and checks of values: what passes, what is refused, and what the refusal says."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewbit.data.signature import fit_values, read_signature, to_array
from fewbit.errors import BadSample, ConfigError, DataError
from tests.data.helpers import tensor

CASTS = [
    (np.float64, np.float32, [[0.5, -2]]),
    (np.int32, np.float32, [[7, -3]]),
    (np.bool_, np.float32, [[True, False]]),
    (np.float32, np.int64, [[7.0, -3.0]]),
    (np.int64, np.uint8, [[0, 255]]),
    (np.bool_, np.int32, [[True, False]]),
    (np.uint8, np.bool_, [[1, 0]]),
    (np.float32, np.float16, [[0.25, 1024]]),
]

REFUSALS = [
    (np.float32, np.int64, [[1.0, 2.5]], "not exact as int64: 2.5 at (1)"),
    (np.int64, np.uint8, [[0, 256]], "not exact as uint8: 256"),
    (np.int8, np.uint8, [[0, -1]], "not exact as uint8: -1"),
    (np.uint64, np.int64, [[0, 2**63]], "not exact as int64"),
    (np.float32, np.int32, [[0, np.nan]], "not exact as int32: nan"),
    (np.float32, np.int32, [[0, 3e20]], "not exact as int32"),
    (np.int64, np.bool_, [[0, 2]], "not exact as bool: 2"),
    (np.float32, np.float32, [[0, np.inf]], "not finite as float32: inf at (1)"),
    (np.float64, np.float32, [[0, 1e60]], "not finite as float32: 1e+60"),
    (np.float32, np.float16, [[1e6, 0]], "not finite as float16: 1000000.0 at (0)"),
]


def slot_of(dtype, *shape):
    return read_signature([tensor("x", *shape, dtype=dtype)]).slots[0]


@pytest.mark.parametrize(("given", "wanted", "values"), CASTS)
def test_casts(given, wanted, values):
    x = np.array(values, given)
    y = fit_values(slot_of(wanted, "N", 2), x, ["s"])
    assert y.dtype == wanted
    np.testing.assert_array_equal(y.astype(given), x)


@pytest.mark.parametrize(("given", "wanted", "values", "text"), REFUSALS)
def test_refusals(given, wanted, values, text):
    good = np.zeros((1, 2), given)
    with pytest.raises(BadSample) as e:
        fit_values(slot_of(wanted, "N", 2), np.concatenate([good, np.array(values, given)]), ["first", "second"])
    assert str(e.value).startswith("second has a value that is ")
    assert text in str(e.value)
    assert "input 'x'" in str(e.value)


def test_several_bad_values_are_counted():
    with pytest.raises(BadSample, match=r"s has 2 values that are not finite as float32: nan at \(0, 1\)"):
        fit_values(slot_of(np.float32, "N", 2, 2), np.array([[[0, np.nan], [np.inf, 0]]], np.float32), ["s"])


@pytest.mark.parametrize("x", [np.array([["a"]]), np.array([[object()]]), np.array([[1j]])])
def test_no_numbers(x):
    with pytest.raises(DataError, match=r"s has dtype .*, and input 'x' \(float32 \(N, 1\)\) takes numbers"):
        fit_values(slot_of(np.float32, "N", 1), x, ["s"])


@given(
    st.lists(st.integers(-(2**63), 2**64 - 1), min_size=1, max_size=5), st.sampled_from(["i1", "u1", "i4", "u8", "?"])
)
@settings(deadline=None, max_examples=100)
def test_casts_to_integers_keep_every_value_or_refuse(values, wanted):
    x = np.array([values])
    if x.dtype.kind not in "iu":
        return
    try:
        y = fit_values(slot_of(wanted, "N", None), x, ["s"])
    except BadSample:
        assert any(v != int(np.array(v).astype(wanted)) for v in values)
    else:
        assert [int(v) for v in y[0]] == values


def test_same_dtype_is_not_copied():
    x = np.ones((2, 3), np.float32)
    assert fit_values(slot_of(np.float32, "N", 3), x, ["a", "b"]) is x


def test_batch_axis():
    lstm = [tensor("x", None, 512), tensor("state", 2, None, 128), tensor("rate", dtype=np.int64)]
    found = read_signature(lstm)
    assert [s.stacked for s in found.slots] == [True, False, False]
    assert found.batch is None
    with pytest.raises(ConfigError, match=r"'state' .* has no batch axis, so 4 samples cannot share .* batch_size 1"):
        found.group(4)
    assert found.group(1) == 1
    assert read_signature([tensor("x", 8, 3)]).group(1) == 8


def test_inputs_that_take_no_numbers():
    with pytest.raises(DataError, match="input 'x' takes object; fewbit feeds numbers only"):
        read_signature([tensor("x", "N", dtype=object)])
    with pytest.raises(DataError, match="the model has no input"):
        read_signature([])


def test_to_array_takes_a_tensor_off_graph_and_device():
    class Fake:
        def __init__(self, steps=()):
            self.steps = steps

        def detach(self):
            return Fake((*self.steps, "detach"))

        def cpu(self):
            return Fake((*self.steps, "cpu"))

        def numpy(self):
            assert self.steps == ("detach", "cpu")
            return np.ones(3)

    assert to_array(Fake(), "s").shape == (3,)


def test_to_array_says_what_failed():
    with pytest.raises(BadSample, match=r"item 3 cannot become an array: .*inhomogeneous"):
        to_array([[1, 2], [3]], "item 3")
