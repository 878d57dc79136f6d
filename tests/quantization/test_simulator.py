"""The plan of a simulation and the numbers of the network that it makes, against the formulas in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fewbit.config.simulate import SimulateConfig
from fewbit.core.winograd import TRANSFORMS, inverse
from fewbit.engines import open_runner
from fewbit.errors import BadSample, EmptyData, NotCalibrated, UnknownName, UsageError
from fewbit.graph.emit_simulated import emit_simulated
from fewbit.graph.model import Model
from fewbit.quantization.simulator import (
    Simulator,
    first_convolution,
    make_simulator_plan,
    prepared,
    simulated_layers,
    with_largest,
)
from fewbit.quantization.winograd import winograd_rounded
from tests.models import Array, concat, gemm, info, load, matmul, node, proto, residual, tied, weight


def open_(model: Model) -> Any:
    return open_runner("onnxruntime", model, optimize=False)


def simulator(made: onnx.ModelProto, **words: Any) -> Simulator:
    config = SimulateConfig(**words)
    model = prepared(load(made), config)
    return Simulator(model, make_simulator_plan(model, config), config, open_)


def answer(simulator: Simulator, x: Array) -> Array:
    (y,) = simulator.runner().run({"x": x}).values()
    return y


def rounded(x: Array, scale: Any, low: int, high: int) -> Array:
    s = np.asarray(scale, np.float32)
    return (np.clip(np.rint(x / s), low, high) * s).astype(np.float32)


def input_rounded(x: Array, bits: int, signed: bool, m: float | None = None) -> Array:
    """The facts: mean over samples of max|x|; max / (2^b − 1), signed max / (2^(b−1) − 1)."""
    if m is None:
        m = np.float32(np.abs(x).reshape(len(x), -1).max(1).mean())
    if signed:
        top = 2 ** (bits - 1) - 1
        return rounded(x, m / np.float32(top), -top - 1, top)
    return rounded(x, m / np.float32(2**bits - 1), 0, 2**bits - 1)


def weight_rounded(w: Array, bits: int, axis: int | None) -> Array:
    top = 2 ** (bits - 1) - 1
    others = tuple(i for i in range(w.ndim) if i != axis) if axis is not None else None
    most = np.abs(w).max(axis=others, keepdims=True)
    return rounded(w, most.astype(np.float64) / top, -top, top)


def convolution(groups: int = 1, op: str = "Conv") -> onnx.ModelProto:
    """x → Conv(w, b) → y, 1x1, 8 channels to 8."""
    shape = (8, 8 // groups, 1, 1)
    return proto(
        [node(op, "x w b", "y", "conv", group=groups)],
        [info("x", ["n", 8, 4, 4])],
        [info("y", ["n", 8, 4, 4])],
        {"w": weight(*shape) * np.arange(1, 9, dtype=np.float32).reshape(8, 1, 1, 1), "b": weight(8)},
    )


def batchnorm() -> onnx.ModelProto:
    """x → Conv → BatchNormalization → Relu → Gemm → y"""
    return proto(
        [
            node("Conv", "x w b", "c", "conv"),
            node("BatchNormalization", "c g h m v", "n", "bn"),
            node("Relu", "n", "r", "relu"),
            node("Flatten", "r", "f", "flatten"),
            node("Gemm", "f u", "y", "fc", transB=1),
        ],
        [info("x", ["n", 8, 4, 4])],
        [info("y", ["n", 5])],
        {
            "w": weight(8, 8, 1, 1), "b": weight(8), "g": np.linspace(0.1, 20, 8, dtype=np.float32), "h": weight(8),
            "m": weight(8), "v": np.abs(weight(8)) + 0.1, "u": weight(5, 128),
        },
    )  # fmt: skip


@settings(max_examples=30)
@given(
    bits=st.integers(2, 16),
    weight_bits=st.integers(2, 16),
    signed=st.booleans(),
    channel=st.booleans(),
    transposed=st.booleans(),
)
def test_a_layer_computes_the_formulas(
    bits: int, weight_bits: int, signed: bool, channel: bool, transposed: bool
) -> None:
    x = np.random.default_rng(1).standard_normal((7, 6)).astype(np.float32) * 3
    made = gemm(trans=int(transposed))
    found = simulator(
        made, input_bits_width=bits, weight_bits_width=weight_bits, input_signed=signed,
        quant_type="channel" if channel else "layer",
    )  # fmt: skip
    w = weight(5, 6) if transposed else weight(6, 5)
    axis = (0 if transposed else 1) if channel else None
    fake = weight_rounded(w, weight_bits, axis)
    want = input_rounded(x, bits, signed) @ (fake.T if transposed else fake) + weight(5)
    np.testing.assert_allclose(answer(found, x), want, rtol=1e-4, atol=1e-4)


def test_16_bits_signed_are_nearly_float() -> None:
    x = np.random.default_rng(1).standard_normal((1, 8, 4, 4)).astype(np.float32)  # one sample: nothing is cut off
    words = {"input_bits_width": 16, "weight_bits_width": 16, "input_signed": True, "exclude_first_conv": False}
    for merge in (False, True):
        found = simulator(batchnorm(), merge_bn=merge, quant_type="channel", **words)
        want = open_(load(batchnorm())).run({"x": x})["y"]
        assert np.abs(answer(found, x) - want).max() < 2e-3 * np.abs(want).max()


def test_one_bit_has_two_levels() -> None:
    x = np.array([[-2, -1, 1, 2, 3, 4]], np.float32)
    w = weight(5, 6)
    fake = np.where(w < 0, -1, 1) * np.abs(w, dtype=np.float64).mean()
    signed = simulator(gemm(), input_bits_width=1, weight_bits_width=1, input_signed=True)
    want = np.where(x < 0, -4, 4) @ fake.T + weight(5)
    np.testing.assert_allclose(answer(signed, x), want, rtol=1e-5)
    unsigned = simulator(gemm(), input_bits_width=1, weight_bits_width=1)
    want = np.where(x / 4 > 0.5, 4, 0) @ fake.T + weight(5)
    np.testing.assert_allclose(answer(unsigned, x), want, rtol=1e-5)


@pytest.mark.parametrize(("op", "rows"), [("Conv", 4), ("ConvTranspose", 4)])
def test_group_is_one_scale_for_the_rows_of_a_group(op: str, rows: int) -> None:
    made = convolution(groups=2, op=op)
    found = simulator(made, quant_type="group", exclude_first_conv=False)
    w = made.graph.initializer[0]
    data = onnx.numpy_helper.to_array(w)
    scale = np.array(found.plan.values["w"].scale)
    want = np.abs(data.reshape(2, -1)).max(1) / 127
    np.testing.assert_allclose(scale, want.repeat(rows), rtol=1e-6)
    network = emit_simulated(found.model, found.plan).model
    (name,) = (n for n in network.graph.initializers if "rounded" in n)
    held = network.graph.initializers[name].const_value
    assert held is not None
    np.testing.assert_allclose(held.numpy(), rounded(data, scale.reshape(8, 1, 1, 1), -127, 127), rtol=1e-5)


def test_group_means_layer_for_plain_convolutions_and_channel_for_dense_layers() -> None:
    conv = simulator(convolution(), quant_type="group", exclude_first_conv=False)
    assert conv.plan.values["w"].spec.granularity == "tensor"
    for made in (gemm(), matmul()):
        assert simulator(made, quant_type="group").plan.values["w"].spec.granularity == "channel"


def test_channel_differs_from_layer() -> None:
    x = np.random.default_rng(1).random((2, 8, 4, 4)).astype(np.float32)
    words = {"weight_bits_width": 3, "exclude_first_conv": False}
    one, many = (answer(simulator(convolution(), quant_type=q, **words), x) for q in ("layer", "channel"))
    assert np.abs(one - many).max() > 0.1


def test_who_is_not_rounded_reads_what_it_read_before() -> None:
    """A residual add reads the convolution in front of it in float, though the next convolution rounds it."""
    made = proto(
        [node("Conv", "x w", "a", "conv1"), node("Conv", "a v", "b", "conv2"), node("Add", "a b", "y", "add")],
        [info("x", ["n", 3, 4, 4])],
        [info("y", ["n", 3, 4, 4])],
        {"w": weight(3, 3, 1, 1), "v": np.zeros((3, 3, 1, 1), np.float32)},
    )
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 4)).astype(np.float32)
    found = simulator(made, input_bits_width=2, weight_bits_width=2)
    assert found.plan.nodes["conv2"].quantized
    np.testing.assert_array_equal(answer(found, x), open_(load(made)).run({"x": x})["y"])


def test_which_layers_are_rounded() -> None:
    found = simulator(residual())
    assert simulated_layers(found.model, found.plan) == {
        "conv1": "the first convolution (exclude_first_conv)",
        "conv2": "",
    }
    assert set(simulated_layers(found.model, simulator(residual(), exclude_first_conv=False).plan).values()) == {""}
    assert found.plan.nodes["conv2"].roles == ("act", "weight", "keep")
    assert found.plan.nodes["conv2"].outputs == ("float",)
    assert first_convolution(load(gemm())) is None


def test_layers_can_be_left_out() -> None:
    found = simulator(concat(), exclude_first_conv=False, exclude_layers=("conv2",))
    assert simulated_layers(found.model, found.plan)["conv2"] == "excluded by exclude_layers 'conv2'"
    with pytest.raises(UnknownName, match="did you mean 'conv1'"):
        simulator(concat(), exclude_layers=("con1",))


def test_a_network_without_layers_to_round_is_refused() -> None:
    with pytest.raises(UsageError, match=r"no layer is left to simulate.*exclude_first_conv"):
        simulator(convolution())


def test_a_weight_that_two_layers_read_along_other_axes_is_rounded_for_each() -> None:
    x = np.random.default_rng(0).random((3, 6)).astype(np.float32)
    found = simulator(tied(same_axis=False), quant_type="channel", weight_bits_width=3, input_signed=True)
    w = weight(6, 6)
    h = input_rounded(x, 8, True) @ weight_rounded(w, 3, 0).T
    want = input_rounded(h, 8, True) @ weight_rounded(w, 3, 1)
    np.testing.assert_allclose(answer(found, x), want, rtol=1e-4, atol=1e-4)


def test_batchnorm_stays_or_is_merged_before_rounding() -> None:
    beside, merged = (simulator(batchnorm(), merge_bn=m, exclude_first_conv=False) for m in (False, True))
    ops = [[n.op_type for n in s.model.nodes] for s in (beside, merged)]
    assert ("BatchNormalization" in ops[0], "BatchNormalization" in ops[1]) == (True, False)
    factor = np.linspace(0.1, 20, 8) / np.sqrt(np.abs(weight(8)) + 0.1 + 1e-5)
    folded = weight(8, 8, 1, 1) * factor.reshape(8, 1, 1, 1).astype(np.float32)
    for found, w in ((beside, weight(8, 8, 1, 1)), (merged, folded)):
        made = emit_simulated(found.model, found.plan).model.graph.initializers
        (held,) = (
            v.const_value for k, v in made.items() if "rounded" in k and v.shape is not None and len(v.shape) == 4
        )
        assert held is not None
        np.testing.assert_allclose(held.numpy(), weight_rounded(w, 8, None), rtol=1e-4)


# -- ranges ----------------------------------------------------------------------------------------------------------


def test_naive_ranges_are_a_moving_average_over_batches_and_epochs() -> None:
    rng = np.random.default_rng(0)
    batches = [{"x": rng.standard_normal((4, 6)).astype(np.float32) * k} for k in (1, 5, 2)]
    found = simulator(gemm(), quantize_input_offline=True)
    for _ in range(2):
        found.epoch(batches)
    means = [float(np.abs(b["x"]).max(1).mean()) for b in batches] * 2
    want = means[0]
    for now in means[1:]:
        want = 0.1 * now + 0.9 * want
    assert found.largest == {"x": pytest.approx(want, rel=1e-6)}
    x = batches[1]["x"]
    fake = weight_rounded(weight(5, 6), 8, None)
    np.testing.assert_allclose(
        answer(found, x), input_rounded(x, 8, False, want) @ fake.T + weight(5), rtol=1e-4, atol=1e-4
    )


def test_ranges_behind_other_layers_are_measured_with_rounded_inputs() -> None:
    x = np.random.default_rng(0).random((3, 6)).astype(np.float32)
    found = simulator(tied(), input_bits_width=2, weight_bits_width=2, input_signed=True, quantize_input_offline=True)
    found.epoch([{"x": x}])
    h = input_rounded(x, 2, True) @ weight_rounded(weight(6, 6), 2, None).T
    assert found.largest["h"] == pytest.approx(np.abs(h).max(1).mean(), rel=1e-5)


def test_kl_cuts_outliers_off() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 6)).astype(np.float32)
    x[0, 0] = 60
    found = simulator(gemm(), quantize_input_offline=True, calib_mode="kl", input_bits_width=6, input_signed=True)
    found.kl([{"x": x[:200]}, {"x": x[200:]}])
    assert 2 < found.largest["x"] < 20
    assert found.final_plan().params("x").scale == pytest.approx(found.largest["x"] / 31)


def test_values_below_zero_are_found() -> None:
    x = np.random.default_rng(0).random((3, 6)).astype(np.float32)
    found = simulator(tied(), quantize_input_offline=True)
    assert found.below_zero({"x": x}) == ["h"]
    assert found.below_zero({"x": x - 1}) == ["x", "h"]


def test_data_that_is_no_data_is_refused() -> None:
    found = simulator(gemm(), quantize_input_offline=True)
    bad = {"x": np.full((2, 6), np.inf, np.float32)}
    with pytest.raises(BadSample, match="what layers read as 'x' holds NaN or infinity"):
        found.epoch([bad])
    with pytest.raises(BadSample, match="NaN or infinity"):
        found.kl([bad])
    for measure in (found.epoch, found.kl):
        with pytest.raises(EmptyData, match="holds no batch"):
            measure([])


def test_a_plan_with_ranges_survives_its_file(tmp_path: Any) -> None:
    found = simulator(gemm(), input_bits_width=4, weight_bits_width=3, quant_type="channel")
    plan = with_largest(found.plan, {"x": 2.5})
    plan.save(tmp_path / "plan.json")
    again = type(plan).load(tmp_path / "plan.json")
    x = np.random.default_rng(0).random((3, 6)).astype(np.float32)
    one, two = (open_(emit_simulated(found.model, p).model).run({"x": x})["y"] for p in (plan, again))
    np.testing.assert_array_equal(one, two)
    with pytest.raises(NotCalibrated, match="value 'x' has no range"):
        emit_simulated(found.model, with_largest(found.plan, {}))


def test_opset_17_and_18_measure_alike() -> None:
    x = np.random.default_rng(0).random((3, 32)).astype(np.float32)
    one, two = (answer(simulator(matmul(opset=o), input_bits_width=3), x) for o in (17, 18))
    np.testing.assert_array_equal(one, two)


# -- Winograd --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", TRANSFORMS)
def test_winograd_matrices_convolve(kind: str) -> None:
    """G of F(m×m, 3×3) has m + 2 rows; all of them take part, and G⁺ brings back what G made."""
    g = TRANSFORMS[kind]
    assert g.shape == (int(kind[1]) + 2, 3)
    np.testing.assert_allclose(inverse(kind) @ g, np.eye(3), atol=1e-12)


@pytest.mark.parametrize("kind", TRANSFORMS)
def test_winograd_rounds_channel_by_channel(kind: str) -> None:
    w = weight(3, 4, 3, 3) * np.array([1, 10, 100], np.float32).reshape(3, 1, 1, 1)
    errors = [np.abs(winograd_rounded(w, kind, bits) - w).max((1, 2, 3)) / np.abs(w).max((1, 2, 3)) for bits in (4, 16)]
    assert errors[1].max() < 1e-3 < errors[0].min()
    assert errors[0].max() < 4 * errors[0].min()  # the same relative error in each channel
    g, back = TRANSFORMS[kind], inverse(kind)
    u = np.einsum("ai,ocij,bj->ocab", g, w.astype(np.float64), g)
    top = np.abs(u).max((1, 2, 3), keepdims=True)
    want = np.einsum("ia,ocab,jb->ocij", back, np.rint(u / (top / 7)) * (top / 7), back)
    np.testing.assert_allclose(winograd_rounded(w, kind, 4), want, rtol=1e-4, atol=1e-4)


def test_winograd_is_for_3x3_convolutions_alone() -> None:
    found = simulator(residual(), quant_type="channel", wino_quantize="F43", exclude_first_conv=False)
    assert set(found.weights) == {"w1", "w2"}
    assert not simulator(gemm(), quant_type="channel", wino_quantize="F43").weights
    kept = simulator(residual(), quant_type="channel", wino_quantize="F43")
    assert set(kept.weights) == {"w2"}
