"""Explanation: what a debug folder shows to be wrong, which layers to keep float, what that gains. From `explain`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fewbit.core.blocks import Aside, Block, Code, Shown, Table, Title, Wrapped, to_text
from fewbit.core.tables import Name, number, percent, plain, size, times

KINDS = {
    "cosine": "output far from float",
    "ranges": "inputs of unlike ranges",
    "clip": "values cut off",
    "source": "noise begins here",
    "weight": "weight far from float",
}
"""What a finding is about -> how it is called."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Args:
        kind: a key of KINDS. node, op: the layer. value: the tensor. number: what was found, in the kind's own measure.
        reason: why it matters. benefit: noise ÷ signal at the outputs that begins there, as estimated; inf: not finite.
    """

    kind: str
    node: str
    op: str
    value: str
    number: float
    reason: str
    benefit: float


@dataclass(frozen=True)
class Figures:
    """One network, measured. latency: ratio against float. nbytes: of its weights."""

    cosine: float | None
    sqnr: float | None
    latency: float
    nbytes: int


@dataclass(frozen=True, repr=False)
class Gain(Shown):
    """The network quantized without and with the proposal, on the same samples."""

    before: Figures
    after: Figures
    samples: int

    @property
    def helps(self) -> bool:
        """Whether the output comes nearer to float."""
        a, b = self.after.sqnr, self.before.sqnr
        return a is not None and b is not None and (a > b or (b != b and a == a))

    def text(self) -> str:
        """A table: before, after."""
        return to_text(self._blocks())

    def _blocks(self) -> list[Block]:
        both = (self.before, self.after)
        rows = [
            ("cosine", *(number(f.cosine, 5) for f in both)),
            ("SQNR dB", *(number(f.sqnr, 1) for f in both)),
            ("latency against float", *(times(f.latency) for f in both)),
            ("weights", *(size(f.nbytes) for f in both)),
        ]
        useless = "note: the proposal does not bring the output nearer to float; leave the layers integer"
        parts: list[Block] = [Title(f"measured on {self.samples} samples"), Table(("<", ">before", ">after"), rows)]
        return parts if self.helps else [*parts, useless]

    def _brief(self) -> str:
        return f"SQNR {number(self.before.sqnr, 1)} dB before, {number(self.after.sqnr, 1)} dB after"


@dataclass(frozen=True, repr=False)
class Explanation(Shown):
    """What a debug folder says.

    Args:
        rounds: tables of batches. layers: that they tell of. cosine: of the worst output; None if not told.
        findings: most promising first. proposal: layers to keep float, best first; some of those found.
        gain: measured, where the network and data were at hand. notes: what else there is to know.
    """

    rounds: int
    layers: int
    cosine: float | None
    findings: tuple[Finding, ...]
    proposal: tuple[str, ...]
    gain: Gain | None = None
    notes: tuple[str, ...] = ()

    @property
    def skip_quant_node(self) -> str:
        """The line for a config file of MindSpore Lite; empty if nothing is proposed."""
        return f"skip_quant_node={','.join(self.proposal)}" if self.proposal else ""

    @property
    def exclude_layers(self) -> str:
        """The same for fewbit's command line."""
        return f"--exclude-layers {','.join(self.proposal)}" if self.proposal else ""

    def text(self, n: int = 10) -> str:
        """Findings, the `n` most promising ones, and the proposal."""
        return to_text(self._blocks(n))

    def _blocks(self, n: int = 10) -> list[Block]:
        told = f", output cosine {number(self.cosine, 5)}" if self.cosine is not None else ""
        parts: list[Block] = [f"{_of(self.rounds, 'round')}, {_of(self.layers, 'layer')}{told}"]
        if self.findings:
            shown = self.findings[:n]
            parts += ["", Title(f"findings, {len(shown)} of {len(self.findings)}"), _table(shown)]
            parts += [Aside("more: text(n) as text, findings for all of them")] if len(self.findings) > n else []
            reasons = dict.fromkeys(f"{KINDS[f.kind]}: {f.reason}" for f in shown)
            parts += [Wrapped(text) for text in reasons]
        else:
            parts += ["", "nothing stands out: no layer far from float, no unlike ranges, no value cut off"]
        if self.proposal:
            parts += ["", Title("proposal"), Code(f"  {self.skip_quant_node}"), Code(f"  {self.exclude_layers}")]
        elif self.findings:
            parts += ["", "no proposal: too little of the noise at the outputs begins in any of these"]
        if self.gain is not None:
            parts += ["", *self.gain.blocks()]
        return [*parts, *(Wrapped(f"note: {note}") for note in self.notes)]

    def _brief(self) -> str:
        count = len(self.proposal)
        keep = f"; keep {_of(count, 'layer')} float" if count else ""
        return f"{_of(len(self.findings), 'finding')} in {_of(self.layers, 'layer')}{keep}"

    def to_json(self) -> dict[str, Any]:
        """Everything, as plain dicts."""
        lines = {"skip_quant_node": self.skip_quant_node, "exclude_layers": self.exclude_layers}
        found: dict[str, Any] = plain(self)
        return found | lines | {"helps": self.gain.helps if self.gain else None}


def _of(count: int, what: str) -> str:
    return f"{count} {what}{'s' if count != 1 else ''}"


def _table(findings: Sequence[Finding]) -> Table:
    rows = [(Name(f.node), f.op, Name(f.value), KINDS[f.kind], _measure(f), _noise(f.benefit)) for f in findings]
    return Table(("<layer", "<op", "<value", "<what", ">number", ">noise at output"), rows)


def _measure(f: Finding) -> str:
    """The number in its own measure: cosine, ratio of ranges, share."""
    if f.kind == "ranges":
        return f"{number(f.number, 1)}x"
    return percent(f.number) if f.kind in ("clip", "source") else number(f.number, 4)


def _noise(benefit: float) -> str:
    return percent(benefit, 2)
