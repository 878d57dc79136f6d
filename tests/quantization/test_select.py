"""Verdicts: what becomes integer, what is merged, what stays float, and the words that say why."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fewbit.config import QuantConfig
from fewbit.core.target import NodeFacts, OpRule, Target
from fewbit.errors import UnknownName
from fewbit.quantization.select import select, why_not
from tests.quantization.nets import TOY, net, residual

FULL = QuantConfig(quantize_mode="full")


def with_row(row: OpRule) -> Target:
    return Target("toy", "qdq", TOY.activation, TOY.weight, (row, *TOY.rules))


def test_a_residual_block_is_integer_throughout() -> None:
    picked = select(residual(), QuantConfig(), TOY)
    assert set(picked.rules) == {"Conv:a", "Conv:c", "Add:s", "MaxPool:p", "Conv:y"}
    assert picked.absorbed == {"Relu:r": "Conv:a", "Relu:t": "Add:s"}
    assert picked.reasons["Relu:r"] == "merged into Conv:a"


def test_an_activation_that_something_else_reads_before_is_not_merged() -> None:
    model = net("a = Conv (x, w)  r = Relu (a)  y = Add (a, r)", w=(4, 4, 1, 1))
    picked = select(model, FULL, TOY)
    assert picked.absorbed == {}
    assert "Relu:r" in picked.rules


def test_an_activation_behind_a_graph_output_is_not_merged() -> None:
    model = net("a = Conv (x, w)  y = Relu (a)", "float[N, C, H, W] a, float[N, C, H, W] y", w=(4, 4, 1, 1))
    assert select(model, FULL, TOY).absorbed == {}


def test_smart_leaves_what_costs_and_full_takes_it() -> None:
    model = net("a = Conv (x, w)  g = Sigmoid (a)  y = Conv (g, v)", w=(4, 4, 1, 1), v=(4, 4, 1, 1))
    smart = select(model, QuantConfig(), TOY)
    assert "Sigmoid:g" not in smart.rules
    assert smart.reasons["Sigmoid:g"] == "would run at 1.70 of its float time (measured)"
    assert "Sigmoid:g" in select(model, FULL, TOY).rules


@pytest.mark.parametrize(
    ("nodes", "lone", "words"),
    [
        ("p = MaxPool <kernel_shape = [2, 2]> (x)  y = Conv (p, w)", "MaxPool:p", "its input 'x' comes from float"),
        ("a = Conv (x, w)  p = MaxPool <kernel_shape = [2, 2]> (a)  y = Exp (p)", "MaxPool:p", "no integer operator"),
        ("a = Conv (x, w)  e = Exp (x)  s = Add (a, e)  y = Conv (s, w)", "Add:s", "its input 'e' comes from float"),
    ],
)
def test_smart_takes_support_operators_only_between_integer_ones(nodes: str, lone: str, words: str) -> None:
    model = net(nodes, w=(4, 4, 1, 1))
    picked = select(model, QuantConfig(), TOY)
    assert lone not in picked.rules and words in picked.reasons[lone]
    assert lone in select(model, FULL, TOY).rules


def test_a_support_operator_may_read_what_is_made_integer_for_a_core_one_anyway() -> None:
    model = net("e = Exp (x)  a = Conv (e, w)  s = Add (a, e)  y = Conv (s, w)", w=(4, 4, 1, 1))
    assert "Add:s" in select(model, QuantConfig(), TOY).rules
    model = net("e = Exp (x)  b = Exp (x)  a = Conv (e, w)  s = Add (a, b)  y = Conv (s, w)", w=(4, 4, 1, 1))
    assert "Add:s" not in select(model, QuantConfig(), TOY).rules


def test_a_chain_of_support_operators_goes_as_a_whole() -> None:
    nodes = "a = Conv (x, w)  p = MaxPool <kernel_shape = [2, 2]> (a)  s = Add (p, p)  y = Exp (s)"
    picked = select(net(nodes, w=(4, 4, 1, 1)), QuantConfig(), TOY)
    assert set(picked.rules) == {"Conv:a"}


def test_what_was_merged_into_a_float_node_says_so() -> None:
    slow = with_row(OpRule("Conv", ("act", "weight"), core=True, absorbs=("Relu",), pays=1.2))
    picked = select(net("a = Conv (x, w)  y = Relu (a)", w=(4, 4, 1, 1)), QuantConfig(), slow)
    assert picked.rules == {} and picked.absorbed == {}
    assert picked.reasons["Relu:y"] == "follows Conv:a, which stays float"


@pytest.mark.parametrize(
    ("words", "kept", "reason"),
    [
        ({"exclude_layers": ["Conv:c"]}, "Conv:c", "excluded by exclude_layers 'Conv:c'"),
        ({"exclude_layers": ["*:y"]}, "Conv:y", "excluded by exclude_layers '*:y'"),
        ({"exclude_layers_match": ["nv:c"]}, "Conv:c", "excluded by exclude_layers_match 'nv:c'"),
        ({"exclude_operators": ["Add"]}, "Add:s", "excluded by exclude_operators 'Add'"),
        ({"overrides": {"Conv:c": {"float": True}}}, "Conv:c", "kept float by an override"),
        (
            {"min_quant_weight_size": 100},
            "Conv:y",
            "its weight has 16 elements; 99 or fewer stay float (min_quant_weight_size)",
        ),
        (
            {"min_quant_weight_channel": 5},
            "Conv:y",
            "it has 4 channels; 4 or fewer stay float (min_quant_weight_channel)",
        ),
    ],
)
def test_what_the_user_keeps_float(words: dict[str, object], kept: str, reason: str) -> None:
    picked = select(residual(), QuantConfig(**words), TOY)  # type: ignore[arg-type]
    assert kept not in picked.rules
    assert picked.reasons[kept] == reason


def test_an_excluded_activation_is_not_merged() -> None:
    picked = select(residual(), QuantConfig(exclude_layers=("Relu:r",)), TOY)
    assert "Relu:r" not in picked.absorbed and "Relu:r" not in picked.rules


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"exclude_layers": ["Conv:d"]}, "unknown layer 'Conv:d'; did you mean"),
        ({"exclude_layers": ["layer4/*"]}, "unknown layer 'layer4/*'"),
        ({"exclude_layers_match": ["resnet"]}, "unknown layer containing 'resnet'"),
        ({"exclude_operators": ["MaxPol"]}, "unknown operator 'MaxPol'; did you mean 'MaxPool'?"),
        ({"overrides": {"nothing*": {"bit_num": 16}}}, "unknown layer 'nothing*'"),
    ],
)
def test_a_word_that_matches_nothing_is_an_error(words: dict[str, object], message: str) -> None:
    with pytest.raises(UnknownName, match="unknown") as caught:
        select(residual(), QuantConfig(**words), TOY)  # type: ignore[arg-type]
    assert message in str(caught.value)


def test_an_operator_that_the_network_does_not_have_may_be_excluded() -> None:
    assert select(residual(), QuantConfig(exclude_operators=("Concat",)), TOY).rules


@pytest.mark.parametrize(
    ("nodes", "name", "words"),
    [
        ("y = Exp (x)", "Exp:y", "no integer Exp on toy"),
        ("v = Exp (w)  y = Conv (x, v)", "Conv:y", "Conv is integer on toy only if: weight is constant"),
        ("b = Exp (c)  y = Conv (x, w, b)", "Conv:y", "its bias is computed at run time"),
        ("h = Cast <to = 10> (x)  a = Relu (h)  y = Cast <to = 1> (a)", "Relu:a", "float16; only float32"),
    ],
)
def test_why_a_node_cannot_be_integer(nodes: str, name: str, words: str) -> None:
    picked = select(net(nodes, w=(4, 4, 1, 1), c=(4,)), FULL, TOY)
    assert name not in picked.rules and words in picked.reasons[name]


def test_what_was_measured_says_so() -> None:
    toy = replace(TOY, float_only={"Exp": "1.02 of the float time"})
    picked = select(net("y = Exp (x)"), FULL, toy)
    assert picked.reasons["Exp:y"] == "no integer Exp on toy: 1.02 of the float time"


@pytest.mark.parametrize("op", ["If", "Loop", "Scan"])
def test_control_flow_stays_float(op: str) -> None:
    assert why_not(NodeFacts(op), TOY) == "control flow; what is inside of it stays float"


def test_old_names_of_fused_layers_still_count() -> None:
    model = residual()
    model.aliases["bn2"] = "Conv:c"
    assert "Conv:c" not in select(model, QuantConfig(exclude_layers=("bn2",)), TOY).rules
