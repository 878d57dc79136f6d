"""Quantized files: as Q/DQ they answer as LiteRT does; as float networks they keep the ranges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fewbit as fb
from fewbit.data.demo import demo_test
from fewbit.engines import open_runner
from fewbit.errors import AlreadyQuantized
from fewbit.graph.model import const
from tests.frontends.tflite.cases import C2, CASES, DW, FC, SAME, Case, conv, f, pool
from tests.frontends.tflite.integers import WEIGHTED, Whole, numbers, scale_of, to_whole, whole
from tests.frontends.tflite.nets import NO, Net
from tests.frontends.tflite.one import Fed, lite, read, real, run, step

EIGHT = """ABS ADD ARG_MAX AVERAGE_POOL_2D BATCH_MATMUL BATCH_TO_SPACE_ND CONCATENATION CONV_2D DEPTHWISE_CONV_2D
DEPTH_TO_SPACE ELU EQUAL EXP FULLY_CONNECTED GATHER GELU HARD_SWISH L2_NORMALIZATION LEAKY_RELU LOGISTIC LOG_SOFTMAX
MAXIMUM MAX_POOL_2D MEAN MIRROR_PAD MUL PACK PAD PADV2 PRELU REDUCE_MAX RELU RELU6 RELU_N1_TO_1 RESHAPE
RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR RSQRT SELECT_V2 SLICE SOFTMAX SPACE_TO_BATCH_ND SPACE_TO_DEPTH SPLIT
SQUARED_DIFFERENCE SQUEEZE STRIDED_SLICE SUB SUM TANH TILE TOPK_V2 TRANSPOSE TRANSPOSE_CONV UNPACK""".split()
OPS = {
    "int8": EIGHT,
    "uint8": "ADD AVERAGE_POOL_2D CONCATENATION LOGISTIC MEAN MUL PAD RESHAPE SOFTMAX".split(),
    "int16": "ADD AVERAGE_POOL_2D CONCATENATION LOGISTIC MUL PAD RESHAPE RELU6 LEAKY_RELU".split(),
}


def chosen(kind: str) -> list[Case]:
    """The first case of each operator, and all of those with weights."""
    found: dict[str, Case] = {}
    for case in CASES:
        if any(i is not None and numbers(i).dtype == np.float32 for i in case.inputs):
            found.setdefault(case.op, case)
    weighted = [c for c in CASES if c.op in WEIGHTED and c is not found[c.op]]
    return [*(found[op] for op in OPS[kind]), *(found[op] for op in WEIGHTED if op not in OPS[kind]), *weighted]


TABLE = [(kind, case) for kind in OPS for case in chosen(kind)]


@pytest.mark.parametrize(("kind", "case"), TABLE, ids=[f"{k} {c.name}" for k, c in TABLE])
def test_integers_are_within_a_step_of_litert(kind: str, case: Case) -> None:
    made = whole(case, kind)
    model, float_model = read(made.file, integers=True), read(made.file)
    found = run(model, real(made.file, made.feeds))
    assert [(i.name, i.dtype) for i in model.inputs] == [(i.name, i.dtype) for i in float_model.inputs]
    for name, want in real(made.file, made.wanted).items():
        assert found[name].dtype == want.dtype and found[name].shape == want.shape
        steps = np.abs(found[name].astype(np.float64) - want) / step(made.file, name)
        assert steps.max(initial=0) <= 1 + 1e-2  # the steps of 16 bits are near those of float32


# -- a whole network ------------------------------------------------------------------------------------------------


class Small(Net):
    """A network in integers: weights with a scale each, activations within ±4."""

    def __init__(self, kind: str) -> None:
        super().__init__(image=Fed((1, 8, 8, 3), kind, *ACT[kind]))
        self.kind = kind

    def weighted(self, op: str, x: str, w: Any, axis: int, out: tuple[int, ...], form: str, options: Any) -> str:
        other = tuple(a for a in range(w.ndim) if a != axis) if op != "FULLY_CONNECTED" else None
        scale = np.asarray(np.abs(w).max(other) / 127, np.float32)
        shape = [-1 if a == axis else 1 for a in range(w.ndim)] if other else ()
        weight = self.const(to_whole(w, scale.reshape(shape), 0, "int8"), scale=scale, axis=axis)
        channels = w.shape[axis]
        steps = np.float32(ACT[self.kind][0]) * scale
        bias = self.const(np.round(f(channels) / steps).astype(np.int32), scale=steps)
        return self.act(op, [x, weight, bias], out, form, options)

    def act(self, op: str, inputs: list[str], out: tuple[int, ...], kind: str = "", options: Any = None) -> str:
        return self.add(
            op, inputs, out, kind, options, dtype=self.kind, scale=ACT[self.kind][0], zero=ACT[self.kind][1]
        )


ACT = {"int8": (8 / 255, 0), "uint8": (8 / 255, 128)}


def small(last: str = "int8") -> bytes:
    """Convolutions, a residual, pooling, dense, softmax; `last` is the type of what comes out."""
    net = Small("int8")
    a = net.weighted("CONV_2D", "image", f(8, 3, 3, 3) / 4, 0, (1, 8, 8, 8), C2, conv(SAME, 1, 1))
    b = net.weighted(
        "DEPTHWISE_CONV_2D", a, f(1, 3, 3, 8) / 3, 3, (1, 8, 8, 8), DW, conv(SAME, 1, 3, depthMultiplier=1)
    )
    b = net.act("ADD", [a, b], (1, 8, 8, 8), "AddOptions", NO)
    b = net.act("MAX_POOL_2D", [b], (1, 4, 4, 8), "Pool2DOptions", pool(1, (2, 2), 2))
    b = net.act("RESHAPE", [b, net.const(np.asarray([1, 128], np.int32))], (1, 128), "ReshapeOptions")
    b = net.weighted("FULLY_CONNECTED", b, f(5, 128) / 9, 0, (1, 5), FC, NO)
    y = net.add("SOFTMAX", [b], (1, 5), "SoftmaxOptions", {"beta": 1.0}, dtype="int8", scale=1 / 256, zero=-128)
    if last == "float32":
        y = net.add("DEQUANTIZE", [y], (1, 5))
    return net.file(y)


FILE = small()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "small.tflite").write_bytes(FILE)
    return tmp_path / "small.tflite"


def fed() -> Any:
    x = np.random.default_rng(3).normal(size=(1, 8, 8, 3)).astype(np.float32)  # the same whichever tests are run
    return to_whole(x, *ACT["int8"], "int8")


def test_a_network_in_integers_answers_as_litert_does(path: Path) -> None:
    model, x = fb.load(path, allow_quantized=True), fed()
    assert model.inputs[0].dtype == model.outputs[0].dtype == np.float32
    assert model.nodes[0].op_type == "QuantizeLinear" and model.nodes[-1].op_type == "DequantizeLinear"
    (want,), (got,) = lite(FILE, {"image": x}).values(), run(model, real(FILE, {"image": x})).values()
    assert np.abs((want + 128.0) / 256 - got).max() <= 2 / 256
    assert model.notes == [
        "in the file, inputs and outputs are integers q that stand for real numbers: image (int8) for "
        "(q - 0)·0.03137255, softmax6 (int8) for (q + 128)·0.00390625"
    ]
    assert {const(n.inputs[0]).dtype.name for n in model.nodes if const(n.inputs[0]) is not None} == {"int8", "int32"}


def test_it_becomes_a_float_network_with_the_files_ranges(path: Path) -> None:
    model, x = fb.load(path), fed()
    assert model.inputs[0].dtype == model.outputs[0].dtype == np.float32
    assert "QuantizeLinear" not in model.op_counts()
    assert model.ranges["image"] == pytest.approx((-128 * 8 / 255, 127 * 8 / 255))
    assert model.ranges["softmax6"] == pytest.approx((0, 255 / 256))
    assert set(model.ranges) <= set(model.values())
    assert any(
        "this is the float network that they stand for (6 constants, and the ranges of" in n for n in model.notes
    )
    (want,) = lite(FILE, {"image": x}).values()
    (got,) = run(model, {"image": x * np.float32(8 / 255)}).values()
    assert np.abs((want + 128.0) / 256 - got).max() < 0.05


@pytest.mark.filterwarnings("ignore::fewbit.errors.FewbitWarning")
def test_it_is_quantized_again_without_data(path: Path) -> None:
    q = fb.quantize(path, quantize_mode="full", verify=False)
    assert sum(n.quantized for n in q.plan.nodes.values()) >= 4
    x = fed()
    (want,), (got,) = lite(FILE, {"image": x}).values(), run(q, {"image": x * np.float32(8 / 255)}).values()
    assert np.abs((want + 128.0) / 256 - got).max() < 0.05


def test_converting_keeps_the_integers(path: Path, tmp_path: Path) -> None:
    from fewbit.cli import main

    assert main(["convert", str(path), "-o", str(tmp_path / "small.onnx"), "--quiet"]) == 0
    with pytest.raises(AlreadyQuantized, match="quantized already"):
        fb.load(tmp_path / "small.onnx")
    again, x = fb.load(tmp_path / "small.onnx", allow_quantized=True), real(FILE, {"image": fed()})
    (want,), (got,) = run(fb.load(path, allow_quantized=True), x).values(), run(again, x).values()
    assert (want == got).all()


def test_what_was_converted_is_compared_with_the_float_network(path: Path, tmp_path: Path) -> None:
    fb.load(path, allow_quantized=True).save(tmp_path / "small.onnx")
    data = {"image": real(FILE, {"image": fed()})["image"]}
    assert fb.compare(fb.load(path), tmp_path / "small.onnx", data).cosine > 0.95


def test_a_float_output_behind_integers(path: Path) -> None:
    file = small("float32")
    model, x = read(file, integers=True), fed()
    assert model.outputs[0].name == "dequantize7" and model.outputs[0].dtype == np.float32
    (want,), (got,) = lite(file, {"image": x}).values(), run(model, real(file, {"image": x})).values()
    assert np.abs(want - got).max() <= 2 / 256


@pytest.mark.parametrize("integers", [False, True])
def test_an_input_that_is_an_answer_keeps_its_name(integers: bool) -> None:
    net = Net(x=Fed((1, 3), "int8", 0.1, 5))
    y = net.add("RELU", ["x"], (1, 3), dtype="int8", scale=0.1, zero=5)
    model = read(net.file("x", y), integers=integers)
    assert [i.name for i in model.inputs] == ["x"] and [o.name for o in model.outputs] == ["x", y]
    found = run(model, {"x": np.asarray([[-0.5, 0.1, 0.3]], np.float32)})
    assert np.allclose(found["x"], [[-0.5, 0.1, 0.3]]) and np.allclose(found[y], [[0, 0.1, 0.3]])


# -- a trained network ----------------------------------------------------------------------------------------------

DEMO = Path(__file__).parents[3] / "examples" / "tflite" / "demo-int8.tflite"


def test_a_trained_network_answers_alike_in_every_way() -> None:
    test = {k: x[:200] for k, x in demo_test().items()}
    x, scale, zero = test["image"].transpose(0, 2, 3, 1), *model_steps()
    q = to_whole(x, scale, zero, "int8")
    there = lite(DEMO.read_bytes(), {"image": q})["logits"].argmax(1)
    whole_ = run(fb.load(DEMO, allow_quantized=True), {"image": x})["logits"].argmax(1)
    again = run(fb.quantize(DEMO, verify=False), {"image": x})["logits"].argmax(1)
    right = [(found == test["labels"]).mean() for found in (there, whole_, again)]
    assert min(right) > 0.88
    assert (there == whole_).mean() >= 0.99 and (there == again).mean() >= 0.98


def test_openvino_takes_a_file_whose_input_has_a_zero_point() -> None:
    model, x = fb.load(DEMO, allow_quantized=True), demo_test()["image"][:50].transpose(0, 2, 3, 1)
    assert model_steps()[1] != 0
    there, here = (open_runner(e, model, threads=1).run({"image": x})["logits"] for e in ("openvino", "onnxruntime"))
    assert (there.argmax(1) == here.argmax(1)).mean() >= 0.96


def model_steps() -> tuple[float, int]:
    """Scale and zero point of the input."""
    lo, hi = fb.load(DEMO).ranges["image"]
    return (hi - lo) / 255, round(-128 - lo / ((hi - lo) / 255))


# -- weights alone --------------------------------------------------------------------------------------------------


def weights_alone(behind: bool) -> tuple[bytes, bytes]:
    """Float activations and int8 weights, read by the layers or by DEQUANTIZE; and the same with float weights."""
    files, w, d = [], f(4, 3, 3, 3), f(5, 144)
    for integers in (True, False):
        net = Net(image=Fed((1, 6, 6, 3)))

        def weight(x: Any, net: Net = net, integers: bool = integers) -> str:
            scale = np.abs(x).max() / 127
            q = to_whole(x, scale, 0, "int8")
            if not integers:
                return net.const((q * np.float32(scale)).astype(np.float32))
            stored = net.const(q, scale=scale)
            return net.add("DEQUANTIZE", [stored], x.shape) if behind else stored

        zero = [net.const(np.zeros(n, np.float32)) for n in (4, 5)]
        y = net.add("CONV_2D", ["image", weight(w), zero[0]], (1, 6, 6, 4), C2, conv(SAME))
        y = net.add("RESHAPE", [y, net.const(np.asarray([1, 144], np.int32))], (1, 144), "ReshapeOptions")
        files.append(net.file(net.add("FULLY_CONNECTED", [y, weight(d), zero[1]], (1, 5), FC, NO, name="out")))
    return files[0], files[1]


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("integers", [False, True])
def test_weights_in_integers_are_the_numbers_they_stand_for(behind: bool, integers: bool) -> None:
    stored, real = weights_alone(behind)
    model, x = read(stored, integers=integers), f(1, 6, 6, 3)
    want = lite(real, {"image": x})["out"]
    assert np.allclose(run(model, {"image": x})["out"], want, atol=1e-4)
    assert model.op_counts()["DequantizeLinear"] == (2 if integers else 0)
    assert model.op_counts()["Transpose"] == 1 and not model.ranges


def test_four_bits_are_unpacked() -> None:
    q = np.asarray([[-8, 7, 3], [1, -1, 0]], np.int8)
    pairs = (q.reshape(-1, 2) & 15).astype(np.uint8)
    net = Net(x=Fed((2, 3)))
    w = net.const((pairs[:, 0] | pairs[:, 1] << 4).astype(np.int8), scale=0.5, type="INT4", shape=(2, 3))
    zero = net.const(np.zeros(2, np.float32))
    model, x = read(net.file(net.add("FULLY_CONNECTED", ["x", w, zero], (2, 2), FC, NO, name="y"))), f(2, 3)
    assert np.allclose(run(model, {"x": x})["y"], x @ q.T * 0.5)


def test_scale_and_steps_go_together() -> None:
    scale, zero = scale_of(np.asarray([-1.0, 3.0], np.float32), "int8")
    assert to_whole(np.asarray([-1.0, 0.0, 3.0]), scale, zero, "int8").tolist() == [-128, zero, 127]
    assert Whole
