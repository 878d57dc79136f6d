"""Steps by the network's output: better than by the weights' error at equal size, and what reaches the plan."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewbit.core.fse import entropy
from fewbit.core.metrics import ErrorSums
from fewbit.core.plan import Plan
from fewbit.data.demo import DEMO_MODEL, demo_calibration, demo_test
from fewbit.errors import EmptyData
from fewbit.graph.emit import stored_weight
from fewbit.graph.files import load_model
from fewbit.graph.fuse import fuse
from fewbit.graph.model import Model
from fewbit.quantization.coded_rounding import REACH, coded_round, damped, error_of, lengths
from fewbit.quantization.mixed import mixed_plan
from fewbit.quantization.mixed_output import output_plan
from fewbit.quantization.packed import coded_bits, weights_of, with_weights
from tests.quantization.nets import Batch, net
from tests.quantization.test_mixed import mixed, network, normal, start
from tests.quantization.test_smooth import open_runner


@cache
def demo() -> tuple[Model, list[Batch], list[Batch]]:
    """The trained network of the demo, fused; images to fit to, and others."""
    model = fuse(load_model(DEMO_MODEL))
    fit, held = demo_calibration()["image"], demo_test()["image"][:200]
    return model, cut("image", fit[:48], 16), cut("image", held, 50)


def cut(name: str, x: Any, size: int) -> list[Batch]:
    return [Batch({name: x[i : i + size]}, i) for i in range(0, len(x), size)]


def compared(model: Model, plan: Plan, held: list[Batch]) -> ErrorSums:
    one, other, sums = open_runner(model), open_runner(with_weights(model, plan)), ErrorSums()
    for b in held:
        (y,), (z,) = one.run(b.feeds).values(), other.run(b.feeds).values()
        sums.update(y, z)
    return sums


# -- a trained network -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [0.02, 0.15])
def test_at_the_size_of_the_twin_the_output_loses_less(scale: float) -> None:
    model, fit, held = demo()
    config = mixed(init_scale=scale)
    plan = start(model)
    twin, ours = mixed_plan(model, plan, config), output_plan(model, plan, config, fit, open_runner)
    sizes = coded_bits(model, twin), coded_bits(model, ours)
    assert 0.99 * sizes[0] < sizes[1] <= 1.001 * sizes[0]
    assert compared(model, ours, held).sqnr_db > compared(model, twin, held).sqnr_db + 3


def test_as_small_as_a_cosine_allows() -> None:
    model, fit, held = demo()
    found = [output_plan(model, start(model), mixed(min_cosine=c), fit, open_runner) for c in (0.995, 0.9999)]
    assert coded_bits(model, found[0]) < 0.8 * coded_bits(model, found[1])
    assert compared(model, found[0], held).cosine > 0.99
    assert compared(model, found[1], held).cosine > 0.9996
    tuned = output_plan(model, start(model), mixed(auto_tune=True), fit, open_runner)
    assert tuned.values == found[0].values


def test_a_plan_read_back_gives_the_same_integers() -> None:
    model, fit, _ = demo()
    plan = output_plan(model, start(model), mixed(init_scale=0.1), fit, open_runner)
    again = Plan.from_json(json.loads(json.dumps(plan.to_json())))
    for key, w in weights_of(model, plan).items():
        stored, other = stored_weight(plan, key, w), stored_weight(again, key, w)
        np.testing.assert_array_equal(stored.q, other.q)
        np.testing.assert_array_equal(stored.real(), other.real())
        assert np.abs(stored.real() - w).max() < (REACH + 1) * stored.params.scale.max()
        lo, hi = -(1 << stored.bits - 2), 1 << stored.bits - 2  # a bit less would not do
        assert stored.bits == 2 or stored.q.min() < lo or stored.q.max() >= hi
    told = [n.reason for n in plan.nodes.values() if n.quantized]
    assert told and all("bits a weight" in reason and "; error 0." in reason for reason in told)


# -- networks made for it --------------------------------------------------------------------------------------------


def test_weights_that_matter_less_get_larger_steps() -> None:
    model = net(
        "a = MatMul (x, w1) k = Mul (a, c) b = MatMul (x, w2) y = Add (k, b)",
        "float[N, 64] y", inputs="float[N, 64] x", w1=(64, 64), w2=(64, 64), c=(64,),
    )  # fmt: skip
    model.set_weight("c", np.full(64, 0.05, np.float32))
    plan = output_plan(model, start(model), mixed(), cut("x", normal(64, 64), 16), open_runner)
    assert plan.values["w1"].scale[0] / plan.values["w2"].scale[0] == pytest.approx(20, rel=0.2)


def test_outputs_that_are_read_faintly_get_steps_of_their_own() -> None:
    model = net(
        "a = MatMul (x, w1) r = Relu (a) y = MatMul (r, w2)",
        "float[N, 48] y", inputs="float[N, 400] x", w1=(400, 32), w2=(32, 48),
    )  # fmt: skip
    w2 = 0.3 * normal(32, 48)
    w2[::2] *= 0.01
    model.set_weight("w2", w2)
    plan = start(model, mixed_bit_search="output")
    made = output_plan(model, plan, mixed(), cut("x", normal(64, 400), 16), open_runner)
    value = made.values["w1"]
    assert value.spec.granularity == "channel" and value.spec.axis == 1 and len(value.scale) == 32
    scale = np.array(value.scale)
    assert (scale[::2] > 5 * scale[1::2]).all()
    w = weights_of(model, made)["w1"]
    assert stored_weight(made, "w1", w).params.scale.shape == (32,)


def test_weights_that_are_no_matrix_of_a_layer_are_rounded_too() -> None:
    model = net(
        "t = ConvTranspose <strides = [2, 2]> (x, w1) r = Relu (t) y = Conv (r, w2)",
        w1=(4, 64, 2, 2), w2=(40, 64, 1, 1),
    )  # fmt: skip
    batches = [Batch({"x": normal(4, 4, 8, 8, seed=i)}, i) for i in range(2)]
    plan = output_plan(model, start(model), mixed(), batches, open_runner)
    assert set(weights_of(model, plan)) == {"w1", "w2"}
    assert compared(model, plan, batches).sqnr_db > 30


def test_a_weight_that_does_nothing_is_no_trouble() -> None:
    model = network()
    model.set_weight("w3", np.zeros((48, 40), np.float32))
    batches = [Batch({"x": normal(4, 4, 8, 8, seed=i)}, i) for i in range(2)]
    plan = output_plan(model, start(model), mixed(), batches, open_runner)
    assert not stored_weight(plan, "w3", np.zeros((48, 40), np.float32)).real().any()


def test_without_data_it_is_an_error() -> None:
    model = network()
    with pytest.raises(EmptyData, match=r"mixed_bit_search 'output' measures the network on data.*or say 'step'"):
        output_plan(model, start(model), mixed(), [], open_runner)


def test_progress_is_told_for_the_measuring_and_each_rounding() -> None:
    model, seen = network(), []
    batches = [Batch({"x": normal(4, 4, 8, 8, seed=i)}, i) for i in range(2)]
    output_plan(model, start(model), mixed(), batches, open_runner, progress=lambda *at: seen.append(at))
    assert seen[:6] == [(1, 3), (2, 3), (3, 3)] * 2 and len(seen) % 3 == 0


# -- rounding --------------------------------------------------------------------------------------------------------


def layer(seed: int, groups: int = 2, out: int = 5, k: int = 8) -> tuple[Any, Any, Any]:
    """Weights, steps, and moments of inputs that lean on each other."""
    rng = np.random.default_rng(seed)
    w = rng.standard_normal((groups, out, k)).astype(np.float32)
    x = (np.eye(k) + rng.standard_normal((groups, k, k))) @ rng.standard_normal((groups, k, 64))
    h = (x @ x.swapaxes(1, 2) / 64).astype(np.float32)
    return w, rng.uniform(0.2, 0.5, (groups, out)).astype(np.float32), damped(h, 64)


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.booleans())
def test_without_a_price_no_integer_can_be_bettered_alone(seed: int, full: bool) -> None:
    w, scale, h = layer(seed)
    h = h if full else np.ascontiguousarray(np.diagonal(h, axis1=1, axis2=2))
    q = coded_round(w, scale, h, 0.0, turns=20)
    best = error_of((q * scale[..., None] - w).astype(np.float32), h)
    assert best <= error_of((np.rint(w / scale[..., None]) * scale[..., None] - w).astype(np.float32), h) * 1.0001
    lo, hi = np.rint(w / scale[..., None]).min() - 1, np.rint(w / scale[..., None]).max() + 1
    for at in np.ndindex(q.shape):
        for by in (-1, 1):
            other = q.copy()
            other[at] += by
            if lo <= other[at] <= hi:
                assert error_of((other * scale[..., None] - w).astype(np.float32), h) >= best * 0.9999


def test_a_price_buys_shorter_codes_with_error() -> None:
    w, h = normal(1, 200, 40), np.ones((1, 40), np.float32)
    scale = np.full((1, 200), 0.8, np.float32)
    errors, bits = [], []
    for worth in (0.0, 0.05, 0.2):
        q = coded_round(w, scale, h, worth)
        errors.append(error_of((q * scale[..., None] - w).astype(np.float32), h))
        bits.append(entropy(q))
    assert errors[0] < errors[1] < errors[2] and bits[0] > bits[1] > bits[2]


def test_lengths_are_those_of_the_counts() -> None:
    np.testing.assert_allclose(lengths(np.array([0, 0, 1, 3]), -1, 3), [3, 1, 2, 3, 2])


def test_few_rows_are_trusted_less() -> None:
    h = np.ones((1, 4, 4), np.float32)
    for rows, share in ((8, 0.3), (4, 0.3), (1, 1.2)):
        np.testing.assert_allclose(damped(h, rows)[0], 1 + share * np.eye(4), rtol=1e-6)
