"""What tests of `emit` share: emit a plan, read what it gave, and compute the same in numpy."""

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from fewbit.core.params import QuantParams, weight_params
from fewbit.core.plan import Plan
from fewbit.graph.emit import emit_qdq
from fewbit.graph.files import to_bytes
from fewbit.graph.finalize import finalize
from fewbit.graph.model import Model, const


def message(model: Model) -> onnx.ModelProto:
    return onnx.load_from_string(to_bytes(model))


def reference(model: Model, feeds) -> dict[str, np.ndarray]:
    """Outputs by name from ONNX's own reference implementation."""
    made = message(model)
    made.opset_import[0].version = max(19, model.opset)  # it has no older Q and DQ; what they compute is the same
    return dict(zip([o.name for o in made.graph.output], ReferenceEvaluator(made).run(None, feeds), strict=True))


def stored(model: Model, name: str) -> np.ndarray:
    """An initializer of the file."""
    return next(numpy_helper.to_array(t) for t in message(model).graph.initializer if t.name == name)


def quantized(model: Model, plan: Plan) -> Model:
    return finalize(emit_qdq(model, plan), 13, {})


def steps(a, b, params: QuantParams) -> float:
    """Largest difference in quantization steps."""
    return float(np.abs(a.astype(np.float64) - b).max() / params.scale)


def fake_weight(plan: Plan, model: Model, name: str = "w") -> np.ndarray:
    w = const(model.value(name))
    return weight_params(plan.values[name].spec, w).fake(w)


def fake_bias(plan: Plan, model: Model, x: str, w: str = "w", b: str = "b") -> np.ndarray:
    """rint(b / (s_x s_w)) s_x s_w"""
    s = (plan.params(x).scale * weight_params(plan.values[w].spec, const(model.value(w))).scale).astype(np.float64)
    return np.rint(const(model.value(b)) / s) * s


def convolve(x, w, b, pad):
    """A plain convolution in float64: x (n, in, h, w), w (out, in, kh, kw)."""
    x = np.pad(x.astype(np.float64), [(0, 0), (0, 0), (pad, pad), (pad, pad)])
    windows = np.lib.stride_tricks.sliding_window_view(x, w.shape[2:], (2, 3))  # (n, in, h, w, kh, kw)
    return np.einsum("nihwkl,oikl->nohw", windows, w) + np.reshape(b, (1, -1, 1, 1))
