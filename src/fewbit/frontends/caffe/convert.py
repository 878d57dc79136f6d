"""A network and its weights → a Model.

unknown types are all named at once → shapes of the inputs → layer by layer in the file's order, by the rules of `ops/`
→ names → what the heads need is kept

Nodes have the names of the layers, values those of the blobs. A blob that is written several times, as layers in place
do, lends its name to what is written last; what stood there before is `<blob>/<layer>`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from fewbit.errors import ModelFormatError, UnsupportedModel
from fewbit.frontends.caffe import ops
from fewbit.frontends.caffe.inputs import input_shapes
from fewbit.frontends.caffe.layer import OPS, Layer
from fewbit.frontends.caffe.net import Blobs, Net, Spec, few
from fewbit.frontends.caffe.settings import Settings
from fewbit.frontends.caffe.text import near
from fewbit.frontends.caffe.weights import Weights
from fewbit.graph.build import Builder, Value
from fewbit.graph.model import Model

Shapes = Mapping[str, Sequence[int | None]]

assert ops.__all__, "importing the rules fills OPS"


def convert(net: Net, weights: Weights, *, shapes: Shapes | None = None, name: str = "caffe") -> Model:
    """Turn a network into a Model.

    Args:
        shapes: of the inputs; those left out are as the file has them, with a free batch.

    Raises:
        UnsupportedModel: types that fewbit does not know, all of them; or something that ONNX cannot say.
        ModelFormatError: weights are missing, or shapes do not fit.
    """
    layers = _needed(net)
    check_types(layers)
    for spec in layers:
        _check_odd(spec)
    weights.share(net.layers)
    read = {b for spec in layers for b in spec.bottoms}
    feeds = {blob: spec for blob, spec in net.feeds.items() if blob in read}
    told, batch = input_shapes(net, layers, feeds, weights, shapes or {})
    build = Builder(net.name or name)
    values: dict[Blobs, Value] = {blob: build.input(blob[0], told[blob]) for blob in feeds}
    makers = dict[Blobs, Spec]()
    for spec in layers:
        values |= _layer(build, spec, values, weights, batch)
        makers |= dict.fromkeys(spec.tops, spec)
    _name(build, net, values, makers)
    return build.finish([(values[h], h[0]) for h in net.heads], notes=net.notes)


def _layer(
    build: Builder, spec: Spec, values: Mapping[Blobs, Value], weights: Weights, batch: int | None
) -> dict[Blobs, Value]:
    op = OPS[spec.type]
    settings = Settings(spec.settings.one(op.settings) if op.settings else None, spec.what)
    layer = Layer(spec, settings, tuple(values[b] for b in spec.bottoms), build, weights, batch)
    made = op.rule(layer)
    settings.check()
    found = made if isinstance(made, tuple) else (made,)
    if len(found) < len(spec.tops):
        raise UnsupportedModel(f"{spec.what} has {len(spec.tops)} tops; fewbit gives {len(found)} of them")
    if not layer.taken:
        producer = found[0].producer()
        build.aliases[spec.name] = str(producer.name) if producer is not None else ""
    return dict(zip(spec.tops, found, strict=False))


def _name(build: Builder, net: Net, values: Mapping[Blobs, Value], makers: Mapping[Blobs, Spec]) -> None:
    """Give values the names of their blobs; of several, that of an answer wins, then the first whole one."""
    wishes: dict[Value, tuple[int, str]] = {}
    taken = {blob for blob, _ in net.feeds}
    for blob, spec in makers.items():
        value = values[blob]
        if value.producer() is None:  # an input, or a constant that has its own name
            continue
        last = blob[1] == net.last[blob[0]] and blob[0] not in taken
        wish = (0 if blob in net.heads else 1, blob[0]) if last else (2, f"{blob[0]}/{spec.name}")
        wishes[value] = min(wishes.get(value, wish), wish, key=lambda w: w[0])
    used = set[str](taken)
    for value, (_, name) in wishes.items():
        if name not in used:
            used.add(name)
            value.name = name  # nodes may have the same name: values and nodes are apart


def _needed(net: Net) -> list[Spec]:
    """Layers that the heads depend on."""
    reach, found = set(net.heads), list[Spec]()
    for spec in reversed(net.layers):
        if not reach.isdisjoint(spec.tops):
            found.append(spec)
            reach.update(spec.bottoms)
    return found[::-1]


def check_types(layers: Sequence[Spec]) -> None:
    """Raise if there are layers without a rule; the message has all of them."""
    missing = defaultdict[str, list[str]](list)
    for spec in layers:
        if spec.type not in OPS:
            missing[_type(spec)].append(spec.name)
    if missing:
        said = "; ".join(f"{kind} in {few(names)}" for kind, names in missing.items())
        raise UnsupportedModel(
            f"{len(missing)} type{'s' * (len(missing) > 1)} of Caffe layers that fewbit does not know: {said}. "
            "Cut the network in front of them, or write them with layers that it knows"
        )


def _type(spec: Spec) -> str:
    """The type, of a layer in Python with its class."""
    return spec.type if spec.type != "Python" else "Python (code of its own)"


def _check_odd(spec: Spec) -> None:
    """Raise if a layer has a message that nobody knows: it may be its settings, misspelt or of a fork."""
    if spec.settings.odd:
        first = spec.settings.odd[0]
        name = first.rpartition(" ")[2]
        if name.isdigit():
            raise UnsupportedModel(
                f"{spec.what} has field {name}, by which forks of Caffe mean different things; load the .prototxt"
            )
        raise ModelFormatError(f"{spec.what}, {first} is no field of a layer{near(name, 'Layer')}")
