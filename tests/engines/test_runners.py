"""Both runners against the ONNX reference, and what they tell about themselves."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter

import numpy as np
import pytest
from onnx import TensorProto, helper

from fewbit.core.runner import Runner
from fewbit.engines import ENGINES, open_runner, random_feeds
from fewbit.errors import EngineError, EngineMissing, UnknownName
from fewbit.graph.files import from_proto
from tests.engines.graphs import ALL, looped, proto, quantized_conv, reference

BOTH = ("onnxruntime", "openvino")


@pytest.fixture(params=BOTH)
def engine(request: pytest.FixtureRequest) -> str:
    """Each engine that is installed."""
    pytest.importorskip(request.param)
    return str(request.param)


def conv(engine: str) -> tuple[Runner, dict[str, np.ndarray]]:
    model = from_proto(proto("conv"))
    return open_runner(engine, model), random_feeds(model, batch=2)


def test_both_are_registered() -> None:
    assert set(BOTH) <= set(ENGINES)


@pytest.mark.parametrize("optimize", [True, False])
@pytest.mark.parametrize("name", sorted(set(ALL) - {"wide"}))
def test_outputs_are_those_of_the_reference(engine: str, name: str, optimize: bool) -> None:
    model = proto(name)
    feeds = random_feeds(from_proto(model), batch=2)
    got = open_runner(engine, from_proto(model), optimize=optimize).run(feeds)
    want = reference(model, feeds)
    loose = engine == "openvino" and optimize  # bf16, where the CPU has it
    assert list(got) == list(want)
    for key in want:
        np.testing.assert_allclose(got[key], want[key], rtol=0, atol=0.1 if loose else 1e-5)


def test_bodies_of_loops_run(engine: str) -> None:
    found = open_runner(engine, looped(3), optimize=False).run({"x": np.ones((1, 20), np.float32)})
    np.testing.assert_allclose(found["y"], np.full((1, 20), 8.0))


@pytest.mark.parametrize("optimize", [True, False])
def test_a_quantized_conv_is_right_within_one_step(engine: str, optimize: bool) -> None:
    model = quantized_conv()
    feeds = random_feeds(from_proto(model))
    got = open_runner(engine, from_proto(model), optimize=optimize).run(feeds)
    np.testing.assert_allclose(got["y"], reference(model, feeds)["y"], atol=0.0501)


def test_executed_shows_the_integer_operator(engine: str) -> None:
    done = open_runner(engine, from_proto(quantized_conv())).executed()
    (layer,) = [e for e in done if "Conv" in e.op and e.op != "Convert"]
    assert layer.integer
    assert layer.op.endswith({"onnxruntime": "QLinearConv", "openvino": "Convolution"}[engine])
    assert "u8" in layer.types.split() and "s8" in layer.types.split()


def test_executed_shows_what_stays_float(engine: str) -> None:
    done = open_runner(engine, from_proto(proto("conv"))).executed()
    assert any("Conv" in e.op for e in done) and not any(e.integer for e in done)


def test_without_the_optimizer_nothing_is_integer(engine: str) -> None:
    runner = open_runner(engine, from_proto(quantized_conv()), optimize=False)
    assert not any(e.integer for e in runner.executed() if "Conv" in e.op)


def test_relu_is_merged_only_if_its_zero_point_is_the_lowest_integer() -> None:
    runner = open_runner("onnxruntime", from_proto(quantized_conv(zero=3)))
    assert not any(e.integer for e in runner.executed() if "Conv" in e.op)


def test_a_profile_adds_up_to_about_a_run(engine: str) -> None:
    model = from_proto(proto("wide"))
    runner, feeds = open_runner(engine, model), random_feeds(model)
    times = runner.profile(feeds, repeat=5)
    runs = []
    for _ in range(7):
        start = perf_counter()
        runner.run(feeds)
        runs.append(1e6 * (perf_counter() - start))
    # that the unit is right and nothing is missing; other work on the machine moves both
    assert min(runs) / 10 < sum(t.us for t in times) < min(runs) * 30
    top = max(times, key=lambda t: t.us)
    assert "Conv" in top.op and top.types.split()[0] in ("f32", "bf16")


def test_a_profile_adds_up_the_rounds_of_a_loop() -> None:
    times = open_runner("onnxruntime", looped(3)).profile({"x": np.ones((1, 20), np.float32)}, repeat=4)
    assert [t.op for t in times].count("MatMul") == 1 and "Loop" not in {t.op for t in times}


def test_many_threads_may_run_at_once(engine: str) -> None:
    runner, _ = conv(engine)
    rng = np.random.default_rng(3)
    batches = [{"x": rng.standard_normal((2, 3, 8, 8)).astype(np.float32)} for _ in range(16)]
    alone = [runner.run(b)["y"] for b in batches]
    gate = threading.Barrier(4)

    def work(i: int) -> np.ndarray:
        gate.wait()
        return runner.run(batches[i])["y"]

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(work, range(16)))
    for a, b in zip(alone, together, strict=True):
        np.testing.assert_array_equal(a, b)


WRONG = {
    "nothing": ({}, r"there is no array for input x: float32\[N, 3, 8, 8\]; given: nothing"),
    "a name": ({"X": np.zeros((1, 3, 8, 8), np.float32)}, r"unknown input 'X'.*allowed: x"),
    "a type": ({"x": np.zeros((1, 3, 8, 8))}, r"was given float64; it takes float32"),
    "channels": ({"x": np.zeros((1, 1, 8, 8), np.float32)}, r"x: float32\[N, 3, 8, 8\] was given shape \[1, 1, 8, 8\]"),
    "a rank": ({"x": np.zeros((3, 8, 8), np.float32)}, r"was given shape \[3, 8, 8\]"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_feeds_are_told_by_name(engine: str, case: str) -> None:
    feeds, message = WRONG[case]
    runner, _ = conv(engine)
    with pytest.raises(EngineError, match=message):
        runner.run(feeds)
    with pytest.raises(EngineError, match=message):
        runner.profile(feeds)


def test_a_failing_run_names_the_shapes_fed() -> None:
    runner = open_runner("onnxruntime", from_proto(proto("integers")))
    feeds = {"i": np.array([0, 1, 7]), "x": np.zeros((2, 4), np.float32)}
    with pytest.raises(EngineError, match=r"^ONNX Runtime failed on i\[3\], x\[2, 4\]: .*out of data bounds") as e:
        runner.run(feeds)
    assert "\n" not in str(e.value) and "ONNXRuntimeError" not in str(e.value)


def test_a_refused_model_is_told_in_one_line(engine: str) -> None:
    model = from_proto(proto("conv"))
    model.node(model.nodes[0].name).domain = "nowhere"
    model.ir.opset_imports["nowhere"] = 1
    with pytest.raises(
        EngineError, match=r"(ONNX Runtime refuses|OpenVINO cannot read|OpenVINO refuses) the model: ."
    ) as e:
        open_runner(engine, model)
    assert "\n" not in str(e.value)


def test_unknown_engines_and_precisions_offer_the_nearest() -> None:
    with pytest.raises(UnknownName, match="did you mean 'onnxruntime'"):
        open_runner("onnxruntme", from_proto(proto("conv")))
    with pytest.raises(UnknownName, match="unknown precision 'f23'; did you mean 'f32'"):
        ENGINES["openvino"](from_proto(proto("conv")), precision="f23")


def test_a_target_finds_its_engine() -> None:
    assert type(open_runner("onnxruntime-avx2", from_proto(proto("conv")))).__name__ == "OnnxRuntime"


def test_a_missing_engine_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "openvino", None)
    with pytest.raises(EngineMissing, match=r"OpenVINO is not installed; .*fewbit\[openvino\]"):
        open_runner("openvino", from_proto(proto("conv")))


def test_precision_f32_is_exact_on_every_cpu() -> None:
    pytest.importorskip("openvino")
    model = from_proto(proto("conv"))
    feeds = random_feeds(model)
    exact = ENGINES["openvino"](model, precision="f32").run(feeds)["y"]
    np.testing.assert_allclose(exact, reference(proto("conv"), feeds)["y"], atol=1e-5)


def test_two_threads_answer_alike(engine: str) -> None:
    runner, feeds = conv(engine)
    model = from_proto(proto("conv"))
    np.testing.assert_allclose(open_runner(engine, model, threads=2).run(feeds)["y"], runner.run(feeds)["y"], atol=1e-5)


def test_random_numbers_agree_on_the_batch_wherever_it_stands() -> None:
    shapes = {"x": ["N", 8], "state": [2, "N", "T"], "mask": ["M", "T"]}
    inputs = [helper.make_tensor_value_info(k, TensorProto.FLOAT, s) for k, s in shapes.items()]
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", inputs, [out])
    model = from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
    found = {k: x.shape for k, x in random_feeds(model, batch=3, free=5).items()}
    assert found == {"x": (3, 8), "state": (2, 3, 5), "mask": (3, 5)}
