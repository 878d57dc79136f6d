"""The site is built as anybody would build it, strictly; then its pages are read as files.

Every link inside leads to a page and a place on it, and no page loads anything from elsewhere.
"""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import pytest

import fewbit
import fewbit.torch
from fewbit import errors

ROOT = Path(__file__).parents[2]
SECONDS = 300  # it takes some 20 on a quiet machine
LOADS = {
    "script": "src",
    "img": "src",
    "link": "href",
    "iframe": "src",
    "source": "src",
    "object": "data",
    "video": "src",
}


class Page(NamedTuple):
    """What is asked of a page."""

    title: str
    links: frozenset[str]
    loads: frozenset[str]
    places: frozenset[str]


class Reader(HTMLParser):
    """Collects it."""

    def __init__(self) -> None:
        super().__init__()
        self.title, self.links, self.loads, self.places = "", set[str](), set[str](), set[str]()
        self.inside = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {k: v or "" for k, v in attrs}
        self.inside = tag
        self.places |= {found[k] for k in ("id", "name") if k in found}
        if tag == "a" and "href" in found:
            self.links.add(found["href"])
        if LOADS.get(tag, "") in found and found.get("rel") not in {"search", "index", "next", "prev"}:
            self.loads.add(found[LOADS[tag]])
        self.loads |= set(re.findall(r"url\(([^)]*)\)", found.get("style", "")))

    def handle_data(self, data: str) -> None:
        if self.inside == "title":
            self.title += data.strip()
        if self.inside == "style":
            self.loads |= set(re.findall(r"(?:url\(|@import\s+)['\"]?([^'\")\s]+)", data))

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built site."""
    out = tmp_path_factory.mktemp("site")
    words = ["-W", "--keep-going", "-n", "-q", "-c", "docs", "-d", str(out / "doctrees"), ".", str(out / "html")]
    made = subprocess.run(
        [sys.executable, "-m", "sphinx", *words], cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert made.returncode == 0, made.stdout + made.stderr
    return out / "html"


@cache
def read(file: Path) -> Page:
    reader = Reader()
    reader.feed(file.read_text("utf-8"))
    return Page(reader.title, frozenset(reader.links), frozenset(reader.loads), frozenset(reader.places))


def pages(site: Path) -> list[Path]:
    return [f for f in sorted(site.rglob("*.html")) if "_static" not in f.parts]


def is_elsewhere(link: str) -> bool:
    return bool(urlsplit(link).scheme or urlsplit(link).netloc)


def test_every_link_leads_to_a_page_and_a_place_on_it(site: Path) -> None:
    wrong = []
    for file in pages(site):
        for link in read(file).links:
            path, place = unquote(urlsplit(link).path), unquote(urlsplit(link).fragment)
            target = (file.parent / path).resolve() if path else file
            if is_elsewhere(link) or (target == file and place in {"", "top"}):
                continue
            if not target.is_file() or (place and target.suffix == ".html" and place not in read(target).places):
                wrong.append(f"{file.relative_to(site)} → {link}")
    assert not wrong


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    for file in pages(site):
        for what in read(file).loads:
            assert not is_elsewhere(what) or what.startswith("data:"), f"{file.relative_to(site)} loads {what}"
            path = unquote(urlsplit(what).path)
            assert what.startswith("data:") or (file.parent / path).is_file(), f"{file.relative_to(site)}: no {what}"
    for sheet in site.rglob("*.css"):
        found = re.findall(r"(?:url\(|@import\s+)['\"]?(?!data:)([^'\")\s]+)", sheet.read_text("utf-8"))
        assert not [u for u in found if is_elsewhere(u)], sheet.name


def test_every_page_has_a_title_of_its_own(site: Path) -> None:
    titles = {f: read(f).title for f in pages(site)}
    assert all(titles.values())
    twice = [f.relative_to(site) for f, t in titles.items() if list(titles.values()).count(t) > 1]
    assert {str(f) for f in twice} <= {"index.html", "docs/index.html"}, twice


def test_the_search_knows_the_pages(site: Path) -> None:
    index = (site / "searchindex.js").read_text("utf-8")
    for words in (
        "docs/howto/accuracy",
        "bench/results/accuracy",
        "notebooks/bad_layer",
        "examples/edit_plan",
        "smoothquant",
    ):
        assert words in index
    assert (site / "search.html").is_file()


def test_the_first_page_is_found_from_the_top(site: Path) -> None:
    assert "docs/index.html" in read(site / "index.html").links


def test_every_page_of_the_repository_is_a_page_of_the_site(site: Path) -> None:
    """So no result, program or notebook can be forgotten."""
    for pattern in ("docs/**/*.md", "bench/results/*.md", "examples/*.py", "notebooks/*.ipynb", "*.md"):
        found = sorted(ROOT.glob(pattern))
        assert found
        for file in found:
            assert (site / file.relative_to(ROOT)).with_suffix(".html").is_file(), file


def test_every_result_has_its_page_with_machine_and_date(site: Path) -> None:
    index = read(site / "docs" / "benchmarks.html")
    results = sorted((ROOT / "bench" / "results").glob("*.json"))
    assert len(results) >= 24
    for file in results:
        text = (site / "bench" / "results" / f"{file.stem}.html").read_text("utf-8")
        assert all(word in text for word in ("Machine", "Versions", "Date", f"{file.stem}.json")), file.stem
        assert f"../bench/results/{file.stem}.html" in index.links


def test_every_public_name_is_described(site: Path) -> None:
    described = {p for f in (site / "docs" / "api").glob("*.html") for p in read(f).places}
    names = {f"fewbit.{n}" for n in fewbit.__all__} | {f"fewbit.torch.{n}" for n in dir(fewbit.torch)}
    names |= {
        f"fewbit.errors.{n}" for n, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, (errors.FewbitError, errors.FewbitWarning))
    } - {"fewbit.errors.FewbitError", "fewbit.errors.FewbitWarning"}  # fmt: skip
    assert sorted(names - described) == []


def test_the_drawing_can_be_read_without_seeing_it() -> None:
    """And its text alternative names every step of the drawing."""
    drawing = (ROOT / "docs" / "pictures" / "pipeline.svg").read_text("utf-8")
    steps = re.findall(r'class="name"[^>]*>([^<:]+)', drawing)
    said = re.search(r"<desc[^>]*>(.*?)</desc>", drawing, re.S)
    assert said and len(steps) >= 10
    text = " ".join(said[1].split())
    for step in ("load", "make_plan", "calibrate", "correct", "apply", "verif", "deploy", "plan", "samples"):
        assert step in text and any(step in s for s in steps), step
