"""Images become what the network takes, as network.json says it. Needs numpy and Pillow.

decode → upright → white behind what is transparent → RGB/BGR/GRAY, 0…255
       → resize → centre crop → (x - mean) / std → NCHW or NHWC
"""

import numpy as np
from PIL import Image, ImageOps

METHODS = {
    "LINEAR": Image.Resampling.BILINEAR,
    "NEAREST": Image.Resampling.NEAREST,
    "CUBIC": Image.Resampling.BICUBIC,
}


def load_image(file, recipe):
    """Read one image as a batch of one.

    Args:
        file: a path. recipe: the entry "image" of an input in network.json.
    """
    with Image.open(file) as raw:
        image = coloured(ImageOps.exif_transpose(raw), recipe["colour"])
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


def coloured(image, colour):
    """8 bits a channel, opaque, in mode RGB or L."""
    if image.mode.startswith("I"):  # 16-bit grey
        image = Image.fromarray(np.rint(np.asarray(image).astype(np.int64) / 257).astype(np.uint8))
    if image.has_transparency_data:
        paper = Image.new("RGBA", image.size, "white")
        paper.alpha_composite(image.convert("RGBA"))
        image = paper
    if image.mode not in ("1", "L"):
        image = image.convert("RGB")
    return image.convert("L" if colour == "GRAY" else "RGB")


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
