"""An ONNX network as ncnn takes it: layers and weights, with what became of each ONNX layer.

Q/DQ network → strip → float network → pnnx → ncnn layers → matched → int8 weights and scales
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.core.tables import listed
from fewbit.engines.base import open_runner, random_feeds
from fewbit.engines.ncnn.integer import integer_layer, requantized
from fewbit.engines.ncnn.match import CLOSE, Wanted, apart, blobs_of, candidates, matches
from fewbit.engines.ncnn.param import Layer, inputs_of
from fewbit.engines.ncnn.pnnx import TIMEOUT, converted
from fewbit.engines.ncnn.rehearsal import rehearse
from fewbit.engines.ncnn.runtime import load, unknown_types
from fewbit.engines.ncnn.weights import Weights
from fewbit.errors import EngineError
from fewbit.graph.fuse import fuse
from fewbit.graph.model import Model, attr, const, is_const, op_name
from fewbit.graph.strip import IntegerLayer, Stripped, has_integers, strip

Node = Any
Array = NDArray[Any]

SUCH = {4: 224}
"""Axes of an input → what stands for free sizes in an example."""


@dataclass(frozen=True, eq=False)
class NcnnNet:
    """A network for ncnn.

    Args:
        layers, weights: of the integer network. float_layers, float_weights: as pnnx made it.
        inputs, outputs: ONNX name → blob. shapes: ONNX output → its shape without the batch axis.
        rounded: ONNX output that is rounded → the value that is, and the scale.
        mapping: ONNX layer → the ncnn layer that computes it in integers. notes: integer layers that stay float, why.
    """

    layers: tuple[Layer, ...]
    weights: Weights
    float_layers: tuple[Layer, ...]
    float_weights: Weights
    inputs: dict[str, str]
    outputs: dict[str, str]
    shapes: dict[str, tuple[int, ...]]
    rounded: dict[str, tuple[str, np.float32]] = field(default_factory=dict)
    mapping: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def to_ncnn(
    model: Model, sample: Mapping[str, Array] | None = None, *, fuse_scales: bool = True, timeout: float = TIMEOUT
) -> NcnnNet:
    """Convert a network.

    Args:
        model: float, or made for target ncnn. Axes but the first have fixed sizes, or those of the sample.
        sample: one input of each, on which both float networks are compared; else random numbers are.
        fuse_scales: values go from int8 layer to int8 layer as int8. timeout: seconds that pnnx may take.

    Raises:
        EngineMissing: ncnn or pnnx is not installed.
        EngineError: pnnx cannot convert the network, or what it made computes something else, or has layers that ncnn
            has not; or the network was quantized for another engine.
    """
    given = strip(model, "ncnn") if has_integers(model) else Stripped(fuse(model))
    feeds = _feeds(given.model, sample)
    shapes = [feeds[i.name].shape for i in given.model.inputs]
    layers, weights = converted(given.model, shapes, timeout)
    _check_types(given.model, layers)
    inputs = dict(zip((i.name for i in given.model.inputs), inputs_of(layers), strict=False))
    outputs = {o.name: f"out{i}" for i, o in enumerate(given.model.outputs)}
    _check_ends(given.model, inputs, outputs, layers)
    wanted, answers = _seen(given, feeds)
    named = {n: candidates(w, layers, weights) for n, w in wanted.items()}
    blobs = {b for found in named.values() for layer in found for b in blobs_of(layer)} | set(outputs.values())
    fed = {inputs[n]: x[0] for n, x in feeds.items()}
    rehearse(layers, weights, fed, outputs.values())
    values = load(layers, weights).run(fed, sorted(blobs), keep=True)
    for name, blob in outputs.items():
        off = apart(answers[name], values[blob])
        if not off < CLOSE:
            raise EngineError(
                f"pnnx made another network of this one: output {name!r} is off by {off:.2g} of its largest magnitude"
            )
    pairs, notes = _paired(wanted, named, values)
    made, integers = _integer(layers, weights, {pairs[n]: wanted[n].integer for n in pairs})
    notes += [
        f"layer {n!r}: ncnn has one scale for all outputs of a group; some integers were rounded anew, to the largest"
        for n, layer in pairs.items()
        if not np.array_equal(integers[layer]["weight"], wanted[n].integer.weight.reshape(-1))
    ]
    return NcnnNet(
        layers=tuple(requantized(made, integers) if fuse_scales else made),
        weights=integers,
        float_layers=tuple(layers),
        float_weights=weights,
        inputs=inputs,
        outputs=outputs,
        shapes={n: answers[n].shape[1:] for n in outputs},
        rounded=given.rounded,
        mapping=pairs,
        notes=tuple(notes),
    )


def _feeds(model: Model, sample: Mapping[str, Array] | None) -> dict[str, Array]:
    """One sample: what was given, or random numbers."""
    check_sizes(model, told=sample is not None)
    if sample is None:
        return {k: np.asarray(x) for k, x in random_feeds(model).items()}
    lack = [i.name for i in model.inputs if i.name not in sample]
    if lack:
        raise EngineError(f"there is no array for input {lack[0]!r}; given: {', '.join(sample)}")
    return {i.name: np.ascontiguousarray(sample[i.name][:1]) for i in model.inputs}


def check_sizes(model: Model, told: bool = False) -> None:
    """Raise EngineError for batches, and for sizes that are free; told: a sample tells those."""
    first = {i.shape[0] for i in model.inputs if i.shape and isinstance(i.shape[0], str)}
    for info in model.inputs:
        if not info.shape or (isinstance(info.shape[0], int) and info.shape[0] != 1):
            raise EngineError(f"input {info}: ncnn has no batches; the first axis must be free, or have length 1")
        free = [d for d in info.shape[1:] if not isinstance(d, int) and d not in first]
        if free and not told:
            such = [1, *(d if isinstance(d, int) else SUCH.get(len(info.shape), 128) for d in info.shape[1:])]
            raise EngineError(
                f"input {info} has sizes that are free, and ncnn networks are made for fixed ones here; fix them, such "
                f"as with input_shapes={{{info.name!r}: {tuple(such)}}} or "
                f"--input-shapes {info.name}:{','.join(map(str, such))}"
            )


def _check_types(model: Model, layers: list[Layer]) -> None:
    """Raise EngineError if pnnx left layers that ncnn has not; those of the network are called alike."""
    told = []
    for kind in unknown_types(layers):
        word = re.split("[.:]", kind)[-1].replace("_", "").lower()
        names = [repr(str(n.name)) for n in model.nodes if n.op_type.lower() == word]
        told.append(kind + (f" ({listed(names)})" if names else ""))
    if told:
        raise EngineError(
            f"ncnn has no layer {'; '.join(told)}; take what needs it out of the network, or take another target: "
            "onnxruntime, openvino"
        )


def _check_ends(model: Model, inputs: Mapping[str, str], outputs: Mapping[str, str], layers: list[Layer]) -> None:
    """Raise EngineError unless pnnx kept all inputs and outputs."""
    made = {b for layer in layers for b in layer.outputs}
    for name in (i.name for i in model.inputs):
        if name not in inputs:
            raise EngineError(f"pnnx left out input {name!r} of the network: nothing depends on it")
    for name, blob in outputs.items():
        if blob not in made:
            raise EngineError(f"pnnx left out output {name!r} of the network: it does not depend on the inputs")


def _seen(given: Stripped, feeds: Mapping[str, Array]) -> tuple[dict[str, Wanted], dict[str, Array]]:
    """What the float network computes: at its integer layers, and at its outputs."""
    nodes = {str(n.name): n for n in given.model.nodes}
    ends = {name: _ends(nodes[name]) for name in given.layers}
    inner = [v for name, layer in given.layers.items() for v in (layer.x, *ends[name]) if v not in feeds]
    tapped = given.model.with_outputs(dict.fromkeys(inner))
    values = {**feeds, **open_runner("onnxruntime", tapped).run(feeds)}
    wanted = {}
    for name, layer in given.layers.items():
        node = nodes[name]
        weight = const(node.inputs[1])
        assert weight is not None
        if op_name(node) != "Conv" and not attr(node, "transB", 0):  # as the integers of the layer lie
            weight = np.ascontiguousarray(weight.T)
        wanted[name] = Wanted(op_name(node), layer, weight, values[layer.x], tuple(values[v] for v in ends[name]))
    return wanted, {o.name: values[o.name] for o in given.model.outputs}


def _ends(node: Node) -> tuple[str, ...]:
    """What a layer may answer with: its product, and the sum behind it, whose constant may become its bias."""
    (out,) = node.outputs
    behind = [u.node for u in out.uses() if u.node.op_type in ("Add", "Sum") and len(u.node.inputs) == 2]
    sums = [n.outputs[0] for n in behind if any(is_const(v) for v in n.inputs)]
    return tuple(str(v.name) for v in (out, *sums))


def _paired(
    wanted: Mapping[str, Wanted], named: Mapping[str, list[Layer]], values: Mapping[str, Array]
) -> tuple[dict[str, str], list[str]]:
    """ONNX layer → ncnn layer, and why some have none."""
    pairs: dict[str, str] = {}
    notes: list[str] = []
    for name, want in wanted.items():
        why = "no layer of ncnn's network has its weights; pnnx made something else of it"
        for layer in named[name]:
            if layer.name in pairs.values():
                why = f"ncnn's layer {layer.name!r}, which has its weights, computes another one too"
                continue
            why = matches(want, layer, values)
            if not why:
                pairs[name] = layer.name
                break
        if name not in pairs:
            notes.append(f"layer {name!r} stays float in ncnn: {why}")
    return pairs, notes


def _integer(layers: list[Layer], weights: Weights, found: Mapping[str, IntegerLayer]) -> tuple[list[Layer], Weights]:
    made, integers = [], {name: dict(parts) for name, parts in weights.items()}
    for layer in layers:
        if layer.name in found:
            layer, parts = integer_layer(layer, found[layer.name])
            integers[layer.name] = {**integers[layer.name], **parts}
        made.append(layer)
    return made, integers
