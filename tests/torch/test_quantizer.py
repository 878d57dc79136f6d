import copy
import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fewbit.core.params import params_from_range, weight_params
from fewbit.core.spec import QuantSpec
from fewbit.errors import ConfigError, NotCalibrated, UnknownName
from fewbit.torch.quantizer import ActQuantizer, WeightQuantizer

U8, S8 = QuantSpec(8, False, symmetric=True), QuantSpec(8, True, symmetric=True)
AFFINE = QuantSpec(8, False)
ROWS = QuantSpec(4, True, symmetric=True, granularity="channel", axis=0)


def batch(seed=0, shape=(4, 3, 5, 5)):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def quiet(spec=U8, **words):
    """A quantizer that follows nothing by itself."""
    made = ActQuantizer(spec, **words)
    made.tracking = False
    return made


def test_the_range_of_a_batch_is_the_mean_of_its_samples():
    x = batch()
    for spec, lo, hi in (
        (U8, 0, x.abs().amax((1, 2, 3)).mean()),
        (S8, -x.abs().amax((1, 2, 3)).mean(), x.abs().amax((1, 2, 3)).mean()),
        (AFFINE, x.amin((1, 2, 3)).mean(), x.amax((1, 2, 3)).mean()),
    ):
        quantizer = quiet(spec)
        quantizer.observing, quantizer.enabled = True, False
        assert torch.equal(quantizer(x), x)
        assert (float(quantizer.batch_lo), float(quantizer.batch_hi)) == pytest.approx((float(lo), float(hi)))


def test_the_range_of_a_batch_may_be_that_of_all_its_values():
    quantizer = quiet(AFFINE, average="batch")
    quantizer.observing, quantizer.enabled = True, False
    x = batch()
    quantizer(x)
    assert (quantizer.batch_lo, quantizer.batch_hi) == (x.min(), x.max())


@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=5), st.sampled_from([0.0, 0.5, 0.9]))
@settings(max_examples=30, deadline=None)
def test_ranges_move_as_told(tops, momentum):
    quantizer = quiet(AFFINE, momentum=momentum)
    quantizer.observing, quantizer.enabled = True, False
    expected = None
    for top in tops:
        quantizer(torch.tensor([[-top / 2, top]]))
        quantizer.update_ema()
        expected = top if expected is None else (1 - momentum) * top + momentum * expected
    assert float(quantizer.hi) == pytest.approx(expected, rel=1e-5)
    core = params_from_range(AFFINE, float(quantizer.lo), float(quantizer.hi))
    assert quantizer.params() == core


def test_the_momentum_of_a_call_goes_before():
    quantizer = quiet()
    quantizer.set_range(0, 4)
    quantizer.observing = True
    quantizer(torch.full((1, 3), 2.0))
    quantizer.update_ema(momentum=0.5)
    assert float(quantizer.hi) == 3
    with pytest.raises(ConfigError, match=r"momentum is 1.5; it must be a number from 0 to 1"):
        quantizer.update_ema(momentum=1.5)


def test_tracking_follows_in_training_only():
    quantizer = ActQuantizer(U8)
    quantizer(torch.full((2, 3), 5.0))
    assert float(quantizer.hi) == 5
    quantizer.eval()
    quantizer(torch.full((2, 3), 9.0))
    assert float(quantizer.hi) == 5


def test_no_batch_and_infinite_ones_leave_the_range_as_it_is():
    quantizer = quiet()
    quantizer.update_ema()
    assert not quantizer.initialized
    quantizer.set_range(0, 4)
    before = quantizer.params()
    quantizer.update_ema()
    quantizer.observing = True
    for bad in (torch.nan, torch.inf):
        y = quantizer(torch.tensor([[1.0, bad]]))
        quantizer.update_ema()
        assert quantizer.params() == before
        assert torch.isfinite(y).all() == (bad == torch.inf)


@pytest.mark.parametrize("spec", [U8, S8, AFFINE, QuantSpec(1, True), QuantSpec(16, True)], ids=str)
def test_rounding_is_that_of_the_core(spec):
    quantizer = quiet(spec)
    quantizer.set_range(-0.3 if spec.signed else 0, 2.7)
    x = batch()
    core = params_from_range(spec, -0.3 if spec.signed else 0, 2.7)
    assert quantizer.params() == core
    np.testing.assert_array_equal(quantizer(x).numpy(), core.fake(x.numpy()))


def test_online_takes_the_range_of_this_batch():
    quantizer = quiet(AFFINE, average="batch")
    quantizer.set_range(0, 1)
    quantizer.online = True
    x = batch()
    core = params_from_range(AFFINE, x.min().numpy(), x.max().numpy())
    np.testing.assert_array_equal(quantizer(x).numpy(), core.fake(x.numpy()))
    assert float(quantizer.scale_in_use()) == float(core.scale)
    assert float(quantizer.hi) == 1
    np.testing.assert_array_equal(quantizer.fake(x / 2).numpy(), core.fake(x.numpy() / 2))


def test_without_a_range_the_error_says_what_to_do():
    quantizer = quiet()
    for ask in (lambda: quantizer(batch()), quantizer.params):
        with pytest.raises(NotCalibrated, match=r"call set_range\(lo, hi\), or .* update_ema\(\), or .* online = True"):
            ask()
    quantizer.enabled = False
    assert torch.equal(quantizer(batch()), batch())


def test_an_empty_batch_passes():
    assert quiet()(torch.zeros(0, 3)).shape == (0, 3)
    assert ActQuantizer(U8)(torch.tensor(3.0)) == 3  # a single number is a sample of its own


@pytest.mark.parametrize("learned", [False, True])
def test_state_goes_round(learned):
    one = ActQuantizer(AFFINE, learned=learned)
    one.set_range(-1, 3)
    one.observing = one.online = True
    one.enabled = False
    one(batch())
    file = io.BytesIO()
    torch.save(one.state_dict(), file)
    file.seek(0)
    two = ActQuantizer(AFFINE, learned=learned)
    two.load_state_dict(torch.load(file, weights_only=True))
    assert two.params() == one.params()
    assert (two.enabled, two.online, two.observing, two.tracking) == (False, True, True, one.tracking)
    assert two.batch_hi == one.batch_hi
    fresh = ActQuantizer(AFFINE, learned=learned)
    two.load_state_dict(fresh.state_dict())  # one without a range: it has none afterwards
    with pytest.raises(NotCalibrated):
        two.params()


def test_a_copy_is_on_its_own():
    one = ActQuantizer(U8, learned=True)
    one.set_range(0, 4)
    two = copy.deepcopy(one)
    two.set_range(0, 1)
    two.enabled = False
    assert float(one.params().scale) == pytest.approx(4 / 255)
    assert one.enabled


@pytest.mark.parametrize("cast", ["half", "bfloat16", "double"])
def test_numbers_stay_in_float32(cast):
    net = nn.Sequential(
        nn.Linear(3, 3), ActQuantizer(U8), ActQuantizer(U8, learned=True), WeightQuantizer(ROWS, (3, 3))
    )
    net[1].set_range(0, 1 / 3)
    before = net[1].params()
    getattr(net, cast)()
    assert net[0].weight.dtype != torch.float32
    assert {t.dtype for m in net[1:] for t in (*m.parameters(), *m.buffers())} == {torch.float32, torch.bool}
    assert net[1].params() == before
    assert net.to("meta")[1].scale.is_meta


def test_another_default_type_changes_nothing():
    torch.set_default_dtype(torch.float64)
    try:
        one, learned = ActQuantizer(AFFINE), ActQuantizer(QuantSpec(1, True), learned=True)
        x = torch.rand(3, 4).requires_grad_()
        learned(one(x)).sum().backward()
    finally:
        torch.set_default_dtype(torch.float32)
    assert one.scale.dtype == one.lo.dtype == learned.scale.grad.dtype == torch.float32
    assert x.grad.dtype == torch.float64


def test_mixed_precision_keeps_types():
    quantizer, x = ActQuantizer(U8), batch().relu()
    y = quantizer(x.to(torch.bfloat16))
    assert y.dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(quantizer.eval()(x), copy.deepcopy(quantizer)(x))


def test_a_learned_scale_starts_at_its_range_or_its_first_batch():
    quantizer, x = ActQuantizer(QuantSpec(2, False, symmetric=True), learned=True), batch().relu()
    assert not quantizer.tracking
    with pytest.raises(NotCalibrated):
        quantizer.eval()(x)
    quantizer.train()(x)
    assert quantizer.scale.item() == pytest.approx(2 * float(x.mean()) / 3**0.5, rel=1e-5)
    quantizer(x * 9)
    assert quantizer.scale.item() == pytest.approx(2 * float(x.mean()) / 3**0.5, rel=1e-5)
    quantizer.set_range(0, 6)
    assert quantizer.scale.item() == 2
    affine = ActQuantizer(AFFINE, learned=True)
    affine(batch())
    assert affine.params() == params_from_range(AFFINE, batch().min().numpy(), batch().max().numpy())


def test_a_learned_scale_learns():
    """Gradient descent on the error finds a scale that is better than the one it began with."""
    x = batch(shape=(64, 40))
    quantizer = ActQuantizer(QuantSpec(2, True, symmetric=True), learned=True)
    quantizer.set_range(-4, 4)
    step = torch.optim.SGD(quantizer.parameters(), 0.02)
    errors = []
    for _ in range(60):
        step.zero_grad()
        error = (quantizer(x) - x).square().sum()
        error.backward()
        step.step()
        errors.append(float(error.detach()))
    assert errors[-1] < 0.5 * errors[0]


def test_a_learned_scale_that_steps_over_zero_is_used_by_its_magnitude():
    quantizer = ActQuantizer(S8, learned=True)
    quantizer.set_range(-1, 1)
    with torch.no_grad():
        quantizer.scale.fill_(-0.5)
    assert float(quantizer.params().scale) == 0.5
    x = torch.tensor([0.6])
    assert quantizer(x).item() == 0.5
    quantizer(x).backward()
    assert float(quantizer.scale.grad) == pytest.approx(0.2 / 127**0.5, rel=1e-4)  # mirrored: 1 - 1.2 for 0.5
    with torch.no_grad():
        quantizer.scale.fill_(0)
    assert quantizer.params().scale > 0
    assert torch.isfinite(quantizer(x)).all()


def test_no_parameter_is_left_out_of_the_graph():
    """Parallel training refuses parameters that get no gradient."""
    x = batch().requires_grad_()
    act, weight = ActQuantizer(U8, learned=True), WeightQuantizer(ROWS, (4, 3, 5, 5), learned=True)
    act.set_range(0, 1)
    weight(x)
    for quantizer in (act, weight):
        for flag, value in (("enabled", False), ("online", True)):
            if hasattr(quantizer, flag):
                quantizer.scale.grad = None
                setattr(quantizer, flag, value)
                quantizer(x).sum().backward()
                assert not quantizer.scale.grad.any()
                setattr(quantizer, flag, not value)


def test_a_quantizer_used_twice_goes_backward():
    quantizer = ActQuantizer(AFFINE)
    x = batch().requires_grad_()
    quantizer(quantizer(x) * 3).sum().backward()
    assert torch.isfinite(x.grad).all()


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch does it itself
@pytest.mark.parametrize("learned", [pytest.param(False, marks=pytest.mark.slow), True])
def test_compiled_quantizers_follow_as_well(learned):
    torch.compiler.reset()
    plain = nn.Sequential(ActQuantizer(AFFINE, learned=learned))
    both = plain, torch.compile(copy.deepcopy(plain), backend="aot_eager", fullgraph=True)
    for seed in range(3):
        x, y = (net(batch(seed)) for net in both)
        torch.testing.assert_close(x, y)
    assert both[1]._orig_mod[0].params() == plain[0].params()


@given(
    st.integers(1, 8), st.booleans(), st.sampled_from(["tensor", "channel", "group"]), st.integers(0, 2**32)
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_weights_are_rounded_as_in_the_core(bits, symmetric, shared, seed):
    how = {"tensor": {}, "channel": {"granularity": "channel", "axis": 0},
           "group": {"granularity": "group", "axis": 1, "group_size": 4}}[shared]  # fmt: skip
    spec = QuantSpec(bits, True, symmetric=symmetric, **how)
    w = np.random.default_rng(seed).normal(size=(5, 7, 2)).astype(np.float32)
    quantizer = WeightQuantizer(spec, w.shape)
    core = weight_params(spec, w)
    np.testing.assert_allclose(quantizer(torch.from_numpy(w)).numpy(), core.fake(w), rtol=2e-7 if bits == 1 else 0)
    assert tuple(quantizer.scale_of(torch.from_numpy(w)).shape) == core.scale.shape
    np.testing.assert_array_equal(quantizer.params(torch.from_numpy(w)).zero_point, core.zero_point)


def test_one_bit_weights_are_plus_minus_their_mean_magnitude():
    w = torch.tensor([[0.1, -0.2, 0.6], [-1.0, 0.0, 2.0]], requires_grad=True)
    quantizer = WeightQuantizer(QuantSpec(1, True, symmetric=True, granularity="channel", axis=0), w.shape)
    y = quantizer(w)
    assert y.detach().tolist() == pytest.approx(torch.tensor([[0.3, -0.3, 0.3], [-1.0, 1.0, 1.0]]))
    y.sum().backward()
    assert w.grad.tolist() == [[1, 1, 1], [1, 1, 1]]  # the mean is no bound


def test_rows_of_a_convolution_group_share_a_scale():
    w = batch(shape=(6, 2, 3))
    quantizer = WeightQuantizer(ROWS, w.shape, conv_groups=3)
    params = quantizer.params(w)
    top = w.reshape(3, -1).abs().amax(1) / 7
    np.testing.assert_array_equal(params.scale, top.repeat_interleave(2).numpy())
    np.testing.assert_array_equal(quantizer(w).numpy(), params.fake(w.numpy()))
    assert torch.equal(quantizer.scale_of(w), torch.from_numpy(params.scale))
    learned = WeightQuantizer(ROWS, w.shape, conv_groups=3, learned=True)
    learned(w).sum().backward()
    assert learned.scale.grad.shape == (3,)
    slope = w.reshape(3, -1)[0].clone().requires_grad_()
    alone = WeightQuantizer(QuantSpec(4, True, symmetric=True), (4,), learned=True)
    alone(slope).sum().backward()
    assert float(learned.scale.grad[0]) == pytest.approx(float(alone.scale.grad), rel=1e-4)


def test_weights_learn_from_where_the_paper_starts():
    w = batch(shape=(4, 6))
    quantizer = WeightQuantizer(ROWS, w.shape, learned=True)
    quantizer(w)
    torch.testing.assert_close(quantizer.scale.detach(), 2 * w.abs().mean(1) / 7**0.5)
    quantizer(w * 5)
    torch.testing.assert_close(quantizer.scale.detach(), 2 * w.abs().mean(1) / 7**0.5)


def test_a_frozen_scale_stays():
    w = batch(shape=(4, 6))
    quantizer = WeightQuantizer(ROWS, w.shape)
    with pytest.raises(NotCalibrated, match="no scale before its first forward"):
        quantizer.freeze()
    quantizer(w)
    quantizer.freeze()
    before = quantizer.params(w)
    assert quantizer.params(w * 3) == before
    two = WeightQuantizer(ROWS, w.shape)
    two.load_state_dict(quantizer.state_dict())
    assert two.frozen
    assert two.params(w * 3) == before
    two.frozen = False
    assert two.params(w * 3) != before
    two.freeze(w * 3)
    assert two.params(w) == two.params(w * 9) == weight_params(ROWS, w.numpy() * 3)


@pytest.mark.parametrize(
    "make, error, says",
    [
        (lambda: ActQuantizer(QuantSpec(8)), ConfigError, "signed is None; simulation needs True or False"),
        (lambda: ActQuantizer(ROWS), ConfigError, "granularity is 'channel'; activations take 'tensor'"),
        (lambda: ActQuantizer(U8, average="mean"), UnknownName, "unknown average 'mean'"),
        (lambda: ActQuantizer(U8, momentum=-1), ConfigError, "momentum is -1; it must be a number from 0 to 1"),
        (lambda: ActQuantizer(U8, ste="lsq"), ConfigError, "ste 'lsq' goes with learned=True"),
        (lambda: WeightQuantizer(S8, (4, 2), conv_groups=2), ConfigError, "goes with granularity 'channel'"),
        (lambda: WeightQuantizer(ROWS, (4, 2), conv_groups=3), ConfigError, "must divide the 4 rows"),
        (lambda: ActQuantizer(U8).set_extra_state({"onlin": True}), UnknownName, "unknown flag 'onlin'"),
    ],
)
def test_what_does_not_fit_is_refused(make, error, says):
    with pytest.raises(error, match=says):
        make()


def test_what_it_is_can_be_read():
    assert (
        repr(ActQuantizer(U8, learned=True)) == "ActQuantizer(bits=8, signed=False, symmetric=True, ste=lsq, learned)"
    )


def test_a_state_of_another_format_is_refused() -> None:
    four, eight = (ActQuantizer(QuantSpec(bits, signed=False)) for bits in (4, 8))
    four.set_range(0.0, 1.0)
    with pytest.raises(ConfigError, match="4-bit unsigned integers per tensor where this one has 8-bit unsigned"):
        eight.load_state_dict(four.state_dict())
