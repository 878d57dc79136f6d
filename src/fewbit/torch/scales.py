"""What quantizers hold: scale and zero point in float32 whatever the network is, and flags; all in the state_dict.

A learned scale is a Parameter without bounds; what is used is its magnitude, never below the smallest normal float32,
so an optimizer that steps over 0 comes out on the other side.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fewbit.core.params import TINY, QuantParams
from fewbit.core.spec import QuantSpec
from fewbit.errors import ConfigError, one_of
from fewbit.torch.rounding import STES, always_zero, settled

FORMAT = "format"
"""Key of the extra state that says what its numbers are of."""


def _format(spec: QuantSpec) -> str:
    """The format in words."""
    return f"{spec.bits}-bit {'signed' if spec.signed else 'unsigned'} integers per {spec.granularity}"


class Scales(nn.Module):
    """Base of the quantizers: their numbers, and flags that travel in the state_dict.

    Args:
        spec: the format, its sign settled. shape: of scale and zero point.
        ste: gradient. learned: the scale is a Parameter, and the gradient "lsq".
    """

    FLAGS: tuple[str, ...] = ()

    def __init__(self, spec: QuantSpec, shape: tuple[int, ...], ste: str, learned: bool) -> None:
        super().__init__()
        self.spec = settled(spec)
        self.ste = one_of("ste", ste, STES)
        if ste == "lsq" and not learned:
            raise ConfigError("ste 'lsq' goes with learned=True: it is the gradient of a learned scale")
        if learned:
            self.ste = "lsq"
        self.learned = learned
        if learned:
            self.scale = nn.Parameter(torch.ones(shape, dtype=torch.float32))
        else:
            self.register_buffer("scale", torch.ones(shape, dtype=torch.float32))
        self.register_buffer("zero_point", torch.zeros(shape, dtype=torch.float32))
        self.register_buffer("initialized", torch.tensor(False))
        self.enabled = True
        self._ready = False  # python's copy of `initialized`, for looking at it without waiting for the device

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Scales:
        """Take on a device, but no type: in float16 a scale would lose most of its digits."""

        def keeping_type(t: Tensor) -> Tensor:
            moved = fn(t)
            return moved if moved.dtype == t.dtype else t.to(moved.device)

        return super()._apply(keeping_type, recurse)

    def get_extra_state(self) -> dict[str, Any]:
        """The flags, for the state_dict, and what the numbers are of."""
        return {name: bool(getattr(self, name)) for name in self.FLAGS} | {FORMAT: _format(self.spec)}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take the flags of a state_dict.

        Raises:
            ConfigError: it is of another format; its scales would be taken for this one's.
        """
        theirs, ours = state.get(FORMAT, _format(self.spec)), _format(self.spec)
        if theirs != ours:
            raise ConfigError(
                f"the state is of a network with {theirs} where this one has {ours}; convert or prepare the network "
                "with the settings that the state was saved with"
            )
        for name, value in ((k, v) for k, v in state.items() if k != FORMAT):
            setattr(self, one_of("flag", name, self.FLAGS), value)
        self._ready = False  # the buffer that was loaded decides

    def extra_repr(self) -> str:
        """The format and the gradient."""
        spec = ", ".join(f"{k}={v}" for k, v in ({"bits": self.spec.bits} | self.spec.to_json()).items())
        return f"{spec}, ste={self.ste}{', learned' if self.learned else ''}"

    def hold(self, x: Tensor) -> Tensor:
        """X itself; a learned scale stays in the graph, with gradient 0: parallel training refuses what is left out."""
        return _Hold.apply(x, self.scale) if self.learned else x

    def _has_numbers(self) -> bool:
        """Whether scale and zero point were set; in a compiled graph, where nobody can look, yes."""
        if not self._ready:
            if torch.compiler.is_compiling():
                return True
            self._ready = bool(self.initialized)
        return self._ready

    def _used(self) -> Tensor:
        """The scale as it is used; a buffer is copied, as the next forward may write to it before backward reads it."""
        return self.scale.abs().clamp_min(TINY) if self.learned else self.scale.clone()

    @torch.no_grad()
    def _store(self, scale: Tensor, zero: Tensor) -> None:
        self.scale.copy_(scale)
        if not always_zero(self.spec):
            self.zero_point.copy_(zero)
        if not self._ready:
            self.initialized.fill_(True)
            self._ready = True


class _Hold(torch.autograd.Function):
    """x, and gradient 0 for a parameter that has no part in it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, parameter: Tensor) -> Tensor:
        ctx.save_for_backward(parameter)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        (parameter,) = ctx.saved_tensors
        return grad, torch.zeros_like(parameter)


def as_params(spec: QuantSpec, scale: Tensor, zero: Tensor) -> QuantParams:
    """Tensors as parameters of the core."""
    numbers = scale.detach().cpu().numpy(), zero.detach().cpu().numpy()
    return QuantParams(spec, numbers[0], numbers[1].astype(np.int32))
