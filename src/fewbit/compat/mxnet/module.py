"""`mx.mod.Module`: bind shapes, set parameters, run batches, and watch every value on the way.

mod = Module(symbol=sym, label_names=None, context=cpu())
mod.bind(for_training=False, data_shapes=data.provide_data)
mod.set_params(arg_params, aux_params)
mod._exec_group.execs[0].set_monitor_callback(collector.collect, monitor_all=True)
mod.forward(batch, is_train=False)
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from fewbit.api.common import cores
from fewbit.compat.mxnet.context import on_cpu
from fewbit.compat.mxnet.feeding import described, feeds_of, input_order, said
from fewbit.compat.mxnet.io import DataBatch
from fewbit.compat.mxnet.metric import EvalMetric, create
from fewbit.compat.mxnet.model import load_checkpoint
from fewbit.compat.mxnet.ndarray import NDArray, array
from fewbit.compat.mxnet.network import (
    PlannedSymbol,
    QuantizedSymbol,
    Symbol,
    check_inputs,
    idle,
    makers,
    network_of,
    with_params,
)
from fewbit.engines import open_runner
from fewbit.errors import UsageError
from fewbit.graph.fuse import fuse
from fewbit.graph.model import Model

Callback = Callable[..., None]


class Module:
    """A network that runs.

    Args:
        symbol: float or quantized. data_names, label_names: of its inputs; labels are never fed.
        context: a CPU.
    """

    def __init__(
        self,
        symbol: Any,
        data_names: Sequence[str] = ("data",),
        label_names: Sequence[str] | None = ("softmax_label",),
        logger: Any = None,
        context: Any = None,
        **words: Any,
    ) -> None:
        on_cpu(*(context if isinstance(context, (list, tuple)) else [context]), what="Module")
        if isinstance(symbol, PlannedSymbol):
            raise UsageError("the network has no ranges yet; calibrate it first, with calib_graph")
        check_inputs([] if tuple(data_names) == ("data",) else data_names, symbol)
        self.symbol, self.data_names = symbol, list(data_names)
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._spare: set[str] = set(label_names or ())
        self._network: Model | None = None
        self._run: Callable[[dict[str, np.ndarray]], list[np.ndarray]] | None = None
        self._outputs: list[NDArray] = []
        self._callback: Callback | None = None
        self._exec_group = SimpleNamespace(execs=[self])

    def bind(
        self,
        data_shapes: Sequence[Any],
        label_shapes: Sequence[Any] | None = None,
        for_training: bool = True,
        **words: Any,
    ) -> None:
        """Say the shapes of the inputs: pairs (name, shape)."""
        if for_training:
            raise UsageError("for_training is True; fewbit runs trained networks: bind(for_training=False, …)")
        self._shapes = {str(d[0]): tuple(d[1]) for d in data_shapes}
        self._spare = {str(d[0]) for d in label_shapes or ()}

    def set_params(
        self,
        arg_params: Mapping[str, Any] | None,
        aux_params: Mapping[str, Any] | None,
        allow_missing: bool = False,
        force_init: bool = True,
        allow_extra: bool = False,
    ) -> None:
        """Give the network its parameters."""
        if isinstance(self.symbol, QuantizedSymbol):
            given = {**(arg_params or {}), **(aux_params or {})}
            self._network = with_params(self.symbol, given, allow_missing=allow_missing, allow_extra=allow_extra)
        else:
            self._network = network_of(self.symbol, arg_params, aux_params, self._shapes)
        input_order(said(("data",), self.data_names, self._network), self._network, self._spare | idle(self.symbol))
        self._run = None

    def set_monitor_callback(self, callback: Callback, monitor_all: bool = False) -> None:
        """Have a function called with every value of every batch from now on: (name, operator, array)."""
        self._callback, self._run = callback, None

    install_monitor = set_monitor_callback

    def forward(self, data_batch: DataBatch, is_train: bool | None = None) -> None:
        """Run a batch; `get_outputs` has the results."""
        if is_train:
            raise UsageError("is_train is True; fewbit runs trained networks: forward(batch, is_train=False)")
        model = self._model()
        names = described(data_batch.provide_data) or list(self._shapes) or said(("data",), self.data_names, model)
        order = input_order(names, model, self._spare | idle(self.symbol))
        self._outputs = [array(o, dtype=o.dtype) for o in self._runner()(feeds_of(data_batch.data, order, model))]

    def get_outputs(self) -> list[NDArray]:
        """Outputs of the last batch."""
        return self._outputs

    def predict(self, eval_data: Any, num_batch: int | None = None, reset: bool = True) -> NDArray | list[NDArray]:
        """Outputs for all data, padding left out."""
        if reset:
            eval_data.reset()
        parts: list[list[NDArray]] = []
        for i, batch in enumerate(eval_data):
            if num_batch is not None and i == num_batch:
                break
            self.forward(batch, is_train=False)
            parts.append([o[: len(o) - batch.pad].view(NDArray) for o in self._outputs])
        whole = [np.concatenate(column).view(NDArray) for column in zip(*parts, strict=True)]
        return whole[0] if len(whole) == 1 else whole

    def update_metric(self, eval_metric: EvalMetric, labels: Any, pre_sliced: bool = False) -> None:
        """Count the last batch."""
        eval_metric.update(labels, self._outputs)

    def score(
        self, eval_data: Any, eval_metric: Any, num_batch: int | None = None, reset: bool = True, **words: Any
    ) -> list[tuple[str, float]]:
        """Count a metric, or a list of them, over data with labels; what only fills a batch up is not counted."""
        metric = create(eval_metric)
        metric.reset()
        if reset:
            eval_data.reset()
        for i, batch in enumerate(eval_data):
            if num_batch is not None and i == num_batch:
                break
            self.forward(batch, is_train=False)
            rows = len(self._outputs[0]) - batch.pad
            metric.update([batch.label[0][:rows]], [self._outputs[0][:rows]])
        return metric.get_name_value()

    @staticmethod
    def load(prefix: str, epoch: int, load_optimizer_states: bool = False, **words: Any) -> Module:
        """A module of a checkpoint, with its parameters."""
        symbol, args, auxs = load_checkpoint(prefix, epoch)
        mod = Module(symbol, **words)
        mod.set_params(args, auxs)
        return mod

    def _model(self) -> Model:
        if self._network is None:
            raise UsageError("the module has no parameters; call set_params(arg_params, aux_params) before forward")
        return self._network

    def _runner(self) -> Callable[[dict[str, np.ndarray]], list[np.ndarray]]:
        if self._run is None:
            network = self._model()
            raw = isinstance(self.symbol, Symbol)
            self._run = watched(network, self._callback, raw=raw) if self._callback else plain(network)
        return self._run


def plain(network: Model) -> Callable[[dict[str, np.ndarray]], list[np.ndarray]]:
    """A function that runs a network on all cores."""
    runner, names = open_runner("onnxruntime", network, threads=cores()), [o.name for o in network.outputs]

    def run(feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        found = runner.run(feeds)
        return [found[n] for n in names]

    return run


def watched(
    network: Model, callback: Callback, *, raw: bool = True
) -> Callable[[dict[str, np.ndarray]], list[np.ndarray]]:
    """A function that runs a float network and shows every value to a callback.

    What fusing renames is shown as well (`raw`), so that the names of a plan are always among them.
    """
    show = three(callback)
    networks = [network, *([fuse(network)] if raw else [])]
    seen: set[str] = set()
    plans = []
    for one in networks:
        ops = makers(one) | {i.name: "" for i in one.inputs}
        names = [n for n in ops if n not in seen]
        seen |= set(names)
        if names:
            plans.append((open_runner("onnxruntime", one.with_outputs(names), threads=cores()), names, ops))
    outputs = [o.name for o in network.outputs]

    def run(feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        found: dict[str, np.ndarray] = {}
        for runner, names, ops in plans:
            values = {**feeds, **runner.run(feeds)}
            for name in names:
                if name in values:
                    show(name, ops[name], array(values[name], dtype=values[name].dtype))
            found = {**values, **found}
        return [found[n] for n in outputs]

    return run


def three(callback: Callback) -> Callback:
    """Callbacks of MXNet 1.x take (name, array)."""
    try:
        takes = len(inspect.signature(callback).parameters)
    except (TypeError, ValueError):
        takes = 3
    return callback if takes >= 3 else lambda name, op, arr: callback(name, arr)
