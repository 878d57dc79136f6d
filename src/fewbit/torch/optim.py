"""The optimiser, and the learning rate of each step: a straight rise, then half a cosine down to zero.

rate(t) = r · (t + 1) / w                         t < w, the steps of the warmup
rate(t) = r · (1 + cos(π (t − w) / (T − w))) / 2   after that
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import nn

from fewbit.config.train import TrainConfig


def optimizer(net: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """SGD or AdamW over all parameters; those of norms, biases and scales are not pulled to zero."""
    assert config.learning_rate is not None
    pulled: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, p in net.named_parameters():
        if p.requires_grad:
            (free if p.ndim < 2 or name.rpartition(".")[2] == "scale" else pulled).append(p)
    groups = [
        {"params": pulled, "weight_decay": config.weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    if config.optimizer == "sgd":
        return torch.optim.SGD(
            groups, lr=config.learning_rate, momentum=config.momentum, nesterov=config.momentum > 0, foreach=True
        )
    return torch.optim.AdamW(groups, lr=config.learning_rate)


def rate(config: TrainConfig, step: int, steps: int) -> float:
    """The learning rate of a step, the config's own being settled.

    Args:
        step: from 0 on. steps: in one epoch.
    """
    assert config.learning_rate is not None
    warm, total = config.warmup * steps, config.epochs * steps
    if step < warm:
        return config.learning_rate * min((step + 1) / warm, 1.0)
    return config.learning_rate * (1 + math.cos(math.pi * (step - warm) / max(total - warm, 1))) / 2


def set_rate(to: torch.optim.Optimizer, value: float) -> None:
    """Let the next step have this learning rate."""
    for group in to.param_groups:
        group["lr"] = value


def parameters(of: torch.optim.Optimizer) -> Iterator[nn.Parameter]:
    """All that are trained."""
    for group in of.param_groups:
        yield from group["params"]
