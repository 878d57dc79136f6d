"""What is in a model, and what each target could do with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from fewbit.config import QuantConfig
from fewbit.core.blocks import Block, Facts, Items, Shown, Table, Title, to_text
from fewbit.core.tables import Name, listed, plain, size
from fewbit.core.target import Target
from fewbit.graph.files import QUANTIZED_OPS
from fewbit.graph.model import Model, is_const, op_name
from fewbit.graph.packing import Packing, packing
from fewbit.quantization.select import select
from fewbit.report.reasons import Group, Kept, grouped


@dataclass(frozen=True)
class Layer:
    """One node of the main graph. `weights`: numbers in its constants and packed weights, shared ones at each user."""

    name: str
    op: str
    weights: int
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Coverage:
    """What one target can do.

    Args:
        target: its name. checked: where its rows were measured.
        nodes: of the fused graph. integer: of these can become integer, those merged into others included.
        core: of these carry the cost. smart: of these quantize_mode smart takes.
        operators: operator → (how many of its nodes can become integer, how many there are).
        kept: the nodes that cannot, by reason.
    """

    target: str
    checked: str
    nodes: int
    integer: int
    core: int
    smart: int
    operators: Mapping[str, tuple[int, int]]
    kept: tuple[Group, ...]


@dataclass(frozen=True, repr=False)
class Inspection(Shown):
    """A model, described.

    Args:
        name: of its file. inputs, outputs: "name: dtype[shape]". opset: after loading.
        operators: type → count, most frequent first; bodies of If, Loop and Scan included.
        nodes: of the main graph; only these can become integer.
        parameters: number of weights; packed ones count as what they stand for. nbytes: as stored.
        quantized: integer operators that it holds already.
        packed: bits → weights that nodes unpack from so many bits a number. unpacking: how many nodes do that.
        notes: what loading could not do. metadata: free text in the file.
        targets: empty for a model that is quantized already.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    opset: int
    operators: Mapping[str, int]
    nodes: int
    parameters: int
    nbytes: int
    quantized: tuple[str, ...]
    packed: Mapping[int, int]
    unpacking: int
    notes: tuple[str, ...]
    metadata: Mapping[str, str]
    layers: tuple[Layer, ...]
    targets: tuple[Coverage, ...]

    def text(self, *, layers: bool = False) -> str:
        """For people; `layers` lists every layer by name as well."""
        return to_text(self._blocks(layers=layers))

    def _blocks(self, *, layers: bool = False) -> list[Block]:
        lines = [("model", self.name or "(not from a file)"), ("opset", str(self.opset))]
        for what, found in (("input", self.inputs), ("output", self.outputs)):
            lines += [(what if i == 0 else "", x) for i, x in enumerate(found)]
        lines += [
            ("nodes", f"{self.nodes}, {self.unpacking} of them unpack weights" if self.unpacking else str(self.nodes)),
            ("parameters", f"{self.parameters:,}"),
            ("weights", size(self.nbytes)),
            ("quantized", self._quantized()),
        ]
        parts: list[Block] = [Facts(lines), *(f"note: {n}" for n in self.notes), "", self._operators()]
        if self.targets:
            parts += ["", Title("what can become integer, after fusing"), self._targets()]
            kept = self._kept()
            parts += ["", Title("what stays float, and why"), Items(kept)] if kept else []
        if layers:
            rows = [(Name(n.name), n.op, f"{n.weights:,}", listed(n.outputs)) for n in self.layers]
            parts += ["", Table(("<layer", "<op", ">weights", "<outputs"), rows)]
        return parts

    def _brief(self) -> str:
        name = f"{self.name}, " if self.name else ""
        integer = ", ".join(f"{t.target} {t.integer}" for t in self.targets)
        said = f"; can become integer: {integer}" if integer else f"; quantized: {self._quantized()}"
        return f"{name}{self.nodes} nodes, {self.parameters:,} parameters, opset {self.opset}{said}"

    def to_json(self) -> dict[str, Any]:
        """Everything, as plain dicts."""
        found: dict[str, Any] = plain(self)
        return found

    def _quantized(self) -> str:
        """What is integer, for people."""
        counts = ", ".join(f"{n} in {bits} bit{'s' if bits > 1 else ''}" for bits, n in self.packed.items())
        if not self.quantized:
            return f"yes, weights only: {counts}; computed in float" if counts else "no"
        return f"yes: {', '.join(self.quantized)}" + (f"; weights unpacked: {counts}" if counts else "")

    def _targets(self) -> Table:
        rows = [(t.target, f"{t.integer} of {t.nodes}", str(t.core), str(t.smart), t.checked) for t in self.targets]
        return Table(("<target", ">nodes", ">core", ">smart takes", "<measured"), rows)

    def _kept(self) -> list[str]:
        """Reasons, each once, largest first; with the targets that it holds for, unless it holds for all."""
        found: dict[tuple[str, tuple[str, ...]], tuple[Group, list[str]]] = {}
        for t in self.targets:
            for g in t.kept:
                same = replace(g, reason=g.reason.replace(f" on {t.target}", ""))
                found.setdefault((same.reason, same.nodes), (same, []))[1].append(t.target)
        order = sorted(found.values(), key=lambda f: -len(f[0].nodes))
        return [f"{g}" + (f" [{', '.join(on)}]" if len(on) < len(self.targets) else "") for g, on in order]

    def _operators(self) -> Table:
        """One line an operator; a column a target: how many can become integer, of those left after fusing."""
        fused = [op for t in self.targets for op in t.operators]
        rows = [
            (Name(op), str(self.operators.get(op, 0)), *(_of(t.operators.get(op)) for t in self.targets))
            for op in dict.fromkeys([*self.operators, *fused])
        ]
        return Table(("<operator", ">count", *(f">{t.target}" for t in self.targets)), rows)


def _of(found: tuple[int, int] | None) -> str:
    return f"{found[0]} of {found[1]}" if found else "-"


def inspect(model: Model, fused: Model, targets: Mapping[str, Target]) -> Inspection:
    """Describe a model.

    Args:
        model: float or quantized.
        fused: its fused form, which quantizing starts from; coverage is told for this one.
        targets: name → target to tell the coverage of.
    """
    counts = model.op_counts()
    held = packing(model)
    quantized = tuple(sorted({op.rsplit(".", 1)[-1] for op in counts} & QUANTIZED_OPS))
    return Inspection(
        name=model.path.name if model.path else "",
        inputs=tuple(str(i) for i in model.inputs),
        outputs=tuple(str(o) for o in model.outputs),
        opset=model.opset,
        operators=dict(sorted(counts.items(), key=lambda kv: (-kv[1], kv[0]))),
        nodes=len(model.nodes),
        parameters=held.parameters,
        nbytes=model.nbytes,
        quantized=quantized,
        packed=held.bits,
        unpacking=held.nodes,
        notes=tuple(model.notes),
        metadata=dict(model.metadata),
        layers=tuple(_layer(n, held) for n in model.nodes),
        targets=() if quantized or held.weights else tuple(coverage(fused, t) for t in targets.values()),
    )


def coverage(model: Model, target: Target) -> Coverage:
    """What a target could make of a fused float network, wherever legal, and what smart mode would."""
    full = select(model, QuantConfig(quantize_mode="full", target=target.name), target)
    smart = select(model, QuantConfig(quantize_mode="smart", target=target.name), target)
    able = {*full.rules, *full.absorbed}
    kept = [Kept(str(n.name), op_name(n), full.reasons[str(n.name)]) for n in model.nodes if n.name not in able]
    whole, can = Counter(map(op_name, model.nodes)), Counter(op_name(n) for n in model.nodes if n.name in able)
    return Coverage(
        target=target.name,
        checked=target.checked,
        nodes=len(model.nodes),
        integer=len(able),
        core=sum(r.core for r in full.rules.values()),
        smart=len({*smart.rules, *smart.absorbed}),
        operators={op: (can[op], n) for op, n in sorted(whole.items(), key=lambda kv: (-kv[1], kv[0]))},
        kept=tuple(grouped(kept)),
    )


def _layer(node: Any, held: Packing) -> Layer:
    consts = [v.const_value for v in node.inputs if v is not None and is_const(v)]
    weights = sum(int(c.size) for c in consts)
    weights += sum(held.weights.get(str(v.name), 0) for v in node.inputs if v is not None)
    return Layer(str(node.name), op_name(node), weights, tuple(str(v.name) for v in node.outputs))
