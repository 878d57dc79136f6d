"""Tables whose rows are gathered as integers in a network with measured ranges, and what is said where they are not."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

import fewbit as fb
from fewbit.engines import open_runner
from fewbit.graph.files import to_bytes
from fewbit.graph.model import Model
from tests.models import info, load, node, proto, weight

IDS = info("i", ["n"], TensorProto.INT64)
FEED = {"i": np.array([0, 5, 699, 5, -1, 12])}
HEAD = [node("MatMul", "e w", "m", "product"), node("Relu", "m", "y", "relu")]
WEIGHTS = {"t": weight(700, 96), "w": weight(96, 32)}


def network(*more: Any, outputs: str = "y", inputs: tuple[Any, ...] = (IDS,), **weights: Any) -> Model:
    """i → Gather(t) = e → MatMul(w) → Relu → y, and more."""
    nodes = [node("Gather", "t i", "e", "table"), *HEAD, *more]
    return load(proto(nodes, list(inputs), [info(k, None) for k in outputs.split()], WEIGHTS | weights))


def planned(model: Model, feed: Any = None, **words: Any) -> fb.Plan:
    plan = fb.make_plan(model, effort="fast", **words)
    return fb.calibrate(model, plan, [feed or FEED])


@pytest.mark.parametrize("mode", ["smart", "full"])
@pytest.mark.parametrize("target", ["onnxruntime", "openvino"])
def test_a_table_becomes_integer_beside_layers_with_measured_ranges(target: str, mode: str) -> None:
    if find_spec(target) is None:
        pytest.skip(f"{target} is not installed")
    model = network()
    plan = planned(model, target=target, quantize_mode=mode)
    assert plan.nodes["table"].roles == ("weight", "keep") and plan.nodes["product"].quantized
    out = fb.apply(model, plan)
    assert len(to_bytes(out)) < 0.3 * len(to_bytes(model))
    got, want = (open_runner("onnxruntime", m).run(FEED)["y"] for m in (out, model))
    assert np.square(got - want).mean() < 1e-3 * np.square(want).mean()
    executed = open_runner(target, out).executed()
    assert any(e.op == "Gather" and "8" in e.types.split()[0] for e in executed), executed


def test_only_rows_in_use_are_dequantized() -> None:
    model = network()
    executed = open_runner("onnxruntime", fb.apply(model, planned(model))).executed()
    found = {e.op.split(".")[-1] for e in executed}
    assert "DequantizeLinear" not in found and "MatMulIntegerToFloat" in found


def test_what_reads_rows_in_float_reads_them_unrounded() -> None:
    """Only the product reads them rounded a second time, to the format of activations."""
    model = network(node("Exp", "e", "z", "exp"), outputs="y z e")
    plan = planned(model)
    out = open_runner("onnxruntime", fb.apply(model, plan)).run(FEED)
    steps = np.abs(WEIGHTS["t"]).max(1) / 127
    np.testing.assert_allclose(out["e"], WEIGHTS["t"][FEED["i"]], atol=0.51 * float(steps.max()))
    whole = out["e"] / steps[FEED["i"]][:, None]
    np.testing.assert_allclose(whole, np.rint(whole), atol=1e-3)
    np.testing.assert_allclose(out["z"], np.exp(out["e"]), rtol=1e-4)


def test_support_operators_do_not_convert_its_rows() -> None:
    """Their rows are float: an Add in front of an integer layer would only be converted for."""
    model = load(proto([node("Gather", "t i", "e", "table"), node("Gather", "t j", "f", "second"),
                        node("Add", "e f", "s", "add"), node("MatMul", "s w", "y", "product")],
                       [IDS, info("j", ["n"], TensorProto.INT64)], [info("y", None)], WEIGHTS))  # fmt: skip
    plan = fb.make_plan(model)
    assert plan.nodes["table"].quantized and plan.nodes["second"].quantized and plan.nodes["product"].quantized
    assert plan.nodes["add"].reason == "support operator; its input 'e' comes from float"


@pytest.mark.parametrize(("bits", "size"), [(4, 0.3), (16, 0.6)])
def test_other_widths(bits: int, size: float) -> None:
    model = network()
    plan = planned(model, weight_bit_num=bits, quantize_mode="full")
    assert plan.values["t"].spec.bits == bits
    out = fb.apply(model, plan)
    assert len(to_bytes(out)) < size * len(to_bytes(model))
    got = open_runner("onnxruntime", out).run(FEED)["y"]
    want = open_runner("onnxruntime", model).run(FEED)["y"]
    assert np.corrcoef(got.ravel(), want.ravel())[0, 1] > 0.98


def test_two_readers_share_one_table() -> None:
    second = [node("Gather", "t j", "f", "second")]
    model = network(*second, outputs="y f", inputs=(IDS, info("j", ["n"], TensorProto.INT64)))
    plan = planned(model, {**FEED, "j": FEED["i"]})
    assert plan.nodes["table"].quantized and plan.nodes["second"].quantized
    assert len(to_bytes(fb.apply(model, plan))) < 0.3 * len(to_bytes(model))


@pytest.mark.parametrize(
    ("more", "outputs", "words", "who"),
    [
        ([node("MatMul", "t w", "z", "head")], "y z", {}, "head"),
        ([node("Gather", "t i", "z", "columns", axis=1)], "y z", {}, "columns"),
        ([node("Gather", "t i", "z", "second")], "y z", {"exclude_layers": ["second"]}, "second"),
        ([], "y t", {}, "an output of the network"),
    ],
    ids=["product", "columns", "excluded", "output"],
)
def test_a_table_that_is_needed_in_float_stays_so(more: Any, outputs: str, words: dict[str, Any], who: str) -> None:
    verdict = fb.make_plan(network(*more, outputs=outputs), **words).nodes["table"]
    assert not verdict.quantized
    assert verdict.reason == f"its table 't' is read by {who} too, which needs it in float"


def test_what_has_only_constants_to_round_says_which_and_what_would_do() -> None:
    small = load(proto([node("Gather", "t i", "y", "table")], [IDS], [info("y", None)], {"t": weight(7, 96)}))
    assert fb.make_plan(small).nodes["table"].reason == (
        "what it reads in float32 is constant: t; Gather of a constant is integer only if: table of 65536 or more"
    )
    shape = [info("s", [2], TensorProto.INT64)]
    other = load(proto([node("Reshape", "t s", "y", "turn")], shape, [info("y", None)], {"t": weight(7, 96)}))
    assert fb.make_plan(other).nodes["turn"].reason == "what it reads in float32 is constant: t"
