"""Images become what the network takes, as network.json says it. Needs numpy and Pillow.

decode → upright → white behind what is transparent → RGB/BGR/GRAY, 0…255
       → resize → centre crop → (x - mean) / std → NCHW or NHWC
"""

import struct
import zlib

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

METHODS = {
    "LINEAR": Image.Resampling.BILINEAR,
    "NEAREST": Image.Resampling.NEAREST,
    "CUBIC": Image.Resampling.BICUBIC,
}

# what Pillow's decoders raise on damaged files
BROKEN = (
    *(OSError, EOFError, RuntimeError, SyntaxError, ValueError, TypeError, ArithmeticError, LookupError),
    *(struct.error, zlib.error, Image.DecompressionBombError),
)


def load_image(file, recipe):
    """Read one image as a batch of one.

    Args:
        file: a path. recipe: the entry "image" of an input in network.json.
    """
    image = decoded(file, recipe["colour"])
    size = shorter_edge(image.size, recipe["shorter"]) if recipe["shorter"] else recipe["resize"]
    if size and image.size != tuple(size):
        image = image.resize(tuple(size), METHODS[recipe["method"]])
    if recipe["crop"]:
        image = centre(image, recipe["crop"])
    x = np.asarray(image)
    x = x[:, :, None] if x.ndim == 2 else x
    if recipe["colour"] == "BGR":
        x = x[:, :, ::-1]
    dtype = np.dtype(recipe["type"])
    if dtype.kind == "f":
        mean, std = (np.asarray(recipe[key], np.float32) for key in ("mean", "std"))
        x = ((x - mean) / std).astype(dtype)
    if recipe["layout"] == "NCHW":
        x = x.transpose(2, 0, 1)
    return np.ascontiguousarray(x[None], dtype)


def decoded(file, colour):
    """An image, upright, in mode RGB or L."""
    try:
        with Image.open(file) as raw:
            return coloured(ImageOps.exif_transpose(raw), colour)
    except BROKEN as e:
        why = "it is no image that Pillow knows" if isinstance(e, UnidentifiedImageError) else e
        raise SystemExit(f"{file} cannot be read: {why}; an image or an .npy file is wanted") from e


def coloured(image, colour):
    """8 bits a channel, opaque, in mode RGB or L."""
    if image.mode == "F":
        raise ValueError("its pixels are floating point numbers of unknown range; hand it as .npy")
    if image.mode.startswith("I"):
        image = eight_bits(image)
    if image.has_transparency_data:
        paper = Image.new("RGBA", image.size, "white")
        paper.alpha_composite(image.convert("RGBA"))
        image = paper
    if image.mode not in ("1", "L"):
        image = image.convert("RGB")
    return image.convert("L" if colour == "GRAY" else "RGB")


def eight_bits(image):
    """16-bit grey, 0 ... 65535, to 0 ... 255."""
    x = np.asarray(image).astype(np.int64)
    if x.min() < 0 or x.max() > 65535:
        raise ValueError(f"its pixels are {x.min()} ... {x.max()}, more than 16 bits; hand it as .npy")
    return Image.fromarray(np.rint(x / 257).astype(np.uint8))


def shorter_edge(size, shorter):
    """Keep the aspect: the shorter edge becomes this."""
    width, height = size
    return (shorter, height * shorter // width) if width < height else (width * shorter // height, shorter)


def centre(image, crop):
    """Cut a piece out of the middle."""
    (width, height), (w, h) = image.size, crop
    if w > width or h > height:
        raise SystemExit(f"the image is {width}x{height}, smaller than the piece of {w}x{h} that the network takes")
    left, top = (width - w) // 2, (height - h) // 2
    return image.crop((left, top, left + w, top + h))
