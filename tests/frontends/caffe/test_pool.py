"""Pooling of every size against Caffe's rule: the last window starts inside, an average counts padding but no more."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewbit.engines import open_runner
from fewbit.errors import ModelFormatError, UnsupportedModel
from tests.frontends.caffe import reference as ref
from tests.frontends.caffe.loading import converted
from tests.frontends.caffe.writing import layer, network

SIDE = st.tuples(st.integers(4, 11), st.integers(1, 4), st.integers(1, 4), st.integers(0, 3))


@given(SIDE, SIDE, st.sampled_from(["MAX", "AVE"]), st.booleans())
@settings(max_examples=40, deadline=None)
def test_pooling_is_caffes(rows: tuple[int, ...], columns: tuple[int, ...], kind: str, ceil: bool) -> None:
    sizes, kernel, stride, pad = zip(rows, columns, strict=True)
    pairs = {"kernel": kernel, "stride": stride, "pad": pad}
    said = " ".join(f"{k}_{a}: {n[i]}" for k, n in pairs.items() for i, a in enumerate("hw"))
    body = layer("Pooling", f"pooling_param {{ pool: {kind} {said} round_mode: {'CEIL' if ceil else 'FLOOR'} }}")
    x = np.random.default_rng(0).normal(0, 1, (2, 3, *sizes)).astype(np.float32)
    if any(p >= k for p, k in zip(pad, kernel, strict=True)):
        with pytest.raises(ModelFormatError, match="pad must be less than the kernel"):
            converted(network(body, x=x.shape))
        return
    try:
        model = converted(network(body, x=x.shape))
    except UnsupportedModel as e:
        assert "lies outside of the data" in str(e)
        last = [
            (n - 1) * s - p for n, s, p in zip(ref.places(sizes, kernel, stride, pad, ceil), stride, pad, strict=True)
        ]
        assert any(start >= size for start, size in zip(last, sizes, strict=True))
        return
    found = open_runner("onnxruntime", model).run({"x": x})["y"]
    np.testing.assert_allclose(found, ref.pool(x, kind, kernel, stride, pad, ceil), rtol=1e-4, atol=1e-5)


def test_a_free_size_is_pooled_where_that_can_be_told() -> None:
    body = layer("Pooling", "pooling_param { pool: AVE kernel_size: 3 stride: 2 }")
    model = converted(network(body, x=(1, 1, 8, 8)), shapes={"x": (None, 1, None, None)})
    x = np.random.default_rng(0).normal(0, 1, (1, 1, 8, 7)).astype(np.float32)
    found = open_runner("onnxruntime", model).run({"x": x})["y"]
    np.testing.assert_allclose(found, ref.pool(x, "AVE", (3, 3), (2, 2), (0, 0)), rtol=1e-5)
    with pytest.raises(UnsupportedModel, match="depends on the size of axis 2"):
        converted(
            network(body.replace("stride: 2", "stride: 2 pad: 2"), x=(1, 1, 8, 8)), shapes={"x": (None, 1, None, None)}
        )
