"""Every operator alone, and behind a convolution, against LiteRT."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fewbit.frontends.tflite.layer import OPS
from tests.frontends.tflite.cases import C2, CASES, ELSEWHERE, Case, Kept, State, conv
from tests.frontends.tflite.one import Const, Fed, Lite, lite, read, real, run, sized, write

Feeds = dict[str, NDArray[Any]]
PICTURES = [
    c for c in CASES if any(getattr(i, "ndim", 0) == 4 and getattr(i, "dtype", None) == np.float32 for i in c.inputs)
]


def names(cases: Any) -> list[str]:
    seen = Counter[str]()
    found = []
    for case in cases:
        seen[case.name] += 1
        found.append(case.name + "'" * (seen[case.name] - 1))
    return found


def build(case: Case, behind: bool) -> tuple[bytes, Feeds]:
    """The file, and what is fed; `behind` puts a 1x1 convolution in front of each picture."""
    tensors: dict[str, Any] = {}
    ops: list[Lite] = []
    feeds: Feeds = {}
    inputs = []
    for k, given in enumerate(case.inputs):
        name = f"in{k}"
        inputs.append("" if given is None else name)
        if isinstance(given, Kept):
            tensors[name] = Const(given.data)
        elif isinstance(given, State):
            tensors[name] = Fed(given.data.shape, variable=True)
        elif given is not None:
            tensors[name], feeds[name] = Fed(given.shape, given.dtype), given
            if behind and given.ndim == 4 and given.dtype == np.float32:
                channels = given.shape[3]
                turn = np.eye(channels, dtype=np.float32)[::-1].reshape(channels, 1, 1, channels)
                tensors |= {f"w{k}": Const(turn), f"fed{k}": tensors[name]}
                feeds[f"fed{k}"] = feeds.pop(name)
                tensors[f"b{k}"] = Const(np.zeros(channels, np.float32))
                ops.append(Lite("CONV_2D", [f"fed{k}", f"w{k}", f"b{k}"], [name], C2, conv(1)))
    outputs = [f"out{k}" for k in range(len(case.outputs))]
    for name, kind in zip(outputs, case.outputs, strict=True):
        dtype, *quant = kind.split()
        scale, zero = (float(quant[0]), int(quant[1])) if quant else (None, 0)
        tensors[name] = Fed(case.size, dtype, scale, zero)
    ops.append(Lite(case.op, inputs, outputs, case.kind, case.options, version=case.version))
    final = sized(ops, tensors, list(feeds), outputs, feeds)
    return write(ops, final, list(feeds), outputs), feeds


def check(case: Case, behind: bool) -> None:
    file, feeds = build(case, behind)
    model = read(file, integers=True)
    wanted, found = real(file, lite(file, feeds)), run(model, real(file, feeds))
    assert [i.name for i in model.inputs] == list(feeds)
    assert [o.name for o in model.outputs] == list(wanted)
    for name, want in wanted.items():
        got = found[name]
        assert got.dtype == want.dtype and got.shape == want.shape
        if want.dtype.kind != "f":
            assert (got == want).all()
        else:
            assert np.abs(got - want).max(initial=0) <= case.close * max(1, np.abs(want).max(initial=0))


@pytest.mark.parametrize("case", CASES, ids=names(CASES))
def test_an_operator_computes_what_litert_computes(case: Case) -> None:
    check(case, behind=False)


@pytest.mark.parametrize("case", PICTURES, ids=names(PICTURES))
def test_an_operator_takes_what_a_convolution_gives(case: Case) -> None:
    check(case, behind=True)


def test_the_docs_list_them_all() -> None:
    page = (Path(__file__).parents[3] / "docs" / "tflite.md").read_text("utf-8")
    table = page.split("## Operators")[1].split("## ")[0]
    assert set(re.findall(r"[A-Z][A-Za-z0-9]*(?:_[A-Z0-9]+)+|[A-Z][A-Z0-9]+|Convolution2DTransposeBias", table)) == set(
        OPS
    )


def test_no_operator_is_forgotten() -> None:
    assert {c.op for c in CASES} | ELSEWHERE == set(OPS)
    assert len(OPS) >= 60
