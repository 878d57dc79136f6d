"""How a search for a budget ended, in data and in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fewbit.core.plan import Plan
from fewbit.search.figures import LATENCY, Figures, got, met, missing, of_accuracy, of_latency

NAMED = 5
"""Float layers that a note names."""


@dataclass(frozen=True)
class Trial:
    """One plan that was judged.

    Args:
        what: for people. floats: layers that were turned float. figures: what it gives. seconds: that judging took.
        excess: how far the worst budget is exceeded, 0 = all are met. float_layers: nodes that stay float.
    """

    what: str
    floats: tuple[str, ...]
    figures: Figures
    seconds: float
    excess: float
    float_layers: int

    @property
    def met(self) -> bool:
        """Whether all budgets are met."""
        return self.excess == 0

    @property
    def rank(self) -> tuple[float, float, int]:
        """Better plans are smaller: nearer to the budgets, then cheaper."""
        return self.excess, round(1 - self.figures.macs, 9), self.float_layers


@dataclass(frozen=True)
class Found:
    """How a search ended.

    Args:
        plan: the cheapest that meets the budgets, else the nearest one. figures: its own. met: whether it does.
        tried: all plans that were judged, in order. note: for people, with the reason if the budgets are not met.
        in_time: whether it ended by itself; False: the deadline came first.
    """

    plan: Plan
    figures: Figures
    met: bool
    tried: tuple[Trial, ...]
    note: str
    in_time: bool = True


def note(best: Trial, tried: Sequence[Trial], budgets: Mapping[str, float], in_time: bool) -> str:
    """How it ended, in one paragraph."""
    count = f"{len(tried)} plan{'s' * (len(tried) != 1)} judged"
    if best.met:
        text = f"Budget met: {_described(best)}; {count}."
        if best.figures.macs == 0:
            text += " Nothing is left in integers; no plan that keeps some was good enough."
        return text if in_time else text + " The time limit came first; a longer search may find a cheaper plan."
    why = "; ".join(missing(best.figures, budgets))
    text = f"Could not meet the budget{'s' * (len(budgets) != 1)}: {why}. {_conflict(tried, budgets)}"
    if not in_time:
        text += "The time limit came first; go on with a longer one. "
    return f"{text}Best found is: {_described(best)}; {count}."


def _conflict(tried: Sequence[Trial], budgets: Mapping[str, float]) -> str:
    """Which of latency and accuracy could be met alone."""
    others = " and ".join(of_accuracy(budgets))
    if LATENCY not in budgets or not others:
        return ""
    accurate = [t.figures for t in tried if met(t.figures, of_accuracy(budgets))]
    fast = [t.figures for t in tried if met(t.figures, of_latency(budgets))]
    if accurate and fast:
        quickest = min(got(f, LATENCY) for f in accurate)
        return (
            f"{others} and {LATENCY} can each be met, but no plan meets both: the fastest one that keeps {others} "
            f"takes {quickest:.2f} of float time. "
        )
    if accurate or fast:
        can, cannot = (others, LATENCY) if accurate else (LATENCY, others)
        return f"{can} can be met; {cannot} was not met by any plan. "
    return f"Neither {others} nor {LATENCY} was met by any plan. "


def _described(trial: Trial) -> str:
    f = trial.figures
    parts = [f"{100 * f.macs:.1f} % of multiplications in integers", f"SQNR {f.sqnr:.1f} dB", f"cosine {f.cosine:.5f}"]
    if f.agreement is not None:
        others = f" ({f.expected:.4g} expected of others)" if f.expected is not None else ""
        parts.append(f"agreement {f.agreement:.4g}{others}")
    if f.drop is not None:
        parts.append(f"top-1 lost {f.drop:.4g}")
    if f.latency is not None:
        parts.append(f"latency {f.latency:.2f} of float")
    text = ", ".join(parts) + (f" on {f.samples} samples" if f.samples else "")
    if not trial.floats:
        return f"{text}; no layer turned float"
    more = f" and {len(trial.floats) - NAMED} more" if len(trial.floats) > NAMED else ""
    return f"{text}; float: {', '.join(trial.floats[:NAMED])}{more}"
