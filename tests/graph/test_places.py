"""Which inputs of an operator are weights, and along which axes their channels and sums lie."""

import numpy as np
import pytest

from fewbit.graph.places import WeightPlace, weight_places
from tests.models import info, load, node, proto


def places(op: str, *shapes, constant=(1,), dtype=np.float32, **attrs):
    """Places of one node whose inputs have these shapes; those in `constant` are initializers."""
    names = [f"i{i}" for i in range(len(shapes))]
    fed = [info(n, s) for i, (n, s) in enumerate(zip(names, shapes, strict=True)) if i not in constant]
    held = {names[i]: np.ones(shapes[i], dtype) for i in constant}
    model = load(proto([node(op, " ".join(names), "y", "n", **attrs)], fed, [info("y", None)], held))
    return weight_places(model.node("n"))


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (lambda: places("Conv", (1, 4, 5, 5), (6, 4, 3, 3)), WeightPlace(1, 0, 1)),
        (lambda: places("ConvTranspose", (1, 4, 5, 5), (4, 6, 3, 3)), WeightPlace(1, 1, 0)),
        (lambda: places("MatMul", (2, 4), (4, 6)), WeightPlace(1, 1, 0)),
        (lambda: places("MatMul", (3, 2, 4), (3, 4, 6)), WeightPlace(1, 2, 1, True)),
        (lambda: places("MatMul", (2, 4), (4, 6), constant=(0,)), WeightPlace(0, 0, 1)),
        (lambda: places("Gemm", (2, 4), (4, 6)), WeightPlace(1, 1, 0)),
        (lambda: places("Gemm", (2, 4), (6, 4), transB=1), WeightPlace(1, 0, 1)),
        (lambda: places("Gemm", (4, 2), (4, 6), constant=(0,), transA=1), WeightPlace(0, 1, 0)),
        (lambda: places("Gather", (9, 6), (3,), constant=(0,)), WeightPlace(0, 0, 1)),
    ],
)
def test_where_weights_lie(found, wanted):
    assert found() == [wanted]


def test_recurrent_layers_have_two():
    both = places("LSTM", (5, 1, 3), (1, 16, 3), (1, 16, 4), constant=(1, 2), hidden_size=4)
    assert both == [WeightPlace(1, 1, 2), WeightPlace(2, 1, 2)]
    two_ways = places(
        "GRU", (5, 1, 3), (2, 12, 3), (2, 12, 4), constant=(1, 2), hidden_size=4, direction="bidirectional"
    )
    assert two_ways == [WeightPlace(1, 1, 2, True), WeightPlace(2, 1, 2, True)]


@pytest.mark.parametrize(
    ("op", "shapes", "constant"),
    [
        ("MatMul", [(2, 4), (4, 6)], ()),  # computed
        ("MatMul", [(2, 4), (4,)], (1,)),  # a vector
        ("Add", [(2, 4), (2, 4)], (1,)),  # no product
        ("Gather", [(9,), (3,)], (0,)),  # a list of numbers
    ],
)
def test_what_is_no_weight(op, shapes, constant):
    assert places(op, *shapes, constant=constant) == []
