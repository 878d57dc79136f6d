"""What OpenVINO does differently, and the runner makes good."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import parser

from fewbit.engines import open_runner
from fewbit.engines.openvino import as_declared
from fewbit.errors import EngineError
from fewbit.graph.files import from_proto
from fewbit.graph.model import Model

X = np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.fixture(autouse=True)
def installed() -> None:
    pytest.importorskip("openvino")


def network(text: str) -> Model:
    return from_proto(parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> toy ({text}'))


def test_an_input_that_nothing_reads_does_no_harm() -> None:
    model = network("float[3, 4] x, float[2] unused) => (float[3, 4] y) { y = Relu(x) }")
    runner = open_runner("openvino", model)
    feeds = {"x": X, "unused": np.zeros(2, np.float32)}
    np.testing.assert_array_equal(runner.run(feeds)["y"], X)
    assert runner.profile(feeds, repeat=1)
    with pytest.raises(EngineError, match="no array for input unused"):
        runner.run({"x": X})


def test_outputs_have_the_rank_that_the_model_declares() -> None:
    model = network("float[4] a, float[4, 8] b) => (float[8] y) { y = MatMul(a, b) }")
    a, b = X[0], np.ones((4, 8), np.float32)
    for optimize in (True, False):
        y = open_runner("openvino", model, optimize=optimize).run({"a": a, "b": b})["y"]
        assert y.shape == (8,)
        np.testing.assert_allclose(y, a @ b, rtol=0.01)


@pytest.mark.parametrize(
    ("given", "declared", "wanted"),
    [
        ((1, 8), (8,), (8,)),
        ((1, 1, 8), (None,), (8,)),
        ((8,), (1, 8), (1, 8)),
        ((8,), (None, 8), (1, 8)),
        ((1,), (), ()),
        ((2, 8), (8,), (2, 8)),
        ((8,), (2, 8), (8,)),
        ((1, 8), None, (1, 8)),
        ((3, 8), (3, 8), (3, 8)),
    ],
)
def test_only_leading_axes_of_one_come_and_go(
    given: tuple[int, ...], declared: tuple[int | None, ...] | None, wanted: tuple[int, ...]
) -> None:
    assert as_declared(np.zeros(given, np.float32), declared).shape == wanted
