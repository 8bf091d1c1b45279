"""Notes and scores as somebody gives them in the browser: to a call, to the trace of a run, on every store."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from llmspan.backends.base import Backend
from records import NOON, make_trace
from viewer import Viewer

Open = Callable[..., Page]
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def give(page: Page, summary: str, **fields: str) -> None:
    """Open the form below ``summary``, fill it, and send it."""
    page.get_by_text(summary, exact=True).click()
    for label, text in fields.items():
        page.get_by_label(label.replace("_", " ")).fill(text)
    page.get_by_role("button", name="Add", exact=True).click()


def test_a_note_is_given_and_taken_back(memory: Backend, viewer: Viewer, open_page: Open) -> None:
    """To a call from its page, to a trace from the page of the run: each leads back, shows it, and can be undone."""
    memory.write(
        [make_trace(id=f"call/{index} %", started_at=NOON + index, run_id="r", trace_id=TRACE) for index in (1, 2)]
    )
    page = open_page(viewer, "/call/call%2F1%20%25")
    give(page, "Add a note or a score", Score_or_other_value="0.25", Note="too long", Who_says_so="ann")
    page.wait_for_url("**/call/call%2F1%20%25")
    expect(page.locator(".given-note")).to_have_text("score 0.25 too long ann")
    page.goto(f"{viewer.address}/run/r")
    give(page, "Add a note or a score to the trace", Name="helpful", Score_or_other_value="yes")
    page.wait_for_url("**/run/r")
    expect(page.locator(".given-note")).to_have_count(2)
    page.goto(f"{viewer.address}/?q=score<1 annotation.helpful:yes")
    expect(page.locator(".calls tbody tr")).to_have_count(1)
    page.goto(f"{viewer.address}/trace-annotations/{TRACE}")
    page.get_by_role("button", name="Remove helpful").click()
    expect(page.locator("main")).to_contain_text("None yet.")
    page.goto(f"{viewer.address}/annotations/call%2F1%20%25")
    page.get_by_role("button", name="Remove score").click()
    expect(page.locator("main")).to_contain_text("None yet.")


def test_a_store_that_takes_no_notes(memory: Backend, viewer: Viewer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no note can be stored, a sentence stands for the form, on every page that has one."""
    memory.write([make_trace(id="call", run_id="r", trace_id=TRACE)])
    monkeypatch.setattr(memory, "annotation_obstacle", lambda: "the user 'reader' may only read", raising=False)
    for path in ("/call/call", "/annotations/call", f"/trace-annotations/{TRACE}", "/run/r"):
        page = viewer.ask(path).text
        assert ("the user &#39;reader&#39; may only read" in page, "note-form" in page) == (True, False)
