"""The float network with what its packed weights become, against the network that unpacks them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fewbit.core.plan import NodePlan, Plan, ValuePlan
from fewbit.core.spec import QuantSpec
from fewbit.graph.emit import emit_qdq
from fewbit.graph.model import Model, const
from fewbit.quantization.correct_weights import in_float
from fewbit.quantization.gains import Noise
from fewbit.quantization.packed import own_weights, readers, weights_of, with_weights
from tests.graph.nets import net
from tests.models import feeds_for, run
from tests.quantization.nets import Batch
from tests.quantization.test_smooth import open_runner

BRANCHES = """
    (float[40,40] x, bool c) => (float[40,40] y)
    { m = MatMul(x, w)
      n = If (c) < then_branch = a () => (float[40,40] p) { p = Identity(w) },
                   else_branch = b () => (float[40,40] q) { q = Neg(w) } >
      y = Add(m, n) }
"""

SHARED = {
    "Add": net("(float[40,40] x) => (float[40,40] y) { m = MatMul(x, w) y = Add(m, w) }", w=(40, 40)),
    "If": net(BRANCHES, w=(40, 40)),
    "two layers and Add": net(
        "(float[40,40] x) => (float[40,40] y) { m = MatMul(x, w) n = Add(m, w) y = MatMul(n, w) }", w=(40, 40)
    ),
    "bias of its own": net("(float[40,40] x) => (float[40,40] y) { y = Gemm(x, w, w) }", w=(40, 40)),
    "left of one, right of the other": net(
        "(float[40,40] x) => (float[40,40] y) { m = MatMul(x, w) y = MatMul(w, m) }", w=(40, 40)
    ),
    "output": net("(float[40,40] x) => (float[40,40] y, float[40,40] w) { y = MatMul(x, w) }", w=(40, 40)),
    "nobody else": net("(float[40,40] x) => (float[40,40] y) { y = MatMul(x, w) }", w=(40, 40)),
}


def planned(model: Model) -> Plan:
    """3 bits for what each product multiplies by, whoever reads it besides; as a plan written by hand may have it."""
    nodes = {str(n.name): NodePlan(False, "float") for n in model.nodes}
    for n in model.nodes:
        if n.op_type in ("MatMul", "Gemm"):
            left = n.inputs[0].name == "w"
            roles = ("weight", "keep") if left else ("keep", "weight", "keep")[: len(n.inputs)]
            nodes[str(n.name)] = NodePlan(True, "by hand", roles, ("float",))
    spec = QuantSpec(3, signed=True, symmetric=True, granularity="channel", axis=1)
    return Plan({"w": ValuePlan(spec, "weight", "w", observe=False, storage="packed")}, nodes)


def feeds_of(name: str) -> dict[str, Any]:
    return feeds_for(SHARED[name])


@pytest.mark.parametrize("name", SHARED)
def test_it_answers_as_the_packed_network_does(name: str) -> None:
    model, feeds = SHARED[name], feeds_of(name)
    plan, before = planned(model), model.digest()
    wanted, truth = run(emit_qdq(model, plan), feeds), run(model, feeds)
    for found in (with_weights(model, plan), in_float(model, plan)):
        answers = run(found, feeds)
        assert list(answers) == list(truth)
        for key, y in answers.items():
            np.testing.assert_allclose(y, wanted[key], rtol=1e-4, atol=1e-4)
        assert np.abs(answers["y"] - truth["y"]).max() > 0.01
    assert model.digest() == before


@pytest.mark.parametrize("name", SHARED)
def test_whoever_reads_a_weight_in_float_reads_what_it_did(name: str) -> None:
    model, plan = SHARED[name], planned(SHARED[name])
    out, names = own_weights(model, plan)
    assert (names["w"] == "w") == (name in ("nobody else", "left of one, right of the other"))
    out.set_weight(names["w"], np.zeros((40, 40), np.float32))
    for node, at in out.value(names["w"]).uses():
        assert plan.nodes[str(node.name)].roles[at] == "weight"
    if names["w"] != "w":
        np.testing.assert_array_equal(const(out.value("w")), const(model.value("w")))
    assert len(out.value(names["w"]).uses()) == len(readers(model, plan)["w"])


@pytest.mark.parametrize("name", SHARED)
def test_noise_is_that_of_the_planned_layers(name: str) -> None:
    model, plan, feeds = SHARED[name], planned(SHARED[name]), feeds_of(name)
    noise = Noise(model, plan, [Batch(feeds, 0)], open_runner)
    assert noise.of({})[0] == 0
    (w,) = weights_of(model, plan).values()
    loud, _ = noise.of({"w": w + np.float32(0.1)})
    changed, names = own_weights(model, plan)
    changed.set_weight(names["w"], w + np.float32(0.1))
    truth, found = (run(m, feeds) for m in (model, changed))
    wanted = sum(float(((truth[k] - found[k]) ** 2).sum() / (truth[k] ** 2).sum()) for k in truth)
    assert loud == pytest.approx(wanted, rel=1e-3) and loud > 0
