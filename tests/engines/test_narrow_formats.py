"""Formats below 8 bits run in the integer kernels of 8 bits, and saturate where they end."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

import fewbit as fb
from fewbit.core.plan import Plan
from fewbit.engines import open_runner
from fewbit.graph.model import Model
from tests.graph.emitted import reference
from tests.models import load, residual

X = np.random.default_rng(0).standard_normal((1, 3, 6, 6)).astype(np.float32)


def four_bits(words: dict[str, Any]) -> tuple[Model, Plan]:
    model = fb.fuse(load(residual()))
    plan = fb.make_plan(model, quantize_mode="full", **words)
    return model, fb.calibrate(model, plan, {"x": X / 2})


@pytest.mark.parametrize("words", [{"bit_num": 4}, {"bit_num": 2}, {"bit_num": 7}], ids=str)
def test_layers_are_integer_operators_and_saturate(words: dict[str, Any]) -> None:
    model, plan = four_bits(words)
    out = fb.apply(model, plan)
    runner = open_runner("onnxruntime", out)
    ops = Counter(e.op.split(".")[-1] for e in runner.executed())
    assert ops["QLinearConv"] == 2
    assert ops["QLinearAdd"] == 1
    assert "Conv" not in ops and "FusedConv" not in ops
    found, wanted = runner.run({"x": X})["y"], reference(out, {"x": X})["y"]  # twice what was calibrated: it saturates
    step = float(plan.params("y").scale)
    assert np.abs(found - wanted).max() <= 1.01 * step
    assert np.mean(np.abs(found - wanted) > step / 2) < 0.02
    assert found.max() == pytest.approx(plan.values["y"].hi, abs=step / 2)
