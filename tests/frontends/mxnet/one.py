"""Networks of one layer, written as MXNet writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fewbit.frontends.mxnet.convert import convert
from fewbit.frontends.mxnet.symbol import parse_symbol
from fewbit.graph.model import Model

Given = Mapping[str, NDArray | Sequence[int | None] | None]


def one(op: str, attrs: Mapping[str, object], inputs: Given) -> Model:
    """A layer called "layer0".

    Args:
        inputs: arrays are parameters, tuples shapes of what is fed, None what is fed without anybody telling its shape.
    """
    params = {k: v for k, v in inputs.items() if isinstance(v, np.ndarray)}
    shapes = {k: v for k, v in inputs.items() if isinstance(v, tuple)}
    return convert(parse_symbol(symbol([(op, "layer0", attrs)], list(inputs)), "one"), params, shapes=shapes)


def symbol(layers: Sequence[tuple[str, str, Mapping[str, object]]], variables: Sequence[str], **more: str) -> str:
    """The JSON of layers in a row, of which the first reads all variables.

    Args:
        more: layer → a variable of its own, which it reads behind what comes from the layer before.
    """
    names = [*variables, *more.values()]
    nodes = [{"op": "null", "name": v, "inputs": []} for v in names]
    entries = [[i, 0, 0] for i in range(len(variables))]
    for op, name, attrs in layers:
        own = [[names.index(more[name]), 0, 0]] if name in more else []
        stored = {k: str(v) for k, v in attrs.items()}
        nodes.append({"op": op, "name": name, "attrs": stored, "inputs": [*entries, *own]})
        entries = [[len(nodes) - 1, 0, 0]]
    args = list(range(len(names)))
    return json.dumps({"nodes": nodes, "arg_nodes": args, "heads": entries, "attrs": {"mxnet_version": ["int", 10901]}})


def ones(*shape: int) -> NDArray:
    return np.ones(shape, np.float32)
