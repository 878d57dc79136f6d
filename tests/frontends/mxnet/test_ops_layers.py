"""Layers, norms, pooling, activations, sizes and recurrent layers against MXNet's answers (make/ops_*.py)."""

from __future__ import annotations

import pytest

from tests.frontends.mxnet.cases import cases, check

GROUPS = ("layers", "plain", "norm", "pool", "activations", "resize", "rnn", "warp")
ALL = [(group, name) for group in GROUPS for name in cases(group)]
BEYOND = ("deconv_groups", "lrn", "rnn_relu", "gluon_rnn_relu", "sampler", "transformer")
"""Cases that ONNX's reference computes wrongly, or not at all."""


@pytest.mark.parametrize(("group", "name"), ALL, ids=["-".join(a) for a in ALL])
def test_onnx_runtime_gives_what_mxnet_gives(group: str, name: str) -> None:
    check(cases(group)[name], reference=False)


SOME = [a for a in ALL if not a[1].startswith(BEYOND) and not (a[0] == "pool" and a[1][-1] in "68")]


@pytest.mark.parametrize(("group", "name"), SOME, ids=["-".join(a) for a in SOME])
def test_the_reference_gives_what_mxnet_gives(group: str, name: str) -> None:
    check(cases(group)[name])
