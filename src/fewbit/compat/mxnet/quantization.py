"""MXNet's functions that quantize, over fewbit: `mxnet.contrib.quantization`.

    quantize_net             one call, Gluon                     quantize_model           one call, symbols
    quantize_model_onednn    the same, since fewbit always fuses
    quantize_graph → run with the collector → calib_graph        step by step

Names, order and defaults of parameters are those of MXNet 2; the spellings of 1.x (`ctx`, `num_calib_examples`,
`label_names`, `calib_layer`, `calib_mode="customize"`) are taken as well. Own words come last: `target`, `effort`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fewbit.api.making import apply, make_plan
from fewbit.api.onecall import quantize
from fewbit.calib import CalibrationCollector
from fewbit.compat.mxnet.batches import as_batches, batch_size_of, shapes_of
from fewbit.compat.mxnet.collectors import LayerHistogramCollector, LayerOutputMinMaxCollector
from fewbit.compat.mxnet.context import Context, cpu, on_cpu
from fewbit.compat.mxnet.feeding import said
from fewbit.compat.mxnet.gluon import SymbolBlock
from fewbit.compat.mxnet.module import three
from fewbit.compat.mxnet.ndarray import NDArray
from fewbit.compat.mxnet.network import PlannedSymbol, QuantizedSymbol, idle, makers, network_of, params_of
from fewbit.compat.mxnet.spelling import spelled
from fewbit.compat.mxnet.words import limit, settings
from fewbit.config import QuantConfig
from fewbit.core.plan import Plan
from fewbit.errors import NotCalibrated, UsageError
from fewbit.graph.fuse import fuse
from fewbit.graph.model import Model
from fewbit.quantization.static import by_group

Params = Mapping[str, Any]
Dict = dict[str, NDArray]


@spelled(
    "sym arg_params aux_params data_names label_names ctx excluded_sym_names excluded_op_names calib_mode calib_data "
    "num_calib_examples quantized_dtype quantize_mode quantize_granularity logger",
    lambda args: len(args) > 4 and not isinstance(args[4], Context),
)
def quantize_model(
    sym: Any,
    arg_params: Params | None = None,
    aux_params: Params | None = None,
    data_names: Sequence[str] = ("data",),
    device: Context = cpu(),  # noqa: B008
    excluded_sym_names: list[str] | None = None,
    excluded_op_names: list[str] | None = None,
    calib_mode: str | None = "entropy",
    calib_data: Any = None,
    num_calib_batches: int | None = None,
    quantized_dtype: str = "int8",
    quantize_mode: str = "smart",
    quantize_granularity: str = "tensor-wise",
    logger: Any = None,
    *,
    label_names: Sequence[str] | None = ("softmax_label",),
    ctx: Context | None = None,
    num_calib_examples: int | None = None,
    LayerOutputCollector: CalibrationCollector | None = None,
    target: str = "onnxruntime",
    effort: str = "default",
) -> tuple[QuantizedSymbol, Dict, Dict]:
    """Quantize a float network.

    Args:
        sym: a Symbol with its parameters in `arg_params` and `aux_params`; or, without them, a fewbit Model, or the
            path of a checkpoint, its prefix, or a model file.
        data_names: of the inputs, in the order of the data's arrays. label_names: taken, and not needed.
        device, ctx: a CPU.
        excluded_sym_names, excluded_op_names: layers and operators that stay float.
        calib_mode: none, naive, entropy, or custom with `LayerOutputCollector`.
        calib_data: to calibrate on. num_calib_batches, num_calib_examples: how much of it.
        quantized_dtype, quantize_mode, quantize_granularity: as in MXNet.
        logger: told what is done. target, effort: as in `fewbit.quantize`.

    Returns:
        the integer network (a `fewbit.Quantized`), its weights by name, and an empty dict (nothing is auxiliary in it).

    Raises:
        UsageError (a ValueError): as MXNet raises ValueError.
    """
    on_cpu(device, ctx, what="quantize_model")
    mode = _mode(calib_mode, calib_data, LayerOutputCollector)
    model = network_of(sym, arg_params, aux_params, shapes_of(calib_data, None, data_names))
    fused = fuse(model)
    words = settings(
        model, fused, names=excluded_sym_names, match=None, ops=excluded_op_names, calib_mode=mode,
        quantized_dtype=quantized_dtype, quantize_mode=quantize_mode, quantize_granularity=quantize_granularity,
        target=target,
    )  # fmt: skip
    _say(logger, "quantizing, calib_mode %s", mode)
    batches = limit(num_calib_batches, num_calib_examples, batch_size_of(calib_data))
    names, spare = said(("data",), data_names, model), {*(label_names or ()), *idle(sym)}
    feeds = as_batches(calib_data, model, names, spare) if mode != "none" else None
    found = _quantized(model, fused, words, feeds, batches, LayerOutputCollector, effort, logger)
    return found, params_of(found), {}


quantize_model_onednn = quantize_model_mkldnn = quantize_model
"""Those with fusion: fewbit always fuses."""


def quantize_graph(
    sym: Any,
    arg_params: Params | None = None,
    aux_params: Params | None = None,
    device: Context = cpu(),  # noqa: B008
    excluded_sym_names: list[str] | None = None,
    excluded_op_names: list[str] | None = None,
    calib_mode: str | None = "entropy",
    quantized_dtype: str = "int8",
    quantize_mode: str = "full",
    quantize_granularity: str = "tensor-wise",
    LayerOutputCollector: CalibrationCollector | None = None,
    logger: Any = None,
    *,
    ctx: Context | None = None,
    calib_layer: Callable[[str], bool] | None = None,
    target: str = "onnxruntime",
) -> tuple[PlannedSymbol | QuantizedSymbol, Dict, Dict, CalibrationCollector | None]:
    """Decide what becomes integer, and make the collector that measures the ranges.

    Args:
        sym, arg_params, aux_params and others: as in `quantize_model`.
        calib_layer: name of a value → whether to measure it; None: all that are needed.

    Returns:
        the network with its plan, its weights, an empty dict, and the collector, whose `include_layers` are the values
        that it needs to see (None for calib_mode none, which gives the integer network at once).
    """
    on_cpu(device, ctx, what="quantize_graph")
    mode = calib_mode or "none"
    model = network_of(sym, arg_params, aux_params)
    fused = fuse(model)
    words = settings(
        model, fused, names=excluded_sym_names, match=None, ops=excluded_op_names, calib_mode=mode,
        quantized_dtype=quantized_dtype, quantize_mode=quantize_mode, quantize_granularity=quantize_granularity,
        target=target,
    )  # fmt: skip
    plan = make_plan(fused, None, **words)
    if mode == "none":
        made = QuantizedSymbol(apply(fused, plan))
        return made, params_of(made), {}, None
    wanted = [n for n in plan.observed() if calib_layer is None or calib_layer(n)]
    collector = _collector(mode, quantized_dtype, wanted, LayerOutputCollector, logger)
    _say(logger, "planned; %d values to calibrate. Attach the collector and run batches", len(wanted))
    return PlannedSymbol(fused, plan), params_of(fused), {}, collector


@spelled(
    "qsym arg_params aux_params collector calib_mode quantized_dtype logger",
    lambda args: len(args) > 5 and isinstance(args[5], str),
)
def calib_graph(
    qsym: Any,
    arg_params: Params | None,
    aux_params: Params | None,
    collector: CalibrationCollector | None,
    calib_mode: str | None = "entropy",
    logger: Any = None,
    *,
    quantized_dtype: str | None = None,
) -> tuple[QuantizedSymbol, Dict, Dict]:
    """Write what a collector has measured into a planned network, and make it integer.

    Args:
        qsym: of `quantize_graph`. arg_params, aux_params: taken, and not needed: qsym has its weights.
        collector: filled. calib_mode: as there. quantized_dtype: of 1.x; must be what `quantize_graph` was given.

    Raises:
        NotCalibrated: values that the plan needs were never seen; their names are told.
    """
    if not calib_mode or calib_mode == "none":
        raise UsageError("please set calib_mode to naive, entropy or custom; with none there is nothing to calibrate")
    if not isinstance(qsym, PlannedSymbol):
        raise UsageError(f"qsym is a {type(qsym).__name__}; it must be what quantize_graph returned for {calib_mode!r}")
    if collector is None:
        raise UsageError("collector is None; it must be the one that quantize_graph returned, filled")
    planned = qsym.plan.config.get("quantized_dtype", QuantConfig.quantized_dtype)
    if quantized_dtype not in (None, planned):
        raise UsageError(f"quantized_dtype is {quantized_dtype!r}; quantize_graph was given {planned!r}")
    plan = _with_ranges(qsym.plan, collector.post_collect())
    made = QuantizedSymbol(apply(qsym.network, plan))
    _say(logger, "calibrated %d values", len(plan.observed()))
    return made, params_of(made), {}


@spelled(
    "network quantized_dtype quantize_mode exclude_layers exclude_layers_match exclude_operators calib_data "
    "data_shapes calib_mode num_calib_examples ctx logger",
    lambda args: len(args) > 3 and not isinstance(args[3], str),
)
def quantize_net(
    network: Any,
    quantized_dtype: str = "auto",
    quantize_mode: str = "full",
    quantize_granularity: str = "tensor-wise",
    exclude_layers: list[str] | None = None,
    exclude_layers_match: list[str] | None = None,
    exclude_operators: list[str] | None = None,
    calib_data: Any = None,
    data_shapes: Sequence[Any] | None = None,
    calib_mode: str | None = "none",
    num_calib_batches: int | None = None,
    device: Context = cpu(),  # noqa: B008
    LayerOutputCollector: CalibrationCollector | None = None,
    logger: Any = None,
    *,
    ctx: Context | None = None,
    num_calib_examples: int | None = None,
    target: str = "onnxruntime",
    effort: str = "default",
) -> SymbolBlock:
    """Quantize a Gluon network: a `SymbolBlock`, a fewbit Model, or the path of a checkpoint.

    Args:
        exclude_layers, exclude_layers_match, exclude_operators: names, parts of names, and operators that stay float.
        calib_data: to calibrate on. data_shapes: of the inputs; one of the two is needed.
        other arguments: as in `quantize_model`.

    Returns:
        a block that can be called; its `model` is the `fewbit.Quantized`.
    """
    on_cpu(device, ctx, what="quantize_net")
    if calib_data is None and data_shapes is None:
        raise UsageError("at least one of data_shapes and calib_data has to be provided; hand one")
    mode = _mode(calib_mode, calib_data, LayerOutputCollector)
    block = network if isinstance(network, SymbolBlock) else SymbolBlock(network)
    shapes = shapes_of(calib_data, data_shapes, block.inputs)
    model = block.network(shapes)
    fused = fuse(model)
    words = settings(
        model, fused, names=exclude_layers, match=exclude_layers_match, ops=exclude_operators, calib_mode=mode,
        quantized_dtype=quantized_dtype, quantize_mode=quantize_mode, quantize_granularity=quantize_granularity,
        target=target,
    )  # fmt: skip
    _say(logger, "these layers have been excluded: %s", ", ".join(words["exclude_layers"]) or "none")
    feeds = as_batches(calib_data, model, block.inputs or list(shapes), block.idle) if mode != "none" else None
    batches = limit(num_calib_batches, num_calib_examples, batch_size_of(calib_data))
    found = _quantized(model, fused, words, feeds, batches, LayerOutputCollector, effort, logger)
    return SymbolBlock(found, block.inputs)


quantize_net_v2 = quantize_net
"""As MXNet 1.x called it."""


def _mode(calib_mode: str | None, data: Any, collector: Any) -> str:
    """The calib_mode of a one-call form that has what it needs."""
    mode = calib_mode or "none"
    if mode != "none" and data is None:
        raise UsageError(f"calib_data must be provided when calib_mode={calib_mode!r}")
    if mode in ("custom", "customize"):
        _checked(collector)
    return mode


def _quantized(
    model: Model,
    fused: Model,
    words: dict[str, Any],
    feeds: Any,
    batches: int | None,
    collector: CalibrationCollector | None,
    effort: str,
    logger: Any,
) -> QuantizedSymbol:
    """The one-call form."""
    if words["calib_mode"] == "none":
        return QuantizedSymbol(quantize(model, None, words))
    own = Shown(_checked(collector), fused, words) if words["calib_mode"] == "custom" else None
    found = quantize(
        model, feeds, {**words, "effort": effort, "num_calib_batches": batches},
        collector=own,
    )  # fmt: skip
    assert found.report is not None
    _say(logger, "%s", found.report.text())
    return QuantizedSymbol(found)


class Shown(CalibrationCollector):
    """A user's collector, shown MXNet's arrays and MXNet's names of operators."""

    def __init__(self, inner: CalibrationCollector, fused: Model, words: dict[str, Any]) -> None:
        super().__init__()
        self.inner = inner
        self.ops = makers(fused)
        if inner.include_layers is None:
            inner.include_layers = list(make_plan(fused, None, **words).observed())

    def collect(self, name: str, op_name: str, arr: np.ndarray) -> None:
        """Hand a batch on."""
        self.inner.collect(name, self.ops.get(name, op_name), arr.view(NDArray))

    def post_collect(self) -> dict[str, tuple[float, float]]:
        """What the user's collector says."""
        return self.inner.post_collect()


class Plain(CalibrationCollector):
    """A collector of 1.x, which has no base class: `collect(name, arr)` fills its `min_max_dict`."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner, self._three = inner, three(inner.collect)
        wanted = getattr(inner, "include_layer", None)
        self.include_layers = list(wanted) if wanted is not None else None

    def collect(self, name: str, op_name: str, arr: np.ndarray) -> None:
        """Hand a batch on."""
        if self.include_layers is None or name in self.include_layers:
            self._three(name, op_name, arr.view(NDArray))

    def post_collect(self) -> dict[str, tuple[float, float]]:
        """What it has filled."""
        return dict(self.inner.min_max_dict)


def _collector(
    mode: str, dtype: str, wanted: list[str], own: CalibrationCollector | None, logger: Any
) -> CalibrationCollector:
    if mode == "entropy":
        return LayerHistogramCollector(quantized_dtype=dtype, include_layers=wanted, logger=logger)
    if mode == "naive":
        return LayerOutputMinMaxCollector(quantized_dtype=dtype, include_layers=wanted, logger=logger)
    found = _checked(own)
    if found.include_layers is None:
        found.include_layers = wanted
    else:
        _say(logger, "the collector has its own include_layers; the values that the plan needs are not passed")
    return found


def _checked(own: Any) -> CalibrationCollector:
    if own is None:
        raise UsageError("calib_mode 'custom' needs LayerOutputCollector; hand an instance of a CalibrationCollector")
    if inspect.isclass(own):
        raise UsageError(f"LayerOutputCollector is the class {own.__name__}; it must be an instance of it")
    if not isinstance(own, CalibrationCollector) and callable(getattr(own, "collect", None)):
        return Plain(own)
    if not isinstance(own, CalibrationCollector):
        raise UsageError(
            f"LayerOutputCollector is a {type(own).__name__}; its class must be made from CalibrationCollector"
        )
    return own


def _with_ranges(plan: Plan, found: Mapping[str, Any]) -> Plan:
    needed = plan.observed()
    missing = [n for n in needed if n not in found]
    if missing:
        few = ", ".join(missing[:5]) + (" …" if len(missing) > 5 else "")
        raise NotCalibrated(
            f"{len(missing)} of {len(needed)} values were never collected: {few}. Run batches through the float "
            "network with the collector attached, and let it see every name in include_layers"
        )
    pairs = {n: tuple(float(np.asarray(v).reshape(-1)[0]) for v in found[n]) for n in needed}
    return plan.with_ranges(by_group(plan, {n: (lo, hi) for n, (lo, hi) in pairs.items()}))


def _say(logger: Any, text: str, *values: Any) -> None:
    if logger is not None:
        logger.info(text, *values)
