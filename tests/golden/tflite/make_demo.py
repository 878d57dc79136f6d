"""Write fewbit's demo network as TFLite's converter would write it in int8: examples/tflite/demo-int8.tflite.

PYTHONPATH=src:. python tests/golden/tflite/make_demo.py

Ranges are the smallest and largest numbers on the demo's calibration images. ONNX pads a convolution of stride 2 alike
at both ends, TFLite's SAME does not, so that it is a PAD and VALID.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import fewbit as fb
from fewbit.data.demo import DEMO_MODEL, demo_calibration
from fewbit.engines import open_runner
from fewbit.graph.model import attr, const
from tests.frontends.tflite.cases import C2, DW, FC, SAME, VALID, conv
from tests.frontends.tflite.integers import scale_of, to_whole
from tests.frontends.tflite.nets import Net
from tests.frontends.tflite.one import Fed

OUT = Path(__file__).parents[3] / "examples" / "tflite" / "demo-int8.tflite"
ACTS = {"Relu": 1, "Clip": 3}


def main() -> None:
    """Write the file."""
    model = fb.fuse(fb.load(DEMO_MODEL))
    names = [str(n.outputs[0].name) for n in model.nodes]
    images = demo_calibration()["image"]
    seen = open_runner("onnxruntime", model.with_outputs(names)).run({"image": images})
    steps = {n: scale_of(x, "int8") for n, x in {**seen, "image": images}.items()}
    first = (1, 28, 28, 1)
    net = Net(image=Fed(first, "int8", *steps["image"], free=(-1, *first[1:])))
    at: dict[str, tuple[str, str]] = {
        "image": ("image", "image")
    }  # value → its tensor, and the value whose steps it has
    nodes, done = model.nodes, set[str]()
    for node in nodes:
        if node.name in done:
            continue
        out, act = node.outputs[0], 0
        readers = [n for n, _ in out.uses()]
        if node.op_type in ("Conv", "Add") and len(readers) == 1 and readers[0].op_type in ACTS:
            act, out = ACTS[readers[0].op_type], readers[0].outputs[0]
            done.add(str(readers[0].name))
        at[str(out.name)] = one(net, node, act, str(out.name), at, steps, seen)
    last = str(model.outputs[0].name)
    scores = net.add("DEQUANTIZE", [at[last][0]], (1, 10), name=last, free=(-1, 10))
    OUT.write_bytes(net.file(scores))
    print(OUT, OUT.stat().st_size)


def one(net: Net, node: Any, act: int, out: str, at: Any, steps: Any, seen: Any) -> tuple[str, str]:
    """Add a layer; gives its tensor and the value whose steps it has."""
    x, owner = at[str(node.inputs[0].name)]
    shape = (1, *(seen[out].shape[k] for k in (2, 3, 1))) if seen[out].ndim == 4 else (1, seen[out].shape[1])
    scale, zero = steps[out]
    how = {"dtype": "int8", "scale": scale, "zero": zero, "free": (-1, *shape[1:]), "name": out.strip("/")}
    fused = {"fusedActivationFunction": act}
    if node.op_type == "Add":
        return net.add("ADD", [x, at[str(node.inputs[1].name)][0]], shape, "AddOptions", fused, **how), out
    if node.op_type == "GlobalAveragePool":
        axes = net.const(np.asarray([1, 2], np.int32))
        return net.add(
            "MEAN", [x, axes], (1, shape[3]), "ReducerOptions", {"keepDims": False}, **{**how, "free": (-1, shape[3])}
        ), out
    if node.op_type == "Flatten":
        return x, owner
    weight, bias = (const(v) for v in node.inputs[1:3])
    group, deep = int(attr(node, "group", 1)), int(attr(node, "group", 1)) > 1
    flat = node.op_type == "Gemm"
    w = weight if flat else weight.transpose((1, 2, 3, 0) if deep else (0, 2, 3, 1))
    axis = 3 if deep else 0
    over = None if flat else tuple(a for a in range(4) if a != axis)
    by = np.asarray(np.abs(w).max(over) / 127, np.float32)
    spread = () if flat else tuple(-1 if a == axis else 1 for a in range(4))
    stored = net.const(to_whole(w, by.reshape(spread), 0, "int8"), scale=by, axis=axis)
    both = np.float32(steps[owner][0]) * by
    added = net.const(np.round(bias / both).astype(np.int32), scale=both)
    if flat:
        return net.add("FULLY_CONNECTED", [x, stored, added], shape, FC, {"fusedActivationFunction": 0},
                       **{**how, "name": f"{out}_int8"}), out  # fmt: skip
    stride = int(attr(node, "strides")[0])
    pad = VALID if w.shape[1] == 1 else SAME
    if stride > 1 and w.shape[1] > 1:
        sizes, pad = net.tensors[x].shape, VALID
        wide = (1, sizes[1] + 2, sizes[2] + 2, sizes[3])
        ends = net.const(np.asarray([[0, 0], [1, 1], [1, 1], [0, 0]], np.int32))
        old = {"dtype": "int8", "scale": steps[owner][0], "zero": steps[owner][1], "free": (-1, *wide[1:])}
        x = net.add("PAD", [x, ends], wide, "PadOptions", **old)
    options = conv(pad, stride, act, **({"depthMultiplier": 1} if deep else {}))
    assert group in (1, w.shape[3])
    op, kind = ("DEPTHWISE_CONV_2D", DW) if deep else ("CONV_2D", C2)
    return net.add(op, [x, stored, added], shape, kind, options, **how), out


if __name__ == "__main__":
    main()
