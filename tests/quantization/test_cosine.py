"""Steps by cosine: those that a search one by one finds, and better ones than it begins with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import fewbit as fb
from fewbit.engines import open_runner
from fewbit.graph.fuse import fuse
from fewbit.quantization import cosine
from tests.models import depthwise, gemm, info, load, node, proto, residual, weight

WORDS = {"target": "ncnn", "effort": "fast", "batch_size": 4}


def data(model: Any, samples: int = 12) -> dict[str, Any]:
    rng = np.random.default_rng(3)
    return {i.name: rng.laplace(size=(samples, *i.shape[1:])).astype(np.float32) for i in model.inputs}


def scored(made: Any, mode: str, **words: Any) -> float:
    """Mean cosine of the output over samples."""
    fused = fuse(load(made))
    feeds = data(fused)
    plan = fb.calibrate(fused, fb.make_plan(fused, target="ncnn", calib_mode=mode, **words), feeds)
    out = [open_runner("onnxruntime", m, literal=True) for m in (fused, fb.apply(fused, plan))]
    total = 0.0
    for i in range(12):
        a, b = (r.run({k: x[i : i + 1] for k, x in feeds.items()})["y"].ravel() for r in out)
        total += float(a @ b / np.sqrt((a @ a) * (b @ b)))
    return total / 12


@pytest.mark.parametrize("made", [residual, depthwise])
def test_outputs_are_nearer_than_with_kl(made: Any) -> None:
    assert scored(made(), "eq") > scored(made(), "ncnn-kl")


def test_each_step_is_the_best_given_the_others() -> None:
    """One product, few rows: all of it is looked at, so that the search can be repeated word for word."""
    fused = fuse(load(proto([node("Gemm", "x w b", "y", "dense", transB=1)], [info("x", ["n", 16])], [info("y", None)],
                            {"w": weight(5, 16), "b": weight(5)})))  # fmt: skip
    feeds = data(fused, 6)
    plan = fb.make_plan(fused, target="ncnn", calib_mode="eq")
    by_kl = {k: replace(v, calib_mode="ncnn-kl" if v.calib_mode else "") for k, v in plan.values.items()}
    begun = fb.calibrate(fused, replace(plan, values=by_kl), feeds)
    found = fb.calibrate(fused, plan, feeds)
    x, w, b = feeds["x"].astype(np.float64), weight(5, 16).astype(np.float64), weight(5)
    y = x @ w.T + b

    def total(steps: Any, top: float) -> float:
        q = np.clip(np.rint(w / steps[:, None]), -127, 127) * steps[:, None]
        s = top / 127
        z = (np.clip(np.rint(x / s), -127, 127) * s) @ q.T + b
        return float(((y * z).sum(1) / np.sqrt((y * y).sum(1) * (z * z).sum(1))).sum())

    first = np.abs(w).max(1) / 127
    steps, top = first.copy(), float(begun.values["x"].hi or 0)
    factors = cosine.FACTORS[cosine.FACTORS <= 1.7]
    for j in range(5):
        tried = [np.where(np.arange(5) == j, first[j] / f, steps) for f in factors]
        steps = max(tried, key=lambda s: total(s, top))
    np.testing.assert_allclose(found.values["w"].scale, steps, rtol=1e-5)
    best = max(cosine.FACTORS, key=lambda f: total(steps, top / f))
    assert found.values["x"].hi == pytest.approx(top / best)


def test_only_layers_that_ask_for_it_are_searched() -> None:
    fused = fuse(load(residual()))
    feeds = data(fused)
    plan = fb.calibrate(fused, fb.make_plan(fused, target="ncnn", overrides={"conv2": {"calib_mode": "eq"}}), feeds)
    assert not plan.values["w1"].scale and plan.values["w2"].scale
    assert plan.values["x"].hi == pytest.approx(np.abs(feeds["x"]).max(), rel=0.5)


def test_at_most_50_images_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    fused = fuse(load(gemm()))
    shape = [d if isinstance(d, int) else 1 for d in fused.inputs[0].shape]
    x = np.random.default_rng(0).standard_normal((70, *shape[1:])).astype(np.float32)
    plan = fb.make_plan(fused, target="ncnn", calib_mode="eq")
    seen: list[int] = []
    layer = cosine._layer
    monkeypatch.setattr(cosine, "_layer", lambda p, at, x, y, i: seen.append(len(set(i))) or layer(p, at, x, y, i))
    fb.calibrate(fused, plan, {fused.inputs[0].name: x}, batch_size=20)
    assert seen == [50]
