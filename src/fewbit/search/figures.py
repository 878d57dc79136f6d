"""Figures of one quantized network against float, and whether they keep within the user's budgets.

    loss      what a budget limits          min_sqnr        noise power ÷ signal power, 10^(-SQNR/10)
                                            min_cosine      1 - cosine
                                            min_agreement   share of samples of another class
                                            max_drop        loss of top-1
                                            max_latency     latency ÷ float latency
    excess    loss ÷ allowed loss - 1       of several budgets the largest counts

The plan nearest to the budgets is the one of the smallest excess: "twice the noise allowed" is as far away as "twice
the latency allowed". Where a budget allows (nearly) nothing, a floor stands for it, so that plans can be compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fewbit.errors import ConfigError


@dataclass(frozen=True)
class Figures:
    """What one plan gives on held-out samples.

    Args:
        sqnr, cosine: of the worst output against float. agreement: share of samples with the class of float.
        drop: loss of top-1 against float, as a share. latency: ÷ float latency. None: could not be or was not measured.
        macs: share of the multiplications that are done in integers, 0 to 1. samples: judged on this many.
        expected: agreement to be expected of other samples, see `fewbit.search.expected`; None: take it as counted.
    """

    sqnr: float
    cosine: float
    agreement: float | None
    drop: float | None
    latency: float | None
    macs: float
    samples: int = 0
    expected: float | None = None


@dataclass(frozen=True)
class _Row:
    """One budget: which figure it is about, what it limits, and what to do where that was not measured."""

    figure: str
    loss: Callable[[float], float]
    floor: float
    absent: str
    at_least: bool = True


ROWS: dict[str, _Row] = {
    "min_sqnr": _Row("sqnr", lambda x: 10 ** min(300.0, -x / 10), 1e-20, ""),
    "min_cosine": _Row("cosine", lambda x: 1 - x, 1e-6, ""),
    "min_agreement": _Row(
        "agreement",
        lambda x: 1 - x,
        1e-3,
        "needs class scores, and no output of the network looks like them (floating-point, of shape "
        "(samples, classes)); use min_sqnr or min_cosine",
    ),
    "max_drop": _Row(
        "drop",
        lambda x: x,
        1e-3,
        "needs labels and class scores to count right answers; hand labelled data, or use min_agreement",
        at_least=False,
    ),
    "max_latency": _Row(
        "latency", lambda x: x, 1e-3, "needs an engine to time networks on; none was handed over", at_least=False
    ),
}
"""Budget → its row. The fields are those of `fewbit.config.BUDGETS`."""

LATENCY = "max_latency"


def of_accuracy(budgets: Mapping[str, float]) -> dict[str, float]:
    """All budgets but that of latency, which float layers rarely help."""
    return {b: bound for b, bound in budgets.items() if b != LATENCY}


def of_latency(budgets: Mapping[str, float]) -> dict[str, float]:
    """The budget of latency, if there is one."""
    return {b: bound for b, bound in budgets.items() if b == LATENCY}


def got(figures: Figures, budget: str) -> float:
    """The figure that a budget is about.

    Agreement counts only as far as it is no luck: at most one standard error, √(p (1 - p) / samples), above the share
    p that is expected. The more samples, the less luck.

    Raises:
        ConfigError: it was not measured; says what it takes.
    """
    found = getattr(figures, ROWS[budget].figure)
    if found is None:
        raise ConfigError(f"{budget} {ROWS[budget].absent}")
    if budget == "min_agreement" and figures.expected is not None and figures.samples:
        p = figures.expected
        return min(float(found), p + math.sqrt(max(0.0, p * (1 - p)) / figures.samples))
    return float(found)


def met(figures: Figures, budgets: Mapping[str, float]) -> bool:
    """Whether every budget is kept; NaN keeps none.

    Raises:
        ConfigError: a budget is about something that was not measured.
    """
    return all(_kept(budget, got(figures, budget), bound) for budget, bound in budgets.items())


def missing(figures: Figures, budgets: Mapping[str, float]) -> list[str]:
    """A sentence for each budget that is not kept."""
    found = []
    for b, bound in budgets.items():
        value, end = got(figures, b), "least" if ROWS[b].at_least else "most"
        if not _kept(b, value, bound):
            luck = f" at best (that {figures.agreement:.4g} were counted is luck)" if _lucky(figures, b, value) else ""
            found.append(f"{ROWS[b].figure} is {value:.4g}{luck}, {b} asks for at {end} {bound:g}")
    return found


def _lucky(figures: Figures, budget: str, value: float) -> bool:
    return budget == "min_agreement" and figures.agreement is not None and value < figures.agreement


def excess(figures: Figures, budgets: Mapping[str, float]) -> float:
    """How far the worst budget is exceeded, see above; 0 if all are kept, inf for NaN."""
    worst = 0.0
    for budget, bound in budgets.items():
        value, row = got(figures, budget), ROWS[budget]
        if math.isnan(value):
            return math.inf
        if not _kept(budget, value, bound):
            worst = max(worst, row.loss(value) / max(row.loss(bound), row.floor) - 1, 1e-12)
    return worst


def _kept(budget: str, value: float, bound: float) -> bool:
    return value >= bound if ROWS[budget].at_least else value <= bound
