"""Where tensors lie: `auto` is a GPU if there is one."""

from __future__ import annotations

import torch

from fewbit.errors import UsageError


def device_of(name: str) -> torch.device:
    """The device of that name.

    Raises:
        UsageError: there is none here.
    """
    if name == "auto":
        found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return found or torch.device("cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, ImportError) as e:
        reason = str(e).splitlines()[0]
        raise UsageError(f"device is {name!r}, which cannot be used here: {reason}; 'cpu' and 'auto' always can") from e
    return device
