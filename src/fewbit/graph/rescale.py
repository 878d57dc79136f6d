"""Divide the channels of a value by positive factors and multiply where it is read: the network computes the same.

    x ─ maker(W₁, b₁) ─ v ─ Relu ─ reader(W₂) ─ y    ⇒    x ─ maker(W₁/s, b₁/s) ─ v/s ─ Relu ─ reader(W₂·s) ─ y

f(v/s) = f(v)/s for s > 0 holds for Relu, pools, and all else that `follow` passes. It does not hold for Clip(0, hi):
on the way there may only be such as become Relu (`unclip`), which changes what the network computes wherever they cut
something off. `absorb` moves c (in the units of v/s) through the activation,

    b₁/s - c     b₂ + W₂·s·c        since Relu(v/s - c) = Relu(v/s) - c where v/s ≥ c ≥ 0

Where v itself cannot be divided, a Mul goes between it and the layers with weights: see `fewbit.graph.between`.

Sources: Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019; Xiao et al.,
"SmoothQuant", 2022.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import onnx_ir as ir

from fewbit.core.plan import Rescale
from fewbit.errors import PlanError, unknown
from fewbit.graph.between import direct_readers, places, put_between
from fewbit.graph.follow import F64, Site, Trail, bias_of, follow, own_shift, why_no_shift
from fewbit.graph.model import Model, attr, const, is_const, op_name
from fewbit.graph.rewrite import Edit, Refusal
from fewbit.graph.rules import linear
from fewbit.graph.rules.values import arg, const_shape

WORD = "rescaled"


def sites(model: Model) -> list[Site]:
    """Every value of a fused network whose channels can be rescaled, in graph order."""
    return sites_with_refusals(model)[0]


def sites_with_refusals(model: Model) -> tuple[list[Site], list[Refusal]]:
    """As `sites`, and the layers whose output cannot be, each with the reason."""
    found, refused = [], []
    for node in model.nodes:
        trail = follow(node)
        if isinstance(trail, str):
            refused.append(Refusal("rescale", str(node.name), trail))
        elif trail is not None:
            found.append(trail.site)
    return found, refused


def smoothable(model: Model) -> list[Site]:
    """All of `sites`, and after them the values in front of MatMul and Gemm that only a Mul of its own can divide."""
    found = sites(model)
    return found + places(model, {r.node for s in found for r in s.reads})


def why_not_absorb(model: Model, site: Site) -> str:
    """Why nothing can be moved from the bias in front of a site to those behind it; "" if it can."""
    trail = follow(model.node(site.maker))
    return trail if isinstance(trail, str) else "" if trail is None else why_no_shift(trail)


def rescaled(model: Model, rescales: Sequence[Rescale]) -> Model:
    """The network with its rescales done, one after the other; nodes, values and weights keep their names.

    Args:
        model: a fused network; it is not changed, and is the answer if there is nothing to do.

    Raises:
        PlanError: a rescale is for another network: no such value, another number of channels, a Clip elsewhere.
    """
    if not rescales:
        return model
    out = model.clone()
    edit = Edit(out)
    for rescale in rescales:
        values = out.values()
        if rescale.value not in values:
            raise PlanError(f"{_what(rescale)}: " + str(unknown("value", rescale.value, values)))
        value = values[rescale.value]
        maker = value.producer()
        trail = follow(maker) if maker is not None and maker.outputs[0] is value else None
        if isinstance(trail, Trail):
            _fold(edit, trail, rescale)
        else:
            _between(edit, value, rescale, trail or "no layer with weights makes it")
    edit.finish()
    return out


def _fold(edit: Edit, trail: Trail, rescale: Rescale) -> None:
    """Divide in front, multiply behind."""
    s = _vector(rescale, "scale", rescale.scale, trail.site.channels)
    c = _vector(rescale, "absorb", rescale.absorb, s.size) if rescale.absorb else np.zeros_like(s)
    _unclip(edit, trail, rescale, factors=bool((s != 1).any() or c.any()))
    if c.any():
        _check_absorb(trail, rescale, c)
    _divide(edit, trail, s)
    if c.any():
        _subtract(edit, trail, c)
    for read in trail.reads:
        _multiply(edit, read.node, s[read.index], c[read.index])


def _between(edit: Edit, value: ir.Value, rescale: Rescale, why: str) -> None:
    """Put a Mul in front of the layers that read the value."""
    readers = direct_readers(value)
    if not readers:
        raise PlanError(f"{_what(rescale)} is not possible in this network: {why}")
    if rescale.unclip or rescale.absorb:
        raise PlanError(f"{_what(rescale)}: unclip and absorb need a layer in front that is divided; here {why}")
    s = _vector(rescale, "scale", rescale.scale, readers[0].index.size)
    put_between(edit, value, readers, s)
    for read in readers:
        _multiply(edit, read.node, s, np.zeros_like(s))


def _what(rescale: Rescale) -> str:
    return f"rescale of {rescale.value!r}"


def _vector(rescale: Rescale, key: str, given: Iterable[float], channels: int) -> F64:
    numbers = np.array(tuple(given), np.float64)
    if numbers.shape != (channels,):
        raise PlanError(f"{_what(rescale)}: {key} has {numbers.size} numbers; the value has {channels} channels")
    if not np.isfinite(numbers).all():
        raise PlanError(f"{_what(rescale)}: {key} holds a number that is not finite")
    if key == "scale" and not (numbers > 0).all():
        raise PlanError(f"{_what(rescale)}: a factor is not greater than 0")
    return numbers


def _unclip(edit: Edit, trail: Trail, rescale: Rescale, *, factors: bool) -> None:
    """Take the upper bound of Clips away; where there are factors, none may stay."""
    clips = trail.site.clips
    for name in rescale.unclip:
        if name not in clips:
            raise PlanError(f"{_what(rescale)}: unclip: " + str(unknown("Clip behind it", name, clips)))
    left = [name for name in clips if name not in rescale.unclip]
    if left and factors:
        raise PlanError(f"{_what(rescale)}: {left[0]!r} cuts it off at {clips[left[0]][2]:g}; add it to unclip")
    for i, node in enumerate(trail.through):
        if node.name in rescale.unclip:
            trail.through[i] = edit.replace(node, "Relu", [node.inputs[0]])


# -- in front --------------------------------------------------------------------------------------------------------


def _divide(edit: Edit, trail: Trail, s: F64) -> None:
    """Divide what the maker gives, and the constants that are added behind it."""
    if (s == 1).all():
        return
    _outputs(edit, trail.maker, 1 / s, np.zeros_like(s))
    for add, index in trail.shifts:
        i = next(i for i, v in enumerate(add.inputs) if is_const(v))
        _put(edit, add, i, np.asarray(const(add.inputs[i]), np.float64) / s[index])


def _subtract(edit: Edit, trail: Trail, c: F64) -> None:
    """Take c from the bias."""
    shift = own_shift(trail) if op_name(trail.maker) in ("MatMul", "Mul") else None
    if shift is None:
        _outputs(edit, trail.maker, np.ones_like(c), -c)
        return
    add, index = shift
    i = next(i for i, v in enumerate(add.inputs) if is_const(v))
    _put(
        edit, add, i, np.asarray(const(add.inputs[i]), np.float64) + (c[index] if op_name(add) == "Sub" else -c[index])
    )


def _outputs(edit: Edit, maker: ir.Node, s: F64, t: F64) -> None:
    """Let a maker give s·y + t."""
    op = op_name(maker)
    if op in linear.OPS:
        with _names(maker):
            linear.scale_outputs(edit, maker, s, t, WORD)
        return
    if op in ("LayerNormalization", "BatchNormalization"):
        beta = const(arg(maker, 2))
        _put(edit, maker, 1, np.asarray(const(arg(maker, 1)), np.float64) * s)
        if beta is not None or t.any():
            _put(edit, maker, 2, (0.0 if beta is None else np.asarray(beta, np.float64)) * s + t)
        return
    i = next(i for i, v in enumerate(maker.inputs) if is_const(v))
    assert op == "Mul" and not t.any()
    factor = np.asarray(const(maker.inputs[i]), np.float64)
    _put(edit, maker, i, factor * s.reshape(factor.shape))


# -- behind ----------------------------------------------------------------------------------------------------------


def _check_absorb(trail: Trail, rescale: Rescale, c: F64) -> None:
    """Raise PlanError unless c may be taken out of the value and put into the layers behind."""
    reason = "an amount is less than 0" if (c < 0).any() else why_no_shift(trail)
    if reason:
        raise PlanError(f"{_what(rescale)}: absorb is not possible: {reason}")


def _multiply(edit: Edit, reader: ir.Node, s: F64, c: F64) -> None:
    """Let a reader take s·(x + c)."""
    with _names(reader):
        if op_name(reader) != "MatMul" or not c.any():
            linear.scale_inputs(edit, reader, s, s * c, WORD)
            return
        linear.scale_inputs(edit, reader, s, np.zeros_like(c), WORD)
    lifted = np.asarray(const(arg(reader, 1)), np.float64).T @ c
    add = bias_of(reader)
    assert add is not None
    i = next(i for i, v in enumerate(add.inputs) if is_const(v))
    _put(edit, add, i, np.asarray(const(add.inputs[i]), np.float64) + lifted)


@contextmanager
def _names(node: ir.Node) -> Iterator[None]:
    """Within, weights of a node get new data; afterwards they have their old names, on which plans rely."""
    old = [(i, v, str(v.name)) for i, v in enumerate(node.inputs) if v is not None and not _elsewhere(v)]
    yield
    for i, value, name in old:
        new = node.inputs[i]
        if new is not None and new is not value:
            new.name = name


def _elsewhere(value: ir.Value) -> bool:
    return len(value.uses()) > 1 or value.is_graph_output()


def _put(edit: Edit, node: ir.Node, i: int, array: F64) -> None:
    """Another constant as input, of the same name if nobody else reads the old one."""
    with _names(node):
        edit.set_input(node, i, edit.constant(f"{node.name}.{WORD}", array.astype(np.float32)))


def reach(node: ir.Node) -> F64:
    """Largest weight between each output and input channel: (groups, out / groups, in / groups).

    Args:
        node: one of `linear.OPS`.
    """
    weight = np.abs(np.asarray(const(arg(node, 1)), np.float64))
    op, groups = op_name(node), int(attr(node, "group", 1))
    w: F64 = weight.reshape(*const_shape(node.inputs[1])[:2], -1).max(-1)  # type: ignore[arg-type]
    if op == "Conv":
        w = w.reshape(groups, -1, w.shape[1])
    elif op == "ConvTranspose":
        w = w.reshape(groups, -1, w.shape[1]).transpose(0, 2, 1)
    else:
        w = (w if attr(node, "transB", 0) else w.T)[None]
    return w
