"""Quantized: an integer network together with the plan that it follows and the report of what it cost."""

from __future__ import annotations

from pathlib import Path

from fewbit.core.plan import Plan
from fewbit.core.writing import writing
from fewbit.errors import OutputError
from fewbit.graph.model import Model
from fewbit.graph.repack import save_any
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
