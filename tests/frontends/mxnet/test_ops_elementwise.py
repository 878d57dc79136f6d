"""Operators on single numbers against MXNet's own answers (tests/golden/mxnet/make/ops_elementwise.py)."""

from __future__ import annotations

import pytest

from fewbit.errors import UnknownName
from tests.frontends.mxnet.cases import cases, check_free, one_layer


@pytest.mark.parametrize("free", [0, 1, 9], ids=["known", "free_batch", "free"])
@pytest.mark.parametrize("name", cases("elementwise"))
def test_functions_of_one_value(name: str, free: int) -> None:
    check_free(cases("elementwise")[name], free)


def test_the_main_node_and_its_value_have_the_layers_name() -> None:
    for name in ("round", "broadcast_mod", "_greater_scalar scalar=2.0", "exp int32"):
        group = "elementwise" if name in cases("elementwise") else "arithmetic"
        model = cases(group)[name].convert()
        (node,) = [n for n in model.nodes if n.name == "layer"]
        assert [v.name for v in node.outputs] == ["layer_output"]


def test_half_precision_needs_no_node() -> None:
    model = cases("elementwise")["amp_cast dtype=float16"].convert()
    assert [n.op_type for n in model.nodes] == ["Identity"]  # only what gives the output its name
    assert model.aliases == {"layer": ""}


def test_a_type_that_nobody_knows_is_refused() -> None:
    with pytest.raises(UnknownName, match=r"unknown dtype of layer 'l' \(Cast\) 'flaot32'; did you mean 'float32'"):
        one_layer("Cast", (2, 3), dtype="flaot32")
