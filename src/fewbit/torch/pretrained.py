"""Float networks that were trained once on this machine and are kept: `$FEWBIT_CACHE/nets`, by default ~/.cache/fewbit.

resnet20-fashion-mnist-3f2a….pt      weights, top-1, recipe; the digest covers network, variants, images and recipe
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from fewbit.config.train import TrainConfig
from fewbit.core.writing import writing
from fewbit.data.datasets import Labelled, open_dataset
from fewbit.errors import FewbitWarning, ModelFormatError, OutputError
from fewbit.torch.checkpoint import FREE, load, put
from fewbit.torch.fit import Say, fit, seeded
from fewbit.torch.nets import build

RECIPE = TrainConfig(epochs=10)
"""How a float network is trained if nothing is said."""

FORMAT = "fewbit network 1"
LOOKED_AT = 64
"""Images whose bytes go into the digest, beside all labels."""


@dataclass(frozen=True)
class Pretrained:
    """A float network in eval mode.

    Args:
        top1: on the test images. path: where it is kept. found: it was there already.
    """

    net: nn.Module
    top1: float
    path: Path
    found: bool

    def __str__(self) -> str:
        how = "trained before, from" if self.found else "trained and kept in"
        return f"float network: {how} {self.path}, top-1 {self.top1:.4f}"


def pretrained(
    name: str,
    dataset_name: str,
    root: str | Path | None = None,
    variants: Mapping[str, bool] | None = None,
    recipe: TrainConfig | None = None,
    progress: Say | None = None,
) -> nn.Module:
    """A reference network with trained weights, in eval mode; trained now unless it was before.

    Args:
        name: one of `nets.NETS`. dataset_name, root: see `open_dataset`. variants: words of `nets.build`.
        recipe: how to train. progress: called with (what is done, steps done, steps).

    Raises:
        UnknownName: no such network or data set. DataError: the images are missing.
    """
    return find(name, dataset_name, root, variants, recipe, progress).net


def find(
    name: str,
    dataset_name: str,
    root: str | Path | None = None,
    variants: Mapping[str, bool] | None = None,
    recipe: TrainConfig | None = None,
    progress: Say | None = None,
    tell: Callable[[str], None] | None = None,
) -> Pretrained:
    """As `pretrained`, with where it comes from and how good it is. tell: called with a line after each epoch."""
    chosen, words = recipe or RECIPE, {k: v for k, v in (variants or {}).items() if v}
    train, test = (open_dataset(dataset_name, root, split=split) for split in ("train", "test"))
    net, path = _fresh(name, train, words, chosen), kept_in(name, train, words, chosen)
    known = _read(path, net)
    if known is not None:
        return Pretrained(net.eval(), known, path, found=True)
    net = _fresh(name, train, words, chosen)  # a damaged file may have left something in it
    _make_folder(path.parent)
    about, part = " ".join((name, *words, "on", dataset_name)), path.with_suffix(".part")
    line = None if tell is None else lambda text: tell(f"{about}, float: {text}")
    report = fit(net, train, chosen, test=test, checkpoint=part, resume=True, about=about, say=progress, tell=line)
    net.to("cpu", memory_format=torch.contiguous_format)
    assert report.after is not None
    with writing(path) as file:
        torch.save({"format": FORMAT, "about": about, "top1": report.after, "weights": net.state_dict()}, file)
    part.unlink(missing_ok=True)
    return Pretrained(net, report.after, path, found=False)


def _fresh(name: str, train: Labelled, words: Mapping[str, bool], recipe: TrainConfig) -> nn.Module:
    """The network with start values."""
    with seeded(recipe.seed):
        return build(name, len(train.classes), train.shape[0], **words)


def cache() -> Path:
    """The folder of kept networks."""
    folder = os.environ.get("FEWBIT_CACHE")
    return (Path(folder) if folder else Path.home() / ".cache" / "fewbit") / "nets"


def kept_in(name: str, train: Labelled, variants: Mapping[str, bool], recipe: TrainConfig) -> Path:
    """The file of a network, whether it is there or not."""
    words = {k: v for k, v in asdict(recipe).items() if k not in FREE}
    some = train.images(np.arange(min(LOOKED_AT, len(train))))
    sha = hashlib.sha256(json.dumps([FORMAT, name, sorted(variants), words]).encode())
    sha.update(np.ascontiguousarray(train.labels).tobytes())
    sha.update(some.tobytes())
    marks = "".join(f"-{v.replace('_', '-')}" for v in sorted(variants))
    return cache() / f"{name}{marks}-{train.name}-{sha.hexdigest()[:16]}.pt"


def _read(path: Path, net: nn.Module) -> float | None:
    """Put kept weights into a network; returns its top-1, None if there are none."""
    if not path.exists():
        return None
    try:
        found: Any = load(path)
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise ModelFormatError(f"{path} is not a network that was kept")
        put(found["weights"], net, path)
        return float(found["top1"])
    except ModelFormatError as e:
        warnings.warn(f"{e}; the network is trained anew", FewbitWarning, stacklevel=4)
        return None


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise OutputError(f"cannot make the folder {folder}: {e.strerror or e}; set FEWBIT_CACHE to another one") from e
