"""Quantized: an integer network together with the plan that it follows and the report of what it cost."""

from __future__ import annotations

from pathlib import Path

from fewbit.core.blocks import Block, Facts, Fold, Title, one_line
from fewbit.core.html import to_html
from fewbit.core.plan import Plan
from fewbit.core.tables import size
from fewbit.core.writing import writing
from fewbit.errors import OutputError
from fewbit.graph.model import Model
from fewbit.graph.repack import save_any
from fewbit.graph.shown import blocks
from fewbit.report.summary import QuantReport


class Quantized(Model):
    """An integer network.

    Args:
        model: the graph. plan: what it follows, with ranges.

    Attributes:
        report: sizes, error and speed against the float network; None until it was verified.
    """

    def __init__(self, model: Model, plan: Plan, report: QuantReport | None = None) -> None:
        super().__init__(model.ir, model.path, model.notes)
        self.aliases, self.stored = model.aliases, model.stored
        self.plan = plan
        self.report = report

    def __repr__(self) -> str:
        where = f" from {self.path.name}" if self.path else ""
        brief = self.report.brief() if self.report is not None else f"{self.plan.brief()}, {size(self.nbytes)}"
        return one_line(f"<fewbit.Quantized{where}: {brief}>")

    def _repr_html_(self) -> str:
        network, plan = blocks(self), self.plan.blocks()
        if self.report is None:
            return to_html([*network, Title("plan"), *plan])
        report: list[Block] = [
            Facts([*self._origin(), *b.lines]) if isinstance(b, Facts) else b for b in self.report.blocks()
        ]
        return to_html([*report, Fold("the plan", plan), Fold("the network", network)])

    def _origin(self) -> list[tuple[str, str]]:
        return [("made from", self.path.name)] if self.path else []

    def save(self, path: str | Path) -> None:
        """Write the ONNX file, and the plan beside it as `<name>.plan.json`; both or neither.

        A path that ends in `.fewbit` gives a container, in which packed weights are entropy-coded: `fewbit.load` and
        `fewbit expand` turn it into plain ONNX again.

        Raises:
            OutputError: it cannot be written, or is the file of the float network.
        """
        path = Path(path)
        if self.path is not None and path.exists() and self.path.exists() and path.samefile(self.path):
            raise OutputError(
                f"cannot write {path}: it is the float network that this one was made from; give it another name"
            )
        with writing(path) as file:
            save_any(self, file)
            self.plan.save(file.with_name(plan_path(path).name))


def plan_path(model: Path) -> Path:
    """Where the plan of a model file lies: `net.onnx` → `net.plan.json`."""
    return model.with_name(f"{model.stem}.plan.json")
