"""Calibration: streamed, exact whatever the split, resumable, with the user's own collector."""

from __future__ import annotations

import itertools
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fewbit.calib import CalibrationCollector
from fewbit.config import QuantConfig
from fewbit.core.plan import Plan
from fewbit.engines import open_runner
from fewbit.engines.onnxruntime_stream import open_stream
from fewbit.errors import BadSample, ConfigError, EmptyData, PlanError, UnknownName
from fewbit.graph.model import Model
from fewbit.quantization.plan import make_plan
from fewbit.quantization.static import calibrate, feeder, part_for
from tests.quantization.nets import TOY, Batch, Batches, net, normal, residual

OPEN = partial(open_runner, "onnxruntime")
MODES = ("naive", "entropy", "kl", "percentile", "mse", "ema", "quantile")


def ranges(plan: Plan) -> dict[str, tuple[float | None, float | None]]:
    return {k: (v.lo, v.hi) for k, v in plan.values.items() if v.role == "act"}


def run(model: Model, source: Any, mode: str = "naive", **options: Any) -> Plan:
    words = options.pop("words", {})
    config = QuantConfig(calib_mode=mode, **words)
    return calibrate(model, make_plan(model, config, TOY), source, OPEN, config, **options)


def test_naive_ranges_are_the_extremes_of_what_the_network_computes() -> None:
    model, source = residual(), normal(3)
    runner = OPEN(model.with_outputs(["r", "c", "t"]))
    seen = [runner.run({"x": x}) for x in source.arrays]
    found = ranges(run(model, source))
    for name in ("r", "c", "t"):
        assert found[name] == (min(s[name].min() for s in seen), max(s[name].max() for s in seen))
    assert found["x"] == (min(x.min() for x in source.arrays), max(x.max() for x in source.arrays))
    assert found["p"] == found["t"]


@pytest.mark.parametrize("mode", MODES)
def test_the_number_of_workers_changes_nothing(mode: str) -> None:
    results = [ranges(run(residual(), normal(5), mode, workers=n)) for n in (1, 2, 3)]
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("mode", [m for m in MODES if m not in ("ema", "quantile")])
def test_the_split_into_batches_changes_nothing(mode: str) -> None:
    x = np.concatenate(normal(4, size=3).arrays)
    splits = [[12], [1] * 12, [5, 4, 3]]
    if mode == "entropy":  # the first batch says where MXNet's bins lie
        splits = [[4, 8], [4] + [1] * 8, [4, 5, 3]]
    found = []
    for sizes in splits:
        ends = list(itertools.accumulate(sizes))
        found.append(ranges(run(residual(), Batches(*(x[e - s : e] for s, e in zip(sizes, ends, strict=True))), mode)))
    assert found[0] == found[1] == found[2]


def test_a_memory_limit_cuts_batches_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    source = normal(2, size=64)

    def watched(model: Model) -> Any:
        runner = OPEN(model)

        class Watch:
            def run(self, feeds: Any) -> Any:
                sizes.append(len(feeds["x"]))
                return runner.run(feeds)

        return Watch()

    config = QuantConfig(memory_limit=1)
    monkeypatch.setattr("fewbit.quantization.static.MIB", 2**16)  # 64 kB stand for a MiB: the network is tiny
    limited = calibrate(residual(), make_plan(residual(), config, TOY), source, watched, config, workers=1)
    assert 1 < max(sizes) < 64 and sum(sizes) == 128
    assert ranges(limited) == ranges(run(residual(), source))


def test_num_calib_batches_stops() -> None:
    source = normal(4)
    assert ranges(run(residual(), source, words={"num_calib_batches": 2})) == ranges(
        run(residual(), Batches(*source.arrays[:2]))
    )


def test_batches_that_are_not_needed_are_not_read() -> None:
    read: list[int] = []

    class Watched(Batches):
        def iterate(self, start: int = 0) -> Any:
            for batch in super().iterate(start):
                read.append(batch.index)
                yield batch

    run(residual(), Watched(*normal(4).arrays), words={"num_calib_batches": 2})
    assert read == [0, 1]


@pytest.mark.parametrize(("mode", "word", "value"), [("ema", "ema_momentum", 0.1), ("percentile", "percentile", 90.0),
                                                     ("quantile", "percentile", 90.0)])  # fmt: skip
def test_settings_reach_the_observers(mode: str, word: str, value: float) -> None:
    assert ranges(run(residual(), normal(3), mode)) != ranges(run(residual(), normal(3), mode, words={word: value}))


def test_inputs_without_axes() -> None:
    model = net("a = Mul (s, x) y = Conv (a, w)", inputs="float s, float[N,4,8,8] x", w=(4, 4, 1, 1))
    batches = []
    for i, x in enumerate(normal(2).arrays):
        batches.append(Batch({"x": x}, i))
        batches[-1].feeds = {"s": np.array(2, np.float32), "x": x}

    class Source:
        def iterate(self, start: int = 0) -> Any:
            return iter(batches[start:])

    config = QuantConfig()
    found = calibrate(model, make_plan(model, config, TOY), Source(), open_stream, config)
    assert found.values["a"].hi == 2 * max(b.feeds["x"].max() for b in batches)


@pytest.mark.parametrize("mode", MODES)
def test_an_interrupted_calibration_goes_on_with_the_same_result(mode: str, tmp_path: Path) -> None:
    class Interrupted(Batches):
        def iterate(self, start: int = 0) -> Any:
            for batch in super().iterate(start):
                if batch.index == 4:
                    raise KeyboardInterrupt
                yield batch

    file, source = tmp_path / "calib", normal(6)
    with pytest.raises(KeyboardInterrupt):
        run(residual(), Interrupted(*source.arrays), mode, checkpoint=file, checkpoint_every=0.0)
    assert file.exists()
    started: list[int] = []

    class Watched(Batches):
        def iterate(self, start: int = 0) -> Any:
            started.append(start)
            return super().iterate(start)

    found = run(residual(), Watched(*source.arrays), mode, checkpoint=file)
    assert started[0] > 0 and not file.exists()
    assert ranges(found) == ranges(run(residual(), source, mode))


def test_a_checkpoint_of_other_settings_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "calib"

    class Interrupted(Batches):
        def iterate(self, start: int = 0) -> Any:
            yield from super().iterate(start)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(residual(), Interrupted(*normal(2).arrays), "naive", checkpoint=file, checkpoint_every=0.0)
    with pytest.raises(PlanError, match="belongs to another network, other data or other settings; delete it"):
        run(residual(), normal(2), "entropy", checkpoint=file)


def test_no_data_is_an_error() -> None:
    with pytest.raises(EmptyData, match="holds no batch"):
        run(residual(), Batches())


def test_what_is_not_finite_names_sample_and_tensor() -> None:
    bad = normal(3)
    bad.arrays[1][1, 2, 3, 4] = np.nan
    with pytest.raises(BadSample, match=r"tensor 'x' on sample 1\.0, sample 1\.1: .*NaN"):
        run(residual(), bad)


def test_an_overflow_inside_the_network_is_found() -> None:
    model = net("a = Exp (x)  y = Conv (a, w)", w=(4, 4, 1, 1))
    hot = Batches(np.full((1, 4, 8, 8), 1000, np.float32))
    with pytest.raises(BadSample, match=r"tensor 'a' on sample 0\.0"):
        run(model, hot)


def test_zeros_give_a_usable_plan() -> None:
    found = run(residual(), Batches(np.zeros((1, 4, 8, 8), np.float32)), "entropy")
    assert all(found.params(k).scale > 0 for k, v in found.values.items() if v.role == "act")


def test_only_what_leads_to_observed_values_is_run() -> None:
    part = part_for(residual(), ["r", "c"])
    assert [n.op_type for n in part.nodes] == ["Conv", "Relu", "Conv"]
    assert [o.name for o in part.outputs] == ["r", "c"]


def test_progress_counts_batches_and_samples() -> None:
    seen: list[tuple[int, int]] = []
    run(residual(), normal(5, size=3), progress=lambda *n: seen.append(n))
    assert seen[-1] == (5, 15) and seen == sorted(seen)


# -- collectors -------------------------------------------------------------------------------------------------


class Absmax(CalibrationCollector):
    """Symmetric range of the largest magnitude."""

    def collect(self, name: str, op_name: str, arr: Any) -> None:
        self.seen = [*getattr(self, "seen", []), (name, op_name)]
        top = max(float(np.abs(arr).max()), self.min_max_dict.get(name, (0, 0))[1])
        self.min_max_dict[name] = (-top, top)


def test_a_collector_of_the_user_decides_the_ranges() -> None:
    mine = Absmax()
    found = ranges(run(residual(), normal(3), "custom", collector=mine))
    assert ("r", "Relu") in mine.seen and ("x", "") in mine.seen
    lo, hi = found["c"]
    assert lo is not None and hi == -lo == mine.min_max_dict["c"][1]


def test_a_collector_sees_only_the_layers_it_includes() -> None:
    mine = Absmax()
    mine.include_layers = ["r", "c"]
    found = run(residual(), normal(2), "custom", collector=mine)
    assert {n for n, _ in mine.seen} == {"r", "c"}
    assert found.values["r"].calibrated and not found.values["x"].calibrated


def test_a_layer_to_include_that_does_not_exist_offers_the_nearest() -> None:
    mine = Absmax()
    mine.include_layers = ["rr"]
    with pytest.raises(UnknownName, match="unknown name in include_layers 'rr'"):
        run(residual(), normal(1), "custom", collector=mine)


def test_custom_without_a_collector_is_an_error() -> None:
    with pytest.raises(ConfigError, match="give the collector="):
        run(residual(), normal(1), "custom")


def test_a_collector_can_be_filled_by_hand() -> None:
    model, mine = residual(), Absmax()
    names = ["x", "r", "t"]
    feed = feeder(model, OPEN(model.with_outputs(names[1:])), mine, names)
    outputs = feed({"x": normal(1).arrays[0]})
    assert list(mine.min_max_dict) == names
    assert mine.min_max_dict["t"][1] == outputs["t"].max()
