"""What ends ncnn's process does not end ours."""

from __future__ import annotations

import numpy as np
import pytest

from fewbit.engines import open_runner
from fewbit.engines.ncnn import rehearsal
from fewbit.errors import EngineError
from fewbit.graph.model import Model
from tests.models import info, load, node, proto

X = np.random.default_rng(0).standard_normal((1, 4, 6, 6)).astype(np.float32)


def network() -> Model:
    """Relu reads the input, and computes in place."""
    nodes = [node("Relu", "x", "a", "first"), node("GlobalAveragePool", "a", "y", "pool")]
    return load(proto(nodes, [info("x", [1, 4, 6, 6])], [info("y", [1, 4, 1, 1])]))


def test_a_process_that_ends_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "PROGRAM", "import os; os.kill(os.getpid(), 11)")
    with pytest.raises(EngineError, match=r"ended by signal 11 .*ReLU, Pooling.*another target: onnxruntime"):
        open_runner("ncnn", network())


def test_what_the_program_itself_says_is_left_to_the_run_that_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "PROGRAM", "raise ValueError")
    assert open_runner("ncnn", network()).run({"x": X})["y"].shape == (1, 4, 1, 1)


def test_the_program_runs_the_network(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes to its end: a line behind it is reached, and its network answered."""
    monkeypatch.setattr(
        rehearsal, "PROGRAM", rehearsal.PROGRAM + "\nimport os\nos.kill(os.getpid(), 9 if mat else 11)\n"
    )
    with pytest.raises(EngineError, match="ended by signal 9 "):
        open_runner("ncnn", network())


def test_layers_in_place_leave_the_input_alone() -> None:
    for optimize in (False, True):
        x = X.copy()
        found = open_runner("ncnn", network(), optimize=optimize).run({"x": x})["y"]
        assert np.array_equal(x, X) and np.allclose(found, np.maximum(X, 0).mean((2, 3), keepdims=True), atol=1e-5)
