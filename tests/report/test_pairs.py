from __future__ import annotations

import numpy as np
import pytest
from onnx import helper, numpy_helper

from fewbit.errors import UnknownName
from fewbit.report.pairs import check_pairs, integer_range, split, value_bytes, value_pairs
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
