"""Small networks for the runners, and what the ONNX reference says about them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, parser
from onnx.reference import ReferenceEvaluator

from fewbit.graph.files import from_proto
from fewbit.graph.model import Model

ALL = {
    "conv": "float[N, 3, 8, 8] x) => (float[N, 4, 8, 8] y) { c = Conv<pads=[1, 1, 1, 1]>(x, w43) y = Relu(c)",
    "wide": "float[N, 64, 56, 56] x) => (float[N, 64, 56, 56] y) { y = Conv<pads=[1, 1, 1, 1]>(x, w6464)",
    "two inputs": "float[2, 4] a, float[2, 4] b) => (float[2, 4] s, float[2, 4] d) { s = Add(a, b) d = Sub(a, b)",
    "integers": "int64[3] i, float[2, 4] x) => (float[3, 4] y) { y = Gather(x, i)",
    "attention": "float[1, 4, 8] x) => (float[1, 4, 4] y) "
    "{ t = Transpose<perm=[0, 2, 1]>(x) m = MatMul(x, t) y = Softmax<axis=-1>(m)",
}
WEIGHTS = {"w43": (4, 3, 3, 3), "w6464": (64, 64, 3, 3)}


def proto(name: str) -> onnx.ModelProto:
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> toy ({ALL[name]} }}')
    rng = np.random.default_rng(1)
    for weight, shape in WEIGHTS.items():
        if weight in ALL[name]:
            model.graph.initializer.append(
                numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), weight)
            )
    return model


def reference(model: onnx.ModelProto, feeds: dict[str, Any]) -> dict[str, Any]:
    found = ReferenceEvaluator(model).run(None, feeds)
    return dict(zip((o.name for o in model.graph.output), found, strict=True))


def quantized_conv(zero: int = 0) -> onnx.ModelProto:
    """x → Q DQ → Conv → Relu → Q DQ → y, the last Q with this zero point."""
    text = """
        float[N, 8, 8, 8] x) => (float[N, 8, 8, 8] y) {
            xq = QuantizeLinear(x, xs, xz)
            xd = DequantizeLinear(xq, xs, xz)
            wd = DequantizeLinear<axis=0>(w, ws, wz)
            c = Conv<pads=[1, 1, 1, 1]>(xd, wd)
            r = Relu(c)
            rq = QuantizeLinear(r, ys, yz)
            y = DequantizeLinear(rq, ys, yz)
    """
    model = parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]> toy ({text} }}')
    rng = np.random.default_rng(2)
    arrays = {
        "xs": np.float32(0.02), "xz": np.uint8(128), "ys": np.float32(0.05), "yz": np.uint8(zero),
        "w": rng.integers(-127, 128, (8, 8, 3, 3)).astype(np.int8),
        "ws": np.full(8, 0.002, np.float32), "wz": np.zeros(8, np.int8),
    }  # fmt: skip
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(a), k) for k, a in arrays.items())
    for node in model.graph.node:
        node.name = node.output[0]
    return model


def looped(times: int = 3) -> Model:
    """y = x·Mᵗⁱᵐᵉˢ, the matrix a weight inside of a Loop."""
    eye = numpy_helper.from_array(np.eye(20, dtype=np.float32) * 2, "m")
    info = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("MatMul", ["v", "m"], ["v2"], name="inner"), helper.make_node("Identity", ["c"], ["c2"])],
        "body",
        [info("i", TensorProto.INT64, []), info("c", TensorProto.BOOL, []), info("v", TensorProto.FLOAT, [1, 20])],
        [info("c2", TensorProto.BOOL, []), info("v2", TensorProto.FLOAT, [1, 20])],
        [eye],
    )
    graph = helper.make_graph(
        [helper.make_node("Loop", ["n", "", "x"], ["y"], name="loop", body=body)],
        "g",
        [info("x", TensorProto.FLOAT, [1, 20])],
        [info("y", TensorProto.FLOAT, [1, 20])],
        [numpy_helper.from_array(np.array(times, np.int64), "n")],
    )
    return from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))
