"""Small whole networks, read from their files, against MXNet's answers (make/miniature.py)."""

from __future__ import annotations

import numpy as np
import pytest

import fewbit as fb
from fewbit.graph.model import SOURCE_OP, Model
from tests.frontends.mxnet.cases import GOLDEN, run

NETS = GOLDEN / "nets"
NAMES = ("resnetv2", "mobilenetv2", "old")


def network(name: str) -> Model:
    return fb.load(NETS / f"{name}-symbol.json", params=NETS / f"{name}-0000.params")


def golden(name: str) -> tuple[np.ndarray, np.ndarray]:
    with np.load(NETS / f"{name}.npz") as file:
        return file["data"], file["out"]


def layers(model: Model) -> dict[str, str]:
    """Node → the MXNet operator that it is."""
    return {str(n.name): n.metadata_props[SOURCE_OP] for n in model.nodes if SOURCE_OP in n.metadata_props}


@pytest.mark.parametrize("reference", [True, False], ids=["reference", "onnxruntime"])
@pytest.mark.parametrize("name", NAMES)
def test_it_answers_as_in_mxnet(name: str, reference: bool) -> None:
    data, out = golden(name)
    (got,) = run(network(name), {"data": data}, reference=reference)
    assert np.abs(out).mean() > 0.05
    np.testing.assert_allclose(got, out, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_batch_and_size_are_free(name: str) -> None:
    model = network(name)
    assert [i.shape[1] for i in model.inputs] == [3]
    assert [d for d in model.inputs[0].shape if isinstance(d, int)] == [3]
    data, out = golden(name)
    (one,) = run(model, {"data": data[1:]}, reference=False)
    np.testing.assert_allclose(one, out[1:], rtol=1e-4, atol=1e-4)
    (large,) = run(model, {"data": np.zeros((3, 3, 40, 32), np.float32)}, reference=False)
    assert large.shape == (3, 10)


@pytest.mark.parametrize("name", NAMES)
def test_a_fused_network_answers_the_same(name: str) -> None:
    data, out = golden(name)
    (got,) = run(fb.fuse(network(name)), {"data": data}, reference=False)
    np.testing.assert_allclose(got, out, rtol=1e-3, atol=1e-4)


def test_batch_normalization_behind_a_convolution_is_folded_into_it() -> None:
    fused = fb.fuse(network("mobilenetv2"))
    assert "BatchNormalization" not in {n.op_type for n in fused.nodes}
    assert fused.aliases["mobilenetv20_batchnorm0_fwd"] == "mobilenetv20_conv0_fwd"


def test_layers_and_their_values_keep_their_names() -> None:
    model = network("old")
    found = layers(model)
    assert found["stage2_unit1_conv2"] == "Convolution"
    assert found["bn_data"] == "BatchNorm"
    assert found["fc1"] == "FullyConnected"
    values = {str(v.name) for n in model.nodes for v in n.outputs}
    assert {f"{name}_output" for name in found} <= values
    assert {"stage1_unit1_conv1_weight", "fc1_bias", "bn1_moving_var"} <= set(model.graph.initializers)


def test_the_label_of_a_loss_is_no_input() -> None:
    model = network("old")
    assert [i.name for i in model.inputs] == ["data"]
    assert [o.name for o in model.outputs] == ["softmax_output"]


def test_a_checkpoint_comes_in_from_either_file() -> None:
    data, out = golden("resnetv2")
    for file in ("resnetv2-symbol.json", "resnetv2-0000.params"):
        (got,) = run(fb.load(NETS / file), {"data": data}, reference=False)
        np.testing.assert_allclose(got, out, rtol=1e-4, atol=1e-4)
