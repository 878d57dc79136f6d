"""One image file -> one sample.

    decode → upright → white behind what is transparent → RGB/BGR/GRAY, 0…255
           → resize → centre crop → (x - mean) / std → NCHW or NHWC

Sizes left out are the model's: with neither resize nor crop configured, the image is resized straight to H x W.
With `resize_shorter` the aspect is kept, and the crop is the model's size: 500 x 375, shorter 256 → 341 x 256 → crop.
Shrinking averages over the pixels that are left out (LINEAR and CUBIC), as Pillow does it.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from fewbit.config import DataConfig
from fewbit.data.base import Array
from fewbit.data.signature import Slot, show
from fewbit.errors import BadSample, ConfigError, DataError

METHODS = {
    "LINEAR": Image.Resampling.BILINEAR,
    "NEAREST": Image.Resampling.NEAREST,
    "CUBIC": Image.Resampling.BICUBIC,
}
CHANNELS = {"RGB": 3, "BGR": 3, "GRAY": 1}
Size = tuple[int, int]  # (width, height)

# what Pillow's decoders raise on damaged files
BROKEN = (
    *(OSError, EOFError, RuntimeError, SyntaxError, ValueError, TypeError, ArithmeticError, LookupError),
    *(struct.error, zlib.error),
)


@dataclass(frozen=True)
class ImageRecipe:
    """Everything that happens to an image, settled for one input of the model."""

    colour: str
    resize: Size | None
    shorter: int | None
    crop: Size | None
    method: Image.Resampling
    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    layout: str
    dtype: np.dtype[Any]


def image_recipe(slot: Slot, config: DataConfig) -> ImageRecipe:
    """Settle layout, channels, sizes and normalisation for an input.

    Raises:
        DataError: the input takes no images.
        ConfigError: settings and input contradict each other, or leave something open.
    """
    layout = _layout(slot, config)
    _, *dims = slot.shape
    channels, height, width = dims if layout == "NCHW" else (dims[2], dims[0], dims[1])
    have = CHANNELS[config.image_to_format]
    if isinstance(channels, int) and channels != have:
        fit = [word for word, n in CHANNELS.items() if n == channels]
        advice = f"use image_to_format {' or '.join(fit)}" if fit else "hand arrays instead of images"
        fault = f"image_to_format {config.image_to_format} gives {have}"
        raise ConfigError(f"{slot} takes images of {channels} channels, and {fault}; {advice}")
    resize, crop = _sizes(slot, config, width, height)
    mean, std = (_channel_numbers(config, f, have) for f in ("normalize_mean", "normalize_std"))
    if slot.dtype.kind in "iub" and (config.normalize_mean or config.normalize_std):
        raise ConfigError(
            f"{slot} takes whole numbers, and normalize_mean / normalize_std give fractions; leave them out"
        )
    if slot.dtype.kind in "iub" and slot.dtype.itemsize == 1 and slot.dtype != np.uint8:
        raise ConfigError(f"{slot} cannot hold pixels, which are 0 … 255; hand {slot.dtype} arrays instead")
    method = METHODS[config.resize_method]
    shorter = config.resize_shorter
    return ImageRecipe(config.image_to_format, resize, shorter, crop, method, mean, std, layout, slot.dtype)


def _layout(slot: Slot, config: DataConfig) -> str:
    if len(slot.shape) != 4 or not slot.stacked:
        raise DataError(f"{slot} takes no images: they need 4 axes, batch, channels, height and width; hand arrays")
    if config.input_layout != "auto":
        return config.input_layout
    fit = [layout for layout, axis in (("NCHW", 1), ("NHWC", 3)) if slot.shape[axis] in (1, 3, 4)]
    if len(fit) != 1:
        which = "both axis 1 and axis 3" if fit else "neither axis 1 nor axis 3"
        raise ConfigError(f"{slot}: {which} could be the channels (1, 3 or 4); say input_layout NCHW or NHWC")
    return fit[0]


def _sizes(slot: Slot, config: DataConfig, width: object, height: object) -> tuple[Size | None, Size | None]:
    resize = (config.resize_width, config.resize_height) if config.resize_width and config.resize_height else None
    crop = None
    if config.center_crop_width and config.center_crop_height:
        crop = (config.center_crop_width, config.center_crop_height)
    shorter = config.resize_shorter
    final = crop or resize
    if final is None:
        if not (isinstance(width, int) and isinstance(height, int)):
            pair = "center_crop" if shorter else "resize"
            raise ConfigError(
                f"{slot} does not fix height and width; give {pair}_width and {pair}_height, or the "
                f"shape when the network is loaded: input_shapes, --input-shapes {slot.name}:0,3,224,224"
            )
        if shorter and min(width, height) > shorter:
            raise ConfigError(
                f"{slot} takes images of {width}x{height}, and resize_shorter {shorter} makes them smaller; "
                f"use {min(width, height)} or more"
            )
        return (None, (width, height)) if shorter else ((width, height), None)
    for got, want in zip(final, (width, height), strict=True):
        if isinstance(want, int) and got != want:
            word = "center_crop" if crop else "resize"
            raise ConfigError(
                f"{word}_width and {word}_height give images of {final[0]}x{final[1]}, "
                f"and {slot} takes {show((width,))[1:-1]}x{show((height,))[1:-1]} (width x height)"
            )
    return resize, crop


def _channel_numbers(config: DataConfig, field: str, channels: int) -> NDArray[np.float32]:
    """Per-channel numbers in the order of `image_to_format`; none: those that change nothing."""
    numbers = getattr(config, field)
    if len(numbers) not in (0, 1, channels):
        raise ConfigError(
            f"{field} has {len(numbers)} numbers, and {config.image_to_format} images have {channels} channels; "
            f"give {'1' if channels == 1 else f'{channels}, or 1 for all'}"
        )
    return np.asarray(numbers or (0.0 if field == "normalize_mean" else 1.0,), np.float32)


def load_image(source: Path | BinaryIO, recipe: ImageRecipe, name: str = "") -> Array:
    """Read one image as a sample, shape `(C, H, W)` or `(H, W, C)`.

    Args:
        source: a file, or the bytes of one. name: what a message calls it; default: its path.

    Raises:
        BadSample: it cannot be decoded, or is smaller than the crop.
    """
    name = name or str(source)
    image = decode_image(source, recipe.colour, name)
    size = shorter_edge(image.size, recipe.shorter, name) if recipe.shorter else recipe.resize
    if size and image.size != size:
        image = image.resize(size, recipe.method)
    if recipe.crop:
        image = _centre(image, recipe.crop, name)
    x: Array = np.asarray(image)
    x = x[:, :, None] if x.ndim == 2 else x
    if recipe.colour == "BGR":
        x = x[:, :, ::-1]
    if recipe.dtype.kind not in "iub":
        x = ((x - recipe.mean) / recipe.std).astype(recipe.dtype)
    if recipe.layout == "NCHW":
        x = x.transpose(2, 0, 1)
    return np.ascontiguousarray(x, recipe.dtype)


def decode_image(source: Path | BinaryIO, colour: str, name: str) -> Image.Image:
    """Decode an image: upright, 8 bits a channel, in mode RGB or L.

    Raises:
        BadSample: it cannot be decoded.
    """
    try:
        with Image.open(source) as raw:
            return _coloured(ImageOps.exif_transpose(raw), colour)
    except Image.DecompressionBombError as e:
        raise BadSample(f"{name} is too large to decode safely: {e}") from e
    except BROKEN as e:
        why = "it is of no known kind" if isinstance(e, UnidentifiedImageError) else e
        raise BadSample(f"{name} cannot be read as an image: {why}; replace it, or use skip_bad to leave it out") from e


def _coloured(image: Image.Image, colour: str) -> Image.Image:
    """8 bits a channel, opaque, in mode RGB or L."""
    if image.mode == "F":
        raise ValueError("its pixels are floating point numbers of unknown range; hand it as .npy")
    if image.mode.startswith("I"):
        image = _eight_bits(image)
    if image.has_transparency_data:
        paper = Image.new("RGBA", image.size, "white")
        paper.alpha_composite(image.convert("RGBA"))
        image = paper
    return image.convert("RGB" if image.mode not in ("1", "L") else image.mode).convert(
        "L" if colour == "GRAY" else "RGB"
    )


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit grey, 0 … 65535, to 0 … 255."""
    x = np.asarray(image).astype(np.int64)
    if x.min() < 0 or x.max() > 65535:
        raise ValueError(f"its pixels are {x.min()} … {x.max()}, more than 16 bits; hand it as .npy")
    return Image.fromarray(np.rint(x / 257).astype(np.uint8))


def shorter_edge(size: Size, shorter: int, name: str) -> Size:
    """Keep the aspect: the shorter edge becomes this, the longer one is cut to whole pixels, as in MXNet.

    Raises:
        BadSample: a sliver that would become an image of absurd size.
    """
    width, height = size
    big = (shorter, height * shorter // width) if width < height else (width * shorter // height, shorter)
    if Image.MAX_IMAGE_PIXELS is not None and big[0] * big[1] > Image.MAX_IMAGE_PIXELS:
        raise BadSample(f"{name} is {width}x{height}; with resize_shorter {shorter} it would become {big[0]}x{big[1]}")
    return big


def _centre(image: Image.Image, crop: Size, name: str) -> Image.Image:
    (width, height), (w, h) = image.size, crop
    if w > width or h > height:
        raise BadSample(
            f"{name} is {width}x{height}, smaller than the centre crop {w}x{h}; "
            "set resize_width and resize_height or resize_shorter to enlarge it first, or use skip_bad to leave it out"
        )
    left, top = (width - w) // 2, (height - h) // 2
    return image.crop((left, top, left + w, top + h))
