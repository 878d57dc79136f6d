"""The float network behind what MXNet fused and quantized: its layers, its weights, its answers, its ranges."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fewbit.errors import FewbitError, ModelFormatError, UnsupportedModel
from fewbit.frontends.mxnet.convert import convert
from fewbit.frontends.mxnet.graph import Entry, SymbolGraph, SymbolNode, variables_of
from fewbit.frontends.mxnet.implied import imply
from fewbit.frontends.mxnet.quantized import recover
from fewbit.frontends.mxnet.symbol import parse_symbol
from tests.frontends.mxnet.cases import run
from tests.frontends.mxnet.quantized_cases import answer, cases, feed, floats, nodes, params, sqnr, symbol, text

Range = tuple[float, float]
IDLE = {"Dropout"}
"""Operators that MXNet leaves out when it fuses."""


def recovered(network: str, case: str) -> tuple[SymbolGraph, dict[str, Any], dict[str, Range]]:
    return recover(symbol(network, case), params(network, case))


def layers(graph: SymbolGraph) -> dict[str, tuple[str, dict[str, str]]]:
    return {n.name: (n.op, dict(n.attrs)) for n in graph.nodes if n.op != "null"}


def stated(network: str, case: str) -> dict[str, Range]:
    """Name of the node → the range in its attributes."""
    with_attrs = [(n["name"], n.get("attrs", {})) for n in nodes(network, case)]
    return {
        k: (float(a["min_calib_range"]), float(a["max_calib_range"])) for k, a in with_attrs if "min_calib_range" in a
    }


# -- the network ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("network", "case"), cases())
def test_the_layers_are_those_of_the_float_network(network: str, case: str) -> None:
    graph, weights, _ = recovered(network, case)
    want = layers(symbol(network, "float"))
    got = layers(graph)
    assert got == {k: v for k, v in want.items() if k in got}
    assert {want[k][0] for k in want.keys() - got.keys()} <= IDLE
    assert set(weights) == set(floats(network)) and set(graph.variables) == {"data", *weights}


@pytest.mark.parametrize(("network", "case"), cases())
def test_it_answers_as_mxnet_does_in_float(network: str, case: str) -> None:
    graph, weights, _ = recovered(network, case)
    model = convert(graph, weights, shapes={"data": feed(network).shape})
    got = run(model, {"data": feed(network)}, reference=False)[0]
    if any(k.endswith("_quantize") for k in params(network, case)):
        assert sqnr(answer(network), got) > 30  # weights were rounded to 8 bits
    else:
        np.testing.assert_allclose(got, answer(network), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("network", "case"), cases())
def test_weights_differ_by_half_a_step_of_their_integers_at_most(network: str, case: str) -> None:
    _, weights, _ = recovered(network, case)
    given, want = params(network, case), floats(network)
    for name, w in weights.items():
        assert w.dtype == np.float32 and w.shape == want[name].shape
        step = np.abs(want[name]).max() / 127 if f"{name}_quantize" in given else 0
        assert np.abs(w - want[name]).max() <= step * 0.5001


@pytest.mark.parametrize("network", ["residual", "mixed", "attention", "lstm"])
def test_a_float_network_comes_back_as_it_is(network: str) -> None:
    graph, given = symbol(network, "float"), params(network, "float")
    same, weights, ranges = recover(graph, given)
    assert same is graph and weights == given and ranges == {}


def test_the_spelling_of_mxnet_2_is_read_too() -> None:
    renamed = text("residual", "fused naive post").replace("_sg_mkldnn_", "_sg_onednn_")
    graph, _, ranges = recover(parse_symbol(renamed, "x"), params("residual", "fused naive post"))
    _, _, want = recovered("residual", "fused naive post")
    assert layers(graph) == layers(symbol("residual", "float")) and ranges == want


# -- ranges ---------------------------------------------------------------------------------------------------------

FUSED = {
    "data": "data_quantize",
    "relu0_output": "quantized_sg_mkldnn_conv_bn_act_0",
    "relu1_output": "quantized_sg_mkldnn_conv_bn_add_act_1",
    "conv2_output": "quantized_sg_mkldnn_conv_2",
    "conv3_output": "quantized_sg_mkldnn_conv_3",
    "relu2_output": "quantized_sg_mkldnn_fully_connected_eltwise_0",
}
PLAIN = {
    "data": "data_quantize",
    **{f"{n}_output": f"requantize_{n}" for n in ("conv0", "conv1", "add1", "conv2", "conv3", "fc0", "fc1")},
    **{f"{n}_output": f"quantized_{n}" for n in ("bn0", "bn1")},
}


@pytest.mark.parametrize(
    ("case", "where"),
    [
        ("fused naive post", FUSED),
        ("fused entropy post", FUSED),
        ("fused channel post", FUSED),
        ("plain naive", PLAIN),
    ],
)
def test_ranges_are_those_in_the_file(case: str, where: dict[str, str]) -> None:
    _, _, ranges = recovered("residual", case)
    told = stated("residual", case)
    assert {name: ranges[name] for name in where} == {name: told[node] for name, node in where.items()}
    assert set(where.values()) == told.keys()


@pytest.mark.parametrize(("network", "case"), [c for c in cases() if stated(*c)])
def test_no_range_is_lost_and_all_are_of_values_of_the_network(network: str, case: str) -> None:
    graph, weights, ranges = recovered(network, case)
    assert set(stated(network, case).values()) <= set(ranges.values())
    model = convert(graph, weights, shapes={"data": feed(network).shape})
    assert ranges.keys() <= model.values().keys()


def test_ranges_of_layers_that_keep_them_follow() -> None:
    _, _, fused = recovered("residual", "fused naive")
    assert fused["pool1_output"] == fused["relu1_output"]
    two = fused["conv2_output"], fused["conv3_output"]
    assert two[0] != two[1]
    assert fused["cat_output"] == fused["flat_output"] == (min(r[0] for r in two), max(r[1] for r in two))
    _, _, plain = recovered("residual", "plain naive")
    assert plain["bn0_output"][0] < 0 and plain["relu0_output"] == (0.0, plain["bn0_output"][1])


def test_of_what_was_fused_as_much_is_told_as_can_matter() -> None:
    _, _, ranges = recovered("residual", "fused naive post")
    (_, high), (_, other) = ranges["relu1_output"], ranges["relu0_output"]
    assert ranges["bn1_output"] == (-other, high)  # bn1 + relu0 → relu1
    _, _, mixed = recovered("mixed", "fused naive post")
    assert mixed["cd_output"][0] > -max(map(abs, (*mixed["addd_output"], *mixed["r6_output"]))) - 1e-6
    low, high = mixed["lk_output"]
    assert low < 0 and mixed["cc_output"] == pytest.approx((low / 0.1, high))


def test_what_mxnet_saw_of_a_value_within_what_was_fused_lies_in_that_or_is_cut() -> None:
    _, _, plain = recovered("residual", "plain naive")
    _, _, fused = recovered("residual", "fused naive post")
    assert fused["bn1_output"][1] >= plain["bn1_output"][1] - 0.1  # weights differ by rounding


def test_without_calibration_there_are_none() -> None:
    for case in ("fused none", "plain none"):
        assert recovered("residual", case)[2] == {}


def test_a_range_of_nothing_was_too_small_for_six_decimals_and_does_not_count() -> None:
    def zero(node: dict[str, Any]) -> None:
        node["attrs"] |= {"min_calib_range": "0.000000", "max_calib_range": "0.000000"}

    _, _, ranges = changed("quantized_sg_mkldnn_conv_2", zero)
    assert "conv2_output" not in ranges and "cat_output" not in ranges and "conv3_output" in ranges


# -- small graphs by hand -------------------------------------------------------------------------------------------


def chain(*made: SymbolNode) -> SymbolGraph:
    """Nodes in this order; the last one is the output."""
    return SymbolGraph(made, (Entry(len(made) - 1, 0),), variables_of(made), {"mxnet_version": ["int", 10901]})


def var(name: str) -> SymbolNode:
    return SymbolNode("null", name)


def reads(*places: int | tuple[int, int]) -> tuple[Entry, ...]:
    return tuple(Entry(*p) if isinstance(p, tuple) else Entry(p, 0) for p in places)


def dense(stored: str, more: dict[str, Any]) -> tuple[SymbolGraph, dict[str, Any]]:
    """quantize → quantized_fully_connected with a bias → dequantize, in the manner of the first versions."""
    names = [
        "data",
        "lo",
        "hi",
        "w_quantize",
        stored,
        *(f"{p}_{e}" for p in ("w_quantize", stored) for e in ("min", "max")),
    ]
    places = {name: i for i, name in enumerate(names)}
    graph = chain(
        *(var(name) for name in names),
        SymbolNode("_contrib_quantize", "data_quantize", {}, reads(0, 1, 2)),
        SymbolNode(
            "_contrib_quantized_fully_connected",
            "quantized_fc",
            {"num_hidden": "2"},
            reads(9, 3, 4, (9, 1), (9, 2), *range(5, 9)),
        ),
        SymbolNode("_contrib_dequantize", "fc_dequantize", {}, reads(10, (10, 1), (10, 2))),
    )
    assert places["b_quantize"] == 4
    one = {name: np.array([-1.0 if name.endswith("min") else 1.0], np.float32) for name in names[5:]}
    weights = {"w_quantize": np.array([[127, 0], [-127, 64]], np.int8), "lo": np.array([-2.0]), "hi": np.array([3.0])}
    return graph, {**one, **weights, **more}


def test_the_oldest_way_to_quantize_with_a_bias_of_32_bits() -> None:
    graph, weights, ranges = recover(*dense("b_quantize", {"b_quantize": np.array([2**31 - 1, 2**30], np.int32)}))
    np.testing.assert_allclose(weights["w"], [[1, 0], [-1, 64 / 127]], rtol=1e-6)
    np.testing.assert_allclose(weights["b"], [1, 0.5], rtol=1e-6)
    assert layers(graph) == {"fc": ("FullyConnected", {"num_hidden": "2"})} and graph.outputs == ("fc_output",)
    assert ranges == {"data": (-2.0, 3.0)} and set(weights) == {"w", "b"}


def test_weights_by_channel() -> None:
    ends = {"w_quantize_min": np.array([-1.0, -0.5]), "w_quantize_max": np.array([0.5, 4.0])}
    _, weights, _ = recover(*dense("b_quantize", {"b_quantize": np.array([0, 0], np.int8), **ends}))
    np.testing.assert_allclose(weights["w"], [[1, 0], [-4, 4 * 64 / 127]], rtol=1e-6)


def test_an_input_that_is_normalized_first_gets_the_range_before_that() -> None:
    names = ("data", "g", "b", "m", "v")
    graph = chain(
        *map(var, names),
        SymbolNode("BatchNorm", "bn", {"eps": "0"}, reads(*range(5))),
        SymbolNode("_contrib_quantize_v2", "q", {"min_calib_range": "-1.0", "max_calib_range": "2.0"}, reads(5)),
        SymbolNode("_contrib_dequantize", "d", {}, reads(6, (6, 1), (6, 2))),
    )
    given = {"g": np.ones(2), "b": np.zeros(2), "m": np.array([0.0, 1.0]), "v": np.array([4.0, 1.0])}
    assert recover(graph, given)[2] == {"bn_output": (-1.0, 2.0), "data": (-2.0, 4.0)}
    given["m"] = np.zeros(3)  # not of this shape: convert says so
    assert recover(graph, given)[2] == {"bn_output": (-1.0, 2.0)}


@pytest.mark.parametrize(
    ("total", "other", "want"),
    [
        ((-7.0, 11.0), (-6.0, 8.0), (-11.0, 11.0)),  # not -15 to 17
        ((0.0, 7.0), (0.0, 6.0), (-6.0, 7.0)),
        ((4.0, 5.0), (-6.0, -5.0), (9.0, 11.0)),  # larger than both
    ],
)
def test_what_is_added_is_counted_on_to_be_no_larger_than_the_sum(total: Range, other: Range, want: Range) -> None:
    graph = chain(
        *map(var, "as"),
        SymbolNode("identity", "fused", {}, reads(0)),
        SymbolNode("elemwise_add", "sum", {}, reads(2, 1)),
    )
    told = {Entry(3, 0): total, Entry(1, 0): other}
    assert imply(graph, told, {2}, set(), {})[Entry(2, 0)] == want


@pytest.mark.parametrize(
    ("told", "want"), [((-5.0, 5.0), (-5.0, 5.0)), ((-0.5, 5.0), (-5.0, 5.0)), ((-0.2, 5.0), (-2.0, 5.0))]
)
def test_a_threshold_says_nothing_of_what_a_leaky_relu_makes_small(told: Range, want: Range) -> None:
    graph = chain(
        var("a"),
        SymbolNode("identity", "fused", {}, reads(0)),
        SymbolNode("LeakyReLU", "leaky", {"act_type": "leaky", "slope": "0.1"}, reads(1)),
    )
    assert imply(graph, {Entry(2, 0): told}, {1}, set(), {})[Entry(1, 0)] == pytest.approx(want)


@pytest.mark.parametrize(
    "pool", [{"pool_type": "avg", "global_pool": "True"}, {"pool_type": "avg"}, {"global_pool": "1"}]
)
def test_an_average_over_channels_has_the_range_only_if_mxnet_made_it_in_integers(pool: dict[str, str]) -> None:
    graph = chain(var("a"), SymbolNode("Pooling", "pool", pool, reads(0)))
    told = {Entry(0, 0): (-1.0, 2.0)}
    assert (Entry(1, 0) in imply(graph, told, set(), set(), {})) == (len(pool) == 1)
    assert imply(graph, told, set(), {1}, {})[Entry(1, 0)] == (-1.0, 2.0)


# -- what is damaged or unknown --------------------------------------------------------------------------------------


def changed(name: str, change: Callable[[dict[str, Any]], object], case: str = "fused naive post") -> Any:
    """Recover `residual` with one node changed."""
    stored = json.loads(text("residual", case))
    change(next(n for n in stored["nodes"] if n["name"] == name))
    return recover(parse_symbol(json.dumps(stored), "net"), params("residual", case))


CONV, FIRST = "quantized_sg_mkldnn_conv_2", "quantized_conv0"


def test_a_fused_operator_without_what_was_fused() -> None:
    with pytest.raises(
        ModelFormatError, match=r"'quantized_sg_mkldnn_conv_2' \(_sg_mkldnn_conv\) holds 0 graphs of what"
    ):
        changed(CONV, lambda n: n.pop("subgraphs"))


def test_wrong_numbers_of_inputs() -> None:
    with pytest.raises(
        ModelFormatError, match=r"'quantized_conv0' .* has 8 inputs; it must have 9: 3 values and 6 ends"
    ):
        changed(FIRST, lambda n: n["inputs"].pop(), "plain naive")
    with pytest.raises(
        ModelFormatError, match=r"has 4 inputs; what was fused takes 3, and a lowest and a highest value"
    ):
        changed(CONV, lambda n: n["inputs"].pop())
    with pytest.raises(ModelFormatError, match=r"has 2 inputs; what was fused takes 3$"):
        changed("sg_mkldnn_conv_2", lambda n: n["inputs"].pop(), "float MKLDNN")
    with pytest.raises(ModelFormatError, match=r"'data_quantize' \(_contrib_quantize_v2\) has no input"):
        changed("data_quantize", lambda n: n.update(inputs=[]))


@pytest.mark.parametrize("low", ["nan", "5.0", "-inf", "low"])
def test_ranges_that_are_none(low: str) -> None:
    with pytest.raises(
        ModelFormatError, match=r"'data_quantize' .*: the calibrated range is '.*' to '3\.\d+'; it must be"
    ):
        changed("data_quantize", lambda n: n["attrs"].update(min_calib_range=low))


def test_an_end_of_a_range_that_is_read_as_a_value() -> None:
    with pytest.raises(ModelFormatError, match="reads an end of a range as if it were a value; the symbol is damaged"):
        changed(CONV, lambda n: n["inputs"][0].__setitem__(1, 1))


def test_parameters_that_cannot_have_been_stored_so() -> None:
    with pytest.raises(ModelFormatError, match="'b_quantize' is of type int16; stored are int8, uint8, int32"):
        recover(*dense("b_quantize", {"b_quantize": np.zeros(2, np.int16)}))
    bias = {"b_quantize": np.zeros(2, np.int8)}
    with pytest.raises(
        ModelFormatError, match=r"'b_quantize' of shape \(2,\) comes with 3 lowest and 1 highest values"
    ):
        recover(*dense("b_quantize", {**bias, "b_quantize_min": np.zeros(3)}))
    with pytest.raises(ModelFormatError, match="one for each channel, and finite"):
        recover(*dense("b_quantize", {**bias, "b_quantize_min": np.array([np.nan])}))


def test_all_operators_that_nobody_knows_are_named_at_once() -> None:
    stored = json.loads(text("residual", "plain naive"))
    for node in stored["nodes"]:
        if node["name"] in ("quantized_conv1", "quantized_fc0"):
            node["op"] = f"_contrib_quantized_odd_{node['name'][10:]}"
    graph, weights, _ = recover(parse_symbol(json.dumps(stored), "net"), params("residual", "plain naive"))
    with pytest.raises(UnsupportedModel) as e:
        convert(graph, weights)
    assert "_contrib_quantized_odd_conv1" in str(e.value) and "_contrib_quantized_odd_fc0" in str(e.value)
    assert "quantized_conv1" in str(e.value) and "quantized_fc0" in str(e.value)


@pytest.mark.parametrize("case", ["fused naive post", "plain naive", "float MKLDNN"])
def test_damaged_graphs_are_refused_or_read_but_never_crash(case: str) -> None:
    graph, given = symbol("residual", case), params("residual", case)
    rng, refused = np.random.default_rng(0), 0
    operators = [i for i, n in enumerate(graph.nodes) if n.inputs]
    for _ in range(150):
        i = int(rng.choice(operators))
        node = graph.nodes[i]
        inputs = list(node.inputs)
        at = int(rng.integers(len(inputs)))
        harm = int(rng.integers(4))
        if harm == 0:
            del inputs[at]
        elif harm == 1:
            inputs.insert(at, inputs[-1])
        elif harm == 2:
            inputs[at] = Entry(int(rng.integers(i)), int(rng.integers(3)))
        else:
            node = replace(node, op=graph.nodes[int(rng.choice(operators))].op)
        harmed = (*graph.nodes[:i], replace(node, inputs=tuple(inputs)), *graph.nodes[i + 1 :])
        try:
            recover(replace(graph, nodes=harmed), given)
        except FewbitError:
            refused += 1
    assert refused > 20
