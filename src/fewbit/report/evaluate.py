"""How well a classifier does: top-1, top-5, agreement with its float original, paired flips.

    top-k      right = the label is among the k highest scores; shares come with Wilson's 95 % interval
    agreement  both networks name the same class; needs no labels
    flips      fixed: wrong before, right now      broken: right before, wrong now

On few samples flips say more than the difference of two accuracies, since both networks saw the same samples.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.core.blocks import Block, Facts, Loud, Shown, to_text
from fewbit.core.metrics import class_like, paired_flips, top_k_hits, wilson_interval
from fewbit.core.runner import Runner
from fewbit.core.tables import number, percent, plain
from fewbit.data.base import Batch
from fewbit.errors import BadSample, ConfigError, DataError, EmptyData, FewbitWarning, ModelError, unknown

Array = NDArray[Any]


@dataclass(frozen=True)
class Share:
    """`hits` out of `of`."""

    hits: int
    of: int

    @property
    def rate(self) -> float:
        """The share, 0 to 1; 0 of nothing."""
        return self.hits / self.of if self.of else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the rate."""
        return wilson_interval(self.hits, self.of)

    def __str__(self) -> str:
        lo, hi = self.interval
        return f"{percent(self.rate, 2)} ({number(lo * 100, 1)} to {number(hi * 100, 1)}), {self.hits} of {self.of}"


@dataclass(frozen=True, repr=False)
class Evaluation(Shown):
    """What was counted.

    Args:
        output: the output that was read as class scores. classes: how many it has.
        samples: seen. labelled: of these with a label.
        accuracy: k → share of labelled samples whose label is among the k best; empty without labels.
        reference: the same for the float network; empty without one.
        agreement: share of samples for which both name the same class; None without a reference.
        fixed, broken: paired flips; None without reference and labels.
        not_finite: samples for which the scores hold NaN or inf.
    """

    output: str
    classes: int
    samples: int
    labelled: int
    accuracy: Mapping[int, Share] = field(default_factory=dict)
    reference: Mapping[int, Share] = field(default_factory=dict)
    agreement: Share | None = None
    fixed: int | None = None
    broken: int | None = None
    not_finite: int = 0

    @property
    def drop(self) -> float | None:
        """Loss of top-1 against the reference, as a share (0.01 = one point); None if either was not counted."""
        if 1 not in self.accuracy or 1 not in self.reference:
            return None
        return self.reference[1].rate - self.accuracy[1].rate

    def text(self) -> str:
        """Lines for people."""
        return to_text(self._blocks())

    def _blocks(self) -> list[Block]:
        lines = [("output", f"{self.output}, {self.classes} classes")]
        lines += [("samples", f"{self.samples}, {self.labelled} with a label")]
        for k, share in self.accuracy.items():
            lines.append((f"top-{k}", str(share)))
            if k in self.reference:
                lines.append((f"top-{k} float", str(self.reference[k])))
        if self.drop is not None:
            lines.append(("top-1 lost", f"{number(self.drop * 100, 2)} points"))
        if self.agreement is not None:
            lines.append(("agrees with float", str(self.agreement)))
        if self.fixed is not None:
            lines.append(("flips", f"{self.fixed} fixed, {self.broken} broken"))
        loud = (
            [Loud([f"{self.not_finite} of {self.samples} samples give NaN or inf scores"])] if self.not_finite else []
        )
        return [Facts(lines), *loud]

    def _brief(self) -> str:
        found = [f"top-{k} {percent(s.rate, 2)}" for k, s in self.accuracy.items()]
        found += [f"{number(self.drop * 100, 2)} points lost"] if self.drop is not None else []
        found += [f"agrees {percent(self.agreement.rate, 2)}"] if self.agreement is not None else []
        found += [f"{self.not_finite} NaN or inf"] if self.not_finite else []
        return ", ".join([*found, f"{self.samples} samples"])

    def to_json(self) -> dict[str, Any]:
        """Everything, as plain dicts, with rates and intervals."""

        def shown(s: Share) -> dict[str, Any]:
            return {"rate": s.rate, "interval": list(s.interval), "hits": s.hits, "of": s.of}

        found = plain(self) | {"drop": self.drop, "agreement": shown(self.agreement) if self.agreement else None}
        for key, part in (("accuracy", self.accuracy), ("reference", self.reference)):
            found[key] = {f"top{k}": shown(s) for k, s in part.items()}
        return found


@dataclass
class _Counts:
    hits: dict[int, int] = field(default_factory=dict)
    before: dict[int, int] = field(default_factory=dict)
    samples: int = 0
    labelled: int = 0
    agree: int = 0
    fixed: int = 0
    broken: int = 0
    not_finite: int = 0
    seen: set[int] = field(default_factory=set)


def evaluate(
    runner: Runner,
    batches: Iterable[Batch],
    reference: Runner | None = None,
    *,
    output: str | None = None,
    top: Sequence[int] = (1, 5),
    num_skipped_batches: int = 0,
    num_inference_batches: int | None = None,
) -> Evaluation:
    """Count how often a classifier is right, and how often it says what the float network says.

    Args:
        runner: the network. reference: its float original.
        batches: the data; labels are class numbers from 0, and may be missing if there is a reference.
        output: which output holds the class scores; default: the first of shape (samples, classes).
        top: the k of top-k; those that all classes would satisfy are left out.
        num_skipped_batches: pass over this many first. num_inference_batches: stop after this many.

    Raises:
        UnknownName: no such output. ModelError: no output looks like class scores.
        DataError: neither labels nor reference. BadSample: a label is no class. EmptyData: no batch is left.
    """
    for name, n, least in (
        ("num_skipped_batches", num_skipped_batches, 0),
        ("num_inference_batches", num_inference_batches, 1),
        ("top", min(top, default=0), 1),
    ):
        if n is not None and n < least:
            raise ConfigError(f"{name} is {n!r}; it must be {least} or more")
    stop = None if num_inference_batches is None else num_skipped_batches + num_inference_batches
    counts, classes, ks = _Counts(), 0, tuple(top)
    for batch in islice(batches, num_skipped_batches, stop):
        answers = runner.run(batch.feeds)
        if not counts.samples:
            output = pick_output(answers, output)
            classes = _scores(answers, output).shape[1]
            ks = tuple(k for k in sorted(set(top)) if k == 1 or k < classes)
        assert output is not None
        scores = _scores(answers, output)
        before = _scores(reference.run(batch.feeds), output) if reference is not None else None
        if batch.labels is None and before is None:
            raise DataError("the data has no labels and there is no float network to agree with; hand one of them")
        _count(counts, scores, before, batch, ks)
    if not counts.samples:
        raise EmptyData(f"the data holds no batch after the first {num_skipped_batches}" if num_skipped_batches
                        else "the data holds no batch; there is nothing to evaluate")  # fmt: skip
    _doubt_numbering(counts, classes)
    both = reference is not None and counts.labelled > 0
    return Evaluation(
        output=str(output),
        classes=classes,
        samples=counts.samples,
        labelled=counts.labelled,
        accuracy={k: Share(n, counts.labelled) for k, n in counts.hits.items()},
        reference={k: Share(n, counts.labelled) for k, n in counts.before.items()},
        agreement=Share(counts.agree, counts.samples) if reference is not None else None,
        fixed=counts.fixed if both else None,
        broken=counts.broken if both else None,
        not_finite=counts.not_finite,
    )


def _doubt_numbering(counts: _Counts, classes: int) -> None:
    """Warn where labels look like some of the classes numbered anew, as folders are that are not named by number."""
    seen = len(counts.seen)
    if 1 < seen < classes and counts.seen == set(range(seen)) and counts.labelled >= 2 * seen:
        warnings.warn(
            f"the labels are just 0 to {seen - 1}, but the network knows {classes} classes; if they come from folders "
            "that are not named by class number, they were numbered in sorted order, and the accuracy means nothing",
            FewbitWarning,
            stacklevel=3,
        )


def pick_output(answers: Mapping[str, Array], wish: str | None = None) -> str:
    """The output to read as class scores: the one wished for, else the first that looks like it.

    Args:
        answers: output name → array, in the order of the network.
    """
    if wish is not None and wish not in answers:
        raise unknown("output", wish, answers)
    fit = [name for name, x in answers.items() if class_like(x) and wish in (None, name)]
    if fit:
        return fit[0]
    shown = ", ".join(f"{k} {x.dtype}{list(x.shape)}" for k, x in answers.items())
    which = f"output {wish!r} does not look" if wish is not None else "no output looks"
    raise ModelError(
        f"{which} like class scores, which are floating-point of shape (samples, classes); the outputs are {shown}. "
        "evaluate is for classifiers; compare works for every network"
    )


def _scores(answers: Mapping[str, Array], output: str) -> Array:
    """Class scores, (samples, classes)."""
    if output not in answers:
        raise unknown("output of the float network", output, answers)
    x = np.asarray(answers[output])
    return x.reshape(x.shape[:2])


def _count(counts: _Counts, scores: Array, before: Array | None, batch: Batch, ks: Sequence[int]) -> None:
    n, classes = scores.shape
    if before is not None and before.shape != scores.shape:
        raise ModelError(
            f"scores have shape {scores.shape}, those of the float network {before.shape}; "
            "hand two forms of one network"
        )
    finite = np.isfinite(scores).all(1)
    guess = np.where(finite, scores.argmax(1), -1)  # NaN stands for no class: never right, never in agreement
    first = before.argmax(1) if before is not None else None
    counts.samples += n
    counts.not_finite += int(n - finite.sum())
    if first is not None:
        counts.agree += int(np.count_nonzero(guess == first))
    if batch.labels is None:
        return
    labels = _labels(batch, n, classes)
    counts.labelled += n
    counts.seen |= set(labels.tolist())
    for k in ks:
        counts.hits[k] = counts.hits.get(k, 0) + top_k_hits(scores[finite], labels[finite], k)
        if before is not None:
            counts.before[k] = counts.before.get(k, 0) + top_k_hits(before, labels, k)
    if first is not None:
        fixed, broken = paired_flips(first, guess, labels)
        counts.fixed += fixed
        counts.broken += broken


def _labels(batch: Batch, n: int, classes: int) -> Array:
    """Class numbers, checked."""
    labels = np.asarray(batch.labels)
    if labels.shape != (n,) or labels.dtype.kind not in "iu":
        raise DataError(
            f"batch {batch.index}: labels are {labels.dtype}{list(labels.shape)}; "
            f"class numbers, one for each of the {n} samples, are needed"
        )
    bad = np.flatnonzero((labels < 0) | (labels >= classes))
    if bad.size:
        name = batch.names[bad[0]] if bad[0] < len(batch.names) else f"sample {bad[0]} of batch {batch.index}"
        raise BadSample(
            f"{name} has label {labels[bad[0]]}; the network knows {classes} classes, numbered 0 to {classes - 1}"
        )
    return labels
