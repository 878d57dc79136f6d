"""Builder: what it infers, what it computes when asked, and the names that it gives."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest

from fewbit.errors import ModelFormatError
from fewbit.graph.build import Builder, shape_of, told, type_of
from fewbit.graph.files import to_bytes


def test_types_and_shapes_are_known_at_once() -> None:
    b = Builder("net")
    x = b.input("data", (None, 3, 8, 8))
    (y,) = b.node("Conv", [x, b.constant(np.ones((4, 3, 3, 3), np.float32))], name="conv0", kernel_shape=(3, 3))
    assert shape_of(y) == (None, 4, 6, 6)
    assert type_of(y) == np.float32


def test_inputs_that_do_not_fit_are_our_error() -> None:
    b = Builder("net")
    x = b.input("data", (2, 3))
    with pytest.raises(
        ModelFormatError, match=r"layer 'product': MatMul cannot take inputs of shapes \(2, 3\), \(4, 5\)"
    ):
        b.node("MatMul", [x, b.constant(np.ones((4, 5), np.float32))], name="product")


def test_what_depends_on_constants_alone_can_be_asked() -> None:
    b = Builder("net")
    two = b.constant(np.asarray([2.0], np.float32))
    (four,) = b.node("Mul", [two, two], name="four")
    (six,) = b.node("Add", [four, two], name="six")
    (fed,) = b.node("Add", [six, b.input("data", (1,))], name="fed")
    found = b.data(six)
    assert found is not None and found.tolist() == [6]
    assert b.data(fed) is None


def test_inputs_that_are_missing_at_the_end_are_left_out() -> None:
    b = Builder("net")
    x = b.input("data", (2, 3))
    (y,) = b.node("Clip", [x, None, b.constant(6.0)], name="clip")
    (z,) = b.node("Gemm", [y, b.constant(np.ones((3, 4), np.float32)), None], name="gemm")
    made = [v.producer() for v in (y, z)]
    assert [len(n.inputs) for n in made if n is not None] == [3, 2]


def test_long_rows_of_constants_can_be_asked() -> None:
    b = Builder("net")
    value = one = b.constant(1.0)
    for _ in range(1500):
        (value,) = b.node("Add", [value, one], name="add")
    found = b.data(value)
    assert found is not None and found == 1501


def test_constants_that_do_not_fit_have_no_data() -> None:
    b = Builder("net")
    (y,) = b.node("Gather", [b.constant([1, 2]), b.constant(np.asarray([7]))], name="far")
    assert b.data(y) is None


def test_what_is_huge_is_not_computed() -> None:
    b = Builder("net")
    (wide,) = b.node("Expand", [b.constant(np.float32(0)), b.constant([1 << 20, 1 << 20])], name="wide")
    (one,) = b.node("ReduceMax", [wide], name="one", keepdims=0)
    assert b.data(wide) is None
    assert b.data(one) is None


def test_small_constants_are_kept_once_and_named_ones_by_their_name() -> None:
    b = Builder("net")
    assert b.constant(1.0) is b.constant(1.0)
    assert b.constant(1.0) is not b.constant(1.0, "weight")
    assert b.constant(1.0, "weight").name == "weight_2"


def test_a_value_can_take_another_name_once() -> None:
    b = Builder("net")
    (y,) = b.node("Relu", [b.input("data", (1,))], name="relu")
    b.rename(y, "relu_inner")
    b.rename(y, "data")
    assert y.name == "data_2"


def test_outputs_have_the_names_that_are_asked_for() -> None:
    b = Builder("net")
    x = b.input("data", (2, 2))
    (y,) = b.node("Relu", [x], name="relu", outputs=["relu_output"])
    (lost,) = b.node("Abs", [x], name="lost")
    model = b.finish([(y, "relu_output"), (y, "again"), (x, "same")])
    assert [o.name for o in model.outputs] == ["relu_output", "again", "same"]
    assert [n.op_type for n in model.nodes] == ["Relu", "Identity", "Identity"]
    assert lost.name not in {v.name for n in model.nodes for v in n.outputs}


def test_names_of_inputs_and_outputs_differ_and_engines_take_them() -> None:
    b = Builder("net")
    x, z = b.input("data", (2,)), b.input("relu_output", (2,))
    (y,) = b.node("Relu", [x], name="relu", outputs=["relu_output"])
    model = b.finish([(x, "data"), (y, "relu_output"), (x, "data"), (y, "relu_output"), (z, "relu_output")])
    names = ["data", "relu_output_2", "data_2", "relu_output_3", "relu_output"]
    assert [i.name for i in model.inputs] == ["data", "relu_output"]
    assert [o.name for o in model.outputs] == names
    session = ort.InferenceSession(to_bytes(model), providers=["CPUExecutionProvider"])
    fed = {"data": np.float32([-1, 2]), "relu_output": np.float32([3, 4])}
    found = dict(zip(names, session.run(names, fed), strict=True))
    assert {k: v.tolist() for k, v in found.items()} == {
        "data": [-1, 2], "relu_output_2": [0, 2], "data_2": [-1, 2], "relu_output_3": [0, 2], "relu_output": [3, 4],
    }  # fmt: skip


def test_what_is_known_wins_over_what_is_told() -> None:
    b = Builder("net")
    assert shape_of(told(b.input("data", (None, 3)), (5, 7))) == (5, 3)
