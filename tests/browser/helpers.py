"""What the tests of pages ask of every page."""

from __future__ import annotations

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

BAD = ("serious", "critical")


def barriers(page: Page, least: tuple[str, ...] = BAD) -> list[str]:
    """What axe-core finds that keeps people out of a page, one line an element; only of the impacts in `least`."""
    found = Axe().run(page).response["violations"]
    return [
        f"{v['impact']} {v['id']}: {v['help']} – {' '.join(map(str, n['target']))}"
        for v in found
        if v["impact"] in least
        for n in v["nodes"]
    ]


def overflow(page: Page) -> int:
    """By how many pixels the page is wider than the window."""
    width: int = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return width
