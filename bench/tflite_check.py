"""Real TFLite networks read by fewbit, against their ONNX twin and against LiteRT.

python bench/tflite_check.py --segmentation FOLDER [--keep]

FOLDER holds selfie_segmentation.tflite and selfie_segmentation_landscape.tflite of the npm package
@mediapipe/selfie_segmentation@0.1.1675465747 (npm pack, then tar xzf); basic-pitch comes by zoo/fetch.py. LiteRT has no
Convolution2DTransposeBias: there the operator is written as the TRANSPOSE_CONV that it is. `--keep` writes the result.
"""

from __future__ import annotations

import argparse
import struct
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from common import table, write
from zoo.audio import chord
from zoo.fetch import wheel

import fewbit as fb
from fewbit.core.metrics import cosine, sqnr_db
from fewbit.engines import open_runner
from fewbit.frontends.tflite.schema import read_file


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    given.add_argument("--segmentation", type=Path, required=True)
    given.add_argument("--keep", action="store_true")
    args = given.parse_args()
    rows = [*pitch_rows(), *segmentation_rows(args.segmentation)]
    quantized = quantized_row(args.segmentation)
    if args.keep:
        write("tflite", {"rows": rows, "quantized": quantized}, page(rows, quantized))
    else:
        print(page(rows, quantized))


def page(rows: list[dict[str, Any]], quantized: dict[str, float]) -> str:
    """The result for people."""
    head = ("network", "operators", "TRANSPOSE there", "nodes", "Transpose here", "against", "largest error, relative")
    text = table(head, [[r[k] for k in head] for r in rows])
    return (
        text
        + "\n\nselfie_segmentation quantized with 8 drawn portraits, on 4 others, against float: "
        + (
            f"SQNR {quantized['sqnr']:.1f} dB, cosine {quantized['cosine']:.5f}, the same side of 0.5 in "
            f"{quantized['agreement']:.2%} of pixels."
        )
    )


def row(name: str, path: Path, model: Any, against: str, error: float) -> dict[str, Any]:
    ops = [o.op for o in read_file(path).operators]
    return {
        "network": name, "operators": len(ops), "TRANSPOSE there": ops.count("TRANSPOSE"), "nodes": len(model.nodes),
        "Transpose here": model.op_counts()["Transpose"], "against": against, "largest error, relative": f"{error:.1e}",
    }  # fmt: skip


def relative(got: dict[str, np.ndarray], want: dict[str, np.ndarray]) -> float:
    return max(float(np.abs(got[k] - w).max() / np.abs(w).max()) for k, w in want.items())


# -- basic-pitch ------------------------------------------------------------------------------------------------------


def pitch_rows() -> list[dict[str, Any]]:
    """Noise and chords through the TFLite file, its ONNX twin and LiteRT."""
    folder = wheel("basic-pitch", "0.4.0") / "basic_pitch" / "saved_models" / "icassp_2022"
    path = folder / "nmp.tflite"
    model = fb.load(path)
    ours, twin = open_runner("onnxruntime", model), open_runner("onnxruntime", fb.load(folder / "nmp.onnx"))
    name, file = model.inputs[0].name, path.read_bytes()
    sounds = [{name: s} for s in (noise(), *(chord(n)[0] for n in range(3)))]
    found = [(ours.run(s), twin.run(s), litert(file, s)) for s in sounds]
    return [
        row("basic-pitch", path, model, "its ONNX twin", max(relative(a, b) for a, b, _ in found)),
        row("basic-pitch", path, model, "LiteRT", max(relative(a, c) for a, _, c in found)),
    ]


def noise() -> np.ndarray:
    return (np.random.default_rng(0).standard_normal((1, 43844, 1)) / 10).astype(np.float32)


# -- segmentation -----------------------------------------------------------------------------------------------------


def segmentation_rows(folder: Path) -> list[dict[str, Any]]:
    """Drawn portraits through fewbit and LiteRT."""
    rows = []
    for name in ("selfie_segmentation", "selfie_segmentation_landscape"):
        path = folder / f"{name}.tflite"
        model, file = fb.load(path), with_known_operators(path.read_bytes())
        _, high, wide, _ = (int(d or 1) for d in model.inputs[0].shape)
        runner, pictures = open_runner("onnxruntime", model), [{"input_1": portrait(high, wide, s)} for s in range(4)]
        worst = max(relative(runner.run(p), litert(file, p)) for p in pictures)
        rows.append(row(name, path, model, "LiteRT", worst))
    return rows


def quantized_row(folder: Path) -> dict[str, float]:
    """What eight bits cost."""
    model = fb.load(folder / "selfie_segmentation.tflite")
    seen = np.concatenate([portrait(256, 256, s) for s in range(8)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        q = fb.quantize(model, {"input_1": seen}, verify=False)
    float_, whole = open_runner("onnxruntime", model), open_runner("onnxruntime", q)
    pairs = [
        (next(iter(float_.run(p).values())), next(iter(whole.run(p).values())))
        for p in ({"input_1": portrait(256, 256, s)} for s in range(100, 104))
    ]
    a, b = (np.concatenate([p[k] for p in pairs]) for k in (0, 1))
    return {
        "sqnr": float(sqnr_db(a, b)),
        "cosine": float(cosine(a, b)),
        "agreement": float(((a > 0.5) == (b > 0.5)).mean()),
    }


def portrait(high: int, wide: int, seed: int) -> np.ndarray:
    """A head and shoulders in front of a plain background, with some noise."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0 : 1 : high * 1j, 0 : 1 : wide * 1j]
    picture = np.stack([0.3 + 0.4 * y, 0.5 + 0.2 * x, 0.7 - 0.3 * y], -1)
    middle = 0.5 + 0.1 * rng.standard_normal()

    def oval(dx: float, cy: float, rx: float, ry: float) -> np.ndarray:
        return ((x - middle - dx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1

    head = oval(0, 0.4, 0.13, 0.2)
    picture[oval(0, 1.05, 0.3, 0.45)] = 0.2, 0.2, 0.5
    picture[head] = 0.85, 0.65, 0.55
    picture[head & (y < 0.3)] = 0.15, 0.1, 0.05
    for side in (-0.05, 0.05):
        picture[oval(side, 0.38, 0.02, 0.015)] = 0.1
    picture[oval(0, 0.5, 0.04, 0.012)] = 0.6, 0.2, 0.2
    return np.clip(picture + 0.02 * rng.standard_normal(picture.shape), 0, 1).astype(np.float32)[None]


# -- LiteRT -----------------------------------------------------------------------------------------------------------


def litert(file: bytes, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What LiteRT answers."""
    from ai_edge_litert.interpreter import Interpreter

    net = Interpreter(model_content=file)
    net.allocate_tensors()
    for d in net.get_input_details():
        net.set_tensor(d["index"], feeds[d["name"]])
    net.invoke()
    return {d["name"]: net.get_tensor(d["index"]) for d in net.get_output_details()}


def with_known_operators(file: bytes) -> bytes:
    """The file, with MediaPipe's Convolution2DTransposeBias written as TRANSPOSE_CONV."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(file, 0)
    graph = model.subgraphs[0]
    for operator in graph.operators:
        if not model.operatorCodes[operator.opcodeIndex].customCode:
            continue
        buffer, shape, code = schema.BufferT(), schema.TensorT(), schema.OperatorCodeT()
        sizes = np.asarray(graph.tensors[operator.outputs[0]].shape, np.int32)
        buffer.data = np.frombuffer(sizes.tobytes(), np.uint8)
        shape.shape, shape.type, shape.name = np.asarray([4], np.int32), schema.TensorType.INT32, b"size"
        shape.buffer, code.version = len(model.buffers), 3
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.TRANSPOSE_CONV
        options = schema.TransposeConvOptionsT()
        padding, options.strideW, options.strideH = struct.unpack("<3i", bytes(operator.customOptions)[:12])
        options.padding = padding - 1
        x, weight, bias = operator.inputs
        operator.inputs = np.asarray([len(graph.tensors), weight, x, bias], np.int32)
        operator.opcodeIndex, operator.customOptions = len(model.operatorCodes), None
        operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.TransposeConvOptions, options
        model.buffers.append(buffer)
        graph.tensors.append(shape)
        model.operatorCodes.append(code)
    builder = flatbuffers.Builder(len(file))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


if __name__ == "__main__":
    main()
