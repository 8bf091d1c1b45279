"""The filter line: completion, chips, wrong filters, and an address that means the same for everybody."""

from __future__ import annotations

import json
from collections.abc import Callable
from time import time_ns
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from llmspan.backends.base import Backend
from records import make_trace
from viewer import Viewer

Open = Callable[..., Page]


def fill(backend: Backend) -> None:
    now = time_ns()
    backend.write(
        [
            make_trace(
                started_at=now, request_model="model-a", response_model="model-a", status="ok", user_id="Ann Lee"
            ),
            make_trace(started_at=now - 1, request_model="model-b", response_model="model-b", status="error"),
            make_trace(started_at=now - 2, request_model="model-b", response_model="model-b", status="cancelled"),
        ]
    )


def test_a_filter_and_the_way_back(memory: Backend, viewer: Viewer, open_page: Open) -> None:
    """The list follows the filter, the address has it, and the way back undoes it."""
    fill(memory)
    page = open_page(viewer)
    page.locator("#q").fill("model:model-b -status:error")
    page.keyboard.press("Enter")
    expect(page.locator(".calls tbody tr")).to_have_count(1)
    assert "q=model" in page.url
    page.reload()
    expect(page.locator(".calls tbody tr")).to_have_count(1)
    page.go_back()
    expect(page.locator(".calls tbody tr")).to_have_count(3)


def test_chips(memory: Backend, viewer: Viewer, open_page: Open) -> None:
    """Each chip is a filter that the language knows."""
    fill(memory)
    page = open_page(viewer)
    for name in page.locator(".chip").all_inner_texts():
        page.locator(".chip", has_text=name).first.click()
        expect(page.locator(".chip.on")).to_have_text(name)
        expect(page.locator("#calls")).to_be_visible()


def test_completion(memory: Backend, viewer: Viewer, open_page: Open) -> None:
    """A key by its first letters, then a value of the store, with the keyboard alone; quotes where they are needed."""
    fill(memory)
    page = open_page(viewer)
    page.keyboard.press("/")
    page.keyboard.type("use")
    page.get_by_role("option", name="user:", exact=True).wait_for()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.get_by_role("option").first.wait_for()
    page.keyboard.type("an")
    expect(page.get_by_role("option")).to_have_text(['user:"Ann Lee"'])
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Tab")
    expect(page.locator("#q")).to_have_value('user:"Ann Lee"')
    page.keyboard.press("Enter")
    expect(page.locator(".calls tbody tr")).to_have_count(1)


@pytest.mark.parametrize(
    ("word", "first"),
    [("st", "status:"), ("-st", "-status:"), ("status:e", "status:error"), ("status:ok,c", "status:ok,cancelled")],
)
def test_what_may_follow(viewer: Viewer, word: str, first: str) -> None:
    assert json.loads(viewer.ask(f"/complete?word={quote(word)}").text)[0] == first


@pytest.mark.parametrize("word", ["", "x:", "'", '"', "\x00", "status:", "a=b:c", "-", "tokens>1"])
def test_what_is_no_word(viewer: Viewer, word: str) -> None:
    """Whatever stands there, the answer is a list."""
    assert isinstance(json.loads(viewer.ask(f"/complete?word={quote(word)}").text), list)


@pytest.mark.parametrize("query", ["status:eror", "statsu:ok", "tokens>many", 'user:"open'])
def test_a_filter_that_cannot_be_read(viewer: Viewer, query: str) -> None:
    """The page says which part is wrong and what would be right; nothing is shown instead."""
    for path in ("/", "/calls.json", "/events"):
        answer = viewer.ask(f"{path}?q={quote(query)}")
        assert answer.status == 400
        assert "This filter cannot be read" in answer.text
