"""Multiplications are counted for one sample, in a run where the graph does not tell how large a value is."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from fewbit.data import Batch
from fewbit.engines import open_runner
from fewbit.graph.model import Model
from fewbit.search.candidates import candidate
from fewbit.search.macs import counted_macs, integer_share
from tests import models
from tests.models import TARGET, info, load, node, proto, weight
from tests.quantization.nets import net
from tests.search.helpers import FULL, chain

W = {"w1": (8, 4, 3, 3), "w2": (8, 8)}


def batch_for(model: Model, samples: int) -> Batch:
    return Batch(models.feeds_for(model, batch=samples), None, 0, [str(i) for i in range(samples)])


def counted(model: Model, samples: int = 2, runs: list[Model] | None = None) -> dict[str, int]:
    def opened(m: Model):
        if runs is not None:
            runs.append(m)
        return open_runner("onnxruntime", m)

    return counted_macs(model, batch_for(model, samples), opened)


def up(groups: int) -> onnx.ModelProto:
    weights = {"w": weight(4, 6 // groups, 2, 2)}
    return proto([node("ConvTranspose", "x w", "y", "up", group=groups, strides=[2, 2])],
                 [info("x", ["n", 4, 3, 3])], [info("y", ["n", 6, 6, 6])], weights)  # fmt: skip


@pytest.mark.parametrize(
    ("made", "layer", "count"),
    [
        (models.conv_relu(size=6, channels=4), "conv", 4 * 6 * 6 * 27),
        (models.depthwise(), "depthwise", 4 * 6 * 6 * 9),
        (models.matmul(k=32, n=8), "mm", 32 * 8),
        (models.gemm(trans=0), "fc", 5 * 6),
        (models.gemm(trans=1), "fc", 5 * 6),
        (up(1), "up", 4 * 3 * 3 * 6 * 4),
        (up(2), "up", 4 * 3 * 3 * 3 * 4),
    ],
    ids=["Conv", "depthwise", "MatMul", "Gemm", "Gemm turned", "ConvTranspose", "grouped ConvTranspose"],
)
def test_what_the_graph_tells_is_not_run(made, layer, count):
    model, runs = load(made), []
    free = not isinstance(model.inputs[0].shape[0], int)
    found = counted(model, 3 if free else 1, runs)
    assert found[layer] == count and not runs
    assert list(found) == [n.name for n in model.nodes]
    assert all(k == 0 for n, k in found.items() if n in ("relu", "relu6"))


def test_sizes_that_the_input_gives_are_those_of_a_run():
    free = net("c = Conv (x, w1) y = Conv (c, w3)", inputs="float[N, 4, H, W] x", **W, w3=(2, 8, 1, 1))
    batch = Batch({"x": np.ones((2, 4, 8, 8), np.float32)}, None, 0, ["a", "b"])
    found = counted_macs(free, batch, lambda m: open_runner("onnxruntime", m))
    assert found == {"Conv:c": 8 * 36 * 4 * 9, "Conv:y": 2 * 36 * 8}
    assert [i.shape for i in free.inputs] == [("N", 4, "H", "W")]  # as it was


def test_sizes_that_no_one_wrote_down_are_those_of_a_run():
    made = models.conv_relu(size=6, channels=4)
    made.graph.node[0].output[0] = made.graph.node[1].input[0] = "unknown"
    model, runs = load(made), []
    model.value("unknown").shape = None
    assert counted(model, 3, runs)["conv"] == 4 * 6 * 6 * 27 and len(runs) == 1


def test_an_axis_that_mixes_samples_with_something_else_counts_in_full():
    nodes = [node("Reshape", "x s", "r"), node("MatMul", "r w", "y", "mm")]
    model = load(proto(nodes, [info("x", ["n", 7, 8])], [info("y", ["rows", 5])],
                       {"s": np.array([-1, 8]), "w": weight(8, 5)}))  # fmt: skip
    assert counted(model, 4) == {"reshape_r": 0, "mm": 7 * 8 * 5}


def test_a_network_for_many_samples_counts_for_one():
    made = models.residual()
    for value in (*made.graph.input, *made.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 4
    model, runs = load(made), []
    found = counted_macs(model, batch_for(model, 4), lambda m: runs.append(m) or open_runner("onnxruntime", m))
    assert found["conv1"] == 4 * 6 * 6 * 27


def test_the_share_of_a_network_without_multiplications_is_whole():
    model, plan = chain(2)
    assert integer_share(plan, {"l0": 1, "l1": 3}) == 1.0
    part = candidate(model, plan, FULL, TARGET, {"l1": "why"})
    assert integer_share(part, {"l0": 1, "l1": 3}) == 0.25 and integer_share(part, {"l0": 0}) == 1.0
