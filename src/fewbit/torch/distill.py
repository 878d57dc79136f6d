"""The loss: right labels, and the answers of the float network.

    (1 − d) · CE(y, label)  +  d · T² · KL(softmax(t / T) ‖ softmax(y / T))        y, t: scores of student and teacher

Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network, 2015; T² keeps the gradient's size.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

from fewbit.config.train import TrainConfig


def loss_of(
    scores: torch.Tensor, labels: torch.Tensor, taught: torch.Tensor | None, config: TrainConfig
) -> torch.Tensor:
    """The mean loss of a batch, float32.

    Args:
        scores: of the network in training (n, classes). taught: those of the float network; None: labels alone.
    """
    y = scores.float()
    if taught is None:
        return F.cross_entropy(y, labels, label_smoothing=config.label_smoothing)
    soft = config.temperature
    near = F.kl_div(
        F.log_softmax(y / soft, 1), F.log_softmax(taught.float() / soft, 1), reduction="batchmean", log_target=True
    )
    loss = config.distill * soft * soft * near
    if config.distill < 1:
        loss = loss + (1 - config.distill) * F.cross_entropy(y, labels, label_smoothing=config.label_smoothing)
    return loss
