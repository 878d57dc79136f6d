"""Drawings written, in every form."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from PIL import Image

from fewbit.errors import EngineMissing, UsageError
from fewbit.report.drawing import boxes, formats, render
from fewbit.report.drawing import drawing as drawing_file
from fewbit.report.drawing.data import STAGES, DrawingData
from fewbit.report.drawing.drawing import FORMS, Drawing, check_form


@pytest.fixture(scope="module")
def drawing(data: DrawingData) -> Drawing:
    """The integer network."""
    return Drawing(data, ("quantized",))


@pytest.mark.parametrize("ending", FORMS)
def test_every_form_is_written_twice_the_same(drawing: Drawing, data: DrawingData, ending: str, tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}{ending}" for i in range(2)]
    for path in paths:
        Drawing(data, ("quantized",)).save(path)
    assert paths[0].read_bytes() == paths[1].read_bytes() and paths[0].stat().st_size > 1000


def test_an_svg_is_whole_and_has_titles(drawing: Drawing) -> None:
    root = ET.fromstring(drawing.svg())
    titles = [e.text or "" for e in root.iter("{http://www.w3.org/2000/svg}title")]
    assert any("softmax (Softmax)" in t and "float" in t for t in titles)
    assert "u8" in drawing.svg() and drawing._repr_svg_() == drawing.svg()


def test_a_png_shows_its_text(drawing: Drawing, tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    drawing.save(path)
    with Image.open(path) as image:
        colours = {c for _, c in image.convert("RGB").getcolors(1 << 20) or []}
        assert (0, 114, 178) in colours and image.width > 400


def test_json_is_the_data(drawing: Drawing, tmp_path: Path) -> None:
    drawing.save(tmp_path / "x.json")
    assert json.loads((tmp_path / "x.json").read_text("utf-8")) == drawing.to_json()


def test_stages_stand_side_by_side(data: DrawingData) -> None:
    text = Drawing(data, STAGES).dot()
    assert all(f'subgraph "cluster_{s}"' in text for s in STAGES)
    assert "cluster_float" not in Drawing(data, ("float",)).dot()


def test_depth_and_folding(data: DrawingData) -> None:
    whole = Drawing(data, ("fused",))
    assert whole.showing(fold=False).open == tuple(g.id for s in data.stages for g in s.groups)
    assert whole.showing(depth=0).open == () and "folded" in whole.showing(depth=0).text()
    assert "folded" not in whole.showing(fold=False).text() and "fewbit.Drawing" in repr(whole)
    assert whole.showing("float").stages == ("float",)


def test_another_ending_is_refused() -> None:
    with pytest.raises(UsageError, match=r"x.pdf must end in .svg, .png, .html, .dot or .json"):
        check_form(Path("x.pdf"))


def test_without_packages_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(render, "find_spec", lambda name: None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    for path, word in (("x.svg", "mini-racer"), ("x.png", "mini-racer")):
        with pytest.raises(EngineMissing, match=rf"{word}.*fewbit\[plot\]"):
            check_form(Path(path))
    for path in ("x.html", "x.dot", "x.json"):
        check_form(Path(path))
    monkeypatch.setattr(shutil, "which", lambda name: name)
    with pytest.raises(EngineMissing, match="resvg_py"):
        check_form(Path("x.png"))
    check_form(Path("x.svg"))


def test_the_program_dot_is_the_other_way(drawing: Drawing, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "dot"
    program.write_text("#!/bin/sh\ncat > /dev/null; echo '<svg><g class=\"graph\"><title>c0</title></g></svg>'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(render, "find_spec", lambda name: None)
    assert "<title>x</title>" in render.svg_of("digraph {}", {"c0": "x"})


def test_what_graphviz_refuses_is_an_error() -> None:
    with pytest.raises(render.EngineError, match="Graphviz refuses the drawing"):
        render.svg_of("digraph {", {})


def test_a_notebook_can_draw(data: DrawingData) -> None:
    """There an event loop is running in the thread that asks."""

    async def cell() -> str | None:
        return Drawing(data, ("fused",))._repr_svg_()

    assert "</svg>" in str(asyncio.run(cell()))


def test_an_error_that_nobody_catches_ends_the_process() -> None:
    code = "from fewbit.report.drawing.render import svg_of; svg_of('digraph {', {})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1 and "Graphviz refuses the drawing" in done.stderr


# -- the page ---------------------------------------------------------------------------------------------------------


def test_the_page_needs_nothing_and_forbids_everything(drawing: Drawing) -> None:
    text = drawing.html()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None and "default-src &#39;none&#39;" in policy[1] and "wasm-unsafe-eval" in policy[1]
    assert "unsafe-eval&#39;" not in policy[1].replace("wasm-unsafe-eval", "") and "connect-src" not in policy[1]
    assert not re.findall(r'(?:src|href)="(?!#)[^"]+"', text.split("<script>")[0])
    assert text.count("<script") == 4 == text.count("</script>") and len(text) < 3_000_000


def test_names_cannot_leave_the_data(data: DrawingData) -> None:
    from dataclasses import replace

    evil = "</script><script>alert(1)</script>"
    stage = data.stages[2]
    named = replace(stage, boxes=tuple(replace(b, name=evil, reason=evil) for b in stage.boxes))
    text = Drawing(replace(data, title=evil, stages=(named,)), ("quantized",)).html()
    assert "<script>alert" not in text and text.count("</script>") == 4


def test_every_colour_has_one_for_the_dark() -> None:
    folder = Path(drawing_file.__file__).parent
    dark = (folder / "page" / "dark.css").read_text("utf-8")
    looks = formats.LOOKS.values()
    fills = {p.fill for p in boxes.PAINTS.values()} | {s[1] for s in boxes.STEPS.values()} | {boxes.ENDS}
    lines = (
        {p.line for p in boxes.PAINTS.values()} | {s[2] for s in boxes.STEPS.values()} | {look.line for look in looks}
    )
    assert not [c for c in fills if f'[fill="{c}"]' not in dark]
    assert not [c for c in lines if f'[stroke="{c}"]' not in dark]
    assert not [c for c in (boxes.INK, boxes.SOFT) if f'text[fill="{c}"]' not in dark]
