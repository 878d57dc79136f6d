"""What a box says of a layer: the attributes that matter, in few words; and shapes.

Conv, kernel_shape 3 3, strides 2 2, pads 1 1 1 1, group 32     →   3×3, stride 2, pad 1, group 32
Clip(x, 0, 6)                                                   →   0 … 6
Reshape(x, [0, -1])                                             →   to 0×-1
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fewbit.graph.model import Model, attr, const, dims, is_const
from fewbit.graph.normalize import infer_shapes
from fewbit.report.drawing.formats import number, of_type

SILENT = frozenset(
    "auto_pad ceil_mode count_include_pad storage_order allowzero keepdims noop_with_empty_axes epsilon momentum "
    "training_mode stash_type coordinate_transformation_mode cubic_coeff_a nearest_mode exclude_outside fmod "
    "select_last_index saturate extrapolation_value spatial broadcast consumed_inputs is_test".split()
)
"""Attributes that the panel shows and a box does not."""

DEFAULTS = {"transA": 0, "transB": 0, "alpha": 1.0, "beta": 1.0, "group": 1, "layout": 0, "largest": 1, "sorted": 1}
SLOPES = frozenset({"LeakyRelu", "Elu", "ThresholdedRelu", "HardSigmoid", "Selu", "Celu"})
"""Operators whose alpha is what they are about."""

WINDOWS = ("kernel_shape", "strides", "pads", "dilations", "group", "output_padding", "output_shape")
MOST, LONGEST = 4, 26
"""Attributes in a box; characters of one of them."""

AXES = frozenset(
    {"Squeeze", "Unsqueeze", "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2", "ReduceProd"}
)


def shape_text(shape: Iterable[Any] | None) -> str:
    """`N×64×56×56`; free axes that only shape inference named are `?`; empty if even the rank is unknown."""
    if shape is None:
        return ""
    found = ["?" if d is None or str(d).startswith("unk__") else str(d) for d in shape]
    return "×".join(found) if found else "scalar"


def value_shape(value: Any) -> str:
    """Shape of a value of onnx_ir."""
    if value.shape is None:
        return ""
    return shape_text(d if isinstance(d, int) else d.value for d in value.shape)


def shapes(*models: Model | None) -> dict[str, str]:
    """Value → shape, for those that are not wholly known where they stand but follow once a graph was rewritten.

    ?×32×?×?  behind a Pad whose sizes were computed   →   N×32×112×112
    """
    found: dict[str, str] = {}
    for model in models:
        if model is None:
            continue
        copy = model.clone()
        ends = {id(v) for v in copy.graph.outputs}
        open_ = [v for n in copy.nodes for v in n.outputs if id(v) not in ends and "?" in value_shape(v)]
        for value in open_:
            value.shape = None
        if open_:
            infer_shapes(copy)
        found |= {str(v.name): value_shape(v) for v in open_ if value_shape(v)}
    return found


def detail(node: Any) -> str:
    """The attributes that matter, for the box of a node."""
    windows = _window(node) if "kernel_shape" in node.attributes or node.op_type.endswith("Conv") else []
    parts = [*windows, *_constants(node)]
    for name in node.attributes:
        if name in SILENT or (windows and name in WINDOWS):
            continue
        value = plain_attr(node, name)
        usual = DEFAULTS.get(name) if not (name == "alpha" and node.op_type in SLOPES) else None
        if value is None or (usual is not None and value == usual) or value == "":
            continue
        text = _said(name, value)
        if len(text) <= LONGEST:
            parts.append(text)
    return ", ".join(parts[: MOST + len(windows)])


def _said(name: str, value: Any) -> str:
    if name == "to":
        return f"to {value}"
    if name.startswith("trans") and value == 1:
        return {"transA": "A transposed", "transB": "B transposed"}.get(name, name)
    return f"{name.removesuffix('_value')} {plain_text(value)}"


def plain_text(value: Any) -> str:
    """An attribute as text."""
    if isinstance(value, tuple):
        return " ".join(plain_text(v) for v in value)
    return number(value) if isinstance(value, float) else str(value)


def plain_attr(node: Any, name: str) -> Any:
    """An attribute as a number, a text or a tuple of these; None if it is a tensor or a graph."""
    kind = str(node.attributes[name].type.name)
    if kind not in ("INT", "FLOAT", "STRING", "INTS", "FLOATS", "STRINGS"):
        return None
    return of_type(node.outputs[0].dtype).word if name == "to" else attr(node, name)


def _window(node: Any) -> list[str]:
    """Kernel, stride, padding, dilation, groups."""
    kernel = attr(node, "kernel_shape")
    if kernel is None and len(node.inputs) > 1:
        kernel = (dims(node.inputs[1]) or ())[2:]
    parts = ["×".join(map(str, kernel))] if kernel else []
    for word, name in (("stride", "strides"), ("dilation", "dilations")):
        values = attr(node, name, ())
        if any(v != 1 for v in values):
            parts.append(f"{word} {_even(values)}")
    pads, auto = attr(node, "pads", ()), attr(node, "auto_pad", "NOTSET")
    if auto not in ("NOTSET", "VALID", ""):
        parts.append("pad same")
    elif any(pads):
        parts.append(f"pad {_even(pads)}")
    groups = int(attr(node, "group", 1))
    if groups > 1:
        weight = dims(node.inputs[1]) if len(node.inputs) > 1 else None
        parts.append("depthwise" if weight and weight[1] == 1 and weight[0] == groups else f"group {groups}")
    return parts


def _even(values: Iterable[int]) -> str:
    found = tuple(values)
    return str(found[0]) if len(set(found)) == 1 else " ".join(map(str, found))


def _constants(node: Any) -> list[str]:
    """Small constant inputs that say what a layer does."""
    op = node.op_type
    if op == "Clip" and len(node.inputs) > 1:
        ends = [const(v) for v in (*node.inputs[1:3], None)[:2]]
        lo, hi = (number(float(e.ravel()[0])) if e is not None and e.size == 1 else "" for e in ends)
        return [f"{lo or '−∞'} … {hi or '∞'}"]
    if op in ("Reshape", "Expand") or op in AXES:
        value = node.inputs[1] if len(node.inputs) > 1 else None
        data = const(value) if value is not None and is_const(value) and (dims(value) or (9,))[0] in range(9) else None
        if data is not None and data.size:
            text = [str(int(x)) for x in data.ravel()]
            return [f"axes {' '.join(text)}"] if op in AXES else [f"to {'×'.join(text)}"]
    return []
