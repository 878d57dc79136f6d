"""Which weights a plan stores in few bits, in which format, and what is told of the others."""

from __future__ import annotations

import numpy as np
import pytest

from fewbit.config import QuantConfig
from fewbit.core.plan import Plan
from fewbit.errors import ModelError, UnknownName
from fewbit.graph.emit import stored_weight
from fewbit.quantization.plan import make_plan
from fewbit.quantization.weight_only import make_weight_plan
from tests.graph.nets import net
from tests.models import TARGET, info, load, node, proto, weight


def network(**attrs):
    """x → MatMul(w) → LSTM (both ways) → Conv …: one of each kind, and a table."""
    return load(
        proto(
            [
                node("Gather", "table ids", "e", "gather"),
                node("MatMul", "e w", "m", "matmul"),
                node("LSTM", "m lw lr", "l", "lstm", hidden_size=8, direction="bidirectional"),
                node("Relu", "l", "r", "relu"),
                node("MatMul", "r tiny", "y", "small"),
            ],
            [info("ids", [5, 1], 7)],
            [info("y", None)],
            {
                "table": weight(50, 64), "w": weight(64, 48), "lw": weight(2, 32, 48), "lr": weight(2, 32, 8),
                "tiny": weight(8, 3),
            },
        )
    )  # fmt: skip


def plan(**words) -> Plan:
    return make_plan(network(), QuantConfig(quant_type="weight", **words), TARGET)


def test_every_kind_of_weight_is_stored_and_nothing_else():
    found = plan()
    assert set(found.values) == {"table", "w", "lw", "lr"}
    assert all(v.role == "weight" and v.storage == "packed" for v in found.values.values())
    assert found.nodes["lstm"].roles == ("keep", "weight", "weight")
    assert set(found.nodes["lstm"].outputs) == {"float"}
    assert found.nodes["relu"].reason == "it has no weight that is a constant matrix of float32"
    assert "unpacking would take more room than it saves" in found.nodes["small"].reason
    assert Plan.from_json(found.to_json()) == found


def test_scales_lie_along_the_channels():
    spec = {k: v.spec for k, v in plan().values.items()}
    assert (spec["table"].granularity, spec["table"].axis) == ("channel", 0)
    assert (spec["w"].granularity, spec["w"].axis) == ("channel", 1)
    assert (spec["lw"].granularity, spec["lw"].axis, spec["lw"].group_size) == ("group", 2, 48)  # a row each
    one = plan(quantize_granularity="tensor-wise").values
    assert {v.spec.granularity for v in one.values()} == {"tensor"}
    groups = {k: v.spec for k, v in plan(group_size=16).values.items()}
    assert (groups["w"].granularity, groups["w"].axis, groups["w"].group_size) == ("group", 0, 16)
    assert (groups["lr"].granularity, groups["lr"].group_size) == ("group", 8)  # fewer than 16 inputs: a row each


@pytest.mark.parametrize("bits", range(1, 17))
def test_widths(bits):
    assert {v.spec.bits for v in plan(bit_num=bits).values.values()} == {bits}
    assert {v.spec.bits for v in plan(weight_bit_num=bits).values.values()} == {bits}


@pytest.mark.parametrize("bits", range(1, 17))
def test_one_sided_weights_gain_from_each_bit(bits):
    """Half of all levels would never be used without a zero point."""
    w = np.abs(np.random.default_rng(0).standard_normal((64, 48))).astype(np.float32)
    model = net("(float[N,64] x) => (float[N,48] y) { y = MatMul(x, w) }", w=w)
    config = QuantConfig(quant_type="weight", bit_num=bits)
    found = stored_weight(make_weight_plan(model, config, TARGET), "w", w)
    assert found.params.zero_point.any() == (2 <= bits <= 15)
    top = float(w.max())
    levels = 2**bits - 1 if bits < 16 else 2**15 - 1
    assert np.abs(found.real() - w).max() <= (1.02 * top / levels if bits > 1 else top)


def test_overrides_and_exclusions():
    found = plan(bit_num=4, overrides={"matmul": {"bit_num": 8}, "gather": {"granularity": "tensor"}})
    assert found.values["w"].spec.bits == 8
    assert found.values["table"].spec.granularity == "tensor"
    kept = plan(exclude_layers=["matmul"], exclude_operators=["LSTM"])
    assert set(kept.values) == {"table"}
    assert kept.nodes["lstm"].reason == "excluded by exclude_operators 'LSTM'"
    with pytest.raises(UnknownName, match="did you mean"):
        plan(exclude_layers=["matmull"])


def test_gates_for_small_weights():
    assert set(plan(min_quant_weight_size=3000).values) == {"table", "w", "lw"}
    found = plan(min_quant_weight_channel=40)
    assert set(found.values) == {"table", "w"}
    assert "; 39 or fewer stay float (min_quant_weight_channel)" in found.nodes["lstm"].reason


def test_weights_that_are_no_numbers_are_refused():
    model = network()
    model.set_weight("w", np.full((64, 48), np.nan, np.float32))
    with pytest.raises(ModelError, match="weight 'w' of layer 'matmul' holds NaN or infinity"):
        make_plan(model, QuantConfig(quant_type="weight"), TARGET)
