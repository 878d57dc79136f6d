from __future__ import annotations

from fewbit.graph.ranked import Ranked, in_front, ranked
from fewbit.graph.rewrite import PATTERN_KEY
from tests.report.helpers import chain, detector, model


def test_what_a_suppression_ranks_and_what_it_is_made_from() -> None:
    found = ranked(model(detector()))
    assert found.outputs == ("found",) and set(found.fronts) == {"boxes", "ranks", "flat"}
    assert found.inside == {"kept", "where", "found"}


def test_a_tag_takes_the_whole_operator_with_it() -> None:
    net = model(detector())
    for node in net.nodes:
        if node.name in ("nms", "unsqueeze", "flat"):
            node.metadata_props[PATTERN_KEY] = "MultiBoxDetection:d"
    found = ranked(net)
    assert found.outputs == ("found",) and set(found.fronts) == {"boxes", "scores"}


def test_other_networks_have_nothing_ranked() -> None:
    assert ranked(model(chain())) == Ranked()


def test_a_network_answers_in_front_of_the_ranking() -> None:
    net = model(detector())
    tail = ranked(net)
    seen = in_front(net, tail)
    assert {o.name for o in seen.outputs} == {o.name for o in net.outputs} - {"found"} | set(tail.fronts)
    assert "NonMaxSuppression" not in seen.op_counts() and "NonMaxSuppression" in net.op_counts()
    other = model(chain())
    assert in_front(other, tail) is other and in_front(other, Ranked()) is other
