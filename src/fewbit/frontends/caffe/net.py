"""A network as a list of layers whose blobs are told apart, as Caffe runs it in phase TEST.

    conv1: data → conv1            conv1: data → conv1#0
    relu1: conv1 → conv1 (in place)   relu1: conv1#0 → conv1#1

Layers of other phases and stages are left out, and so is what only training needs: losses and what measures. What
nobody reads afterwards is what the network answers.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from fewbit.errors import ModelFormatError
from fewbit.frontends.caffe import legacy
from fewbit.frontends.caffe.message import Message

Blobs = tuple[str, int]
"""A blob, and how often it was written before."""

DATA = frozenset({
    "Input", "Data", "ImageData", "HDF5Data", "MemoryData", "WindowData", "DummyData", "AnnotatedData", "VideoData",
    "DenseImageData", "ImageSegData",
})  # fmt: skip
"""Layers that feed a network: their tops are its inputs."""

TRAINING = frozenset({
    "Accuracy", "ContrastiveLoss", "EuclideanLoss", "HingeLoss", "InfogainLoss", "MultinomialLogisticLoss",
    "SigmoidCrossEntropyLoss", "SoftmaxWithLoss", "MultiBoxLoss", "DetectionEvaluate", "SmoothL1Loss", "CenterLoss",
    "TripletLoss", "HDF5Output",
})  # fmt: skip
"""Layers that compare or record; at inference they are left out, and what they read is an answer."""

SINKS = frozenset({"Silence"})
"""Layers that say: nobody wants this."""

MOST_LAYERS = 100_000


@dataclass(frozen=True)
class Spec:
    """One layer.

    Args:
        bottoms, tops: which version of which blob it reads and writes.
    """

    name: str
    type: str
    settings: Message
    bottoms: tuple[Blobs, ...]
    tops: tuple[Blobs, ...]

    @property
    def what(self) -> str:
        """The layer, for messages."""
        return f"layer {self.name!r} ({self.type})"


@dataclass
class Net:
    """The layers that count at inference, in order.

    Args:
        feeds: inputs of the network → the layer that gives them, None where the network itself lists them.
        heads: what it answers. last: of each blob, how often it was written in all.
    """

    name: str
    message: Message
    layers: list[Spec] = field(default_factory=list)
    feeds: dict[Blobs, Spec | None] = field(default_factory=dict)
    heads: list[Blobs] = field(default_factory=list)
    last: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def assemble(message: Message, what: str, *, choose: bool = True) -> Net:
    """Put a network together.

    Args:
        choose: leave out layers of other phases; a network that was saved with its weights has none.

    Raises:
        ModelFormatError: a blob is read that nothing writes, or nothing is left.
    """
    net = Net(str(message.one("name", "")), message)
    found = legacy.layers(message, what)
    if len(found) > MOST_LAYERS:
        raise ModelFormatError(f"{what} has {len(found):,} layers; fewbit reads up to {MOST_LAYERS:,}")
    kept = [m for m in found if not choose or _included(m, message.one("state"))]
    writes, read, names = Counter[str](), set[Blobs](), Counter[str]()
    for blob in message.all("input"):
        net.feeds[blob, 0] = None
        writes[blob] += 1
    dropped: list[str] = []
    for layer in kept:
        spec = _spec(layer, names, writes, what)
        if spec.type in TRAINING or spec.type.endswith("Loss"):
            dropped.append(f"{spec.name!r} ({spec.type})")
            continue
        for top in spec.tops:
            writes[top[0]] += 1
        if spec.type in DATA:
            net.feeds |= dict.fromkeys(spec.tops, spec)
            continue
        read.update(spec.bottoms)
        if spec.type not in SINKS:
            net.layers.append(spec)
    if dropped:
        net.notes.append(f"left out, as only training needs them: {few(dropped)}")
    net.last = {blob: n - 1 for blob, n in writes.items()}
    net.heads = _heads(net, read)
    if not net.heads:
        raise ModelFormatError(f"{what} has no layer that answers anything{_phases(found, kept)}")
    return net


def _spec(layer: Message, names: Counter[str], writes: Counter[str], what: str) -> Spec:
    type_ = str(layer.one("type", ""))
    name = str(layer.one("name", "")) or f"{type_}{len(names)}"
    names[name] += 1
    name = name if names[name] == 1 else f"{name}_{names[name]}"
    if not type_:
        raise ModelFormatError(f"{what}: layer {name!r} has no type{f' (line {layer.line})' if layer.line else ''}")
    for blob in layer.all("bottom"):
        if not writes[blob]:
            raise ModelFormatError(
                f"{what}: layer {name!r} ({type_}) reads the blob {blob!r}, which no layer before it writes"
            )
    bottoms = tuple((b, writes[b] - 1) for b in layer.all("bottom"))
    seen = Counter[str]()
    tops: list[Blobs] = []
    for top in layer.all("top"):
        tops.append((top, writes[top] + seen[top]))
        seen[top] += 1
    return Spec(name, type_, layer, bottoms, tuple(tops))


def _heads(net: Net, read: set[Blobs]) -> list[Blobs]:
    """What nobody reads, but for what depends on labels alone."""
    free = [top for layer in net.layers for top in layer.tops if top not in read]
    labels = {blob for blob, spec in net.feeds.items() if _is_label(blob, spec)}
    for layer in net.layers:
        if layer.bottoms and all(b in labels for b in layer.bottoms):
            labels.update(layer.tops)
    lost = [name for name, _ in (h for h in free if h in labels)]
    if lost:
        net.notes.append(f"left out, as they depend on labels alone: {few(lost)}")
    return [h for h in free if h not in labels]


def _is_label(blob: Blobs, spec: Spec | None) -> bool:
    """Whether an input is what a network is trained to answer: the second of a layer that reads data."""
    if spec is None or spec.type in ("Input", "HDF5Data", "DummyData"):
        return blob[0].lower() in ("label", "labels")
    return blob in spec.tops[1:]


def _included(layer: Message, state: Message | None) -> bool:
    """Caffe's rules: included if one of `include` is met, or none of `exclude`."""
    level = state.one("level", 0) if state is not None else 0
    stages = set(state.all("stage")) if state is not None else set()
    if layer.has("include"):
        return any(_met(rule, level, stages) for rule in layer.all("include"))
    return not any(_met(rule, level, stages) for rule in layer.all("exclude"))


def _met(rule: Message, level: int, stages: set[str]) -> bool:
    return (
        rule.one("phase", "TEST") == "TEST"
        and rule.one("min_level", level) <= level <= rule.one("max_level", level)
        and stages.issuperset(rule.all("stage"))
        and stages.isdisjoint(rule.all("not_stage"))
    )


def _phases(found: list[Message], kept: list[Message]) -> str:
    return f"; {len(found) - len(kept)} layers are of other phases than TEST" if len(kept) < len(found) else ""


def few(names: list[str], most: int = 5) -> str:
    """Some names, for messages."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
