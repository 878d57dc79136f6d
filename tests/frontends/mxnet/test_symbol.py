from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fewbit.errors import ModelFormatError, OutputError, UnknownName
from fewbit.frontends.mxnet import symbol
from fewbit.frontends.mxnet.ndarray import load_params
from fewbit.frontends.mxnet.symbol import (
    Entry,
    SymbolGraph,
    SymbolNode,
    parse_symbol,
    read_symbol,
    save_symbol,
    symbol_text,
)

GOLDEN = Path(__file__).parents[2] / "golden" / "mxnet" / "symbols"
LISTS = json.loads((GOLDEN / "lists.json").read_text())
X = {"op": "null", "name": "x", "inputs": []}
RELU = {"op": "relu", "name": "r", "inputs": [[0, 0]]}
SPLIT = {"op": "SliceChannel", "name": "s", "attrs": {"num_outputs": "2"}, "inputs": [[0, 0]]}


def said(graph: SymbolGraph) -> dict[str, list[str]]:
    return {
        "arguments": list(graph.arguments),
        "auxiliaries": list(graph.auxiliaries),
        "outputs": list(graph.outputs),
        "internals": list(graph.internals()),
    }


def parsed(nodes: Any, heads: Any = ((1, 0),), **more: Any) -> SymbolGraph:
    return parse_symbol(json.dumps({"nodes": nodes, "heads": heads, **more}), "a.json")


@pytest.mark.parametrize("name", LISTS)
def test_mxnet_lists_the_same(name: str) -> None:
    graph = read_symbol(GOLDEN / name)
    want = {k: v for k, v in LISTS[name].items() if k != "attrs"}
    assert said(graph) == want | {"internals": list(dict.fromkeys(want["internals"]))}


@pytest.mark.parametrize("name", LISTS)
def test_what_is_saved_is_read(tmp_path: Path, name: str) -> None:
    graph = read_symbol(GOLDEN / name)
    save_symbol(tmp_path / "a-symbol.json", graph)
    assert read_symbol(tmp_path / "a-symbol.json") == graph


@pytest.mark.parametrize("name", ["checkpoint", "gluon"])
def test_symbol_and_parameters_belong_together(name: str) -> None:
    graph = read_symbol(GOLDEN / f"{name}-symbol.json")
    (file,) = GOLDEN.glob(f"{name}-0*.params")
    params = load_params(file)
    assert set(graph.arguments) - set(params.args) <= {"data", "softmax_label"}
    assert set(graph.auxiliaries) == set(params.auxs)


def test_a_node_as_it_is_stored() -> None:
    graph = read_symbol(GOLDEN / "checkpoint-symbol.json")
    bn = next(n for n in graph.nodes if n.name == "bn0")
    assert (bn.op, dict(bn.attrs)) == ("BatchNorm", {"fix_gamma": "False"})
    assert [graph.nodes[e.node].name for e in bn.inputs][3:] == ["bn0_moving_mean", "bn0_moving_var"]
    assert [e.version for e in bn.inputs] == [0, 0, 0, 1, 1]
    assert graph.version == 10901 and graph.arg_nodes[:2] == (0, 1)
    assert next(n for n in graph.nodes if n.name == "fc0").attrs["__lr_mult__"] == "2"


def test_subgraphs_are_read() -> None:
    (conv,) = (n for n in read_symbol(GOLDEN / "fused-symbol.json").nodes if n.op == "_sg_mkldnn_conv")
    (inner,) = conv.subgraphs
    assert [n.op for n in inner.nodes if n.op != "null"] == ["Convolution", "BatchNorm", "Activation"]
    assert inner.outputs == ("relu0_output",)


@pytest.mark.parametrize("key", ["param", "attr", "attrs"])
def test_attributes_of_every_era(key: str) -> None:
    graph = parsed([X, {**RELU, key: {"a": "1", "n": 3, "yes": True}}])
    assert graph.nodes[1].attrs == {"a": "1", "n": "3", "yes": "True"}
    assert graph.version == 800 and graph.arg_nodes == (0,) and graph.nodes[1].inputs == (Entry(0, 0, 0),)


def test_attributes_of_two_eras_are_merged() -> None:
    assert parsed([X, {**RELU, "param": {"a": "1"}, "attr": {"__b__": "2"}}]).nodes[1].attrs == {"a": "1", "__b__": "2"}


def test_variables_come_in_the_order_of_the_outputs() -> None:
    nodes = [{**X, "name": n} for n in "abc"] + [{"op": "dot", "name": "d", "inputs": [[2, 0], [0, 0]]}]
    graph = parsed(nodes, [[3, 0]])
    assert graph.variables == ("c", "a") and graph.arg_nodes == (0, 1, 2)
    assert [n.name for n in graph.pruned().nodes] == ["a", "c", "d"]


def test_an_old_batch_norm_has_states_without_versions() -> None:
    nodes = [{**X, "name": n} for n in ("x", "g", "b", "m", "v")]
    graph = parsed([*nodes, {"op": "BatchNorm", "name": "bn", "inputs": [[i, 0] for i in range(5)]}], [[5, 0]])
    assert graph.auxiliaries == ("m", "v") and graph.arguments == ("x", "g", "b")


def test_an_operator_that_nobody_knows() -> None:
    odd = {"op": "mine", "name": "m", "inputs": [[0, 0]]}
    assert parsed([X, odd]).outputs == ("m_output",)
    assert list(parsed([X, odd, {**RELU, "inputs": [[1, 1]]}], [[2, 0]]).internals()) == [
        "x", "m_output0", "m_output1", "r_output",
    ]  # fmt: skip


def test_equal_names_are_kept() -> None:
    graph = parsed([X, RELU, {**RELU, "inputs": [[1, 0]]}, X], [[2, 0], [3, 0]])
    assert graph.outputs == ("r_output", "x") and graph.variables == ("x", "x")
    assert graph.internals() == {"x": Entry(0, 0), "r_output": Entry(1, 0)}
    with pytest.raises(ModelFormatError, match=r"2 outputs of the symbol are called 'r_output'; rename them"):
        graph.cut(["r_output"])


def test_cut() -> None:
    graph = read_symbol(GOLDEN / "checkpoint-symbol.json")
    part = graph.cut(["bn0_output", "conv0_output"])
    assert part.outputs == ("bn0_output", "conv0_output")
    assert part.arguments == ("data", "conv0_weight", "bn0_gamma", "bn0_beta")
    assert part.auxiliaries == ("bn0_moving_mean", "bn0_moving_var")
    assert len(part.nodes) == 8 and part.arg_nodes == (0, 1, 3, 4, 5, 6)
    assert parse_symbol(symbol_text(part), "part") == part


def test_cut_at_one_of_several_outputs() -> None:
    graph = parsed([X, SPLIT, {**RELU, "inputs": [[1, 0]]}], [[2, 0]])
    assert graph.cut(["s_output1"]).heads == (Entry(1, 1),)


def test_cut_names_the_nearest() -> None:
    with pytest.raises(UnknownName, match=r"unknown output 'fc0'; .*The output of layer 'fc0' is 'fc0_output'"):
        read_symbol(GOLDEN / "checkpoint-symbol.json").cut(["fc0"])


def test_written_without_a_version_it_is_of_today() -> None:
    graph = SymbolGraph((SymbolNode("null", "x"),), (Entry(0, 0),), (0,))
    assert parse_symbol(symbol_text(graph), "x").version == 10901


BROKEN = {
    "a list": ("[]", "it has no nodes and heads"),
    "no heads": ('{"nodes": []}', "it has no nodes and heads"),
    "no JSON": ("hello", "it is not JSON, or cut off"),
    "cut off": ('{"nodes": [', "it is not JSON, or cut off"),
    "deep": ("[" * 100_000, "its JSON is nested too deeply"),
    "long number": ('{"nodes": ' + "1" * 5000, "it is not JSON"),
}
NODES: dict[str, tuple[list[Any], dict[str, Any], str]] = {
    "nodes": (5, {}, "nodes must be a list, not 5"),  # type: ignore[dict-item]
    "node": ([X, 5], {}, "node 1 is 5; it must be a table"),
    "op": ([X, {**RELU, "op": 7}], {}, "node 1: op is 7, name is 'r'; both must be text"),
    "no op": ([X, {"name": "r"}], {}, "node 1: op is None"),
    "itself": (
        [X, {**RELU, "inputs": [[1, 0]]}],
        {},
        r"node 1 \('r', relu\): reads node 1, but only the 1 nodes before",
    ),
    "later": ([X, {**RELU, "inputs": [[2, 0]]}, X], {}, "reads node 2"),
    "negative": ([X, {**RELU, "inputs": [[-1, 0]]}], {}, r"a list of 2 must be \[node, output\]"),
    "one number": ([X, {**RELU, "inputs": [[0]]}], {}, r"must be \[node, output\] or \[node, output, version\]"),
    "true": ([X, {**RELU, "inputs": [[0, True]]}], {}, r"must be \[node, output\]"),
    "output": ([X, SPLIT, {**RELU, "inputs": [[1, 1 << 40]]}], {}, "reads output 1099511627776"),
    "variable": ([X, {**RELU, "inputs": [[0, 1]]}], {}, "output 1 of variable 'x' is used; it has only output 0"),
    "read": ([X, {**X, "inputs": [[0, 0]]}], {}, "is a variable, but has 1 inputs"),
    "attrs": ([X, {**RELU, "attr": "a"}], {}, "attr is 'a'; it must be a table"),
    "heads": ([X, RELU], {"heads": [[2, 0]]}, "heads: reads node 2"),
    "arg_nodes": ([X, RELU], {"arg_nodes": [1]}, "arg_nodes names node 1, which is no variable among the 2 nodes"),
    "version": ([X, RELU], {"attrs": {"mxnet_version": ["int", "new"]}}, "mxnet_version of the symbol is"),
    "of all": ([X, RELU], {"attrs": 4}, "attrs of the symbol are 4"),
    "subgraph": ([X, {**RELU, "subgraphs": [{}]}], {}, r"subgraph 0 is not a symbol of MXNet"),
}


@pytest.mark.parametrize("text, says", BROKEN.values(), ids=BROKEN)
def test_a_text_that_is_no_symbol(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ModelFormatError, match=says) as e:
        read_symbol(tmp_path / "a.json")
    assert "a.json" in str(e.value)


@pytest.mark.parametrize("nodes, more, says", NODES.values(), ids=NODES)
def test_a_damaged_symbol(nodes: list[Any], more: dict[str, Any], says: str) -> None:
    with pytest.raises(ModelFormatError, match=says):
        parsed(nodes, **{"heads": [[1, 0]], **more})


def test_a_short_file_cannot_speak_of_many_outputs() -> None:
    split = {**SPLIT, "attrs": {"num_outputs": "9999"}}
    with pytest.raises(ModelFormatError, match=r"the nodes of the symbol have more than 1048576 outputs"):
        parsed([X] + [split] * 200)


def test_a_symbol_without_outputs() -> None:
    with pytest.raises(ModelFormatError, match="heads is an empty list; a symbol must have an output"):
        parsed([X, RELU], heads=[])


@pytest.mark.parametrize("key", ["op", "name"])
def test_half_a_character_is_no_text(key: str) -> None:
    with pytest.raises(ModelFormatError, match=r"node 1: .*half a character is no text") as e:
        parsed([X, {**RELU, key: "r\ud800"}])
    str(e.value).encode()
    assert parsed([X, {**RELU, "name": "r\U0001f4a5"}]).nodes[1].name == "r\U0001f4a5"


def test_a_symbol_of_too_many_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(symbol, "MOST_NODES", 1000)
    assert len(parsed([X] + [RELU] * 999).nodes) == 1000
    with pytest.raises(ModelFormatError, match=r"a.json has 1,001 nodes; fewbit takes up to 1,000"):
        parsed([X] + [RELU] * 1000)


def test_subgraphs_nested_too_deep() -> None:
    inner: dict[str, Any] = {"nodes": [X], "heads": [[0, 0]]}
    for _ in range(20):
        inner = {"nodes": [X, {**RELU, "subgraphs": [inner]}], "heads": [[1, 0]]}
    with pytest.raises(ModelFormatError, match="nested more than 16 deep"):
        parse_symbol(json.dumps(inner), "a.json")


def test_a_binary_file_and_none(tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match=r"not utf-8 text; is it a .params file"):
        read_symbol(GOLDEN / "checkpoint-0001.params")
    with pytest.raises(ModelFormatError, match="cannot read"):
        read_symbol(tmp_path / "none.json")
    with pytest.raises(OutputError, match="cannot write"):
        save_symbol(tmp_path / "no" / "a.json", parsed([X, RELU]))
