"""A small network with scopes and a shortcut, float and integer, and its drawing."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from fewbit.core.plan import Plan
from fewbit.graph.emit import emit_qdq
from fewbit.graph.fuse import fuse
from fewbit.graph.model import Model
from fewbit.report.drawing.compose import draw
from fewbit.report.drawing.data import STAGES, DrawingData
from tests.models import info, load, node, plan_for, proto, weight


def network(blocks: int = 2) -> onnx.ModelProto:
    """x ─ stem: Conv ─ BatchNormalization ─ Relu ─ [conv1 ─ relu ─ conv2 ─ add] × blocks ─ Softmax ─ y"""
    conv = {"pads": [1, 1, 1, 1]}
    nodes = [
        node("Conv", "x w", "c", "stem/conv", **conv),
        node("BatchNormalization", "c g b m v", "n", "stem/bn"),
        node("Relu", "n", "r", "stem/relu"),
    ]
    weights = {"w": weight(4, 3, 3, 3), **dict.fromkeys("gv", np.ones(4, np.float32)), "b": weight(4), "m": weight(4)}
    at = "r"
    for i in range(blocks):
        nodes += [
            node("Conv", f"{at} w{i}a", f"{i}a", f"body/{i}/conv1", **conv),
            node("Relu", f"{i}a", f"{i}b", f"body/{i}/relu"),
            node("Conv", f"{i}b w{i}b", f"{i}c", f"body/{i}/conv2", **conv),
            node("Add", f"{i}c {at}", f"{i}d", f"body/{i}/add"),
        ]
        weights |= {f"w{i}{k}": weight(4, 4, 3, 3, seed=i) for k in "ab"}
        at = f"{i}d"
    nodes.append(node("Softmax", at, "y", "softmax", axis=1))
    return proto(nodes, [info("x", ["N", 3, 8, 8])], [info("y", ["N", 4, 8, 8])], weights)


@pytest.fixture(scope="session")
def given() -> Model:
    """As in the file."""
    return load(network())


@pytest.fixture(scope="session")
def fused(given: Model) -> Model:
    """Fused."""
    return fuse(given)


@pytest.fixture(scope="session")
def plan(fused: Model) -> Plan:
    """Calibrated on made-up numbers."""
    return plan_for(fused)


@pytest.fixture(scope="session")
def made(fused: Model, plan: Plan) -> Model:
    """Integer."""
    return emit_qdq(fused, plan)


@pytest.fixture(scope="session")
def data(given: Model, fused: Model, made: Model, plan: Plan) -> DrawingData:
    """All stages."""
    return draw("net.onnx", given, fused, made, plan, STAGES)
