"""Pages in a real browser: the system's Chromium, without a window, driven by Playwright.

A page must stay silent (no error, no warning on its console) and must ask for nothing but itself; `visit` checks both
when its test ends. Pictures land in `build/screenshots`, or in the folder that FEWBIT_ARTEFACTS names: they are there
to be looked at, and compared with nothing.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
OWN = ("data:", "blob:", "about:")
"""Beginnings of addresses that leave the page for no other place."""

Visit = Callable[..., Page]


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of the browser. Its absence is a failure, not a reason to skip: pages that nobody opened are not tested."""
    said = os.environ.get("FEWBIT_CHROMIUM")
    found = shutil.which(said) if said else next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        what = f"FEWBIT_CHROMIUM={said} is not a program" if said else f"none of {', '.join(NAMES)} is on PATH"
        pytest.fail(f"no browser: {what}; apt-get install chromium, or set FEWBIT_CHROMIUM to one", pytrace=False)
    return found


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """A browser for the tests of one file; while it is there, its loop keeps `asyncio.run` of others from working."""
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--disable-gpu", "--font-render-hinting=none"])
        yield browser
        browser.close()


class Window:
    """A page and what it says. To open one costs four times what loading a file does, so they are used again."""

    def __init__(self, browser: Browser, width: int, height: int, scheme: str, script: bool, reduced: bool) -> None:
        self.media: dict[str, Any] = {
            "color_scheme": scheme, "reduced_motion": "reduce" if reduced else "no-preference"
        }  # fmt: skip
        self.size: Any = {"width": width, "height": height}
        self.context = browser.new_context(
            viewport=self.size, java_script_enabled=script, accept_downloads=True, locale="en-GB", **self.media
        )
        self.script, self.address, self.said = script, "", list[str]()
        self.page = self.context.new_page()
        self.page.set_default_timeout(10_000)
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self.said.append(f"page error: {error}"))
        self.page.on("request", self._on_request)

    def open(self, file: Path, hash: str) -> Page:
        self.address = file.resolve().as_uri()
        self.page.goto(self.address + hash)
        return self.page

    def empty(self) -> list[str]:
        """Make it as it was when it was new; what it said meanwhile."""
        self.page.emulate_media(media="null", **self.media)
        self.page.set_viewport_size(self.size)
        self.context.clear_permissions()
        if self.script:
            self.page.evaluate("localStorage.clear()")
        self.page.goto("about:blank")
        said, self.said = self.said, []
        return said

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.said.append(f"console {message.type}: {message.text}")

    def _on_request(self, request: Request) -> None:
        if request.url.split("#")[0] != self.address and not request.url.startswith(OWN):
            self.said.append(f"request: {request.url}")


@pytest.fixture(scope="module")
def windows(browser: Browser) -> Callable[..., Window]:
    """Give a window of these settings that is not in use."""
    known: dict[tuple[Any, ...], list[Window]] = {}

    def give(used: list[Window], *settings: Any) -> Window:
        free = [w for w in known.setdefault(settings, []) if w not in used]
        if not free:
            free = [Window(browser, *settings)]
            known[settings] += free
        return free[0]

    return give


@pytest.fixture
def visit(windows: Callable[..., Window]) -> Iterator[Visit]:
    """`visit(file, hash="", width=1280, height=900, scheme="light", script=True, reduced=True)` → the opened page.

    Fails at the end of the test if a page wrote an error or a warning to its console, raised, or asked for anything
    but its own file.
    """
    used: list[Window] = []

    def open_page(
        file: Path, hash: str = "", *, width: int = 1280, height: int = 900, scheme: str = "light",
        script: bool = True, reduced: bool = True,
    ) -> Page:  # fmt: skip
        used.append(windows(used, width, height, scheme, script, reduced))
        return used[-1].open(file, hash)

    yield open_page
    said = [line for window in used for line in window.empty()]
    assert not said, "\n".join(said)


@pytest.fixture(scope="session")
def artefacts() -> Path:
    """The folder of pictures."""
    folder = Path(os.environ.get("FEWBIT_ARTEFACTS") or Path(__file__).parents[2] / "build" / "screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture
def picture(artefacts: Path) -> Callable[..., Path]:
    """`picture(page, name, whole=True)`: a screenshot of the whole page, or of what is in sight."""

    def take(page: Page, name: str, whole: bool = True) -> Path:
        path = artefacts / f"{name}.png"
        page.screenshot(path=path, full_page=whole)
        return path

    return take
