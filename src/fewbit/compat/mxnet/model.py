"""`mx.model`: checkpoints, `prefix-symbol.json` and `prefix-0000.params`."""

from __future__ import annotations

from typing import Any

from fewbit.compat.mxnet.ndarray import NDArray
from fewbit.compat.mxnet.network import AnySymbol, QuantizedSymbol, Symbol, load, params_of
from fewbit.errors import UsageError
from fewbit.frontends.mxnet.ndarray import load_params as read_params
from fewbit.frontends.mxnet.ndarray import save_params as write_params

Dict = dict[str, NDArray]


def load_checkpoint(prefix: str, epoch: int) -> tuple[Symbol | QuantizedSymbol, Dict, Dict]:
    """Read a symbol and its parameters.

    Returns:
        symbol, arguments, auxiliary states. A quantized network of fewbit's brings its own weights.
    """
    symbol = load(f"{prefix}-symbol.json")
    if isinstance(symbol, QuantizedSymbol):
        return symbol, params_of(symbol), {}
    return symbol, *load_params(prefix, epoch)


def load_params(prefix: str, epoch: int) -> tuple[Dict, Dict]:
    """Read the parameters of one epoch: arguments and auxiliary states."""
    found = read_params(f"{prefix}-{epoch:04d}.params")
    return _arrays(found.args), _arrays(found.auxs)


def save_checkpoint(
    prefix: str, epoch: int, symbol: AnySymbol, arg_params: Dict, aux_params: Dict, remove_amp_cast: bool = True
) -> None:
    """Write `prefix-symbol.json` and `prefix-0000.params`.

    A quantized network is written as `prefix.onnx`, to which the symbol points, with its plan and its weights.
    """
    if not isinstance(symbol, (Symbol, QuantizedSymbol)):
        raise UsageError("the network has no ranges yet; calibrate it first, with calib_graph")
    symbol.save(f"{prefix}-symbol.json")
    write_params(f"{prefix}-{epoch:04d}.params", arg_params, aux_params)


def _arrays(found: Any) -> Dict:
    return {k: v.view(NDArray) for k, v in found.items()}
