"""Networks that MXNet 1.9.1 fused and quantized: tests/golden/mxnet/quantized.npz, made by make/quantized.py."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.frontends.mxnet.graph import SymbolGraph
from fewbit.frontends.mxnet.ndarray import save_params
from fewbit.frontends.mxnet.symbol import parse_symbol
from fewbit.frontends.mxnet.upgrade import upgrade
from tests.frontends.mxnet.cases import GOLDEN

Arrays = dict[str, NDArray[Any]]


@cache
def golden() -> Arrays:
    """Everything in the file."""
    with np.load(GOLDEN / "quantized.npz") as file:
        return {key: file[key] for key in file.files}


def cases() -> list[tuple[str, str]]:
    """(network, case) of all that was fused or quantized."""
    keys = (key.split("|") for key in golden() if key.endswith("|json"))
    return [(network, case) for network, case, _ in keys if case != "float"]


def text(network: str, case: str) -> str:
    """The symbol, as MXNet wrote it."""
    return golden()[f"{network}|{case}|json"].tobytes().decode()


def nodes(network: str, case: str) -> list[dict[str, Any]]:
    """Its nodes, as they stand in the file."""
    found: list[dict[str, Any]] = json.loads(text(network, case))["nodes"]
    return found


def symbol(network: str, case: str) -> SymbolGraph:
    """The symbol, as it is handed to `recover`."""
    return upgrade(parse_symbol(text(network, case), f"{network} {case}"))


def params(network: str, case: str) -> Arrays:
    """What the parameter file holds beside this symbol."""
    at = {prefix: {k.removeprefix(prefix): v for k, v in golden().items() if k.startswith(prefix)} for prefix in
          (f"{network}|param|", f"{network}|{case}|param|")}  # fmt: skip
    floats, made = at.values()
    return {k: v for k, v in floats.items() if f"{k}_quantize" not in made} | made


def floats(network: str) -> Arrays:
    """The parameters before quantizing."""
    return params(network, "float")


def feed(network: str, what: str = "in") -> NDArray[Any]:
    """What the network was run on; `calib`: what it was calibrated on."""
    return golden()[f"{network}|{what}|data"]


def answer(network: str, case: str = "") -> NDArray[Any]:
    """MXNet's first output, of the float network or of a quantized one."""
    return golden()[f"{network}|{case}|out|0" if case else f"{network}|out|0"]


def write(folder: Path, network: str, case: str) -> Path:
    """The checkpoint as files, the path of its symbol."""
    path = folder / "net-symbol.json"
    path.write_text(text(network, case))
    given = params(network, case)
    states = {k for k in given if "moving" in k}
    split = [{k: v for k, v in given.items() if (k in states) == is_state} for is_state in (False, True)]
    save_params(folder / "net-0000.params", *split)
    return path


def sqnr(want: NDArray[Any], got: NDArray[Any]) -> float:
    """Signal to noise in dB."""
    return float(10 * np.log10(np.square(want).mean() / max(float(np.square(want - got).mean()), 1e-30)))
