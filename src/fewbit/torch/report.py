"""What became of each layer: a table to read, and the notes that it is made from.

layer    type      now        how
conv1    Conv2d    float      excluded
conv2    Conv2d    quantized  w4 per channel, input u8, BatchNorm inside
rnn      LSTM      float      there is no quantized form of LSTM
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import nn

from fewbit.core.spec import QuantSpec
from fewbit.torch.blocks import BLOCKS, outer_modules

NOTES = "_fewbit_notes"
"""Attribute of the network that holds the notes: module name → why it is what it is."""


@dataclass(frozen=True)
class LayerReport:
    """One line: a module that has weights or is quantized."""

    name: str
    type: str
    quantized: bool
    how: str


@dataclass(frozen=True)
class QuantizationReport:
    """All lines, in the order of the network; `print(report)` shows the table."""

    layers: tuple[LayerReport, ...]

    def __iter__(self) -> Iterator[LayerReport]:
        return iter(self.layers)

    def __len__(self) -> int:
        return len(self.layers)

    def __getitem__(self, name: str) -> LayerReport:
        return {line.name: line for line in self.layers}[name]

    def __str__(self) -> str:
        rows = [("layer", "type", "now", "how")]
        rows += [(r.name, r.type, "quantized" if r.quantized else "float", r.how) for r in self.layers]
        widths = [max(len(row[i]) for row in rows) for i in range(3)]
        return "\n".join("  ".join([*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[3]]) for row in rows)


def quantization_report(net: nn.Module) -> QuantizationReport:
    """What is quantized and how, and what stays float and why."""
    notes: Mapping[str, str] = net.__dict__.get(NOTES, {})
    lines = []
    for name, m in outer_modules(net):
        if isinstance(m, BLOCKS):
            lines.append(LayerReport(name, type(m).__name__, True, _how(m, notes.get(name, ""))))
        elif name in notes or is_heavy(m):
            lines.append(LayerReport(name, type(m).__name__, False, notes.get(name, "not asked for")))
    return QuantizationReport(tuple(lines))


def note(net: nn.Module, notes: Mapping[str, str]) -> None:
    """Keep why modules are what they are, for the report."""
    net.__dict__[NOTES] = {**net.__dict__.get(NOTES, {}), **notes}  # no part of the state_dict; a deep copy has it


def is_heavy(module: nn.Module) -> bool:
    """Whether a module has a weight that multiplies: a matrix or more."""
    return any(p is not None and p.ndim > 1 for p in module._parameters.values())


def _how(block: nn.Module, said: str) -> str:
    """w4 per channel, input u8, BatchNorm inside."""
    parts = []
    weight = getattr(block, "weight_quantizer", None)
    if weight is not None:
        state = " fixed" if weight.frozen else " learned" if weight.learned else ""
        parts.append(f"w{weight.spec.bits} per {_sharing(weight)}{state}")
    for word, attribute in (("input", "input_quantizer"), ("output", "output_quantizer")):
        act = getattr(block, attribute, None)
        if act is not None:
            parts.append(f"{word} {_format(act.spec)}" + ("" if act.enabled else " (off)"))
    if getattr(block, "bn", None) is not None:
        parts.append("BatchNorm inside")
    if not block.quantize_enabled:
        parts.append("switched off")
    return ", ".join([*parts, said] if said else parts)


def _sharing(weight: nn.Module) -> str:
    return "group" if getattr(weight, "conv_groups", 1) > 1 else str(weight.spec.granularity)


def _format(spec: QuantSpec) -> str:
    return f"{'s' if spec.signed else 'u'}{spec.bits}"
