from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from onnx import helper, numpy_helper

from fewbit.core.plan import Plan
from fewbit.core.spec import QuantSpec
from fewbit.errors import UnknownName
from fewbit.graph.emit import emit_qdq
from fewbit.graph.model import Model
from fewbit.report.pairs import check_pairs, integer_format, integer_range, split, value_bytes, value_pairs, width_name
from tests.models import load, matmul, plan_for
from tests.report.helpers import build, chain, model, with_qdq


def test_a_value_is_paired_with_what_its_readers_see() -> None:
    q = model(with_qdq(chain(), {"x": (0.1, 128), "b": (0.2, 0)}))
    assert value_pairs(model(chain()), q) == [("x", "x_dq"), ("a", "a"), ("b", "b_dq"), ("y", "y")]


def test_an_output_keeps_its_name_behind_the_dq() -> None:
    q = model(with_qdq(chain(), {"y": (0.1, 0)}))
    assert value_pairs(model(chain()), q)[-1] == ("y", "y")
    assert integer_range(q.value("y")) == pytest.approx((0, 25.5))


def test_names_of_other_tools_do_not_matter() -> None:
    proto = with_qdq(chain(), {"b": (0.2, 0)})
    for node in proto.graph.node:
        node.input[:] = [n.replace("b_dq", "QuantizedThing_7") for n in node.input]
        node.output[:] = [n.replace("b_dq", "QuantizedThing_7") for n in node.output]
    assert ("b", "QuantizedThing_7") in value_pairs(model(chain()), model(proto))


def test_an_untouched_input_is_no_layer_and_a_constant_neither() -> None:
    assert value_pairs(model(chain()), model(chain())) == [("a", "a"), ("b", "b"), ("y", "y")]


def test_a_clip_of_the_float_network_is_not_taken_for_one_in_front_of_a_q() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], "relu"),
        helper.make_node("Clip", ["a", "", "six"], ["y"], "clip"),
        helper.make_node("Relu", ["y"], ["z"], "last"),
    ]
    proto = build(nodes, [numpy_helper.from_array(np.float32(6), "six")], [("x", [1, 4])], [("z", [1, 4])])
    pairs = value_pairs(model(proto), model(with_qdq(proto, {"y": (0.1, 0)})))
    assert pairs == [("a", "a"), ("y", "y_dq"), ("z", "z")]


def test_a_clip_in_front_of_a_q_narrows_the_range() -> None:
    proto = with_qdq(chain(), {"b": (0.5, 10)})
    q_node = next(n for n in proto.graph.node if n.name == "b_q")
    at = list(proto.graph.node).index(q_node)
    q_node.input[0] = "b_clip"
    proto.graph.node.insert(at, helper.make_node("Clip", ["b", "lo", "hi"], ["b_clip"], "b_clip"))
    for name, value in (("lo", -5.0), ("hi", 2.5)):
        proto.graph.initializer.append(numpy_helper.from_array(np.float32(value), name))
    q = model(proto)
    assert dict(value_pairs(model(chain()), q))["b"] == "b_dq"
    assert integer_range(q.value("b_dq")) == (-5.0, 2.5)


def test_the_range_follows_from_scale_and_zero_point() -> None:
    q = model(with_qdq(chain(), {"b": (0.5, 10)}))
    assert integer_range(q.value("b_dq")) == (-5.0, 122.5)
    assert integer_range(q.value("a")) is None and integer_range(q.value("x")) is None


def emitted(spec: QuantSpec) -> tuple[Model, Model, Plan]:
    """Float and integer network, whose values all have this format, and the plan."""
    fused = load(matmul())
    plan = plan_for(fused)
    values = {
        name: replace(v, spec=spec, lo=-1.7 if spec.signed else 0.0, hi=2.3) if v.role == "act" else v
        for name, v in plan.values.items()
    }
    plan = replace(plan, values=values)
    return fused, emit_qdq(fused, plan), plan


KINDS = ((False, False, False), (True, True, False), (True, True, True), (True, False, False))
FORMATS = [
    QuantSpec(bits=bits, signed=signed, symmetric=symmetric, narrow=narrow)
    for bits in (*range(1, 9), 9, 12, 16)
    for signed, symmetric, narrow in (
        (False, False, False),
        (True, True, False),
        (True, True, True),
        (True, False, False),
    )
    if bits > 1 or not narrow
]


@pytest.mark.parametrize("spec", FORMATS, ids=lambda s: f"{'s' if s.signed else 'u'}{s.bits}{s.symmetric}{s.narrow}")
def test_every_format_of_a_plan_is_read_from_the_file(spec: QuantSpec) -> None:
    fused, made, plan = emitted(spec)
    seen = dict(value_pairs(fused, made))
    acts = [name for name, v in plan.values.items() if v.role == "act"]
    assert acts
    for name in acts:
        params, found = plan.params(name), integer_format(made.value(seen[name]))
        assert found is not None, name
        s, z = float(params.scale), int(params.zero_point)
        assert found == (f"{'' if spec.signed else 'u'}int{spec.bits}", s, z, spec.qmin, spec.qmax)
        assert integer_range(made.value(seen[name])) == ((spec.qmin - z) * s, (spec.qmax - z) * s)


@pytest.mark.parametrize(
    ("integers", "floats", "least", "most", "name"),
    [
        ((5, 20), None, 5, 20, "uint8"),
        ((0, 15), None, 0, 15, "uint4"),
        ((0, 15), (-4.0, 1.0), 2, 12, "uint8"),  # scale 0.5, zero point 10
        ((None, 15), (None, 1.1), 0, 12, "uint8"),
        ((3, None), None, 3, 255, "uint8"),
        (None, (-5.0, 2.5), 0, 15, "uint4"),
        ((200, 100), None, 200, 200, "uint8"),
        (None, (-1e30, 1e30), 0, 255, "uint8"),
    ],
)
def test_clips_in_front_of_and_behind_the_q(
    integers: tuple[int | None, int | None] | None,
    floats: tuple[float | None, float | None] | None,
    least: int, most: int, name: str,
) -> None:  # fmt: skip
    proto = with_qdq(chain(), {"b": (0.5, 10)})
    for ends, kind, at, word in ((integers, np.uint8, "b_dq", "ints"), (floats, np.float32, "b_q", "reals")):
        if ends is None:
            continue
        user = next(n for n in proto.graph.node if n.name == at)
        names = [f"{word}{i}" if e is not None else "" for i, e in enumerate(ends)]
        clip = helper.make_node("Clip", [user.input[0], *names], [f"{word}_clip"], f"{word}_clip")
        proto.graph.node.insert(list(proto.graph.node).index(user), clip)
        user.input[0] = f"{word}_clip"
        for n, e in zip(names, ends, strict=True):
            if e is not None:
                proto.graph.initializer.append(numpy_helper.from_array(np.asarray(e, kind), n))
    q = model(proto)
    assert dict(value_pairs(model(chain()), q))["b"] == "b_dq"
    assert integer_format(q.value("b_dq")) == (name, 0.5, 10, least, most)
    assert integer_range(q.value("b_dq")) == ((least - 10) * 0.5, (most - 10) * 0.5)


def test_a_computed_end_of_a_clip_says_nothing() -> None:
    made = emitted(QuantSpec(bits=4, signed=False))[1]
    clip = next(n for n in made.nodes if n.op_type == "Clip")
    x = clip.outputs[0].uses()[0].node.outputs[0]
    assert integer_format(x).name == "uint4"  # type: ignore[union-attr]
    clip.replace_input_with(2, clip.inputs[0])
    assert integer_format(x)[3:] == (0, 255)  # type: ignore[index]


def test_widths() -> None:
    assert [width_name("int8", *e) for e in ((-1, 1), (-2, 1), (-7, 7), (-8, 7), (-127, 127), (-128, 127), (0, 7))] == [
        "int2", "int2", "int4", "int4", "int8", "int8", "int8",
    ]  # fmt: skip
    assert width_name("uint8", 0, 1) == "uint1" and width_name("int16", -2047, 2047) == "int12"


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        (("bb", "b"), ["float network", "'bb'", "did you mean", "'b'"]),
        (("b", "b_dx"), ["quantized network", "'b_dx'", "'b_dq'"]),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(pair: tuple[str, str], words: list[str]) -> None:
    q = model(with_qdq(chain(), {"b": (0.5, 10)}))
    with pytest.raises(UnknownName) as e:
        check_pairs([pair], model(chain()), q)
    assert all(w in str(e.value) for w in words)


def test_free_axes_take_their_length_from_the_batch() -> None:
    sizes = value_bytes(model(chain()), {"x": np.zeros((7, 4), np.float32)})
    assert sizes["a"] == sizes["y"] == 7 * 4 * 4


@pytest.mark.parametrize(("limit", "sizes"), [(1, [1, 1, 1]), (2 * 2 * 112, [2, 1]), (10**6, [3])])
def test_groups_stay_below_the_limit(limit: int, sizes: list[int]) -> None:
    pairs = [("a", "a"), ("b", "b"), ("y", "y")]
    groups = split(pairs, model(chain()), {"x": np.zeros((7, 4), np.float32)}, limit)
    assert [len(g) for g in groups] == sizes and [p for g in groups for p in g] == pairs


def test_no_pair_is_one_empty_group() -> None:
    assert split([], model(chain()), {"x": np.zeros((7, 4), np.float32)}, 1) == [[]]
