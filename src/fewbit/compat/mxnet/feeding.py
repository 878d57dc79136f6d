"""Arrays of a script's batches → inputs of a network, by name.

MXNet's modules go by names, those of the batch's `provide_data` first; its blocks go by position. A name that is no
input is an error, unless it is a label, which nobody feeds.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from fewbit.errors import UsageError, unknown
from fewbit.graph.model import Model


def input_order(names: Sequence[str], model: Model, spare: Collection[str] = ()) -> list[str]:
    """Names of a script's arrays, checked; "" for those that are not fed.

    Args:
        names: as the script says them; none at all: the network's inputs in their order.
        model: whose inputs they are. spare: variables of the symbol that inference does without.

    Raises:
        UnknownName: neither an input nor a label. UsageError: an input is not named.
    """
    inputs = [i.name for i in model.inputs]
    if not names:
        return inputs
    for name in names:
        if name not in inputs and name not in spare and "label" not in name:
            raise unknown("input", name, inputs)
    missing = [n for n in inputs if n not in names]
    if missing:
        raise UsageError(
            f"the network has the inputs {', '.join(inputs)}; {', '.join(missing)} is not among {list(names)}"
        )
    return [n if n in inputs else "" for n in names]


def said(default: Sequence[str], names: Sequence[str], model: Model) -> Sequence[str]:
    """Names as a script gave them; MXNet's default says nothing where the network calls its input otherwise."""
    return () if list(names) == list(default) and not {i.name for i in model.inputs} & set(names) else names


def feeds_of(data: Sequence[Any], order: Sequence[str], model: Model) -> dict[str, np.ndarray]:
    """Arrays of a batch by input; whole numbers become floats where the network takes those.

    Args:
        order: see `input_order`.

    Raises:
        UsageError: there are fewer arrays than the network has inputs.
    """
    wanted = [n for n in order if n]
    if len(data) < len(order) and len(data) != len(wanted):
        raise UsageError(f"a batch has {len(data)} arrays; the network has the inputs {', '.join(wanted)}")
    names = order if len(data) >= len(order) else wanted
    kinds = {i.name: i.dtype for i in model.inputs}
    found = {n: np.ascontiguousarray(a) for n, a in zip(names, data, strict=False) if n}
    return {n: a.astype(kinds[n]) if a.dtype.kind in "iub" and kinds[n].kind == "f" else a for n, a in found.items()}


def described(provided: Any) -> list[str]:
    """Names out of `provide_data`."""
    return [str(d[0]) for d in provided or ()]
