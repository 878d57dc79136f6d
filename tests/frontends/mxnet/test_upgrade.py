from __future__ import annotations

import json
from pathlib import Path

import pytest

from fewbit.frontends.mxnet.graph import Entry, SymbolGraph, SymbolNode
from fewbit.frontends.mxnet.symbol import read_symbol
from fewbit.frontends.mxnet.upgrade import HIDDEN, upgrade

GOLDEN = Path(__file__).parents[2] / "golden" / "mxnet" / "symbols"
LISTS = json.loads((GOLDEN / "lists.json").read_text())
OLD = ["v080-symbol.json", "v094-symbol.json", "v095-symbol.json", "v100-symbol.json"]


def at(version: int, *nodes: SymbolNode) -> SymbolGraph:
    variables = tuple(i for i, n in enumerate(nodes) if n.op == "null")
    return SymbolGraph(nodes, (Entry(len(nodes) - 1, 0),), variables, {"mxnet_version": ["int", version]})


@pytest.mark.parametrize("name", OLD)
def test_mxnet_sees_the_same_attributes(name: str) -> None:
    """MXNet lists a hidden key twice, with and without the underscores."""
    got = {n.name: dict(n.attrs) for n in read_symbol(GOLDEN / name).nodes if n.attrs}
    want = {name: {k: v for k, v in a.items() if k not in HIDDEN} for name, a in LISTS[name]["attrs"].items()}
    assert got == want


def test_missing_inputs_become_variables() -> None:
    graph = read_symbol(GOLDEN / "v080-symbol.json")
    bn = next(n for n in graph.nodes if n.name == "bn")
    assert [graph.nodes[e.node].name for e in bn.inputs[1:]] == [
        "bn_gamma",
        "bn_beta",
        "bn_moving_mean",
        "bn_moving_var",
    ]
    assert graph.auxiliaries == ("bn_moving_mean", "bn_moving_var")
    assert "act_gamma" in graph.arguments and graph.outputs == ("top_output",)
    assert graph.version == 10901 and all(graph.nodes[i].op == "null" for i in graph.arg_nodes)


@pytest.mark.parametrize(
    "op, attrs, names",
    [
        ("Convolution", {}, ["weight", "bias"]),
        ("Convolution", {"no_bias": "1"}, ["weight"]),
        ("Deconvolution", {}, ["weight"]),
        ("Deconvolution", {"no_bias": "False"}, ["weight", "bias"]),
        ("FullyConnected", {"no_bias": "True"}, ["weight"]),
        ("BatchNorm", {}, ["gamma", "beta", "moving_mean", "moving_var"]),
        ("LeakyReLU", {"act_type": "elu"}, []),
        ("LeakyReLU", {"act_type": "prelu"}, ["gamma"]),
        ("SoftmaxOutput", {}, ["label"]),
        ("Embedding", {}, ["weight"]),
        ("InstanceNorm", {}, ["gamma", "beta"]),
        ("RNN", {"mode": "lstm"}, ["parameters", "state", "state_cell"]),
        ("RNN", {"mode": "gru"}, ["parameters", "state"]),
        ("UpSampling", {"sample_type": "bilinear"}, ["weight"]),
        ("Activation", {}, []),
    ],
)
def test_inputs_by_operator(op: str, attrs: dict[str, str], names: list[str]) -> None:
    old = at(800, SymbolNode("null", "x"), SymbolNode(op, "n", attrs, (Entry(0, 0),)))
    assert upgrade(old).variables == ("x", *(f"n_{name}" for name in names))
    assert upgrade(at(900, *old.nodes)).variables == ("x",)


def test_a_node_without_a_name_gives_bare_names() -> None:
    graph = upgrade(at(800, SymbolNode("null", "x"), SymbolNode("Embedding", "", {}, (Entry(0, 0),))))
    assert graph.variables == ("x", "weight")


def test_hidden_keys_find_their_place() -> None:
    fc = SymbolNode("FullyConnected", "fc", {"bias_wd_mult": "0", "what_lr_mult": "5", "wd_mult": "1"},
                    (Entry(0, 0), Entry(1, 0), Entry(2, 0)))  # fmt: skip
    graph = upgrade(at(10000, *(SymbolNode("null", n, {"odd_lr_mult": "1"} if n == "x" else {}) for n in "xwb"), fc))
    assert [dict(n.attrs) for n in graph.nodes] == [
        {"odd_lr_mult": "1"}, {}, {"__wd_mult__": "0"}, {"what_lr_mult": "5", "__wd_mult__": "1"},
    ]  # fmt: skip


def test_hidden_keys_of_a_weight_that_is_computed_stay() -> None:
    nodes = [SymbolNode("null", "x"), SymbolNode("relu", "w", {}, (Entry(0, 0),))]
    fc = SymbolNode("FullyConnected", "fc", {"weight_lr_mult": "2", "no_bias": "1"}, (Entry(0, 0), Entry(1, 0)))
    assert upgrade(at(10000, *nodes, fc)).nodes[2].attrs == fc.attrs


@pytest.mark.parametrize("version, axis, kept", [(904, "-1", False), (905, "-1", True), (904, "1", True)])
def test_axis_of_argmax(version: int, axis: str, kept: bool) -> None:
    graph = upgrade(at(version, SymbolNode("null", "x"), SymbolNode("argmax", "a", {"axis": axis}, (Entry(0, 0),))))
    assert ("axis" in graph.nodes[1].attrs) == kept


@pytest.mark.parametrize("name", LISTS)
def test_twice_is_once(name: str) -> None:
    graph = read_symbol(GOLDEN / name)
    assert upgrade(graph) == graph
