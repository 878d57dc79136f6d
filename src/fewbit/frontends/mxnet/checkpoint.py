"""MXNet checkpoints: `prefix-symbol.json` and `prefix-0000.params`, found by either file or by the prefix.

A symbol that fewbit itself wrote for a quantized network points to the ONNX file beside it:

    {"fewbit": 1, "network": "prefix-0000.onnx"}
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from fewbit.core.writing import writing
from fewbit.errors import ModelFormatError, UnsafePath
from fewbit.frontends.base import Ask, frontend
from fewbit.graph.files import load_model
from fewbit.graph.model import Model
from fewbit.graph.shapes import with_input_shapes

SYMBOL = "-symbol.json"
EPOCH = re.compile(r"-(\d{4,})\.params")
POINTER = "fewbit"


@frontend(".json", ".params", prefix=SYMBOL)
def load_checkpoint(path: Path, ask: Ask) -> Model:
    """Read a checkpoint as a float network; ranges of a quantized one are kept in its `ranges`."""
    from fewbit.frontends.mxnet.convert import convert
    from fewbit.frontends.mxnet.ndarray import load_params
    from fewbit.frontends.mxnet.quantized import fused_layers, recover
    from fewbit.frontends.mxnet.symbol import read_symbol

    symbol, params = checkpoint_files(path, ask.params)
    network = pointed(symbol)
    if network is not None:
        made = load_model(network, allow_quantized=ask.allow_quantized)
        return with_input_shapes(made, ask.input_shapes) if ask.input_shapes else made
    graph, found = read_symbol(symbol), load_params(params)
    float_graph, weights, ranges = recover(graph, {**found.args, **found.auxs})
    model = convert(float_graph, weights, shapes=ask.input_shapes, name=symbol.name.removesuffix(SYMBOL))
    model.aliases = fused_layers(graph) | model.aliases
    model.path = symbol
    model.ranges = ranges
    return model


def checkpoint_files(path: Path, params: Path | None = None) -> tuple[Path, Path]:
    """The symbol and the parameters of a checkpoint, out of the path of either.

    Raises:
        ModelFormatError: one of them is not there, or several parameter files could be meant.
    """
    if path.suffix == ".params":
        prefix = EPOCH.sub("", path.name).removesuffix(".params")
        symbol = path.with_name(prefix + SYMBOL)
        if not symbol.is_file():
            raise ModelFormatError(
                f"{path} holds parameters; the symbol that they belong to, {symbol}, is not there; put it beside them"
            )
        return symbol, path
    if not path.is_file():
        raise ModelFormatError(f"there is no file {path}; check its name")
    if params is not None:
        if not params.is_file():
            raise ModelFormatError(f"there is no file {params}, which was given as params; check its name")
        return path, params
    return path, _params_of(path)


def _params_of(symbol: Path) -> Path:
    """The only parameter file of a symbol's prefix; for a pointer, any name."""
    prefix = symbol.name.removesuffix(SYMBOL).removesuffix(".json")
    beside = sorted(p for p in symbol.parent.glob("*.params") if p.name.startswith(prefix))
    found = [p for p in beside if EPOCH.fullmatch(p.name[len(prefix) :]) or p.name == f"{prefix}.params"]
    if len(found) == 1 or pointed(symbol) is not None:
        return found[0] if found else symbol.with_name(f"{prefix}-0000.params")
    if found:
        names = ", ".join(p.name for p in found)
        raise ModelFormatError(
            f"{symbol} has several parameter files: {names}; load the one that is meant, "
            "or give it: params=, or --params FILE"
        )
    raise ModelFormatError(
        f"{symbol} has no parameters beside it, such as {prefix}-0000.params; give them: params=… in Python; for the "
        "command line first: fewbit convert MODEL -o model.onnx --params FILE"
    )


def pointed(symbol: Path) -> Path | None:
    """The ONNX file that a symbol of ours stands for; None for one of MXNet's.

    Raises:
        UnsafePath: it lies outside of the symbol's folder. ModelFormatError: it is not there.
    """
    with open(symbol, "rb") as file:
        start = file.read(4096)
    if b'"nodes"' in start or b'"network"' not in start:
        return None
    try:
        name = json.loads(start).get("network")
    except (ValueError, AttributeError, RecursionError):
        return None
    if not isinstance(name, str) or not name or Path(name).name != name:
        raise UnsafePath(f"{symbol} points to {name!r:.99}; it may only point to a file in its own folder")
    network = symbol.with_name(name)
    if not os.path.isfile(network):  # unlike Path.is_file, it answers to names of any length
        raise ModelFormatError(f"{symbol} points to {name!r:.99}, which is not there")
    return network


def network_beside(symbol: Path) -> Path:
    """The ONNX file that a symbol of ours stands for once it is written: `x-symbol.json` → `x.onnx`."""
    return symbol.with_name(f"{symbol.name.removesuffix(SYMBOL).removesuffix('.json')}.onnx")


def point(symbol: Path, network: Path) -> None:
    """Write a symbol that stands for an ONNX file in the same folder."""
    with writing(symbol) as file:
        file.write_text(json.dumps({POINTER: 1, "network": network.name}) + "\n", "utf-8")
