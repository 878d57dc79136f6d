"""int8 layers in ncnn's runtime compute what the formulas say: the ground that the writer stands on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fewbit.engines.ncnn.integer import NO_WINOGRAD, by_group, winograd_may_overflow
from fewbit.engines.ncnn.param import Layer
from tests.engines.ncnn.oracle import conv, conv_sums, dense, parts, real, rounded, run

S_IN, S_MID = 37.3, 11.7


def some(rng: np.random.Generator, *shape: int, most: int = 127) -> Any:
    return rng.integers(-most, most + 1, shape)


def scales(rng: np.random.Generator, count: int) -> Any:
    return rng.uniform(50, 200, count).astype(np.float32), rng.standard_normal(count).astype(np.float32)


def close(got: Any, want: Any, tolerance: float = 1e-6) -> None:
    assert got.shape == want.shape
    assert np.abs(got - want).max() <= tolerance * np.abs(want).max()


@pytest.mark.parametrize(("inputs", "outputs", "stride"), [(3, 8, 1), (3, 8, 2), (16, 16, 1), (32, 32, 1)])
def test_convolution(rng: np.random.Generator, inputs: int, outputs: int, stride: int) -> None:
    w, x = some(rng, outputs, inputs, 3, 3), rng.standard_normal((inputs, 9, 9))
    s, b = scales(rng, outputs)
    layer = conv("c", "in0", "out0", w, stride=stride, _8=2)
    got = run([layer], {"c": parts(w, b, s, S_IN)}, x)
    close(got, real(conv_sums(rounded(x, S_IN), w, stride=stride), s, S_IN, b))


@pytest.mark.parametrize(("groups", "outputs", "inputs"), [(8, 8, 8), (3, 3, 3), (2, 8, 8), (4, 8, 4)])
def test_grouped_and_depthwise(rng: np.random.Generator, groups: int, outputs: int, inputs: int) -> None:
    """One scale for each group; without packing exact, with it to 12 bits."""
    w, x = some(rng, outputs, inputs // groups, 3, 3), rng.standard_normal((inputs, 9, 9))
    s, b = scales(rng, groups)
    bias = np.repeat(b, outputs // groups)
    layer = conv("c", "in0", "out0", w, groups=groups, _8=1)
    want = real(conv_sums(rounded(x, S_IN), w, groups), np.repeat(s, outputs // groups), S_IN, bias)
    close(run([layer], {"c": parts(w, bias, s, S_IN)}, x, packing=False), want)
    close(run([layer], {"c": parts(w, bias, s, S_IN)}, x), want, 1e-3)


@pytest.mark.parametrize("rows", [(), (5,)])
def test_inner_product(rng: np.random.Generator, rows: tuple[int, ...]) -> None:
    w, x = some(rng, 6, 40), rng.standard_normal((*rows, 40))
    s, b = scales(rng, 6)
    got = run([dense("f", "in0", "out0", w, _8=2)], {"f": parts(w, b, s, S_IN)}, x)
    close(got, real((rounded(x, S_IN) @ w.T).T, s, S_IN, b).T)


@pytest.mark.parametrize("act", [{}, {"_9": 1}, {"_9": 3, "_10": "2,-0.5,6.0"}, {"_9": 4}])
def test_int8_goes_on_as_int8(rng: np.random.Generator, act: dict[str, Any]) -> None:
    w, v, x = some(rng, 16, 3, 3, 3), some(rng, 8, 16, 1, 1), rng.standard_normal((3, 9, 9))
    (s, b), (t, c) = scales(rng, 16), scales(rng, 8)
    y = real(conv_sums(rounded(x, S_IN), w), s, S_IN, b)
    y = {0: y, 1: np.maximum(y, 0), 3: np.clip(y, -0.5, 6), 4: 1 / (1 + np.exp(-y))}[act.get("_9", 0)]
    layers = [conv("a", "in0", "1", w, _8=102, **act), conv("b", "1", "out0", v, _8=2)]
    weights = {"a": parts(w, b, s, S_IN, S_MID), "b": parts(v, c, t, S_MID)}
    close(run(layers, weights, x), real(conv_sums(rounded(y, S_MID), v), t, S_MID, c))


def test_int8_goes_through_a_split(rng: np.random.Generator) -> None:
    w, v, u = some(rng, 4, 3, 3, 3), some(rng, 8, 4, 1, 1), some(rng, 4, 1, 3, 3)
    x, (s, b), (t, c), (r, d) = rng.standard_normal((3, 9, 9)), scales(rng, 4), scales(rng, 8), scales(rng, 4)
    y = rounded(real(conv_sums(rounded(x, S_IN), w), s, S_IN, b), S_MID)
    layers = [
        conv("a", "in0", "1", w, _8=102), Layer("Split", "s", ("1",), ("2", "3")),
        conv("b", "2", "out0", v, _8=2), conv("d", "3", "out1", u, groups=4, _8=1),
    ]  # fmt: skip
    weights = {"a": parts(w, b, s, S_IN, S_MID), "b": parts(v, c, t, S_MID), "d": parts(u, d, r, S_MID)}
    close(run(layers, weights, x), real(conv_sums(y, v), t, S_MID, c))
    close(run(layers, weights, x, "out1", packing=False), real(conv_sums(y, u, 4), r, S_MID, d))


def test_ties_are_rounded_away_from_zero() -> None:
    w, one, x = np.ones((1, 1, 1, 1)), np.ones(1, np.float32), [[[-1.5, -0.5, 0.5, 1.5, 2.5, 126.5, 128, -300]]]
    got = run([conv("c", "in0", "out0", w, _8=2)], {"c": parts(w, 0 * one, one, 1.0)}, np.array(x))
    assert got.ravel().tolist() == [-2, -1, 1, 2, 3, 127, 127, -127]


def test_winograd_overflows_where_we_say_it_may(rng: np.random.Generator) -> None:
    """64 channels of the largest weights and inputs; parameter 31 keeps the layer out of the Winograd domain."""
    w, x = np.full((64, 64, 3, 3), 127), np.full((64, 12, 12), 127.0)
    s, b = scales(rng, 64)
    want = real(conv_sums(rounded(x, 1.0), w), s, 1.0, b)
    layer = conv("c", "in0", "out0", w, _8=2)
    assert winograd_may_overflow(layer, w)
    got = run([layer], {"c": parts(w, b, s, 1.0)}, x)
    if np.abs(got - want).max() < 0.1 * np.abs(want).max():
        pytest.skip("this processor's kernel is not Winograd's")
    close(run([layer.with_params(_31=NO_WINOGRAD)], {"c": parts(w, b, s, 1.0)}, x), want)


@pytest.mark.parametrize("most", [31, 127])
def test_where_winograd_cannot_overflow_it_is_exact(rng: np.random.Generator, most: int) -> None:
    w, x = some(rng, 16, 16, 3, 3, most=most), np.where(rng.uniform(size=(16, 12, 12)) < 0.5, 127.0, -127.0)
    s, b = scales(rng, 16)
    layer = conv("c", "in0", "out0", w, _8=2)
    assert not winograd_may_overflow(layer, w)
    close(run([layer], {"c": parts(w, b, s, 1.0)}, x), real(conv_sums(rounded(x, 1.0), w), s, 1.0, b))


def test_only_3x3_of_stride_1_is_computed_by_winograd() -> None:
    w = np.full((64, 64, 3, 3), 127)
    assert winograd_may_overflow(conv("c", "a", "b", w), w)
    assert not winograd_may_overflow(conv("c", "a", "b", w, stride=2), w)
    assert not winograd_may_overflow(conv("c", "a", "b", w, _2=2), w)
    assert not winograd_may_overflow(conv("c", "a", "b", w, groups=2), w)
    assert not winograd_may_overflow(conv("c", "a", "b", w[..., :1, :1]), w[..., :1, :1])


def test_groups_of_several_outputs_share_the_largest_scale(rng: np.random.Generator) -> None:
    q, scale = some(rng, 6, 2, 3, 3), np.array([1, 1, 2, 4, 0.5, 0.5], np.float32)
    made, one = by_group(q, scale, 3)
    assert one.tolist() == [1, 4, 0.5]
    np.testing.assert_array_equal(made[[0, 1, 3, 4, 5]], q[[0, 1, 3, 4, 5]])
    np.testing.assert_array_equal(made[2], np.rint(q[2] / 2))
    q[4] = 0  # no weights, scale 1
    assert by_group(q, np.array([1, 1, 2, 4, 1, 0.5], np.float32), 3)[1].tolist() == [1, 4, 0.5]
    assert by_group(0 * q, np.ones(6, np.float32), 3)[1].tolist() == [1, 1, 1]
    same, given = by_group(q, np.ones(6, np.float32), 6)
    assert same is q and given.tolist() == [1] * 6
