"""What layers compute, by Caffe's published definitions, in plain loops of numpy."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def conv(
    x: Array,
    w: Array,
    b: Array | None,
    stride: Sequence[int],
    pad: Sequence[int],
    dilation: Sequence[int],
    group: int = 1,
) -> Array:
    """(N, C, …) with kernels (out, C/group, …)."""
    axes = x.ndim - 2
    x = np.pad(x, [(0, 0), (0, 0), *((p, p) for p in pad)]).astype(np.float64)
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, w.shape[2:], strict=True)]
    size = [(n - r) // s + 1 for n, r, s in zip(x.shape[2:], reach, stride, strict=True)]
    out = np.zeros((x.shape[0], w.shape[0], *size))
    each = w.shape[0] // group
    for at in product(*map(range, size)):
        cut = tuple(slice(a * s, a * s + r, d) for a, s, r, d in zip(at, stride, reach, dilation, strict=True))
        window = x[(slice(None), slice(None), *cut)]
        for g in range(group):
            part = window[:, g * w.shape[1] : (g + 1) * w.shape[1]]
            kernels = w[g * each : (g + 1) * each]
            out[(slice(None), slice(g * each, (g + 1) * each), *at)] = np.tensordot(
                part, kernels, (list(range(1, axes + 2)), list(range(1, axes + 2)))
            )
    return out + (0 if b is None else b.reshape(-1, *[1] * axes))


def deconv(x: Array, w: Array, b: Array | None, stride: int, pad: int, group: int = 1) -> Array:
    """(N, C, H, W) with kernels (C, out/group, k, k): every pixel adds its kernel."""
    n, channels, high, wide = x.shape
    k, each = w.shape[2], channels // group
    out = np.zeros((n, w.shape[1] * group, stride * (high - 1) + k, stride * (wide - 1) + k))
    for c, i, j in product(range(channels), range(high), range(wide)):
        into = slice((c // each) * w.shape[1], (c // each + 1) * w.shape[1])
        out[:, into, i * stride : i * stride + k, j * stride : j * stride + k] += (
            x[:, c, i, j][:, None, None, None] * w[c]
        )
    out = out[:, :, pad : out.shape[2] - pad, pad : out.shape[3] - pad]
    return out + (0 if b is None else b.reshape(-1, 1, 1))


def places(
    sizes: Sequence[int], kernel: Sequence[int], stride: Sequence[int], pad: Sequence[int], ceil: bool = True
) -> list[int]:
    """How many places a window has along each axis."""
    found = []
    for length, k, s, p in zip(sizes, kernel, stride, pad, strict=True):
        spare = (length + 2 * p - k) / s
        found.append(int(np.ceil(spare) if ceil else np.floor(spare)) + 1)
        if any(pad) and (found[-1] - 1) * s >= length + p:
            found[-1] -= 1
    return found


def pool(
    x: Array, kind: str, kernel: Sequence[int], stride: Sequence[int], pad: Sequence[int], ceil: bool = True
) -> Array:
    """Caffe's pooling, window by window."""
    n, channels = x.shape[:2]
    size = places(x.shape[2:], kernel, stride, pad, ceil)
    out = np.zeros((n, channels, *size))
    for i, j in product(*map(range, size)):
        begin = [at * s - p for at, s, p in zip((i, j), stride, pad, strict=True)]
        end = [min(b + k, length + p) for b, k, length, p in zip(begin, kernel, x.shape[2:], pad, strict=True)]
        area = (end[0] - begin[0]) * (end[1] - begin[1])
        part = x[:, :, max(begin[0], 0) : min(end[0], x.shape[2]), max(begin[1], 0) : min(end[1], x.shape[3])]
        out[:, :, i, j] = part.max((2, 3)) if kind == "MAX" else part.sum((2, 3)) / area
    return out


def lrn_within(x: Array, size: int, alpha: float, beta: float) -> Array:
    mean = pool(x * x, "AVE", (size, size), (1, 1), (size // 2, size // 2))
    return x * (1 + alpha * mean) ** -beta


def lrn_across(x: Array, size: int, alpha: float, beta: float, k: float = 1.0) -> Array:
    square = np.pad(x * x, [(0, 0), (size // 2, size // 2), (0, 0), (0, 0)])
    total = sum(square[:, i : i + x.shape[1]] for i in range(size))
    return x * (k + alpha / size * total) ** -beta


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def softmax(x: Array, axis: int = 1) -> Array:
    found = np.exp(x - x.max(axis, keepdims=True))
    return found / found.sum(axis, keepdims=True)


def bilinear(x: Array, high: int, wide: int) -> Array:
    """Corner on corner."""
    for axis, size in ((2, high), (3, wide)):
        at = np.arange(size) * ((x.shape[axis] - 1) / max(size - 1, 1))
        low = np.minimum(at.astype(int), x.shape[axis] - 1)
        part = (at - low).reshape([-1 if a == axis else 1 for a in range(4)])
        above = np.minimum(low + 1, x.shape[axis] - 1)
        x = x.take(low, axis) * (1 - part) + x.take(above, axis) * part
    return x


def reorg(x: Array, stride: int) -> Array:
    """As darknet numbers its pixels."""
    n, channels, high, wide = x.shape
    few = channels // stride**2
    out = np.zeros(x.size)
    flat = x.reshape(-1)
    for b, k, j, i in product(range(n), range(channels), range(high), range(wide)):
        at = i + wide * (j + high * (k + channels * b))
        c, offset = k % few, k // few
        into = (i * stride + offset % stride) + wide * stride * (
            (j * stride + offset // stride) + high * stride * (c + few * b)
        )
        out[at] = flat[into]
    return out.reshape(n, channels * stride**2, high // stride, wide // stride)


def lstm(
    x: Array, cont: Array, w: Array, b: Array, u: Array, static: Array | None = None
) -> tuple[Array, Array, Array]:
    """x (T, N, D), cont (T, N) → all h, the last h and c."""
    size = u.shape[1]
    h = c = np.zeros((x.shape[1], size))
    shown = []
    for t in range(len(x)):
        go = cont[t][:, None]
        gates = x[t] @ w.T + b + (h * go) @ u.T + (0 if static is None else static)
        i, f, o = (sigmoid(gates[:, k * size : (k + 1) * size]) for k in range(3))
        c = go * (f * c) + i * np.tanh(gates[:, 3 * size :])
        h = o * np.tanh(c)
        shown.append(h)
    return np.stack(shown), h[None], c[None]


def rnn(x: Array, cont: Array, w: Array, b: Array, u: Array, v: Array, d: Array) -> Array:
    h, shown = np.zeros((x.shape[1], u.shape[1])), []
    for t in range(len(x)):
        h = np.tanh(x[t] @ w.T + b + (h * cont[t][:, None]) @ u.T)
        shown.append(np.tanh(h @ v.T + d))
    return np.stack(shown)


def overlap(a: Array, b: Array) -> float:
    """Shared area over the area of both."""
    side = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    both = side.clip(0).prod()
    return float(both / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - both)) if both > 0 else 0.0


def detections(
    offsets: Array,
    scores: Array,
    prior: Array,
    *,
    classes: int,
    code: str,
    nms: float,
    least: float,
    top: int = -1,
    keep: int = -1,
    background: int = 0,
    encoded: bool = False,
    shared: bool = True,
) -> Array:
    """Box by box, as SSD's layer does; (1, 1, K, 7)."""
    n, count = len(offsets), prior.shape[2] // 4
    boxes, variance = prior.reshape(2, count, 4).astype(np.float64)
    offsets = offsets.reshape(n, count, 1 if shared else classes, 4)
    scores, rows = scores.reshape(n, count, classes), []
    for image in range(n):
        found = []
        for c in (c for c in range(classes) if c != background):
            decoded = decode(offsets[image, :, 0 if shared else c] * (1 if encoded else variance), boxes, code)
            order = sorted((i for i in range(count) if scores[image, i, c] > least), key=lambda i: -scores[image, i, c])
            kept: list[int] = []
            for i in order[: top if top > 0 else None]:
                if all(overlap(decoded[i], decoded[j]) <= nms for j in kept):
                    kept.append(i)
            found += [[image, c, scores[image, i, c], *decoded[i]] for i in kept]
        if 0 < keep < len(found):
            found = sorted(found, key=lambda r: -r[2])[:keep]
        rows += sorted(found, key=lambda r: (r[1], -r[2]))
    return np.array(rows or [[i, *[-1] * 6] for i in range(n)], np.float32)[None, None]


def decode(offsets: Array, boxes: Array, code: str) -> Array:
    side = np.concatenate([boxes[:, 2:] - boxes[:, :2]] * 2, 1)
    if code == "CORNER":
        return boxes + offsets
    if code == "CORNER_SIZE":
        return boxes + offsets * side
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2 + offsets[:, :2] * side[:, :2]
    half = np.exp(offsets[:, 2:]) * side[:, :2] / 2
    return np.concatenate([centre - half, centre + half], 1)
