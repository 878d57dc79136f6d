"""A prepared network, and what it remembers of its preparation; deep copies and pickles keep it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import fx, nn

from fewbit.core.plan import Plan
from fewbit.torch.blocks import BLOCKS
from fewbit.torch.quantizer import ActQuantizer

KEY = "fewbit"
"""Where a prepared network keeps what it remembers, in its `meta`."""


@dataclass(frozen=True)
class Prepared:
    """What a prepared network remembers.

    Args:
        plan: calibrated. learned, ste, fake_bn: how it was prepared.
        quantizers: group of the plan → name of its quantizer. layers: traced module → node of the ONNX graph.
    """

    plan: Plan
    learned: bool
    ste: str
    fake_bn: str
    quantizers: Mapping[str, str] = field(default_factory=dict)
    layers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


class PreparedNetwork(fx.GraphModule):
    """A traced network whose `meta` survives pickle; that of a GraphModule survives deep copies only."""

    def __reduce__(self) -> Any:
        make, arguments = super().__reduce__()
        read = {str(n.target): n.name for n in reversed(self.graph.nodes) if n.op == "get_attr"}
        return _again, (make, arguments, self.meta, [n.name for n in _steps(self.graph)], read)


def _again(
    make: Callable[..., Any], arguments: Any, meta: dict[str, Any], steps: list[str], read: dict[str, str]
) -> PreparedNetwork:
    """What pickle makes: traced from its own code, where steps got other names.

    Args:
        steps: names of all but the tensors of the network; those are read anew at each place. read: target → name of
            the first place.
    """
    plain = make(*arguments)
    for i, node in enumerate(plain.graph.nodes):
        node.name = f"read_again_{i}"
    for node, name in zip(_steps(plain.graph), steps, strict=True):
        node.name = name
    for node in plain.graph.nodes:
        if node.op == "get_attr":
            node.name = read.pop(str(node.target), node.name)
    net = PreparedNetwork(plain, plain.graph, type(plain).__name__)
    net.meta.update(meta)
    return net


def _steps(graph: fx.Graph) -> list[fx.Node]:
    return [n for n in graph.nodes if n.op != "get_attr"]


def prepared_of(net: nn.Module) -> Prepared | None:
    """What the network remembers, None if `prepare` did not make it."""
    return net.meta.get(KEY) if isinstance(net, fx.GraphModule) else None


def holders(net: nn.Module) -> list[str]:
    """Names of the prepared networks inside of a network."""
    return [name for name, m in net.named_modules() if prepared_of(m) is not None]


def standalone(net: nn.Module) -> list[ActQuantizer]:
    """Quantizers that stand between layers, not in one."""
    inside = {q for m in net.modules() if isinstance(m, BLOCKS) for q in m.modules()}
    return [q for q in net.modules() if isinstance(q, ActQuantizer) and q not in inside]
