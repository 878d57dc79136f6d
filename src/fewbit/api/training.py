"""Training in one call: a float network → prepared → trained → exported → its top-1 in the engine.

name of a reference network      its float weights are trained once, and kept (fewbit.torch.pretrained)
network, or module:function      is taken as it is, with `params` on top
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewbit.api.looking import evaluate
from fewbit.api.retraining import Exported, export, prepare
from fewbit.config import QuantConfig, configure
from fewbit.config.fields import default_of
from fewbit.config.train import QAT_WORDS, TrainConfig
from fewbit.core.writing import writing
from fewbit.data.datasets import Labelled, open_dataset
from fewbit.errors import EngineMissing, FewbitWarning, UsageError, unknown
from fewbit.graph.model import Model
from fewbit.report.evaluate import Evaluation

if TYPE_CHECKING:
    from torch import nn

    from fewbit.torch.fit import Say
    from fewbit.torch.history import TrainReport

CALIBRATION, CALIBRATION_BATCH = 512, 32
"""Training images that first ranges are measured on, and how many at once."""

CHECKED = 64
"""Test images that the exported network is compared with the simulation on."""


@dataclass(frozen=True)
class Trained:
    """What came of a training.

    Args:
        net: float, or prepared for quantization; in eval mode, on the CPU. about: what was trained on what.
        sample: images as it takes them. exported: its integer network with plan and check, None if it is float.
    """

    net: nn.Module
    report: TrainReport
    about: str
    sample: Any
    exported: Exported | None = None

    @property
    def model(self) -> Model:
        """The ONNX network; integer where it was quantized."""
        from fewbit.torch.onnx import module_to_onnx

        return self.exported.quantized if self.exported is not None else module_to_onnx(self.net, self.sample)

    def save(self, path: str | Path) -> None:
        """Write the ONNX network, and its plan beside it if it has one."""
        self.model.save(path)

    def save_params(self, path: str | Path) -> None:
        """Write the state_dict, as torch.save does; that of a prepared network holds its scales as well."""
        save_params(self.net, Path(path))

    def text(self) -> str:
        """The report, and how the exported network compares with the simulation."""
        check = f"\n{self.exported.check}" if self.exported is not None else ""
        return f"{self.about}\n{self.report.text()}{check}"

    def to_json(self) -> dict[str, Any]:
        """Everything but the networks, as plain dicts."""
        check = dataclasses.asdict(self.exported.check) if self.exported is not None else None
        return {"about": self.about, "report": self.report.to_json(), "check": check}


def train(
    net: nn.Module | str,
    dataset: str | Labelled = "fashion-mnist",
    config: TrainConfig | None = None,
    *,
    root: str | Path | None = None,
    test: Labelled | None = None,
    variants: Mapping[str, bool] | None = None,
    params: str | Path | None = None,
    recipe: TrainConfig | None = None,
    float_only: bool = False,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    say: Say | None = None,
    tell: Any = None,
    **words: Any,
) -> Trained:
    """Train a network with quantizers in place, and export it as an integer ONNX network.

    Args:
        net: name of a reference network (see `fewbit.torch.nets`), module:function, or a network; it is not changed
            unless it is trained as a float network.
        dataset, root: see `open_dataset`; or a set of images, with `test`, the one that top-1 is measured on.
        config, words: `TrainConfig`, and any of its fields and those of `QuantConfig` as keywords.
        variants: use_gn, use_se, last_gamma of a reference network.
        params: file with float weights, see `fewbit.torch.weights_file`.
        recipe: how float weights of a reference network are trained if there are none.
        float_only: train a float network, with random start values unless `params` is given.
        checkpoint: file that is written after each epoch. resume: go on from it; if it is not there, `tell` says so.
        say: called with (what is done, steps done, steps). tell: called with remarks (default: warnings) and, without
            `say`, with a line after each epoch.

    Raises:
        FewbitError: see `fewbit.errors`.
    """
    need_torch()
    chosen, quant = _settings(config, words)
    kept = Path(checkpoint) if checkpoint is not None else None
    _look_ahead(chosen, kept, resume, tell)
    data, tests = _opened(dataset, root, test)
    if float_only:
        _only_float(chosen, quant)
    given, name = _network(net, data, chosen, root, variants, params, recipe, float_only, say, tell)
    about = f"{name} on {data.name}"
    common = {"test": tests, "checkpoint": kept, "resume": resume, "say": say, "tell": tell if say is None else None}
    if float_only:
        return _trained_float(given, data, chosen, f"float {about}", common)
    said = "".join(f", {k} {v}" for k, v in quant.items())
    return _retrained(given, data, chosen, quant, about + said, common)


def _look_ahead(config: TrainConfig, kept: Path | None, resume: bool, tell: Any) -> None:
    """See to what costs time if it is found out later: the device, and whether there is anything to go on from.

    Raises:
        UsageError: there is no such device, or no checkpoint is named.
    """
    from fewbit.torch.devices import device_of

    device_of(config.device)
    if resume and kept is None:
        raise UsageError("resume goes on from a checkpoint; say which file with checkpoint")
    if resume and kept is not None and not kept.exists():
        told = f"there is nothing to resume: {kept} is not there; training begins with the first epoch"
        if tell is None:
            warnings.warn(told, FewbitWarning, stacklevel=3)
        else:
            tell(f"note: {told}")


def need_torch() -> None:
    """Say how to get PyTorch if it is not here.

    Raises:
        EngineMissing: it is not.
    """
    if find_spec("torch") is None:
        raise EngineMissing("PyTorch", "torch")


def _settings(config: TrainConfig | None, words: Mapping[str, Any]) -> tuple[TrainConfig, dict[str, Any]]:
    """Keywords by what they belong to; those about quantizing are checked."""
    ours, theirs = ({f.name for f in fields(kind)} for kind in (TrainConfig, QuantConfig))
    for word in words:
        if word not in ours | theirs:
            raise unknown("setting", word, ours | theirs)
    quant = {k: v for k, v in words.items() if k in theirs}
    configure(QuantConfig, None, **quant)
    return configure(TrainConfig, config, **{k: v for k, v in words.items() if k in ours}), quant


def _only_float(config: TrainConfig, quant: Mapping[str, Any]) -> None:
    """Refuse words that say nothing about a float network."""
    said = [f.name for f in fields(config) if f.name in QAT_WORDS and getattr(config, f.name) != default_of(f)]
    for word in (*quant, *said):
        raise UsageError(f"{word} is about quantizing; leave it out with float_only")


def _opened(dataset: str | Labelled, root: str | Path | None, test: Labelled | None) -> tuple[Labelled, Labelled]:
    if isinstance(dataset, str):
        if test is not None:
            raise UsageError("test goes with a set of images; a data set that is named has one of its own")
        return open_dataset(dataset, root, split="train"), open_dataset(dataset, root, split="test")
    if test is None:
        raise UsageError("a set of images to train on needs test, another one to measure top-1 on; hand test=")
    return dataset, test


def _network(
    net: nn.Module | str, data: Labelled, config: TrainConfig, root: str | Path | None,
    variants: Mapping[str, bool] | None, params: str | Path | None, recipe: TrainConfig | None, float_only: bool,
    say: Say | None, tell: Any,
) -> tuple[nn.Module, str]:  # fmt: skip
    """The float network, and what it is called."""
    from fewbit.torch.checkpoint import put
    from fewbit.torch.fit import seeded
    from fewbit.torch.nets import build, is_function, load_network, our_name
    from fewbit.torch.pretrained import find
    from fewbit.torch.weights_file import read_weights

    wanted = {k: v for k, v in (variants or {}).items() if v}
    if wanted and not (isinstance(net, str) and not is_function(net)):
        raise UsageError(f"{next(iter(wanted))} is a variant of reference networks; a network of your own has none")
    net = our_name(net) if isinstance(net, str) else net
    if not isinstance(net, str):
        found, name = net, type(net).__name__
    elif is_function(net):
        found, name = load_network(net), net
    elif params is None and not float_only:
        chosen = _float_recipe(net, data, wanted, recipe, config)
        known = find(net, data.name, root, wanted, chosen, say, tell if say is None else None)
        if tell is not None:
            tell(str(known))
        return known.net, " ".join((net, *wanted))
    else:
        name = " ".join((net, *wanted))
        with seeded(config.seed):
            found = build(net, len(data.classes), data.shape[0], **wanted)
    if params is not None:
        put(read_weights(Path(params)), found, Path(params))
    return found, name


def _float_recipe(
    name: str, data: Labelled, variants: Mapping[str, bool], recipe: TrainConfig | None, config: TrainConfig
) -> TrainConfig:
    """How the float network is trained: where the quantized one is, and with as few batches, unless it is there."""
    from fewbit.torch import pretrained

    whole = replace(recipe or pretrained.RECIPE, device=config.device, workers=config.workers)
    if config.max_batches is None or pretrained.kept_in(name, data, variants, whole).exists():
        return whole
    return replace(whole, max_batches=config.max_batches)


def _trained_float(
    net: nn.Module, data: Labelled, config: TrainConfig, about: str, common: Mapping[str, Any]
) -> Trained:
    import torch

    from fewbit.torch.fit import fit

    report = fit(net, data, config, about=about, **common)
    net.to("cpu", memory_format=torch.contiguous_format)
    return Trained(net, report, about, _sample(data, 2))


def _retrained(
    net: nn.Module,
    data: Labelled,
    config: TrainConfig,
    quant: Mapping[str, Any],
    about: str,
    common: Mapping[str, Any],
) -> Trained:
    """Prepare, train, export, and count in the engine."""
    import torch

    from fewbit.torch.fit import fit

    say, tests = common["say"], common["test"]
    if say is not None:
        say("preparing", 0, 0)
    count = quant.get("num_calib_batches", CALIBRATION // CALIBRATION_BATCH) * CALIBRATION_BATCH
    graph = prepare(
        net.cpu().eval(), _sample(data, 2), None, data.subset(limit=count, seed=config.seed).feeds(),
        learned=config.learned, ste=config.ste, fake_bn=config.fake_bn, batch_size=CALIBRATION_BATCH, **quant,
    )  # fmt: skip
    report = fit(graph, data, config, teacher=net, about=about, **common)
    if say is not None:
        say("exporting", 0, 0)
    graph.to("cpu", memory_format=torch.contiguous_format)
    out = export(graph, _sample(tests, CHECKED))
    found = evaluate(out.quantized, tests.feeds(), batch_size=CALIBRATION_BATCH)
    assert isinstance(found, Evaluation)
    report = replace(report, exported=found.accuracy[1].rate)
    return Trained(graph, report, about, _sample(data, 2), out)


def _sample(data: Labelled, count: int) -> tuple[Any]:
    import torch

    return (torch.from_numpy(data.normalized(slice(0, count))),)


def save_params(net: nn.Module, path: Path) -> None:
    """Write weights, whole or not at all."""
    import torch

    with writing(path) as file:
        torch.save(net.state_dict(), file)
