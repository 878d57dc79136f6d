"""Whole networks: what they compute, how few Transposes they have, and what their inputs and outputs are called."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fewbit.graph.model import attr
from tests.frontends.tflite import nets
from tests.frontends.tflite.cases import SAME, VALID, f
from tests.frontends.tflite.one import lite, read, run

PADS = [[2, 3], [2, 2]]
NETS = {
    "mobile": nets.mobile(), "mobile free": nets.mobile(free=True), "flattened": nets.flattened(),
    "attention": nets.attention(), "shapes": nets.sizes_of_itself(),
    "dilated": nets.dilated(PADS, [[0, 1], [0, 0]]),
    "dilated same": nets.dilated([[0, 1], [0, 0]], [[0, 1], [0, 0]], SAME),
    "dilated deep": nets.dilated(PADS, [[0, 1], [1, 0]], op="DEPTHWISE_CONV_2D"),
    "blocks": nets.dilated([[0, 1], [0, 0]], [[1, 0], [0, 1]], VALID),
}  # fmt: skip


def agree(file: bytes, feeds: dict[str, NDArray[Any]], **how: Any) -> Any:
    model = read(file, **how)
    found = run(model, feeds)
    for name, want in lite(file, feeds).items():
        assert found[name].shape == want.shape
        assert np.abs(found[name] - want).max() <= 1e-5 * max(1, np.abs(want).max())
    return model


def feeds_of(file: bytes) -> dict[str, NDArray[Any]]:
    return {i.name: f(*(d if isinstance(d, int) else 1 for d in i.shape)) for i in read(file).inputs}


@pytest.mark.parametrize("name", NETS)
def test_a_network_computes_what_litert_computes(name: str) -> None:
    agree(NETS[name], feeds_of(NETS[name]))


@pytest.mark.parametrize(("name", "most"), [("mobile", 1), ("mobile free", 1), ("flattened", 1), ("dilated", 2)])
def test_pictures_are_turned_once(name: str, most: int) -> None:
    assert read(NETS[name]).op_counts()["Transpose"] <= most


@pytest.mark.parametrize("name", ["dilated", "dilated same", "dilated deep"])
def test_blocks_around_a_convolution_are_its_dilation(name: str) -> None:
    model = read(NETS[name])
    assert model.op_counts() == {"Transpose": 2, "Conv": 1, "Relu": 1}
    assert attr(next(n for n in model.nodes if n.op_type == "Conv"), "dilations") == (2, 2)


def test_crops_that_are_no_padding_stay() -> None:
    assert read(NETS["blocks"]).op_counts()["Reshape"] >= 4


def test_a_flattened_picture_is_not_turned_but_the_weight_is() -> None:
    assert set(read(NETS["flattened"]).op_counts()) == {"Transpose", "Conv", "Flatten", "Gemm"}


def test_inputs_and_outputs_are_those_of_the_file() -> None:
    model = read(NETS["mobile"])
    assert [(i.name, i.shape) for i in model.inputs] == [("image", (1, 12, 12, 3))]
    assert [(o.name, o.shape) for o in model.outputs] == [("probabilities", (1, 5))]
    assert "the file's signature: picture is image, scores is probabilities" in model.notes


def test_layers_are_called_by_what_they_make() -> None:
    model = read(NETS["mobile"])
    conv = next(n for n in model.nodes if n.op_type == "Conv")
    assert conv.name == "conv_2d2" and conv.metadata_props["fewbit.source_op"] == "CONV_2D"


def test_a_free_batch_is_free() -> None:
    model = read(NETS["mobile free"])
    assert model.inputs[0].shape[1:] == (12, 12, 3) and not isinstance(model.inputs[0].shape[0], int)
    x = f(3, 12, 12, 3)
    want, got = lite(NETS["mobile free"], {"image": x}), run(model, {"image": x})
    assert np.allclose(got["probabilities"], want["probabilities"], atol=1e-5)


@pytest.mark.parametrize("name", ["mobile", "flattened"])
@pytest.mark.parametrize("batch", [None, 2])
def test_a_fixed_batch_can_be_changed(name: str, batch: int | None) -> None:
    sizes = read(NETS[name]).inputs[0].shape[1:]
    model = read(NETS[name], shapes={"image": (batch, *sizes)})
    x = f(2, *(int(s or 0) for s in sizes))
    (want,), (got,) = lite(NETS[name], {"image": x}).values(), run(model, {"image": x}).values()
    assert np.allclose(want, got, atol=1e-4)


def test_another_size_of_pictures() -> None:
    model = read(NETS["mobile"], shapes={"image": (1, None, None, 3)})
    x = f(1, 17, 14, 3)
    (want,), (got,) = lite(NETS["mobile"], {"image": x}).values(), run(model, {"image": x}).values()
    assert np.allclose(want, got, atol=1e-5)


def test_several_graphs_give_a_note() -> None:
    net = nets.Net(x=nets.Fed((2, 3)))
    model = read(net.file(net.add("RELU", ["x"], (2, 3)), graphs=2))
    assert model.notes == ["the file holds 2 graphs; the first one is read"]


def test_an_input_may_be_an_output() -> None:
    net = nets.Net(x=nets.Fed((1, 2, 2, 3)))
    y = net.add("TRANSPOSE", ["x", net.const(np.asarray([0, 2, 1, 3], np.int32))], (1, 2, 2, 3), "TransposeOptions")
    z = net.add("RESHAPE", [y, net.const(np.asarray([1, 2, 2, 3], np.int32))], (1, 2, 2, 3), "ReshapeOptions")
    file, x = net.file("x", y, z), f(1, 2, 2, 3)
    found = run(read(file), {"x": x})
    assert list(found) == ["x", y, z]
    assert (found["x"] == x).all() and (found[y] == x.transpose(0, 2, 1, 3)).all() and (found[z] == found[y]).all()
