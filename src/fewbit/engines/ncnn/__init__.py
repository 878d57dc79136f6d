"""ncnn: the runner. What it does in integers stands in `ncnn_rules.py`.

ONNX (float, or made for target ncnn) → pnnx → layers, weights (`net.py`) → ncnn's runtime, one sample at a time
"""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fewbit.core.runner import Executed, Feeds, NodeTime
from fewbit.engines.base import engine
from fewbit.engines.common import WARM_UP, check_feeds
from fewbit.errors import EngineError

if TYPE_CHECKING:  # reading the tables of targets must not load onnx
    from fewbit.graph.model import Model

LIMIT = 127
NOT_COMPUTED = frozenset(("Input", "Split"))


@engine("ncnn")
def open_ncnn(model: Model, threads: int = 1, optimize: bool = True, exact: bool = True, fp16: bool = False) -> Ncnn:
    """Load a model into ncnn.

    Args:
        model: float, or made for target ncnn; sizes but the first axis are fixed.
        threads: that one run may use. optimize: off, values go between integer layers in float, and layers are computed
            as they stand, without the runtime's packed and Winograd forms.
        exact: what is not int8 is computed in float32; else the runtime may use 16-bit types.
        fp16: float weights are stored in 16 bits, as `deploy` does.

    Raises:
        EngineMissing: ncnn or pnnx is not installed. EngineError: the model cannot be converted, or was quantized for
            another engine.
    """
    return Ncnn(model, threads, optimize, exact, fp16)


class Ncnn:
    """One network in ncnn, on the CPU.

    Attributes:
        net: its layers and weights, and which ONNX layers they compute.
    """

    def __init__(self, model: Model, threads: int, optimize: bool, exact: bool, fp16: bool) -> None:
        from fewbit.engines.ncnn.net import to_ncnn
        from fewbit.engines.ncnn.runtime import load

        self.inputs, self.outputs = model.inputs, [o.name for o in model.outputs]
        self.net = to_ncnn(model, fuse_scales=optimize)
        self._loaded = load(
            self.net.layers, self.net.weights, threads, exact=exact, packing=optimize, winograd=optimize, half=fp16
        )

    def run(self, feeds: Feeds) -> dict[str, NDArray[Any]]:
        """Outputs by name, of one sample after the other. Safe to call from several threads at once."""
        check_feeds(self.inputs, feeds)
        counts = {len(feeds[i.name]) for i in self.inputs}
        if len(counts) != 1:
            raise EngineError(f"inputs have {sorted(counts)} samples; ncnn takes them one by one, so as many of each")
        rows: dict[str, list[NDArray[Any]]] = {name: [] for name in self.outputs}
        (count,) = counts
        for i in range(count):
            for name, x in self._sample({n: x[i] for n, x in feeds.items()}).items():
                rows[name].append(x)
        return {name: np.stack(found) for name, found in rows.items()}

    def _sample(self, x: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        net = self.net
        found = self._loaded.run({net.inputs[n]: v for n, v in x.items()}, list(net.outputs.values()))
        values = {n: found[b].reshape(net.shapes[n]) for n, b in net.outputs.items()}
        return {name: self._output(name, {**x, **values}) for name in self.outputs}

    def _output(self, name: str, values: dict[str, NDArray[Any]]) -> NDArray[Any]:
        if name not in self.net.rounded:
            return values[name]
        value, scale = self.net.rounded[name]
        return np.asarray(np.clip(np.rint(values[value] / scale), -LIMIT, LIMIT) * scale, np.float32)

    def profile(self, feeds: Feeds, repeat: int = 10) -> list[NodeTime]:
        """Time of one sample, by layer, in execution order.

        The runtime does not time layers: its answers are asked for one after the other. That each of them is handed
        out makes small layers look slower than they are.
        """
        check_feeds(self.inputs, feeds)
        x = {self.net.inputs[n]: v[0] for n, v in feeds.items()}
        layers = [layer for layer in self.net.layers if layer.type not in NOT_COMPUTED]
        blobs = [layer.outputs[0] for layer in layers]
        runs = [self._loaded.timed(x, blobs) for _ in range(WARM_UP + repeat)][WARM_UP:]
        times = zip(self.executed(), layers, zip(*runs, strict=True), strict=True)
        return [NodeTime(e.node, layer.type, e.types, float(median(us))) for e, layer, us in times]

    def executed(self) -> list[Executed]:
        """Layers, in execution order; those that compute an ONNX layer in integers under the name of that."""
        from fewbit.engines.ncnn.integer import is_integer

        found = []
        for layer in self.net.layers:
            if layer.type not in NOT_COMPUTED:
                types = "s8 s8" if is_integer(layer) else "f32"
                found.append(Executed(self._name(layer.name), layer.type, types, is_integer(layer)))
        return found

    def _name(self, layer: str) -> str:
        """The ONNX layer that a layer computes in integers, else its own name."""
        return next((node for node, made in self.net.mapping.items() if made == layer), layer)
