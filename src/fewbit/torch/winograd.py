"""Weights of 3x3 convolutions, rounded where Winograd's fast convolution would multiply them.

    U = G w Gᵀ      (out, in, 3, 3) → (out, in, t, t), t = 4, 6, 8
    U' = quantizer(U)      one scale covers an output channel: all of its in·t·t numbers
    w' = G⁺ U' (G⁺)ᵀ       the 3x3 weight that comes nearest

G⁺ G = 1, so the gradient that passes the quantizer straight arrives at w as it is. w' is no multiple of one step.
Any stride is taken: only the rounding is simulated.
Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2016.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from fewbit.core.winograd import TRANSFORMS, inverse
from fewbit.errors import ConfigError, one_of
from fewbit.torch.quantizer import WeightQuantizer

KINDS: tuple[str, ...] = ("none", *TRANSFORMS)


def winograd_quantize(w: Tensor, quantizer: WeightQuantizer, kind: str) -> Tensor:
    """Round a 3x3 weight in Winograd's domain.

    Args:
        w: (out, in / groups, 3, 3). quantizer: per channel along axis 0. kind: "F23", "F43" or "F63".
    """
    there, back = (torch.tensor(m, dtype=torch.float32, device=w.device) for m in (TRANSFORMS[kind], inverse(kind)))
    u = there @ w.float() @ there.T
    return (back @ quantizer(u) @ back.T).to(w.dtype)


def check_winograd(layer: nn.Module, quantizer: WeightQuantizer | None, kind: str) -> str:
    """Return `kind` if the layer can be rounded so.

    Raises:
        UnknownName: there is no such kind.
        ConfigError: the kernel is not 3x3, or its scales are not those of the output channels.
    """
    if one_of("winograd", kind, KINDS) == "none":
        return kind
    if not (isinstance(layer, nn.Conv2d) and tuple(layer.kernel_size) == (3, 3)):
        what = f"a kernel of {tuple(layer.kernel_size)}" if isinstance(layer, nn.Conv2d) else type(layer).__name__
        raise ConfigError(f"winograd is {kind!r}; it is for Conv2d with a 3x3 kernel, this is {what}")
    if quantizer is not None:
        spec = quantizer.spec
        if quantizer.learned:
            raise ConfigError(f"winograd is {kind!r}; its scales come from the weights, and cannot be learned")
        if spec.granularity != "channel" or spec.axis not in (0, -4) or quantizer.conv_groups > 1:
            raise ConfigError(
                f"winograd is {kind!r}; it needs weights with one scale for each output channel "
                "(granularity 'channel', axis 0)"
            )
    return kind
