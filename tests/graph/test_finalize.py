from dataclasses import replace

import numpy as np
import onnx
import pytest

from fewbit.engines.base import open_runner
from fewbit.errors import UnsupportedModel
from fewbit.graph import normalize
from fewbit.graph.emit import emit_qdq
from fewbit.graph.files import to_bytes
from fewbit.graph.finalize import cancel_pairs, finalize, keep_apart, sum_behind
from tests.models import conv_relu, feeds_for, info, load, matmul, node, plan_for, proto, run


def chain(*, scale=0.5, zero=3, second=(0.5, 3), output=False) -> onnx.ModelProto:
    """x → Q → DQ → Q → DQ → y, the second pair with parameters of its own; `output`: the middle float is an output."""
    nodes = [
        node("QuantizeLinear", "x s z", "a", "q1"),
        node("DequantizeLinear", "a s z", "b", "dq1"),
        node("QuantizeLinear", "b s2 z2", "c", "q2"),
        node("DequantizeLinear", "c s2 z2", "y", "dq2"),
    ]
    weights = {"s": np.float32(scale), "z": np.uint8(zero), "s2": np.float32(second[0]), "z2": np.asarray(second[1])}
    weights["z2"] = weights["z2"] if weights["z2"].dtype != np.int64 else np.uint8(second[1])
    outputs = [info("y", [5]), *([info("b", [5])] if output else [])]
    return proto(nodes, [info("x", [5])], outputs, weights)


def test_a_pair_that_undoes_itself_goes():
    model = load(chain())
    feeds = feeds_for(model)
    want = run(model, feeds)["y"]
    assert cancel_pairs(model) == 1
    assert [n.name for n in model.nodes] == ["q1", "dq2"]
    np.testing.assert_array_equal(run(model, feeds)["y"], want)
    assert cancel_pairs(model) == 0


@pytest.mark.parametrize("second", [(0.25, 3), (0.5, 4), (0.5, np.int8(3))])
def test_a_pair_that_changes_anything_stays(second):
    model = load(chain(second=second))
    assert cancel_pairs(model) == 0 and len(model.nodes) == 4


def test_a_value_that_is_an_output_survives_the_removal():
    model = load(chain(output=True))
    feeds = feeds_for(model)
    want = run(model, feeds)
    assert cancel_pairs(model) == 1
    assert [n.name for n in model.nodes] == ["q1", "dq1", "dq2"]
    for key, value in run(model, feeds).items():
        np.testing.assert_array_equal(value, want[key])


def test_how_it_was_made_is_written_into_the_file():
    model = load(conv_relu())
    out = finalize(emit_qdq(model, plan_for(model)), 13, {"fewbit.version": "1", "fewbit.target": "x"})
    made = onnx.load_from_string(to_bytes(out))
    assert made.producer_name == "fewbit"
    assert {p.key: p.value for p in made.metadata_props} == {"fewbit.version": "1", "fewbit.target": "x"}
    assert model.metadata == {}


@pytest.mark.parametrize("opset", [17, 19, 21, 23])
def test_the_file_format_fits_the_opset(opset):
    made = conv_relu(opset=opset)
    made.ir_version = 4
    out = finalize(load(made), 13, {})
    least = next(v for o, v in normalize.IR_FOR_OPSET if opset >= o)
    assert out.ir.ir_version == least
    onnx.checker.check_model(onnx.load_from_string(to_bytes(out)), full_check=True)


@pytest.mark.parametrize("words", [{"bit_num": 16}, {"quantize_granularity": "group-wise", "group_size": 8}])
def test_formats_that_the_opset_cannot_hold_are_refused(monkeypatch, words):
    def fail(*_):
        raise RuntimeError("no adapter")

    model = load(matmul())
    plan = plan_for(model, **words)
    plan = replace(plan, values={k: replace(v, storage="") for k, v in plan.values.items()})
    monkeypatch.setattr(normalize.onnx.version_converter, "convert_version", fail)
    with pytest.raises(
        UnsupportedModel, match=r"needs opset 21, but the model is at 17.*raising it to 21 failed \(no adapter\)"
    ):
        finalize(emit_qdq(model, plan), 13, {})


def test_a_target_that_needs_more_than_the_model_has_is_told():
    with pytest.raises(UnsupportedModel, match="needs opset 19, but the model is at 17"):
        finalize(load(conv_relu()), 19, {})


def test_a_layer_that_stays_float_is_kept_apart_from_the_q_behind_it_under_a_new_name():
    nodes = [
        node("QuantizeLinear", "x s z", "a", "q1"),
        node("DequantizeLinear", "a s z", "b", "dq1"),
        node("AveragePool", "b", "p", "pool", kernel_shape=[2, 2]),
        node("QuantizeLinear", "p s z", "c", "q2"),
        node("DequantizeLinear", "c s z", "d", "dq2"),
        node("Relu", "d", "p_apart", "relu"),
    ]
    made = proto(nodes, [info("x", [1, 1, 4, 4])], [info("p_apart", [1, 1, 3, 3])],
                 {"s": np.float32(0.5), "z": np.uint8(3)})  # fmt: skip
    assert keep_apart(load(made), ["AveragePool"], []) == keep_apart(load(made), [], ["pool"]) == 0
    model = load(made)
    assert keep_apart(model, ["AveragePool"], ["pool"]) == 1
    q2 = model.node("q2").inputs[0]
    assert q2.producer().op_type == "Sum" and q2.name == "p_apart_2"
    onnx.checker.check_model(onnx.load_from_string(to_bytes(model)))
    feeds = feeds_for(model)
    np.testing.assert_array_equal(run(model, feeds)["p_apart"], run(made, feeds)["p_apart"])


def test_only_what_is_added_to_products_of_dequantized_values_becomes_a_sum():
    nodes = [
        node("QuantizeLinear", "x s z", "a", "q"),
        node("DequantizeLinear", "a s z", "b", "dq"),
        node("MatMul", "b w", "m", "product"),
        node("Add", "c m", "n", "bias"),
        node("Add", "n b", "o", "residual"),
        node("MatMul", "o w", "p", "float_product"),
        node("Add", "p c", "y", "float_bias"),
    ]
    weights = {"s": np.float32(0.5), "z": np.uint8(3), "w": np.eye(4, dtype=np.float32), "c": np.float32([1, 2, 3, 4])}
    made = proto(nodes, [info("x", [3, 4])], [info("y", [3, 4])], weights)
    model = load(made)
    assert sum_behind(model) == 1
    assert [n.op_type for n in model.nodes if n.op_type in ("Sum", "Add")] == ["Sum", "Add", "Add"]
    onnx.checker.check_model(onnx.load_from_string(to_bytes(model)))
    feeds = feeds_for(model)
    np.testing.assert_array_equal(run(model, feeds)["y"], run(made, feeds)["y"])


AROUND = {
    "a factor": ("", "Mul:two"),
    "a factor, Relu": ("", "Mul:two Relu"),
    "a factor of each channel": ("", "Mul:each"),
    "a sum of each channel": ("", "Add:each"),
    "BatchNormalization": ("", "BatchNormalization:one,one,one,one"),
    "Identity": ("", "Identity"),
    "Dropout": ("", "Dropout"),
    "MaxPool": ("", "MaxPool"),
    "Relu, MaxPool": ("", "Relu MaxPool"),
    "Transpose": ("", "Transpose"),
    "Pad in front": ("Pad:pads", "Relu"),
    "MaxPool in front": ("MaxPool", ""),
    "Transpose in front": ("Transpose", ""),
    "Identity in front": ("Identity", "Identity"),
}
"""What stands before and behind a convolution that is to stay float, and the optimizer merges or moves away."""

CONSTANTS = {
    "s": np.float32(0.02), "z": np.uint8(128), "two": np.float32(2), "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
    "each": np.linspace(0.5, 1.5, 4, dtype=np.float32).reshape(4, 1, 1), "one": np.full(4, 1.25, np.float32),
}  # fmt: skip
ATTRIBUTES = {"MaxPool": {"kernel_shape": [2, 2]}, "Transpose": {"perm": [0, 1, 3, 2]}}


def surrounded(before: str, behind: str) -> onnx.ModelProto:
    words = ["Conv:w,b", *behind.split()]
    nodes, value = [node("QuantizeLinear", "x s z", "xq"), node("DequantizeLinear", "xq s z", "xdq")], "xdq"
    for i, word in enumerate([*before.split(), *words]):
        op, _, more = word.partition(":")
        name = "conv" if op == "Conv" else f"n{i}"
        nodes.append(node(op, " ".join((value, *more.split(","))), f"v{i}", name, **ATTRIBUTES.get(op, {})))
        value = f"v{i}"
    nodes += [node("QuantizeLinear", f"{value} s z", "yq", "last"), node("DequantizeLinear", "yq s z", "y")]
    rng = np.random.default_rng(0)
    weights = {"w": rng.normal(size=(4, 4, 3, 3)).astype(np.float32), "b": rng.normal(size=4).astype(np.float32)}
    return proto(nodes, [info("x", [2, 4, 8, 8])], [info("y", [None] * 4)], {**CONSTANTS, **weights})


@pytest.mark.parametrize("around", AROUND)
def test_the_engine_leaves_a_float_layer_float_whatever_stands_around_it(around):
    made = surrounded(*AROUND[around])
    model = load(made)
    model.graph.sort()
    feeds = feeds_for(model)
    want = run(model, feeds, optimize=False)["y"]
    assert keep_apart(model, ["Conv"], ["conv"]) == 1
    assert model.node("last").inputs[0].producer().op_type == "Sum"
    convs = [e.integer for e in open_runner("onnxruntime", model, threads=1).executed() if "Conv" in e.op]
    assert convs == [False]
    far = run(model, feeds)["y"] != want  # numbers at the edge between two steps may fall on either side
    assert far.mean() < 0.01, f"{far.mean():.3f} of the outputs differ"


@pytest.mark.parametrize("behind", ["Sigmoid", "Mul:two Sigmoid"])
def test_nothing_is_put_behind_what_the_engine_does_not_merge(behind):
    assert keep_apart(load(surrounded("", behind)), ["Conv"], ["conv"]) == 0


def test_nothing_is_put_behind_a_layer_that_reads_no_integers():
    assert keep_apart(load(surrounded("Sigmoid", "Mul:two")), ["Conv"], ["conv"]) == 0
