"""What engines make of the networks when they optimize them; the numbers are MXNet's (make/ops_pool.py, ops_reduce)."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from fewbit.graph.files import to_bytes
from fewbit.graph.model import Model
from tests.frontends.mxnet.cases import Case, cases
from tests.frontends.mxnet.one import one

PADDED = [name for name in cases("pool") if name.startswith(("below_zero", "wide", "v1"))]
NORMS = [name for name in cases("reduce") if name.startswith("norm")]
ALL = [*(("pool", name) for name in PADDED), *(("reduce", name) for name in NORMS)]


def same(got: list[NDArray], case: Case) -> None:
    for ours, theirs in zip(got, case.outs, strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("level", ["ORT_ENABLE_BASIC", "ORT_ENABLE_ALL"])
@pytest.mark.parametrize(("group", "name"), ALL, ids=["-".join(a) for a in ALL])
def test_onnx_runtime_with_its_optimizer(group: str, name: str, level: str) -> None:
    case = cases(group)[name]
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    options.log_severity_level = 3
    session = ort.InferenceSession(to_bytes(case.convert()), options, providers=["CPUExecutionProvider"])
    same(session.run(None, case.feeds), case)


@pytest.mark.parametrize(("group", "name"), ALL, ids=["-".join(a) for a in ALL])
def test_openvino(group: str, name: str) -> None:
    ov = pytest.importorskip("openvino")
    case, core = cases(group)[name], ov.Core()
    network = core.compile_model(core.read_model(to_bytes(case.convert())), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    same(list(network(list(case.feeds.values())).values()), case)


def fills(model: Model) -> list[float]:
    """What the Pads of a network pad with."""
    values = [n.inputs[2] for n in model.nodes if n.op_type == "Pad" and len(n.inputs) > 2]
    return [float(v.const_value.numpy()) for v in values if v is not None and v.const_value is not None]


def test_zeros_that_nobody_misreads_stay_zeros() -> None:
    assert fills(cases("pool")["below_zero_pad_max"].convert()) == [pytest.approx(1.1754944e-38, abs=1e-44)]
    assert fills(cases("pool")["below_zero_pad_avg"].convert()) == [0]
    assert fills(cases("pool")["below_zero_pad_used"].convert()) == [0]
    edge = one("Pad", {"mode": "edge", "pad_width": (0, 0, 0, 0, 1, 1, 1, 1)}, {"x": (1, 1, 4, 4)})
    assert fills(edge) == []
