"""What layers over height and width share: kernel, stride and padding, and layouts with the channels last.

    (N, H, W, C) → Transpose → (N, C, H, W) → layer → (N, C, H, W) → Transpose → (N, H, W, C)

Two Transposes that cancel are left out, so that a network in NHWC keeps one at each end.
"""

from __future__ import annotations

from collections.abc import Sequence

from fewbit.errors import ModelFormatError
from fewbit.frontends.mxnet.layer import Layer
from fewbit.graph.build import Value

LAYOUTS = ("None", "NCW", "NCHW", "NCDHW", "NWC", "NHWC", "NDHWC")


def sizes(layer: Layer, key: str, default: int, axes: int) -> tuple[int, ...]:
    """A window attribute, one number for each spatial axis; missing and empty ones have the default.

    Raises:
        ModelFormatError: a number is less than the default, which is the least that makes sense.
    """
    found = layer.attrs.wholes(key, (default,) * axes, count=axes) or (default,) * axes
    if min(found, default=default) < default:
        raise ModelFormatError(f"{layer.what}: {key} is {found}; it must be at least {default}")
    return found


def kernel_of(layer: Layer) -> tuple[int, ...]:
    """The kernel, which says how many spatial axes there are.

    Raises:
        ModelFormatError: the input has another number of axes.
    """
    kernel = layer.attrs.wholes("kernel")
    if layer.rank() != len(kernel) + 2:
        raise ModelFormatError(
            f"{layer.what}: kernel {kernel} needs an input with {len(kernel) + 2} axes; its input has the shape "
            f"{layer.shape()}"
        )
    if min(kernel, default=0) < 1:
        raise ModelFormatError(f"{layer.what}: kernel is {kernel}; it must be at least 1")
    return kernel


def channels_last(layer: Layer) -> bool:
    """Whether the layout has the channels behind."""
    layout = layer.attrs.word("layout", "None", LAYOUTS)
    if layout != "None" and len(layout) != layer.rank():
        raise ModelFormatError(f"{layer.what}: layout {layout} does not fit an input with {layer.rank()} axes")
    return layout.endswith("C")


def first(layer: Layer, value: Value, last: bool) -> Value:
    """The value with its channels on axis 1."""
    return channel_to_front(layer, value, -1) if last else value


def back(layer: Layer, value: Value, last: bool) -> Value:
    """The inverse of `first`."""
    return channel_to_back(layer, value, -1) if last else value


def channel_to_front(layer: Layer, value: Value, axis: int) -> Value:
    """The value with this axis as axis 1."""
    return transposed(layer, value, _front(layer.rank(value), axis))


def channel_to_back(layer: Layer, value: Value, axis: int) -> Value:
    """The inverse of `channel_to_front`."""
    perm = _front(layer.rank(value), axis)
    return transposed(layer, value, [perm.index(i) for i in range(len(perm))])


def transposed(layer: Layer, value: Value, perm: Sequence[int]) -> Value:
    """The value with its axes in another order: old or no nodes where they do, else a new Transpose."""
    if list(perm) == list(range(len(perm))):
        return value
    before = value.producer()
    if before is not None and before.op_type == "Transpose":
        done = before.attributes["perm"].as_ints()
        if [done[i] for i in perm] == list(range(len(perm))) and before.inputs[0] is not None:
            return before.inputs[0]
    return layer.node("Transpose", value, perm=list(perm))


def _front(rank: int, axis: int) -> list[int]:
    rest = [i for i in range(rank) if i != axis % rank]
    return [rest[0], axis % rank, *rest[1:]]
