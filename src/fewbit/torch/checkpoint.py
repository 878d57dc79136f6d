"""Training on disk: all that the next epoch needs, in one file that is there whole or not at all.

Read back as plain tensors and numbers, never as code (`weights_only`). Random numbers need no place in it: they follow
from the seed and the number of the epoch.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fewbit.config.train import TrainConfig
from fewbit.core.writing import writing
from fewbit.errors import ModelFormatError, UsageError

FORMAT = "fewbit training 1"
FREE = ("device", "workers")
"""Settings that may change on the way: they decide where, not what."""


def write(path: Path, state: Mapping[str, Any], config: TrainConfig, about: str) -> None:
    """Write a checkpoint.

    Args:
        state: tensors and plain data. about: what is trained on what, for people and for comparing.

    Raises:
        OutputError: it cannot be written.
    """
    words = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(config).items()}
    with writing(path) as file:
        torch.save({"format": FORMAT, "about": about, "config": words, **state}, file)


def read(path: Path, config: TrainConfig, about: str, device: torch.device) -> dict[str, Any]:
    """The state that `write` was given.

    Raises:
        ModelFormatError: not a checkpoint, or damaged. UsageError: of another training.
    """
    found = load(path, device)
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise ModelFormatError(f"{path} is not a checkpoint of a training; remove it, or go on from another file")
    if found["about"] != about:
        raise UsageError(f"{path} is a checkpoint of {found['about']}, not of {about}; remove it to start anew")
    for name, value in asdict(config).items():
        was = found["config"].get(name)
        if name not in FREE and was != (list(value) if isinstance(value, tuple) else value):
            raise UsageError(f"{path} was made with {name} {was!r}, now it is {value!r}; say the same, or remove it")
    return found


def load(path: Path, device: torch.device | str = "cpu") -> Any:
    """What torch.save wrote, tensors and plain data only.

    Raises:
        ModelFormatError: it cannot be read as that.
    """
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError) as e:
        reason = str(e).splitlines()[0] if str(e) else type(e).__name__
        raise ModelFormatError(f"cannot read {path} as tensors saved by torch: {reason}") from e


def put(state: Mapping[str, Any], net: nn.Module, path: Path) -> None:
    """Put saved weights into a network.

    Raises:
        ModelFormatError: they are those of another network.
    """
    try:
        net.load_state_dict(dict(state))
    except (RuntimeError, TypeError, AttributeError) as e:
        lines = [line.strip() for line in str(e).splitlines()]
        first, *more = (lines[1:2] or lines)[0].split('", "')  # names of weights, perhaps hundreds
        rest = f'" and {len(more)} more' if more else ""
        raise ModelFormatError(f"{path} holds the weights of another network: {first}{rest}") from e
