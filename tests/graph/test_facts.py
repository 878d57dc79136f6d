import numpy as np
import pytest
from onnx import numpy_helper

from fewbit.errors import ModelError
from fewbit.graph.facts import check_finite_weights, facts, reduce_axis, weight_axis
from tests.models import branches, conv_relu, depthwise, gemm, info, load, matmul, node, proto, weight


def transposed(group: int = 1):
    made = proto([node("ConvTranspose", "x w", "y", "up", group=group)], [info("x", [1, 4, 3, 3])],
                 [info("y", None)], {"w": weight(4, 3, 2, 2)})  # fmt: skip
    return load(made).node("up")


def batched():
    made = proto(
        [node("MatMul", "x w", "y", "mm")], [info("x", [2, 3, 4])], [info("y", [2, 3, 5])], {"w": weight(2, 4, 5)}
    )
    return load(made).node("mm")


def vector():
    made = proto([node("MatMul", "x w", "y", "mm")], [info("x", [3, 4])], [info("y", [3])], {"w": weight(4)})
    return load(made).node("mm")


@pytest.mark.parametrize(
    ("make", "out", "summed", "channels"),
    [
        (lambda: load(conv_relu()).node("conv"), 0, None, 4),
        (lambda: load(depthwise()).node("depthwise"), 0, None, 4),
        (transposed, 1, None, 3),
        (lambda: transposed(2), 1, None, 6),
        (lambda: load(gemm(trans=1)).node("fc"), 0, 1, 5),
        (lambda: load(gemm(trans=0)).node("fc"), 1, 0, 5),
        (lambda: load(matmul()).node("mm"), 1, 0, 8),
        (batched, 2, 1, 5),
        (vector, 0, None, 4),
        (lambda: load(conv_relu()).node("relu"), None, None, None),
    ],
)
def test_axes_of_the_weight(make, out, summed, channels):
    made = make()
    assert (weight_axis(made), reduce_axis(made), facts(made).channels) == (out, summed, channels)


def test_facts_of_a_convolution():
    found = facts(load(depthwise()).node("depthwise"))
    assert (found.op, found.groups, found.depthwise) == ("Conv", 4, True)
    assert found.shapes == ((1, 4, 6, 6), (4, 1, 3, 3), (4,)) and found.ranks == (4, 4, 1)
    assert found.constant == (False, True, True)
    assert found.attrs == {"group": 4, "pads": (1, 1, 1, 1)}
    assert not facts(load(depthwise()).node("pointwise")).depthwise


def test_free_dimensions_and_unknown_shapes_are_none():
    assert facts(load(conv_relu()).node("conv")).shapes[0] == (None, 3, 6, 6)
    nodes = [node("Mystery", "x", "h", domain="mine"), node("Relu", "h", "y")]
    made = proto(nodes, [info("x", [2])], [info("y", None)], domains={"mine": 1})
    found = facts(load(made).node("relu_y"))
    assert found.shapes == (None,) and found.ranks == (None,)
    assert facts(load(made).nodes[0]).op == "mine.Mystery"


def test_inputs_left_out_count_but_have_nothing():
    made = proto([node("Clip", "x - hi", "y", "clip")], [info("x", [3])], [info("y", [3])], {"hi": np.float32(1)})
    found = facts(load(made).node("clip"))
    assert found.shapes == ((3,), None, ()) and found.constant == (False, False, True) and not found.is_const(1)


def test_bodies_are_no_facts():
    assert facts(load(branches()).node("choose")).attrs == {}


def test_a_weight_of_too_few_axes_has_no_channels():
    made = proto([node("Gemm", "x w", "y", "fc")], [info("x", [3, 4])], [info("y", None)], {"w": weight(4)})
    assert facts(load(made).node("fc")).channels is None


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_named(bad):
    made = conv_relu()
    broken = weight(4, 3, 3, 3)
    broken[1, 2, 0, 0] = bad
    made.graph.initializer[0].CopyFrom(numpy_helper.from_array(broken, "w"))
    model = load(made)
    for name in ("w", "w@conv"):
        with pytest.raises(ModelError, match=r"weight 'w' of layer 'conv' holds NaN or infinity; repair the model"):
            check_finite_weights(model, ["b", name])
    check_finite_weights(model, ["b", "x", "y", "not there"])
