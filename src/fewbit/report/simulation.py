"""What a simulation found: accuracy in so many bits against float, and which layers it is about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewbit.config.simulate import SimulateConfig
from fewbit.core.blocks import Aside, Block, Facts, Shown, Table, to_text
from fewbit.core.plan import Plan
from fewbit.core.tables import Name, number, plain, table
from fewbit.errors import UsageError
from fewbit.graph.model import Model
from fewbit.report.evaluate import Evaluation

if TYPE_CHECKING:
    from fewbit.data.preparation import Preparation


@dataclass(frozen=True, repr=False)
class Simulation(Shown):
    """One simulated network.

    Args:
        network: its name. data: what it was evaluated on. images: what was done to images; None: arrays, as they were
            given. config: what was simulated.
        result: against the float network. epochs: the same after each calibration epoch, if asked for.
        layers: layers that could be simulated → why they are float; "" = simulated.
        ranges: value or layer → largest magnitude that its input stands for; empty where each batch has its own.
        calibrated_on: samples that ranges were measured on.
        notes: what the reader should know. warnings: what makes the result worse than it need be.
        plan: which layers, which formats; None for a torch network. model: the simulated network as ONNX; likewise.
        net: the simulated torch network.
    """

    network: str
    data: str
    config: SimulateConfig
    result: Evaluation
    epochs: tuple[Evaluation, ...] = ()
    layers: Mapping[str, str] = field(default_factory=dict)
    ranges: Mapping[str, float] = field(default_factory=dict)
    calibrated_on: int = 0
    notes: tuple[str, ...] = ()
    plan: Plan | None = field(default=None, repr=False, compare=False)
    model: Model | None = field(default=None, repr=False, compare=False)
    net: Any = field(default=None, repr=False, compare=False)
    images: Preparation | None = None
    warnings: tuple[str, ...] = ()

    @property
    def top1(self) -> float | None:
        """Share of samples whose class is named first; None without labels."""
        return _top1(self.result)

    @property
    def drop(self) -> float | None:
        """Loss of top-1 against float, as a share (0.01 = one point); None without labels."""
        return self.result.drop

    def save(self, path: str | Path) -> None:
        """Write the simulated network as ONNX: rounding in float, which every engine computes alike.

        Raises:
            UsageError: it is a torch network. OutputError: it cannot be written.
        """
        if self.model is None:
            raise UsageError(
                f"{self.network} was simulated in torch; save its weights with torch.save, or simulate its ONNX export"
            )
        self.model.save(path)

    def text(self) -> str:
        """Lines for people."""
        return to_text(self._blocks())

    def _blocks(self) -> list[Block]:
        kept = {k: why for k, why in self.layers.items() if why}
        lines = [
            ("network", self.network),
            ("data", self.data),
            ("fed with", "arrays, as they were given" if self.images is None else f"images: {self.images}"),
            ("simulated", f"{self.config.form}; {len(self.layers) - len(kept)} of {len(self.layers)} layers"),
            ("ranges", self.how()),
            ("BatchNorm", "merged into weights" if self.config.merge_bn else "beside the weights, in float"),
        ]
        if self.config.wino_quantize != "none":
            lines.append(("Winograd", f"3x3 weights rounded in the domain of {self.config.wino_quantize}"))
        lines += [("float", f"{k}: {why}") for k, why in list(kept.items())[:3]]
        if len(kept) > 3:
            lines.append(("", f"and {len(kept) - 3} more"))
        epochs = [self._epochs()] if self.epochs else []
        said = [f"warning: {w}" for w in self.warnings] + [f"note: {n}" for n in self.notes]
        more = Aside("more: layers_text() has every layer")
        return [Facts(lines), *self.result.blocks(), *epochs, *said, more]

    def _brief(self) -> str:
        return f"{self.network} on {self.data}, {self.config.form}: {self.result.brief()}"

    def how(self) -> str:
        """Where the ranges of inputs come from."""
        c = self.config
        if not c.quantize_input_offline:
            return "online: each batch has its own"
        epochs = f", {c.calib_epoch} epochs" if c.calib_mode == "naive" else ""
        return f"offline: {c.calib_mode}{epochs}, {self.calibrated_on} samples, seed {c.fixed_random_seed}"

    def _epochs(self) -> Table:
        rows = [
            [str(i), number(100 * (_top1(e) or 0), 2), number(100 * (e.drop or 0), 2)]
            for i, e in enumerate(self.epochs, 1)
        ]
        return Table((">epoch", ">top-1 %", ">lost"), rows)

    def layers_text(self) -> str:
        """Every layer that could be simulated, and whether it is."""
        return table(
            ("<layer", "<simulated", "<why not"),
            [[Name(k), "no" if why else self.config.form, why] for k, why in self.layers.items()],
        )

    def to_json(self) -> dict[str, Any]:
        """Everything, as plain dicts."""
        return {
            "network": self.network,
            "data": self.data,
            "images": None if self.images is None else plain(asdict(self.images)),
            "config": plain(asdict(self.config)),
            "result": self.result.to_json(),
            "epochs": [e.to_json() for e in self.epochs],
            "layers": plain(self.layers),
            "ranges": plain(self.ranges),
            "calibrated_on": self.calibrated_on,
            "notes": list(self.notes),
            "warnings": list(self.warnings),
        }


def _top1(e: Evaluation) -> float | None:
    return e.accuracy[1].rate if 1 in e.accuracy else None
