"""Each rule about TensorRT: a network that it takes is changed in one place, and that rule alone finds it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, numpy_helper

from fewbit.errors import UnsupportedModel
from fewbit.graph.emit import emit_qdq
from fewbit.graph.finalize import LAWS, finalize
from fewbit.graph.model import is_const
from fewbit.graph.tensorrt_legal import ILLEGAL, RULES, SLOW, Violation, check_tensorrt, refuse_illegal
from fewbit.graph.tensorrt_weights import float_weights
from tests.graph.tensorrt_nets import LEGAL, Net, looped, residual
from tests.models import body, conv_relu, info, load, node, plan_for, run, weight

MUTATIONS: dict[str, list[tuple[str, str, Callable[[Net], object]]]] = {}
"""Rule → (network, part of the message, what is done to it)."""


def breaks(rule: str, net: str, says: str) -> Callable[[Callable[[Net], object]], Callable[[Net], object]]:
    def add(change: Callable[[Net], object]) -> Callable[[Net], object]:
        MUTATIONS.setdefault(rule, []).append((net, says, change))
        return change

    return add


def inside(net: Net, made: str, name: str) -> Any:
    """A body, to be changed in place."""
    return body(net.node(made), name)


def fill(graph: Any, name: str, value: Any) -> None:
    """Another constant in a body."""
    kept = next(t for t in graph.initializer if t.name == name)
    kept.CopyFrom(numpy_helper.from_array(np.asarray(value), name))


def grid(net: Net, name: str, dtype: Any = np.int8, zero: int = 0) -> None:
    net.weights[f"{name}_z"] = np.full(np.shape(net.weights[f"{name}_s"]), zero, dtype)


def insert_pair(net: Net, value: str, reader: str) -> None:
    """Q and DQ between a value and one reader."""
    at = next(i for i, n in enumerate(net.nodes) if n.name == reader)
    rest = net.nodes[at:]
    del net.nodes[at:]
    new = net.pair(value)
    names = [new if i == value else i for i in rest[0].input]
    del rest[0].input[:]
    rest[0].input.extend(names)
    net.nodes += rest


@breaks("operator", "residual", "operator DynamicQuantizeLinear")
def _(net: Net) -> None:
    net.op("DynamicQuantizeLinear", "x", "u us uz")
    net.nodes[-1].name = "u"
    net.outputs.append("u")


@breaks("operator", "branched", "operator DynamicQuantizeLinear")
def _(net: Net) -> None:
    then = inside(net, "y", "then_branch")
    then.node.append(node("DynamicQuantizeLinear", "x", "u us uz", "u"))


def of_domain(domain: str, op: str) -> Callable[[Net], None]:
    """An operator of another domain on x, as a second output."""

    def change(net: Net) -> None:
        net.domains[domain] = 1
        net.op(op, "x", "u", domain=domain)
        net.outputs.append("u")

    return change


for _op in (
    "QLinearConv QLinearWhere QLinearReduceMean QMoE QEmbedLayerNormalization GatherBlockQuantized MatMulBnb4 "
    "NhwcMaxPool FusedConv QuickGelu MatMulNBits DequantizeLinear"
).split():
    breaks("operator", "residual", f"operator com.microsoft.{_op}")(of_domain("com.microsoft", _op))
breaks("operator", "residual", "operator com.microsoft.nchwc.Conv")(of_domain("com.microsoft.nchwc", "Conv"))
breaks("operator", "residual", "operator ai.onnx.ml.Normalizer")(of_domain("ai.onnx.ml", "Normalizer"))
breaks("plugin", "residual", "operator foo.MyOp")(of_domain("foo", "MyOp"))
breaks("plugin", "residual", "operator com.msx.Conv")(of_domain("com.msx", "Conv"))
breaks("plugin", "residual", "operator trt.TRT_FP8QuantizeLinear")(of_domain("trt", "TRT_FP8QuantizeLinear"))


@breaks("plugin", "branched", "operator foo.MyOp")
def _(net: Net) -> None:
    net.domains["foo"] = 1
    inside(net, "y", "else_branch").node[0].domain = "foo"
    inside(net, "y", "else_branch").node[0].op_type = "MyOp"


@breaks("integer-type", "branched", "uint8 integers")
def _(net: Net) -> None:
    fill(inside(net, "y", "then_branch"), "x_z", np.uint8(0))


@breaks("zero-point", "branched", "zero point 3")
def _(net: Net) -> None:
    fill(inside(net, "y", "then_branch"), "x_z", np.int8(3))


@breaks("scale", "looped", "scale 0")
def _(net: Net) -> None:
    fill(inside(net, "y", "body"), "row_s", np.float32(0))


@breaks("weight-axis", "looped", "axis 0 for the weight of m; it is 1")
def _(net: Net) -> None:
    loop = inside(net, "y", "body")
    fill(loop, "w_s", np.full(4, 0.1, np.float32))
    fill(loop, "w_z", np.zeros(4, np.int8))
    next(n for n in loop.node if n.name == "w").attribute[0].i = 0


@breaks("half-quantized", "looped", "integer weights, a float input")
def _(net: Net) -> None:
    next(n for n in inside(net, "y", "body").node if n.name == "m").input[0] = "row"


@breaks("integer-type", "residual", "uint8 integers")
def _(net: Net) -> None:
    grid(net, "ra", np.uint8)


@breaks("integer-type", "residual", "int16 integers")
def _(net: Net) -> None:
    net.opset = 21
    grid(net, "ra", np.int16)


@breaks("integer-type", "products", "uint8 integers")
def _(net: Net) -> None:
    grid(net, "w", np.uint8)


@breaks("float-bias", "residual", "a DQ of int32")
def _(net: Net) -> None:
    net.weights |= {"b_b_q": np.ones(4, np.int32), "b_b_s": np.float32(0.1), "b_b_z": np.int32(0)}
    del net.weights["b_b"]
    net.nodes.insert(0, node("DequantizeLinear", "b_b_q b_b_s b_b_z", "b_b", "b_b"))


@breaks("float-bias", "residual", "Q or DQ on the bias of b")
def _(net: Net) -> None:
    insert_pair(net, "b_b", "b")


@breaks("zero-point-missing", "residual", "no zero point")
def _(net: Net) -> None:
    del net.node("a_w").input[2]


@breaks("zero-point", "residual", "zero point -128")
def _(net: Net) -> None:
    grid(net, "ra", zero=-128)


@breaks("zero-point", "transposed", "zero point 3")
def _(net: Net) -> None:
    net.weights["w_z"][1] = 3


@breaks("computed-scale", "residual", "a scale that is computed")
def _(net: Net) -> None:
    net.inputs.append(info("s", []))
    for name in ("ra_q", "ra_dq"):
        net.node(name).input[1] = "s"


@breaks("scale", "residual", "scale 0")
def _(net: Net) -> None:
    net.weights["a_w_s"][2] = 0


@breaks("scale", "residual", "scale -0.1")
def _(net: Net) -> None:
    net.weights["ra_s"] = np.float32(-0.1)


@breaks("scale", "residual", "scale inf")
def _(net: Net) -> None:
    net.weights["ra_s"] = np.float32(np.inf)


@breaks("scale-type", "residual", "a scale of double")
def _(net: Net) -> None:
    net.weights["ra_s"] = np.float64(0.1)


@breaks("blocks", "products", "scales in blocks")
def _(net: Net) -> None:
    net.opset = 21
    net.weights |= {"w_s": np.full((2, 5), 0.1, np.float32), "w_z": np.zeros((2, 5), np.int8)}
    for name in ("w_q", "w_dq"):
        at = net.nodes.index(net.node(name))
        net.nodes[at] = node(net.nodes[at].op_type, " ".join(net.nodes[at].input), name, name, axis=0, block_size=3)


@breaks("scale-count", "residual", "3 scales along axis 0 of [4, 4, 3, 3]")
def _(net: Net) -> None:
    net.weights |= {"a_w_s": np.full(3, 0.1, np.float32), "a_w_z": np.zeros(3, np.int8)}


@breaks("scale-count", "residual", "4 scales, 1 zero points")
def _(net: Net) -> None:
    net.weights["a_w_z"] = np.int8(0)


@breaks("activation-channels", "products", "6 scales on a computed value")
def _(net: Net) -> None:
    net.weights |= {"x_s": np.full(6, 0.1, np.float32), "x_z": np.zeros(6, np.int8)}


@breaks("weight-axis", "residual", "axis 1 for the weight of a; it is 0")
def _(net: Net) -> None:
    net.node("a_w").attribute[0].i = 1


@breaks("weight-axis", "products", "axis 0 for the weight of m; it is 1")
def _(net: Net) -> None:
    net.weights |= {"w_s": np.full(6, 0.1, np.float32), "w_z": np.zeros(6, np.int8)}
    for name in ("w_q", "w_dq"):
        net.node(name).attribute[0].i = 0


@breaks("weight-axis", "transposed", "axis 0 for the weight of y; it is 1")
def _(net: Net) -> None:
    net.weights |= {"w_s": np.full(4, 0.1, np.float32), "w_z": np.zeros(4, np.int8)}
    net.node("w").attribute[0].i = 0


def along(name: str, count: int, axis: int) -> Callable[[Net], None]:
    """Scales of a weight along another axis."""

    def change(net: Net) -> None:
        net.weights |= {f"{name}_s": np.full(count, 0.1, np.float32), f"{name}_z": np.zeros(count, np.int8)}
        for n in net.nodes:
            if f"{name}_s" in n.input:
                next(a for a in n.attribute if a.name == "axis").i = axis

    return change


breaks("weight-axis", "turned", "axis 3 for the weight of c; it is 0")(along("w", 3, 0))
breaks("weight-axis", "turned", "axis 1 for the weight of c; it is 0")(along("w", 4, 3))
breaks("weight-axis", "turned", "axis 0 for the weight of m; it is 1")(along("u", 3, 1))
breaks("weight-axis", "turned", "axis 1 for the weight of y; it is 0")(along("r", 5, 2))
breaks("weight-axis", "left", "axis 1 for the weight of m; it is 0")(along("w", 8, 1))
breaks("weight-axis", "left", "axis 0 for the weight of y; it is 1")(along("v", 5, 0))


@breaks("weight-axis", "turned", "the axis of its scales is lost in g in front of y")
def _(net: Net) -> None:
    net.weights |= {"r_q": np.ones((5, 3, 1), np.int8), "r_s": np.full(5, 0.1, np.float32), "r_z": np.zeros(5, np.int8)}
    net.node("r").attribute[0].i = 0


@breaks("grouped-transpose", "transposed", "3 scales in 2 groups")
def _(net: Net) -> None:
    net.node("y").attribute[0].i = 2


@breaks("rank", "residual", "a convolution of 1 dimensions")
def _(net: Net) -> None:
    net.inputs[0] = info("x", [1, 4, 8])
    for name in ("a", "b"):
        net.weights[f"{name}_w_q"] = np.ones((4, 4, 3), np.int8)
        del net.node(name).attribute[0].ints[2:]


@breaks("computed-weight", "residual", "a weight that is computed")
def _(net: Net) -> None:
    net.inputs.append(info("v", [4, 4, 3, 3]))
    net.nodes.insert(0, node("DequantizeLinear", "v_q v_s v_z", "v_dq", "v_dq"))
    net.nodes.insert(0, node("QuantizeLinear", "v v_s v_z", "v_q", "v_q"))
    net.weights |= {"v_s": np.float32(0.1), "v_z": np.int8(0)}
    net.node("a").input[1] = "v_dq"


@breaks("half-quantized", "transposed", "integer weights, a float input")
def _(net: Net) -> None:
    net.node("y").input[0] = "x"


@breaks("pair", "residual", "its integers are read by MaxPool down")
def _(net: Net) -> None:
    at = net.nodes.index(net.node("rs_dq"))
    net.nodes.insert(at, node("MaxPool", "rs_q", "down", "down", kernel_shape=[2, 2]))
    net.node("rs_dq").input[0] = "down"


@breaks("pair", "residual", "no DQ behind it")
def _(net: Net) -> None:
    net.outputs.append("rs_q")
    net.types["rs_q"] = TensorProto.INT8


@breaks("pair", "transposed", "its integers come from an input")
def _(net: Net) -> None:
    net.inputs[0] = info("x", [1, 4, 8, 8], TensorProto.INT8)
    net.nodes.remove(net.node("x_q"))
    net.node("x_dq").input[0] = "x"


@breaks("half-quantized", "left", "integer weights, a float input")
def _(net: Net) -> None:
    net.node("m").input[1] = "x"


@breaks("half-quantized", "turned", "integer weights, a float input")
def _(net: Net) -> None:
    net.node("c").input[0] = "x"


@breaks("rank", "turned", "a convolution of 1 dimensions")
def _(net: Net) -> None:
    net.inputs[0] = info("x", [1, 4, 8])
    net.weights["w_q"] = np.ones((3, 4, 4), np.int8)
    along("w", 4, 2)(net)
    at = net.nodes.index(net.node("wt"))
    net.nodes[at] = node("Transpose", "w", "wt", "wt", perm=[2, 1, 0])


@breaks("computed-weight", "turned", "a weight that is computed")
def _(net: Net) -> None:
    net.inputs.append(info("v0", [3, 2, 3, 4]))
    net.nodes.insert(0, node("DequantizeLinear", "v0_q v0_s v0_z", "v0_dq", "v0_dq"))
    net.nodes.insert(0, node("QuantizeLinear", "v0 v0_s v0_z", "v0_q", "v0_q"))
    net.weights |= {"v0_s": np.float32(0.1), "v0_z": np.int8(0)}
    net.node("wt").input[0] = "v0_dq"


@breaks("float-weight", "left", "an integer input, float weights")
def _(net: Net) -> None:
    net.weights["f"] = weight(5, 8)
    net.node("m").input[0] = "f"


@breaks("float-weight", "transposed", "an integer input, float weights")
def _(net: Net) -> None:
    net.weights["v"] = weight(4, 3, 2, 2)
    net.node("y").input[1] = "v"


@breaks("one-side", "products", "one side is an integer, the other is not")
def _(net: Net) -> None:
    net.node("y").input[1] = "z"


@breaks("split", "residual", "between a and Relu ra")
def _(net: Net) -> None:
    insert_pair(net, "a", "ra")


@breaks("residual-float", "residual", "'ra' is added in float")
def _(net: Net) -> None:
    net.node("sum").input[1] = "ra"


@breaks("residual-both", "residual", "both sides are quantized, and b is there for it alone")
def _(net: Net) -> None:
    insert_pair(net, "b", "sum")


@breaks("open-output", "residual", "GlobalAveragePool of integers, a float output")
def _(net: Net) -> None:
    net.outputs = ["pool"]
    net.nodes = net.nodes[: net.nodes.index(net.node("pool")) + 1]


@breaks("shared-scale", "joined", "3 scales, not all the same")
def _(net: Net) -> None:
    net.weights["z_s"] = np.float32(0.2)


@breaks("rescale", "residual", "right behind rs_dq")
def _(net: Net) -> None:
    insert_pair(net, "rs_dq", "pool")


@breaks("answer", "products", "Q and DQ in front of an output of the network")
def _(net: Net) -> None:
    net.outputs = [net.pair("y")]


CASES = [pytest.param(rule, *case, id=f"{rule}-{i}") for rule, cases in MUTATIONS.items()
         for i, case in enumerate(cases)]  # fmt: skip


@pytest.mark.parametrize("name", LEGAL)
def test_nothing_is_said_of_networks_that_it_takes(name: str) -> None:
    assert check_tensorrt(LEGAL[name]().model()) == []


@pytest.mark.parametrize(("rule", "net", "says", "change"), CASES)
def test_a_change_breaks_its_rule_and_no_other(rule: str, net: str, says: str, change: Callable[[Net], object]) -> None:
    made = LEGAL[net]()
    change(made)
    found = check_tensorrt(made.model())
    assert {v.rule for v in found} == {rule}, found
    assert all(v.severity == RULES[rule].severity and v.text.endswith(RULES[rule].why) for v in found)
    assert any(v.text.startswith(says) for v in found), found


def test_every_rule_has_a_network_that_breaks_it() -> None:
    assert set(MUTATIONS) | {"opset"} == set(RULES) and len(RULES) >= 12
    assert {r.severity for r in RULES.values()} == {ILLEGAL, SLOW}
    for r in RULES.values():
        assert r.why.endswith(".") and (";" in r.why or ":" in r.why or "," in r.why), "says what to do"


def test_axes_need_opset_13() -> None:
    model = residual().model()
    model.ir.opset_imports[""] = 12
    (found,) = check_tensorrt(model)
    assert found.rule == "opset" and "the model is at opset 12. Q and DQ with an axis came with opset 13" in str(found)


def test_float_networks_are_nobody_s_business() -> None:
    assert check_tensorrt(load(conv_relu())) == []


@pytest.mark.parametrize("domain", ["TRT", "foo"])
def test_plugins_that_come_with_it_are_no_foreign_operators(domain: str) -> None:
    net = residual()
    of_domain(domain, "PyramidROIAlign_TRT")(net)
    assert check_tensorrt(net.model()) == []


def test_weights_in_bodies_become_floats_too() -> None:
    model = looped().model()
    made, count = float_weights(model)
    assert count == 1 and check_tensorrt(made) == []
    assert not any(n.op_type == "DequantizeLinear" and is_const(n.inputs[0]) for n in made.graph.all_nodes())
    fed = {"x": weight(6, 4)}
    np.testing.assert_array_equal(run(made, fed)["y"], run(model, fed)["y"])


def test_illegal_ones_come_first() -> None:
    net = residual()
    insert_pair(net, "a", "ra")
    grid(net, "rs", zero=5)
    assert [v.severity for v in check_tensorrt(net.model())] == [ILLEGAL, ILLEGAL, SLOW]


def test_what_is_written_for_tensorrt_has_to_be_legal() -> None:
    model = load(conv_relu())
    made = emit_qdq(model, plan_for(model))  # u8, with zero points and int32 biases
    said = r"TensorRT would not take this network: .*uint8 integers\. Integers of .* again with target tensorrt; "
    with pytest.raises(UnsupportedModel, match=said):
        finalize(made, 13, {}, laws="tensorrt")
    assert finalize(made, 13, {}).opset >= 13
    assert set(LAWS) == {"", "tensorrt"}


def test_what_only_costs_speed_is_let_through() -> None:
    net = residual()
    insert_pair(net, "a", "ra")
    refuse_illegal(net.model())


def test_a_violation_in_words() -> None:
    assert str(Violation("scale", ILLEGAL, "x_q", "scale 0. Why")) == "x_q: scale 0. Why"
