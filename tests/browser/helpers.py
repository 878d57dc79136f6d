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


CROWDED = """() => {
    const found = [];
    for (const svg of document.querySelectorAll(".plot svg")) {
        const all = [...svg.querySelectorAll("text")].map(t => [t.textContent.trim(), t.getBoundingClientRect()]);
        const boxes = all.filter(([text, box]) => text && box.width && box.height);
        const f = svg.getBoundingClientRect();
        const title = svg.closest("figure").id;
        boxes.forEach(([text, a], i) => {
            if (a.left < f.left - 1 || a.right > f.right + 1 || a.top < f.top - 1 || a.bottom > f.bottom + 1)
                found.push(`${title}: ${text} is cut off`);
            for (const [other, b] of boxes.slice(i + 1)) {
                const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
                const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
                if (wide > 2 && high > 4) found.push(`${title}: ${text} lies on ${other}`);
            }
        });
    }
    return found;
}"""


def crowded(page: Page) -> list[str]:
    """Texts in the charts of a page that lie on each other or leave their picture."""
    found: list[str] = page.evaluate(CROWDED)
    return found
