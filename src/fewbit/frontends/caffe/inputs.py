"""Shapes of a network's inputs, and what its data layers say of preprocessing.

    input_param { shape { dim: 1 dim: 3 dim: 224 dim: 224 } }  → (free, 3, 224, 224)
    transform_param { crop_size: 224 … }                         → (free, channels of the first convolution, 224, 224)

The first axis is free whatever the file says, unless it counts the steps of a recurrent layer. What the caller says
wins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fewbit.errors import ModelFormatError, UnsupportedModel, unknown
from fewbit.frontends.base import shapes_wanted
from fewbit.frontends.caffe.message import Message
from fewbit.frontends.caffe.net import Blobs, Net, Spec
from fewbit.frontends.caffe.weights import Weights

Dims = tuple[int | None, ...]

RECURRENT = ("LSTM", "RNN")
IMAGES = ("Data", "ImageData", "AnnotatedData", "VideoData", "WindowData", "DenseImageData", "ImageSegData")


def input_shapes(
    net: Net,
    layers: Sequence[Spec],
    feeds: Mapping[Blobs, Spec | None],
    weights: Weights,
    given: Mapping[str, Sequence[int | None]],
) -> tuple[dict[Blobs, Dims], int | None]:
    """Shapes of the inputs that are read, and the size that the file gives the axis that is free here.

    Raises:
        UnknownName: `given` has something that is no input. UnsupportedModel: a shape is nowhere to be found.
    """
    names = {blob[0] for blob in feeds}
    for name in given:
        if name not in names:
            raise unknown("input", name, names)
    steps = any(spec.type in RECURRENT for spec in layers)
    found, batches = dict[Blobs, Dims](), list[int | None]()
    for blob, spec in feeds.items():
        said = _declared(net, blob, spec, layers, weights)
        if blob[0] in given:
            found[blob] = tuple(None if not d else int(d) for d in given[blob[0]])
        elif said is None:
            raise UnsupportedModel(f"the shape of the input {blob[0]!r} is not in the file; {shapes_wanted(blob[0])}")
        else:
            found[blob] = said if steps else (None, *said[1:])
        batches.append(said[0] if said else None)
        if spec is not None:
            net.notes += _preprocessing(spec, found[blob])
    return found, batches[0] if batches and not steps else None


def _declared(net: Net, blob: Blobs, spec: Spec | None, layers: Sequence[Spec], weights: Weights) -> Dims | None:
    """What the file says of an input."""
    if spec is None:
        return _listed(net, blob)
    at = spec.tops.index(blob)
    if spec.type in ("Input", "DummyData"):
        key = "input_param" if spec.type == "Input" else "dummy_data_param"
        own: Message | None = spec.settings.one(key)
        shapes = own.all("shape") if own is not None else []
        if own is not None and spec.type == "DummyData" and not shapes:
            sizes = [own.all(k) for k in ("num", "channels", "height", "width")]
            return tuple(int(s[min(at, len(s) - 1)]) for s in sizes) if all(sizes) else None
        return _dims(shapes[min(at, len(shapes) - 1)]) if shapes else None
    if spec.type == "MemoryData":
        own = spec.settings.one("memory_data_param")
        keys = ("batch_size", "channels", "height", "width")
        return tuple(int(own.one(k, 0)) or None for k in keys) if own is not None else None
    if spec.type not in IMAGES:
        return None
    high, wide = _image_size(spec)
    return None, _channels(spec, blob, layers, weights), high, wide


def _listed(net: Net, blob: Blobs) -> Dims | None:
    """Shapes beside `input`, one by one or as four numbers each."""
    inputs, shapes = net.message.all("input"), net.message.all("input_shape")
    sizes, i = net.message.all("input_dim"), inputs.index(blob[0])
    if shapes:
        if len(shapes) != len(inputs):
            raise ModelFormatError(
                f"the network has {len(inputs)} inputs and {len(shapes)} input_shapes; give one for each"
            )
        return _dims(shapes[i])
    if sizes and len(sizes) != 4 * len(inputs):
        raise ModelFormatError(
            f"the network has {len(inputs)} inputs and {len(sizes)} input_dims; there must be 4 for each"
        )
    return tuple(int(s) for s in sizes[4 * i : 4 * i + 4]) if sizes else None


def _dims(shape: Message) -> Dims:
    found = tuple(int(d) for d in shape.all("dim"))
    if min(found, default=1) < 0 or max(found, default=0) >= 1 << 31:
        raise ModelFormatError(f"an input has shape {found}; sizes must be at least 1")
    return tuple(d or None for d in found)


def _image_size(spec: Spec) -> tuple[int | None, int | None]:
    transform, own = spec.settings.one("transform_param", Message("Transform")), _own(spec)
    side = transform.one("crop_size", 0) or own.one("crop_size", 0)
    resize = transform.one("resize_param", Message("Resize"))
    high = side or transform.one("crop_h", 0) or resize.one("height", 0) or own.one("new_height", 0)
    wide = side or transform.one("crop_w", 0) or resize.one("width", 0) or own.one("new_width", 0)
    return int(high) or None, int(wide) or None


def _own(spec: Spec) -> Message:
    key = {"Data": "data_param", "ImageData": "image_data_param"}.get(spec.type, "")
    found: Message = spec.settings.one(key, Message("Data"))
    return found


def _channels(spec: Spec, blob: Blobs, layers: Sequence[Spec], weights: Weights) -> int | None:
    """Channels of images: what the first convolution that reads them wants."""
    for layer in layers:
        if blob in layer.bottoms and layer.type == "Convolution":
            found = weights.find(layer, 0)
            own = layer.settings.one("convolution_param", Message("Convolution"))
            if found is not None and len(found.shape) > 1:
                return found.shape[1] * int(own.one("group", 1))
    gray = spec.settings.one("transform_param", Message("Transform")).one("force_gray", False)
    return 1 if gray or not _own(spec).one("is_color", True) else None


def _preprocessing(spec: Spec, shape: Dims) -> list[str]:
    """What a data layer does to images, in the words of DataConfig."""
    transform, own = spec.settings.one("transform_param", Message("Transform")), _own(spec)
    mean = [float(m) for m in transform.all("mean_value")]
    scale, file = transform.one("scale", own.one("scale", 1.0)), transform.one("mean_file", own.one("mean_file", ""))
    side, resize = transform.one("crop_size", own.one("crop_size", 0)), transform.one("resize_param", Message("Resize"))
    wide = own.one("new_width", 0) or resize.one("width", 0)
    high = own.one("new_height", 0) or resize.one("height", 0)
    said = []
    if spec.type in IMAGES:
        said.append(f"image_to_format={'GRAY' if len(shape) > 1 and shape[1] == 1 else 'BGR'}")
    if wide and high:
        said.append(f"resize_width={wide}, resize_height={high}")
    if side:
        said.append(f"center_crop_width={side}, center_crop_height={side}")
    if mean:
        said.append(f"normalize_mean={','.join(f'{m:g}' for m in mean)}")
    if file:
        said.append(f"normalize_mean=the mean of {file}, one number a channel")
    if scale not in (1.0, 0.0):
        said.append(f"normalize_std={1 / scale:g}")
    if not (mean or file or side or (wide and high) or scale != 1.0):
        return []
    mirror = ", without the mirroring that is for training" if transform.one("mirror", own.one("mirror", False)) else ""
    return [f"layer {spec.name!r} ({spec.type}) prepares its images; for the same: {', '.join(said)}{mirror}"]
