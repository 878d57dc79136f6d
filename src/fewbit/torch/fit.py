"""Training: epochs of steps, the best epoch kept, a checkpoint after each.

    for each epoch:  bits of the stage → [ranges and statistics stand still] → steps → held-out top-1 → checkpoint
    for each step:   y = net(x), t = teacher(x) → loss → gradients → [clipped] → optimiser at the rate of the step

A float network and a quantized one are trained by the same loop; what is different is the network.
"""

from __future__ import annotations

import copy
import math
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fewbit.config.train import RATES, TrainConfig
from fewbit.data.datasets.labelled import Labelled
from fewbit.errors import EmptyData, FewbitError, UsageError
from fewbit.torch import checkpoint as saved
from fewbit.torch.devices import device_of
from fewbit.torch.distill import loss_of
from fewbit.torch.history import Epoch, TrainReport
from fewbit.torch.loader import Loader, Pictures, generator
from fewbit.torch.optim import optimizer, parameters, rate, set_rate
from fewbit.torch.stages import Planned, bits_of, enter, hold_still, planned, set_bits

Say = Callable[[str, int, int], None]

LOOK = 20
"""Steps after which the loss is looked at: for progress, and whether it is a number."""

TEST_BATCH = 512
"""Images in a batch where nothing is learned."""

DIGITS = "mnist"
"""The set whose images have a left and a right."""


@dataclass
class Run:
    """A training under way."""

    net: nn.Module
    teacher: nn.Module | None
    config: TrainConfig
    train: Loader
    held: Loader | None
    optimizer: torch.optim.Optimizer
    plans: dict[str, Planned]
    rows: list[Epoch] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)
    best: int = 0
    weights: dict[str, Any] = field(default_factory=dict)

    def state(self) -> dict[str, Any]:
        """All of it that changes."""
        return {
            "net": self.net.state_dict(), "optimizer": self.optimizer.state_dict(), "best": self.best,
            "weights": self.weights, "figures": self.figures, "epochs": [asdict(r) for r in self.rows],
        }  # fmt: skip


def fit(
    net: nn.Module,
    data: Labelled,
    config: TrainConfig,
    *,
    test: Labelled | None = None,
    teacher: nn.Module | None = None,
    checkpoint: Path | None = None,
    resume: bool = False,
    about: str = "this network",
    say: Say | None = None,
    tell: Callable[[str], None] | None = None,
) -> TrainReport:
    """Train a network in place; in the end it has the weights of its best epoch and is in eval mode.

    Args:
        net: float, or quantized by `prepare` or `convert_model`. data: to train on. test: to measure top-1 on.
        teacher: the float network that answers are learned from, unless config.distill is 0.
        checkpoint: file that is written after each epoch. resume: go on from it, if it is there.
        about: what is trained on what; a checkpoint of something else is refused.
        say: called with (what is done, steps done, steps) now and then. tell: called with a line after each epoch.

    Raises:
        FewbitError: the loss is no longer a number. EmptyData: no image. UsageError: a checkpoint of another training.
    """
    device = device_of(config.device)
    with seeded(config.seed):
        run = begin(net.to(device), teacher, data, config, device)
        config = run.config
        if test is not None:
            tests = judged(Pictures(test, config.workers), config, device)
        begun = resume and checkpoint is not None and checkpoint.exists()
        if test is not None and teacher is not None and not begun:
            run.figures["float_top1"] = accuracy(teacher.to(device), tests)
            run.figures["before"] = accuracy(net, tests)
        if begun:
            assert checkpoint is not None
            _go_on(run, checkpoint, about, device)
        for number in range(len(run.rows), config.epochs):
            _stage(run, number)
            run.rows.append(_epoch(run, number, say))
            _keep_best(run)
            if tell is not None:
                tell(run.rows[-1].line(config.epochs))
            if checkpoint is not None:
                saved.write(checkpoint, run.state(), config, about)
        net.load_state_dict(run.weights)
        net.train()
        hold_still(net, run.plans, still=False)
        net.eval()
        if test is not None:
            run.figures["after"] = accuracy(net, tests)
    return TrainReport(
        tuple(run.rows), run.best, tests.samples if test is not None else 0, **run.figures
    )  # fmt: skip


def begin(net: nn.Module, teacher: nn.Module | None, data: Labelled, config: TrainConfig, device: torch.device) -> Run:
    """Images split in two, the optimiser made, channels laid out."""
    if not len(data.labels):
        raise EmptyData(f"{data.name} has no image to train on; hand another set")
    pictures = Pictures(data, config.workers)
    plans = planned(net)
    config = settled(config, bool(plans))
    order = torch.randperm(len(pictures), generator=generator(config.seed))
    kept = round(config.held_out * len(pictures))
    crop, flip = changes(config.augment, data.name)
    common = {"device": device, "channels_last": config.channels_last, "limit": config.max_batches}
    train = Loader(
        pictures, order[kept:], config.batch_size, shuffle=True, crop=crop, flip=flip, seed=config.seed, whole=True,
        **common,
    )  # fmt: skip
    held = Loader(pictures, order[:kept].sort().values, TEST_BATCH, **common) if kept else None
    wanted = teacher is not None and config.distill > 0
    if wanted:
        assert teacher is not None
        teacher = teacher.to(device).eval()
    if config.channels_last:
        for each in (net, *([teacher] if wanted and teacher is not None else [])):
            each.to(memory_format=torch.channels_last)
    return Run(net, teacher if wanted else None, config, train, held, optimizer(net, config), plans)


def settled(config: TrainConfig, quantized: bool) -> TrainConfig:
    """The settings with what depends on whether the network is quantized.

    Raises:
        UsageError: stages of bits for a float network.
    """
    if config.progressive_bits and not quantized:
        raise UsageError("progressive_bits is for quantized networks, and this one is float; prepare it first")
    rate = RATES[config.optimizer][quantized] if config.learning_rate is None else config.learning_rate
    return replace(config, learning_rate=rate, freeze_after=config.freeze_after if quantized else 1.0)


def changes(augment: str, name: str) -> tuple[bool, bool]:
    """Whether images are cropped, and whether they are flipped; a set of digits has no mirror images."""
    if augment == "auto":
        return True, name != DIGITS
    return "crop" in augment, "flip" in augment


def judged(pictures: Pictures, config: TrainConfig, device: torch.device) -> Loader:
    """All images of a set, in order and as they are."""
    places = torch.arange(len(pictures))
    return Loader(pictures, places, TEST_BATCH, device=device, channels_last=config.channels_last)


def _go_on(run: Run, file: Path, about: str, device: torch.device) -> None:
    """Take everything over from a checkpoint."""
    found = saved.read(file, run.config, about, device)
    run.rows = [Epoch(**row) for row in found["epochs"]]
    set_bits(run.net, run.plans, _bits(run.config, len(run.rows) - 1))
    saved.put(found["net"], run.net, file)
    run.optimizer.load_state_dict(found["optimizer"])
    run.best, run.weights, run.figures = found["best"], found["weights"], found["figures"]


def _stage(run: Run, number: int) -> None:
    """What an epoch trains: bits, and from some time on fixed ranges."""
    bits = _bits(run.config, number)
    if bits != (_bits(run.config, number - 1) if number else None):
        enter(run.net, run.plans, bits, lambda: next(iter(run.train.epoch(number)))[0])
    run.net.train()
    hold_still(run.net, run.plans, number >= run.config.freeze_after * run.config.epochs)


def _bits(config: TrainConfig, number: int) -> int | None:
    return bits_of(config.progressive_bits, number, config.epochs)


def _epoch(run: Run, number: int, say: Say | None) -> Epoch:
    """All steps of an epoch, and how good the network is after it."""
    config, steps, start = run.config, len(run.train), time.perf_counter()
    seed_all(config.seed, number + 1)
    total = torch.zeros((), device=run.train.device)
    value = 0.0
    for step, (x, labels) in enumerate(run.train.epoch(number)):
        value = rate(config, number * steps + step, steps)
        set_rate(run.optimizer, value)
        total += _step(run, x, labels)
        if step % LOOK == LOOK - 1 or step == steps - 1:
            mean = float(total) / (step + 1)
            if not math.isfinite(mean):
                raise FewbitError(
                    f"the loss is {mean} in step {step + 1} of epoch {number + 1}, at learning rate {value:.4g}; "
                    "use a lower learning_rate, a longer warmup, or clip_gradient=1"
                )
            if say is not None:
                what = f"epoch {number + 1} of {config.epochs}, loss {mean:.3f}"
                say(what, number * steps + step + 1, config.epochs * steps)
    found = accuracy(run.net, run.held) if run.held is not None else None
    seconds = time.perf_counter() - start
    return Epoch(number + 1, value, float(total) / steps, found, seconds, _bits(config, number))


def _step(run: Run, x: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """One step; its loss."""
    config = run.config
    with torch.autocast(x.device.type, torch.bfloat16, enabled=config.amp):
        scores = run.net(x)
        taught = None
        if run.teacher is not None:
            with torch.no_grad():
                taught = run.teacher(x)
    loss = loss_of(scores, labels, taught, config)
    run.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    if config.clip_gradient:
        nn.utils.clip_grad_norm_(parameters(run.optimizer), config.clip_gradient)
    run.optimizer.step()
    return loss.detach()


def _keep_best(run: Run) -> None:
    """Keep the weights of the last epoch unless an earlier one of the last stage was better by more than chance.

    By more than one standard error of the best share: rates fall, so of two that look alike the later one is better.
    """
    row = run.rows[-1]
    if row.bits is not None:
        return
    if row.accuracy is not None and run.held is not None:
        best = max(r.accuracy or 0.0 for r in run.rows if r.bits is None)
        if row.accuracy < best - math.sqrt(best * (1 - best) / run.held.samples):
            return
    run.best = row.number
    state = run.net.state_dict()
    run.weights = {k: v.detach().clone() if torch.is_tensor(v) else copy.deepcopy(v) for k, v in state.items()}


def accuracy(net: nn.Module, images: Loader) -> float:
    """The share of images whose highest score is that of their label, in eval mode and float32."""
    before = net.training
    net.eval()
    right = torch.zeros((), dtype=torch.int64, device=images.device)
    with torch.no_grad():
        for x, labels in images.epoch():
            right += (net(x).argmax(1) == labels).sum()
    net.train(before)
    return int(right) / images.samples


def seed_all(*seeds: int) -> None:
    """Let all random generators follow from some whole numbers."""
    state = np.random.SeedSequence(seeds).generate_state(3)
    random.seed(int(state[0]))
    np.random.seed(int(state[1]))
    torch.manual_seed(int(state[2]))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Random numbers that follow from a seed inside; outside nothing has changed."""
    before = random.getstate(), np.random.get_state(), torch.get_rng_state()
    try:
        seed_all(seed)
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])
