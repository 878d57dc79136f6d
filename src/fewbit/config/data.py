"""DataConfig: how files on disk become model inputs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from fewbit.config.fields import configure, default_of, is_number, plain, say, settle, whole, word
from fewbit.errors import ConfigError

RESIZES = ("LINEAR", "NEAREST", "CUBIC")
COLOURS = ("RGB", "BGR", "GRAY")


@dataclass(frozen=True)
class DataConfig:
    """How files on disk become model inputs. Sizes left out are taken from the model's input.

    Raises:
        UnknownName, ConfigError: as for `QuantConfig`.
    """

    batch_size: int = say(1, "samples in one batch")
    image_to_format: str = word("RGB", COLOURS, "channel order that the model expects")
    normalize_mean: tuple[float, ...] = say((), "subtracted from every pixel (0…255), one number a channel")
    normalize_std: tuple[float, ...] = say((), "divides every pixel after that, one number a channel")
    resize_width: int | None = say(None, "width to resize to before cropping")
    resize_height: int | None = say(None, "height to resize to before cropping")
    resize_shorter: int | None = say(None, "shorter edge to resize to, keeping the aspect, before cropping")
    resize_method: str = word("LINEAR", RESIZES, "interpolation")
    center_crop_width: int | None = say(None, "width to cut from the centre after resizing")
    center_crop_height: int | None = say(None, "height to cut from the centre after resizing")
    input_layout: str = word("auto", ("auto", "NCHW", "NHWC"), "axis order of an image input")
    skip_bad: bool = say(False, "leave out unreadable samples, with a warning that names them")
    shuffle: bool = say(False, "visit the samples in a random order")
    seed: int = say(0, "seed of that order")

    def __post_init__(self) -> None:
        settle(self)
        whole(self, "batch_size", 1)
        whole(self, "seed", 0)
        for pair in ("resize", "center_crop"):
            whole(self, f"{pair}_width", 1, optional=True)
            whole(self, f"{pair}_height", 1, optional=True)
            if (getattr(self, f"{pair}_width") is None) != (getattr(self, f"{pair}_height") is None):
                raise ConfigError(f"{pair}_width and {pair}_height go together; one of them is missing")
        for name in ("normalize_mean", "normalize_std"):
            if not all(is_number(x) for x in getattr(self, name)):
                raise ConfigError(f"{name} is {getattr(self, name)!r}; it must be numbers, one a channel")
        if any(s == 0 for s in self.normalize_std):
            raise ConfigError(f"normalize_std is {self.normalize_std}; it divides, so no number may be 0")
        whole(self, "resize_shorter", 1, optional=True)
        if self.resize_shorter and self.resize_width:
            raise ConfigError(
                "resize_shorter keeps the aspect, resize_width and resize_height set it; give one of them"
            )
        if self.resize_shorter and self.center_crop_width and self.center_crop_height:
            least = min(self.center_crop_width, self.center_crop_height)
            if least > self.resize_shorter:
                raise ConfigError(
                    f"the centre crop {self.center_crop_width}x{self.center_crop_height} is larger than images "
                    f"whose shorter edge is {self.resize_shorter}; resize_shorter must be {least} or more"
                )
        if self.resize_width and self.center_crop_width:
            assert self.resize_height and self.center_crop_height
            if self.center_crop_width > self.resize_width or self.center_crop_height > self.resize_height:
                raise ConfigError(
                    f"the centre crop {self.center_crop_width}x{self.center_crop_height} is larger than "
                    f"the resized image {self.resize_width}x{self.resize_height}"
                )


READING = "fewbit.reading"
"""Metadata key: how images became inputs of the network when it was calibrated."""

ABOUT_IMAGES = ("image_", "normalize_", "resize_", "center_", "input_")


def reading_info(config: DataConfig) -> dict[str, str]:
    """Metadata with the words about images that are not the defaults; empty if there are none."""
    about = [f for f in fields(config) if f.name.startswith(ABOUT_IMAGES)]
    said = {f.name: plain(getattr(config, f.name)) for f in about if getattr(config, f.name) != default_of(f)}
    return {READING: json.dumps(said, sort_keys=True)} if said else {}


def said_words(config: DataConfig) -> dict[str, Any]:
    """The settings that differ from their defaults."""
    words = {f.name: (getattr(config, f.name), default_of(f)) for f in fields(config)}
    return {name: value for name, (value, default) in words.items() if value != default}


def reading_on_top(words: Mapping[str, Any], *metadata: Mapping[str, str]) -> DataConfig:
    """What the first quantized network that remembers it was calibrated with, and on top of that what is said now.

    Args:
        words: fields of `DataConfig`. metadata: of networks.
    """
    known = next((m for m in metadata if READING in m), {})
    return configure(DataConfig, reading_of(known), **words)


def reading_of(metadata: Mapping[str, str]) -> DataConfig:
    """How images become inputs, as the metadata of a quantized network says.

    Raises:
        ConfigError: the metadata is damaged.
    """
    try:
        words = json.loads(metadata.get(READING, "{}"))
        return configure(DataConfig, None, **{k: v for k, v in words.items() if k.startswith(ABOUT_IMAGES)})
    except (ValueError, TypeError, AttributeError, RecursionError) as e:  # ours are ValueErrors
        raise ConfigError(f"the metadata {READING!r} of the network is damaged: {e}; quantize again") from e
