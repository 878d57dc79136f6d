"""OpenVINO: the runner. What it does in integers stands in `openvino_rules.py`.

Without a word about precision it computes float layers in bf16 where the CPU has that; `precision="f32"` forbids it.
"""

from __future__ import annotations

import queue
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fewbit.core.runner import Executed, Feeds, NodeTime
from fewbit.engines.base import engine
from fewbit.engines.common import WARM_UP, check_feeds, shapes_of, short, told
from fewbit.errors import EngineMissing, one_of

if TYPE_CHECKING:
    from fewbit.graph.model import Model

PRECISIONS = ("f32", "bf16", "f16")

NOT_COMPUTED = frozenset(("Input", "Output", "Parameter", "Result"))
"""Entries of the runtime graph that are no operators."""

FLOAT_INSIDE = frozenset(("FakeQuantize", "Reorder", "Convert"))
"""Operators that may take integers without computing in them."""


@engine("openvino")
def open_openvino(model: Model, threads: int = 1, optimize: bool = True, precision: str | None = None) -> OpenVino:
    """Load a model into OpenVINO.

    Args:
        threads: that one run may use.
        optimize: off, quantized layers are emulated in f32: no integer arithmetic, no bf16. The rest stays on.
        precision: of float layers: f32, bf16, f16; None leaves it to OpenVINO.

    Raises:
        EngineMissing: it is not installed. EngineError: it refuses the model.
    """
    if precision is not None:
        one_of("precision", precision, PRECISIONS)
    return OpenVino(model, threads, precision if optimize else "f32", integers=optimize)


class OpenVino:
    """One network in OpenVINO, on the CPU."""

    def __init__(self, model: Model, threads: int, precision: str | None, integers: bool) -> None:
        try:
            import openvino as ov
        except ImportError:
            raise EngineMissing("OpenVINO", "openvino") from None
        from fewbit.graph.model import dims

        self.inputs, self.outputs = model.inputs, [o.name for o in model.outputs]
        self._settings: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
        if precision:
            self._settings["INFERENCE_PRECISION_HINT"] = precision
        if not integers:
            self._settings["LP_TRANSFORMS_MODE"] = False
        self._core = ov.Core()
        self._model, self._compiled = self._load(model)
        self._fed = {n for port in self._compiled.inputs for n in port.get_names()}  # not what nothing reads
        self._shapes = {str(v.name): dims(v) for v in model.graph.outputs}
        self._free: queue.SimpleQueue[Any] = queue.SimpleQueue()  # an infer request serves one thread at a time

    def run(self, feeds: Feeds) -> dict[str, NDArray[Any]]:
        """Outputs by name. Safe to call from several threads at once."""
        check_feeds(self.inputs, feeds)
        try:
            request = self._free.get_nowait()
        except queue.Empty:
            request = self._compiled.create_infer_request()
        try:
            return self._infer(request, feeds)
        finally:
            self._free.put(request)

    def profile(self, feeds: Feeds, repeat: int = 10) -> list[NodeTime]:
        """Time each operator, in execution order."""
        check_feeds(self.inputs, feeds)
        counting = self._compile({"PERF_COUNT": True})
        request = counting.create_infer_request()
        found: dict[str, list[float]] = {}
        ops = {}
        for i in range(WARM_UP + repeat):
            self._infer(request, feeds)
            for p in request.profiling_info if i >= WARM_UP else ():
                if p.status.name == "EXECUTED" and p.node_type not in NOT_COMPUTED:
                    found.setdefault(p.node_name, []).append(p.real_time.total_seconds() * 1e6)
                    ops[p.node_name] = p.node_type
        types = {e.node: e.types for e in _executed(counting)}
        return [NodeTime(n, ops[n], types.get(n, ""), float(median(us))) for n, us in found.items()]

    def executed(self) -> list[Executed]:
        """Operators of the optimized graph, in execution order."""
        return _executed(self._compiled)

    def _load(self, model: Model) -> tuple[Any, Any]:
        from fewbit.graph.light import self_contained

        with self_contained(model) as source:  # a file must stay until the weights are read from it
            what = str(source) if isinstance(source, Path) else source
            self._model = told(lambda: self._core.read_model(what), "OpenVINO cannot read the model", _errors())
            return self._model, self._compile({})

    def _compile(self, more: dict[str, Any]) -> Any:
        return told(
            lambda: self._core.compile_model(self._model, "CPU", self._settings | more),
            "OpenVINO refuses the model",
            _errors(),
        )

    def _infer(self, request: Any, feeds: Feeds) -> dict[str, NDArray[Any]]:
        used = {name: x for name, x in feeds.items() if name in self._fed}
        what = f"OpenVINO failed on {shapes_of(feeds)}"
        found = told(lambda: request.infer(used, share_inputs=True), what, _errors())
        return {name: as_declared(np.asarray(found[i]), self._shapes[name]) for i, name in enumerate(self.outputs)}


def as_declared(x: NDArray[Any], shape: tuple[int | None, ...] | None) -> NDArray[Any]:
    """The array with as many axes as the model declares, if leading axes of 1 are all that differs.

    OpenVINO answers `[64]·[64, 8]` with shape (1, 8).
    """
    more = x.ndim - len(shape) if shape is not None else 0
    if shape is None or not more:
        return x
    longer = x.shape if more > 0 else shape
    if any(d not in (1, None) for d in longer[: abs(more)]):
        return x
    return x.reshape(x.shape[more:] if more > 0 else (*[1] * -more, *x.shape))


def _errors() -> tuple[type[Exception], ...]:
    from openvino import frontend as f

    kinds = "GeneralFailure InitializationFailure NotImplementedFailure OpConversionFailure OpValidationFailure".split()
    return (*(getattr(f, k) for k in kinds), RuntimeError, ValueError, TypeError)


def _executed(compiled: Any) -> list[Executed]:
    nodes: list[tuple[int, Executed]] = []
    constants: set[str] = set()
    for node in compiled.get_runtime_model().get_ordered_ops():
        info = {key: str(node.get_rt_info()[key].value) for key in ("layerType", "runtimePrecision", "execOrder")}
        sources = {i.get_source_output().get_node().friendly_name for i in node.inputs()}
        if info["layerType"] != "Input" and sources <= constants:  # computed once, while loading
            constants.add(node.friendly_name)
        elif info["layerType"] not in NOT_COMPUTED:
            types = " ".join(short(i.get_element_type().get_type_name()) for i in node.inputs())
            integer = short(info["runtimePrecision"]) in ("u8", "s8") and info["layerType"] not in FLOAT_INSIDE
            nodes.append((int(info["execOrder"]), Executed(node.friendly_name, info["layerType"], types, integer)))
    return [e for _, e in sorted(nodes, key=lambda n: n[0])]
