"""Models without their weights: nothing lost, nothing copied, nothing too large."""

from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from fewbit.engines import open_runner
from fewbit.graph.files import from_proto, load_model
from fewbit.graph.light import element_type, light_proto, read_nodes, self_contained
from tests.engines.graphs import looped, proto, quantized_conv

X = {"x": np.ones((1, 20), np.float32)}


def matmul(weight: onnx.TensorProto, scale: float | None = None) -> onnx.ModelProto:
    """y = x·w, w dequantized if there is a scale."""
    nodes = [helper.make_node("MatMul", ["x", "w" if scale is None else "wf"], ["y"], name="mm")]
    inits = [weight]
    if scale is not None:
        nodes.insert(0, helper.make_node("DequantizeLinear", ["w", "s"], ["wf"], name="dq"))
        inits.append(numpy_helper.from_array(np.float32(scale), "s"))
    info = helper.make_tensor_value_info
    n, k = weight.dims[1], weight.dims[0]
    graph = helper.make_graph(
        nodes, "g", [info("x", TensorProto.FLOAT, [2, k])], [info("y", TensorProto.FLOAT, [2, n])], inits
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def large(rng: np.random.Generator) -> onnx.TensorProto:
    return numpy_helper.from_array(rng.standard_normal((64, 64)).astype(np.float32), "w")


def test_weights_leave_the_message_and_are_not_copied(rng: np.random.Generator) -> None:
    model = from_proto(matmul(large(rng)))
    message, arrays = light_proto(model)
    assert len(message) < 1000 and list(arrays) == ["w"]
    own = model.graph.initializers["w"].const_value
    assert own is not None and np.shares_memory(arrays["w"], own.numpy())


def test_the_model_stays_as_it_is(rng: np.random.Generator) -> None:
    model = from_proto(matmul(large(rng)))
    before = model.digest()
    light_proto(model, max_proto=0)
    assert model.digest() == before


def test_a_weight_that_nobody_uses_does_not_stop_the_engine(rng: np.random.Generator) -> None:
    made = matmul(large(rng))
    made.graph.initializer.append(numpy_helper.from_array(np.ones(1000, np.float32), "idle"))
    model = from_proto(made)
    assert "idle" in model.graph.initializers and set(light_proto(model)[1]) == {"w"}
    x = np.ones((2, 64), np.float32)
    answer = open_runner("onnxruntime", model).run({"x": x})["y"]
    np.testing.assert_allclose(answer, x @ numpy_helper.to_array(made.graph.initializer[0]), rtol=1e-4, atol=1e-4)


def test_small_weights_stay_in_the_message() -> None:
    _, arrays = light_proto(from_proto(quantized_conv()))
    assert set(arrays) == set()  # 576 bytes of int8


@pytest.mark.parametrize("bits", [4, 8])
def test_integer_weights_give_the_same_answer(rng: np.random.Generator, bits: int) -> None:
    q = rng.integers(-8, 8, (64, 64)).astype(np.int8)
    kind = {4: TensorProto.INT4, 8: TensorProto.INT8}[bits]
    model = from_proto(matmul(helper.make_tensor("w", kind, (64, 64), q.ravel()), 0.1))
    _, arrays = light_proto(model)
    assert element_type(arrays["w"]) == kind
    x = rng.standard_normal((2, 64)).astype(np.float32)
    got = open_runner("onnxruntime", model, optimize=False).run({"x": x})["y"]
    np.testing.assert_allclose(got, x @ (q * np.float32(0.1)), rtol=1e-5, atol=1e-5)


def test_4_bit_weights_are_handed_over_packed(rng: np.random.Generator) -> None:
    q = rng.integers(-8, 8, (64, 64)).astype(np.int8)
    tensor = helper.make_tensor("w", TensorProto.INT4, (64, 64), q.ravel())
    _, arrays = light_proto(from_proto(matmul(tensor, 0.1)))
    packed = arrays["w"].view(np.uint8).ravel()[:2048]
    low, high = q.view(np.uint8).ravel()[0::2] & 15, q.view(np.uint8).ravel()[1::2] & 15
    np.testing.assert_array_equal(packed, low | high << 4)
    assert arrays["w"].dtype == ml_dtypes.int4 and arrays["w"].shape == (64, 64)


def test_weights_of_bodies_stay_inside_unless_too_large() -> None:
    message, arrays = light_proto(looped())
    assert len(message) > 1600 and not arrays
    message, arrays = light_proto(looped(), max_proto=1000)
    assert len(message) < 1600 and [a.shape for a in arrays.values()] == [(20, 20)]


def test_weights_moved_out_of_bodies_are_found_by_the_engine() -> None:
    message, arrays = light_proto(looped(3), max_proto=1000)
    options = ort.SessionOptions()
    options.add_external_initializers(list(arrays), [ort.OrtValue.ortvalue_from_numpy(a) for a in arrays.values()])
    session = ort.InferenceSession(message, options, providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, X)[0], np.full((1, 20), 8.0))


def external(folder: Path, rng: np.random.Generator) -> Path:
    """A file whose weights, small ones too, lie in another one beside it."""
    model = matmul(large(rng))
    model.graph.node.append(helper.make_node("Add", ["y", "b"], ["z"], name="add"))
    model.graph.initializer.append(numpy_helper.from_array(np.ones(64, np.float32), "b"))
    model.graph.output[0].name = "z"
    onnx.save(model, folder / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    return folder / "m.onnx"


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_external_weights_reach_the_engine(tmp_path: Path, rng: np.random.Generator, engine: str) -> None:
    pytest.importorskip(engine)
    model = load_model(external(tmp_path, rng))
    w = np.asarray(model.graph.initializers["w"].const_value)
    x = rng.standard_normal((2, 64)).astype(np.float32)
    got = open_runner(engine, model, optimize=False).run({"x": x})["z"]
    np.testing.assert_allclose(got, x @ w + 1, rtol=1e-4, atol=1e-4)


def test_self_contained_is_a_message_or_a_file_that_goes(tmp_path: Path, rng: np.random.Generator) -> None:
    model = load_model(external(tmp_path, rng))
    with self_contained(model) as source:
        assert isinstance(source, bytes)
        whole = onnx.load_from_string(source)
        assert all(t.data_location != TensorProto.EXTERNAL for t in whole.graph.initializer)
    with self_contained(model, max_proto=1000) as source:
        assert isinstance(source, Path)
        again = load_model(source)
        assert again.digest() == model.digest()
    assert not source.parent.exists()


def test_nodes_are_read_back_with_their_types(tmp_path: Path) -> None:
    onnx.save(quantized_conv(), tmp_path / "q.onnx")
    nodes = {name: (op, types) for name, op, types in read_nodes(tmp_path / "q.onnx")}
    assert nodes["wd"] == ("DequantizeLinear", ["int8", "float", "int8"])
    assert nodes["c"] == ("Conv", ["float", "float"])  # not in the file: what DequantizeLinear makes
    assert nodes["y"] == ("DequantizeLinear", ["uint8", "float", "uint8"])


def test_types_that_nothing_tells_are_empty(tmp_path: Path) -> None:
    model = proto("conv")
    model.graph.node.insert(0, helper.make_node("Mystery", [], ["m"], domain="nowhere"))
    model.graph.node.append(helper.make_node("Relu", ["m"], ["m2"]))
    onnx.save(model, tmp_path / "m.onnx")
    assert read_nodes(tmp_path / "m.onnx")[0][1] == "nowhere.Mystery"
    assert read_nodes(tmp_path / "m.onnx")[-1][2] == [""]
