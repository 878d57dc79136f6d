"""Noise of replaced weights, moments of what layers read, and how strongly outputs are read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fewbit.core.metrics import ErrorSums
from fewbit.core.plan import Plan
from fewbit.errors import DataError
from fewbit.graph.model import Model, const
from fewbit.quantization.gains import Noise, layers_of, moments_of, read_behind
from fewbit.quantization.packed import own_weights, weights_of
from tests.models import run
from tests.quantization.nets import Batch, net
from tests.quantization.test_mixed import network, normal, start
from tests.quantization.test_smooth import open_runner


def data(count: int = 3, size: int = 4) -> list[Batch]:
    return [Batch({"x": normal(size, 4, 8, 8, seed=i)}, i) for i in range(count)]


def replaced(model: Model, changed: dict[str, Any]) -> Model:
    copy = model.clone()
    for name, w in changed.items():
        copy.set_weight(name, w)
    return copy


def test_noise_is_that_of_the_network_with_other_weights() -> None:
    model, batches = network(), data()
    noise = Noise(model, start(model), batches, open_runner)
    assert noise.of({}) == (0.0, 1.0)
    changed = {"w2": np.asarray(const(model.value("w2"))) + 0.01 * normal(48, 32, 3, 3)}
    sums = ErrorSums()
    for b in batches:
        sums.update(run(model, b.feeds)["y"], run(replaced(model, changed), b.feeds)["y"])
    found, cosine = noise.of(changed)
    assert found == pytest.approx(sums.ee / sums.rr, rel=1e-3) and cosine == pytest.approx(sums.cosine, abs=1e-6)
    assert noise.of({}) == (0.0, 1.0)  # nothing of it stays


def test_noise_grows_with_the_square_of_the_steps() -> None:
    model = network()
    noise = Noise(model, start(model), data(), open_runner)
    w, delta = np.asarray(const(model.value("w1"))), 0.002 * normal(32, 4, 3, 3)
    once, twice = (noise.of({"w1": w + f * delta})[0] for f in (np.float32(1), np.float32(2)))
    assert twice == pytest.approx(4 * once, rel=0.1)


def test_weights_that_break_the_network_are_noise_without_end() -> None:
    model = network()
    noise = Noise(model, start(model), data(1), open_runner)
    assert noise.of({"w3": np.full((48, 40), np.inf, np.float32)}) == (np.inf, 0.0)


def test_without_an_output_to_measure_it_is_an_error() -> None:
    model = net("c = Conv (x, w) m = ArgMax <axis = 1> (c) y = Identity (m)", "int64[N, 1, 8, 8] y", w=(64, 4, 1, 1))
    with pytest.raises(DataError, match="answers no finite floating-point numbers; there is nothing to judge steps by"):
        Noise(model, start(model), data(1), open_runner)


def test_moments_are_the_mean_squares_of_what_is_read() -> None:
    model, batches = net("y = MatMul (x, w)", "float[N, 64] y", inputs="float[N, 50] x", w=(50, 64)), []
    for i in range(3):
        batches.append(Batch({"x": 1 + normal(5, 50, seed=i)}, i))
    x = np.concatenate([b.feeds["x"] for b in batches])
    layers = layers_of(model, start(model))
    h, rows = moments_of(model, layers, batches, open_runner)["MatMul:y"]
    assert rows == 15
    np.testing.assert_allclose(h[0], x.T @ x / 15, rtol=1e-4, atol=1e-5)
    diagonal, _ = moments_of(model, layers, batches, open_runner, memory=50 * 50 * 4 - 1)["MatMul:y"]
    np.testing.assert_allclose(diagonal[0], np.square(x).mean(0), rtol=1e-5)


def test_small_layers_get_matrices_first() -> None:
    model = network()
    layers = layers_of(model, start(model))
    assert [x.name for x in layers] == ["Conv:a", "Conv:c", "MatMul:y"]
    room = 4 * (36**2 + 48**2)
    found = moments_of(model, layers, data(1), open_runner, memory=room)
    assert {name: h.ndim for name, (h, _) in found.items()} == {"Conv:a": 3, "Conv:c": 2, "MatMul:y": 3}
    assert moments_of(model, [], data(1), open_runner) == {}


def test_outputs_count_by_the_energy_of_the_weights_that_read_them() -> None:
    model = network()
    layers = layers_of(model, start(model))
    found = read_behind(model, layers)
    assert list(found) == ["Conv:c", "Conv:a"]
    w2, w3 = (np.asarray(const(model.value(k)), np.float64) for k in ("w2", "w3"))
    own = np.square(w3).sum(1)
    np.testing.assert_allclose(found["Conv:c"], own, rtol=1e-6)
    np.testing.assert_allclose(found["Conv:a"], (np.square(w2).sum((2, 3)) * own[:, None]).sum(0), rtol=1e-6)


def test_a_weight_with_an_entry_of_its_own_for_one_node() -> None:
    model = net("a = MatMul (x, w) r = Relu (a) y = MatMul (r, w)", "float[N, 40] y", inputs="float[N, 40] x",
                w=(40, 40))  # fmt: skip
    plan = start(model)
    values = {**plan.values, "w@MatMul:y": plan.values["w"]}
    plan = Plan(values, plan.nodes)
    assert list(weights_of(model, plan)) == ["w", "w@MatMul:y"] and layers_of(model, plan) == []
    own, names = own_weights(model, plan)
    own.set_weight(names["w@MatMul:y"], np.zeros((40, 40), np.float32))
    x = {"x": normal(2, 40)}
    assert not run(own, x)["y"].any() and run(own.with_outputs(["a"]), x)["a"].any()
