"""How images became what a network was fed with, for people and for those who do it again.

x = (pixel / divisor − mean) / std                channel by channel; pixels are 0 … 255
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fewbit.data.datasets.imagenet import RECIPE as IMAGENET
from fewbit.data.datasets.labelled import Labelled
from fewbit.data.images import ImageRecipe, Size


@dataclass(frozen=True)
class Preparation:
    """What happened to each image.

    Args:
        colour: RGB, BGR or GRAY, the order of the channels. width, height: of what is fed.
        shorter: edge that images were brought to before the centre was cut out. resize: width and height before that.
        method: LINEAR, NEAREST, CUBIC; "" = nothing was resized.
        divisor, mean, std: see this file's begin; one number a channel, or one for all.
    """

    colour: str
    width: int
    height: int
    divisor: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    shorter: int | None = None
    resize: Size | None = None
    method: str = ""

    def __str__(self) -> str:
        size = f"{self.width}x{self.height}"
        how = f", {self.method}" if self.method else ""
        if self.shorter:
            size = f"shorter edge to {self.shorter}{how}; centre {size}"
        elif self.resize and self.resize != (self.width, self.height):
            size = f"resized to {self.resize[0]}x{self.resize[1]}{how}; centre {size}"
        elif self.resize:
            size = f"resized to {size}{how}"
        x = f"pixel / {self.divisor}" if self.divisor != 1 else "pixel"
        if any(self.mean):
            x = f"({x} - {_numbers(self.mean)})"
        return f"{size} {self.colour}, {x}{f' / {_numbers(self.std)}' if any(s != 1 for s in self.std) else ''}"


def of_dataset(images: Labelled) -> Preparation:
    """What `Labelled.normalized` does."""
    channels, height, width = images.shape
    colour = "GRAY" if channels == 1 else "RGB"
    filed = images.pixels.lazy  # image files of any size
    return Preparation(
        colour, width, height, 255, images.mean, images.std,
        IMAGENET.shorter if filed else None, None, _method(IMAGENET) if filed else "",
    )  # fmt: skip


def of_recipe(recipe: ImageRecipe) -> Preparation:
    """What `load_image` does; mean and std in the numbers of the settings."""
    final = recipe.crop or recipe.resize
    assert final is not None  # image_recipe settles it
    mean, std = (tuple(float(str(v)) for v in x) for x in (recipe.mean, recipe.std))
    return Preparation(recipe.colour, *final, 1, mean, std, recipe.shorter, recipe.resize, _method(recipe))


def _method(recipe: ImageRecipe) -> str:
    return {"BILINEAR": "LINEAR", "BICUBIC": "CUBIC"}.get(recipe.method.name, recipe.method.name)


def _numbers(values: Sequence[float]) -> str:
    told = [f"{v:.7g}" for v in values]
    return told[0] if len(set(told)) == 1 else f"({', '.join(told)})"
