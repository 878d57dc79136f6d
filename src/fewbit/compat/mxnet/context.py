"""`mx.cpu()` and its kin: MXNet's names of devices. Everything here runs on the CPU."""

from __future__ import annotations

from dataclasses import dataclass

from fewbit.errors import UsageError


@dataclass(frozen=True)
class Context:
    """A device, as MXNet names it."""

    device_type: str = "cpu"
    device_id: int = 0

    def __str__(self) -> str:
        return f"{self.device_type}({self.device_id})"


Device = Context


def cpu(device_id: int = 0) -> Context:
    """The CPU."""
    return Context("cpu", device_id)


def gpu(device_id: int = 0) -> Context:
    """A GPU; may be named, is refused where something would have to run on it."""
    return Context("gpu", device_id)


def current_context() -> Context:
    """The CPU."""
    return cpu()


def num_gpus() -> int:
    """None that fewbit would use."""
    return 0


def on_cpu(*contexts: object, what: str) -> None:
    """Refuse anything but one CPU.

    Raises:
        UsageError: a GPU, a list of devices, or something else.
    """
    for context in contexts:
        if context is None or (isinstance(context, Context) and context.device_type == "cpu"):
            continue
        raise UsageError(f"{what}: ctx is {context}; fewbit calibrates and runs on the CPU: use cpu()")
