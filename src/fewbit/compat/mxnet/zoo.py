"""The networks of MXNet's zoos, with the settings that its script for quantizing them had.

    ZOO["resnet50_v1"]     images 3 x 224 x 224, (x - mean) / std, float layers, the files of the checkpoint

`quantized_name` is what the script would have called the result. Nothing is fetched here: where files are missing, the
error says which, and how to come by them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from fewbit.errors import DataError, ModelFormatError, UsageError, unknown
from fewbit.frontends.mxnet.checkpoint import SYMBOL
from fewbit.graph.model import Model

MEAN, STD = (123.68, 116.779, 103.939), (58.393, 57.12, 57.375)
INPUT = "data"
FOLDER = Path("model")
DATA = "data/val_256_q90.rec"
DATA_EDGE = 256
"""Shorter edge of the images in it."""

DATA_ADDRESS = "http://data.mxnet.io/data/val_256_q90.rec"
OLD_ADDRESS = "http://data.mxnet.io/models/imagenet"
SCRIPT = {"batch_size": 32, "num_calib_batches": 10, "calib_mode": "entropy"}
"""Settings that the script had for every network."""


@dataclass(frozen=True)
class ZooNetwork:
    """One network.

    Args:
        name: what the script called it.
        edge: height and width of its images, which have three channels.
        mean, std: what its pixels are normalized with.
        floats: layers that the script kept in float, as globs: the numbers in Gluon's names vary.
        stored: prefix of the published files, where that is another one. epoch: in the name of its parameters.
        address: folder that they are published in; empty for those that MXNet itself makes.
    """

    name: str
    edge: int = 224
    mean: tuple[float, ...] = MEAN
    std: tuple[float, ...] = STD
    floats: tuple[str, ...] = ()
    stored: str = ""
    epoch: int = 0
    address: str = ""

    @property
    def checkpoints(self) -> tuple[tuple[str, str], ...]:
        """Names that its symbol and parameters may have: those they were published with, and those of the script."""
        prefixes = [(self.stored or self.name, self.epoch), (self.name, 0)]
        return tuple(dict.fromkeys((f"{prefix}{SYMBOL}", f"{prefix}-{n:04d}.params") for prefix, n in prefixes))


def _gluon(names: str, *floats: str, edge: int = 224) -> list[ZooNetwork]:
    return [ZooNetwork(name, edge, floats=floats) for name in names.split()]


ZOO: Mapping[str, ZooNetwork] = {
    row.name: row
    for row in (
        *_gluon("alexnet densenet121 densenet161 densenet169 densenet201"),
        *_gluon("inceptionv3", edge=299),
        *_gluon("mobilenet0.25 mobilenet0.5 mobilenet0.75 mobilenet1.0", "mobilenet*_flatten*", "mobilenet*_pool0_fwd"),
        *_gluon("mobilenetv2_0.25 mobilenetv2_0.5 mobilenetv2_0.75 mobilenetv2_1.0", "mobilenetv2*_flatten*"),
        *_gluon("resnet18_v1 resnet34_v1 resnet50_v1 resnet101_v1 resnet152_v1"),
        *_gluon(
            "resnet18_v2 resnet34_v2 resnet50_v2 resnet101_v2 resnet152_v2",
            "resnetv2*_flatten*", "resnetv2[0-9]_batchnorm0_fwd", "resnetv2[0-9][0-9]_batchnorm0_fwd",
        ),
        *_gluon("squeezenet1.0 squeezenet1.1", "squeezenet*_flatten*"),
        *_gluon("vgg11 vgg13 vgg16 vgg19 vgg11_bn vgg13_bn vgg16_bn vgg19_bn"),
        ZooNetwork(
            "imagenet1k-inception-bn", std=(1.0, 1.0, 1.0), floats=("flatten",), stored="Inception-BN", epoch=126,
            address=f"{OLD_ADDRESS}/inception-bn",
        ),
        ZooNetwork(
            "imagenet1k-resnet-152", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), floats=("flatten0",),
            stored="resnet-152", address=f"{OLD_ADDRESS}/resnet/152-layers",
        ),
    )
}  # fmt: skip
"""Name → network, as in the script."""


def zoo_network(name: str) -> ZooNetwork:
    """The network of that name; an unknown one offers the nearest, and lists all."""
    if name not in ZOO:
        raise unknown("network of the zoo", name, ZOO, hint=f"There are: {', '.join(ZOO)}")
    return ZOO[name]


def checkpoint(row: ZooNetwork, folder: Path = FOLDER, params: Path | None = None) -> tuple[Path, Path]:
    """Its symbol and its parameters in a folder.

    Args:
        params: where the parameters lie, if not beside the symbol.

    Raises:
        ModelFormatError: they are not there; the message says how to make or get them.
    """
    for symbol, weights in row.checkpoints:
        found = folder / symbol, params or folder / weights
        if all(file.is_file() for file in found):
            return found
    symbol, weights = row.checkpoints[0]
    missing = [str(f) for f in (folder / symbol, params or folder / weights) if not f.is_file()]
    raise ModelFormatError(
        f"{row.name} needs {' and '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not there. fewbit "
        f"fetches nothing; {_way_to(row, folder)}"
    )


def _way_to(row: ZooNetwork, folder: Path) -> str:
    if row.address:
        names = "\n".join(f"    {row.address}/{file}" for file in row.checkpoints[0])
        return f"put these two files into the folder {folder}:\n{names}"
    lines = (
        f"import os, mxnet as mx; os.makedirs({folder.as_posix()!r}, exist_ok=True)",
        f"net = mx.gluon.model_zoo.vision.get_model({row.name!r}, pretrained=True)",
        f"net.hybridize(); net(mx.nd.zeros((1, 3, {row.edge}, {row.edge})))",
        f"net.export({(folder / row.name).as_posix()!r})",
    )
    return "make the files once, where MXNet is:\n" + "\n".join(f"    {line}" for line in lines)


def default_data() -> str:
    """The images that the script calibrated on.

    Raises:
        DataError: they are not there; the message says where to get them.
    """
    if not Path(DATA).is_file():
        raise DataError(
            f"there is no {DATA}, the images that the script calibrated on. fewbit fetches nothing; put this file "
            f"there, or give other data with --data PATH:\n    {DATA_ADDRESS}"
        )
    return DATA


def settings_of(row: ZooNetwork, said: Mapping[str, Any], *, images: bool = True) -> dict[str, Any]:
    """The script's settings, as fields of `QuantConfig` and `DataConfig`, without those that the user chose.

    Args:
        said: fields that the user set. images: the data is images, and not arrays that are fed as they are.
    """
    groups: list[dict[str, Any]] = [{word: value} for word, value in SCRIPT.items()]
    if images:
        groups += [{"normalize_mean": row.mean}, {"normalize_std": row.std}]
        groups += [{"center_crop_width": row.edge, "center_crop_height": row.edge}]
        shorter = {"resize_shorter": row.edge} if row.edge > DATA_EDGE else {}
        groups += [shorter] if not {"resize_width", "resize_height"} & set(said) else []
    return {word: value for group in groups if not set(group) & set(said) for word, value in group.items()}


def float_layers(row: ZooNetwork, fused: Model) -> tuple[str, ...]:
    """Layers that the script kept in float, if they still exist by themselves: others are part of a layer now."""
    return tuple(str(n.name) for n in fused.nodes if any(fnmatchcase(str(n.name), glob) for glob in row.floats))


def first_convolution(fused: Model) -> str:
    """The name of the first convolution.

    Raises:
        UsageError: there is none.
    """
    found = next((str(n.name) for n in fused.nodes if n.op_type == "Conv"), None)
    if found is None:
        raise UsageError(
            "exclude_first_conv keeps the first convolution in float, and the network has none; leave it out"
        )
    return found


def quantized_name(row: ZooNetwork, calib_mode: str, batches: int | None) -> str:
    """The name of the quantized symbol, as the script made it up."""
    if calib_mode == "none":
        return f"{row.name}-quantized{SYMBOL}"
    return f"{row.name}-quantized-{'all' if batches is None else batches}batches-{calib_mode}{SYMBOL}"


def input_shape(row: ZooNetwork) -> dict[str, Sequence[int | None]]:
    """The shape of its input, the batch free."""
    return {INPUT: (None, 3, row.edge, row.edge)}
