"""Float network → ncnn: the `pnnx` program, run in a folder of its own."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from fewbit.engines.ncnn.param import Layer, read_param
from fewbit.engines.ncnn.weights import Weights, read_bin
from fewbit.errors import EngineError, EngineMissing
from fewbit.graph.model import Model

TIMEOUT = 600.0
KINDS = {"float32": "f32", "float64": "f64", "float16": "f16", "int32": "i32", "int64": "i64", "int8": "i8",
         "uint8": "u8", "int16": "i16", "bool": "bool"}  # fmt: skip
COLOUR = r"\x1b\[[0-9;]*m"
"""What colours text on a screen."""

TALK = 4
"""Lines of the program's last words that go into a message."""


def program() -> Path:
    """Where the `pnnx` package keeps its program.

    Raises:
        EngineMissing: it is not installed.
    """
    found = importlib.util.find_spec("pnnx")
    if found is None or found.origin is None:
        raise EngineMissing("ncnn", "ncnn")
    folder = Path(found.origin).parent
    for name in ("pnnx", "pnnx.exe"):
        if (folder / name).is_file():
            return folder / name
    raise EngineMissing("pnnx's program", "ncnn")


def converted(model: Model, shapes: Sequence[tuple[int, ...]], timeout: float = TIMEOUT) -> tuple[list[Layer], Weights]:
    """The layers and weights that pnnx makes of a float network.

    Args:
        shapes: of the inputs, in their order. timeout: seconds that it may take.

    Raises:
        EngineError: pnnx fails, takes too long, or writes what cannot be read.
    """
    exe = program()
    kinds = [KINDS.get(i.dtype.name) for i in model.inputs]
    if None in kinds:
        raise EngineError(f"pnnx takes no input of the type of {model.inputs[kinds.index(None)]}")
    given = ",".join(f"[{','.join(map(str, s))}]{k}" for s, k in zip(shapes, kinds, strict=True))
    with tempfile.TemporaryDirectory(prefix="fewbit-ncnn-") as folder:
        model.save(Path(folder) / "net.onnx")
        said = _run([str(exe), "net.onnx", f"inputshape={given}", "fp16=0"], folder, timeout)
        param, weights = Path(folder) / "net.ncnn.param", Path(folder) / "net.ncnn.bin"
        if not param.is_file() or not weights.is_file():
            raise EngineError(f"pnnx made no ncnn network: {said}")
        layers = read_param(param.read_text("utf-8"))
        return layers, read_bin(weights.read_bytes(), layers)


def _run(command: list[str], folder: str, timeout: float) -> str:
    """Run it; its last words."""
    env = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, timeout=timeout, env=env, check=False, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        raise EngineError(
            f"pnnx was not done with the network after {timeout:.0f} seconds; try again on an idle machine"
        ) from None
    except OSError as e:
        raise EngineError(f"pnnx cannot be run: {e}") from e
    said = (done.stdout + b"\n" + done.stderr).decode("utf-8", "replace")
    lines = [x.strip() for x in re.sub(COLOUR, "", said).splitlines()]
    words = "; ".join([x for x in lines if x and "cpuid" not in x][-TALK:])
    if done.returncode:
        raise EngineError(f"pnnx failed on the network (exit code {done.returncode}): {words}")
    return words
