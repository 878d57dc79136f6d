"""ONNX Runtime: the runner. What it does in integers stands in `onnxruntime_rules.py`.

Weights are not copied into the session: it gets a message without them and the model's own arrays by name
(ResNet-50: 464 MiB resident instead of 560). Its errors become EngineError, its warnings are not printed.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fewbit.core.runner import Executed, Feeds, NodeTime
from fewbit.engines.base import engine
from fewbit.engines.common import WARM_UP, check_feeds, shapes_of, short, takes_integers, told

if TYPE_CHECKING:
    from fewbit.graph.model import Model

FLOAT_INSIDE = frozenset("QuantizeLinear DequantizeLinear Cast MatMulNBits".split())
"""Operators that may take integers and do not compute in them."""

INTEGER_INSIDE = frozenset("DynamicQuantizeMatMul DynamicQuantizeLSTM QLinearConcat".split())
"""Operators that compute in integers and have something else for a first input."""


@engine("onnxruntime")
def open_onnxruntime(
    model: Model, threads: int = 1, optimize: bool = True, spin: bool = False, literal: bool = False
) -> OnnxRuntime:
    """Load a model into ONNX Runtime.

    Args:
        threads: that one run may use. optimize: its graph optimizer on or off.
        spin: idle threads wait actively, the engine's own default. A little faster for one stream of runs, many times
            slower as soon as anything else wants the cores.
        literal: Q and DQ are computed as they stand, and all else in float: for networks that another engine will run.

    Raises:
        EngineError: it refuses the model.
    """
    return OnnxRuntime(model, threads, optimize, spin, literal)


class OnnxRuntime:
    """One network in ONNX Runtime, on the CPU.

    Attributes:
        plan_memory: whether the engine plans one block for all activations after its first run.
    """

    plan_memory = True

    def __init__(
        self, model: Model, threads: int = 1, optimize: bool = True, spin: bool = False, literal: bool = False
    ) -> None:
        from fewbit.graph.light import light_proto

        self.inputs, self.outputs = model.inputs, [o.name for o in model.outputs]
        self.threads, self.optimize, self.spin, self.literal = threads, optimize, spin, literal
        self._proto, self._weights = light_proto(model)  # the session points into these arrays
        self._session = self._open()

    def run(self, feeds: Feeds) -> dict[str, NDArray[Any]]:
        """Outputs by name. Safe to call from several threads at once."""
        return self._run(self._session, feeds)

    def profile(self, feeds: Feeds, repeat: int = 10) -> list[NodeTime]:
        """Time each operator, in execution order; the bodies of If, Loop and Scan instead of these themselves."""
        with tempfile.TemporaryDirectory(prefix="fewbit-") as folder:
            session = self._open(profile=Path(folder) / "profile")
            for _ in range(WARM_UP + repeat):
                self._run(session, feeds)
            events = json.loads(Path(session.end_profiling()).read_text("utf-8"))
        return _node_times(events, WARM_UP + repeat)

    def executed(self) -> list[Executed]:
        """Operators of the optimized graph, in execution order."""
        from fewbit.graph.light import read_nodes

        with tempfile.TemporaryDirectory(prefix="fewbit-") as folder:
            file = Path(folder) / "optimized.onnx"
            self._open(write=file)
            nodes = read_nodes(file)
        return [_executed(name, op, " ".join(short(t) for t in types)) for name, op, types in nodes]

    def _open(self, profile: Path | None = None, write: Path | None = None) -> Any:
        import onnxruntime as ort

        from fewbit.graph.light import element_type

        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads, options.inter_op_num_threads = self.threads, 1
        level = ort.GraphOptimizationLevel
        options.graph_optimization_level = level.ORT_ENABLE_ALL if self.optimize else level.ORT_DISABLE_ALL
        settings = {"session.intra_op.allow_spinning": str(int(self.spin and self.threads > 1))}
        if self.literal:
            settings["session.disable_quant_qdq"] = "1"
        if profile:
            options.enable_profiling, options.profile_file_prefix = True, str(profile)
        if write:  # weights go to a file of their own, else 2 GB would be the end
            options.optimized_model_filepath = str(write)
            settings["session.optimized_model_external_initializers_file_name"] = "weights"
            settings["session.optimized_model_external_initializers_min_size_in_bytes"] = "1024"
        options.enable_mem_pattern = self.plan_memory
        for key, value in settings.items():
            options.add_session_config_entry(key, value)
        values = [ort.OrtValue.ortvalue_from_numpy_with_onnx_type(w, element_type(w)) for w in self._weights.values()]
        options.add_external_initializers(list(self._weights), values)
        return told(
            lambda: ort.InferenceSession(self._proto, options, providers=["CPUExecutionProvider"]),
            "ONNX Runtime refuses the model",
            _errors(),
        )

    def _run(self, session: Any, feeds: Feeds) -> dict[str, NDArray[Any]]:
        check_feeds(self.inputs, feeds)
        found = told(lambda: session.run(None, dict(feeds)), f"ONNX Runtime failed on {shapes_of(feeds)}", _errors())
        return {name: np.asarray(x) for name, x in zip(self.outputs, found, strict=True)}


def _errors() -> tuple[type[Exception], ...]:
    from onnxruntime.capi import onnxruntime_pybind11_state as c

    kinds = "Fail InvalidArgument InvalidGraph InvalidProtobuf NoSuchFile NotImplemented RuntimeException".split()
    return (*(getattr(c, k) for k in kinds), RuntimeError, ValueError)


def _executed(name: str, op: str, types: str) -> Executed:
    plain = op.rpartition(".")[2]
    integer = plain in INTEGER_INSIDE or (takes_integers(types) and plain not in FLOAT_INSIDE)
    return Executed(name, op, types, integer)


def _node_times(events: list[dict[str, Any]], runs: int) -> list[NodeTime]:
    """Medians over runs; a node that a loop runs several times counts with the sum."""
    found: dict[str, list[dict[str, Any]]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            found.setdefault(event["name"].removesuffix("_kernel_time"), []).append(event)
    times = []
    for name, calls in found.items():
        args = calls[0]["args"]
        if args["op_name"] in ("If", "Loop", "Scan"):
            continue
        us = [c["dur"] for c in calls]
        each, rest = divmod(len(us), runs)
        per_run = [sum(us[i : i + each]) for i in range(WARM_UP * each, len(us) - rest, each)]
        types = " ".join(short(kind) for t in args["input_type_shape"] for kind in t)
        times.append(NodeTime(name, args["op_name"], types, float(median(per_run))))
    return times
