"""From call to call in a run, by links and keys, and back to the row of the list."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import Page, expect

from llmspan.backends.base import Backend
from records import make_trace, this_day
from viewer import Viewer

Open = Callable[..., Page]


def test_previous_and_next(memory: Backend, viewer: Viewer, open_page: Open) -> None:
    """By time, calls of the same moment included; the tab stays, and the ends say so."""
    memory.write(
        [make_trace(id=f"call-{index}", run_id="run-1", started_at=this_day() + index // 2) for index in range(4)]
        + [make_trace(id="another", run_id="run-2", started_at=this_day() + 1)]
    )
    page = open_page(viewer, "/call/call-0?tab=usage")
    expect(page.locator(".neighbours")).to_contain_text("1 of 4 in run run-1")
    expect(page.locator(".neighbours [rel=prev]")).to_have_count(0)
    for index in (1, 2, 3):
        page.keyboard.press("n")
        page.wait_for_url(f"**/call/call-{index}?tab=usage")
    expect(page.locator(".neighbours [rel=next]")).to_have_count(0)
    page.keyboard.press("p")
    page.wait_for_url("**/call/call-2?tab=usage")
    page.locator(".neighbours [rel=prev]").click()
    page.wait_for_url("**/call/call-1?tab=usage")


def test_back_finds_the_row(memory: Backend, viewer: Viewer, open_page: Open) -> None:
    """The row that was opened is chosen and in sight, of a filtered list as well."""
    memory.write([make_trace(id=f"call-{index}", started_at=this_day() + index) for index in range(60)])
    page = open_page(viewer, "/?q=status:ok")
    row = page.locator("tr[data-id=call-20]")
    row.click()
    page.wait_for_url("**/call/call-20")
    page.go_back()
    expect(row).to_have_class("selected")
    expect(row).to_be_in_viewport()
    expect(page.locator("#q")).to_have_value("status:ok")
