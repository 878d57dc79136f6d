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

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Error, Page, Request, sync_playwright

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


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    """`visit(file, hash="", width=1280, height=900, scheme="light", script=True, reduced=True)` → the opened page.

    Fails at the end of the test if a page wrote an error or a warning to its console, raised, or asked for anything
    but its own file.
    """
    said: list[str] = []
    contexts = []

    def open_page(
        file: Path, hash: str = "", *, width: int = 1280, height: int = 900, scheme: str = "light",
        script: bool = True, reduced: bool = True,
    ) -> Page:  # fmt: skip
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, java_script_enabled=script,
            reduced_motion="reduce" if reduced else "no-preference", accept_downloads=True, locale="en-GB",
        )  # fmt: skip
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(10_000)
        address = file.resolve().as_uri()

        def on_console(message: ConsoleMessage) -> None:
            if message.type in ("error", "warning"):
                said.append(f"console {message.type}: {message.text}")

        def on_error(error: Error) -> None:
            said.append(f"page error: {error}")

        def on_request(request: Request) -> None:
            if request.url.split("#")[0] != address and not request.url.startswith(OWN):
                said.append(f"request: {request.url}")

        page.on("console", on_console)
        page.on("pageerror", on_error)
        page.on("request", on_request)
        page.goto(address + hash)
        return page

    yield open_page
    for context in contexts:
        context.close()
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
