"""Whole networks: the detector against OpenCV, forms of text against each other, names, heads, phases."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import fewbit as fb
from fewbit.engines import open_runner
from fewbit.frontends.caffe.convert import convert
from fewbit.frontends.caffe.net import assemble
from fewbit.frontends.caffe.weights import Weights
from fewbit.frontends.caffe.wire import Reader
from fewbit.graph.model import op_names
from tests.frontends.caffe import nets
from tests.frontends.caffe.case import in_order
from tests.frontends.caffe.loading import converted
from tests.frontends.caffe.writing import blob, field, layer, network, old_blob

GOLDEN = Path(__file__).parents[2] / "golden" / "caffe" / "outputs.npz"
RNG = np.random.default_rng(1)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_a_detector_finds_what_opencv_does(engine: str) -> None:
    text, weights = nets.ssd()
    runner = open_runner(engine, converted(text, weights), **({"precision": "f32"} if engine == "openvino" else {}))
    found = runner.run({"data": nets.ssd_images()})["detection_out"]
    with np.load(GOLDEN) as golden:
        np.testing.assert_allclose(found, golden["ssd"], atol=1e-5)
    np.testing.assert_array_equal(found, in_order(found))


def test_a_detector_keeps_its_tail_in_float() -> None:
    text, weights = nets.ssd()
    q = fb.quantize(converted(text, weights), {"data": nets.ssd_images()}, verify=False)
    assert "conv1" in [n.name for n in q.nodes]
    tail = {n.name for n in q.nodes if str(n.name).startswith("detection_out")}
    assert tail and not any(q.plan.nodes[n].quantized for n in tail if n in q.plan.nodes)


@pytest.mark.parametrize("text", [nets.V2, nets.V1, nets.V0], ids=["V2", "V1", "V0"])
def test_every_form_of_text_is_read(text: str) -> None:
    model, x = converted(text, nets.small_weights()), RNG.normal(0, 1, (2, 2, 9, 9)).astype(np.float32)
    found = open_runner("onnxruntime", model).run({"data": x})
    wanted = open_runner("onnxruntime", converted(nets.V2, nets.small_weights())).run({"data": x})
    np.testing.assert_array_equal(found["prob"], wanted["prob"])
    assert [n.name for n in model.nodes if "/" not in str(n.name)] == ["conv1", "relu1", "pool1", "norm1", "fc", "prob"]
    assert model.aliases["drop"] == "fc"


@pytest.mark.parametrize("form", ["V1", "V0"])
def test_every_form_of_weights_is_read(form: str) -> None:
    weights = nets.small_weights()
    stored = b""
    for name, arrays in weights.items():
        blobs = b"".join(field(6 if form == "V1" else 50, old_blob(a)) for a in arrays)
        if form == "V1":
            stored += field(2, field(4, name.encode()) + b"\x28\x04" + blobs)
        else:
            kind = b"conv" if name == "conv1" else b"innerproduct"
            stored += field(2, field(1, field(1, name.encode()) + field(2, kind) + blobs))
    x = RNG.normal(0, 1, (1, 2, 9, 9)).astype(np.float32)
    ours, theirs = (open_runner("onnxruntime", converted(nets.V2, w)).run({"data": x}) for w in (stored, weights))
    np.testing.assert_array_equal(ours["prob"], theirs["prob"])


def test_values_have_the_names_of_blobs() -> None:
    model = converted(nets.V2, nets.small_weights())
    made = {str(n.name): n.outputs[0].name for n in model.nodes}
    assert made["conv1"] == "conv1/conv1" and made["relu1"] == "conv1"
    assert made["pool1"] == "pool1" and made["fc"] == "fc" and made["prob"] == "prob"
    assert {"conv1/weight", "conv1/bias", "fc/weight"} <= set(model.graph.initializers)
    assert str(model.inputs[0]) == "data: float32[?, 2, 9, 9]"
    assert op_names(model.node("conv1")) == {"Convolution", "Conv"}


def test_an_output_may_be_written_in_place() -> None:
    body = layer("AbsVal", tops=["x"], name="a") + layer("ReLU", "", ["x"], ["x"], "b")
    model = converted(network(body, x=(1, 4)))
    assert model.inputs[0].name == "x" and [o.name for o in model.outputs] == ["x_2"]


def test_training_leaves_nothing_but_a_note() -> None:
    text = """
    layer { name: "in" type: "Data" top: "data" top: "label" include { phase: TRAIN }
      data_param { source: "train_lmdb" batch_size: 64 backend: LMDB } }
    layer { name: "in" type: "Data" top: "data" top: "label" include { phase: TEST }
      transform_param { crop_size: 9 mean_value: 104 mean_value: 117 mean_value: 123 scale: 0.017 mirror: true }
      data_param { source: "test_lmdb" batch_size: 8 backend: LMDB } }
    layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" param { lr_mult: 1 }
      convolution_param { num_output: 2 kernel_size: 3 weight_filler { type: "xavier" } } }
    layer { name: "same" type: "Power" bottom: "label" top: "labels" }
    layer { name: "quiet" type: "Silence" bottom: "labels" }
    layer { name: "double" type: "Power" bottom: "label" top: "twice" power_param { scale: 2 } }
    layer { name: "loss" type: "SoftmaxWithLoss" bottom: "conv" bottom: "label" top: "loss" loss_weight: 1
      loss_param { ignore_label: 255 } }
    layer { name: "top5" type: "Accuracy" bottom: "conv" bottom: "label" top: "top5" include { phase: TEST }
      accuracy_param { top_k: 5 } }
    layer { name: "extra" type: "ReLU" bottom: "conv" top: "extra" include { phase: TEST stage: "deploy" } }
    layer { name: "more" type: "ReLU" bottom: "conv" top: "more" exclude { phase: TEST not_stage: "deploy" } }
    """
    model = converted(text, {"conv": [np.ones((2, 3, 3, 3), np.float32), np.zeros(2, np.float32)]})
    assert [str(i) for i in model.inputs] == ["data: float32[?, 3, 9, 9]"]
    assert [o.name for o in model.outputs] == ["conv"]
    notes = "\n".join(model.notes)
    assert "'loss' (SoftmaxWithLoss), 'top5' (Accuracy)" in notes and "labels alone: twice" in notes
    assert "image_to_format=BGR, center_crop_width=9, center_crop_height=9" in notes
    assert "normalize_mean=104,117,123, normalize_std=58.8235, without the mirroring" in notes


def test_gray_images_are_said_to_be() -> None:
    text = (
        'layer { name: "in" type: "Data" top: "x" transform_param { scale: 0.00390625 } data_param { batch_size: 4 } }'
    )
    body = layer("Convolution", "convolution_param { num_output: 2 kernel_size: 3 }")
    model = converted(f"{text}\n{body}", {"l": [np.ones((2, 1, 3, 3)), np.zeros(2)]}, {"x": (None, 1, 8, 8)})
    assert model.notes == [
        "layer 'in' (Data) prepares its images; for the same: image_to_format=GRAY, normalize_std=256"
    ]


def test_a_state_chooses_stages() -> None:
    text = 'state { phase: TEST stage: "deploy" } ' + network(
        layer("ReLU", 'include { stage: "deploy" }', name="a")
        + layer("AbsVal", 'exclude { stage: "deploy" }', name="b"),
        x=(1, 3),
    )
    assert [n.name for n in converted(text).nodes] == ["a"]


@pytest.mark.parametrize(
    ("settings", "shape"),
    [
        ('Data" transform_param { crop_size: 6 } data_param { mirror: false', (None, 3, 6, 6)),
        ('ImageData" image_data_param { new_height: 7 new_width: 8 is_color: true', (None, 3, 7, 8)),
        ('MemoryData" memory_data_param { batch_size: 2 channels: 3 height: 5 width: 6', (None, 3, 5, 6)),
        ('DummyData" dummy_data_param { num: 4 channels: 3 height: 5 width: 6', (None, 3, 5, 6)),
        ('DummyData" dummy_data_param { shape { dim: 4 dim: 3 dim: 5 dim: 6 }', (None, 3, 5, 6)),
        ('Input" input_param { shape { dim: 4 dim: 3 dim: 5 dim: 6 }', (None, 3, 5, 6)),
    ],
)
def test_data_layers_are_inputs(settings: str, shape: tuple[int | None, ...]) -> None:
    body = layer("Convolution", "convolution_param { num_output: 2 kernel_size: 3 }")
    model = converted(
        f'layer {{ name: "in" top: "x" type: "{settings} }} }}\n{body}', {"l": [np.ones((2, 3, 3, 3)), np.zeros(2)]}
    )
    assert model.inputs[0].shape == shape


def test_the_caller_says_other_shapes() -> None:
    model = converted(nets.V2.replace("dim: 9 dim: 9", "dim: 13 dim: 5"), nets.small_weights(), {"data": (4, 2, 9, 9)})
    assert model.inputs[0].shape == (4, 2, 9, 9)


def test_weights_may_be_shared_by_name() -> None:
    body = layer("InnerProduct", 'param { name: "w" } inner_product_param { num_output: 3 bias_term: false }', name="a")
    body += layer(
        "InnerProduct", 'param { name: "w" } inner_product_param { num_output: 3 bias_term: false }', ["y"], ["z"], "b"
    )
    w, x = RNG.normal(0, 1, (3, 3)).astype(np.float32), RNG.normal(0, 1, (2, 3)).astype(np.float32)
    found = open_runner("onnxruntime", converted(network(body, x=(2, 3)), {"a": [w]})).run({"x": x})["z"]
    np.testing.assert_allclose(found, x @ w.T @ w.T, rtol=1e-5)


def test_fillers_that_are_no_chance_stand_in_for_weights() -> None:
    fill = 'weight_filler { type: "bilinear" }'
    body = layer(
        "Deconvolution",
        f"convolution_param {{ num_output: 2 kernel_size: 4 stride: 2 pad: 1 group: 2 bias_term: false {fill} }}",
    )
    model = converted(network(body, x=(1, 2, 3, 3)))
    line = np.array([0.25, 0.75, 0.75, 0.25])
    weight = model.graph.initializers["l/weight"].const_value
    assert weight is not None
    np.testing.assert_allclose(weight.numpy(), np.broadcast_to(np.outer(line, line), (2, 1, 4, 4)))


def test_a_caffemodel_alone_is_a_network() -> None:
    weights = nets.small_weights()
    conv = field(106, b"\x08\x04\x22\x01\x03\x1a\x01\x01\x32\x01\x02")  # lists of numbers, packed
    blobs = b"".join(field(7, blob(a)) for a in weights["conv1"])
    layers = (
        ("data", b"Data", b"", field(4, b"data") + field(4, b"label") + field(100, b"\x18\x09")),
        ("conv1", b"Convolution", b"data", field(4, b"conv1") + conv + blobs),
        ("relu1", b"ReLU", b"conv1", field(4, b"conv1") + b"\x50\x00"),
    )
    stored = b"".join(
        field(100, field(1, n.encode()) + field(2, t) + (field(3, b) if b else b"") + rest) for n, t, b, rest in layers
    )
    message = Reader(memoryview(stored), "net.caffemodel").message("Net")
    model = convert(assemble(message, "net.caffemodel", choose=False), Weights(message.all("layer"), "net.caffemodel"))
    assert model.inputs[0].shape == (None, 2, 9, 9) and model.outputs[0].shape == (None, 4, 5, 5)
