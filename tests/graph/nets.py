"""Small networks written as text, and the check that a rewrite keeps what they compute.

    net("(float[N,4] x) => (float[N,3] y) { y = Gemm(x, w) }", w=(4, 3))

A node has the name of its first output. Weights are arrays, or shapes to be filled with random numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
from onnx.reference import ReferenceEvaluator

from fewbit.graph.files import from_proto, to_bytes
from fewbit.graph.fuse import fuse_with_report
from fewbit.graph.model import Model, attr
from fewbit.graph.rewrite import Report

FREE = 2
"""Size of free dimensions when a network is run."""

Feeds = dict[str, np.ndarray[Any, Any]]


def net(text: str, *, opset: int = 17, dtype: str = "float32", **weights: Any) -> Model:
    """Read a network; see above. `opset` below 17 is set afterwards, since reading raises it."""
    graph = onnx.parser.parse_graph("g " + text)
    rng = np.random.default_rng(1)
    for name, w in weights.items():
        array = (rng.standard_normal(w) * 0.5).astype(dtype) if isinstance(w, tuple) else np.asarray(w)
        graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    proto = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", max(opset, 17))], ir_version=10)
    model = from_proto(proto)
    if opset < 17:
        model.ir.opset_imports[""] = opset
    return model


def f32(*numbers: float) -> np.ndarray[Any, np.dtype[np.float32]]:
    """One number as a scalar, several as a vector."""
    return np.array(numbers if len(numbers) > 1 else numbers[0], np.float32)


def i64(*numbers: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """A vector of integers."""
    return np.array(numbers, np.int64)


def bn(channels: int) -> Feeds:
    """Parameters of a BatchNormalization: s, b, m, v."""
    rng = np.random.default_rng(2)
    s, b, m = (rng.standard_normal(channels).astype(np.float32) for _ in range(3))
    return {"s": s, "b": b, "m": m, "v": rng.uniform(0.2, 2, channels).astype(np.float32)}


def feeds(model: Model, seed: int = 0) -> Feeds:
    """Random inputs, from -4 to 4, so that both ends of activations are seen."""
    rng = np.random.default_rng(seed)
    found: Feeds = {}
    for info in model.inputs:
        shape = [d if isinstance(d, int) else FREE for d in info.shape]
        if info.dtype == bool:
            found[info.name] = np.ones(shape, bool)
        else:
            found[info.name] = rng.uniform(-4, 4, shape).astype(info.dtype)
    return found


def run_plain(model: Model, fed: Feeds) -> list[Any]:
    """Outputs from ONNX Runtime, with its own rewrites switched off."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(to_bytes(model), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, fed))


def run_reference(model: Model, fed: Feeds) -> list[Any]:
    """Outputs from ONNX's reference implementation."""
    with np.errstate(all="ignore"):
        return list(ReferenceEvaluator(onnx.load_from_string(to_bytes(model))).run(None, fed))


def beyond_reference(node: ir.Node) -> bool:
    """Whether the reference implementation fails: grouped ConvTranspose, MaxPool with pads that differ."""
    if node.op_type == "ConvTranspose":
        return attr(node, "group", 1) > 1
    return node.op_type == "MaxPool" and len(set(attr(node, "pads", (0,)))) > 1


def assert_same(before: Sequence[Any], after: Sequence[Any], limit: float = 1e-4) -> None:
    """Outputs agree in type and shape, and to `limit` of their largest number."""
    assert len(before) == len(after)
    for a, b in zip(before, after, strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        if a.dtype.kind == "f":
            a, b = a.astype(np.float64), b.astype(np.float64)
            assert np.isfinite(a).all()
            assert a.size == 0 or np.abs(a - b).max() <= limit * max(np.abs(a).max(), 1e-6)
        else:
            assert np.array_equal(a, b)


def fused(model: Model) -> tuple[Model, Report]:
    """Fuse, and check all that holds for every fusion.

    It computes the same, in two engines that rewrite nothing, also for each inner value that kept its name; the file
    is valid; a second fusion finds nothing to do; the original is as it was.
    """
    original = to_bytes(model)
    out, report = fuse_with_report(model)
    assert to_bytes(model) == original
    again, more = fuse_with_report(out)
    assert not more.changes
    assert to_bytes(again) == to_bytes(out)
    assert [(i.name, i.dtype) for i in out.outputs] == [(i.name, i.dtype) for i in model.outputs]
    onnx.checker.check_model(onnx.load_from_string(to_bytes(out)))
    fed = feeds(model)
    if not any(beyond_reference(n) for m in (model, out) for n in m.nodes):
        assert_same(run_reference(model, fed), run_reference(out, fed))
    known = model.values()
    inner = [str(v.name) for n in out.graph for v in n.outputs if v.name in known]
    assert_same(run_plain(model.with_outputs(inner), fed), run_plain(out.with_outputs(inner), fed))
    return out, report


def ops(model: Model) -> str:
    """Operators of the main graph in order, one space between."""
    return " ".join(n.op_type for n in model.nodes)


def reasons(report: Report, rule: str) -> str:
    """All refusals of a rule, one a line."""
    return "\n".join(r.reason for r in report.refusals if r.rule == rule)
