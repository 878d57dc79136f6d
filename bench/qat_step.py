"""What a training step costs with rounding simulated, over the step of the float network.

    python bench/qat_step.py [--only resnet20 …] [--rounds 15] [--threads 1]

Same network, same batch, same optimiser, no teacher; forward, backward and update, timed in turns. Ranges as moving
averages or learned (LSQ); BatchNorm as by default, folded with its running statistics.
"""

from __future__ import annotations

import argparse
import os
import warnings
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import torch
from common import table, turns, write
from torch import nn
from torch.nn import functional as F

import fewbit as fb
from fewbit.config.train import TrainConfig
from fewbit.torch.nets import build
from fewbit.torch.optim import optimizer

NETWORKS = ("resnet8", "resnet20", "mobilenet0.25")
WAYS: dict[str, dict[str, Any]] = {
    "8 bits, moving averages": {"bit_num": 8, "learned": False},
    "4 bits, moving averages": {"bit_num": 4, "learned": False},
    "4 bits, learned": {"bit_num": 4, "learned": True},
}
FLOAT = "float"
BAR, AIM = 2.0, 1.4


def stepper(net: nn.Module, x: torch.Tensor, y: torch.Tensor) -> Callable[[], None]:
    """One training step on a batch."""
    net.train().to(memory_format=torch.channels_last)
    update = optimizer(net, TrainConfig(learning_rate=1e-3))

    def step() -> None:
        loss = F.cross_entropy(net(x), y)
        update.zero_grad(set_to_none=True)
        loss.backward()
        update.step()

    return step


def measure(name: str, batch: int, rounds: int) -> dict[str, Any]:
    """Seconds of a step of each way."""
    torch.manual_seed(0)
    x, y = torch.randn(batch, 1, 28, 28), torch.randint(0, 10, (batch,))
    laid = x.contiguous(memory_format=torch.channels_last)
    net = build(name, 10, 1)
    runs = {FLOAT: stepper(build(name, 10, 1), laid, y)}
    for way, words in WAYS.items():
        runs[way] = stepper(fb.torch.prepare(net.eval(), x, **words), laid, y)
    times = turns({k: partial(run) for k, run in runs.items()}, rounds, warmup=2)
    ratios = {k: median(a / b for a, b in zip(t, times[FLOAT], strict=True)) for k, t in times.items()}
    return {"seconds": {k: median(t) for k, t in times.items()}, "ratios": ratios, "batch": batch}


def page(found: dict[str, Any], threads: int, load: float) -> str:
    """The text for people."""
    rows = [
        [name, f["batch"], 1000 * f["seconds"][FLOAT], *(f["ratios"][w] for w in WAYS), verdict(f)]
        for name, f in found.items()
    ]
    head = ["network", "batch", "float step, ms", *(f"{w}: times float" for w in WAYS), f"bar {BAR:.1f}, aim {AIM}"]
    said = f"{threads} thread{'s' if threads > 1 else ''}, in turns; load of the machine before: {load:.1f}."
    return f"Training step over the float one. {said}\n\n{table(head, rows)}"


def verdict(found: dict[str, Any]) -> str:
    worst = max(found["ratios"][w] for w in WAYS)
    return "missed" if worst > BAR else "reached" if worst > AIM else "aim reached"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", nargs="+", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.simplefilter("ignore")
    load = os.getloadavg()[0]
    found = {name: measure(name, args.batch, args.rounds) for name in args.only}
    write("qat_step", {"networks": found, "threads": args.threads, "load": load}, page(found, args.threads, load))


if __name__ == "__main__":
    main()
