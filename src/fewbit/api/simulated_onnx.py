"""ONNX networks to simulate: rewritten for each setting, run by ONNX Runtime as they are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fewbit.api.common import cores, opener
from fewbit.config.simulate import SimulateConfig
from fewbit.core.runner import Feeds, Runner
from fewbit.graph.model import Model
from fewbit.quantization.simulator import Simulator, make_simulator_plan, prepared, simulated_layers

NO_BN = "the network holds no BatchNorm: it was merged before, or there never was one; merge_bn changes nothing"


class OnnxNetwork:
    """A float network from a file. See `fewbit.api.simulating.Network`."""

    def __init__(self, model: Model, threads: int | None = None) -> None:
        self.model = model
        self.name = model.path.name if model.path else "network"
        self.inputs = model.inputs
        self.open = opener("onnxruntime", threads or cores(), optimize=False)
        self._prepared: dict[bool, Model] = {}

    def reference(self) -> Runner:
        """The float network as it was given."""
        return self.open(self.model)

    def simulating(self, config: SimulateConfig) -> OnnxSimulating:
        """See `Network`."""
        if config.merge_bn not in self._prepared:
            self._prepared[config.merge_bn] = prepared(self.model, config)
        merges = any(n.op_type == "BatchNormalization" for n in self.model.nodes) or not config.merge_bn
        return OnnxSimulating(self._prepared[config.merge_bn], config, self.open, () if merges else (NO_BN,))

    def digest(self) -> str:
        """See `Network`."""
        return self.model.digest()


class OnnxSimulating:
    """One simulation. See `fewbit.api.simulating.Simulating`."""

    def __init__(self, model: Model, config: SimulateConfig, open: Any, notes: Sequence[str] = ()) -> None:
        self.notes = notes
        self.simulator = Simulator(model, make_simulator_plan(model, config), config, open)
        self.layers: Mapping[str, str] = simulated_layers(model, self.simulator.plan)

    @property
    def largest(self) -> Mapping[str, float]:
        """See `Simulating`."""
        return self.simulator.largest

    def epoch(self, feeds: Sequence[Feeds]) -> None:
        """See `Simulating`."""
        self.simulator.epoch(feeds)

    def kl(self, feeds: Sequence[Feeds]) -> None:
        """See `Simulating`."""
        self.simulator.kl(feeds)

    def below_zero(self, feeds: Feeds) -> int:
        """See `Simulating`."""
        below = set(self.simulator.below_zero(feeds))
        plan = self.simulator.plan.nodes
        inputs = [n.inputs[0] for n in self.simulator.model.nodes if plan[str(n.name)].quantized]
        return sum(x is not None and str(x.name) in below for x in inputs)

    def runner(self) -> Runner:
        """See `Simulating`."""
        return self.simulator.runner()

    def result(self) -> dict[str, Any]:
        """See `Simulating`."""
        return {"plan": self.simulator.final_plan(), "model": self.simulator.network()}
