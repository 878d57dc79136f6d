"""Layers with ranges measured at run time: what they compute, against numpy, ONNX's reference and ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fewbit.engines  # noqa: F401  registers
from fewbit.config import QuantConfig
from fewbit.core.params import params_from_range
from fewbit.core.plan import Plan
from fewbit.core.spec import QuantSpec
from fewbit.core.target import TARGETS
from fewbit.engines import open_runner
from fewbit.errors import PlanError
from fewbit.graph.files import to_bytes
from fewbit.graph.model import Model
from fewbit.quantization.plan import make_plan
from tests.graph.emitted import fake_weight, quantized, reference
from tests.models import feeds_for, info, load, node, plan_for, proto, run, weight


def planned(model: Model, target: str = "onnxruntime", **words: Any) -> Plan:
    return plan_for(model, target=TARGETS[target], quant_type="dynamic", **words)


def ran(model: Model, engine: str = "onnxruntime") -> set[str]:
    return {e.op.split(".")[-1] for e in open_runner(engine, model).executed()}


def unsigned(x: np.ndarray) -> np.ndarray:
    return params_from_range(QuantSpec(8, signed=False), x.min(), x.max()).fake(x)


def signed(x: np.ndarray) -> np.ndarray:
    most = np.abs(x).max()
    return params_from_range(QuantSpec(8, signed=True, symmetric=True), -most, most).fake(x)


def rows(x: np.ndarray) -> np.ndarray:
    most = np.maximum(np.abs(x).max(-1, keepdims=True), 1e-30)
    return np.rint(x / most * 127) * most / 127


def close(found: np.ndarray, want: np.ndarray, share: float = 2e-3) -> None:
    """Integers may differ by one where x / s lies between two."""
    assert np.isfinite(found).all()
    assert np.linalg.norm(found - want) <= share * max(np.linalg.norm(want), 1e-6)


def product(op: str, inputs: str, shapes: dict[str, list[int]], weights: dict[str, Any], opset: int = 17, **a: Any):
    ins = [info(k, s) for k, s in shapes.items()]
    return load(proto([node(op, inputs, "y", "layer", **a)], ins, [info("y", None)], weights, opset=opset))


def everywhere(model: Model, feeds: dict[str, np.ndarray], want: np.ndarray) -> None:
    """The same from the reference, from ONNX Runtime as written, and from ONNX Runtime optimized."""
    for found in (reference(model, feeds), run(model, feeds), run(model, feeds, optimize=True)):
        close(found["y"], want)


# -- products --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("grain", ["channel-wise", "tensor-wise"])
@pytest.mark.parametrize("shape", [[5, 16], [2, 3, 16], [16]])
def test_a_product_with_a_weight(shape: list[int], grain: str) -> None:
    model = product("MatMul", "x w", {"x": shape}, {"w": weight(16, 6)})
    plan = planned(model, quantize_granularity=grain)
    feeds = feeds_for(model)
    everywhere(quantized(model, plan), feeds, unsigned(feeds["x"]) @ fake_weight(plan, model))


def test_a_product_with_batched_weights() -> None:
    model = product("MatMul", "x w", {"x": [4, 3, 16]}, {"w": weight(4, 16, 6)})
    plan, feeds = planned(model), feeds_for(model)
    assert plan.values["w"].spec.axis == 2
    everywhere(quantized(model, plan), feeds, unsigned(feeds["x"]) @ fake_weight(plan, model))


@pytest.mark.parametrize("grain", ["channel-wise", "tensor-wise"])
def test_a_weight_on_the_left(grain: str) -> None:
    model = product("MatMul", "w x", {"x": [2, 16, 5]}, {"w": weight(6, 16)})
    plan, feeds = planned(model, quantize_granularity=grain), feeds_for(model)
    assert plan.nodes["layer"].roles == ("weight", "act")
    assert plan.values["w"].spec.axis == (0 if grain == "channel-wise" else None)
    everywhere(quantized(model, plan), feeds, fake_weight(plan, model) @ signed(feeds["x"]))


def test_both_sides_computed() -> None:
    model = product("MatMul", "x z", {"x": [1, 2, 8, 16], "z": [1, 2, 16, 8]}, {})
    plan, feeds = planned(model), feeds_for(model)
    assert (plan.values["x"].spec.signed, plan.values["z"].spec.signed) == (False, True)
    out = quantized(model, plan)
    everywhere(out, feeds, unsigned(feeds["x"]) @ signed(feeds["z"]))
    assert "DynamicQuantizeMatMul" in ran(out)


def test_a_value_times_itself() -> None:
    model = product("MatMul", "x x", {"x": [8, 8]}, {})
    feeds = feeds_for(model)
    everywhere(quantized(model, planned(model)), feeds, unsigned(feeds["x"]) @ signed(feeds["x"]))


@pytest.mark.parametrize("strategy", ["ALWC", "ACWL"])
@pytest.mark.parametrize("bias", ["b", "bb", "c", ""])
@pytest.mark.parametrize("attrs", [{}, {"transB": 1}, {"transA": 1, "alpha": 0.5, "beta": 2.0}, {"transA": 1}])
def test_every_gemm(attrs: dict[str, Any], bias: str, strategy: str) -> None:
    shape, turned = ([16, 4], weight(16, 6)) if attrs.get("transA") else ([4, 16], weight(16, 6))
    w = turned.T.copy() if attrs.get("transB") else turned
    shapes = {"x": shape} | ({"c": [4, 1]} if bias == "c" else {})
    weights = {"w": w} | ({bias: weight(6) if bias == "b" else weight(4, 6)} if bias.startswith("b") else {})
    model = product("Gemm", f"x w {bias}", shapes, weights, **attrs)
    plan, feeds = planned(model, quant_strategy=strategy), feeds_for(model)
    x = feeds["x"].T if attrs.get("transA") else feeds["x"]
    real = fake_weight(plan, model)
    want = (unsigned if strategy == "ALWC" else rows)(x) @ (real.T if attrs.get("transB") else real)
    want = want * attrs.get("alpha", 1.0)
    if bias:
        want = want + attrs.get("beta", 1.0) * (feeds["c"] if bias == "c" else weights[bias])
    everywhere(quantized(model, plan), feeds, want)


@pytest.mark.parametrize("opset", [13, 17, 18, 21])
@pytest.mark.parametrize("shape", [[8, 16], [2, 8, 16], [16]])
def test_one_range_a_row_even_where_rows_differ_by_far(shape: list[int], opset: int) -> None:
    """With a bias ONNX Runtime 1.31 would merge a plain chain of Mul into an operator that takes one scale only."""
    nodes = [node("MatMul", "x w", "p", "layer"), node("Add", "p b", "y")]
    model = load(proto(nodes, [info("x", shape)], [info("y", None)], {"w": weight(16, 6), "b": weight(6)}, opset=opset))
    plan = planned(model, quant_strategy="ACWL")
    spec = plan.values["x"].spec
    assert (spec.granularity, spec.dynamic, plan.values["w"].spec.granularity) == ("channel", True, "tensor")
    x = feeds_for(model)["x"]
    if x.ndim > 1:
        x *= np.geomspace(1e-3, 1e3, x.shape[-2], dtype=np.float32)[:, None]
    want = rows(x) @ fake_weight(plan, model) + weight(6)
    for found in (reference(quantized(model, plan), {"x": x}), run(quantized(model, plan), {"x": x}, optimize=True)):
        error = np.abs(found["y"] - want).max(-1) / np.abs(want).max(-1)
        assert error.max() < 0.01  # of each row by itself


@pytest.mark.parametrize("strategy", ["ALWC", "ACWL"])
@pytest.mark.parametrize("fill", [0.0, 1e-38, 1e15])
def test_inputs_of_any_size_give_numbers(fill: float, strategy: str) -> None:
    model = product("MatMul", "x w", {"x": [2, 16]}, {"w": weight(16, 6) / 64})
    out = quantized(model, planned(model, quant_strategy=strategy))
    x = np.full((2, 16), fill, np.float32)
    found = run(out, {"x": x})["y"]
    assert np.isfinite(found).all()
    if fill != 1e-38:
        close(found, x @ (weight(16, 6) / 64), 0.05)


@settings(max_examples=25, deadline=None)
@given(sizes=st.tuples(*[st.integers(1, 9)] * 3), seed=st.integers(0, 99), strategy=st.sampled_from(["ALWC", "ACWL"]))
def test_products_of_any_size(sizes: tuple[int, int, int], seed: int, strategy: str) -> None:
    m, k, n = sizes
    model = product("MatMul", "x w", {"x": [m, k]}, {"w": weight(k, n, seed=seed)})
    plan, feeds = planned(model, quant_strategy=strategy), feeds_for(model, seed)
    want = (unsigned if strategy == "ALWC" else rows)(feeds["x"]) @ fake_weight(plan, model)
    for found in (reference(quantized(model, plan), feeds)["y"], run(quantized(model, plan), feeds)["y"]):
        assert np.abs(found - want).max() <= 0.02 * np.abs(feeds["x"]).max() * np.abs(weight(k, n, seed=seed)).max()


@pytest.mark.parametrize("dims", [[1, 3, 9], [1, 3, 6, 6], [1, 3, 4, 4, 4]])
def test_convolutions(dims: list[int]) -> None:
    kernel = [3] * (len(dims) - 2)
    weights = {"w": weight(5, 3, *kernel), "b": weight(5)}
    model = product("Conv", "x w b", {"x": dims}, weights, pads=[1] * 2 * len(kernel))
    out, feeds = quantized(model, planned(model)), feeds_for(model)
    assert "ConvInteger" in ran(out)
    close(run(out, feeds)["y"], run(model, feeds)["y"], 0.03)


# -- what is shared --------------------------------------------------------------------------------------------------


def test_what_several_layers_read_is_made_once() -> None:
    nodes = [node("MatMul", "x w", "a", "one"), node("MatMul", "x v", "b", "two"), node("MatMul", "a v", "c", "three")]
    ins, outs = [info("x", [4, 8])], [info(k, None) for k in "abc"]
    model = load(proto(nodes, ins, outs, {"w": weight(8, 8), "v": weight(8, 8, seed=1)}))
    out = quantized(model, planned(model))
    counts = out.op_counts()
    assert (counts["MatMulInteger"], counts["DynamicQuantizeLinear"]) == (3, 2)
    assert [k for k in out.graph.initializers if k.startswith("v_q")] == ["v_q"]
    assert [o.name for o in out.outputs] == ["a", "b", "c"]


def test_a_weight_on_both_sides_is_stored_in_both_forms() -> None:
    nodes = [node("MatMul", "w x", "a", "left"), node("MatMul", "x w", "y", "right")]
    model = load(proto(nodes, [info("x", [8, 8])], [info("a", None), info("y", None)], {"w": weight(8, 8)}))
    plan, feeds = planned(model, quantize_granularity="tensor-wise"), feeds_for(model)
    out = quantized(model, plan)
    real = fake_weight(plan, model)
    close(run(out, feeds)["a"], real @ signed(feeds["x"]))
    close(run(out, feeds)["y"], unsigned(feeds["x"]) @ real)


def test_a_plan_read_back_writes_the_same_file() -> None:
    for strategy in ("ALWC", "ACWL"):
        model = load(_sentence())
        plan = planned(model, quant_strategy=strategy)
        again = Plan.from_json(plan.to_json())
        assert again == plan
        assert to_bytes(quantized(model, again)) == to_bytes(quantized(model, plan))


@pytest.mark.parametrize(
    "change",
    [{"axis": 0}, {"granularity": "group", "group_size": 4}, {"bits": 16}, {"symmetric": False}, {"signed": False}],
)
def test_a_weight_that_cannot_be_multiplied_in_integers_is_refused(change: dict[str, Any]) -> None:
    model = product("MatMul", "x w", {"x": [5, 16]}, {"w": weight(16, 6)})
    found = planned(model).to_json()
    found["values"]["w"]["spec"] |= {"narrow": False} | change
    with pytest.raises(
        PlanError, match=r"layer 'layer' multiplies.*'w' must be signed, symmetric.*along axis 1; the plan"
    ):
        quantized(model, Plan.from_json(found))


# -- tables ----------------------------------------------------------------------------------------------------------


def _sentence(words: int = 700, width: int = 96) -> onnx.ModelProto:
    """A table, a product with it turned round, as language models tie them."""
    nodes = [node("Gather", "t i", "e", "table"), node("Gemm", "e t", "y", "head", transB=1)]
    ins, outs = [info("i", ["n"], onnx.TensorProto.INT64)], [info("y", None), info("e", None)]
    return proto(nodes, ins, outs, {"t": weight(words, width)})


def test_rows_of_a_table_are_gathered_as_integers() -> None:
    model = load(_sentence())
    plan = planned(model)
    assert plan.nodes["table"].roles == ("weight", "keep") and plan.values["t"].spec.axis == 0
    out = quantized(model, plan)
    i = np.array([0, 699, -1, 5, 5])
    for found in (reference(out, {"i": i}), run(out, {"i": i}), run(out, {"i": i}, optimize=True)):
        assert np.array_equal(found["e"], fake_weight(plan, model, "t")[i])
    assert "DequantizeLinear" not in ran(out)
    assert len(to_bytes(out)) < 0.6 * len(to_bytes(model))  # twice in 8 bits: in rows, and turned round


def test_a_table_with_one_scale_and_two_readers() -> None:
    nodes = [node("Gather", "t i", "a", "one"), node("Gather", "t j", "y", "two")]
    ints = onnx.TensorProto.INT64
    ins = [info("i", [2, 3], ints), info("j", [], ints)]
    model = load(proto(nodes, ins, [info("a", None), info("y", None)], {"t": weight(700, 96)}))
    plan = planned(model, quant_strategy="ACWL")
    out = quantized(model, plan)
    feeds = {"i": np.arange(6).reshape(2, 3), "j": np.array(7)}
    real = fake_weight(plan, model, "t")
    found = run(out, feeds)
    assert np.array_equal(found["a"], real[feeds["i"]]) and np.array_equal(found["y"], real[7])
    assert len(to_bytes(out)) < 0.3 * len(to_bytes(model))


# -- recurrent -------------------------------------------------------------------------------------------------------


def _recurrent(op: str, direction: str, inputs: str = "x w r b", outputs: str = "y h", **weights: Any):
    dirs, gates = (2 if direction == "bidirectional" else 1), {"LSTM": 4, "GRU": 3}[op] * 16
    made = {"w": weight(dirs, gates, 8), "r": weight(dirs, gates, 16, seed=1), "b": weight(dirs, 2 * gates, scale=0.1)}
    nodes = [node(op, inputs, outputs, "layer", hidden_size=16, direction=direction)]
    shapes = {"x": [5, 2, 8], "h0": [dirs, 2, 16], "c0": [dirs, 2, 16]}
    ins = [info(k, shapes[k]) for k in inputs.split() if k in shapes]
    return load(proto(nodes, ins, [info(k, None) for k in outputs.split()], made | weights))


@pytest.mark.parametrize("grain", ["channel-wise", "tensor-wise"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_lstm(direction: str, grain: str) -> None:
    model = _recurrent("LSTM", direction)
    out = quantized(model, planned(model, quantize_granularity=grain))
    assert ran(out) == {"DynamicQuantizeLSTM"}
    assert out.ir.opset_imports["com.microsoft"] == 1
    feeds = feeds_for(model)
    found, want = run(out, feeds), run(model, feeds)
    assert {k: v.shape for k, v in found.items()} == {k: v.shape for k, v in want.items()}
    for key in want:
        close(found[key], want[key], 0.05)


def test_lstm_with_all_its_inputs() -> None:
    lens = np.array([5, 3], np.int32)
    model = _recurrent("LSTM", "forward", "x w r b lens h0 c0 p", "y h c", lens=lens, p=weight(1, 48, seed=3))
    out, feeds = quantized(model, planned(model)), feeds_for(model)
    found, want = run(out, feeds), run(model, feeds)
    assert not want["y"][3:, :, 1].any() and not found["y"][3:, :, 1].any()
    for key in want:
        close(found[key], want[key], 0.05)


def test_lstm_whose_sequence_nobody_asks_for() -> None:
    made = proto(
        [onnx.helper.make_node("LSTM", ["x", "w", "r"], ["", "h"], name="layer", hidden_size=16)],
        [info("x", [5, 2, 8])], [info("h", None)], {"w": weight(1, 64, 8), "r": weight(1, 64, 16, seed=1)},
    )  # fmt: skip
    model = load(made)
    out, feeds = quantized(model, planned(model)), feeds_for(model)
    close(run(out, feeds)["h"], run(model, feeds)["h"], 0.05)


def test_lstm_with_time_behind_the_batch_stays_float() -> None:
    made = proto(
        [node("LSTM", "x w r", "y", "layer", hidden_size=16, layout=1)],
        [info("x", [2, 5, 8])], [info("y", None)], {"w": weight(1, 64, 8), "r": weight(1, 64, 16)},
    )  # fmt: skip
    plan = make_plan(load(made), QuantConfig(quant_type="dynamic"), TARGETS["onnxruntime"])
    assert "only if: recurrent weights" in plan.nodes["layer"].reason


@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_gru_keeps_its_weights_small_and_computes_in_float(direction: str) -> None:
    model = _recurrent("GRU", direction)
    plan = planned(model)
    assert plan.nodes["layer"].roles == ("keep", "weight", "weight", "keep")
    assert "weights stored in 8 bits, computed in float" in plan.nodes["layer"].reason
    out, feeds = quantized(model, plan), feeds_for(model)
    assert ran(out) == {"GRU"}
    for key, want in run(model, feeds).items():
        close(run(out, feeds)[key], want, 0.05)


# -- OpenVINO --------------------------------------------------------------------------------------------------------


def test_openvino_gets_integer_weights_and_multiplies_integers_by_itself() -> None:
    pytest.importorskip("openvino")
    model = product("MatMul", "x w", {"x": [4, 384]}, {"w": weight(384, 400)})
    out = quantized(model, planned(model, "openvino"))
    assert out.op_counts() == {"DequantizeLinear": 1, "MatMul": 1}
    runner, feeds = open_runner("openvino", out), feeds_for(model)
    assert [e.integer for e in runner.executed() if e.op == "FullyConnected"] == [True]
    close(runner.run(feeds)["y"], feeds["x"] @ weight(384, 400), 0.03)
