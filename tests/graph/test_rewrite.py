"""Rules, the loop that applies them, and the edits they may make."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from fewbit.graph.model import Model
from fewbit.graph.rewrite import (
    BIAS_KEY,
    PATTERN_KEY,
    Change,
    Edit,
    Refusal,
    Report,
    Rule,
    apply,
    is_tagged,
    tag,
    why_not_inside,
    why_not_private,
)
from tests.graph.nets import f32, net, ops

CHAIN = "(float[N,8] x) => (float[N,8] y) { a = Sin(x) b = Abs(a) c = Abs(b) d = Abs(c) y = Cos(d) }"


def doubled(node: ir.Node) -> ir.Node | None:
    """Abs of Abs."""
    before = node.inputs[0].producer() if node.inputs[0] is not None else None
    return node if before is not None and before.op_type == "Abs" else None


def once(edit: Edit, node: ir.Node) -> str:
    edit.bypass(node)
    return "twice is once"


ABS = Rule("abs", ("Abs",), doubled, lambda edit, node: edit.why_not_bypass(node), once)


def test_apply_goes_on_until_nothing_changes() -> None:
    model = net(CHAIN)
    report = apply(model, [ABS])
    assert ops(model) == "Sin Abs Cos"
    assert report.changes == (Change("abs", "c", "twice is once"), Change("abs", "d", "twice is once"))
    assert report
    assert not apply(model, [ABS])


def test_apply_says_what_it_refused_in_the_end() -> None:
    model = net("(float[N,8] x) => (float[N,8] b, float[N,8] c) { b = Abs(x) c = Abs(b) }")
    report = apply(model, [ABS])
    assert report.refusals == (Refusal("abs", "c", "it gives the output 'c' of the network its name"),)
    assert report.lines() == ["abs: c stays: it gives the output 'c' of the network its name"]
    assert not report


def test_a_rule_sees_only_its_operators_of_the_standard_domain() -> None:
    seen: list[str] = []
    rule = Rule("look", ("Abs",), lambda node: seen.append(str(node.name)), lambda e, m: "", lambda e, m: "")
    model = net(CHAIN)
    model.node("c").domain = "other"
    apply(model, [rule])
    assert seen == ["b", "d"]


def test_report_as_text() -> None:
    report = Report((Change("r", "n", "done"),), (Refusal("s", "m", "no"),))
    assert report.lines() == ["r: n: done", "s: m stays: no"]


def test_a_value_that_a_body_uses_is_not_private() -> None:
    model = net(
        "(float[N,8] x, bool t) => (float[N,8] y) { a = Sin(x) b = Cos(a) c = If(t) "
        "<then_branch = yes () => (float[N,8] p) { p = Neg(a) }, else_branch = no () => (float[N,8] q) { q = Neg(b) }> "
        "y = Add(b, c) }"
    )
    assert why_not_private(model.value("a"), model.node("b")) == "'a' is used elsewhere too"
    assert why_not_inside([model.node("a"), model.node("b")]) == "'a' inside of it is used elsewhere too"
    assert why_not_private(model.value("c"), model.node("y")) == ""


def test_an_output_is_not_private() -> None:
    model = net("(float[N,8] x) => (float[N,8] y, float[N,8] a) { a = Sin(x) y = Cos(a) }")
    assert why_not_private(model.value("a"), model.node("y")) == "'a' is an output of the network"
    assert why_not_inside([model.node("a"), model.node("y")]) == "'a' inside of it is an output of the network"


def both(model: Model) -> tuple[Edit, Model]:
    return Edit(model), model


def test_constants_get_names_of_their_own() -> None:
    edit, model = both(net(CHAIN, k=(8,)))
    names = [edit.constant("k", np.zeros(1, np.float32)).name for _ in range(2)]
    assert names == ["k_2", "k_3"]
    assert len(set(model.graph.initializers)) == len(model.graph.initializers)


def test_names_in_bodies_are_taken() -> None:
    edit = Edit(
        net(
            "(float[N,8] x, bool t) => (float[N,8] y) { y = If(t) "
            "<then_branch = yes () => (float[N,8] p) { p = Neg(x) }, "
            "else_branch = no () => (float[N,8] q) { q = Abs(x) }> }"
        )
    )
    assert edit.constant("p", np.zeros(1, np.float32)).name == "p_2"


def test_swallow_keeps_node_and_last_value() -> None:
    edit, model = both(net(CHAIN))
    edit.swallow(model.node("a"), model.node("b"))
    edit.finish()
    assert ops(model) == "Sin Abs Abs Cos"
    assert model.node("a").outputs[0].name == "b"
    assert model.aliases == {"b": "a"}


def test_aliases_lead_to_the_last_heir() -> None:
    edit, model = both(net(CHAIN))
    model.aliases = {"older": "c", "elsewhere": "y"}
    edit.swallow(model.node("c"), model.node("d"))
    edit.swallow(model.node("b"), model.node("c"))
    edit.bypass(model.node("y").inputs[0].producer(), into=model.node("y"))
    edit.finish()
    assert model.aliases == {"older": "y", "elsewhere": "y", "d": "y", "c": "y", "b": "y"}


def test_bypass_hands_the_name_of_an_output_on() -> None:
    edit, model = both(net("(float[N,8] x) => (float[N,8] y) { a = Sin(x) y = Abs(a) }"))
    edit.bypass(model.node("y"))
    assert [v.name for v in model.graph.outputs] == ["y"]
    assert model.nodes[0].outputs[0] is model.graph.outputs[0]


def test_replace_takes_with_it_what_only_it_needed() -> None:
    edit, model = both(
        net("(float[N,8] x) => (float[N,8] y) { a = Sin(x) b = Mul(a, k) y = Add(b, l) }", k=(8,), l=(8,))
    )
    new = edit.replace(model.node("y"), "Cos", [model.value("x")])
    edit.finish()
    assert ops(model) == "Cos"
    assert (new.name, new.outputs[0].name) == ("y", "y")
    assert not model.graph.initializers
    assert model.aliases == {"a": "y", "b": "y"}


def test_set_input_adds_and_removes() -> None:
    edit, model = both(net("(float[N,8] x) => (float[N,6] y) { a = Sin(x) y = Gemm(a, w) }", w=(8, 6)))
    edit.set_input(model.node("y"), 2, edit.constant("bias", np.zeros(6, np.float32)))
    edit.set_input(model.node("y"), 0, model.value("x"))
    edit.set_input(model.node("y"), 2, None)
    assert ops(model) == "Gemm"
    assert list(model.graph.initializers) == ["w"]


def test_freeze_keeps_the_name() -> None:
    edit, model = both(net(CHAIN))
    edit.freeze(model.value("c"), np.ones((1, 8), np.float32))
    assert ops(model) == "Abs Cos"
    assert model.node("d").inputs[0] is model.graph.initializers["c"]


def test_nodes_with_bodies_are_not_swept_away() -> None:
    edit, model = both(
        net(
            "(float[N,8] x, bool t) => (float[N,8] y) { a = If(t) "
            "<then_branch = yes () => (float[N,8] p) { p = Neg(x) }, "
            "else_branch = no () => (float[N,8] q) { q = Abs(x) }> y = Add(a, x) }"
        )
    )
    edit.replace(model.node("y"), "Cos", [model.value("x")])
    assert ops(model) == "If Cos"


def test_tag_marks_all_nodes_with_the_last_name() -> None:
    model = net(CHAIN)
    text = tag("Thing", model.nodes[1:3])
    assert text == "2 nodes are one Thing"
    assert [n.metadata_props.get(PATTERN_KEY) for n in model.nodes] == [None, "Thing:c", "Thing:c", None, None]
    assert [is_tagged(n) for n in model.nodes] == [False, True, True, False, False]


def test_keys_are_part_of_the_file_format() -> None:
    assert (PATTERN_KEY, BIAS_KEY) == ("fewbit.pattern", "fewbit.bias")


def test_what_changes_its_content_cannot_be_an_output() -> None:
    edit, model = both(net("(float[N,8] x) => (float[N,8] y) { a = Sin(x) y = Mul(a, k) }", k=f32(2)))
    edit.rename(model.value("a"), "new")
    assert model.node("a").outputs[0].name == "a_new"
    with pytest.raises(AssertionError):
        edit.rename(model.value("y"), "new")
