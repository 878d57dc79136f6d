"""Drawing: a network, drawn. Text of DOT, picture, page or data, all of the same."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from fewbit.core.tables import dumps
from fewbit.core.writing import writing
from fewbit.errors import UsageError
from fewbit.report.drawing.boxes import group_tip, tip
from fewbit.report.drawing.data import DrawingData
from fewbit.report.drawing.dot import digraph
from fewbit.report.drawing.folding import at_depth, opened
from fewbit.report.drawing.render import can_draw, check_draw, png_of, svg_of

FORMS = (".svg", ".png", ".html", ".dot", ".json")


@dataclass(frozen=True)
class Drawing:
    """A network, drawn.

    Args:
        data: what is drawn. stages: which of its stages a picture shows, side by side; a page can show all that there
            are. depth: levels of groups that a picture opens; None: as many as stay legible. fold: False opens all.
        attributes: of Graphviz, for nodes, on top of fewbit's.
    """

    data: DrawingData
    stages: tuple[str, ...]
    depth: int | None = None
    fold: bool = True
    attributes: str = ""

    def __repr__(self) -> str:
        return f"<fewbit.Drawing: {self.data.title}, {self.text()}>"

    def text(self) -> str:
        """One line: what can be seen."""
        shown = [s for s in self.data.stages if s.name in self.stages]
        layers = sum(b.kind in ("layer", "body") for s in shown for b in s.boxes)
        boxes = sum(1 for line in self.dot().splitlines() if ' [id="' in line)
        groups = [g for s in shown for g in s.groups]
        folded = sum(g.id not in self.open for g in groups)
        told = f", {folded} of {len(groups)} groups folded" if folded else ""
        return f"{', '.join(s.title for s in shown)}: {layers} layers as {boxes} boxes{told}"

    @cached_property
    def open(self) -> tuple[str, ...]:
        """Ids of the groups that a picture shows open."""
        found: list[str] = []
        for s in self.data.stages:
            if not self.fold:
                found += [g.id for g in s.groups]
            elif self.depth is not None:
                found += at_depth(s.groups, self.depth)
            else:
                found += opened(s.groups, s.boxes)
        return tuple(found)

    def dot(self) -> str:
        """The picture in the language of Graphviz."""
        return digraph(self.data, self.open, self.stages, self.attributes)

    def svg(self) -> str:
        """The picture as text of SVG; the same drawing gives the same text.

        Raises:
            EngineMissing: neither mini-racer nor Graphviz is installed.
        """
        return self._svg

    @cached_property
    def _svg(self) -> str:
        return svg_of(self.dot(), self._titles())

    def png(self) -> bytes:
        """The picture, painted, two pixels for each of the SVG.

        Raises:
            EngineMissing: mini-racer (or Graphviz), resvg_py or matplotlib is not installed.
        """
        return png_of(self.svg())

    def html(self) -> str:
        """A page of its own, with all stages, in which groups open and close."""
        from fewbit.report.drawing.html import page

        return page(self.data, self.stages, {s.name: self._open_in(s.name) for s in self.data.stages})

    def _open_in(self, stage: str) -> list[str]:
        held = next(s for s in self.data.stages if s.name == stage)
        return [g.id for g in held.groups if g.id in self.open]

    def to_json(self) -> dict[str, Any]:
        """Boxes, values, edges and groups of every stage, as plain dicts."""
        return self.data.to_json()

    def save(self, path: str | Path) -> None:
        """Write a picture, a page, DOT or JSON, by the ending; whole or not at all.

        Raises:
            UsageError: another ending. EngineMissing: a package is not installed. OutputError: it cannot be written.
        """
        path = Path(path)
        check_form(path)
        made: str | bytes
        match path.suffix:
            case ".svg":
                made = self.svg()
            case ".png":
                made = self.png()
            case ".html":
                made = self.html()
            case ".dot":
                made = self.dot()
            case _:
                made = dumps(self.to_json())
        with writing(path) as part:
            part.write_bytes(made if isinstance(made, bytes) else made.encode("utf-8"))

    def _repr_svg_(self) -> str | None:
        return self.svg() if can_draw() else None  # a notebook then shows the line that repr gives

    def _titles(self) -> dict[str, str]:
        """Id → what to show when the pointer is on it."""
        found = {b.id: tip(b) for s in self.data.stages for b in s.boxes}
        return found | {g.id: group_tip(g) for s in self.data.stages for g in s.groups}

    def showing(self, *stages: str, depth: int | None = None, fold: bool = True) -> Drawing:
        """The same drawing with other stages in sight, or folded otherwise."""
        return replace(self, stages=stages or self.stages, depth=depth, fold=fold)


def check_form(path: Path) -> None:
    """Refuse before the work starts what could not be written after it.

    Raises:
        UsageError: an ending that stands for nothing. EngineMissing: a package is not installed.
    """
    if path.suffix not in FORMS:
        raise UsageError(f"the drawing {path} must end in {', '.join(FORMS[:-1])} or {FORMS[-1]}")
    if path.suffix in (".svg", ".png"):
        check_draw(path.suffix == ".png")
