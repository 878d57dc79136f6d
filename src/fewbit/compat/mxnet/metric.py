"""`mx.metric`: accuracy, counted batch by batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fewbit.compat.mxnet.missing import telling
from fewbit.core.metrics import top_k_hits
from fewbit.errors import UsageError, one_of


class EvalMetric:
    """Base: a name, a sum and a count."""

    def __init__(self, name: str) -> None:
        self.name, self.sum_metric, self.num_inst = name, 0.0, 0

    def reset(self) -> None:
        """Forget what was counted."""
        self.sum_metric, self.num_inst = 0.0, 0

    def get(self) -> tuple[str, float]:
        """Name and value; NaN if nothing was counted."""
        return self.name, self.sum_metric / self.num_inst if self.num_inst else float("nan")

    def get_name_value(self) -> list[tuple[str, float]]:
        """Pairs of name and value."""
        return [self.get()]

    def update(self, labels: Any, preds: Any) -> None:
        """Count a batch: a list of labels and a list of scores, or one array of each."""
        raise UsageError(f"{type(self).__name__} must define update(labels, preds)")


class TopKAccuracy(EvalMetric):
    """Share of samples whose label is among the k highest scores.

    Args:
        top_k: k.
    """

    def __init__(self, top_k: int = 1, name: str = "top_k_accuracy") -> None:
        super().__init__(f"{name}_{top_k}" if top_k > 1 else name)
        self.top_k = top_k

    def update(self, labels: Any, preds: Any) -> None:
        """Count a batch; labels are class numbers, scores have the shape (samples, classes)."""
        for label, scores in zip(_list(labels), _list(preds), strict=True):
            numbers, rows = np.asarray(label).reshape(-1).astype(np.int64), np.asarray(scores)
            if rows.ndim != 2 or len(rows) != len(numbers):
                raise UsageError(f"{len(numbers)} labels and scores of shape {rows.shape}; one row a label is needed")
            self.sum_metric += float(np.sum(top_k_hits(rows, numbers, self.top_k)))
            self.num_inst += len(numbers)


class Accuracy(TopKAccuracy):
    """Share of samples whose label has the highest score."""

    def __init__(self, name: str = "accuracy") -> None:
        super().__init__(1, name)


def _list(given: Any) -> Sequence[Any]:
    return list(given) if isinstance(given, (list, tuple)) else [given]


METRICS = {
    "acc": Accuracy,
    "accuracy": Accuracy,
    "Accuracy": Accuracy,
    "TopKAccuracy": TopKAccuracy,
    "top_k_accuracy": TopKAccuracy,
    "top_k_acc": TopKAccuracy,
}


class CompositeEvalMetric(EvalMetric):
    """Several metrics at once.

    Args:
        metrics: names or metrics.
    """

    def __init__(self, metrics: Sequence[Any] = (), name: str = "composite") -> None:
        super().__init__(name)
        self.metrics = [create(m) for m in metrics]

    def reset(self) -> None:
        """Forget what was counted."""
        super().reset()
        for metric in getattr(self, "metrics", ()):
            metric.reset()

    def update(self, labels: Any, preds: Any) -> None:
        """Count a batch in each."""
        for metric in self.metrics:
            metric.update(labels, preds)

    def get_name_value(self) -> list[tuple[str, float]]:
        """Name and value of each."""
        return [m.get() for m in self.metrics]


def create(metric: Any, **words: Any) -> EvalMetric:
    """A metric by its name, `create("top_k_accuracy", top_k=5)`, or several by a list."""
    if isinstance(metric, (list, tuple)):
        return CompositeEvalMetric(metric)
    return metric if isinstance(metric, EvalMetric) else METRICS[one_of("metric", metric, METRICS)](**words)


__getattr__ = telling("mx.metric", f"metrics are {', '.join(METRICS)}")
