"""A TFLite graph → a Model.

operators without a rule are all named at once → inputs → operator by operator in the file's order, by the rules of
`ops/` → outputs in the file's order of axes → what no output needs is left out

Inputs and outputs have the names, shapes and orders of axes that they have in the file.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from fewbit.errors import FewbitError, ModelFormatError, UnsupportedModel, unknown
from fewbit.frontends.tflite import ops
from fewbit.frontends.tflite.laid import Laid
from fewbit.frontends.tflite.layer import OPS, Layer, Made
from fewbit.frontends.tflite.layout import plain, turning
from fewbit.frontends.tflite.scene import Scene, check_zero, span
from fewbit.frontends.tflite.schema import LiteGraph, Tensor
from fewbit.graph.build import Builder, Dims, Value
from fewbit.graph.model import Model

Shapes = Mapping[str, Sequence[int | None]]

assert ops.__all__, "importing the rules fills OPS"

NEVER = {
    "IF": "it has branches",
    "WHILE": "it has a loop",
    "CALL": "it calls another graph",
    "CALL_ONCE": "it fills variables in another graph",
    "STABLEHLO_WHILE": "it has a loop",
    "DELEGATE": "it was compiled for one device",
}
"""Operators that no rule can help with → why."""

MISFITS = (ValueError, IndexError, OverflowError)
"""What NumPy says of numbers that do not fit each other; some of fewbit's own errors are ValueErrors, too."""


def convert(graph: LiteGraph, *, integers: bool = False, shapes: Shapes | None = None, name: str = "tflite") -> Model:
    """Turn a graph into a Model.

    Args:
        graph: of the file. integers: write the integers of a quantized file, as Q/DQ pairs; otherwise it becomes a
            float network, and the ranges of its calibration are kept in `Model.ranges`.
        shapes: of inputs, where they are to be others than the file's; None and 0 are free.

    Raises:
        UnsupportedModel: operators that fewbit does not know, all of them; or something that ONNX cannot say.
        ModelFormatError: the file contradicts itself.
    """
    check_operators(graph)
    given = check_shapes(graph, shapes or {})
    scene = Scene(graph, Builder(name), integers, trusted=not given)
    for index in graph.inputs:
        _feed(scene, graph.tensors[index], given)
    for operator in graph.operators:
        layer = Layer(operator, graph.tensors[operator.outputs[0]].name if operator.outputs else operator.op, scene)
        try:
            made = OPS[operator.op](layer)
            _settle(scene, layer, made)
        except MISFITS as e:
            if isinstance(e, FewbitError):
                raise
            raise ModelFormatError(f"{layer.what}: its inputs do not fit ({type(e).__name__}: {str(e)[:200]})") from e
    return _finish(scene)


def check_operators(graph: LiteGraph) -> None:
    """Raise if there are operators without a rule; the message has all of them, with what they make."""
    lost = defaultdict[str, list[str]](list)
    for operator in graph.operators:
        if operator.op not in OPS:
            lost[operator.op].append(graph.tensors[operator.outputs[0]].name if operator.outputs else "nothing")
    if not lost:
        return
    said = "; ".join(f"{op} that makes {_few(names)}" for op, names in lost.items())
    never = [f"{op}: {NEVER[op]}" for op in lost if op in NEVER]
    more = f" ({'; '.join(never)})" if never else ""
    raise UnsupportedModel(
        f"{len(lost)} TFLite operator{'s' if len(lost) > 1 else ''} that fewbit does not know: {said}{more}. Convert "
        "the network without them, or cut it in front of them"
    )


def _few(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def check_shapes(graph: LiteGraph, shapes: Shapes) -> dict[str, Dims]:
    """The shapes that differ from those of the file.

    Raises:
        UnknownName: no such input. ModelFormatError: another number of axes.
    """
    inputs = {graph.tensors[i].name: graph.tensors[i] for i in graph.inputs}
    found: dict[str, Dims] = {}
    for name, given in shapes.items():
        if name not in inputs:
            raise unknown("input", name, inputs)
        if len(given) != len(inputs[name].shape):
            raise ModelFormatError(f"input {name!r} has the shape {inputs[name].free}; it cannot be {tuple(given)}")
        wanted = tuple(d or None for d in given)
        if wanted != inputs[name].free:
            found[name] = wanted
    return found


def _feed(scene: Scene, tensor: Tensor, given: Mapping[str, Dims]) -> None:
    """A graph input; integers that stand for real numbers are fed as those."""
    if tensor.index in scene.at or tensor.data is not None:
        raise ModelFormatError(f"input {tensor.name!r} is named twice, or has numbers; the file is damaged")
    whole = scene.is_integer(tensor)
    shape, order = given.get(tensor.name, tensor.free), plain(len(tensor.shape))
    if whole:
        check_zero(tensor)
    value = scene.build.input(tensor.name, shape, scene.kind(tensor))
    if whole and scene.integers:
        value = scene.rounded(value, tensor)
    elif whole:
        scene.ranges[value] = span(tensor)
    scene.at[tensor.index] = Laid(value, order)


def _settle(scene: Scene, layer: Layer, made: Made) -> None:
    if isinstance(made, Value):
        made = Laid(made, plain(len(layer.sizes(made))))
    found = made if isinstance(made, tuple) else (made,)
    outputs = layer.operator.outputs
    if len(outputs) > len(found):
        raise layer.unsupported(f"it has {len(outputs)} outputs; fewbit gives {len(found)}")
    if not layer.taken:
        maker = found[0].value.producer()
        scene.build.aliases[layer.name] = str(maker.name) if maker is not None else ""
    for index, laid in zip(outputs, found, strict=False):
        scene.settle(layer, scene.tensors[index], laid)
        scene.makers[index] = layer.operator


def _finish(scene: Scene) -> Model:
    """The model with the file's outputs, its notes and its ranges."""
    outputs = [_output(scene, scene.tensors[i]) for i in scene.graph.outputs]
    model = scene.build.finish(outputs, notes=_notes(scene))
    model.ranges = {str(v.name): r for v, r in scene.ranges.items() if v.graph is not None}
    return model


def _output(scene: Scene, tensor: Tensor) -> tuple[Value, str]:
    """An output in the file's order, under the file's name; what it was made from gives the name away."""
    laid = scene.laid(tensor.index)
    assert laid.columns is None
    order, rounded = plain(len(laid.perm)), scene.behind.get(laid.value)
    value = inner = rounded.source if rounded and tensor.index in scene.graph.inputs else laid.value
    if laid.perm != order:
        value = scene.turn(inner, turning(laid.perm, order), tensor.name)
        if inner in scene.ranges:
            scene.ranges[value] = scene.ranges[inner]
    for other, end in ((rounded.source if rounded else inner, "real"), (inner, "inner")):
        if other is not value and other.name == tensor.name:
            other.name = f"{tensor.name}/{end}"
    if value.producer() is not None and value not in scene.answers:
        value.name = tensor.name
    scene.answers.add(value)
    return value, tensor.name


def _notes(scene: Scene) -> list[str]:
    graph, notes = scene.graph, list[str]()
    if graph.graphs > 1:
        notes.append(f"the file holds {graph.graphs} graphs; the first one is read")
    if graph.signature:
        said = ", ".join(f"{name} is {tensor}" for name, tensor in graph.signature)
        notes.append(f"the file's signature: {said}")
    if scene.zeros:
        notes.append(
            f"left out: {_few(scene.zeros)} keep their numbers from run to run in TFLite; here they start as zeros"
        )
    whole = [t for t in scene.tensors if scene.is_integer(t)]
    if whole and not scene.integers:
        stored = sum(t.data is not None and t.quant is not None for t in scene.tensors)
        kept = f", and the ranges of {len(scene.ranges)} values are kept" if scene.ranges else ""
        notes.append(
            f"the file holds integers; this is the float network that they stand for ({stored} constants{kept}). "
            "With allow_quantized=True it is the integer network"
        )
    ends = [t for i in (*graph.inputs, *graph.outputs) if scene.is_integer(t := scene.tensors[i]) and t.data is None]
    if ends and scene.integers:
        said = ", ".join(f"{t.name} ({t.type.lower()}) for {_steps(t)}" for t in ends)
        notes.append(f"in the file, inputs and outputs are integers q that stand for real numbers: {said}")
    return notes


def _steps(tensor: Tensor) -> str:
    """How integers become real numbers."""
    assert tensor.quant is not None
    scale, zero = float(tensor.quant.scale[0]), int(tensor.quant.zero[0])
    return f"(q {'+' if zero < 0 else '-'} {abs(zero)})·{scale:.7g}"
