"""The page of a report in a browser: it opens in silence, sorts, filters, shows layers, hands data out, prints."""

from __future__ import annotations

import csv
import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Locator, Page, expect

import fewbit as fb
from fewbit.data.demo import DEMO_MODEL, demo_calibration, demo_test
from fewbit.report.page.html import page as html_of
from tests.browser.conftest import Visit
from tests.browser.helpers import barriers, crowded, overflow
from tests.browser.resnet import SIDE, resnet50
from tests.models import load
from tests.report.page import facts
from tests.report.page.reading import with_numbers

Picture = Callable[..., Path]
READY = 5000
"""Milliseconds, on the slowest machine; the aim is 1000 on a usual one."""


ODD = re.compile(r'\b(?:d|c?[xy][12]?|r|width|height|transform|viewBox)="[^"]*(?:NaN|Infinity|undefined)[^"]*"')
"""Places in a picture that are none."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pages")


@pytest.fixture(scope="module")
def demo(folder: Path) -> Path:
    """The real report of the demo network."""
    out = folder / "demo-int8.onnx"
    fb.quantize(DEMO_MODEL, demo_calibration(), verify=False, effort="fast", batch_size=32).save(out)
    found = fb.make_report(DEMO_MODEL, out, {k: v[:32] for k, v in demo_test().items()}, batch_size=32)
    found.save(folder / "demo.html")
    return folder / "demo.html"


@pytest.fixture(scope="module")
def resnet(folder: Path) -> Path:
    """The real report of a network of ResNet-50's layers and channels."""
    model, x = load(resnet50()), np.random.default_rng(0).standard_normal((1, 3, SIDE, SIDE)).astype(np.float32)
    quantized = fb.quantize(model, {"input": x}, effort="fast", verify=False)
    fb.make_report(model, quantized, {"input": x}).save(folder / "resnet50.html")
    return folder / "resnet50.html"


@pytest.fixture(scope="module")
def bad(folder: Path) -> Path:
    """A made-up report that has every part, of a network where much went wrong, with names that want to be markup."""
    return written(folder, "bad", facts.whole())


def written(folder: Path, name: str, found: Any) -> Path:
    (folder / f"{name}.html").write_text(html_of(found), "utf-8")
    return folder / f"{name}.html"


def ready(page: Page) -> Page:
    page.wait_for_selector("html[data-ready]", state="attached")
    return page


def table(page: Page) -> Locator:
    return page.locator("#layers-table")


def rows(page: Page) -> Locator:
    """The rows of the table of layers that can be seen."""
    return table(page).locator("tbody tr:visible")


def shown(page: Page, title: str) -> list[str]:
    """What a column of the table of layers says, from top to bottom."""
    titles = table(page).locator("thead th").all_inner_texts()
    at = [t.strip().lower() for t in titles].index(title.lower())
    return [t.split("\t")[at].strip() for t in rows(page).all_inner_texts()]


def picture_of(page: Page, name: str) -> str:
    """What the picture `name` tells those who do not see it."""
    return page.locator(f"#chart-{name} .plot svg").first.get_attribute("aria-label") or ""


def saved(page: Page, button: Locator) -> tuple[str, str]:
    """Name and text of the file that a button gives."""
    with page.expect_download() as found:
        button.click()
    return found.value.suggested_filename, found.value.path().read_text("utf-8")


def drawn(page: Page) -> Page:
    """The page with all its pictures; else they are drawn when they come in sight."""
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    return page


def looked_at(page: Page) -> Page:
    """The page as it is when somebody went through it to its end and back."""
    for figure in page.locator("figure.chart:visible").all():
        figure.scroll_into_view_if_needed()
        figure.locator(".plot > *").first.wait_for()
    page.evaluate("scrollTo(0, 0)")
    return page


# -- it opens ---------------------------------------------------------------------------------------------------------


def test_resnet50_opens_soon(visit: Visit, resnet: Path, picture: Picture) -> None:
    page = ready(visit(resnet))
    took = int(page.locator("html").get_attribute("data-ready") or 0)
    print(f"\nResNet-50: {resnet.stat().st_size / 1e6:.2f} MB, ready after {took} ms")
    assert 0 < took < READY and resnet.stat().st_size < 5_000_000
    expect(page.locator("#chosen-h")).not_to_be_empty()
    assert rows(page).count() > 70
    picture(looked_at(page), "report-resnet50")
    expect(page.locator("#chart-errors svg")).to_be_visible()


def test_resnet50_shows_its_widest_layer(visit: Visit, resnet: Path) -> None:
    page = ready(visit(resnet))
    page.get_by_role("search").get_by_label("Name").fill("layer4 conv3")
    assert 3 <= rows(page).count() <= 6
    rows(page).first.locator("a").click()
    figure = page.locator("#chart-weights")
    figure.scroll_into_view_if_needed()
    expect(figure.locator("svg").first).to_be_visible()
    figure.locator("summary").click()
    assert figure.locator("tbody tr").count() in (2048, 1024, 512, 256)  # neighbours may share a row
    assert overflow(page) == 0


@pytest.mark.parametrize("value", ["nan", "inf", 0.0])
def test_odd_numbers_are_borne_in_silence(visit: Visit, folder: Path, value: Any) -> None:
    page = drawn(ready(visit(written(folder, f"odd {value}", with_numbers(facts.whole(), value)), "#layer-5")))
    assert page.locator(".plot").count() > 5
    assert not ODD.findall(page.locator("main").inner_html())


def test_nothing_measured_is_borne_in_silence(visit: Visit, folder: Path) -> None:
    page = ready(visit(written(folder, "bare", facts.bare())))
    expect(page.locator("#latency")).to_contain_text("Not measured")
    assert overflow(page) == 0


def test_problems_are_loud(visit: Visit, bad: Path, picture: Picture) -> None:
    page = ready(visit(bad))
    verdict = page.locator(".verdict")
    expect(verdict).to_be_in_viewport()
    expect(verdict.get_by_role("heading").first).to_contain_text("2 problems found")
    for said in ("SLOWER THAN FLOAT", "THE OUTPUT IS OFF", "What to try", "effort = best"):
        expect(verdict).to_contain_text(said)
    picture(looked_at(page), "report-problems")


def test_odd_names_stay_names(visit: Visit, bad: Path) -> None:
    page = drawn(ready(visit(bad)))
    said = []
    page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
    for row in rows(page).all()[:6]:
        row.locator("a").click()
        expect(page.locator("#chosen-h")).not_to_be_empty()
    assert said == [] and page.locator("img, main script").count() == 0
    assert page.title().startswith("<script>alert('title')</script>")
    page.goto(bad.as_uri() + "#layer-0")
    page.reload()
    expect(page.locator("#chosen")).to_contain_text("<script>alert(1)</script>")


# -- the table --------------------------------------------------------------------------------------------------------


def test_it_sorts_by_every_kind_of_column(visit: Visit, bad: Path) -> None:
    page = ready(visit(bad))
    head = {t.strip().lower(): h for h in table(page).locator("thead th").all() for t in [h.inner_text()]}

    def sort(title: str) -> tuple[str | None, list[str]]:
        head[title.lower()].get_by_role("button").click()
        assert table(page).locator("th[aria-sort]").count() == 1
        return head[title.lower()].get_attribute("aria-sort"), shown(page, title)

    assert head["sqnr db"].get_attribute("aria-sort") == "ascending"
    first = shown(page, "SQNR dB")
    assert first[0] == "nan" and first[-1] == "∞" and float(first[1]) == 3.2
    assert sort("SQNR dB") == ("descending", first[::-1])
    assert sort("SQNR dB") == ("ascending", first)
    order, own = sort("Own dB")
    assert order in ("ascending", "descending") and own[-1] == "–"  # unknown: at the end, whichever way
    assert sort("Own dB")[1][-1] == "–"
    order, clip = sort("Clipped")
    assert order == "descending" and clip[0] == "31.000 %"
    assert [float(c.removesuffix(" %")) for c in clip] == sorted((float(c[:-2]) for c in clip), reverse=True)
    order, words = sort("Operator")
    assert order == "ascending" and words == sorted(words)
    assert sort("No.")[1] in ([str(i) for i in range(9)], [str(i) for i in range(8, -1, -1)])
    assert set(sort("Computed in")[1]) == {"integer", "float"}


def test_other_tables_sort_too(visit: Visit, bad: Path) -> None:
    page = ready(visit(bad))
    for name in ("profile", "sensitivity", "sizes"):
        grid = page.locator(f"#{name}-table")
        head = grid.locator("thead th").nth(2)
        head.get_by_role("button").click()
        once = grid.locator("tbody tr").first.inner_text()
        head.get_by_role("button").click()
        assert head.get_attribute("aria-sort") in ("ascending", "descending")
        assert grid.locator("tbody tr").first.inner_text() != once


def test_it_filters(visit: Visit, bad: Path) -> None:
    page = ready(visit(bad))
    count, clear = page.locator("#filter-count"), page.get_by_role("button", name="Clear")
    expect(count).to_have_text("9 layers")
    expect(clear).to_be_hidden()
    page.get_by_role("search").get_by_label("Name").fill("LAYER1 conv")
    expect(count).to_have_text(f"{rows(page).count()} of 9 layers")
    named = [r.get_attribute("data-name") or "" for r in rows(page).all()]  # of the layer, and of the value it makes
    assert len(named) > 1 and all("layer1" in n and "conv" in n for n in named)
    page.get_by_role("search").get_by_label("Operator").select_option("Conv")
    assert set(shown(page, "Operator")) == {"Conv"}
    page.get_by_role("search").get_by_label("Name").fill("no layer is called so")
    expect(count).to_have_text("0 of 9 layers")
    clear.click()
    expect(count).to_have_text("9 layers")
    expect(page.get_by_role("search").get_by_label("Name")).to_be_focused()
    page.get_by_role("search").get_by_label("Computed in").select_option("float")
    assert shown(page, "Computed in") == ["float"]
    page.get_by_role("search").get_by_label("Computed in").select_option("integer")
    assert shown(page, "Computed in") == ["integer"] * 8


# -- one layer --------------------------------------------------------------------------------------------------------


def test_a_click_chooses_a_layer(visit: Visit, demo: Path) -> None:
    page = ready(visit(demo))
    worst = page.locator("#chosen-h").inner_text()
    expect(rows(page).first).to_have_class("chosen")
    row = table(page).locator('tbody tr[data-form="integer"]').nth(3)
    row.locator("td").nth(1).click()
    expect(row).to_have_class("chosen")
    assert page.locator("#chosen-h").inner_text() != worst
    assert page.evaluate("location.hash") == f"#{row.get_attribute('id')}"
    expect(page.locator("#chosen")).to_be_in_viewport()
    page.locator("#chart-histogram").scroll_into_view_if_needed()
    label = picture_of(page, "histogram")
    page.locator("#next").click()
    page.locator("#chart-histogram").scroll_into_view_if_needed()
    expect(page.locator("#chart-histogram svg").first).not_to_have_attribute("aria-label", label)
    bars = page.locator("#chart-errors")
    bars.scroll_into_view_if_needed()
    bars.locator("svg a").first.click()  # bars are links
    expect(rows(page).first).to_have_class("chosen")
    assert page.locator("#chosen-h").inner_text() == worst


def test_the_keyboard_chooses_a_layer(visit: Visit, demo: Path) -> None:
    page = ready(visit(demo))
    links = rows(page).locator("a")
    links.first.focus()
    for key, at in (("ArrowDown", 1), ("ArrowDown", 2), ("ArrowUp", 1), ("End", rows(page).count() - 1), ("Home", 0)):
        page.keyboard.press(key)
        expect(links.nth(at)).to_be_focused()
    assert links.nth(1).get_attribute("tabindex") == "-1"  # one row alone is in the order of the Tab key
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(rows(page).nth(1)).to_have_class("chosen")
    expect(page.locator("#chosen")).to_be_focused()
    expect(page.locator("#chosen-place")).to_have_text(f"2 of {rows(page).count()}")


def test_previous_and_next_walk_in_the_order_of_the_table(visit: Visit, bad: Path) -> None:
    page = ready(visit(bad))
    page.get_by_role("search").get_by_label("Computed in").select_option("integer")
    place, back, on = page.locator("#chosen-place"), page.locator("#previous"), page.locator("#next")
    expect(place).to_have_text("1 of 8")
    expect(back).to_be_disabled()
    for i in range(1, 8):
        on.click()
        expect(rows(page).nth(i)).to_have_class("chosen")
    expect(on).to_be_disabled()
    back.click()
    expect(place).to_have_text("7 of 8")
    page.get_by_role("search").get_by_label("Computed in").select_option("float")
    expect(place).to_have_text("not in the filtered table")
    on.click()
    expect(place).to_have_text("1 of 1")


def test_a_link_names_a_layer(visit: Visit, demo: Path) -> None:
    page = ready(visit(demo, "#layer-4"))
    expect(page.locator("#layer-4")).to_have_class("chosen")
    expect(page.locator("#chosen-eyebrow")).to_contain_text("Layer 4")
    expect(page.locator("#chosen")).to_be_in_viewport()
    page.evaluate("location.hash = '#layer-6'")
    expect(page.locator("#layer-6")).to_have_class("chosen")
    page.evaluate("location.hash = '#layer-999'")
    expect(page.locator("#layer-6")).to_have_class("chosen")


def test_the_chosen_layer_is_told_in_full(visit: Visit, bad: Path) -> None:
    page = ready(visit(bad, "#layer-0"))
    layer = facts.whole()["layers"][0]
    chosen = page.locator("#chosen")
    expect(chosen).to_contain_text(layer["verdict"])
    for said in ("uint8", "entropy, 64 samples", "int8, per channel", "118.01 M"):
        expect(chosen.locator("dl")).to_contain_text(said)
    page.locator("#chart-histogram").scroll_into_view_if_needed()
    assert "Counts of the values" in picture_of(page, "histogram")
    page.locator("#chart-weights").scroll_into_view_if_needed()
    assert "weight of each channel" in picture_of(page, "weights")
    linear = page.locator("#chart-histogram").get_by_role("button", name="Linear")
    linear.click()
    expect(linear).to_have_attribute("aria-pressed", "true")


# -- what it hands out ------------------------------------------------------------------------------------------------


def test_the_command_is_copied(visit: Visit, bad: Path) -> None:
    page = ready(visit(bad))
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    button = page.locator("#copy")
    button.click()
    expect(button).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == facts.whole()["summary"]["command"]


def test_data_and_pictures_are_saved(visit: Visit, bad: Path) -> None:
    page = drawn(ready(visit(bad)))
    known = facts.whole()
    name, text = saved(page, page.get_by_role("button", name="Save all data"))
    assert name.endswith(".json") and "<" not in name and "/" not in name
    found = json.loads(text)
    assert found["summary"] == known["summary"] and len(found["layers"]) == 9
    name, text = saved(page, page.get_by_role("button", name="Save the layers"))
    layers = list(csv.DictReader(text.splitlines()))
    assert name.endswith(".csv") and [r["name"] for r in layers] == [x["name"] for x in known["layers"]]
    assert [r["sqnr"] for r in layers] == [str(x["sqnr"]) for x in known["layers"]]
    errors = page.locator("#chart-errors")
    _, text = saved(page, errors.get_by_role("button", name="as CSV"))
    assert len(list(csv.DictReader(text.splitlines()))) == 9
    _, text = saved(page, errors.get_by_role("button", name="as JSON"))
    assert json.loads(text)[0]["sqnr"] == "nan"
    name, text = saved(page, errors.get_by_role("button", name="as SVG"))
    root = ET.fromstring(text)
    assert name.endswith(".svg") and root.tag == "{http://www.w3.org/2000/svg}svg" and "var(--" not in text
    assert root.find(".//{http://www.w3.org/2000/svg}text") is not None


# -- looks ------------------------------------------------------------------------------------------------------------


def paper(page: Page) -> str:
    """The colour of the page."""
    found: str = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    return found


def test_light_and_dark(visit: Visit, demo: Path, picture: Picture) -> None:
    light, dark = ready(visit(demo)), ready(visit(demo, scheme="dark"))
    white, black = paper(light), paper(dark)
    assert white != black
    dark.get_by_role("group", name="Colours").get_by_role("button", name="Light").click()
    assert paper(dark) == white
    picture(looked_at(light), "report-light")
    group = light.get_by_role("group", name="Colours")
    expect(group.get_by_role("button", name="Auto")).to_have_attribute("aria-pressed", "true")
    group.get_by_role("button", name="Dark").click()
    expect(group.get_by_role("button", name="Dark")).to_have_attribute("aria-pressed", "true")
    assert paper(light) == black
    picture(light, "report-dark")
    light.reload()
    assert paper(ready(light)) == black  # it is remembered
    group.get_by_role("button", name="Auto").click()
    assert paper(light) == white


def test_it_prints(visit: Visit, bad: Path) -> None:
    page = ready(visit(bad, scheme="dark"))
    page.get_by_role("group", name="Colours").get_by_role("button", name="Dark").click()
    page.emulate_media(media="print")
    for gone in (".filters", ".contents", "#copy", "#previous", ".theme", "#save-all", "summary"):
        assert page.locator(f"{gone}:visible").count() == 0, gone
    for name in ("outputs", "layers", "profile", "sensitivity", "sizes"):
        grid = page.locator(f"#{name}-table")
        expect(grid).to_be_visible()
        box = page.locator(".scroll", has=grid)
        assert box.evaluate("e => getComputedStyle(e).overflowY") == "visible", name
        assert box.evaluate("e => e.scrollHeight - e.clientHeight") <= 0, name
    found = page.pdf(format="A4")  # what is folded is laid open, what was not in sight is drawn
    assert found.startswith(b"%PDF") and page.locator("#chart-sizes svg").count() > 0


@pytest.mark.parametrize("which", ["demo", "bad"])
def test_a_phone_shows_all_of_it(which: str, visit: Visit, request: pytest.FixtureRequest, picture: Picture) -> None:
    page = looked_at(ready(visit(request.getfixturevalue(which), width=390, height=844)))
    assert overflow(page) == 0
    if which == "demo":
        picture(page, "report-phone")
    page.locator("#layers-table tbody a").nth(1).click()
    expect(page.locator("#chosen")).to_be_in_viewport()
    assert overflow(page) == 0


@pytest.mark.parametrize("width", [390, 800, 1280])
def test_texts_in_pictures_have_their_place(width: int, visit: Visit, bad: Path) -> None:
    found = crowded(drawn(ready(visit(bad, "#layer-0", width=width))))
    assert [line for line in found if "xxx" not in line] == []  # a name of wide letters reaches into the margin


def test_it_can_be_read_without_scripts(visit: Visit, demo: Path) -> None:
    page = visit(demo, script=False)
    expect(page.locator(".noscript")).to_be_visible()
    expect(page.locator(".verdict")).to_be_visible()
    assert rows(page).count() >= 20
    expect(page.locator("#profile-table")).to_be_visible()
    expect(page.locator(".filters")).to_be_hidden()
    assert page.locator("#chosen:visible, #copy:visible, .theme:visible, .plot:visible").count() == 0
    assert overflow(page) == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nobody_is_kept_out(scheme: str, visit: Visit, bad: Path) -> None:
    assert barriers(ready(visit(bad, scheme=scheme))) == []


def test_nobody_is_kept_out_of_a_real_report(visit: Visit, demo: Path) -> None:
    assert barriers(looked_at(ready(visit(demo)))) == []
