"""A network with packed weights as container, plain ONNX and float: always the same answers."""

from __future__ import annotations

import numpy as np
import pytest

import fewbit as fb
from fewbit.engines import open_runner
from fewbit.errors import AlreadyQuantized, UsageError
from fewbit.frontends import load
from fewbit.graph.files import load_model
from fewbit.graph.model import PACKED, Model
from fewbit.graph.repack import as_floats, cut
from tests.models import conv_relu, feeds_for
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
        with pytest.raises(AlreadyQuantized, match="is quantized already"):
            load(tmp_path / name)
    with pytest.raises(UsageError, match=r"a \.fewbit file holds its weights, leave params out"):
        load(tmp_path / "net.fewbit", params="w.params")


def test_input_shapes_of_a_container(packed, tmp_path):
    packed.save(tmp_path / "net.fewbit")
    fixed = load(tmp_path / "net.fewbit", allow_quantized=True, input_shapes={"x": (2, 3, 6, 6)})
    assert fixed.inputs[0].shape == (2, 3, 6, 6)
