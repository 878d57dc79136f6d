"""`--zoo NAME`: the script for MXNet's zoos as words for `fewbit quantize`; flags, and a config file, win over it.

--zoo resnet50_v1      model/resnet50_v1-symbol.json --data data/val_256_q90.rec --batch-size 32
--num-calib-batches 10 --calib-mode entropy --normalize-mean 123.68,… --normalize-std 58.393,…
-o model/resnet50_v1-quantized-10batches-entropy-symbol.json
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fewbit.cli.given import both_configs, read_shapes
from fewbit.errors import UsageError

if TYPE_CHECKING:
    from fewbit.compat.mxnet.zoo import ZooNetwork
    from fewbit.config import DataConfig, QuantConfig
    from fewbit.graph.model import Model

Zoo = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Instead of MODEL: a network of MXNet's zoo with the settings of its script, such as resnet50_v1; "
        "a wrong name lists all.",
        show_default=False,
    ),
]
ZooFolder = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="Where its checkpoint lies [default: model].", show_default=False),
]
FirstConv = Annotated[
    bool, typer.Option("--exclude-first-conv", help="Keep the first convolution in float.", show_default=False)
]


@dataclass(frozen=True)
class Asked:
    """What one call of `fewbit quantize` is about.

    Args:
        model, params, shapes: the network, as `load` takes it. data, output: None if there is none.
        chosen, reading: the settings. said: which of them the user set.
        row: of the zoo. first_conv: keep the first convolution in float.
    """

    model: Path
    params: Path | None
    shapes: Mapping[str, Any]
    data: str | None
    output: Path | None
    chosen: QuantConfig
    reading: DataConfig
    said: frozenset[str] = frozenset()
    row: ZooNetwork | None = None
    first_conv: bool = False

    def load(self) -> Model:
        """The float network."""
        from fewbit import api

        return api.load(self.model, input_shapes=self.shapes, params=self.params)

    def settings(self, given: Model) -> QuantConfig:
        """The settings, with the layers that stay float."""
        more: tuple[str, ...] = ()
        if self.row is not None or self.first_conv:
            from fewbit.compat.mxnet.zoo import first_convolution, float_layers
            from fewbit.graph.fuse import fuse

            fused = fuse(given)
            if self.row is not None and "exclude_layers" not in self.said:
                more += float_layers(self.row, fused)
            more += (first_convolution(fused),) if self.first_conv else ()
        return replace(self.chosen, exclude_layers=(*self.chosen.exclude_layers, *more)) if more else self.chosen


def asked(
    *,
    model: Path | None,
    zoo: str | None,
    zoo_folder: Path | None,
    first_conv: bool,
    shapes: list[str] | None,
    params: Path | None,
    data: str | None,
    output: Path | None,
    config: Path | None,
    words: Mapping[str, Any],
    dry_run: bool,
) -> Asked:
    """All that was said, and what the zoo adds.

    Raises:
        UsageError: both MODEL and a network of the zoo, or neither. ModelFormatError, DataError: files are missing.
    """
    from fewbit.config import needs_ranges
    from fewbit.mindspore import data_named, read_tables

    chosen, reading = both_configs(config, words)
    told, data = read_shapes(shapes), data_named(config) if data is None else data
    if zoo is None:
        if model is None:
            raise UsageError("there is no network; give MODEL, or --zoo NAME for one of MXNet's zoo")
        if zoo_folder is not None:
            raise UsageError("--zoo-folder says where a network of the zoo lies; name it with --zoo NAME")
        return Asked(model, params, told, data, output, chosen, reading, first_conv=first_conv)
    if model is not None:
        raise UsageError(f"MODEL is {model}, and --zoo is {zoo}; both say what to quantize, give one of them")
    from fewbit.compat.mxnet import zoo as rows

    row, folder = rows.zoo_network(zoo), zoo_folder or rows.FOLDER
    tables = read_tables(config) if config is not None else {}
    said = {word: value for table in tables.values() for word, value in table.items()} | dict(words)
    row = _resized(row, told)
    symbol, weights = rows.checkpoint(row, folder, params)
    theirs = rows.settings_of(row, said, images=_images(data))
    chosen, reading = both_configs(None, {**theirs, **said})
    if data is None and needs_ranges(chosen) and not dry_run:
        data = rows.default_data()
    out = output or folder / rows.quantized_name(row, chosen.calib_mode, chosen.num_calib_batches)
    shape = rows.input_shape(row) | told
    return Asked(symbol, weights, shape, data, out, chosen, reading, frozenset(said), row, first_conv)


def _resized(row: ZooNetwork, shapes: Mapping[str, tuple[int | None, ...]]) -> ZooNetwork:
    """The network for images of another size, if the user gave it one."""
    from fewbit.compat.mxnet.zoo import INPUT

    shape = shapes.get(INPUT) or (None, 3, row.edge, row.edge)
    if len(shape) != 4 or shape[2] is None or shape[2] != shape[3]:
        raise UsageError(
            f"input_shapes is {shape}; networks of the zoo take images as high as wide, such as {INPUT}:0,3,224,224"
        )
    return replace(row, edge=shape[2])


def _images(data: str | None) -> bool:
    """Whether data is images: a .rec file, or a folder without .bin files."""
    if data is None or data.endswith(".rec"):
        return True
    path = Path(data)
    return path.is_dir() and not any(path.glob("*.bin"))
