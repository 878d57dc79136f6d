"""Each correction on a network where it must help, and on one where it cannot; what is told, and what is never done.

Judged through the interface: plan → calibrate → correct, on ONNX Runtime, with all other corrections switched off.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fewbit as fb
from fewbit.api.samples import HELD, slices
from fewbit.core.metrics import sqnr_db
from fewbit.core.plan import Plan
from fewbit.engines import open_runner
from fewbit.graph.model import Model
from fewbit.quantization import correct as correcting
from fewbit.quantization.correct import EFFORTS, Correction, any_wanted
from fewbit.quantization.trial import Score, Trial
from tests.graph.nets import net
from tests.quantization.test_equalize import separable
from tests.quantization.test_smooth import transformer

SAMPLES = 96
W4: dict[str, Any] = {"weight_bit_num": 4}


def normal(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def gemm(w: Any = None) -> Model:
    w = normal(16, 8, seed=5) if w is None else w
    return net(f"(float[N,{len(w)}] x) => (float[N,8] y) {{ y = Gemm(x, w, b) }}", w=w, b=normal(8, seed=6))


def doubled() -> Model:
    """No layer with weights."""
    return net("(float[N,16] x) => (float[N,16] y) { y = Add(x, x) }")


def on_the_grid() -> Any:
    """Weights that are whole numbers of 4 bits: rounded to the nearest they lose nothing."""
    w = np.random.default_rng(7).integers(-7, 8, (16, 8)).astype(np.float32)
    w[0] = 7
    return w


def heavy() -> Any:
    """In each column one weight that is much larger than the others."""
    w = np.random.default_rng(8).uniform(-1, 1, (128, 8)).astype(np.float32)
    w[np.arange(8), np.arange(8)] = 3
    return w


def unread() -> tuple[Model, Any]:
    """The largest input channel is read by no weight."""
    w, x = normal(16, 8, seed=5), normal(SAMPLES, 16)
    w[3], x[:, 3] = 0, 30 * x[:, 3]
    return gemm(w), x


def few_directions() -> Any:
    return normal(SAMPLES, 3) @ normal(3, 16, seed=1)


def settled(model: Model, x: Any, *words: str, **more: Any) -> tuple[Model, Plan]:
    """The fused network, and a calibrated plan whose settings name these corrections alone."""
    fused = fb.fuse(model)
    asked = {name: name in words for name in EFFORTS}
    plan = fb.make_plan(fused, **{"quantize_mode": "full", **asked, **more})
    return fused, fb.calibrate(fused, plan, x)


def tried(model: Model, x: Any, *words: str, **more: Any) -> tuple[Model, Plan, Plan, tuple[Correction, ...]]:
    """Network, plan, corrected plan, what is told of it."""
    fused, plan = settled(model, x, *words, **more)
    return fused, plan, *fb.correct(fused, plan, x)


def fresh(x: Any) -> Any:
    """Samples that nobody has seen, with the mean and the covariance of these."""
    rng = np.random.default_rng(99)
    mean = x.mean(0)
    mixed = rng.standard_normal((64, len(x))).astype(np.float32) @ (x - mean).reshape(len(x), -1) / np.sqrt(len(x))
    return (mixed.reshape(64, *x.shape[1:]) + mean).astype(np.float32)


def sqnr(model: Model, plan: Plan, x: Any) -> float:
    ours, theirs = open_runner("onnxruntime", fb.apply(model, plan)), open_runner("onnxruntime", model)
    a, b = theirs.run({"x": x}), ours.run({"x": x})
    return min(sqnr_db(a[o.name], b[o.name]) for o in model.outputs)


# -- one that helps, one that cannot ---------------------------------------------------------------------------------

Case = tuple[Callable[[], tuple[Model, Any]], dict[str, Any]]

HELPS: dict[str, tuple[Callable[[], tuple[Model, Any]], dict[str, Any], float, str]] = {  # …, dB at least, what is told
    "smooth_quant": (lambda: (transformer(), normal(SAMPLES, 6, 8)), {}, 10, "α = 0.8, 1 places"),
    "equalization": (
        lambda: (separable(), normal(SAMPLES, 3, 8, 8)), {"quantize_granularity": "tensor-wise"}, 10, "2 places",
    ),
    "range_search": (unread, {}, 5, "1 ranges changed, 1 layers, each by itself"),
    "weight_range": (lambda: (gemm(heavy()), normal(SAMPLES, 128)), {"weight_bit_num": 3}, 2, "1 layers, each"),
    "adaptive_rounding": (lambda: (gemm(), few_directions()), W4, 8, "1 layers, each by itself"),
    "bias_correction": (lambda: (gemm(), 5 + normal(SAMPLES, 16)), W4, 8, "1 layers, each by itself"),
}  # fmt: skip

CANNOT: dict[str, list[tuple[Callable[[], tuple[Model, Any]], dict[str, Any], str]]] = {  # why is told
    "smooth_quant": [
        (lambda: (transformer(gamma=np.ones(8)), normal(SAMPLES, 6, 8)), {}, "α = 0.8, 1 places"),
        (lambda: (doubled(), normal(SAMPLES, 16)), {}, "nothing to do"),
    ],
    "equalization": [
        (lambda: (gemm(), normal(SAMPLES, 16)), {"quantize_granularity": "tensor-wise"}, "nothing to do"),
        (lambda: (separable(), normal(SAMPLES, 3, 8, 8)), {"exclude_layers": ("t",)}, "nothing to do"),
    ],
    "range_search": [
        (lambda: (gemm(), np.sign(normal(SAMPLES, 16))), {}, "nothing to do"),
    ],
    "weight_range": [
        (lambda: (gemm(on_the_grid()), normal(SAMPLES, 16)), W4, "1 layers, each by itself"),
        (lambda: (gemm(heavy()), normal(SAMPLES, 128)), {"quantize_granularity": "tensor-wise"}, "1 layers"),
        (lambda: (gemm(), normal(SAMPLES, 16)), {"bit_num": 16}, "nothing to do"),
    ],
    "adaptive_rounding": [
        (lambda: (gemm(on_the_grid()), few_directions()), W4, "1 layers, each by itself"),
        (lambda: (gemm(), normal(SAMPLES, 16)), {"bit_num": 16}, "nothing to do"),
    ],
    "bias_correction": [
        (lambda: (net("(float[N,4,16] x) => (float[N,4,8] y) { y = MatMul(x, w) }", w=normal(16, 8)),
                  5 + normal(SAMPLES, 4, 16)), W4, "1 layers, each by itself"),
        (lambda: (gemm(on_the_grid()), 5 + normal(SAMPLES, 16)), W4, "1 layers, each by itself"),
        (lambda: (doubled(), normal(SAMPLES, 16)), W4, "nothing to do"),
    ],
}  # fmt: skip


def test_every_correction_is_here() -> None:
    assert set(HELPS) == set(CANNOT) == set(EFFORTS)


@pytest.mark.parametrize("name", HELPS)
def test_it_lowers_the_error_where_it_should(name: str) -> None:
    build, words, least, says = HELPS[name]
    model, x = build()
    fused, plan, found, (told,) = tried(model, x, name, **words)
    assert told.kept and told.gain > least and says in told.note
    assert told.name == name.replace("_", " ") and f"{told.gain:+.1f} dB, kept" in str(told)
    assert sqnr(fused, found, fresh(x)) > sqnr(fused, plan, fresh(x)) + least / 2
    assert Plan.from_json(found.to_json()) == found


@pytest.mark.parametrize(("name", "index"), [(k, i) for k, v in CANNOT.items() for i in range(len(v))])
def test_it_is_refused_where_it_cannot(name: str, index: int) -> None:
    build, words, says = CANNOT[name][index]
    _, plan, found, (told,) = tried(*build(), name, **words)
    assert found == plan and not told.kept and says in told.note
    assert told.gain < 1 and ("dropped" in str(told) or str(told).endswith(told.note))


def test_a_correction_that_overfits_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is fitted to is not what comes: the held-out samples see it."""
    x = few_directions()
    parts = slices(list(_batches(x)), HELD, True)
    held = [b.index for b in parts.held]
    x[held] = normal(len(held), 16, seed=77) * np.float32(2)
    _, plan, found, (told,) = tried(gemm(), x[:48], "adaptive_rounding", **W4)
    assert not told.kept and found == plan and told.gain < 0


def _batches(x: Any) -> Any:
    class B:
        def __init__(self, i: int) -> None:
            self.index, self.feeds, self.names = i, {"x": x[i : i + 1]}, [str(i)]

    return [B(i) for i in range(48)]


# -- fitted and held out ---------------------------------------------------------------------------------------------


class Watched:
    """Opens networks as usual, and keeps every sample that they are fed."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()

    def __call__(self, open_: Any) -> Any:
        def opened(model: Model) -> Any:
            runner, seen = open_(model), self.seen

            class Recorder:
                def run(self, feeds: Any) -> Any:
                    seen.update(row.tobytes() for row in feeds["x"])
                    return runner.run(feeds)

            return Recorder()

        return opened


@pytest.mark.parametrize("effort", ["default", "best"])
def test_nothing_is_fitted_to_held_out_samples_and_nothing_judged_on_others(
    effort: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted, judged, practised, held = Watched(), Watched(), Watched(), []
    plain = correcting.Setting.__init__

    def init(self: Any, **words: Any) -> None:
        trial: Trial = words["trial"]
        held.extend(row.tobytes() for b in trial.held for row in b.feeds["x"])
        trial.open = judged(trial.open)
        fit = [row.tobytes() for b in words["fit"] for row in b.feeds["x"]]
        assert not set(fit) & set(held) and len(fit) >= 16
        plain(self, **{**words, "open": fitted(words["open"])})

    class Practice(Trial):
        def __init__(self, model: Model, batches: Any, open_: Any, emit: Any) -> None:
            super().__init__(model, batches, practised(open_), emit)

    monkeypatch.setattr(correcting.Setting, "__init__", init)
    monkeypatch.setattr(correcting, "Trial", Practice)
    every = {n: True for n in EFFORTS}
    fused, plan = settled(transformer(), normal(SAMPLES, 6, 8), *every, effort=effort)
    fb.correct(fused, plan, normal(SAMPLES, 6, 8))
    assert len(held) == HELD and fitted.seen and not fitted.seen & set(held)
    if effort == "default":
        assert judged.seen == set(held) and not practised.seen
    else:  # what is refined is practised on samples of the other part
        assert practised.seen and not practised.seen & set(held) and judged.seen >= set(held)


def test_data_and_network_are_left_as_they_were() -> None:
    x = few_directions()
    kept, model = x.copy(), gemm()
    digest = model.digest()
    fused, plan = settled(model, x, "adaptive_rounding", "bias_correction", **W4)
    before, inside = plan.to_json(), fused.digest()
    fb.correct(fused, plan, x)
    assert (model.digest(), fused.digest(), plan.to_json()) == (digest, inside, before)
    np.testing.assert_array_equal(x, kept)


def test_too_few_samples_are_told() -> None:
    x = 5 + normal(1, 16)
    _, _, _, told = tried(gemm(), x, "bias_correction", **W4)
    assert "not tried: 8 samples or more are needed" in told[0].note and "there are 1" in told[0].note
    _, _, _, told = tried(gemm(), 5 + normal(8, 16), "bias_correction", **W4)
    assert "not tried" not in told[0].note


# -- effort, time, modes ---------------------------------------------------------------------------------------------


def test_fast_does_nothing_after_calibrating() -> None:
    x = few_directions()
    fused = fb.fuse(gemm())
    plan = fb.calibrate(fused, fb.make_plan(fused, effort="fast", **W4), x)
    assert fb.correct(fused, plan, x) == (plan, ())
    made = fb.quantize(gemm(), x, effort="fast", verify=False, **W4)
    assert made.plan == plan and made.report.corrections == ()
    assert made.digest() == fb.apply(fused, plan).digest()


def test_fast_still_does_what_was_asked_for() -> None:
    _, plan, found, (told,) = tried(gemm(), few_directions(), "adaptive_rounding", effort="fast", **W4)
    assert told.kept and found != plan


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ({"effort": "fast"}, False),
        ({}, True),
        ({"effort": "best"}, True),
        ({"effort": "fast", "equalization": True}, True),
        (dict.fromkeys(EFFORTS, False), False),
        ({**dict.fromkeys(EFFORTS, False), "effort": "best"}, False),
        ({n: False for n in EFFORTS if n != "equalization"}, False),  # not part of the default
    ],
)
def test_what_is_wanted(words: dict[str, Any], wanted: bool) -> None:
    assert any_wanted(fb.QuantConfig(**words)) is wanted


def names(told: tuple[Correction, ...]) -> list[str]:
    return [c.name for c in told]


LAYERS = "weight range, adaptive rounding, bias correction"


def test_steps_come_in_order() -> None:
    fused = fb.fuse(transformer())
    x = normal(SAMPLES, 6, 8)
    found = {}
    for effort in ("default", "best"):
        plan = fb.calibrate(fused, fb.make_plan(fused, quantize_mode="full", effort=effort), x)
        found[effort] = names(fb.correct(fused, plan, x)[1])
    assert found["default"] == ["smooth quant", f"range search, {LAYERS}"]
    assert found["best"] == ["smooth quant", "equalization", f"range search, {LAYERS}", LAYERS, "range search"]


def test_the_time_limit_stops_it() -> None:
    fused, plan = settled(gemm(), few_directions(), "smooth_quant", "adaptive_rounding", time_limit=1e-9, **W4)
    found, told = fb.correct(fused, plan, few_directions())
    assert found == plan and names(told) == ["smooth quant", "adaptive rounding"]
    assert all(c.note == "not tried: the time limit was reached" and not c.kept and c.seconds == 0 for c in told)


def test_what_was_found_in_time_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    x = normal(SAMPLES, 6, 8)
    fused, plan = settled(transformer(), x, "smooth_quant", "bias_correction", time_limit=30)
    plain = Score.beats

    def slow(self: Score, other: Score) -> bool:
        now = time.monotonic()
        monkeypatch.setattr(time, "monotonic", lambda: now + 60)  # a minute has gone by
        return plain(self, other)

    monkeypatch.setattr(Score, "beats", slow)
    found, told = fb.correct(fused, plan, x)
    assert [c.kept for c in told] == [True, False] and found.rescales
    assert told[1].note == "not tried: the time limit was reached"


class Mine(fb.CalibrationCollector):
    """Ranges of the user's own."""

    def collect(self, name: str, op_name: str, arr: Any) -> None:
        lo, hi = self.min_max_dict.get(name, (0.0, 0.0))
        self.min_max_dict[name] = (min(lo, float(arr.min())), max(hi, float(arr.max())))


def test_ranges_that_only_the_user_can_measure_leave_out_rescales() -> None:
    x = normal(SAMPLES, 6, 8)
    words = {"calib_mode": "custom", "quantize_mode": "full", "effort": "best", "verify": False}
    made = fb.quantize(transformer(), x, collector=Mine(), **words)
    assert names(made.report.corrections) == [f"range search, {LAYERS}", LAYERS, "range search"]
    assert made.plan.rescales == ()


def test_who_asks_for_them_by_name_is_told_why() -> None:
    words = {"calib_mode": "custom", "quantize_mode": "full", "effort": "fast", "verify": False, "smooth_quant": True}
    (told,) = fb.quantize(transformer(), normal(SAMPLES, 6, 8), collector=Mine(), **words).report.corrections
    assert told.name == "smooth quant" and not told.kept
    assert told.note.startswith("not tried: only you can measure the ranges of a rescaled network")


def test_outputs_that_are_no_floats_leave_nothing_to_judge_by() -> None:
    model = net("(float[N,16] x) => (int64[N,1] y) { p = Gemm(x, w, b) y = ArgMax<axis=1>(p) }", w=(16, 8), b=(8,))
    _, plan, found, (told,) = tried(model, normal(SAMPLES, 16), "bias_correction", **W4)
    assert found == plan and "there is nothing to judge corrections by" in told.note and told.name == "corrections"


def test_a_plan_in_which_all_is_float_is_left_alone() -> None:
    _, plan, found, told = tried(gemm(), normal(SAMPLES, 16), "bias_correction", exclude_layers=("*",))
    assert (found, told) == (plan, ())


def test_progress_is_told() -> None:
    fused, plan = settled(transformer(), normal(SAMPLES, 6, 8), *EFFORTS, effort="best")
    said: list[tuple[str, int, int]] = []
    fb.correct(fused, plan, normal(SAMPLES, 6, 8), say=lambda *a: said.append(a))
    steps = [s for s in said if s[0] != "layer after layer"]
    assert [s[1:] for s in steps] == [(i, 5) for i in range(6)] and steps[-1][0] == "corrections"
    assert any(s[0] == "layer after layer" for s in said)


# -- in one call -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HELPS)
def test_quantize_tells_and_apply_gives_the_same_bytes(name: str, tmp_path: Any) -> None:
    build, words, _, _ = HELPS[name]
    model, x = build()
    asked = {n: n == name for n in EFFORTS}
    made = fb.quantize(model, x, quantize_mode="full", verify=False, **asked, **words)
    (told,) = made.report.corrections
    assert told.kept and "corrections, judged on held-out samples:" in made.report.text()
    made.save(tmp_path / "a.onnx")
    fb.apply(fb.fuse(model), tmp_path / "a.plan.json").save(tmp_path / "b.onnx")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    assert (tmp_path / "a.plan.json").read_bytes() == (tmp_path / "b.plan.json").read_bytes()


def test_the_steps_one_by_one_give_what_quantize_gives() -> None:
    x = few_directions()
    fused, _, found, _ = tried(gemm(), x, "adaptive_rounding", "bias_correction", **W4)
    asked = {n: n in ("adaptive_rounding", "bias_correction") for n in EFFORTS}
    made = fb.quantize(gemm(), x, quantize_mode="full", verify=False, **asked, **W4)
    assert made.plan == found and made.digest() == fb.apply(fused, found).digest()


def test_adding_a_bias_in_integers_is_no_obstacle() -> None:
    text = "(float[N,3,8] x) => (float[N,3,6] y) { p = MatMul(x, w) s = Add(p, b) t = Add(s, s) y = MatMul(t, u) }"
    model, x = net(text, w=(8, 16), b=(16,), u=(16, 6)), normal(SAMPLES, 3, 8)
    for exclude in ((), ("s",), ("t",)):
        made = fb.quantize(model, x, quantize_mode="full", exclude_layers=exclude, verify=False)
        assert names(made.report.corrections)[-1].startswith("range search")
