"""Weights of a network from a file, as tensors and never as code.

.pt .pth .bin    what torch.save wrote, a state_dict          .npz    arrays by name
.safetensors     u64 length ‖ JSON {name: {"dtype", "shape", "data_offsets"}} ‖ bytes
"""

from __future__ import annotations

import json
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fewbit.errors import ModelFormatError, UsageError
from fewbit.torch.checkpoint import load

TYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
SAVED = (".pt", ".pth", ".bin")
LONGEST_HEADER = 100_000_000


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Tensors by name.

    Raises:
        UsageError: another kind of file. ModelFormatError: it is damaged, or is no state_dict.
    """
    if path.suffix in SAVED:
        found = load(path)
        if not isinstance(found, dict) or not all(isinstance(x, torch.Tensor) for x in found.values()):
            raise ModelFormatError(f"{path} holds no state_dict; write one with torch.save(net.state_dict(), ...)")
        return found
    if path.suffix == ".npz":
        return _read_npz(path)
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    raise UsageError(f"params is {str(path)!r}; weights are read from {', '.join(SAVED)}, .npz and .safetensors")


def _read_npz(path: Path) -> dict[str, torch.Tensor]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(np.array(arrays[name])) for name in arrays.files}
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile) as e:
        raise ModelFormatError(f"cannot read {path} as arrays: {e}") from e


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        data = path.read_bytes()
    except OSError as e:
        raise ModelFormatError(f"cannot read {path}: {e.strerror or e}") from e
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(len(data) - 8, LONGEST_HEADER):
        raise ModelFormatError(f"{path} is no safetensors file, or is cut off: its header does not fit in it")
    try:
        header = json.loads(data[8 : 8 + length])
        entries = {k: (v["dtype"], v["shape"], *v["data_offsets"]) for k, v in header.items() if k != "__metadata__"}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        raise ModelFormatError(f"{path}: the header of the safetensors file is damaged: {e}") from e
    body = memoryview(data)[8 + length :]
    return {name: _tensor(path, name, body, *entry) for name, entry in entries.items()}


def _tensor(path: Path, name: str, body: memoryview, kind: Any, shape: Any, start: Any, stop: Any) -> torch.Tensor:
    known = TYPES.get(kind) if isinstance(kind, str) else None
    sizes = isinstance(shape, list) and all(type(d) is int and d >= 0 for d in shape)
    placed = type(start) is int and type(stop) is int and 0 <= start <= stop <= len(body)
    if known is None or not sizes or not placed or math.prod(shape) * known.itemsize != stop - start:
        raise ModelFormatError(f"{path}: tensor {name!r} is {kind} {shape} at {start}…{stop}, which cannot be")
    if start == stop:
        return torch.empty(shape, dtype=known)
    return torch.frombuffer(bytearray(body[start:stop]), dtype=known).reshape(shape)
