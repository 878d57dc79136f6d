"""BatchNorm taken into the layer before it, so that training rounds the weights that the integer network will have.

    f = γ / √(σ² + ε)      folded weight w·f, folded bias (b - μ)·f + β

    batch     training: a first convolution in float gives μ, σ² of the batch; then the layer with folded, rounded ones
    running   training: one convolution with round(w·f) / f, f of the running σ²; then BatchNorm as ever
    frozen    training: μ, σ² are the running ones
    evaluation, or a BatchNorm that was set to eval(): the running ones, in each case

`running` costs one convolution instead of two, and its rounding follows the running σ². Dividing the weight by f is
dividing the output by it, on far fewer numbers. Where f = 0 (γ starts at 0 in some networks) it takes γ = 1 there,
since the division would give NaN; what is rounded does not matter while BatchNorm multiplies it by 0.
Running statistics move as in nn.BatchNorm. Source of `batch`: Krishnamoorthi, "Quantizing deep convolutional networks
for efficient inference", 2018.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from fewbit.core.params import TINY
from fewbit.errors import ConfigError, UnsupportedModel, UsageError, one_of

WAYS: tuple[str, ...] = ("batch", "running", "frozen")


def check_bn(bn: nn.Module, channels: int, way: str) -> None:
    """Refuse a BatchNorm that cannot be taken into a layer with that many outputs.

    Raises:
        UnknownName: there is no such way.
        ConfigError: the sizes differ.
        UnsupportedModel: it has no running statistics, or needs those of other processes.
    """
    one_of("fake_bn", way, WAYS)
    if not isinstance(bn, _BatchNorm):
        raise ConfigError(f"bn is {type(bn).__name__}; only BatchNorm can be taken into a layer")
    if bn.running_mean is None or bn.running_var is None:
        raise UnsupportedModel(
            "a BatchNorm without running statistics (track_running_stats=False) cannot be taken into a layer: there is "
            "nothing to fold in evaluation; leave it where it is, or give it running statistics"
        )
    if bn.num_features != channels:
        raise ConfigError(f"the BatchNorm has {bn.num_features} channels, the layer before it {channels}")
    if isinstance(bn, nn.SyncBatchNorm) and way == "batch":
        raise UnsupportedModel(
            "fake_bn 'batch' takes the statistics of its own process, which SyncBatchNorm must not; use fake_bn "
            "'running' or 'frozen'"
        )


def running_factor(bn: nn.Module) -> Tensor:
    """F from the running σ², float32 or wider."""
    return gamma(bn) * torch.rsqrt(_wide(bn.running_var) + bn.eps)


def gamma(bn: nn.Module) -> Tensor:
    """γ, or 1 for a BatchNorm without it."""
    return torch.ones_like(_wide(bn.running_var)) if bn.weight is None else _wide(bn.weight)


def folded_bias(bn: nn.Module, bias: Tensor | None, mean: Tensor, factor: Tensor) -> Tensor:
    """(b - μ)·f + β."""
    centred = -mean if bias is None else _wide(bias) - mean
    return centred * factor if bn.bias is None else centred * factor + _wide(bn.bias)


def never_zero(bn: nn.Module, factor: Tensor) -> Tensor:
    """f, and where it is 0 what it would be with γ = 1; without gradient, as it is multiplied and divided by again."""
    return torch.where(factor.abs() < TINY, torch.rsqrt(_wide(bn.running_var) + bn.eps), factor).detach()


def batch_statistics(bn: nn.Module, y: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """μ and σ² (without Bessel's correction) of a batch; moves the running statistics.

    Args:
        y: (N, C, …), the layer's output without its bias.
        bias: of the layer; it is in μ.
    """
    others = [i for i in range(y.dim()) if i != 1]
    n = y.numel() // y.shape[1]
    if n < 2:
        raise UsageError(f"BatchNorm has one value per channel (shape {tuple(y.shape)}); training needs two or more")
    var, mean = torch.var_mean(_wide(y), others, correction=0)
    if bias is not None:
        mean = mean + _wide(bias)
    with torch.no_grad():
        share: float | Tensor = 0.0 if bn.momentum is None else bn.momentum
        if bn.num_batches_tracked is not None:
            bn.num_batches_tracked.add_(1)
            if bn.momentum is None:  # the plain mean of all batches
                share = 1 / bn.num_batches_tracked.to(bn.running_mean.dtype)
        for running, cur in ((bn.running_mean, mean), (bn.running_var, var * (n / (n - 1)))):
            running.add_((cur.detach().to(running.dtype) - running) * share)
    return mean, var


def _wide(t: Tensor) -> Tensor:
    return t.to(torch.promote_types(t.dtype, torch.float32))
