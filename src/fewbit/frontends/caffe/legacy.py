"""Layers as older files write them, turned into today's.

layers { layer { name: "c" type: "conv" num_output: 8 } bottom: "x" top: "y" }      V0, until 2013
layers { name: "c" type: CONVOLUTION convolution_param { … } bottom: "x" top: "y" }  V1, until 2014
layer  { name: "c" type: "Convolution" convolution_param { … } bottom: "x" top: "y" }
"""

from __future__ import annotations

from fewbit.errors import ModelFormatError
from fewbit.frontends.caffe.message import Message
from fewbit.frontends.caffe.schema import fields

NAMES = {
    "ABSVAL": "AbsVal", "ARGMAX": "ArgMax", "BNLL": "BNLL", "HDF5_DATA": "HDF5Data", "HDF5_OUTPUT": "HDF5Output",
    "LRN": "LRN", "MVN": "MVN", "PRELU": "PReLU", "RELU": "ReLU", "SOFTMAX_LOSS": "SoftmaxWithLoss", "TANH": "TanH",
}  # fmt: skip
"""Types whose name is not that of V1 in other letters: INNER_PRODUCT is InnerProduct."""

V0_TYPES = {
    "accuracy": "Accuracy", "bnll": "BNLL", "concat": "Concat", "conv": "Convolution", "data": "Data",
    "dropout": "Dropout", "euclidean_loss": "EuclideanLoss", "flatten": "Flatten", "hdf5_data": "HDF5Data",
    "hdf5_output": "HDF5Output", "im2col": "Im2col", "images": "ImageData", "infogain_loss": "InfogainLoss",
    "innerproduct": "InnerProduct", "lrn": "LRN", "multinomial_logistic_loss": "MultinomialLogisticLoss",
    "pool": "Pooling", "relu": "ReLU", "sigmoid": "Sigmoid", "softmax": "Softmax", "softmax_loss": "SoftmaxWithLoss",
    "split": "Split", "tanh": "TanH", "window_data": "WindowData", "padding": "padding",
}  # fmt: skip

V0_FIELDS = {
    "Convolution": ("convolution_param", {"num_output": "num_output", "biasterm": "bias_term", "pad": "pad",
                    "kernelsize": "kernel_size", "group": "group", "stride": "stride",
                    "weight_filler": "weight_filler", "bias_filler": "bias_filler"}),
    "InnerProduct": ("inner_product_param", {"num_output": "num_output", "biasterm": "bias_term",
                     "weight_filler": "weight_filler", "bias_filler": "bias_filler"}),
    "Pooling": ("pooling_param", {"pool": "pool", "pad": "pad", "kernelsize": "kernel_size", "stride": "stride"}),
    "LRN": ("lrn_param", {"local_size": "local_size", "alpha": "alpha", "beta": "beta", "k": "k"}),
    "Concat": ("concat_param", {"concat_dim": "concat_dim"}),
    "ImageData": ("image_data_param", {"new_height": "new_height", "new_width": "new_width"}),
}  # fmt: skip
"""Type → the message of its settings today, and what they were called."""

V0_TRANSFORM = {"scale": "scale", "meanfile": "mean_file", "cropsize": "crop_size", "mirror": "mirror"}


def layers(net: Message, what: str) -> list[Message]:
    """All layers of a network in today's form, in order.

    Raises:
        ModelFormatError: it mixes forms, or has a type that nobody knows any more.
    """
    old, new = net.all("layers"), net.all("layer")
    if old and new:
        raise ModelFormatError(f"{what} mixes 'layer' and 'layers', the form of Caffe before 2014; it must have one")
    return new or _unpadded([_upgraded(layer, what) for layer in old], what)


def _upgraded(old: Message, what: str) -> Message:
    inner = old.one("layer")
    if inner is not None:
        return _from_v0(old, inner, what)
    made = Message("Layer", old.line, odd=list(old.odd))
    allowed = fields("Layer")
    for key, values in old.given.items():
        if key == "type":
            made.add("type", today(str(values[-1])))
        elif key == "param":
            made.given["param"] = [Message("Param", old.line, {"name": [v]}) for v in values]
        elif key in allowed:
            made.given[key] = values
    return made


def today(name: str) -> str:
    """What a type of V1 is called today."""
    return NAMES.get(name, "".join(part.capitalize() for part in name.split("_")))


def _from_v0(outer: Message, old: Message, what: str) -> Message:
    made = Message("Layer", outer.line, odd=list(outer.odd + old.odd))
    kind = str(old.one("type", ""))
    if kind not in V0_TYPES:
        raise ModelFormatError(f"{what}: layer {old.one('name', '')!r} has the type {kind!r}, which Caffe never had")
    type_ = V0_TYPES[kind]
    made.add("name", old.one("name", ""))
    made.add("type", type_)
    for key in ("bottom", "top"):
        made.given[key] = outer.all(key)
    if old.has("blobs"):
        made.given["blobs"] = old.all("blobs")
    key, known = V0_FIELDS.get(type_, ("", {}))
    _move(old, made, key, known)
    _move(old, made, "transform_param", V0_TRANSFORM)
    if type_ == "padding":
        made.given["pad"] = [old.one("pad", 0)]
    return made


def _move(old: Message, made: Message, key: str, known: dict[str, str]) -> None:
    found = {new: old.all(name) for name, new in known.items() if old.has(name)}
    if found:
        kind = fields("Layer")[key].kind
        made.add(key, Message(kind, old.line, found))


def _unpadded(found: list[Message], what: str) -> list[Message]:
    """V0 had layers that only pad; the convolution or pooling behind one pads itself today."""
    pads = {top: (layer.one("bottom"), layer.one("pad")) for layer in found if layer.one("type") == "padding"
            for top in layer.all("top")}  # fmt: skip
    kept = [layer for layer in found if layer.one("type") != "padding"]
    for layer in kept:
        for i, bottom in enumerate(layer.all("bottom")):
            if bottom not in pads:
                continue
            key = {"Convolution": "convolution_param", "Pooling": "pooling_param"}.get(str(layer.one("type")), "")
            settings = layer.one(key)
            if settings is None:
                raise ModelFormatError(f"{what}: layer {layer.one('name')!r} stands behind a padding layer")
            layer.given["bottom"][i] = pads[bottom][0]
            settings.given["pad"] = [pads[bottom][1]]
    return kept
