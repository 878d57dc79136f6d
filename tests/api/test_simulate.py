"""fb.simulate and sweep on ONNX networks: data, calibration samples, notes, resuming, messages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

import fewbit as fb
from fewbit.api import simulated_signs
from fewbit.api.simulated_data import open_sets
from fewbit.api.sweeping import sweep
from fewbit.config import DataConfig
from fewbit.config.simulate import SimulateConfig, SweepConfig, swept
from fewbit.data.datasets import open_dataset
from fewbit.engines import open_runner
from fewbit.errors import ConfigError, DataError, UnknownName, UsageError
from fewbit.graph.model import TensorInfo
from tests.datasets import write_fashion
from tests.models import Array, info, node, proto, weight


def net(batch: Any = "n") -> onnx.ModelProto:
    """x → Conv → BatchNormalization → Relu → Conv → Relu → Flatten → Gemm → y, 3 classes"""
    return proto(
        [
            node("Conv", "x w1", "a", "conv1", pads=[1, 1, 1, 1]),
            node("BatchNormalization", "a g h m v", "b", "bn"),
            node("Relu", "b", "c", "relu1"),
            node("Conv", "c w2", "d", "conv2"),
            node("Relu", "d", "e", "relu2"),
            node("Flatten", "e", "f", "flatten"),
            node("Gemm", "f u", "y", "fc", transB=1),
        ],
        [info("x", [batch, 2, 5, 5])],
        [info("y", [batch, 3])],
        {
            "w1": weight(4, 2, 3, 3), "g": np.ones(4, np.float32), "h": weight(4), "m": weight(4),
            "v": np.full(4, 0.5, np.float32), "w2": weight(4, 4, 3, 3), "u": weight(3, 36),
        },
    )  # fmt: skip


def save(folder: Path, batch: Any = "n") -> Path:
    onnx.save(net(batch), folder / "net.onnx")
    return folder / "net.onnx"


def data(count: int = 60) -> dict[str, Array]:
    """Samples that the float network gets right but for every fifth."""
    x = np.random.default_rng(0).standard_normal((count, 2, 5, 5)).astype(np.float32)
    y = open_runner("onnxruntime", fb.load(_FILE), optimize=False).run({"x": x})["y"].argmax(1)
    return {"x": x, "labels": np.where(np.arange(count) % 5, y, (y + 1) % 3)}


@pytest.fixture(autouse=True, scope="module")
def _file(tmp_path_factory: pytest.TempPathFactory) -> None:
    global _FILE
    _FILE = save(tmp_path_factory.mktemp("net"))


_FILE = Path()


def test_it_counts_against_float() -> None:
    found = fb.simulate(_FILE, data(), input_signed=True, batch_size=16)
    assert found.result.reference[1].rate == pytest.approx(0.8)
    assert found.result.agreement is not None and found.result.agreement.rate > 0.9
    assert found.layers == {"conv1": "the first convolution (exclude_first_conv)", "conv2": "", "fc": ""}
    assert found.network == "net.onnx" and found.ranges == {} and found.notes == ()
    crude = fb.simulate(_FILE, data(), input_bits_width=2, weight_bits_width=2, batch_size=16)
    assert crude.result.agreement is not None and found.result.agreement.rate > crude.result.agreement.rate
    assert crude.top1 is not None and crude.drop == pytest.approx(0.8 - crude.top1)


def test_what_is_saved_is_what_was_evaluated(tmp_path: Path) -> None:
    found = fb.simulate(_FILE, data(), quantize_input_offline=True, input_bits_width=3, weight_bits_width=3)
    found.save(tmp_path / "sim.onnx")
    again = fb.evaluate(tmp_path / "sim.onnx", data(), batch_size=16)  # ONNX Runtime with all its optimizations
    assert again.accuracy[1] == found.result.accuracy[1]
    assert found.plan is not None and found.plan.calibrated and found.plan.target == "simulator"


def test_online_ranges_depend_on_the_batch_and_offline_ones_do_not() -> None:
    words = {"input_bits_width": 2, "weight_bits_width": 8}
    seen = {b: fb.simulate(_FILE, data(), batch_size=b, **words).result.accuracy for b in (1, 60)}
    assert seen[1] != seen[60]
    fixed = [
        fb.simulate(_FILE, data(b), quantize_input_offline=True, batch_size=60, calib_data=data(60), **words).ranges
        for b in (60, 30)
    ]
    assert fixed[0] == fixed[1]


def test_calibration_takes_so_many_samples_of_each_class() -> None:
    given = data()
    found = fb.simulate(_FILE, given, quantize_input_offline=True, num_sample=2)
    assert found.calibrated_on == 2 * len(set(given["labels"].tolist()))
    assert found.notes == ("calibrated on samples that it is evaluated on as well; give others with calib_data",)
    other = fb.simulate(_FILE, given, quantize_input_offline=True, num_sample=2, calib_data=data(30))
    assert other.notes == () and set(other.ranges) == set(found.ranges) == {"c", "f"}
    bare = fb.simulate(_FILE, given, quantize_input_offline=True, calib_data={"x": given["x"][:7]})
    assert bare.calibrated_on == 7  # no labels: all of it


def test_the_seed_decides_and_nothing_else() -> None:
    words: dict[str, Any] = {"quantize_input_offline": True, "batch_size": 4, "input_bits_width": 3, "num_sample": 9}
    first, again = (fb.simulate(_FILE, data(), **words) for _ in range(2))
    assert first.to_json() == again.to_json()
    other = fb.simulate(_FILE, data(), fixed_random_seed=8, **words)
    assert other.ranges != first.ranges  # the same samples in other batches


def test_each_calibration_epoch_can_be_evaluated() -> None:
    found = fb.simulate(_FILE, data(), quantize_input_offline=True, eval_per_calib=True, calib_epoch=2, batch_size=8)
    assert len(found.epochs) == 2 and found.epochs[-1] is found.result


def test_unsigned_inputs_below_zero_are_told() -> None:
    told = "1 of the simulated layers read values below zero, which unsigned inputs cut off"
    with pytest.warns(fb.FewbitWarning, match="that is what most of the loss comes from: of 60 samples ") as said:
        found = fb.simulate(_FILE, data(), exclude_first_conv=False)
    assert found.notes == () and found.warnings == (str(said[0].message),)
    assert found.warnings[0].startswith(told) and found.warnings[0].endswith(" % with input_signed")
    assert found.text().endswith(f"\nwarning: {found.warnings[0]}")
    assert found.to_json()["warnings"] == list(found.warnings)
    kept, signed = (float(x) for x in re.findall(r"([0-9.]+) %", found.warnings[0]))
    better = fb.simulate(_FILE, data(), exclude_first_conv=False, input_signed=True)
    assert better.result.agreement is not None and found.result.agreement is not None
    assert (kept, signed) == pytest.approx(
        (100 * found.result.agreement.rate, 100 * better.result.agreement.rate), abs=0.06
    )
    with pytest.warns(fb.FewbitWarning, match=told) as said:
        grid = sweep(_FILE, data(), GRID, exclude_first_conv=False, quantize_input_offline=False)
    assert len(said) == 1 and grid.notes[0].startswith(told)


def test_a_small_loss_by_unsigned_inputs_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulated_signs, "LARGE", 0.9)
    found = fb.simulate(_FILE, data(), exclude_first_conv=False)
    assert found.warnings == () and found.notes[0].endswith("cut off; if that costs too much, say input_signed")


def test_a_loss_that_signs_do_not_win_back_is_not_blamed_on_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulated_signs, "WON", 0.9)
    found = fb.simulate(_FILE, data(), exclude_first_conv=False)
    assert found.warnings == ()
    assert found.notes[0].endswith("that is not what the loss comes from: with input_signed it is about the same")


def test_it_says_what_became_of_images(tmp_path: Path) -> None:
    folder = tmp_path / "photos" / "0"
    folder.mkdir(parents=True)
    for i in range(3):
        Image.new("L", (9, 7), 40 * i).save(folder / f"{i}.png")
    made = proto([node("Flatten", "x", "f"), node("Gemm", "f u", "y", "fc", transB=1)], [info("x", ["n", 1, 5, 5])],
                 [info("y", ["n", 3])], {"u": weight(3, 25)})  # fmt: skip
    onnx.save(made, tmp_path / "gray.onnx")
    words: dict[str, Any] = {"image_to_format": "GRAY", "normalize_mean": (72.9,), "normalize_std": (90.0,)}
    found = fb.simulate(tmp_path / "gray.onnx", folder.parent, input_signed=True, **words)
    assert "fed with   images: resized to 5x5, LINEAR GRAY, (pixel - 72.9) / 90\n" in found.text()
    assert found.to_json()["images"] == {
        "colour": "GRAY", "width": 5, "height": 5, "divisor": 1, "mean": [72.9], "std": [90.0], "shorter": None,
        "resize": [5, 5], "method": "LINEAR",
    }  # fmt: skip
    assert fb.simulate(_FILE, data(), input_signed=True).to_json()["images"] is None


def test_what_it_says_of_a_data_set_is_what_was_done(tmp_path: Path) -> None:
    """A hand-made evaluation with these numbers, on these samples, finds the same."""
    root = write_fashion(tmp_path, 100, 40)
    made = proto([node("Flatten", "x", "f"), node("Gemm", "f u", "y", "fc", transB=1)], [info("x", ["n", 1, 28, 28])],
                 [info("y", ["n", 10])], {"u": weight(10, 784)})  # fmt: skip
    onnx.save(made, tmp_path / "net.onnx")
    words: dict[str, Any] = {"dataset": "fashion-mnist", "dataset_root": root, "input_bits_width": 2}
    words |= {"input_signed": True, "quantize_input_offline": True, "num_sample": 1}
    found = fb.simulate(tmp_path / "net.onnx", limit=20, **words)
    assert found.data == "fashion-mnist, 20 test images, drawn by seed 7, as many of each class"
    assert "images: 28x28 GRAY, (pixel / 255 - 0.286) / 0.353" in found.text()
    found.save(tmp_path / "sim.onnx")
    told = found.to_json()["images"]
    images = open_dataset("fashion-mnist", root, split="test").subset(limit=20, seed=7)
    pixels = images.images().transpose(0, 3, 1, 2).astype(np.float32)
    x = (pixels / np.float32(told["divisor"]) - np.float32(told["mean"][0])) / np.float32(told["std"][0])
    y = open_runner("onnxruntime", fb.load(tmp_path / "sim.onnx")).run({"x": x})["y"]
    assert (y.argmax(1) == images.labels).mean() == found.top1


def test_a_network_without_batchnorm_is_told() -> None:
    fused = fb.fuse(fb.load(_FILE))
    found = fb.simulate(fused, data(), merge_bn=True)
    assert found.notes == (
        "the network holds no BatchNorm: it was merged before, or there never was one; merge_bn changes nothing",
    )


def test_a_fixed_batch_is_kept_to(tmp_path: Path) -> None:
    file = save(tmp_path, 4)
    given = data()
    with pytest.warns(fb.FewbitWarning, match="batches of exactly 4; left out 2"):
        part = {k: v[:58] for k, v in given.items()}
        found = fb.simulate(file, part, quantize_input_offline=True, calib_data=given, num_sample=3)
    assert found.result.samples == 56 and found.calibrated_on == 8
    assert fb.simulate(file, given, limit=31).result.samples == 28
    with pytest.raises(DataError, match=r"batches of exactly 4, and there are 3 samples to calibrate on; raise num_s"):
        fb.simulate(file, given, quantize_input_offline=True, num_sample=1)


def test_a_data_set_is_evaluated_on_its_test_part_and_calibrated_on_the_other(tmp_path: Path) -> None:
    root = write_fashion(tmp_path / "fashion", 60, 40)
    inputs = [TensorInfo("x", np.dtype(np.float32), ("n", 1, 28, 28))]
    config = SimulateConfig(quantize_input_offline=True, num_sample=2, batch_size=16)
    sets = open_sets(inputs, None, DataConfig(), "fashion-mnist", root, None, 30, config)
    assert sets.name == "fashion-mnist, 30 test images, drawn by seed 7, as many of each class"
    assert sum(len(b.names) for b in sets.test) == 30
    feeds = sets.calibration(config)
    assert [len(f["x"]) for f in feeds] == [16, 4]
    assert sets.calibration(config) is feeds
    test = np.concatenate([b.feeds["x"] for b in sets.test])
    assert not any((test == x).all((1, 2, 3)).any() for x in feeds[0]["x"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"data": None}, "neither is given; say data or dataset"),
        ({"dataset": "fashion-mnist"}, "both are given"),
        ({"dataset_root": "x"}, "say which with dataset"),
        ({"data": None, "dataset": "fashon-mnist"}, "did you mean 'fashion-mnist'"),
        ({"data": None, "dataset": "fashion-mnist", "calib_data": "x"}, "has a training part"),
        ({"data": None, "dataset": "fashion-mnist", "image_to_format": "BGR"}, "a dataset is read in its own way"),
        ({"calib_data": "x"}, "add quantize_input_offline"),
        ({"limit": 0}, "limit is 0; it must be 1 or more"),
        ({"use_gn": True}, "use_gn is a variant of reference networks"),
        ({"device": "cuda"}, "networks from files are simulated on the CPU"),
        ({"quant_typ": "layer"}, "did you mean 'quant_type'"),
        ({"quant_type": "chanel"}, "did you mean 'channel'"),
        ({"input_bits_width": 17}, "input_bits_width is 17; it must be a whole number from 1 to 16"),
        ({"weight_bits_width": 0}, "weight_bits_width is 0"),
        ({"wino_quantize": "F43"}, "quant_type is 'layer': say quant_type 'channel', or leave wino_quantize out"),
        ({"calib_mode": "kl"}, "calib_mode is about ranges.*add quantize_input_offline, or leave calib_mode out"),
        ({"num_sample": 3}, "num_sample is about ranges"),
        (
            {"quantize_input_offline": True, "calib_mode": "kl", "calib_epoch": 2},
            "calib_epoch is for calib_mode 'naive'",
        ),
        ({"quantize_input_offline": True, "calib_mode": "kl", "eval_per_calib": True}, "'kl' counts once"),
        ({"fixed_random_seed": -1}, "fixed_random_seed is -1"),
    ],
)
def test_words_that_cannot_be_meant_are_refused(words: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        fb.simulate(_FILE, words.pop("data", data(9)), **words)


def test_a_network_that_is_nowhere_is_refused() -> None:
    with pytest.raises(fb.FewbitError, match="there is no file"):
        fb.simulate("nowhere.onnx", data(9))


# -- sweeps ----------------------------------------------------------------------------------------------------------

GRID = {"bits": (8, 2), "quant_type": ("layer", "channel"), "calib_mode": ("naive",), "merge_bn": (False,)}


def test_a_sweep_is_the_same_as_single_simulations() -> None:
    found = sweep(_FILE, data(), GRID, batch_size=16)
    assert [(r.bits, r.quant_type, r.ranges) for r in found.rows] == [
        (8, "layer", "naive"), (2, "layer", "naive"), (8, "channel", "naive"), (2, "channel", "naive"),
    ]  # fmt: skip
    alone = fb.simulate(
        _FILE, data(), input_bits_width=2, weight_bits_width=2, quantize_input_offline=True, batch_size=16
    )
    row = found.rows[1]
    assert (row.top1, row.drop) == (alone.top1, alone.drop)
    assert found.top1 == pytest.approx(0.8)
    assert found.notes == ("calibrated on samples that it is evaluated on as well; give others with calib_data",)


def test_an_interrupted_sweep_goes_on(tmp_path: Path) -> None:
    store = tmp_path / "out.sweep"

    def stop(what: str, done: int, of: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep(_FILE, data(), GRID, store=store, say=stop)
    assert store.exists()
    seen: list[tuple[str, int, int]] = []
    found = sweep(_FILE, data(), GRID, store=store, say=lambda *a: seen.append(a))
    assert not store.exists()
    assert found == sweep(_FILE, data(), GRID)
    assert seen[0] == ("u8/w8 layer naive", 0, 4)


def test_what_was_kept_is_not_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fewbit.api import sweeping

    store, runs = tmp_path / "out.sweep", []
    one = sweeping.one
    monkeypatch.setattr(sweeping.Kept, "remove", lambda self: None)
    first = sweep(_FILE, data(), GRID, store=store)
    monkeypatch.setattr(sweeping, "one", lambda *a, **k: runs.append(a[2]) or one(*a, **k))
    more = sweep(_FILE, data(), GRID | {"bits": (8, 2, 4)}, store=store)
    assert [c.weight_bits_width for c in runs] == [4, 4]
    assert set(first.rows) < set(more.rows)


@pytest.mark.parametrize("text", ["", "[]", '{"fewbit_sweep": 1}', '{"fewbit_sweep": 1, "about": 0, "rows": 3}'])
def test_progress_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "s").write_text(text)
    with pytest.raises(UsageError, match="holds no progress of a sweep; remove it"):
        sweep(_FILE, data(), GRID, store=tmp_path / "s")


@pytest.mark.parametrize("other", [{"data": 30}, {"limit": 20}])
def test_progress_on_other_data_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: dict[str, int]
) -> None:
    from fewbit.api import sweeping

    with monkeypatch.context() as m:
        m.setattr(sweeping.Kept, "remove", lambda self: None)
        sweep(_FILE, data(), {**GRID, "bits": (8,)}, store=tmp_path / "s", limit=40)
    with pytest.raises(UsageError, match="of another network, or on other data; remove it to start anew"):
        sweep(_FILE, data(other.get("data", 60)), GRID, store=tmp_path / "s", limit=other.get("limit", 40))


def test_the_axes_of_a_sweep() -> None:
    assert len(swept({}, {})) == 5 * 2 * 2 * 2
    assert all(c.quantize_input_offline for c in swept({}, {}))
    pinned = swept({"quant_type": "channel", "merge_bn": True}, {"bits": (4,)})
    assert [(c.quant_type, c.merge_bn, c.calib_mode) for c in pinned] == [
        ("channel", True, "naive"), ("channel", True, "kl"),
    ]  # fmt: skip
    online = swept({"quantize_input_offline": False}, {"bits": (4,)})
    assert {c.quantize_input_offline for c in online} == {False} and len(online) == 4
    epochs = swept({"calib_epoch": 2}, {"bits": (4,), "quant_type": ("layer",), "merge_bn": (False,)})
    assert [(c.calib_mode, c.calib_epoch) for c in epochs] == [("naive", 2), ("kl", 3)]
    assert {(c.input_bits_width, c.weight_bits_width) for c in swept({}, {"bits": (5, 3)})} == {(5, 5), (3, 3)}


@pytest.mark.parametrize(
    ("words", "axes", "message"),
    [
        (
            {"quant_type": "layer"},
            {"quant_type": ("layer",)},
            "quant_type and the axis quant_type of the sweep say the s",
        ),
        ({"weight_bits_width": 4}, {}, "a sweep gives inputs and weights the same width; leave weight_bits_width out"),
        ({"eval_per_calib": True}, {}, "leave it out of a sweep"),
        ({}, {"bits": ()}, "the axis bits of the sweep is empty"),
        ({}, {"bits": (4, 4)}, "holds a value twice"),
        ({}, {"calib_mode": ("naiv",)}, "did you mean 'naive'"),
        ({"wino_quantize": "F23"}, {}, "wino_quantize 'F23' quantizes channel by channel"),
    ],
)
def test_axes_that_cannot_be_meant_are_refused(words: dict[str, Any], axes: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigError, UnknownName), match=message):
        swept(words, axes)


def test_a_sweep_config_takes_single_values() -> None:
    assert SweepConfig(bits=4).bits == (4,)  # type: ignore[arg-type]
