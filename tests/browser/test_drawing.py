"""The page of a drawing: groups open, partners light up, layers are found – by mouse and by keyboard."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect

import fewbit as fb
from tests.browser.conftest import Visit
from tests.browser.helpers import barriers, overflow
from tests.models import load
from tests.report.drawing.conftest import network

Picture = Callable[..., Path]


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of six blocks, all folded at first, float and integer."""
    model = load(network(6))
    data = {"x": np.random.default_rng(0).standard_normal((4, 3, 8, 8)).astype(np.float32)}
    quantized = fb.quantize(model, data, quantize_mode="full", verify=False)
    path = tmp_path_factory.mktemp("drawing") / "net.html"
    fb.plot(model, quantized, depth=0, title="net <b>&amp;").save(path)
    return path


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo network and what a plan would make of it."""
    path = tmp_path_factory.mktemp("demo") / "demo.html"
    fb.plot(Path(fb.__file__).parent / "demo_data" / "demo.onnx", stage="all").save(path)
    return path


def ready(page: Page) -> Page:
    page.wait_for_selector("html[data-ready]")
    return page


def nodes(page: Page, stage: int) -> int:
    return page.locator(".pane").nth(stage).locator("g.node").count()


def test_a_click_opens_a_group_in_all_stages(visit: Visit, file: Path) -> None:
    page = ready(visit(file))
    assert page.title().startswith("net <b>&amp;") and [nodes(page, i) for i in range(3)] == [7, 6, 8]
    page.locator(".pane").nth(1).locator("g.folded").click()
    assert [nodes(page, i) for i in range(3)] == [12, 11, 13]
    page.locator(".pane").nth(2).locator("g.cluster text").click()
    assert [nodes(page, i) for i in range(3)] == [7, 6, 8]


def test_partners_light_up_and_the_panel_tells(visit: Visit, file: Path) -> None:
    page = ready(visit(file, "#fused:stem%2Fconv"))
    panes = page.locator(".pane")
    expect(panes.nth(1).locator("g.chosen")).to_have_count(1)
    expect(panes.nth(0).locator("g.partner")).to_have_count(2)  # the convolution, and the normalization in it
    expect(panes.nth(2).locator("g.partner")).to_have_count(1)
    panel = page.locator("#panel")
    expect(panel).to_contain_text("stem/bn")
    panel.locator("a", has_text="stem/conv").last.click()
    expect(panel.locator(".verdict")).to_have_text("integer")
    expect(panel).to_contain_text("s8 per channel")
    assert page.evaluate("location.hash") == "#quantized:stem%2Fconv"
    page.keyboard.press("Escape")
    expect(panel).to_be_hidden()
    assert page.evaluate("location.hash") == ""


def test_a_link_opens_what_is_around_a_layer(visit: Visit, file: Path) -> None:
    page = ready(visit(file, "#quantized:body%2F3%2Fconv1"))
    chosen = page.locator("g.chosen")
    expect(chosen).to_have_count(1)
    expect(chosen).to_be_in_viewport()
    expect(page.locator("#panel .name")).to_have_text("body/3/conv1")


def test_searching(visit: Visit, file: Path) -> None:
    page = ready(visit(file))
    page.keyboard.press("/")
    page.keyboard.type("relu body/4 ")
    expect(page.locator("#found li")).to_have_count(3)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator("#panel .name")).to_have_text("body/4/relu")
    page.locator("#search").fill("nothing like this")
    expect(page.locator("#found")).to_have_text("nothing found")


def test_all_of_it_with_the_keyboard(visit: Visit, file: Path) -> None:
    page = ready(visit(file))
    page.locator(".pane").nth(1).locator("g[tabindex='0']").focus()
    for _ in range(3):
        page.keyboard.press("ArrowDown")
    assert page.evaluate("document.activeElement.getAttribute('aria-expanded')") == "false"
    page.keyboard.press("Enter")
    assert nodes(page, 1) == 11
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")  # the first block opens
    assert nodes(page, 1) == 14
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    expect(page.locator("#panel")).to_contain_text("output")
    before = page.locator(".pane svg").nth(1).get_attribute("width")
    page.locator(".pane").nth(1).locator("g[tabindex='0']").focus()
    page.keyboard.press("+")
    assert page.locator(".pane svg").nth(1).get_attribute("width") != before


def test_stages_and_sizes_by_button(visit: Visit, file: Path) -> None:
    page = ready(visit(file))
    page.get_by_role("button", name="float", exact=True).click()
    page.get_by_role("button", name="fused", exact=True).click()
    expect(page.locator(".pane")).to_have_count(1)
    page.get_by_role("button", name="quantized", exact=True).click()  # one always stays
    expect(page.locator(".pane")).to_have_count(1)
    page.get_by_role("button", name="Open all").click()
    expect(page.locator("#status")).to_contain_text("31 boxes")
    width = page.locator(".pane svg").get_attribute("width")
    page.get_by_role("button", name="Larger").click()
    assert page.locator(".pane svg").get_attribute("width") != width
    page.get_by_role("button", name="Fit").click()
    box = page.locator(".pane svg").bounding_box()
    assert box is not None and box["height"] < 900
    page.get_by_role("button", name="Fold all").click()
    expect(page.locator("#status")).to_contain_text("8 boxes")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nobody_is_kept_out(visit: Visit, file: Path, scheme: str) -> None:
    assert barriers(ready(visit(file, "#quantized:softmax", scheme=scheme))) == []


def test_pictures_to_be_looked_at(visit: Visit, demo: Path, picture: Picture) -> None:
    hash = "#quantized:%2Flayer2%2Fconv2%2Fconv%2FConv"
    picture(ready(visit(demo, hash, width=1500)), "drawing-light", whole=False)
    picture(ready(visit(demo, hash, width=1500, scheme="dark")), "drawing-dark", whole=False)
    phone = ready(visit(demo, width=390, height=844))
    expect(phone.locator(".pane")).to_have_count(1)
    assert overflow(phone) == 0
    assert picture(phone, "drawing-phone", whole=False).stat().st_size > 10_000


def test_without_scripts_the_page_says_what_to_do(visit: Visit, demo: Path) -> None:
    page = visit(demo, script=False)
    expect(page.locator("noscript p, .noscript").first).to_contain_text("fewbit plot")
