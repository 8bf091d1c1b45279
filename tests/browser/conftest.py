"""A real browser (Chromium) in front of a real viewer. Each page is watched: what it logs, asks for and refuses.

The browser is Debian's package ``chromium``, or the program that ``LLMSPAN_TEST_CHROMIUM`` names; where there is none,
these tests are skipped, and the last lines of the run say so.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from llmspan.backends.base import Backend
from llmspan.backends.memory import MemoryBackend
from viewer import TOKEN, Viewer, viewing

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def find_chromium() -> str | None:
    """The browser to test with; None if there is none."""
    named = os.environ.get("LLMSPAN_TEST_CHROMIUM")
    return named or next(filter(None, map(shutil.which, _NAMES)), None)


# For a module, not for the session: as long as it runs, its event loop is the thread's, and tests that start one fail.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = find_chromium()
    if path is None:
        pytest.skip("there is no Chromium; install Debian's package chromium, or set LLMSPAN_TEST_CHROMIUM")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=_ARGUMENTS)
        yield running
        running.close()


class Watch:
    """What pages did that they should not: errors in the console, and requests to other machines."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        #: parts of messages that a test expects
        self.expected: list[str] = []

    def observe(self, page: Page) -> None:
        page.on("console", lambda message: self._on_message(message.type, message.text))
        page.on("pageerror", lambda error: self.errors.append(f"{error}"))
        page.on("request", lambda request: self._on_request(request.url))

    def _on_message(self, kind: str, text: str) -> None:
        if kind in ("error", "warning") and not any(part in text for part in self.expected):
            self.errors.append(text)

    def _on_request(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https", "ws", "wss") and parts.hostname != "127.0.0.1":
            self.errors.append(f"a request left the machine: {url}")


@pytest.fixture
def watch() -> Iterator[Watch]:
    watching = Watch()
    yield watching
    assert watching.errors == []


Open = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser, watch: Watch) -> Iterator[Open]:
    """Opens a page of a viewer, as somebody who has come by its first address."""
    with ExitStack() as stack:

        def open_page(viewer: Viewer, path: str = "/", **context: Any) -> Page:
            options: dict[str, Any] = {"viewport": {"width": 1400, "height": 900}, **context}
            session = browser.new_context(**options)
            stack.callback(session.close)
            page = session.new_page()
            watch.observe(page)
            page.goto(f"{viewer.address}/?token={TOKEN}")
            if path != "/":
                page.goto(f"{viewer.address}{path}")
            return page

        yield open_page


@pytest.fixture
def memory() -> Backend:
    backend = MemoryBackend()
    backend.open()
    return backend


@pytest.fixture
def viewer(memory: Backend) -> Iterator[Viewer]:
    with viewing(memory) as running:
        yield running
