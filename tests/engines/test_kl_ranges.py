"""Ranges of `calib_mode` kl in the engine."""

from __future__ import annotations

import fewbit as fb
from fewbit.engines import open_runner
from tests.models import info, load, node, proto, weight


def test_a_relu_is_cut_off_by_the_q_behind_it() -> None:
    nodes = [node("Conv", "x w0 b0", "c", "conv0", pads=[1] * 4), node("Relu", "c", "r", "relu"),
             node("Conv", "r w1 b1", "y", "conv1", pads=[1] * 4)]  # fmt: skip
    weights = {"w0": weight(32, 16, 3, 3), "b0": weight(32), "w1": weight(16, 32, 3, 3), "b1": weight(16)}
    model = load(proto(nodes, [info("x", [1, 16, 8, 8])], [info("y", None)], weights))
    plan = fb.make_plan(model, calib_mode="kl")
    plan = fb.calibrate(model, plan, [{"x": weight(1, 16, 8, 8, scale=1)}])
    assert plan.values["r"].lo == 0 < (plan.values["r"].hi or 0)
    assert plan.values["x"].lo == -(plan.values["x"].hi or 0) < 0
    found = [e.op.split(".")[-1] for e in open_runner("onnxruntime", fb.apply(model, plan)).executed()]
    assert "Relu" not in found and "Conv" not in found and found.count("QLinearConv") == 2
