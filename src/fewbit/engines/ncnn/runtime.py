"""ncnn's runtime: files → a loaded network; arrays in, blobs out."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.engines.ncnn.param import Layer, write_param
from fewbit.engines.ncnn.weights import Weights, write_bin
from fewbit.errors import EngineError, EngineMissing

Array = NDArray[Any]


class Loaded:
    """A network in ncnn's runtime.

    Args:
        param, data: the two files. threads: that one run may use.
        exact: everything that is not int8 in float32, no 16-bit types.
        packing: numbers of several channels lie side by side, the runtime's own default. Without it depthwise layers
            are exact on x86 as well, where the packed kernel multiplies by reciprocals of 12 bits.
        winograd: convolutions of 3×3 in the Winograd domain.
    """

    def __init__(
        self,
        param: Path,
        data: Path,
        threads: int = 1,
        *,
        exact: bool = True,
        packing: bool = True,
        winograd: bool = True,
    ) -> None:
        self._ncnn = _runtime()
        self.net = self._ncnn.Net()
        options = self.net.opt
        options.num_threads = threads
        options.openmp_blocktime = 0  # idle threads would wait actively, which is slow as soon as others want the cores
        options.use_vulkan_compute = False
        options.use_packing_layout = packing
        options.use_winograd_convolution = winograd
        if exact:
            for word in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage", "bf16_packed"):
                setattr(options, f"use_{word}", False)
        if self.net.load_param(str(param)) or self.net.load_model(str(data)):
            raise EngineError(f"ncnn cannot load {param.name} and {data.name}")

    def run(self, feeds: Mapping[str, Array], blobs: Iterable[str], keep: bool = False) -> dict[str, Array]:
        """Blobs by name, of one sample.

        Args:
            feeds: blob → its values without the batch axis. keep: blobs are asked for that others read.

        Raises:
            EngineError: a layer fails.
        """
        found = {}
        with self.net.create_extractor() as extractor:
            extractor.set_light_mode(not keep)
            fed = self._feed(extractor, feeds)
            for name in blobs:
                found[name] = np.array(self._extract(extractor, name).numpy())
            del fed
        return found

    def timed(self, feeds: Mapping[str, Array], blobs: Iterable[str]) -> list[float]:
        """Microseconds from each blob to the next, in the order in which they are computed."""
        found = []
        with self.net.create_extractor() as extractor:
            extractor.set_light_mode(False)
            fed = self._feed(extractor, feeds)
            for name in blobs:
                start = time.perf_counter()
                self._extract(extractor, name)
                found.append((time.perf_counter() - start) * 1e6)
            del fed
        return found

    def _feed(self, extractor: Any, feeds: Mapping[str, Array]) -> list[Any]:
        """Set the inputs; the runtime reads the arrays that are returned while it runs.

        Copies: a Mat over NumPy's memory has no count of its readers, which layers that compute in place ask for, and
        its channels do not begin where the runtime's own do.
        """
        held = []
        for name, x in feeds.items():
            kind = np.int32 if x.dtype.kind in "iub" else np.float32
            array = np.ascontiguousarray(x, kind)
            mat = self._ncnn.Mat(array).clone()
            held += [array, mat]
            if extractor.input(name, mat):
                raise EngineError(f"ncnn takes no input {name!r} of shape {list(np.shape(x))}")
        return held

    def _extract(self, extractor: Any, name: str) -> Any:
        code, mat = extractor.extract(name)
        if code or mat.empty():
            raise EngineError(f"ncnn failed on blob {name!r} (code {code})")
        return mat


def unknown_types(layers: Iterable[Layer]) -> list[str]:
    """Types of layers that this runtime does not have."""
    ncnn = _runtime()
    return [kind for kind in dict.fromkeys(x.type for x in layers) if ncnn.layer_to_index(kind) < 0]


def _runtime() -> Any:
    try:
        import ncnn
    except ImportError:
        raise EngineMissing("ncnn", "ncnn") from None
    return ncnn


def load(layers: Sequence[Layer], weights: Weights, threads: int = 1, *, half: bool = False, **options: bool) -> Loaded:
    """Load layers and weights; half: float weights are stored in 16 bits; options: of `Loaded`."""
    with tempfile.TemporaryDirectory(prefix="fewbit-ncnn-") as folder:
        param, data = written(Path(folder), layers, weights, half)
        return Loaded(param, data, threads, **options)


def written(folder: Path, layers: Sequence[Layer], weights: Weights, half: bool = False) -> tuple[Path, Path]:
    """The two files of a network, `net.param` and `net.bin`, in a folder."""
    param, data = folder / "net.param", folder / "net.bin"
    param.write_text(write_param(layers), "utf-8")
    data.write_bytes(write_bin(layers, weights, half))
    return param, data
