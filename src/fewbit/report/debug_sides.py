"""Two networks side by side: the values of a batch in the float one and in the quantized one."""

from __future__ import annotations

from collections.abc import Sequence

from fewbit.core.runner import Runner
from fewbit.data.base import Batch
from fewbit.graph.model import Model
from fewbit.report.compare import Open
from fewbit.report.debug_rows import Array
from fewbit.report.pairs import Pair


class Sides:
    """Both networks, opened so that they show some values."""

    def __init__(self, float_model: Model, quant_model: Model, pairs: Sequence[Pair], open: Open) -> None:
        self.pairs = list(dict.fromkeys(pairs))
        self.float, self.quant = (
            _showing(model, [p[side] for p in self.pairs], open) for side, model in ((0, float_model), (1, quant_model))
        )

    def run(self, batch: Batch) -> dict[Pair, tuple[Array, Array]]:
        """Each value of a batch in both networks."""
        feeds: dict[str, Array] = dict(batch.feeds)
        a = feeds | (self.float.run(feeds) if self.float else {})
        b = feeds | (self.quant.run(feeds) if self.quant else {})
        return {pair: (a[pair[0]], b[pair[1]]) for pair in self.pairs}


def _showing(model: Model, names: Sequence[str], open: Open) -> Runner | None:
    """A runner that answers with these values; None if all of them are fed."""
    fed = {i.name for i in model.inputs}
    wanted = [n for n in names if n not in fed]
    return open(model.with_outputs(wanted)) if wanted else None
