"""Networks as MXNet scripts hold them: a symbol on one side, dicts of parameters on the other.

    Symbol                     a float graph without weights, as `prefix-symbol.json` has it
    PlannedSymbol              what quantize_graph makes: a fused network and its plan, ranges missing
    QuantizedSymbol            a fewbit.Quantized that answers to a symbol's methods

`network_of` puts a symbol and its parameters together into the fewbit Model that everything else works on.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fewbit.api.common import as_model
from fewbit.compat.mxnet.missing import telling
from fewbit.compat.mxnet.ndarray import NDArray, array
from fewbit.core.plan import Plan
from fewbit.errors import ModelFormatError, UsageError, one_of, unknown
from fewbit.frontends.mxnet.checkpoint import network_beside, point, pointed
from fewbit.frontends.mxnet.convert import convert
from fewbit.frontends.mxnet.graph import Entry, SymbolGraph, SymbolNode
from fewbit.frontends.mxnet.quantized import fused_layers, recover
from fewbit.frontends.mxnet.symbol import parse_symbol, read_symbol, save_symbol, symbol_text
from fewbit.frontends.mxnet.upgrade import upgrade
from fewbit.graph.files import load_model
from fewbit.graph.fuse import fuse
from fewbit.graph.model import SOURCE_OP, Model, is_const
from fewbit.graph.shapes import with_input_shapes
from fewbit.report.quantized import Quantized, plan_path

BACKENDS = ("MKLDNN", "MKLDNN_QUANTIZE", "ONEDNN", "ONEDNN_QUANTIZE")
Params = Mapping[str, Any] | None
Shapes = Mapping[str, Sequence[int | None]]


class Symbol:
    """A float graph.

    Args:
        graph: as the file has it. fused: whether the script asked for fusion.
    """

    def __init__(self, graph: SymbolGraph, fused: bool = False) -> None:
        self.graph, self.fused = graph, fused

    @property
    def name(self) -> str:
        """The name of the last layer."""
        return self.graph.nodes[self.graph.heads[0].node].name if len(self.graph.heads) == 1 else ""

    def list_arguments(self) -> list[str]:
        """Inputs and learnt parameters."""
        return list(self.graph.arguments)

    def list_auxiliary_states(self) -> list[str]:
        """Parameters that training updates aside, such as moving means."""
        return list(self.graph.auxiliaries)

    def list_inputs(self) -> list[str]:
        """All variables."""
        return list(self.graph.variables)

    def list_outputs(self) -> list[str]:
        """What the network answers with."""
        return list(self.graph.outputs)

    def get_internals(self) -> Symbol:
        """The same graph with every value as an output: `sym.get_internals()["fc1_output"]` cuts it there."""
        return Symbol(replace(self.graph, heads=tuple(self.graph.internals().values())), self.fused)

    def __getitem__(self, index: str | int) -> Symbol:
        """The graph up to one of its outputs."""
        names = self.list_outputs()
        if isinstance(index, str) and index not in names:
            raise unknown("output", index, names)
        return Symbol(self.graph.cut([index if isinstance(index, str) else names[index]]), self.fused)

    def __iter__(self) -> Iterator[Symbol]:
        return (self[i] for i in range(len(self.list_outputs())))

    def get_backend_symbol(self, backend: str) -> Symbol:
        """The symbol, to be fused when its parameters are known."""
        one_of("backend", backend, BACKENDS)
        return Symbol(self.graph, True)

    def optimize_for(
        self, backend: str, args: Params = None, aux: Params = None, ctx: Any = None, **words: Any
    ) -> Symbol:
        """As `get_backend_symbol`; fusing needs no arrays yet."""
        return self.get_backend_symbol(backend)

    def tojson(self) -> str:
        """The text of a `-symbol.json` file."""
        return symbol_text(self.graph)

    def save(self, fname: str | os.PathLike[str]) -> None:
        """Write a `-symbol.json` file."""
        save_symbol(fname, self.graph)


class PlannedSymbol:
    """A network with a plan whose ranges are to come.

    Args:
        network: fused, float. plan: of it.
    """

    def __init__(self, network: Model, plan: Plan) -> None:
        self.network, self.plan = network, plan

    def list_arguments(self) -> list[str]:
        """Inputs and weights."""
        return _arguments(self.network)

    def list_auxiliary_states(self) -> list[str]:
        """None: they are folded into weights."""
        return []

    def list_outputs(self) -> list[str]:
        """What the network answers with."""
        return [o.name for o in self.network.outputs]

    def save(self, fname: str | os.PathLike[str]) -> None:
        """Refused: there is nothing that could run yet."""
        raise UsageError(
            f"cannot save {fname}: the network has no ranges yet; calibrate it first, with calib_graph, or ask "
            "quantize_graph for calib_mode='none'"
        )


class QuantizedSymbol(Quantized):
    """An integer network that MXNet scripts can go on with; to fewbit it is a `Quantized` like any other."""

    def __init__(self, quantized: Quantized) -> None:
        super().__init__(quantized, quantized.plan, quantized.report)

    def list_arguments(self) -> list[str]:
        """Inputs and weights."""
        return _arguments(self)

    def list_auxiliary_states(self) -> list[str]:
        """None: they are folded into weights."""
        return []

    def list_outputs(self) -> list[str]:
        """What the network answers with."""
        return [o.name for o in self.outputs]

    def get_backend_symbol(self, backend: str) -> QuantizedSymbol:
        """The network itself: requantizing and dequantizing were never written out as operators of their own."""
        one_of("backend", backend, BACKENDS)
        return self

    def optimize_for(
        self, backend: str, args: Params = None, aux: Params = None, ctx: Any = None, **words: Any
    ) -> QuantizedSymbol:
        """As `get_backend_symbol`."""
        return self.get_backend_symbol(backend)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the ONNX file and its plan. For a `.json` name they lie beside it, and it points to them."""
        file = Path(path)
        if file.suffix != ".json":
            super().save(file)
            return
        network = network_beside(file)
        super().save(network)
        point(file, network)


AnySymbol = Symbol | PlannedSymbol | QuantizedSymbol


def load(fname: str | os.PathLike[str]) -> Symbol | QuantizedSymbol:
    """Read a `-symbol.json` file: MXNet's, or one that stands for an ONNX file of fewbit's."""
    path = Path(fname)
    if not path.is_file():
        raise ModelFormatError(f"there is no file {path}; check the name")
    if path.suffix == ".onnx":
        return quantized_file(path)
    network = pointed(path)
    return quantized_file(network) if network is not None else Symbol(read_symbol(path))


def load_json(text: str) -> Symbol:
    """Read the text of a symbol."""
    return Symbol(upgrade(parse_symbol(text, "the text")))


def quantized_file(path: Path) -> QuantizedSymbol:
    """An integer network of fewbit's, with the plan that lies beside it."""
    return QuantizedSymbol(Quantized(load_model(path, allow_quantized=True), Plan.load(plan_path(path))))


def Variable(name: str, **words: Any) -> Symbol:
    """As `var`."""
    return var(name)


def var(name: str, **words: Any) -> Symbol:
    """A variable, as `SymbolBlock` takes them for inputs."""
    return Symbol(SymbolGraph((SymbolNode("null", name),), (Entry(0, 0),), (0,)))


def network_of(sym: Any, args: Params = None, auxs: Params = None, shapes: Shapes | None = None) -> Model:
    """The float network of a symbol and its parameters.

    Args:
        sym: a Symbol, a fewbit Model, or the path of a checkpoint, its prefix, or a model file.
        args, auxs: parameters of a Symbol by name; other networks have theirs.
        shapes: of inputs, as far as known; the first axis is free.
    """
    if isinstance(sym, PlannedSymbol):
        return sym.network
    if isinstance(sym, Model) or (isinstance(sym, (str, os.PathLike)) and not args):
        model = as_model(sym)
        known = {i.name: i.shape for i in model.inputs}
        told = {k: (None, *v[1:]) for k, v in (shapes or {}).items() if len(v) == len(known.get(k, ()))}
        return with_input_shapes(model, told) if told else model
    if isinstance(sym, (str, os.PathLike)):
        sym = load(sym)
    if not isinstance(sym, Symbol):
        raise UsageError(
            f"sym is a {type(sym).__name__}; it must be a Symbol, a fewbit Model, or the path of a checkpoint"
        )
    params = {k: np.asarray(v) for k, v in {**(args or {}), **(auxs or {})}.items()}
    graph, weights, ranges = recover(sym.graph, params)
    wanted = {k: (None, *v[1:]) for k, v in (shapes or {}).items() if k in graph.variables and k not in weights}
    model = convert(graph, weights, shapes=wanted, name=sym.name or "network")
    model.ranges = ranges
    model.aliases = fused_layers(sym.graph) | model.aliases
    return fuse(model) if sym.fused else model


def check_inputs(names: Sequence[str], sym: Any) -> None:
    """Raise if a symbol has no variables of these names.

    Raises:
        UnknownName: the nearest is offered.
    """
    if isinstance(sym, Symbol):
        for name in names:
            if name not in sym.list_arguments() and "label" not in name:
                raise unknown("input", name, sym.list_arguments())


def idle(sym: Any) -> set[str]:
    """Variables of a symbol that inference may do without, such as labels."""
    return set(sym.list_arguments()) if isinstance(sym, Symbol) else set()


def makers(model: Model) -> dict[str, str]:
    """Values → the operators that make them, in MXNet's words where they came from there."""
    return {str(v.name): n.metadata_props.get(SOURCE_OP, n.op_type) for n in model.nodes for v in n.outputs if v.name}


def params_of(model: Model) -> dict[str, NDArray]:
    """The weights of a network by name."""
    found = {str(v.name): v.const_value.numpy() for v in model.weights() if v.const_value is not None}
    return {k: array(v, dtype=v.dtype) for k, v in found.items()}


def with_params(model: Model, params: Mapping[str, Any], *, allow_missing: bool, allow_extra: bool) -> Model:
    """A copy of a network with other weights.

    Raises:
        UsageError: a weight is missing, unknown, or has another shape or type.
    """
    weights = {str(v.name): v for v in model.weights() if is_const(v)}
    missing = [k for k in weights if k not in params]
    if missing and not allow_missing:
        raise UsageError(f"the parameters lack {', '.join(missing[:5])}; allow_missing=True keeps what the network has")
    copy = model.clone()
    known = {str(v.name): v for v in copy.weights()}
    for name, given in params.items():
        if name not in known:
            if allow_extra:
                continue
            raise unknown("parameter", name, known)
        have, new = known[name].const_value.numpy(), np.asarray(given)  # type: ignore[union-attr]
        if have.shape != new.shape or have.dtype != new.dtype:
            raise UsageError(
                f"parameter {name!r} is {new.dtype}{list(new.shape)}; the network has {have.dtype}{list(have.shape)}"
            )
        if have is not new and not (have == new).all():
            copy.set_weight(name, new)
    return copy


def _arguments(model: Model) -> list[str]:
    return [i.name for i in model.inputs] + [str(v.name) for v in model.weights()]


__getattr__ = telling("mx.sym", "networks cannot be built here: export them in MXNet once")
