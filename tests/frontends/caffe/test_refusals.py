"""What is wrong with a network, said so that one knows what to do."""

from __future__ import annotations

import numpy as np
import pytest

from fewbit.errors import FewbitError, ModelFormatError, UnknownName, UnsupportedModel
from tests.frontends.caffe.loading import converted
from tests.frontends.caffe.writing import layer, network

CONV = "convolution_param { num_output: 2 kernel_size: 3 }"


def one(type_: str, settings: str = "", *bottoms: str, tops: tuple[str, ...] = ("y",)) -> str:
    return network(layer(type_, settings, bottoms or ("x",), tops), x=(1, 4, 6, 6), z=(1, 3, 5, 5))


TEXTS = [
    ("layer {\n  nam: 'x' }", "line 2: a layer has no field 'nam'; did you mean 'name'?"),
    (
        "layer { name: 'a'\n pooling_param {\n kernel_sise: 3 } }",
        "line 3: the Pooling that line 2 opens has no field 'kernel_sise'; did you mean 'kernel_size'",
    ),
    ("layer { name: 'a' type: 3 }", "line 1: type is 3; it must be text in quotes"),
    ("layer { pooling_param { pool: MEDIAN } }", "pool is MEDIAN; it must be one of MAX, AVE, STOCHASTIC"),
    ("layer { pooling_param { stride: 1.5 } }", "stride is 1.5; it must be a whole number up to 2147483647"),
    ("layer { prior_box_param { flip: maybe } }", "flip is maybe; it must be true or false"),
    ("layer { pooling_param: 3 }", "pooling_param must be in brackets"),
    ("layer { name 'a' }", "name needs a colon and a value"),
    ("layer { name: 'a'\n", "line 2: the text ends inside of a Layer that line 1 opens"),
    ("layer { loss_param { a { b: 1 }\n", "the text ends inside of loss_param, which line 1 opens"),
    ("layer { name: 'a' }}", "'}' where a field should stand"),
    ("layer { name: 'a\n' }", "line 1: \"'a"),
    (
        "net: 'x.prototxt'\nbase_lr: 0.1",
        "tells how a network is trained (it has 'net'); load the network that it names",
    ),
    ("layer { name: '\\q\\xzz' }", "cannot be read"),
]


@pytest.mark.parametrize(("text", "words"), TEXTS, ids=[w for _, w in TEXTS])
def test_a_text_that_cannot_be_read(text: str, words: str) -> None:
    with pytest.raises(ModelFormatError) as e:
        converted(text)
    assert words in str(e.value) and "net.prototxt" in str(e.value)


def test_bytes_are_no_text() -> None:
    from fewbit.frontends.caffe import text

    for data, words in (
        (b"\x0a\x00", "is no text; if it holds weights"),
        (b"name: '\xff'", "line 1: a byte that is no UTF-8"),
        (b" " * (text.LARGEST + 1), "at most"),
    ):
        with pytest.raises(ModelFormatError, match=words):
            text.parse(data, "net.prototxt")


NETWORKS = [
    (
        one("Yolo")
        + layer("Python", "python_param { module: 'a' }", ["y"], ["w"], "p")
        + layer("Yolo", "", ["w"], ["v"], "q"),
        UnsupportedModel,
        "2 types of Caffe layers that fewbit does not know: Yolo in l, q; Python (code of its own) in p",
    ),
    (
        one("Convolution", "convolution_parm { num_output: 2 }"),
        ModelFormatError,
        "line 6: convolution_parm is no field of a layer; did you mean 'convolution_param' or",
    ),
    (
        one("ReLU", "relu_param { } yolo_param { a: 1 b { c: 2 } }"),
        ModelFormatError,
        "line 6: yolo_param is no field of a layer",
    ),
    (one("ReLU", "", "w"), ModelFormatError, "reads the blob 'w', which no layer before it writes"),
    ("layer { name: 'a' top: 'y' }", ModelFormatError, "layer 'a' has no type (line 1)"),
    (network("", x=(1,)), ModelFormatError, "has no layer that answers anything"),
    (
        network(layer("ReLU", "include { phase: TRAIN }"), x=(1,)),
        ModelFormatError,
        "1 layers are of other phases than TEST",
    ),
    ("layers { name: 'a' type: RELU } layer { name: 'b' }", ModelFormatError, "mixes 'layer' and 'layers'"),
    ("layers { layer { name: 'a' type: 'magic' } }", ModelFormatError, "has the type 'magic', which Caffe never had"),
    (
        "layers { layer { name: 'p' type: 'padding' pad: 1 } bottom: 'x' top: 'p' } "
        "layers { layer { name: 'r' type: 'relu' } bottom: 'p' top: 'r' } input: 'x' input_dim: [1, 1, 2, 2]",
        ModelFormatError,
        "layer 'r' stands behind a padding layer",
    ),
    (
        "layers { name: 'a' type: FANCY_THING bottom: 'x' top: 'y' } input: 'x' input_dim: [1, 1, 2, 2]",
        UnsupportedModel,
        "FancyThing in a",
    ),
    (
        "input: 'x' input_dim: 1 " + layer("ReLU"),
        ModelFormatError,
        "1 inputs and 1 input_dims; there must be 4 for each",
    ),
    ("input: 'x' input_shape { dim: 1 } input_shape { dim: 1 } " + layer("ReLU"), ModelFormatError, "2 input_shapes"),
    ("input: 'x' " + layer("ReLU"), UnsupportedModel, "the shape of the input 'x' is not in the file; give the shapes"),
    (network(layer("ReLU"), x=(1, -3)), ModelFormatError, "an input has shape (1, -3)"),
    (one("Convolution"), ModelFormatError, "kernel_size must be given"),
    (one("Convolution", CONV), ModelFormatError, "needs its weight, and there is no .caffemodel beside the network"),
    (one("Convolution", CONV.replace("2", "3 group: 2")), ModelFormatError, "cannot be split into group 2"),
    (one("Convolution", CONV.replace("kernel_size: 3", "kernel_size: 3 axis: 2")), UnsupportedModel, "axis is 2"),
    (
        one("Convolution", CONV.replace("kernel_size: 3", "kernel_size: 3 kernel_h: 3 kernel_w: 1")),
        ModelFormatError,
        "give one of them",
    ),
    (
        one("Convolution", CONV.replace("kernel_size: 3", "kernel_size: [1, 2, 3]")),
        ModelFormatError,
        "kernel_size has 3 numbers",
    ),
    (one("Convolution", CONV.replace("kernel_size: 3", "kernel_h: 3")), ModelFormatError, "lacks kernel_w"),
    (one("Convolution", CONV.replace("kernel_size: 3", "kernel_size: 0")), ModelFormatError, "it must be at least 1"),
    (one("Convolution", CONV.replace("kernel_size: 3", "kernel_size: 3 stride: 0")), ModelFormatError, "stride (0, 0)"),
    (one("Convolution", CONV.replace("kernel_size: 3", "kernel_size: 9")), ModelFormatError, "needs its weight"),
    (one("BatchNorm", "batch_norm_param { use_global_stats: false }"), UnsupportedModel, "set it to true"),
    (one("Scale", "scale_param { num_axes: 5 }"), ModelFormatError, "num_axes is 5 from axis 1"),
    (one("Scale", "", "x", "z"), ModelFormatError, "its second bottom has 4 axes"),
    (one("Pooling", "pooling_param { pool: STOCHASTIC kernel_size: 2 }"), UnknownName, "allowed: AVE, MAX"),
    (one("Pooling", "pooling_param { kernel_size: 2 pad: 2 }"), ModelFormatError, "pad must be less than the kernel"),
    (
        network(layer("Pooling", "pooling_param { kernel_size: 1 }"), x=(1, 3)),
        ModelFormatError,
        "it must have axes behind the channels",
    ),
    (one("Pooling", "pooling_param { kernel_size: 7 }"), ModelFormatError, "its kernel 7 is larger than axis 2"),
    (one("Pooling", "pooling_param { kernel_size: 1 stride: 4 }"), UnsupportedModel, "lies outside"),
    (one("Eltwise", "eltwise_param { coeff: 1 }", "x", "x"), ModelFormatError, "coeff has 1 numbers for a SUM of 2"),
    (one("Eltwise"), ModelFormatError, "it has 1 bottom; there must be at least 2"),
    (
        one("Slice", "slice_param { slice_point: 1 slice_point: 2 }", tops=("a", "b")),
        ModelFormatError,
        "one point less",
    ),
    (one("Slice", tops=("a", "b", "c")), ModelFormatError, "cannot be cut at [1, 2] into 3 parts"),
    (one("Crop", "", "x", "z").replace("dim: 5", "dim: 9"), ModelFormatError, "go beyond"),
    (one("Permute", "permute_param { order: 0 order: 0 }"), ModelFormatError, "each once"),
    (
        one("Reshape", "reshape_param { shape { dim: -1 dim: -1 } }"),
        ModelFormatError,
        "it may hold sizes, 0, and one -1",
    ),
    (one("Reshape", "reshape_param { shape { dim: 0 dim: 0 dim: 0 dim: 0 dim: 0 } }"), ModelFormatError, "the 0 at 4"),
    (one("Flatten", "flatten_param { axis: 2 end_axis: 1 }"), ModelFormatError, "end_axis is 1, in front of axis 2"),
    (one("Softmax", "softmax_param { axis: 4 }"), ModelFormatError, "axis is 4; its input has 4 axes"),
    (one("ShuffleChannel", "shuffle_channel_param { group: 3 }"), ModelFormatError, "cannot be split into group 3"),
    (one("Reorg", "reorg_param { stride: 4 }"), ModelFormatError, "cannot be taken apart by stride 4"),
    (one("Reorg", "reorg_param { reverse: true }"), UnsupportedModel, "reverse is true"),
    (one("Interp", "interp_param { pad_beg: 1 }"), ModelFormatError, "pad_beg is 1"),
    (one("LRN", "lrn_param { local_size: 4 }"), ModelFormatError, "local_size is 4; it must be odd"),
    (one("Log", "log_param { base: 1 }"), ModelFormatError, "base is 1.0"),
    (one("Dropout", "dropout_param { scale_train: false }"), UnsupportedModel, "scale_train is false"),
    (one("SPP", "spp_param { pyramid_height: 5 }"), ModelFormatError, "more bins than its input of 6x6 has pixels"),
    (one("PriorBox", "prior_box_param { min_size: 3 max_size: 2 }", "x", "z"), ModelFormatError, "max above min"),
    (one("PriorBox", "prior_box_param { min_size: 3 variance: 1 variance: 2 }", "x", "z"), ModelFormatError, "1 or 4"),
    (one("PriorBox", "prior_box_param { min_size: 3 step: -1 }", "x", "z"), ModelFormatError, "step is"),
    (
        network(
            layer("DetectionOutput", "detection_output_param { num_classes: 1 }", "abc"),
            a=(1, 4),
            b=(1, 1),
            c=(1, 2, 4),
        ),
        ModelFormatError,
        "nothing is left",
    ),
    (
        one("DetectionOutput", "detection_output_param { num_classes: 2147483647 }", "x", "x", "x"),
        ModelFormatError,
        "1 boxes of 2147483647 classes",
    ),
    (
        one("DetectionOutput", "detection_output_param { num_classes: 3 }", "x", "x", "x"),
        ModelFormatError,
        "4 scores for 1 boxes and 3 classes do not fit",
    ),
    (
        network(layer("PriorBox", "prior_box_param { min_size: 3 }", "ab"), a=(1, 1, 4000, 4000), b=(1, 3, 9, 9)),
        ModelFormatError,
        "4000x4000 pixels with 1 boxes each are more than",
    ),
    (
        one("InnerProduct", "inner_product_param { num_output: 2000000 weight_filler { type: 'constant' } }"),
        ModelFormatError,
        "needs its weight",
    ),
    (
        one("DetectionOutput", "detection_output_param { num_classes: 2 nms_param { eta: 0.5 } }", "x", "x", "x"),
        UnsupportedModel,
        "eta 1",
    ),
    (one("LSTM", "recurrent_param { num_output: 2 }"), ModelFormatError, "it has 1 bottom; there must be 2 to 3"),
    (one("ReLU", tops=("a", "b")), UnsupportedModel, "has 2 tops; fewbit gives 1 of them"),
    (one("PReLU", "prelu_param { filler { type: 'gaussian' } }"), ModelFormatError, "needs its slope"),
]


@pytest.mark.parametrize(
    ("text", "error", "words"), NETWORKS, ids=[f"{i}-{w[:40]}" for i, (_, _, w) in enumerate(NETWORKS)]
)
def test_a_network_that_cannot_be_made(text: str, error: type[FewbitError], words: str) -> None:
    with pytest.raises(error) as e:
        converted(text)
    assert words in str(e.value)


def test_weights_that_do_not_fit() -> None:
    body = one("Convolution", CONV)
    with pytest.raises(
        ModelFormatError, match=r"its weight in net.caffemodel has shape \(2, 3, 3, 3\); \(2, 4, 3, 3\) is needed"
    ):
        converted(body, {"l": [np.ones((2, 3, 3, 3), np.float32)]})
    with pytest.raises(
        ModelFormatError, match=r"net.caffemodel has no weight for layer 'l' .Convolution.; it has weights for ll"
    ):
        converted(body, {"ll": [np.ones(2, np.float32)]})


def test_inputs_that_are_none() -> None:
    with pytest.raises(UnknownName, match="unknown input 'dada'"):
        converted(one("ReLU"), shapes={"dada": (1,)})


def test_a_setting_that_nobody_reads() -> None:
    with pytest.raises(
        UnsupportedModel, match=r"layer 'l' \(Pooling\) has pad_h, which fewbit does not know for this layer"
    ):
        converted(one("Pooling", "pooling_param { global_pooling: true pad_h: 1 }"))
