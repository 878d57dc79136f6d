"""`simulate` and `sweep`: what so many bits would cost, for one setting and for a grid of them.

    network → [BatchNorm merged] → layers rounded → [ranges measured] → top-1 and top-5 against float

ONNX networks, and all that `fewbit.load` reads, are rewritten and run by ONNX Runtime with its optimizer off; torch
networks have their layers converted. Both compute the same numbers.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from fewbit.api.common import as_model
from fewbit.api.simulated_data import Sets, open_sets
from fewbit.api.simulated_onnx import OnnxNetwork
from fewbit.api.simulated_signs import cut_off
from fewbit.config import DataConfig, configure
from fewbit.config.simulate import SimulateConfig
from fewbit.core.metrics import class_like
from fewbit.core.runner import Feeds, Runner
from fewbit.data import Batch
from fewbit.errors import EngineMissing, FewbitWarning, UsageError, unknown
from fewbit.frontends import load
from fewbit.frontends.base import FRONTENDS, PREFIXES, Shapes
from fewbit.frontends.ways_in import WAYS_IN
from fewbit.graph.model import Model
from fewbit.report.evaluate import Evaluation, evaluate
from fewbit.report.simulation import Simulation

Say = Callable[[str, int, int], None]
Tell = Callable[[str], None]


class Simulating(Protocol):
    """One simulation under way."""

    @property
    def layers(self) -> Mapping[str, str]:
        """Layer → why it stays float, "" = simulated."""

    @property
    def largest(self) -> Mapping[str, float]:
        """Ranges measured so far, see `Simulation.ranges`."""

    @property
    def notes(self) -> Sequence[str]:
        """What the reader should know."""

    def epoch(self, feeds: Sequence[Feeds]) -> None:
        """Go over calibration data once, for the average of ranges."""

    def kl(self, feeds: Sequence[Feeds]) -> None:
        """Measure ranges by divergence."""

    def below_zero(self, feeds: Feeds) -> int:
        """How many simulated layers read values below zero, in float."""

    def runner(self) -> Runner:
        """The simulated network as it is now."""

    def result(self) -> dict[str, Any]:
        """Fields of `Simulation` that hold the network itself."""


class Network(Protocol):
    """A float network that can be simulated.

    Attributes:
        name: for people. inputs: what it is fed with.
    """

    name: str
    inputs: Any

    def reference(self) -> Runner:
        """The float network, loaded."""

    def simulating(self, config: SimulateConfig) -> Simulating:
        """Begin a simulation."""

    def digest(self) -> str:
        """What tells it from other networks."""


@dataclass
class Remembered:
    """A float network that answers each batch once: later passes over the same data get what it answered first."""

    runner: Runner
    kept: list[dict[str, Any]] = field(default_factory=list)
    at: int = 0

    def run(self, feeds: Feeds) -> dict[str, Any]:
        """Class scores only."""
        if self.at == len(self.kept):
            self.kept.append({k: x for k, x in self.runner.run(feeds).items() if class_like(x)})
        self.at += 1
        return self.kept[self.at - 1]


def simulate(
    model: Any,
    data: Any = None,
    config: SimulateConfig | Mapping[str, Any] | None = None,
    *,
    dataset: str | None = None,
    dataset_root: str | Path | None = None,
    calib_data: Any = None,
    limit: int | None = None,
    device: str = "cpu",
    params: str | Path | None = None,
    input_shapes: Shapes | None = None,
    use_gn: bool = False,
    use_se: bool = False,
    last_gamma: bool = False,
    threads: int | None = None,
    say: Say | None = None,
    tell: Tell | None = None,
    **words: Any,
) -> Simulation:
    """Show what a network would answer if its layers computed in so many bits.

    Args:
        model: a Model, the path of one, a torch module, the name of a reference network ("resnet20"; trained once where
            no weights are given), or "module:function" that returns a torch module.
        data: labelled, to evaluate on; see `fewbit.data`. Or dataset: name of a labelled set of images, whose test part
            is evaluated on and whose training part calibrates. dataset_root: folder of its files.
        calib_data: to calibrate on, beside `data`; default: the first samples of each class in `data` itself.
        limit: evaluate on so many test images at most.
        device: where torch networks run. params: weights of a torch network (.pt, .npz, .safetensors), or of an MXNet
            symbol that are not called as usual. input_shapes: what a file leaves open; see `fewbit.load`.
        use_gn, use_se, last_gamma: variants of a reference network. threads: cores to use (default: all).
        say: called with (what is done, batches done, batches; 0: nobody knows). tell: called with a line after each
            epoch, if a reference network must be trained.
        config, words: `SimulateConfig`, its fields, and those of `DataConfig`.

    Raises:
        FewbitError: see `fewbit.errors`.
    """
    shared, reading = words_of(config, words)
    chosen = configure(SimulateConfig, None, **shared)
    network = open_network(
        model, dataset=dataset, dataset_root=dataset_root, device=device, params=params, shapes=input_shapes,
        threads=threads, use_gn=use_gn, use_se=use_se, last_gamma=last_gamma, say=say, tell=tell,
    )  # fmt: skip
    sets = open_sets(network.inputs, data, reading, dataset, dataset_root, calib_data, limit, chosen)
    found = one(network, sets, chosen, Remembered(network.reference()), say or silent)
    for text in found.warnings:
        warnings.warn(text, FewbitWarning, stacklevel=2)
    return found


def one(
    network: Network, sets: Sets, config: SimulateConfig, reference: Remembered, say: Say, look: bool = True
) -> Simulation:
    """Simulate one setting.

    Args:
        look: for values below zero that unsigned inputs cut off.
    """
    now, epochs, used = network.simulating(config), [], 0
    if config.quantize_input_offline:
        feeds = sets.calibration(config)
        used = sum(len(next(iter(f.values()))) for f in feeds)
        if config.calib_mode == "kl":
            say("measuring ranges", 0, 1)
            now.kl(feeds)
        for i in range(config.calib_epoch if config.calib_mode == "naive" else 0):
            say("measuring ranges", i, config.calib_epoch)
            now.epoch(feeds)
            if config.eval_per_calib and i + 1 < config.calib_epoch:
                epochs.append(_evaluated(now.runner(), sets, reference, say, f"evaluating, epoch {i + 1}"))
    result = _evaluated(now.runner(), sets, reference, say, "evaluating")
    cut, costly = cut_off(network, now, sets, config, result, say) if look else ("", False)
    notes = [*now.notes, *(sets.notes if used else ()), *([cut] if cut and not costly else ())]
    return Simulation(
        network=network.name,
        data=sets.name,
        images=sets.images,
        config=config,
        result=result,
        epochs=(*epochs, result) if config.eval_per_calib else (),
        layers=dict(now.layers),
        ranges=dict(now.largest),
        calibrated_on=used,
        notes=tuple(notes),
        warnings=(cut,) if costly else (),
        **now.result(),
    )


def _evaluated(runner: Runner, sets: Sets, reference: Remembered, say: Say, what: str) -> Evaluation:
    reference.at = 0
    return evaluate(runner, _told(sets, say, what), reference=reference)  # type: ignore[arg-type]  # run is all it needs


def _told(sets: Sets, say: Say, what: str) -> Iterator[Batch]:
    for done, batch in enumerate(sets.test):
        say(what, done, sets.test.batches or 0)
        yield batch


def silent(what: str, done: int, of: int) -> None:
    """Tell nobody."""


def words_of(
    config: SimulateConfig | Mapping[str, Any] | None, words: Mapping[str, Any]
) -> tuple[dict[str, Any], DataConfig]:
    """Settings that were said of a simulation, and of how data is read.

    Raises:
        UnknownName: a keyword that is a field of neither; the nearest one is offered.
    """
    given = asdict(config) if isinstance(config, SimulateConfig) else dict(config or {})
    ours, theirs = ({f.name for f in fields(kind)} for kind in (SimulateConfig, DataConfig))
    all_words = {**given, **words}
    for word in all_words:
        if word not in ours | theirs:
            raise unknown("setting", word, ours | theirs)
    reading = {k: v for k, v in all_words.items() if k not in ours}
    return {k: v for k, v in all_words.items() if k in ours}, configure(DataConfig, None, **reading)


def open_network(
    model: Any,
    *,
    dataset: str | None,
    dataset_root: str | Path | None,
    device: str,
    params: str | Path | None,
    shapes: Shapes | None,
    threads: int | None,
    say: Say | None,
    tell: Tell | None,
    **variants: bool,
) -> Network:
    """The network that is meant: a model or its file, a torch module, a reference network, "module:function".

    Raises:
        UnknownName: neither a file nor a reference network. UsageError: words that say nothing about it.
    """
    if isinstance(model, Model) or (isinstance(model, (str, Path)) and is_file_name(str(model))):
        said = [w for w in variants if variants[w]]
        if said:
            raise UsageError(f"{said[0]} is a variant of reference networks; {model} is what it is")
        if device not in ("cpu", "auto"):
            raise UsageError(f"device is {device!r}; networks from files are simulated on the CPU: leave it out")
        loaded = as_model(model if isinstance(model, Model) else load(model, params=params, input_shapes=shapes))
        return OnnxNetwork(loaded, threads)
    if find_spec("torch") is None:
        raise EngineMissing("PyTorch", "torch")
    if shapes:
        raise UsageError(
            "input_shapes is for networks in files; a torch network takes what its data holds: leave it out"
        )
    from fewbit.api.simulated_torch import open_torch

    return open_torch(
        model, dataset=dataset, dataset_root=dataset_root, device=device, params=params, threads=threads,
        say=say or silent, tell=tell, variants=variants,
    )  # fmt: skip


def is_file_name(text: str) -> bool:
    """Whether a text means a network in a file: there is one, or it looks like the name of one."""
    ending = os.path.splitext(text)[1]
    known = ending in FRONTENDS or ending in WAYS_IN or os.sep in text
    return known or os.path.exists(text) or any(os.path.exists(text + tail) for tail in PREFIXES)


def reference_networks() -> dict[str, int]:
    """Networks that fewbit can build and train itself, and how many parameters each has.

    Raises:
        EngineMissing: PyTorch is not installed.
    """
    if find_spec("torch") is None:
        raise EngineMissing("PyTorch", "torch")
    from fewbit.torch.nets import NETS, build

    return {name: sum(p.numel() for p in build(name).parameters()) for name in NETS}
