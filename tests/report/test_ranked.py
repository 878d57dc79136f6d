from __future__ import annotations

import numpy as np
import pytest

from fewbit.report.compare import compare
from fewbit.report.pairs import sized_by_data, value_pairs
from tests.report.helpers import Reference, batches, chain, detector, model, with_qdq


def test_values_whose_number_hangs_on_the_data_are_no_pairs() -> None:
    net = model(detector())
    assert sized_by_data(net) == {"kept", "where", "found"}
    assert "found" not in dict(value_pairs(net, net))


def test_compare_takes_what_the_rows_are_made_from() -> None:
    rng = np.random.default_rng(0)
    low = rng.random((3, 6, 2))
    x = np.concatenate([low, low + rng.random((3, 6, 2))], 2).astype(np.float32)
    data = batches(x, 1)
    worse = with_qdq(detector(), {"boxes": (0.15, 0)})
    runs = [Reference(model(p)).run(data[0].feeds)["found"] for p in (detector(), worse)]
    assert len(runs[0]) != len(runs[1]) or not np.allclose(*runs, atol=0.2)
    for layers in (True, False):
        found = compare(model(detector()), model(worse), data, Reference, layers=layers)
        assert [o.name for o in found.outputs] == ["scores", "boxes", "ranks", "flat"]
        assert found.sqnr is not None and 10 < found.sqnr < 40
        assert "the rows of found are ranked by the data; compared is what they are made from" in found.notes[0]
        names = {e.name for e in found.layers}
        assert names == ({"boxes", "flat", "means", "scores", "ranks"} if layers else set())


@pytest.mark.parametrize("layers", [True, False])
def test_nothing_changes_for_other_networks(layers: bool) -> None:
    data = batches(np.float32(np.random.default_rng(1).standard_normal((4, 4))), 2)
    found = compare(model(chain()), model(with_qdq(chain(), {"b": (0.05, 0)})), data, Reference, layers=layers)
    assert [o.name for o in found.outputs] == ["y"] and not found.notes
    assert len(found.layers) == (3 if layers else 0)
