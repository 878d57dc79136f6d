"""Weights of every width come back to the last bit: in the reference, in both engines, whatever shares a scale."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from fewbit.core.params import QuantParams, weight_params
from fewbit.core.spec import QuantSpec
from fewbit.core.stored import StoredWeight
from fewbit.engines import open_runner
from fewbit.graph.files import from_proto, to_bytes
from fewbit.graph.model import Model
from fewbit.graph.unpack import Unpacking, levels, unpack, widths

GRAINS = {
    "tensor": {},
    "channel": {"granularity": "channel", "axis": 0},
    "last": {"granularity": "channel", "axis": 2},
    "group": {"granularity": "group", "axis": 1, "group_size": 4},
    "uneven": {"granularity": "group", "axis": 1, "group_size": 5},
}


def network(shape=(3, 8, 5)) -> Model:
    """y = x + 0 · nothing: a network that weights are added to."""
    x, y = (onnx.helper.make_tensor_value_info(n, 1, shape) for n in "xy")
    graph = onnx.helper.make_graph([onnx.helper.make_node("Add", ["x", "w"], ["y"], "add")], "g", [x], [y])
    graph.initializer.append(onnx.numpy_helper.from_array(np.zeros(shape, np.float32), "w"))
    return from_proto(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9))


def with_weight(stored: StoredWeight) -> Model:
    model = network(stored.q.shape)
    old = model.graph.initializers["w"]
    old.name = "old"
    taken = model.names()
    new = unpack(Unpacking(model, taken), stored)
    model.node("add").replace_input_with(1, new)
    model.drop_unused()
    model.graph.sort()
    return model


def stored_of(w, bits: int, grain: str, *, symmetric=True, signed=True, offset=False, half=False) -> StoredWeight:
    spec = QuantSpec(bits, signed=signed, symmetric=symmetric, **GRAINS[grain])
    params = weight_params(spec, w)
    if half:
        params = QuantParams(params.spec, params.scale.astype(np.float16).astype(np.float32), params.zero_point)
    moved = np.linspace(0.9, 1.1, params.scale.size, dtype=np.float32).reshape(params.scale.shape)
    return StoredWeight(params.quantize(w), params, moved if offset else None, moved - 1 if offset else None)


def answer(model: Model, engine: str) -> np.ndarray:
    """What the network adds to zeros, that is, the weight."""
    x = np.zeros([int(d) for d in model.inputs[0].shape], np.float32)
    if engine == "reference":
        return ReferenceEvaluator(onnx.load_from_string(to_bytes(model))).run(None, {"x": x})[0]
    return open_runner(engine, model, threads=1).run({"x": x})["y"]


@pytest.mark.parametrize("grain", GRAINS)
@pytest.mark.parametrize("bits", range(1, 17))
@pytest.mark.parametrize("engine", ["reference", "onnxruntime"])
def test_any_width_and_any_grain_comes_back_to_the_last_bit(rng, bits, grain, engine):
    w = rng.normal(size=(3, 8, 5)).astype(np.float32)
    for more in ({"symmetric": bits % 2 == 0}, {"symmetric": bits % 2 == 1, "offset": True}):
        stored = stored_of(w, bits, grain, **more)
        assert np.array_equal(answer(with_weight(stored), engine), stored.real())


@pytest.mark.parametrize("bits", [1, 3, 4, 8, 11, 16])
def test_openvino_unpacks_as_well(rng, bits):
    w = rng.normal(size=(3, 8, 5)).astype(np.float32)
    for grain in ("channel", "uneven"):
        stored = stored_of(w, bits, grain, symmetric=False)
        assert np.allclose(answer(with_weight(stored), "openvino"), stored.real(), rtol=1e-6, atol=1e-7)  # it uses fma


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 16), st.booleans(), st.integers(1, 40), st.data())
def test_unsigned_formats_and_odd_sizes(bits, signed, size, data):
    w = np.array(data.draw(st.lists(st.floats(-9, 9, width=32), min_size=size, max_size=size)), np.float32)
    stored = stored_of(w.reshape(1, size, 1), bits, "tensor", symmetric=False, signed=signed)
    assert np.array_equal(answer(with_weight(stored), "reference"), stored.real())


def test_scales_that_float16_holds_take_half_the_room(rng):
    w = rng.normal(size=(64, 8, 5)).astype(np.float32)
    whole, half = (with_weight(stored_of(w, 4, "channel", half=h)) for h in (False, True))
    assert half.graph.initializers["u1.s"].dtype == ir.DataType.FLOAT16
    assert whole.graph.initializers["u1.s"].dtype == ir.DataType.FLOAT
    stored = stored_of(w, 4, "channel", half=True)
    assert np.array_equal(answer(half, "onnxruntime"), stored.real())


@pytest.mark.parametrize("bits", range(1, 17))
def test_integers_take_no_more_than_their_bits(rng, bits):
    model = with_weight(stored_of(rng.normal(size=(64, 64, 8)).astype(np.float32), bits, "tensor"))
    held = [v.const_value for k, v in model.graph.initializers.items() if k.startswith("u1.q")]
    assert sum(t.nbytes for t in held) == 64 * 64 * 8 * bits / 8
    assert all(t.dtype in (ir.DataType.UINT8, ir.DataType.INT8, ir.DataType.INT16) for t in held)


def test_tables_and_shapes_are_there_once(rng):
    model = network()
    w = Unpacking(model, model.names())
    for _ in range(2):
        unpack(w, stored_of(rng.normal(size=(3, 8, 5)).astype(np.float32), 3, "tensor"))
    tables = [k for k, v in model.graph.initializers.items() if "." not in k and v.const_value.nbytes > 500]
    assert len(tables) == 2  # one for the plane of two bits, one for that of one bit


def test_onnxruntime_folds_it_all_at_load(rng):
    model = with_weight(stored_of(rng.normal(size=(3, 8, 5)).astype(np.float32), 5, "uneven", symmetric=False))
    ran = [e.op for e in open_runner("onnxruntime", model, threads=1).executed()]
    assert ran == ["Add"]


def test_planes():
    assert [widths(b) for b in (1, 3, 7, 8, 13)] == [[1], [2, 1], [4, 2, 1], [8], [8, 4, 1]]
    assert levels(np.array([-1, 1]), 1, True)[0].tolist() == [0, 1]
    assert levels(np.array([-4, 3]), 3, True)[0].tolist() == [0, 7]
