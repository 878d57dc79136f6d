from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fewbit.errors import ConfigError, DataError, EmptyData, FewbitWarning, NotCalibrated, UnknownName, UsageError
from fewbit.torch import methods
from fewbit.torch.bind import METHODS
from fewbit.torch.calibrate import calibrate_inputs, inputs_of
from fewbit.torch.convert import convert_model
from fewbit.torch.merging import merge_bn
from tests.torch.small_nets import made


def converted(**words: Any) -> tuple[nn.Module, Tensor]:
    net, x = made("plain")
    return convert_model(net, **({"input_signed": True} | words)), x


def ranges(net: nn.Module) -> list[float]:
    return [float(q.hi) for q in methods.act_quantizers(net).values()]


def test_update_ema_keeps_most_of_the_old_range() -> None:
    net, x = converted()
    net.eval()
    net(x)
    net.update_ema()
    first = ranges(net)
    assert first[0] == pytest.approx(float(x.abs().amax((1, 2, 3)).mean()))
    net(3 * x)
    net.update_ema()
    assert ranges(net)[0] == pytest.approx(0.9 * first[0] + 0.1 * 3 * first[0])
    net.update_ema(momentum=0)
    assert ranges(net)[0] == pytest.approx(3 * first[0])
    with pytest.raises(ConfigError, match=r"momentum is 1\.5"):
        net.update_ema(1.5)


def test_before_any_batch() -> None:
    net, x = converted()
    with pytest.raises(NotCalibrated, match=r"run net\(x\) before update_ema"):
        net.update_ema()
    with pytest.raises(NotCalibrated, match=r"0\.input_quantizer has no range to fix; run batches and update_ema"):
        net.fix_params()
    assert not net[0].weight_quantizer.frozen
    net.quantize_input(online=False)
    with pytest.raises(NotCalibrated):
        net(x)


def test_online_takes_the_range_of_the_batch_and_offline_the_stored_one() -> None:
    net, x = converted(input_width=3)
    net.eval().qparams_init(x)
    with torch.no_grad():
        online = net(x)
        net.quantize_input(online=False)
        assert torch.equal(net(x), online)
        offline = net(5 * x)
        net.quantize_input(online=True)
        assert not torch.equal(net(5 * x), offline)
        net.quantize_input(False)
        assert [q.enabled for q in methods.act_quantizers(net).values()] == [False] * 3
        assert not torch.equal(net(x), online)


def test_qparams_init() -> None:
    net, x = converted()
    flags = [q.get_extra_state() for q in methods.act_quantizers(net).values()]
    net.qparams_init(x)
    assert net.training and flags == [q.get_extra_state() for q in methods.act_quantizers(net).values()]
    first = ranges(net)
    net.qparams_init(2 * x)
    assert ranges(net)[0] == pytest.approx(2 * first[0])  # nothing of the first sample is left
    net.fix_params()
    net.qparams_init()
    assert ranges(net) == [0, 0, 0] and not net[0].weight_quantizer.frozen
    with pytest.raises(NotCalibrated):
        net.update_ema()


def test_qparams_init_with_learned_steps() -> None:
    net, x = converted(learned=True, weight_width=3, input_width=3)
    net.qparams_init(x)
    steps = [q.scale.item() for q in methods.act_quantizers(net).values()]
    assert steps[0] == pytest.approx(2 * float(x.abs().mean()) / 3**0.5, rel=1e-5)
    net.eval()(x)  # ready to evaluate
    optimizer = torch.optim.SGD(net.parameters(), 0.1)
    net.train()(x).square().sum().backward()
    optimizer.step()
    moved = [q.scale.item() for q in methods.act_quantizers(net).values()]
    assert moved != steps
    net.update_ema()  # does not touch what is learned
    net.quantize_input(online=True)
    assert moved == [q.scale.item() for q in methods.act_quantizers(net).values()]
    assert not net[0].input_quantizer.online


@pytest.mark.parametrize(
    "words", [{}, {"fake_bn": True}, {"fake_bn": "running"}, {"wino_quantize": "F23"}, {"learned": True}]
)
def test_fixed_parameters_stay(words: dict[str, Any]) -> None:
    net, x = converted(weight_width=4, **words)
    net.qparams_init(x)
    net.eval().quantize_input(online=False)
    with torch.no_grad():
        want = net(x)
        net.fix_params()
        assert torch.equal(net(x), want)
    scales = [q.scale.clone() for q in methods.weight_quantizers(net).values()]
    before = ranges(net)
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], 0.1)
    net.train()(10 * x).square().mean().backward()
    optimizer.step()
    net(10 * x)
    net.update_ema()
    assert ranges(net) == before
    assert all(torch.equal(a, q.scale) for a, q in zip(scales, methods.weight_quantizers(net).values(), strict=True))


def test_fixed_parameters_are_freed() -> None:
    net, x = converted(learned=True)
    net.qparams_init(x)
    net.fix_params()
    assert "w8 per channel fixed" in net.quantization_report()["0"].how
    net.qparams_init(x)
    assert "w8 per channel learned" in net.quantization_report()["0"].how
    assert all(p.requires_grad for p in net.parameters())
    assert all(q.observing for q in methods.act_quantizers(net).values())


def test_what_an_unsigned_format_cuts_off_is_told() -> None:
    net, x = converted(input_signed=False)
    assert "cut off" not in str(net.quantization_report())
    net.calibrate_inputs([x])
    report = net.quantization_report()
    assert f"values down to {float(x.min()):.3g} are cut off at 0" in report["0"].how
    assert "cut off" not in report["3"].how and "cut off" not in report["8"].how


def test_activations_count_as_blocks() -> None:
    from fewbit.torch.converters import gen_act_converter

    net, x = made("plain")
    convert_model(net, convert_fn={nn.ReLU: gen_act_converter(2)}, input_signed=True)
    assert [name for name, _ in net.collect_quantized_blocks()] == ["0", "2", "3", "8"]
    net.eval()
    levels = len(net[:3](x).unique())
    assert levels <= 4
    net.disable_quantize()
    assert len(net[:3](x).unique()) > 4


@pytest.mark.parametrize("name", sorted(set(METHODS) - {"collect_quantized_blocks", "merge_bn", "quantization_report"}))
def test_a_float_network_is_told(name: str) -> None:
    arguments = ([torch.ones(1)],) if name == "calibrate_inputs" else ()
    with pytest.raises(UsageError, match=r"nothing in this Linear is quantized; call convert_model\(net\) before"):
        METHODS[name](nn.Linear(2, 2), *arguments)


# Methods of the network


def test_every_function_is_a_method_and_the_network_stays_of_its_class() -> None:
    net, _ = converted()
    assert all(callable(getattr(net, name)) for name in METHODS)
    assert isinstance(net, nn.Sequential) and type(net).__name__ == "Sequential"
    assert not hasattr(nn.Sequential(), "update_ema")
    assert not any("fewbit" in key for key in net.state_dict())


def test_methods_of_a_copy_act_on_the_copy() -> None:
    net, x = converted()
    other = copy.deepcopy(net)
    other(x)
    other.update_ema()
    other.disable_quantize()
    assert ranges(net) == [0, 0, 0] and ranges(other)[0] > 0
    assert net[0].quantize_enabled and not other[0].quantize_enabled
    assert str(other.quantization_report()) != str(net.quantization_report())


def test_a_pickled_network_comes_back_whole() -> None:
    net, x = converted(fake_bn=True)
    net.eval()(x)
    net.update_ema()
    for data in (pickle.dumps(net), _saved(net)):
        other = pickle.loads(data) if data[:2] != b"PK" else torch.load(io.BytesIO(data), weights_only=False)
        assert torch.equal(other(x), net(x))
        other.disable_quantize()
        assert net[0].quantize_enabled and not other[0].quantize_enabled


def _saved(net: nn.Module) -> bytes:
    buffer = io.BytesIO()
    torch.save(net, buffer)
    return buffer.getvalue()


def test_a_state_dict_is_read_without_pickle_and_carries_the_flags() -> None:
    net, x = converted()
    net.eval().qparams_init(x)
    net.quantize_input(online=False)
    buffer = io.BytesIO()
    torch.save(net.state_dict(), buffer)
    buffer.seek(0)
    other, _ = converted()
    other.eval().load_state_dict(torch.load(buffer, weights_only=True))
    assert torch.equal(other(x), net(x)) and not other[0].input_quantizer.online


def test_names_that_the_network_has_stay_its_own() -> None:
    class Own(nn.Sequential):
        def update_ema(self) -> str:
            return "own"

    net = Own(nn.Linear(2, 2))
    with pytest.warns(FewbitWarning, match="Own has its own update_ema; fewbit's are in fewbit.torch"):
        convert_model(net)
    assert net.update_ema() == "own"
    net.disable_quantize()


# Calibration


def test_naive_calibration_is_epochs_of_ema() -> None:
    net, x = converted()
    by_hand = copy.deepcopy(net).eval()
    batches = [(x, "label"), (2 * x, "label")]
    with torch.no_grad():
        for _ in range(3):
            for batch, _ in batches:
                by_hand(batch)
                by_hand.update_ema()
    net.calibrate_inputs(batches)
    assert ranges(net) == ranges(by_hand)
    assert net.training and not net[0].input_quantizer.online


def test_kl_calibration() -> None:
    net, x = converted(input_width=4)
    x[0, 0, 0, 0] = 40.0  # one value far off
    net.calibrate_inputs([x])
    before = [q.get_extra_state() for q in methods.act_quantizers(net).values()]
    net.calibrate_inputs(iter([x]), "kl")
    assert 0 < ranges(net)[0] < 0.7 * 40  # it is cut off
    assert before == [q.get_extra_state() for q in methods.act_quantizers(net).values()]
    net.eval()(x)
    with pytest.raises(EmptyData):
        net.calibrate_inputs([], "kl")


@pytest.mark.parametrize(
    ("batches", "words", "error", "message"),
    [
        ([], {}, EmptyData, "batches holds no batch"),
        (iter([1]), {}, DataError, "batches is a generator, which can be gone through once"),
        ([1], {"mode": "entropy"}, UnknownName, "unknown mode 'entropy' .allowed: kl, naive"),
        ([1], {"epochs": 0}, ConfigError, "epochs is 0; it must be a whole number, 1 or more"),
    ],
)
def test_calibration_says_what_is_wrong(
    batches: Any, words: dict[str, Any], error: type[Exception], message: str
) -> None:
    net, _ = converted()
    with pytest.raises(error, match=message):
        calibrate_inputs(net, batches, **words)


def test_what_of_a_batch_is_input() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor, y: Tensor, z: Any = None) -> Tensor:
            return x + y

    class Any_(nn.Module):
        def forward(self, *x: Tensor) -> Tensor:
            return x[0]

    assert inputs_of(nn.Linear(1, 1), (1, 2, 3)) == (1,)
    assert inputs_of(Two(), [1, 2, 3]) == (1, 2)
    assert inputs_of(Any_(), [1, 2, 3]) == (1, 2, 3)
    assert inputs_of(Two(), {"x": 1}) == {"x": 1}


# Merging in a quantized network


@pytest.mark.parametrize("fake_bn", ["batch", "running", "frozen"])
def test_what_was_taken_in_is_merged_and_changes_nothing(fake_bn: str) -> None:
    net, x = converted(fake_bn=fake_bn, weight_width=4)
    net.eval().qparams_init(x)
    net.fix_params()
    with torch.no_grad():
        want = net(x)
        net.merge_bn()
        assert net[0].bn is None and not any(isinstance(m, nn.BatchNorm2d) for m in net.modules())
        got = net(x)
    assert float((got - want).abs().max()) < 0.02 * float(want.abs().max())  # a tie may round the other way
    merged = convert_model(merge_bn(made("plain")[0]), input_signed=True, weight_width=4)
    torch.testing.assert_close(net[0].weight, merged[0].weight, rtol=1e-6, atol=1e-7)


def test_scales_that_are_fixed_or_learned_come_after_merging() -> None:
    for words in ({}, {"learned": True}):
        net, x = converted(**words)
        net.qparams_init(x)
        net.fix_params()
        with pytest.warns(FewbitWarning, match="the scale of its weight is learned or fixed; merge before"):
            net.merge_bn()
    net, x = converted()
    net.merge_bn()
    assert not any(isinstance(m, nn.BatchNorm2d) for m in net.modules())
