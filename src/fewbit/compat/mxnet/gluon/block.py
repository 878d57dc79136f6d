"""`mx.gluon.SymbolBlock`: a symbol and its parameters as something that can be called.

net = SymbolBlock.imports("net-symbol.json", ["data"], "net-0000.params")
scores = net(batch)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fewbit.compat.mxnet.context import on_cpu
from fewbit.compat.mxnet.feeding import feeds_of, input_order
from fewbit.compat.mxnet.model import save_checkpoint
from fewbit.compat.mxnet.module import Callback, plain, watched
from fewbit.compat.mxnet.ndarray import NDArray, array
from fewbit.compat.mxnet.network import (
    PlannedSymbol,
    QuantizedSymbol,
    Symbol,
    check_inputs,
    idle,
    load,
    network_of,
    params_of,
    with_params,
)  # fmt: skip
from fewbit.errors import UsageError
from fewbit.frontends.mxnet.ndarray import load_params
from fewbit.graph.model import Model

Shapes = Mapping[str, Sequence[int | None]]


class SymbolBlock:
    """A network that can be called with arrays.

    Args:
        outputs: a Symbol, an integer network, a fewbit Model, or the path of a checkpoint.
        inputs: names of the inputs (or variables of these names), in the order of the arguments of a call.
        params: parameters of a Symbol, by name.
    """

    def __init__(self, outputs: Any, inputs: Any = None, params: Mapping[str, Any] | None = None) -> None:
        if isinstance(outputs, PlannedSymbol):
            raise UsageError("the network has no ranges yet; calibrate it first, with calib_graph")
        self._symbol, self._params = outputs, dict(params or {})
        self.inputs = _names(inputs)
        check_inputs(self.inputs, outputs)
        self._model: Model | None = network_of(outputs) if isinstance(outputs, Model) else None
        self._shapes: dict[str, tuple[int | None, ...]] = {}
        self._run: Callable[[dict[str, np.ndarray]], list[np.ndarray]] | None = None
        self._hook: Callback | None = None

    @staticmethod
    def imports(
        symbol_file: str | os.PathLike[str],
        input_names: str | Sequence[str],
        param_file: str | os.PathLike[str] | None = None,
        ctx: Any = None,
        device: Any = None,
        **words: Any,
    ) -> SymbolBlock:
        """Read a symbol and its parameters; an integer network of fewbit's needs no parameter file."""
        on_cpu(ctx, device, what="SymbolBlock.imports")
        symbol = load(symbol_file)
        params: dict[str, Any] = {}
        if param_file is not None and (isinstance(symbol, Symbol) or Path(param_file).exists()):
            found = load_params(param_file)
            params = {**found.args, **found.auxs}
        if isinstance(symbol, QuantizedSymbol) and params:
            model = with_params(symbol, params, allow_missing=True, allow_extra=False)
            model.plan, model.report = symbol.plan, None  # type: ignore[attr-defined]
        return SymbolBlock(symbol, input_names, params)

    @property
    def idle(self) -> set[str]:
        """Variables of the symbol that inference may do without, such as labels."""
        return idle(self._symbol)

    def load_parameters(self, filename: str | os.PathLike[str], **words: Any) -> None:
        """Read the parameters of a Symbol."""
        found = load_params(filename)
        self._params, self._model, self._run = {**found.args, **found.auxs}, None, None

    @property
    def model(self) -> Model:
        """The network as fewbit has it."""
        return self.network({})

    def network(self, shapes: Shapes) -> Model:
        """The network, for inputs of these shapes; a fewbit Model stays as it is."""
        sizes = {k: tuple(v[1:]) for k, v in shapes.items()}
        if self._model is None or (sizes and isinstance(self._symbol, Symbol) and sizes != self._shapes):
            self._shapes, self._run = sizes, None
            self._model = network_of(self._symbol, self._params, None, shapes)
        return self._model

    def __call__(self, *args: Any) -> NDArray | list[NDArray]:
        """Run a batch: one array an input; the output, or a list if there are several."""
        arrays = [np.asarray(a) for a in args]
        model = self.network({n: a.shape for n, a in zip(self.inputs, arrays, strict=False)})
        order = input_order(self.inputs, model, self.idle)
        if len(arrays) not in (len(order), sum(map(bool, order))):
            inputs = ", ".join(filter(None, order))
            raise UsageError(f"the network was called with {len(arrays)} arrays; its inputs are {inputs}")
        if self._run is None:
            raw = isinstance(self._symbol, Symbol)
            self._run = watched(model, self._hook, raw=raw) if self._hook else plain(model)
        outs = [array(o, dtype=o.dtype) for o in self._run(feeds_of(arrays, order, model))]
        return outs[0] if len(outs) == 1 else outs

    forward = __call__

    def register_op_hook(self, callback: Callback, monitor_all: bool = False) -> None:
        """Have a function called with every value of every batch from now on: (name, operator, array)."""
        self._hook, self._run = callback, None

    def hybridize(self, active: bool = True, **words: Any) -> None:
        """Nothing to do: networks are compiled always."""

    def optimize_for(self, *args: Any, backend: str = "ONEDNN_QUANTIZE", **words: Any) -> SymbolBlock:
        """Fuse the network for calls from now on."""
        if isinstance(self._symbol, Symbol):
            self._symbol = self._symbol.get_backend_symbol(backend)
            self._model = self._run = None
        return self

    def export(self, path: str, epoch: int = 0, **words: Any) -> tuple[str, str]:
        """Write `path-symbol.json` and `path-0000.params`; an integer network is written as ONNX beside them."""
        if isinstance(self._symbol, Symbol):
            names = set(self._symbol.list_auxiliary_states())
            args = {k: v for k, v in self._params.items() if k not in names}
            save_checkpoint(path, epoch, self._symbol, args, {k: self._params[k] for k in names & set(self._params)})
        elif isinstance(self._symbol, QuantizedSymbol):
            save_checkpoint(path, epoch, self._symbol, params_of(self._symbol), {})
        else:
            raise UsageError("a fewbit Model is no MXNet symbol; save it with block.model.save('net.onnx')")
        return f"{path}-symbol.json", f"{path}-{epoch:04d}.params"


def _names(given: Any) -> list[str]:
    if given is None:
        return []
    if isinstance(given, (str, Symbol)):
        given = [given]
    return [n.name if isinstance(n, Symbol) else str(n) for n in given]
