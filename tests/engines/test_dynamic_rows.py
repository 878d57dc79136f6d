"""The rows for ranges measured at run time: measured or explained, reached, and really run by the engine."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest
from onnx import TensorProto

import fewbit.engines  # noqa: F401  registers
from fewbit.config import QuantConfig
from fewbit.core.target import TARGETS, OpRule, Target
from fewbit.engines import open_runner
from fewbit.graph.emit import emit_qdq
from fewbit.graph.facts import facts
from fewbit.graph.model import Model
from fewbit.quantization.plan import make_plan
from tests.models import info, load, node, proto, weight

NAMES = ("onnxruntime", "onnxruntime-avx2", "onnxruntime-arm", "openvino")
TABLES = [(t, kind) for t in NAMES for kind in ("dynamic", "by_row")]
ROWS = [pytest.param(TARGETS[t], r, id=f"{t}-{kind}-{r.op}-{r.when}") for t, kind in TABLES
        for r in getattr(TARGETS[t], kind)]  # fmt: skip


@pytest.mark.parametrize(("target", "row"), ROWS)
def test_every_row_is_measured_or_says_why_not(target: Target, row: OpRule) -> None:
    assert row.pays is not None or row.note
    assert row.pays is None or 0.05 < row.pays < 10
    assert row.core and row.outputs == ("float",)
    assert ("weight" in row.inputs) != (row.inputs == ("act",))


@pytest.mark.parametrize(("name", "kind"), TABLES)
def test_no_row_is_hidden_and_what_has_a_reason_has_no_row(name: str, kind: str) -> None:
    target = TARGETS[name].at_run_time("ACWL" if kind == "by_row" else "ALWC")
    seen = [(r.op, r.when) for r in target.rules]
    assert len(set(seen)) == len(seen)
    if kind == "dynamic":
        assert not [op for op in target.float_only if target.has(op) and op not in ("Conv", "LSTM")]
    assert all(target.float_only.values())


def test_targets_that_never_ran_here_promise_nothing() -> None:
    for name in ("onnxruntime-avx2", "onnxruntime-arm"):
        for row in (*TARGETS[name].dynamic, *TARGETS[name].by_row):
            assert (row.pays is None or row.pays >= 1) and "VNNI only" in row.note
    rows = [r for r in TARGETS["onnxruntime-avx2"].dynamic if r.op == "MatMul"]
    assert {r.inputs for r in rows} == {("act", "weight")}  # 8 bits on a computed right side would saturate there


def one(op: str, inputs: str, shapes: dict[str, list[int]], weights: dict[str, Any], **attrs: Any) -> Model:
    kind = TensorProto.INT64 if op == "Gather" else TensorProto.FLOAT
    ins = [info(k, s, kind) for k, s in shapes.items()]
    return load(proto([node(op, inputs, "y", "layer", **attrs)], ins, [info("y", None)], weights))


LAYERS = {
    "MatMul": lambda: one("MatMul", "x w", {"x": [2, 384]}, {"w": weight(384, 384)}),
    "small MatMul": lambda: one("MatMul", "x w", {"x": [2, 32]}, {"w": weight(32, 32)}),
    "batched": lambda: one("MatMul", "x w", {"x": [2, 4, 384]}, {"w": weight(2, 384, 384)}),
    "left": lambda: one("MatMul", "w x", {"x": [2, 256, 9]}, {"w": weight(256, 256)}),
    "small left": lambda: one("MatMul", "w x", {"x": [2, 32, 9]}, {"w": weight(32, 32)}),
    "attention": lambda: one("MatMul", "x z", {"x": [2, 128, 64], "z": [2, 64, 128]}, {}),
    "short attention": lambda: one("MatMul", "x z", {"x": [2, 16, 64], "z": [2, 64, 16]}, {}),
    "Gemm": lambda: one("Gemm", "x w b", {"x": [2, 384]}, {"w": weight(384, 384), "b": weight(384)}, transB=1),
    "Gemm turned": lambda: one("Gemm", "x w", {"x": [384, 2]}, {"w": weight(384, 384)}, transA=1, alpha=2.0),
    "small Gemm": lambda: one("Gemm", "x w", {"x": [2, 32]}, {"w": weight(32, 32)}),
    "LSTM": lambda: one("LSTM", "x w r", {"x": [3, 1, 64]}, {"w": weight(1, 256, 64), "r": weight(1, 256, 64)},
                        hidden_size=64),
    "small LSTM": lambda: one("LSTM", "x w r", {"x": [3, 1, 8]}, {"w": weight(1, 64, 8), "r": weight(1, 64, 16)},
                              hidden_size=16),
    "GRU": lambda: one("GRU", "x w r", {"x": [3, 1, 8]}, {"w": weight(1, 48, 8), "r": weight(1, 48, 16)},
                       hidden_size=16),
    "Gather": lambda: one("Gather", "w x", {"x": [3]}, {"w": weight(700, 96)}),
    "small Gather": lambda: one("Gather", "w x", {"x": [3]}, {"w": weight(7, 96)}),
    "columns": lambda: one("Gather", "w x", {"x": [3]}, {"w": weight(700, 96)}, axis=1),
    "Conv": lambda: one("Conv", "x w", {"x": [1, 8, 9, 9]}, {"w": weight(8, 8, 3, 3)}),
}  # fmt: skip

SMART = {
    ("onnxruntime", "auto"): {"MatMul", "batched", "left", "attention", "Gemm", "Gemm turned", "LSTM", "GRU", "Gather"},
    ("onnxruntime", "ACWL"): {"MatMul", "batched", "Gemm", "Gemm turned", "GRU", "Gather"},
    ("openvino", "auto"): {"MatMul", "Gemm", "LSTM", "small LSTM", "GRU", "Gather"},
}
"""What pays. With quantize_mode full more becomes integer: see NEVER."""

NEVER = {
    ("onnxruntime", "auto"): {"small Gather", "columns"},
    ("onnxruntime", "ACWL"): {"small Gather", "columns", "left", "small left", "attention", "short attention", "LSTM",
                              "small LSTM", "Conv"},
    ("openvino", "auto"): {"small Gather", "columns", "left", "small left", "attention", "short attention", "batched",
                           "Gemm turned", "Conv"},
}  # fmt: skip


@pytest.mark.parametrize("mode", ["smart", "full"])
@pytest.mark.parametrize(("engine", "strategy"), SMART)
@pytest.mark.parametrize("layer", LAYERS)
def test_what_becomes_integer_runs_as_its_row_says(layer: str, engine: str, strategy: str, mode: str) -> None:
    if find_spec(engine) is None:
        pytest.skip(f"{engine} is not installed")
    model, target = LAYERS[layer](), TARGETS[engine]
    config = QuantConfig(quant_type="dynamic", quant_strategy=strategy, quantize_mode=mode, target=engine)
    plan = make_plan(model, config, target)
    wanted = SMART[engine, strategy] if mode == "smart" else LAYERS.keys() - NEVER[engine, strategy]
    verdict = plan.nodes["layer"]
    assert verdict.quantized == (layer in wanted)
    if not verdict.quantized:
        assert verdict.reason
        return
    row = target.at_run_time(strategy).rule(facts(model.nodes[0]))
    assert row is not None
    executed = open_runner(engine, emit_qdq(model, plan)).executed()
    assert {e.op.split(".")[-1] for e in executed} & set(row.runs.split())
    if not row.storage:
        assert any(e.integer for e in executed)
