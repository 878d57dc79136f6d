"""Every type of layer against Caffe's definition and against OpenCV."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fewbit.engines import open_runner
from fewbit.frontends.caffe.layer import OPS
from fewbit.frontends.caffe.net import DATA, SINKS, TRAINING
from fewbit.graph.model import Model
from tests.frontends.caffe.case import Case, arranged
from tests.frontends.caffe.cases import CASES
from tests.frontends.caffe.loading import converted

GOLDEN = Path(__file__).parents[2] / "golden" / "caffe" / "outputs.npz"


@cache
def golden() -> dict[str, NDArray[Any]]:
    with np.load(GOLDEN) as found:
        return {k: found[k] for k in found.files}


def answers(model: Model, feeds: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
    found = open_runner("onnxruntime", model).run({i.name: feeds[i.name] for i in model.inputs})
    return [found[o.name] for o in model.outputs]


def close(found: NDArray[Any], wanted: Any, *, shape: bool = True) -> None:
    wanted = np.asarray(wanted, np.float32)
    if shape:
        assert found.shape == wanted.shape
    np.testing.assert_allclose(
        found.reshape(-1), wanted.reshape(-1), rtol=2e-5, atol=2e-5 * max(1, np.abs(wanted).max(initial=0))
    )


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_a_layer_computes_what_caffe_does(case: Case) -> None:
    model, feeds = converted(case.text, case.weights()), case.inputs()
    assert "l" in {str(n.name) for n in model.nodes} | set(model.aliases)
    assert model.outputs[0].name in ("y", "l")
    found = answers(model, feeds)
    assert all(o.dtype == np.float32 for o in found)
    if case.reference is not None:
        weights = [a.astype(np.float64) for w in case.weights().values() for a in w]
        wanted = case.reference(*(x.astype(np.float64) for x in feeds.values()), *weights)
        for one, want in zip(found, wanted if isinstance(wanted, tuple) else (wanted,), strict=True):
            close(one, want)
    if case.opencv:  # which shows a scalar, and what has no batch, in shapes of its own
        close(found[0], golden()[case.name], shape=False)
    assert case.opencv or case.reference is not None


def test_every_type_has_a_case() -> None:
    assert {c.type for c in CASES} == set(OPS)
    assert len(OPS) >= 35
    assert not set(OPS) & (DATA | TRAINING | SINKS)


def test_the_golden_file_has_what_the_cases_want() -> None:
    assert set(golden()) == {c.name for c in CASES if c.opencv} | {"ssd"}
    assert all(np.array_equal(arranged(c, golden()[c.name]), golden()[c.name]) for c in CASES if c.opencv)
