"""Every spelling of every operator does the same; what is unknown is refused, all of it at once."""

from __future__ import annotations

from dataclasses import replace

import pytest

import fewbit.frontends.mxnet.ops
from fewbit.errors import UnsupportedModel
from fewbit.frontends.mxnet.convert import convert
from fewbit.frontends.mxnet.layer import OPS
from fewbit.frontends.mxnet.symbol import parse_symbol
from fewbit.frontends.mxnet.upgrade import upgrade
from tests.frontends.mxnet.cases import GOLDEN, Case, cases, one_layer, symbol_of

SPELLINGS = [line.split() for line in (GOLDEN / "ops" / "names.txt").read_text().splitlines()]
OTHERS = {name: others for name, *others in SPELLINGS}
GROUPS = ("elementwise", "arithmetic", "shape", "slicing", "reduce", "index", "matmul")
MODULES = {*GROUPS, "fills", "order"} & set(fewbit.frontends.mxnet.ops.__all__)


def drawing(case: Case) -> list[object]:
    """Everything about a network but the names of its layers' operators."""
    model = case.convert()
    nodes = [n for n in model.nodes if n.op_type != "Identity"]
    drawn = [(n.op_type, [v and v.name for v in n.inputs], [str(a) for a in n.attributes.values()]) for n in nodes]
    return [*drawn, *((w.name, w.const_value.numpy().tolist()) for w in model.graph.initializers.values())]


@pytest.mark.parametrize("group", GROUPS)
def test_every_spelling_gives_the_same_network(group: str) -> None:
    tried = 0
    for case in cases(group).values():
        (node,) = [n for n in case.graph.nodes if n.op != "null"]
        for other in OTHERS[node.op]:
            nodes = tuple(replace(n, op=other) if n is node else n for n in case.graph.nodes)
            renamed = replace(case, graph=replace(case.graph, nodes=nodes))
            assert drawing(renamed) == drawing(case), (node.op, other)
            tried += 1
    assert tried > 5


LATER = {"_npi_sum": "_np_sum", "_npi_max": "_np_max", "_npi_amin": "_np_min", "_npi_prod": "_np_prod",
         "_npi_transpose": "_np_transpose", "_npi_squeeze": "_np_squeeze", "_npi_moveaxis": "_np_moveaxis",
         "_npi_dot": "_np_dot", "_npi_any": "_np_any", "_npi_all": "_np_all", "_npi_cumsum": "_np_cumsum"}  # fmt: skip
"""Names of MXNet 2 → what MXNet 1.9 called them."""


@pytest.mark.parametrize("name", LATER)
def test_names_of_mxnet_2_do_what_the_earlier_ones_do(name: str) -> None:
    tried = 0
    for case in (c for group in GROUPS for c in cases(group).values()):
        (node,) = [n for n in case.graph.nodes if n.op != "null"]
        if node.op in (LATER[name], "cumsum" if name == "_npi_cumsum" else ""):
            nodes = tuple(replace(n, op=name) if n is node else n for n in case.graph.nodes)
            assert drawing(replace(case, graph=replace(case.graph, nodes=nodes))) == drawing(case)
            tried += 1
    assert tried


def test_what_one_spelling_can_do_all_can() -> None:
    ours = {n for n, rule in OPS.items() if rule.__module__.rpartition(".")[2] in MODULES}
    assert not [g for g in SPELLINGS if ours & set(g) and not OPS.keys() >= set(g)]


def test_there_are_as_many_operators_as_promised() -> None:
    assert len({n for g in SPELLINGS for n in g} & OPS.keys()) >= 500
    assert sum(any(n in OPS for n in g) for g in SPELLINGS) >= 250


def test_all_unknown_operators_are_named_with_their_layers() -> None:
    nodes = [("null", "data"), *(("Warp", f"warp{i}") for i in range(7)), ("relu", "act"), ("Twist", "turn")]
    graph = symbol_of([(op, name, {}, [i - 1] if i else []) for i, (op, name) in enumerate(nodes)])
    with pytest.raises(UnsupportedModel) as caught:
        convert(upgrade(parse_symbol(graph, "net")), {}, shapes={"data": (1, 3)})
    said = str(caught.value)
    assert "2 MXNet operators that fewbit does not know: " in said
    assert "Warp in warp0, warp1, warp2, warp3, warp4 and 2 more layers; Twist in turn" in said


@pytest.mark.parametrize(
    ("operator", "shapes", "attrs"),
    [
        ("relu", [(2, 3)], {}),
        ("broadcast_add", [(2, 3), (2, 3)], {}),
        ("_plus_scalar", [(2, 3)], {"scalar": "1"}),
        ("Reshape", [(2, 3)], {"shape": "(3, 2)"}),
        ("SliceChannel", [(2, 4)], {"num_outputs": "2"}),
        ("sum", [(2, 3)], {}),
        ("topk", [(2, 3)], {}),
        ("take", [(2, 3), (4,)], {}),
        ("dot", [(2, 3), (3, 4)], {}),
        ("_zeros", [], {"shape": "(2,)"}),
    ],
)
def test_an_attribute_that_nobody_knows_is_refused(
    operator: str, shapes: list[tuple[int, ...]], attrs: dict[str, str]
) -> None:
    one_layer(operator, *shapes, **attrs)
    with pytest.raises(
        UnsupportedModel, match=rf"'l' \({operator}\) has twist='3', which fewbit does not know for this"
    ):
        one_layer(operator, *shapes, **attrs, twist="3")
