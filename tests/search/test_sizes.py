"""Multiplications are counted where the graph does not tell how large a value is."""

from __future__ import annotations

import numpy as np

from fewbit.data import Batch
from fewbit.engines import open_runner
from fewbit.graph.model import Model
from fewbit.search.macs import layer_macs
from fewbit.search.sizes import counted_macs
from tests.quantization.nets import net

W = {"w1": (8, 4, 3, 3), "w2": (8, 8)}


def batch(samples: int = 2) -> Batch:
    return Batch({"x": np.ones((samples, 4, 8, 8), np.float32)}, None, 0, [str(i) for i in range(samples)])


def opened(model: Model, count: list[int] | None = None) -> object:
    if count is not None:
        count.append(1)
    return open_runner("onnxruntime", model)


def test_sizes_are_those_of_a_run_for_one_sample() -> None:
    free = net("c = Conv (x, w1) y = Conv (c, w3)", inputs="float[N, 4, H, W] x", **W, w3=(2, 8, 1, 1))
    assert layer_macs(free)["Conv:c"] == 8 * 4 * 9
    found = counted_macs(free, batch(), lambda m: open_runner("onnxruntime", m))
    assert found == {"Conv:c": 8 * 36 * 4 * 9, "Conv:y": 2 * 36 * 8}
    assert [i.shape for i in free.inputs] == [("N", 4, "H", "W")]  # as it was


def test_what_the_graph_tells_is_not_run() -> None:
    known = net("y = Conv (x, w1)", "float[N, 8, 6, 6] y", w1=(8, 4, 3, 3))
    known.value("y").shape = known.graph.outputs[0].shape
    count: list[int] = []
    found = counted_macs(known, batch(), lambda m: opened(m, count))  # type: ignore[arg-type,return-value]
    assert found == layer_macs(known) == {"Conv:y": 8 * 36 * 4 * 9} and not count
