"""What the rules about TensorRT share: the registry, and the few questions that all of them ask of a graph.

@rule("zero-point", ILLEGAL)
def zero_point(model: Model) -> Iterator[Found]:
    \"\"\"The docstring says what TensorRT does, and what to do.\"\"\"
    yield node, "what was found"
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import onnx_ir as ir

from fewbit.graph.model import Array, Model, const, is_const, op_name

ILLEGAL, SLOW = "illegal", "slow"
"""TensorRT refuses the network or computes it wrongly; it loses a fusion, or runs a layer in float."""

PAIR = ("QuantizeLinear", "DequantizeLinear")
WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
ACTIVATIONS = ("Relu", "Clip", "LeakyRelu", "PRelu", "BatchNormalization")

MOVES = frozenset("Concat Flatten Gather Identity MaxPool Reshape Slice Split Squeeze Transpose Unsqueeze".split())
"""Operators that only move values: TensorRT takes Q and DQ across them."""

Found = tuple[ir.Node, str]
Check = Callable[[Model], Iterable[Found]]


@dataclass(frozen=True)
class Rule:
    """One thing that TensorRT asks of a network.

    Args:
        name: short, for machines. severity: ILLEGAL or SLOW. why: what it does, and what to do.
        check: model → nodes that break it, each with what was found.
    """

    name: str
    severity: str
    why: str
    check: Check


@dataclass(frozen=True)
class Violation:
    """One node that breaks one rule. `text`: what was found, why that is bad, what to do."""

    rule: str
    severity: str
    node: str
    text: str

    def __str__(self) -> str:
        return f"{self.node}: {self.text}"


RULES: dict[str, Rule] = {}


def rule(name: str, severity: str) -> Callable[[Check], Check]:
    """Register a rule; its docstring is what people read."""

    def add(check: Check) -> Check:
        assert name not in RULES and check.__doc__, name
        RULES[name] = Rule(name, severity, " ".join(check.__doc__.split()), check)
        return check

    return add


# -- questions --------------------------------------------------------------------------------------------------------


def everywhere(model: Model) -> Iterator[ir.Node]:
    """All nodes, those in bodies of If, Loop and Scan included: TensorRT builds them as it builds the rest."""
    return iter(model.graph.all_nodes())


def pairs(model: Model) -> Iterator[ir.Node]:
    """All Q and DQ."""
    return (n for n in everywhere(model) if op_name(n) in PAIR)


def of(node: ir.Node, index: int) -> ir.Value | None:
    """An input, None if it is left out."""
    return node.inputs[index] if index < len(node.inputs) else None


def maker(value: ir.Value | None) -> ir.Node | None:
    """The node that makes a value."""
    return value.producer() if value is not None else None


def made_by(value: ir.Value | None, *ops: str) -> ir.Node | None:
    """The node that makes a value, if it is one of these operators."""
    node = maker(value)
    return node if node is not None and op_name(node) in ops else None


def readers(node: ir.Node) -> list[ir.Node]:
    """Who reads what a node makes."""
    return [user for v in node.outputs for user, _ in v.uses()]


def answers(node: ir.Node) -> bool:
    """Whether an output of the network, or of a body, comes from this node."""
    return any(v.is_graph_output() for v in node.outputs)


def alone(node: ir.Node) -> ir.Node | None:
    """The only reader of a node that makes no output."""
    found = readers(node)
    return found[0] if len(found) == 1 and not answers(node) else None


def stored(value: ir.Value | None) -> ir.Value | None:
    """The constant that a value is, or that it is made of by Q and DQ; None if it is computed otherwise."""
    while (node := made_by(value, *PAIR)) is not None:
        value = of(node, 0)
    return value if is_const(value) else None


def dequantized(value: ir.Value | None) -> ir.Node | None:
    """The DQ that makes a value."""
    return made_by(value, "DequantizeLinear")


def integer(value: ir.Value | None) -> bool:
    """Whether a value comes from DQ, or from nothing else by being moved."""
    waiting, seen = [value], set[ir.Node]()
    while waiting:
        node = maker(waiting.pop())
        if node is None or op_name(node) not in ("DequantizeLinear", *MOVES):
            return False
        if op_name(node) in MOVES and node not in seen:
            seen.add(node)
            waiting += node.inputs if op_name(node) == "Concat" else node.inputs[:1]
    return True


def on_weight(node: ir.Node) -> bool:
    """Whether a Q or DQ stands behind a constant."""
    return stored(of(node, 0)) is not None


def numbers(node: ir.Node, index: int) -> Array | None:
    """Scale (1) or zero point (2) of a Q or DQ, None if it is computed or left out."""
    return const(of(node, index))
