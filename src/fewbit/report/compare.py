"""Where a quantized network departs from its float original: layer by layer, and at the end.

    float      x ───── conv1 ─ v ───── conv2 ─ …
                               ╎ SQNR, cosine, largest error; share of v outside of the integer range
    quantized  x ─ … ─ conv1 ─ v ─ Q ─ DQ ─ conv2 ─ …

A value is compared with what its readers see in the quantized network: behind its Q/DQ, if it has one.

Read the numbers with two things in mind. Showing an inner value changes what an engine can merge, so the numbers per
layer come from a network that runs a little differently (in float where the integer form was merged); those at the end
come from both networks as they are. And a layer's error holds what the layers before it caused; `own` takes that out,
roughly: the SQNR it would have if there were only the noise that it adds (noise-to-signal behind it, less the largest
in front of it).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fewbit.core.metrics import ErrorSums, clip_share, max_abs_error
from fewbit.core.runner import Feeds, Runner
from fewbit.data.base import Batch
from fewbit.errors import ConfigError, DataError, EmptyData, ModelError
from fewbit.graph.model import Model, is_const, op_name
from fewbit.graph.ranked import ranked
from fewbit.report.comparison import Comparison, LayerError, rank
from fewbit.report.pairs import Pair, Range, check_pairs, integer_range, split, value_pairs

Open = Callable[[Model], Runner]
Look = Callable[[str, NDArray[Any], NDArray[Any]], None]
Arrays = dict[str, NDArray[Any]]

__all__ = ["Comparison", "LayerError", "compare"]


def compare(
    float_model: Model,
    quant_model: Model,
    batches: Iterable[Batch],
    open: Open,
    *,
    reference: Open | None = None,
    inner: Model | None = None,
    pairs: Iterable[Pair] | None = None,
    limit: int | None = None,
    memory_limit: int = 512,
    layers: bool = True,
    look: Look | None = None,
) -> Comparison:
    """Run both networks on the same data and measure how far they part. No array outlives its batch.

    Args:
        float_model, quant_model: inputs and outputs of the same names.
        inner: float form to compare inner values with, where corrections rescaled them; default: `float_model`.
        batches: the data; visited once for each group of layers.
        open: loads a model into an engine. reference: the same for the float network, if another engine is to run it.
        pairs: values to compare, (name in the float network, name in the quantized one); default: all both have.
        limit: stop after this many batches.
        memory_limit: MiB for the inner values of one batch; if they need more, layers are compared in groups.
        layers: False measures the outputs only, in one pass.
        look: shown each inner value of each batch: its name in the float network, float and quantized array. Both are
            gone afterwards.

    Raises:
        EmptyData: no batch. DataError: the data can be visited once and more than one pass is needed.
        UnknownName: a pair names no value. ModelError: the networks do not have the same outputs.
        EngineError: an engine refuses a network or the data.
    """
    for name, number in (("limit", limit), ("memory_limit", memory_limit)):
        if number is not None and number < 1:
            raise ConfigError(f"{name} is {number!r}; it must be 1 or more")
    both, inner = _shared_outputs(float_model, quant_model), inner or float_model
    wanted, tail = check_pairs(pairs, inner, quant_model) if pairs is not None else None, ranked(inner)
    if wanted is None:
        wanted = [p for p in value_pairs(inner, quant_model) if p[0] not in tail.inside] if layers else []
    fronts = [p for p in value_pairs(inner, quant_model) if p[0] in tail.fronts]
    both = [name for name in both if name not in tail.outputs]
    wanted += [pair for pair in fronts if pair not in wanted]
    first, stream = _peek(islice(batches, limit))
    groups = split(wanted, inner, first.feeds, memory_limit << 20)
    if len(groups) > 1 and isinstance(batches, Iterator):
        raise DataError(
            f"the layers need {len(groups)} passes over the data, which can be visited only once; hand a list or "
            f"a source that can be visited again, or raise memory_limit (it is {memory_limit} MiB)"
        )
    theirs = quant_model.values()  # made anew at each call
    ranges = {b: integer_range(theirs[b]) for _, b in wanted}
    meters = {pair: _Meter(ranges[pair[1]]) for pair in wanted}
    ends = {name: _Meter() for name in both}
    count = 0
    for n, group in enumerate(groups):
        if n:
            stream = iter(islice(batches, limit))
        sides = _Sides(inner, quant_model, group, (reference or open, open), float_model if not n else None)
        seen = 0
        for batch in stream:
            sides.measure(batch.feeds, meters, ends, look)
            seen += 1
        if n and seen != count:
            raise DataError(f"the data had {count} batches on its first pass and {seen} on pass {n + 1}")
        count = seen
        del sides  # before the next ones are opened
    return _result(inner, meters, ends, count, fronts, tail.outputs, asked=layers)


def _peek(found: Iterator[Batch]) -> tuple[Batch, Iterator[Batch]]:
    first = next(found, None)
    if first is None:
        raise EmptyData("the data holds no batch; there is nothing to compare")
    return first, chain([first], found)


def _shared_outputs(float_model: Model, quant_model: Model) -> list[str]:
    ours, theirs = ([o.name for o in m.outputs] for m in (float_model, quant_model))
    if ours != theirs:
        raise ModelError(
            f"the float network answers with {', '.join(ours)}, the quantized one with {', '.join(theirs)}; "
            "compare needs two forms of the same network"
        )
    return ours


@dataclass
class _Meter:
    """Errors of one value, learned batch by batch. `range`: of its integers."""

    range: Range | None = None
    sums: ErrorSums = field(default_factory=ErrorSums)
    max_abs: float = 0.0
    outside: float = 0.0
    count: int = 0
    floating: bool = True

    def update(self, name: str, r: NDArray[Any], x: NDArray[Any]) -> None:
        """Take in the float value `r` and the quantized one `x`."""
        if r.shape != x.shape:
            raise ModelError(
                f"value {name!r} has shape {r.shape} in the float network and {x.shape} in the quantized one; "
                "they are not the same value: name what belongs together with pairs"
            )
        self.floating &= r.dtype.kind == x.dtype.kind == "f"
        self.count += r.size
        if not self.floating:
            self.outside += float(np.count_nonzero(r != x))
            return
        with np.errstate(invalid="ignore", over="ignore"):  # NaN and inf are a result here, and shown
            self.sums.update(r, x)
            self.max_abs = float(np.maximum(self.max_abs, max_abs_error(r, x)))  # keeps nan
        if self.range is not None:
            self.outside += clip_share(r, *self.range) * r.size

    def error(self, name: str, op: str, node: str) -> LayerError:
        """What was learned; nan where a side is not finite, since no sum says anything then."""
        s = self.sums
        finite = all(math.isfinite(v) for v in (s.rr, s.xx, s.rx, s.ee))
        sqnr, cosine = (s.sqnr_db, s.cosine) if finite else (math.nan, math.nan)
        clip = self.outside / self.count if self.range is not None and self.count else None
        return LayerError(name, op, node, sqnr, cosine, self.max_abs, clip)


class _Sides:
    """Both networks, opened so that they show one group of inner values; with `plain`, and once as they are."""

    def __init__(
        self, inner: Model, quant_model: Model, group: Sequence[Pair], opens: tuple[Open, Open], plain: Model | None
    ) -> None:
        self.group = group
        ours, theirs = opens
        fed = {i.name for i in inner.inputs}
        self.shown = self.plain = None
        if group:
            a = inner.with_outputs(a for a, _ in group if a not in fed)
            b = quant_model.with_outputs(b for _, b in group)
            self.shown = ours(a), theirs(b)
        if plain is not None:
            self.plain = ours(plain), theirs(quant_model)

    def measure(
        self, feeds: Feeds, meters: dict[Pair, _Meter], ends: dict[str, _Meter], look: Look | None = None
    ) -> None:
        """Run one batch; the answers of the networks as they are first, so that both do not sit in memory at once."""
        if self.plain:
            r, x = (runner.run(feeds) for runner in self.plain)
            for name, meter in ends.items():
                meter.update(name, r[name], x[name])
        if self.shown:
            r, x = (runner.run(feeds) for runner in self.shown)
            for pair in self.group:
                a, b = pair
                ours = r[a] if a in r else np.asarray(feeds[a])
                meters[pair].update(a, ours, x[b])
                if look is not None and ours.dtype.kind == "f":
                    look(a, ours, x[b])


def _result(
    model: Model,
    meters: dict[Pair, _Meter],
    ends: dict[str, _Meter],
    count: int,
    fronts: Sequence[Pair] = (),
    loose: Sequence[str] = (),
    *,
    asked: bool,
) -> Comparison:
    values = model.values()
    errors = [m.error(a, *_maker(values[a])) for (a, _), m in meters.items() if m.floating]
    noise = {e.name: _noise(e.sqnr) for e in errors}
    errors = [replace(e, own=_own(values, e, noise)) for e in errors]
    notes = []
    if asked and not meters:
        notes.append("no inner value has the same name in both networks; name what belongs together with pairs")
    if loose:
        names = ", ".join(a for a, _ in fronts)
        notes.append(
            f"the rows of {', '.join(loose)} are ranked by the data; compared is what they are made from: {names}"
        )
    for name, m in ends.items():
        if not m.floating:
            same = 1 - m.outside / m.count if m.count else 1.0
            notes.append(f"output {name} holds whole numbers: {same:.2%} of them are equal")
    return Comparison(
        layers=tuple(sorted(errors, key=lambda e: rank(e.sqnr))) if asked else (),
        outputs=tuple(
            m.error(name, *_maker(values[name]))
            for name, m in (*ends.items(), *((p[0], meters[p]) for p in fronts))
            if m.floating
        ),
        batches=count,
        notes=tuple(notes),
    )


def _maker(value: Any) -> tuple[str, str]:
    node = value.producer()
    return (op_name(node), str(node.name)) if node is not None else ("Input", str(value.name))


def _noise(sqnr: float) -> float:
    """Noise ÷ signal, in power."""
    return math.nan if math.isnan(sqnr) else math.inf if sqnr == -math.inf else 10 ** (-sqnr / 10)


def _own(values: Mapping[str, Any], error: LayerError, noise: dict[str, float]) -> float | None:
    """SQNR in dB of the noise that the layer adds to the noisiest of what it reads; inf if it adds none.

    What was not compared passes on the noise of what was, in front of it; what is fed is exact.
    """
    if not math.isfinite(noise[error.name]):
        return None
    before, seen = [0.0], {error.name}
    reach = _read(values[error.name])
    while reach:
        value = reach.pop()
        if value.name in noise:
            before.append(noise[value.name])
        elif value.name not in seen:
            reach += _read(value)
        seen.add(value.name)
    if not all(math.isfinite(v) for v in before):
        return None
    added = noise[error.name] - max(before)
    return -10 * math.log10(added) if added > 0 else math.inf


def _read(value: Any) -> list[Any]:
    """Values that are computed or fed, and that the maker of `value` reads."""
    node = value.producer()
    return [v for v in node.inputs if v is not None and not is_const(v)] if node is not None else []
