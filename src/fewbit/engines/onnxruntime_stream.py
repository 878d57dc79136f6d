"""ONNX Runtime for calibration: many outputs, looked at once, run after run in the same memory.

Outputs of a float network with all its inner values take 67 MB an image for ResNet-50. Asked for plainly, each run
allocates them in the engine's arena and copies them to numpy. Here each thread has one set of buffers that the engine
writes into; the next run of the same thread overwrites them.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.core.runner import Feeds
from fewbit.engines.common import check_feeds, shapes_of, told
from fewbit.engines.onnxruntime import OnnxRuntime, _errors
from fewbit.graph.model import Model

Array = NDArray[Any]


def open_stream(model: Model) -> Stream:
    """Load a model for one-thread runs whose outputs are valid until the same thread runs again.

    Raises:
        EngineError: the engine refuses the model.
    """
    return Stream(model, threads=1)


class Stream(OnnxRuntime):
    """One network; `run` answers with views of buffers that it will use again."""

    plan_memory = False  # the block would be held beside what the first run took: 60 MB a thread for ResNet-50

    def __init__(self, model: Model, threads: int = 1) -> None:
        super().__init__(model, threads, optimize=True, spin=False)
        self._local = threading.local()
        trim_heap()

    def run(self, feeds: Feeds) -> dict[str, Array]:
        """Outputs by name, overwritten by the next run of the same thread. Threads do not share buffers."""
        check_feeds(self.inputs, feeds)
        shapes = tuple((k, np.shape(x)) for k, x in sorted(feeds.items()))
        if getattr(self._local, "shapes", None) != shapes:
            self._local.binding, self._local.buffers = self._bind(dict(shapes))
            self._local.shapes = shapes
        binding, buffers = self._local.binding, self._local.buffers

        def go() -> list[Any]:
            for name, x in feeds.items():
                binding.bind_cpu_input(name, np.require(x, requirements="C"))  # scalars stay without axes
            self._session.run_with_iobinding(binding)
            return list(binding.get_outputs())

        found = told(go, f"ONNX Runtime failed on {shapes_of(feeds)}", _errors())
        return {
            name: buffers[name] if name in buffers else value.numpy()
            for name, value in zip(self.outputs, found, strict=True)
        }

    def _bind(self, shapes: Mapping[str, tuple[int, ...]]) -> tuple[Any, dict[str, Array]]:
        """Buffers for the outputs whose shape follows from the inputs'; the engine allocates the others itself."""
        binding, buffers = self._session.io_binding(), {}
        sizes = {
            str(symbol): size
            for info in self._session.get_inputs()
            for symbol, size in zip(info.shape, shapes[info.name], strict=True)
            if isinstance(symbol, str)
        }
        for info in self._session.get_outputs():
            shape = [d if isinstance(d, int) else sizes.get(str(d)) for d in info.shape or [None]]
            if info.type == "tensor(float)" and all(shape):
                buffer = np.empty([int(d) for d in shape if d], np.float32)
                binding.bind_output(info.name, "cpu", 0, buffer.dtype, buffer.shape, buffer.ctypes.data)
                buffers[info.name] = buffer
            else:
                binding.bind_output(info.name, "cpu")
        return binding, buffers


def trim_heap() -> None:
    """Hand freed memory back to the system: opening a session leaves 1.5 times the weights behind (glibc only)."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        return  # another C library: nothing to do
