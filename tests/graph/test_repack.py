"""A network with packed weights as container, plain ONNX and float: always the same answers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import fewbit as fb
from fewbit.core.plan import NodePlan
from fewbit.engines import open_runner
from fewbit.errors import AlreadyQuantized, UsageError
from fewbit.frontends import load
from fewbit.graph.files import load_model
from fewbit.graph.model import PACKED, Model
from fewbit.graph.repack import as_floats, cut
from tests.models import conv_relu, feeds_for, info, node, proto, weight
from tests.models import load as wrap


@pytest.fixture
def packed() -> Model:
    """A network of one convolution, its weight in 3 bits."""
    model = wrap(conv_relu(channels=64))
    return fb.quantize(model, quant_type="weight", bit_num=3, effort="fast", verify=False)


def answers(model: Model) -> np.ndarray:
    return open_runner("onnxruntime", model, threads=1).run(feeds_for(model))["y"]


def test_a_container_comes_back_as_the_same_network(packed, tmp_path):
    packed.save(tmp_path / "net.fewbit")
    assert (tmp_path / "net.plan.json").exists()
    back = load(tmp_path / "net.fewbit", allow_quantized=True)
    assert np.array_equal(answers(back), answers(packed))
    assert set(back.stored) == set(packed.stored) == {"w"}
    assert np.array_equal(back.stored["w"].real(), packed.stored["w"].real())
    back.save(tmp_path / "plain.onnx")
    assert np.array_equal(answers(load_model(tmp_path / "plain.onnx", allow_quantized=True)), answers(packed))


def test_float_weights_again(packed, tmp_path):
    packed.save(tmp_path / "net.onnx")
    plain = load_model(tmp_path / "net.onnx", allow_quantized=True)
    for model in (packed, plain):
        floats = as_floats(model)
        assert floats.op_counts() == {"Conv": 1, "Relu": 1}
        assert PACKED not in floats.metadata
        assert np.array_equal(answers(floats), answers(packed))


def test_cutting_leaves_the_network_as_it_was(packed):
    before = answers(packed)
    hollow = cut(packed)
    assert hollow.op_counts() == {"Conv": 1, "Relu": 1}
    assert not hollow.stored
    assert np.array_equal(answers(packed), before)
    assert "w" in packed.stored


def test_quantized_files_are_not_taken_for_float_ones(packed, tmp_path):
    for name in ("net.fewbit", "net.onnx"):
        packed.save(tmp_path / name)
        with pytest.raises(AlreadyQuantized, match=r"is quantized already \(1 of its weights are stored in few bits"):
            fb.quantize(tmp_path / name, quant_type="weight")
    with pytest.raises(AlreadyQuantized):
        load(tmp_path / "net.onnx")
    with pytest.raises(AlreadyQuantized):
        fb.quantize(load(tmp_path / "net.fewbit"), quant_type="weight")
    with pytest.raises(UsageError, match=r"a \.fewbit file holds its weights, leave params out"):
        load(tmp_path / "net.fewbit", params="w.params")


def test_input_shapes_of_a_container(packed, tmp_path):
    packed.save(tmp_path / "net.fewbit")
    fixed = load(tmp_path / "net.fewbit", allow_quantized=True, input_shapes={"x": (2, 3, 6, 6)})
    assert fixed.inputs[0].shape == (2, 3, 6, 6)


def tied(*extra: str) -> Model:
    """ids → Gather(W) → e → MatMul(W) → y; W may also be read by an Add, or be an output."""
    nodes = [node("Gather", "W ids", "e", "table"), node("MatMul", "e W", "y", "head")]
    outputs = [info("y", None)]
    if "add" in extra:
        nodes.append(node("Add", "W W", "z", "add"))
        outputs.append(info("z", None))
    if "output" in extra:
        outputs.append(info("W", [64, 64]))
    return wrap(proto(nodes, [info("ids", [3], 7)], outputs, {"W": weight(64, 64)}))


def test_a_weight_that_two_layers_read_is_packed_once() -> None:
    q = fb.quantize(tied(), quant_type="weight", bit_num=4, effort="fast", verify=False)
    assert list(q.stored) == ["W"] and q.op_counts()["MatMul"] == 1
    assert q.node("head").inputs[1] is q.node("table").inputs[0]
    assert q.nbytes < 4096


@pytest.mark.parametrize("how", ["add", "output"])
def test_a_weight_that_is_needed_in_float_is_not_packed(how: str) -> None:
    plan = fb.make_plan(tied(how), quant_type="weight", bit_num=4)
    assert not plan.values
    assert "stored twice" in plan.nodes["head"].reason or "output of the network" in plan.nodes["head"].reason


@pytest.mark.parametrize("how", ["add", "output"])
def test_a_plan_may_pack_it_all_the_same(how: str, tmp_path) -> None:
    model = tied(how)
    plan = fb.make_plan(tied(), quant_type="weight", bit_num=4)
    nodes = dict.fromkeys([str(n.name) for n in model.nodes], NodePlan(False, "")) | dict(plan.nodes)
    q = fb.apply(model, replace(plan, nodes=nodes, model=""))
    assert list(q.stored) == ["W_unpacked"]
    q.save(tmp_path / "q.fewbit")
    feeds = {"ids": np.array([0, 5, 63])}
    want = open_runner("onnxruntime", q).run(feeds)
    for other in (load(tmp_path / "q.fewbit"), as_floats(q)):
        got = open_runner("onnxruntime", other).run(feeds)
        assert all(np.array_equal(got[k], want[k]) for k in want)


@pytest.mark.parametrize("name", ["u", "u1", "u2", "u1.s"])
def test_weights_called_like_what_unpacks_them(name: str, tmp_path) -> None:
    model = wrap(
        proto([node("MatMul", f"x {name}", "y", "mm")], [info("x", [2, 64])], [info("y", None)], {name: weight(64, 48)})
    )
    q = fb.quantize(model, quant_type="weight", bit_num=3, effort="fast", verify=False)
    assert list(q.stored) == [name]
    q.save(tmp_path / "q.fewbit")
    x = {"x": weight(2, 64, seed=1)}
    want = open_runner("onnxruntime", q).run(x)["y"]
    assert np.abs(want - x["x"] @ q.stored[name].real()).max() < 1e-4
    for other in (load(tmp_path / "q.fewbit"), as_floats(q)):
        assert np.array_equal(open_runner("onnxruntime", other).run(x)["y"], want)


def test_inputs_of_different_batches_need_no_data() -> None:
    model = wrap(
        proto([node("MatMul", "x w", "m", "mm"), node("Mul", "m s", "y", "mul")],
              [info("x", [4, 64]), info("s", [])], [info("y", None)], {"w": weight(64, 48)})
    )  # fmt: skip
    q = fb.quantize(model, quant_type="weight", bit_num=4)
    assert q.report is not None and q.report.cosine is not None and q.report.cosine > 0.9
