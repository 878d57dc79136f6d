"""The registry of engines: a word, and the function that loads a model into that engine."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fewbit.core.runner import Executed, Feeds, NodeTime, Runner
from fewbit.core.target import TARGETS
from fewbit.errors import unknown

if TYPE_CHECKING:  # reading the tables of targets must not load onnx
    from fewbit.graph.model import Model

__all__ = [
    "ENGINES",
    "Executed",
    "Feeds",
    "NodeTime",
    "Runner",
    "engine",
    "engine_of",
    "engine_version",
    "open_runner",
    "random_feeds",
]

Opener = Callable[..., Runner]
ENGINES: dict[str, Opener] = {}


def engine(name: str) -> Callable[[Opener], Opener]:
    """Register the function that loads a model: `open(model, threads=1, optimize=True) -> Runner`."""

    def add(opener: Opener) -> Opener:
        assert name not in ENGINES, f"engine {name!r} is registered twice"
        ENGINES[name] = opener
        return opener

    return add


def engine_of(name: str) -> str:
    """The engine that runs the networks of a target here; of an engine, itself."""
    target = TARGETS.get(name)
    return target.engine if target is not None and target.engine else name.split("-")[0]


def open_runner(name: str, model: Model, *, threads: int = 1, optimize: bool = True, **options: Any) -> Runner:
    """Load a model into an engine.

    Args:
        name: an engine; or a target, whose name starts with one ("onnxruntime-avx2"), or which says one. A word that
            is both (ncnn) is the engine.
        threads: that one run may use. optimize: the engine's graph optimizer on or off.
        options: of that engine alone (`spin` of onnxruntime, `precision` of openvino).

    Raises:
        UnknownName: no such engine. EngineMissing: not installed. EngineError: the engine refuses the model.
    """
    target = TARGETS.get(name) if name not in ENGINES else None
    base = name if name in ENGINES else engine_of(name)
    if base not in ENGINES:
        raise unknown("engine", name, ENGINES)
    options = {**(target.engine_options if target is not None else {}), **options}
    return ENGINES[base](model, threads=threads, optimize=optimize, **options)


def engine_version(name: str) -> str:
    """An engine and its version, such as "onnxruntime 1.31.1"; a target's name may be given."""
    base = name if name in ENGINES else engine_of(name)
    try:
        return f"{base} {version(base)}"
    except PackageNotFoundError:
        return base


def random_feeds(model: Model, seed: int = 0, batch: int = 1, free: int = 1) -> dict[str, NDArray[Any]]:
    """Normal random numbers for every input.

    Args:
        batch: length of free first axes, and of others that have the name of one. free: length of all other free axes.
    """
    rng = np.random.default_rng(seed)
    counted = {info.shape[0] for info in model.inputs if info.shape and isinstance(info.shape[0], str)}
    feeds = {}
    for info in model.inputs:
        shape = [
            d if isinstance(d, int) else batch if i == 0 or d in counted else free for i, d in enumerate(info.shape)
        ]
        kind = info.dtype.kind
        x = rng.standard_normal(shape) if kind == "f" else rng.integers(0, 2, shape)
        feeds[info.name] = x.astype(info.dtype)
    return feeds
