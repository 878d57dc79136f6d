"""The training loop: what is learned, kept, stopped and gone on with."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from fewbit.config.train import TrainConfig
from fewbit.core.spec import QuantSpec
from fewbit.data.datasets.found import PlanePixels
from fewbit.data.datasets.labelled import Labelled
from fewbit.errors import EmptyData, FewbitError, ModelFormatError, UsageError
from fewbit.torch import fit as fitting
from fewbit.torch.fit import fit
from fewbit.torch.layers import QuantConv2d, QuantLinear
from fewbit.torch.optim import optimizer, rate
from fewbit.torch.quantizer import ActQuantizer, WeightQuantizer

ACT, WEIGHT = QuantSpec(4, signed=False, symmetric=False), QuantSpec(4, signed=True, symmetric=True)


def images(n: int = 96, seed: int = 0) -> Labelled:
    """Noise that is brighter in one of four corners, which is the class."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n, dtype=np.int64) % 4
    x = rng.integers(0, 120, (n, 1, 8, 8))
    for i, label in enumerate(labels):
        row, column = divmod(int(label), 2)
        x[i, 0, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 100
    pixels = PlanePixels(x.astype(np.uint8))
    return Labelled("mnist", "train", pixels, np.arange(n), labels, tuple("abcd"), (0.3,), (0.3,), (1, 8, 8), "here")


def small(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Dropout(0.1), nn.Linear(128, 4)
    )


def rounded(learned: bool = False, wide: bool = False) -> nn.Module:
    """The small network with quantizers; `wide`: those of the last layer have 8 bits."""
    net = small()
    last = QuantSpec(8, signed=True, symmetric=True) if wide else WEIGHT
    ste = {"learned": learned}
    acts = [ActQuantizer(ACT, **ste) for _ in range(2)]
    for q in acts:
        q.set_range(-1.0, 3.0)
    conv = QuantConv2d.from_float(net[0], WeightQuantizer(WEIGHT, net[0].weight.shape, **ste), acts[0], net[1])
    fc = QuantLinear.from_float(net[5], WeightQuantizer(last, net[5].weight.shape, **ste), acts[1])
    return nn.Sequential(conv, net[2], net[3], net[4], fc)


def config(**words: Any) -> TrainConfig:
    return TrainConfig(**{"epochs": 4, "batch_size": 16, "augment": "none", "warmup": 1.0, "held_out": 0.25} | words)


def states_equal(a: nn.Module, b: nn.Module) -> bool:
    x, y = a.state_dict(), b.state_dict()
    return x.keys() == y.keys() and all(
        torch.equal(x[k], y[k]) if torch.is_tensor(x[k]) else x[k] == y[k] for k in x
    )  # fmt: skip


def stop_in(epoch: int) -> Callable[[str, int, int], None]:
    def say(what: str, done: int, of: int) -> None:
        if what.startswith(f"epoch {epoch} "):
            raise KeyboardInterrupt

    return say


def test_a_network_learns() -> None:
    net = small()
    found = fit(net, images(), config(epochs=8), test=images(seed=1))
    assert found.after is not None and found.after > 0.95 and found.images == 96
    assert [e.number for e in found.epochs] == list(range(1, 9))
    assert found.epochs[-1].loss < 0.3 * found.epochs[0].loss
    assert found.epochs[found.best - 1].accuracy == 1.0
    assert not net.training and found.before is None and found.float_top1 is None


def test_a_quantized_network_is_measured_before_and_after() -> None:
    net, teacher = rounded(), small()
    fit(teacher, images(), config(epochs=8))
    found = fit(net, images(), config(), test=images(seed=1), teacher=teacher)
    assert found.float_top1 is not None and found.float_top1 > 0.95
    assert found.before is not None and found.after is not None and found.after > found.before
    assert 0 < (found.won_back or 0) <= 1.2
    assert "won back" in found.text() and "float            1.0000" in found.text() and "4*" in found.text()
    few = replace(found, float_top1=(found.before or 0) + 2.5 / found.images)
    assert few.won_back is None and "won back" not in few.text()


RESUMED = {
    "float": (small, {}),
    "rounded": (rounded, {"freeze_after": 0.5}),
    "learned, in stages": (lambda: rounded(learned=True), {"progressive_bits": (8, 6), "optimizer": "adamw"}),
}


@pytest.mark.parametrize("kind", RESUMED)
@pytest.mark.parametrize("stopped", [2, 3, 4])
def test_what_was_interrupted_goes_on_to_the_same_bits(kind: str, stopped: int, tmp_path: Path) -> None:
    make, words = RESUMED[kind]
    chosen, file = config(augment="crop-flip", **words), tmp_path / "kept"
    teacher = small(1).eval()
    whole, parts = make(), make()
    wanted = fit(whole, images(), chosen, teacher=teacher, test=images(seed=1))
    with pytest.raises(KeyboardInterrupt):
        fit(parts, images(), chosen, teacher=teacher, test=images(seed=1), checkpoint=file, say=stop_in(stopped))
    assert len(torch.load(file, weights_only=True)["epochs"]) == stopped - 1
    again = make()
    found = fit(again, images(), chosen, teacher=teacher, test=images(seed=1), checkpoint=file, resume=True)
    assert states_equal(again, whole)
    figures = [(e.number, e.rate, e.loss, e.accuracy, e.bits) for e in wanted.epochs]
    assert figures == [(e.number, e.rate, e.loss, e.accuracy, e.bits) for e in found.epochs]
    assert (found.best, found.before, found.after) == (wanted.best, wanted.before, wanted.after)


def test_without_resume_training_starts_anew(tmp_path: Path) -> None:
    file = tmp_path / "kept"
    a, b = small(), small()
    fit(a, images(), config(), checkpoint=file)
    seen: list[str] = []
    fit(b, images(), config(), checkpoint=file, say=lambda what, *_: seen.append(what))
    assert seen[0].startswith("epoch 1 of 4, loss ") and states_equal(a, b)


def test_the_same_seed_gives_the_same_weights_and_leaves_the_generators_alone() -> None:
    for generator in (random.seed, np.random.seed, torch.manual_seed):
        generator(5)
    before = random.random(), np.random.random(), float(torch.rand(1))
    for generator in (random.seed, np.random.seed, torch.manual_seed):
        generator(5)
    nets = []
    for _ in range(2):
        state = torch.get_rng_state()
        nets.append(small())
        torch.set_rng_state(state)
        fit(nets[-1], images(), config(epochs=1))
    assert states_equal(*nets)
    assert (random.random(), np.random.random(), float(torch.rand(1))) == before
    other = small()
    fit(other, images(), config(epochs=1, seed=1))
    assert not states_equal(nets[0], other)


@pytest.mark.parametrize(
    ("words", "about", "says"),
    [
        ({"weight_decay": 0.1}, "a", "was made with weight_decay 0.0005, now it is 0.1; say the same, or remove it"),
        ({}, "b", "is a checkpoint of a, not of b; remove it"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused(
    words: dict[str, Any], about: str, says: str, tmp_path: Path
) -> None:
    fit(small(), images(), config(epochs=1), checkpoint=tmp_path / "kept", about="a")
    with pytest.raises(UsageError, match=says):
        fit(
            small(), images(), config(**{"epochs": 1, **words}), checkpoint=tmp_path / "kept", resume=True, about=about
        )  # fmt: skip


def test_damaged_checkpoints_are_told(tmp_path: Path) -> None:
    file = tmp_path / "kept"
    file.write_bytes(b"no tensors")
    with pytest.raises(ModelFormatError, match=r"cannot read .*kept as tensors saved by torch"):
        fit(small(), images(), config(), checkpoint=file, resume=True)
    torch.save({"a": 1}, file)
    with pytest.raises(ModelFormatError, match="kept is not a checkpoint of a training"):
        fit(small(), images(), config(), checkpoint=file, resume=True)
    fit(small(), images(), config(epochs=1), checkpoint=file)
    with pytest.raises(ModelFormatError, match=r"holds the weights of another network: .*: \"\S+\" and \d+ more$"):
        fit(nn.Sequential(nn.Flatten(), nn.Linear(64, 4)), images(), config(epochs=1), checkpoint=file, resume=True)


def test_a_checkpoint_is_never_run_as_code(tmp_path: Path) -> None:
    torch.save({"format": Path("evil")}, tmp_path / "kept")
    with pytest.raises(ModelFormatError, match="cannot read"):
        fit(small(), images(), config(), checkpoint=tmp_path / "kept", resume=True)


class Wild(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(64, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x.flatten(1)) * float("inf")


def test_a_loss_that_is_no_number_stops_training() -> None:
    with pytest.raises(FewbitError, match=r"the loss is nan in step 4 of epoch 1, at learning rate .*clip_gradient=1"):
        fit(Wild(), images(), config())


def test_no_images() -> None:
    with pytest.raises(EmptyData, match="mnist has no image to train on"):
        fit(small(), images(0), config())


def test_the_best_epoch_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shares = iter([0.5, 0.9, 0.7, 0.8])
    kept: list[Any] = []

    def judge(net: nn.Module, _: Any) -> float:
        kept.append(copy.deepcopy(net.state_dict()))
        return next(shares)

    monkeypatch.setattr(fitting, "accuracy", judge)
    net = small()
    assert fit(net, images(), config()).best == 2
    assert all(torch.equal(v, kept[1][k]) for k, v in net.state_dict().items())


def test_of_epochs_that_look_alike_the_last_one_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = iter([0.5, 0.9, 0.88, 0.87])  # of 24 images: a standard error of 0.06
    monkeypatch.setattr(fitting, "accuracy", lambda *_: next(shares))
    assert fit(small(), images(), config()).best == 4


def test_with_nothing_held_out_the_last_epoch_is_kept() -> None:
    found = fit(small(), images(), config(held_out=0))
    assert found.best == 4 and found.epochs[0].accuracy is None


def test_earlier_stages_are_never_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = iter([0.9, 0.9, 0.1, 0.2])
    monkeypatch.setattr(fitting, "accuracy", lambda *_: next(shares))
    found = fit(rounded(), images(), config(progressive_bits=(8,)))
    assert [e.bits for e in found.epochs] == [8, 8, None, None] and found.best == 4


def test_stages_change_bits_but_not_of_what_has_more(monkeypatch: pytest.MonkeyPatch) -> None:
    net, seen = rounded(learned=True, wide=True), []
    real = fitting._epoch

    def look(run: fitting.Run, number: int, say: Any) -> Any:
        row = real(run, number, say)
        seen.append([m.spec.bits for m in net.modules() if isinstance(m, (ActQuantizer, WeightQuantizer))])
        return row

    monkeypatch.setattr(fitting, "_epoch", look)
    before = [m.scale.item() for m in net.modules() if isinstance(m, ActQuantizer)]
    fit(net, images(), config(progressive_bits=(6,), learning_rate=1e-6))
    assert sorted(seen[0]) == [6, 6, 6, 8] and sorted(seen[-1]) == [4, 4, 4, 8]
    after = [m.scale.item() for m in net.modules() if isinstance(m, ActQuantizer)]
    assert all(abs(a - b) > 1e-3 for a, b in zip(before, after, strict=True))  # found anew by the error


def test_stages_are_for_quantized_networks() -> None:
    with pytest.raises(UsageError, match="progressive_bits is for quantized networks, and this one is float"):
        fit(small(), images(), config(progressive_bits=(8,)))


@pytest.mark.parametrize(("freeze_after", "still"), [(0.0, True), (1.0, False)])
def test_ranges_and_statistics_stand_still_in_the_end(freeze_after: float, still: bool) -> None:
    net = rounded()
    before = copy.deepcopy(net.state_dict())
    fit(net, images(), config(freeze_after=freeze_after))
    after = net.state_dict()
    for key in ("0.bn.running_mean", "0.input_quantizer.hi"):
        assert torch.equal(before[key], after[key]) == still, key
    net.train()
    assert net[0].input_quantizer.tracking  # as it was before


def test_labels_do_not_count_if_all_comes_from_the_teacher() -> None:
    data, wrong, teacher = images(), images(), small(1).eval()
    wrong.labels[:] = (wrong.labels + 1) % 4
    nets = []
    for each in (data, wrong):
        nets.append(small())
        fit(nets[-1], each, config(distill=1.0, held_out=0), teacher=teacher)
    assert states_equal(*nets)
    assert all(p.grad is None for p in teacher.parameters())
    alone = small()
    fit(alone, wrong, config(distill=0.0, held_out=0), teacher=teacher)
    assert not states_equal(alone, nets[1])


def test_max_batches() -> None:
    seen: list[tuple[int, int]] = []
    fit(small(), images(), config(max_batches=2), say=lambda _, done, of: seen.append((done, of)))
    assert seen == [(2, 8), (4, 8), (6, 8), (8, 8)]


def test_clip_gradient_bounds_a_step() -> None:
    moved = []
    for clip in (0.0, 1e-3):
        net = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
        with torch.no_grad():
            net[1].weight.fill_(1.0), net[1].bias.zero_()
        words = {"momentum": 0.0, "weight_decay": 0.0, "warmup": 0.0, "learning_rate": 1.0, "max_batches": 1}
        fit(net, images(), config(epochs=1, clip_gradient=clip, **words))
        moved.append((net[1].weight - 1).norm().item())
    assert moved[0] > 0.1 and moved[1] <= 1.01e-3


def test_amp_computes_in_bfloat16_and_learns_in_float32() -> None:
    net, seen = small(), []
    net[0].register_forward_hook(lambda m, x, y: seen.append((m.training, y.dtype)))
    found = fit(net, images(), config(amp=True), test=images(seed=1))
    assert (True, torch.bfloat16) in seen and (False, torch.float32) in seen
    assert {p.dtype for p in net.parameters()} == {torch.float32}
    assert found.after is not None and found.after > 0.5


def test_norms_biases_and_scales_are_not_pulled_to_zero() -> None:
    net = rounded(learned=True)
    names = {id(p): n for n, p in net.named_parameters()}
    pulled, free = (
        [names[id(p)] for p in g["params"]] for g in optimizer(net, fitting.settled(config(), True)).param_groups
    )
    assert pulled == ["0.weight", "4.weight"]
    assert {n.rpartition(".")[2] for n in free} == {"weight", "bias", "scale"} and len(pulled + free) == len(names)


def test_the_rate_rises_and_falls() -> None:
    chosen = fitting.settled(config(epochs=5, warmup=1.0), False)
    rates = [rate(chosen, t, 10) for t in range(50)]
    assert rates[0] == pytest.approx(0.01) and max(rates) == rates[9] == rates[10] == pytest.approx(0.1)
    assert rates[30] == pytest.approx(0.05) and rates[-1] < 0.001
    assert sorted(rates[10:], reverse=True) == rates[10:]


def test_a_quantized_network_has_a_lower_rate() -> None:
    assert fitting.settled(config(), True).learning_rate == 0.01
    assert fitting.settled(config(optimizer="adamw"), False).learning_rate == 2e-3
    assert fitting.settled(config(learning_rate=0.5), True).learning_rate == 0.5


def test_an_unusable_device_is_told() -> None:
    with pytest.raises(UsageError, match=r"device is 'gpu', which cannot be used here: .*'cpu' and 'auto' always can"):
        fit(small(), images(), config(device="gpu"))
