"""Which Pads keep their zeros from an engine's optimizer."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from fewbit.graph.build import Builder
from fewbit.graph.model import Model, const

EPSILON = float(np.finfo(np.float32).tiny)
KERNEL = {"kernel_shape": (2, 2)}


def padded(*readers: str, before: str = "", between: str = "", pad: int = 1, fill: Any = 0.0, **attrs: Any) -> Model:
    """x → (before) → Pad → (between) → each of the readers."""
    b = Builder("net")
    x = b.input("x", (1, 2, 6, 6))
    if before:
        (x,) = b.node(before, [x], name="before")
    value = None if fill is None else b.constant(fill)
    (y,) = b.node("Pad", [x, b.constant([0, 0, pad, pad] * 2), value], name="pad", **attrs)
    if between:
        (y,) = b.node(between, [y], name="between")
    made = [b.node(op, [y], name=op, **(KERNEL if op.endswith("Pool") else {}))[0] for op in readers]
    return b.finish([(v, f"{op}_output") for v, op in zip(made or [y], readers or ["pad"], strict=True)])


def fill(model: Model) -> float | None:
    value: ir.Value | None = model.node("pad").inputs[2] if len(model.node("pad").inputs) > 2 else None
    found = const(value)
    return None if found is None else float(found)


KEPT: dict[str, dict[str, Any]] = {
    "zero": {},
    "no number, which is zero": {"fill": None},
    "behind what may be below zero": {"before": "Tanh"},
    "through an Identity": {"between": "Identity"},
    "through a Transpose": {"between": "Transpose"},
    "as wide as the kernel": {"before": "Relu", "pad": 2},
}


@pytest.mark.parametrize("given", KEPT.values(), ids=KEPT)
def test_zeros_in_front_of_a_maximum_become_epsilon(given: dict[str, Any]) -> None:
    assert fill(padded("MaxPool", **given)) == EPSILON
    assert fill(padded("MaxPool", "AveragePool", **given)) == EPSILON


LEFT: dict[str, tuple[tuple[str, ...], dict[str, Any], float | None]] = {
    "an average": (("AveragePool",), {}, 0),
    "behind what is never below zero": (("MaxPool",), {"before": "Relu"}, 0),
    "another reader": (("MaxPool", "Log"), {}, 0),
    "an output": ((), {}, 0),
    "another number": (("MaxPool",), {"fill": 2.0}, 2),
    "another mode": (("MaxPool",), {"fill": None, "mode": "edge"}, None),
}


@pytest.mark.parametrize(("readers", "given", "want"), LEFT.values(), ids=LEFT)
def test_other_pads_stay_as_they_are(readers: tuple[str, ...], given: dict[str, Any], want: float | None) -> None:
    assert fill(padded(*readers, **given)) == want


def test_an_average_over_wide_zeros() -> None:
    assert fill(padded("AveragePool", pad=2)) == EPSILON
