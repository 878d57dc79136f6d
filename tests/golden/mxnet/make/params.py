"""Parameter files as MXNet 1.9.1 writes or reads them, each with the values that MXNet itself sees in it (.npz).

Run in an environment with mxnet 1.9.1 and numpy 1.23, from anywhere:  python tests/golden/mxnet/make/params.py

Also proves that MXNet reads what fewbit writes.
"""

from __future__ import annotations

import importlib
import struct
import subprocess
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

import mxnet as mx
import numpy as np
from mxnet.contrib.amp.amp import bfloat16

HERE = Path(__file__).parents[1] / "params"
SOURCE = Path(__file__).parents[4] / "src" / "fewbit"
V1 = 0xF993FAC8


def fewbit(module: str) -> Any:
    """A module of frontends/mxnet without the rest of fewbit, which needs a newer numpy."""
    for name in ("fewbit", "fewbit.core", "fewbit.frontends", "fewbit.frontends.mxnet"):
        package = types.ModuleType(name)
        package.__path__ = [str(SOURCE.joinpath(*name.split(".")[1:]))]
        sys.modules.setdefault(name, package)
    return importlib.import_module(f"fewbit.frontends.mxnet.{module}")


def seen(name: str, path: Path | None = None) -> dict[str, np.ndarray]:
    """The values that MXNet reads from a file."""
    loaded = mx.nd.load(str(path or HERE / f"{name}.params"))
    if isinstance(loaded, list):
        loaded = {str(i): a for i, a in enumerate(loaded)}
    dense = {k: a if a.stype == "default" else a.tostype("default") for k, a in loaded.items()}
    return {k: a.astype("float32").asnumpy() if "bf16" in k else a.asnumpy() for k, a in dense.items()}


def keep(name: str) -> None:
    """Store what MXNet reads from the file beside it."""
    np.savez(HERE / f"{name}.npz", **seen(name))


def newest() -> None:
    values = np.array([[0, 1, 2.5], [-3, 100, 7]])
    arrays = {
        f"arg:{d}": mx.nd.array(np.abs(values) if d in ("uint8", "bool") else values, dtype=d)
        for d in ("float32", "float64", "float16", "uint8", "int32", "int8", "int64", "bool")
    }
    arrays["aux:bf16"] = mx.nd.amp_cast(mx.nd.array([1, -2.5, 3.14159, 1e30]), dtype=bfloat16)
    mx.nd.save(str(HERE / "dense.params"), arrays)
    keep("dense")
    mx.nd.save(str(HERE / "unnamed.params"), [arrays["arg:float32"], arrays["arg:int8"]])
    keep("unnamed")
    rows = mx.nd.sparse.row_sparse_array((np.arange(4, dtype="f").reshape(2, 2), [1, 3]), shape=(5, 2))
    csr = mx.nd.sparse.csr_matrix((np.array([1, 2, 3], "f"), [0, 2, 1], [0, 2, 2, 3]), shape=(3, 3))
    arrays = {"rows": rows, "csr": csr, "no_rows": mx.nd.sparse.zeros("row_sparse", (3, 2)),
              "no_csr": mx.nd.sparse.zeros("csr", (3, 2))}  # fmt: skip
    mx.nd.waitall()
    mx.nd.save(str(HERE / "sparse.params"), arrays)
    keep("sparse")


def by_hand(name: str, arrays: list[bytes]) -> None:
    keys = b"".join(struct.pack("<Q", 1) + b"abcdef"[i : i + 1] for i in range(len(arrays)))
    count = struct.pack("<Q", len(arrays))
    (HERE / f"{name}.params").write_bytes(struct.pack("<QQ", 0x112, 0) + count + b"".join(arrays) + count + keys)
    keep(name)


def old() -> None:
    """Layouts that no MXNet of today writes."""
    place = struct.pack("<ii", 2, 3)  # a GPU
    x, y = np.arange(6, dtype="<f4").reshape(2, 3), np.array([-1, 5], "<i4")
    before = [struct.pack(f"<I{a.ndim}I", a.ndim, *a.shape) + place + struct.pack("<i", n) + a.tobytes()
              for a, n in ((x, 0), (y, 4))]  # fmt: skip
    first = [struct.pack(f"<Ii{a.ndim}q", V1, a.ndim, *a.shape) + place + struct.pack("<i", n) + a.tobytes()
             for a, n in ((x, 0), (y, 4))]  # fmt: skip
    by_hand("before_v1", before)
    by_hand("v1", first)
    by_hand("mixed", [before[0], first[1], first[0]])


def np_shape() -> None:
    """Layout V3; a process of its own, for MXNet has one shape semantics at a time."""
    mx.npx.set_np()
    arrays = {"scalar": mx.np.array(2.5), "none": mx.np.zeros((0, 3)), "some": mx.np.array([[1, 2], [3, 4]])}
    mx.npx.save(str(HERE / "np_shape.params"), arrays)
    loaded = mx.npx.load(str(HERE / "np_shape.params"))
    np.savez(HERE / "np_shape.npz", **{k: a.asnumpy() for k, a in loaded.items()})
    read_back({"scalar": np.float32(3).reshape(()), "none": np.zeros((0, 2), np.int8), "x": np.ones(3, np.float16)})


def read_back(arrays: dict[str, np.ndarray]) -> None:
    """MXNet reads what fewbit writes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.params"
        fewbit("ndarray").save_ndarrays(path, arrays)
        again = seen("", path)
    assert list(again) == list(arrays)
    for key, array in arrays.items():
        assert again[key].dtype == array.dtype and np.array_equal(again[key], array), key


if __name__ == "__main__":
    HERE.mkdir(exist_ok=True)
    if sys.argv[1:] == ["np_shape"]:
        np_shape()
    else:
        newest()
        old()
        read_back({k: v for k, v in seen("dense").items() if "bf16" not in k})
        subprocess.run([sys.executable, __file__, "np_shape"], check=True)
        print("MXNet reads what fewbit writes")
