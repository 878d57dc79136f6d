"""In-place statements as values, since a traced network has values only.

    y.relu_(); z = conv(y)      ⇒      y2 = y.relu(); z = conv(y2)

Who reads a tensor after it was written reads the result instead. A write that is seen through another view of the same
memory has no such form and is refused.
"""

from __future__ import annotations

import linecache
import operator
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from fewbit.errors import UnsupportedModel
from fewbit.torch.reads import SHAPE

OPERATORS = {
    operator.iadd: operator.add, operator.isub: operator.sub, operator.imul: operator.mul,
    operator.itruediv: operator.truediv, operator.ifloordiv: operator.floordiv, operator.imod: operator.mod,
    operator.ipow: operator.pow, operator.imatmul: operator.matmul, operator.iand: operator.and_,
    operator.ior: operator.or_, operator.ixor: operator.xor,
}  # fmt: skip
"""What `y += z` and its like are → the operator that makes a new value."""

VIEWS = frozenset(
    "view view_as reshape reshape_as flatten unflatten ravel squeeze unsqueeze transpose swapaxes swapdims permute "
    "movedim moveaxis t adjoint narrow select expand expand_as broadcast_to chunk tensor_split split hsplit vsplit "
    "dsplit unbind diagonal unfold detach contiguous to float type type_as alias real getattr dropout dropout1d "
    "dropout2d dropout3d alpha_dropout feature_alpha_dropout".split()
)
"""Functions and methods whose result may be the memory that they read."""

VIEW_MODULES = (nn.Identity, nn.Flatten, nn.Unflatten, nn.modules.dropout._DropoutNd)
NUMBERS = SHAPE | {"__len__", "item", "len"}
OURS = (str(Path(torch.__file__).parent), str(Path(__file__).parent))


class Tracer(fx.Tracer):
    """Records `y += z` as such, and where each statement stands.

    Attributes:
        lines: node → the statement that it comes from.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[str, str] = {}

    def proxy(self, node: fx.Node) -> fx.Proxy:
        """A value of forward."""
        return _Value(node, self)

    def create_node(self, *args: Any, **words: Any) -> fx.Node:
        """A step of forward."""
        node = super().create_node(*args, **words)
        if node.op.startswith("call"):
            self.lines[node.name] = _statement()
        return node


class _Value(fx.Proxy):
    """A value that knows the statements which write into it."""

    def __setitem__(self, index: Any, value: Any) -> None:
        raise refused(_statement() or "y[…] = v")


def _writing(target: Any) -> Any:
    def write(self: fx.Proxy, other: Any) -> Any:
        return self.tracer.create_proxy("call_function", target, (self, other), {})

    return write


for _target in OPERATORS:
    setattr(_Value, f"__{_target.__name__}__", _writing(_target))


def _statement() -> str:
    """`y.relu_()` (net.py, line 7): the line outside of PyTorch and of this package that is running."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith((*OURS, "<")):
        frame = frame.f_back  # type: ignore[assignment]
    if frame is None:
        return ""
    file, line = frame.f_code.co_filename, frame.f_lineno
    text = linecache.getline(file, line).strip()
    return f"`{text or '…'}` ({Path(file).name}, line {line})"


def refused(statement: str, why: str = "writes into a part or another view of a tensor") -> UnsupportedModel:
    """The error for a statement that has no form without writing."""
    return UnsupportedModel(
        f"forward {why}, which a traced network cannot show: {statement}. Write it out of place, as a new value: "
        "y = y.relu(), y = torch.cat([a.relu(), b], 1), y = torch.where(mask, v, y)"
    )


def out_of_place(graph: fx.GraphModule, lines: dict[str, str]) -> None:
    """Turn all in-place statements of a traced network into values, in place.

    Args:
        graph: its modules are its own. lines: see `Tracer`.

    Raises:
        UnsupportedModel: a statement writes into what is seen elsewhere, too.
    """
    modules = dict(graph.named_modules())
    nodes = list(graph.graph.nodes)
    order = {node: i for i, node in enumerate(nodes)}
    for node in nodes:
        said = lines.get(node.name, "") or f"`{node.format_node()}`"
        if isinstance(node.kwargs.get("out"), fx.Node | tuple | list):
            raise refused(said, "writes its result into a tensor that exists (out=)")
        if not _writes(node, modules):
            continue
        written = node.args[0] if node.args else node.kwargs.get("input")
        _to_value(node, said)
        if not isinstance(written, fx.Node) or _is_number(written):
            continue
        if written.op == "get_attr":
            raise refused(said, f"writes into {written.target!r}, a tensor that the network keeps")
        _check_alone(node, written, order, modules, said)
        for user in list(written.users):
            if order[user] > order[node]:
                user.replace_input_with(written, node)
    for module in graph.modules():
        if getattr(module, "inplace", False) is True:
            module.inplace = False
    graph.recompile()


def _writes(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    if node.op == "call_module":
        return getattr(modules[str(node.target)], "inplace", False) is True
    if node.op == "call_function":
        name = str(getattr(node.target, "__name__", ""))
        return node.target in OPERATORS or node.kwargs.get("inplace") is True or _trailing(name)
    return node.op == "call_method" and (_trailing(str(node.target)) or str(node.target)[2:-2] in _names())


def _trailing(name: str) -> bool:
    return name.endswith("_") and not name.endswith("__") and name != "requires_grad_"


def _names() -> dict[str, Any]:
    return {f.__name__: f for f in OPERATORS}


def _to_value(node: fx.Node, said: str) -> None:
    """Let the node itself make a new value."""
    if node.kwargs.get("inplace") is True:
        node.kwargs = {**node.kwargs, "inplace": False}
    elif node.op == "call_method":
        name = str(node.target)
        if name.startswith("__"):
            node.op, node.target = "call_function", OPERATORS[_names()[name[2:-2]]]
        elif callable(getattr(Tensor, name[:-1], None)):
            node.target = name[:-1]
        else:
            raise refused(said, f"writes by {name}")
    elif node.target in OPERATORS:
        node.target = OPERATORS[node.target]
    elif node.op == "call_function":
        name = str(getattr(node.target, "__name__", ""))[:-1]
        found = getattr(F, name, None) or getattr(torch, name, None)
        if found is None:
            raise refused(said, f"writes by {name}_")
        node.target = found


def _is_number(node: fx.Node) -> bool:
    """Whether a value is a size or computed from sizes: python's numbers are not written into."""
    if node.op == "call_method":
        return node.target in NUMBERS
    if node.op != "call_function":
        return False
    if node.target is getattr:
        return node.args[1] in NUMBERS
    if getattr(node.target, "__name__", "") in NUMBERS:
        return True
    simple = getattr(node.target, "__module__", "") == "_operator"
    return simple and bool(node.all_input_nodes) and all(_is_number(n) for n in node.all_input_nodes)


def _check_alone(
    node: fx.Node, written: fx.Node, order: dict[fx.Node, int], modules: dict[str, nn.Module], said: str
) -> None:
    """Refuse a write that somebody sees who reads another view later."""
    family, found = {written}, [written]
    while found:
        one = found.pop()
        kin = {u for u in one.users if order[u] < order[node] and _views(u, one, modules)}
        base = one.args[0] if one.args else None
        if isinstance(base, fx.Node) and _views(one, base, modules):
            kin.add(base)
        found += kin - family
        family |= kin
    for one in family - {written}:
        if any(order[u] > order[node] and not _shape_only(u) for u in one.users):
            raise refused(said)


def _views(node: fx.Node, base: fx.Node, modules: dict[str, nn.Module]) -> bool:
    """Whether a node may give the memory of its first input."""
    if not node.args or node.args[0] is not base:
        return False
    if node.op == "call_module":
        return isinstance(modules[str(node.target)], VIEW_MODULES)
    if node.target is operator.getitem:
        return not any(isinstance(i, fx.Node | list | Tensor) for i in _indices(node.args[1]))
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    return name in VIEWS and not _shape_only(node)


def _indices(index: Any) -> Iterator[Any]:
    yield from index if isinstance(index, tuple) else (index,)


def _shape_only(node: fx.Node) -> bool:
    return _is_number(node)
