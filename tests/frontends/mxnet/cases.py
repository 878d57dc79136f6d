"""Golden cases of MXNet operators (tests/golden/mxnet/ops, made by the scripts in make/), and how they are checked.

Each case is converted and run by ONNX's own ReferenceEvaluator, or by ONNX Runtime with its optimizer off, and must
give what MXNet 1.9.1 gave.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from fewbit.frontends.mxnet.convert import convert
from fewbit.frontends.mxnet.symbol import SymbolGraph, parse_symbol
from fewbit.frontends.mxnet.upgrade import upgrade
from fewbit.graph.files import to_bytes
from fewbit.graph.model import Model

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "mxnet"


@dataclass
class Case:
    """One symbol with parameters, inputs and MXNet's outputs. `free`: inputs whose shape the importer is not told."""

    graph: SymbolGraph
    params: dict[str, NDArray] = field(default_factory=dict)
    feeds: dict[str, NDArray] = field(default_factory=dict)
    free: set[str] = field(default_factory=set)
    outs: list[NDArray] = field(default_factory=list)

    def convert(self, free: int = 0) -> Model:
        """As fewbit sees it; `free`: how many of the first axes of every input it is not told."""
        known = {k: v.shape for k, v in self.feeds.items() if k not in self.free}
        shapes = {k: tuple(None if i < free else d for i, d in enumerate(s)) for k, s in known.items()}
        return convert(self.graph, self.params, shapes=shapes)


@cache
def cases(group: str) -> dict[str, Case]:
    """The cases of a file."""
    found: dict[str, Case] = {}
    with np.load(GOLDEN / "ops" / f"{group}.npz") as file:
        for key in file.files:
            name, kind, *rest = key.split("|")
            if kind == "json":
                found[name] = Case(upgrade(parse_symbol(bytes(file[key]).decode(), name)))
        for key in file.files:
            name, kind, *rest = key.split("|")
            if kind == "out":
                found[name].outs.append(file[key])
            elif kind == "param":
                found[name].params[rest[0]] = file[key]
            elif kind != "json":
                found[name].feeds[rest[0]] = file[key]
                found[name].free |= {rest[0]} if kind == "free" else set()
    return found


def run(model: Model, feeds: dict[str, NDArray], *, reference: bool = True) -> list[NDArray]:
    """Outputs of a network by ONNX's reference, or by ONNX Runtime with its optimizer off."""
    data = to_bytes(model)
    wanted = {i.name: feeds[i.name].astype(i.dtype) for i in model.inputs}
    if reference:
        return ReferenceEvaluator(data).run(None, wanted)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    return ort.InferenceSession(data, options, providers=["CPUExecutionProvider"]).run(None, wanted)


def check(case: Case, *, rtol: float = 1e-4, atol: float = 1e-5, reference: bool = True) -> None:
    """Convert and compare with MXNet's answers, shapes included."""
    got = run(case.convert(), case.feeds, reference=reference)
    assert len(got) == len(case.outs)
    for ours, theirs in zip(got, case.outs, strict=True):
        assert ours.shape == theirs.shape
        np.testing.assert_allclose(ours.astype(np.float64), theirs.astype(np.float64), rtol=rtol, atol=atol)


def check_free(case: Case, free: int, *, rtol: float = 1e-4, atol: float = 1e-5) -> None:
    """Compare both evaluators with MXNet's answers: numbers, types, shapes, and the shapes that the Model tells."""
    model = case.convert(free)
    names = tuple(v.name for v in model.outputs)
    assert names == case.graph.outputs
    for reference in (True, False):
        for ours, theirs, said in zip(
            run(model, case.feeds, reference=reference), case.outs, model.outputs, strict=True
        ):
            assert ours.shape == theirs.shape
            assert ours.dtype == (np.float32 if theirs.dtype.kind == "f" else theirs.dtype)
            np.testing.assert_allclose(ours.astype(np.float64), theirs.astype(np.float64), rtol=rtol, atol=atol)
            assert said.shape is not None and len(said.shape) == ours.ndim
            assert all(d == n for d, n in zip(said.shape, ours.shape, strict=True) if isinstance(d, int))
            assert free or all(isinstance(d, int) for d in said.shape)


def symbol_of(nodes: Sequence[tuple[str, str, dict[str, str], Sequence[int]]]) -> str:
    """Symbol JSON of nodes (operator, name, attributes, numbers of the nodes that are read); the last is the head."""
    made = [{"op": o, "name": n, "attrs": a, "inputs": [[i, 0, 0] for i in reads]} for o, n, a, reads in nodes]
    variables = [i for i, node in enumerate(nodes) if node[0] == "null"]
    version = {"mxnet_version": ["int", 10901]}
    return json.dumps({"nodes": made, "arg_nodes": variables, "heads": [[len(made) - 1, 0, 0]], "attrs": version})


def one_layer(operator: str, *shapes: tuple[int | None, ...], whole: bool = False, **attrs: str) -> Model:
    """A network of one layer, `l`, that reads inputs of these shapes, floats or `whole` numbers (int32)."""
    feeds = {f"in{i}": shape for i, shape in enumerate(shapes)}
    nodes = [("null", name, {"__dtype__": "4" if whole else "0"}, []) for name in feeds]
    graph = symbol_of([*nodes, (operator, "l", attrs, list(range(len(feeds))))])
    return convert(upgrade(parse_symbol(graph, "net")), {}, shapes=feeds)
