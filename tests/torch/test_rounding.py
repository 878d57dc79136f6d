from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fewbit.core.params import params_from_range, weight_params
from fewbit.core.spec import QuantSpec
from fewbit.errors import ConfigError, UnknownName
from fewbit.torch.rounding import fake_quantize
from fewbit.torch.spread import from_range, mean_magnitude, range_of, scale_shape, spread

formats = st.builds(
    lambda bits, signed, symmetric, narrow: QuantSpec(bits, signed, symmetric, narrow=narrow and signed),
    bits=st.integers(1, 16), signed=st.booleans(), symmetric=st.booleans(), narrow=st.booleans(),
)  # fmt: skip

bound = st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False)


def cut(spec, shared):
    """The format, with what shares a scale in a weight of shape (6, 7, 3)."""
    how = {"channel": {"axis": 0}, "last": {"axis": -1}, "group": {"axis": 1, "group_size": 3}}
    if shared == "tensor":
        return spec
    return replace(spec, granularity="group" if shared == "group" else "channel", **how[shared])


def numbers(params, shape):
    s, z = torch.from_numpy(params.scale.copy()), torch.from_numpy(params.zero_point.copy())
    return spread(params.spec, s, torch.Size(shape)), spread(params.spec, z, torch.Size(shape))


@given(formats, st.sampled_from(["tensor", "channel", "last", "group"]), st.integers(0, 2**32), st.integers(-20, 20))
@settings(max_examples=150, deadline=None)
def test_the_numbers_are_those_of_the_core(spec, shared, seed, power):
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(6, 7, 3)) * 2.0**power).astype(np.float32)
    spec = cut(spec, shared)
    params = weight_params(spec, x)
    halves = rng.integers(-300, 300, x.shape) / 2 * np.broadcast_to(params.spread(params.scale, x.shape), x.shape)
    values = (
        np.concatenate((x * 1.5, halves.astype(np.float32)), 1)[:, : x.shape[1]]
        if seed % 2
        else halves.astype(np.float32)
    )
    for ste in ("plain", "clipped", "lsq"):
        got = fake_quantize(torch.from_numpy(values), *numbers(params, x.shape), params.spec, ste)
        np.testing.assert_array_equal(got.numpy(), params.fake(values))


@given(formats, st.sampled_from(["tensor", "channel", "last", "group"]), st.integers(0, 2**32))
@settings(max_examples=150, deadline=None)
def test_scales_are_those_of_the_core(spec, shared, seed):
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(6, 7, 3)) * rng.choice([0, 1e-30, 1, 1e30]) + rng.choice([0, 0.5, 3])).astype(np.float32)
    x[2] = 0
    spec = cut(spec, shared)
    w = torch.from_numpy(x)
    if spec.bits == 1 and spec.signed:
        mean = mean_magnitude(spec, w)
        scale, zero = from_range(spec, -mean, mean)
    else:
        scale, zero = from_range(spec, *range_of(spec, w))
    core = weight_params(spec, x)
    assert tuple(scale.shape) == core.scale.shape == scale_shape(spec, x.shape)
    np.testing.assert_array_max_ulp(scale.numpy(), core.scale, 1 if spec.bits == 1 else 0)  # sums may differ in order
    np.testing.assert_array_equal(zero.numpy(), core.zero_point)


@given(formats, bound, bound)
@settings(max_examples=150, deadline=None)
def test_ranges_give_the_numbers_of_the_core(spec, a, b):
    lo, hi = sorted((a, b))
    scale, zero = from_range(spec, torch.tensor(lo), torch.tensor(hi))
    core = params_from_range(spec, lo, hi)
    assert (float(scale), int(zero)) == (float(core.scale), int(core.zero_point))


U4 = QuantSpec(4, False)
S4 = QuantSpec(4, True, symmetric=True)


def gradients(values, s, z, spec, ste, weights=None):
    x = torch.tensor(values, requires_grad=True)
    scale = torch.tensor(s, requires_grad=True)
    y = fake_quantize(x, scale, torch.tensor(z), spec, ste)
    (y * (1 if weights is None else torch.tensor(weights))).sum().backward()
    return x.grad.tolist(), scale.grad


def test_plain_gradient_passes_everywhere():
    assert gradients([-9.0, 0.1, 9.0], 0.1, 3.0, U4, "plain") == ([1, 1, 1], None)


@pytest.mark.parametrize("z", [0.0, 3.0])
def test_clipped_gradient_is_zero_outside_of_the_range(z):
    steps = np.array([-0.6, -0.4, 0, 7, 15.4, 15.6], np.float32) - np.float32(z)
    assert gradients((steps * 0.5).tolist(), 0.5, z, U4, "clipped")[0] == [0, 1, 1, 1, 1, 0]


@given(formats.filter(lambda f: f.bits < 12), st.integers(0, 2**32))
@settings(max_examples=80, deadline=None)
def test_learned_gradients_are_those_of_the_paper(spec, seed):
    rng = np.random.default_rng(seed)
    z = 0 if spec.symmetric or (spec.bits == 1 and spec.signed) else int(rng.integers(spec.qmin, spec.qmax + 1))
    s = 0.25
    x = (rng.uniform(spec.qmin - z - 2, spec.qmax - z + 2, 12) * s).astype(np.float32)
    weights = rng.normal(size=12).astype(np.float32)
    got_x, got_s = gradients(x.tolist(), s, float(z), spec, "lsq", weights.tolist())
    r = x.astype(np.float64) / s + z
    inside = (r > spec.qmin) & (r < spec.qmax)
    q = np.where(x < 0, -1, 1) if spec.bits == 1 and spec.signed else np.clip(np.rint(r), spec.qmin, spec.qmax)
    slope = np.where(inside, q - r, q - z) / np.sqrt(12 * spec.qmax)
    np.testing.assert_allclose(got_x, weights * inside, rtol=1e-6)
    np.testing.assert_allclose(got_s, (weights * slope).sum(), rtol=1e-4, atol=1e-4)


def test_learned_slope_outside_of_the_range_is_the_difference_quotient():
    """Where nothing is rounded, y = q·s is linear in s."""
    x, spec = torch.tensor([-9.0, 9.0, 20.0]), QuantSpec(4, True)
    f = lambda s: fake_quantize(x, torch.tensor(s), torch.tensor(2.0), spec).sum()  # noqa: E731
    _, slope = gradients(x.tolist(), 0.25, 2.0, spec, "lsq")
    assert float(slope) * np.sqrt(3 * 7) == pytest.approx(float(f(0.25 + 2**-10) - f(0.25)) * 2**10, rel=1e-5)


def test_each_channel_and_group_learns_for_itself():
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    for spec, shape in (
        (QuantSpec(3, True, True, "channel", 0), (4,)),
        (QuantSpec(3, True, True, "group", 1, 4), (4, 2)),
    ):
        scale = torch.full(shape, 0.3, requires_grad=True)
        fake_quantize(x, spread(spec, scale, x.shape), torch.zeros(()), spec, "lsq").sum().backward()
        alone = torch.tensor(0.3, requires_grad=True)
        part = x[1, :4] if spec.granularity == "group" else x[1]
        fake_quantize(part, alone, torch.zeros(()), replace(S4, bits=3), "lsq").backward(torch.ones_like(part))
        assert scale.grad.reshape(4, -1)[1, 0] == pytest.approx(float(alone.grad), rel=1e-5)


def test_sixteen_bits_learn_from_small_differences():
    """The slope is a sum of numbers below ½, lost if it were the difference of two large sums."""
    x = torch.rand(200_000, generator=torch.Generator().manual_seed(1)) * 30_000
    scale = torch.tensor(1.0, requires_grad=True)
    fake_quantize(x, scale, torch.zeros(()), QuantSpec(16, True, True), "lsq").sum().backward()
    exact = (x.double().round() - x.double()).sum() / np.sqrt(200_000 * 32767)
    assert float(scale.grad) == pytest.approx(float(exact), rel=1e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("ste", ["plain", "clipped", "lsq"])
def test_other_types_compute_in_float32(dtype, ste):
    x = torch.linspace(-3, 3, 41).to(dtype).requires_grad_()
    scale = torch.tensor(0.1, requires_grad=True)
    y = fake_quantize(x, scale, torch.zeros(()), S4, ste)
    assert y.dtype == dtype
    assert torch.equal(y, fake_quantize(x.detach().float(), scale, torch.zeros(()), S4).to(dtype))
    y.sum().backward()
    assert x.grad.dtype == dtype
    assert ste != "lsq" or scale.grad.dtype == torch.float32


@pytest.mark.parametrize("bits", [1, 4])
@pytest.mark.parametrize("signed", [True, False])
def test_nan_is_not_hidden(bits, signed):
    x = torch.tensor([torch.nan, torch.inf, -torch.inf])
    y = fake_quantize(x, torch.tensor(0.5), torch.tensor(0.0), QuantSpec(bits, signed, symmetric=True))
    assert y.isnan().tolist() == [True, False, False]


def test_the_input_is_left_as_it_is():
    x = torch.tensor([0.13, 0.5])
    fake_quantize(x, torch.tensor(0.1), torch.tensor(3.0), U4)
    assert x.tolist() == pytest.approx([0.13, 0.5])


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch does it itself
@pytest.mark.parametrize(
    "ste, spec",
    [
        *(pytest.param(*row, marks=pytest.mark.slow) for row in (("plain", S4), ("clipped", QuantSpec(1, True)))),
        ("lsq", U4),
    ],
)
def test_compiled_graphs_compute_the_same(ste, spec):
    def loss(x, s, z):
        return fake_quantize(x * 2, s, z, spec, ste).square().sum()

    torch.compiler.reset()  # only so many forms of one function are kept
    found = []
    for run in (loss, *(torch.compile(loss, backend=b, fullgraph=True) for b in ("eager", "aot_eager"))):
        x, s = torch.linspace(-2, 2, 31).requires_grad_(), torch.tensor(0.2, requires_grad=True)
        run(x, s, torch.tensor(2.0)).backward()
        found.append((x.grad, s.grad))
    for x_grad, s_grad in found[1:]:
        torch.testing.assert_close(x_grad, found[0][0])
        torch.testing.assert_close(s_grad, found[0][1])


def test_open_signs_and_unknown_gradients_are_refused():
    x, one = torch.ones(2), torch.tensor(1.0)
    with pytest.raises(ConfigError, match="signed is None; simulation needs True or False"):
        fake_quantize(x, one, one, QuantSpec(8))
    with pytest.raises(UnknownName, match=r"unknown ste 'clip'; did you mean 'clipped'\?"):
        fake_quantize(x, one, one, S4, "clip")
