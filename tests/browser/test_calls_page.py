"""The list of calls and the page of one, as somebody uses them."""

from __future__ import annotations

import json
from collections.abc import Callable

from playwright.sync_api import Page, expect

from llmspan.backends.base import Backend
from llmspan.usage import Usage
from records import NOON, make_trace
from viewer import Viewer

Open = Callable[..., Page]

TOOL_REQUEST = {
    "model": "gpt-5",
    "tools": [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}],
    "messages": [
        {"role": "user", "content": "What is the weather in Oslo?"},
        {
            "role": "assistant",
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"a":1}'}}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "seven degrees"},
    ],
}
TOOL_RESPONSE = {"choices": [{"message": {"role": "assistant", "content": "It is seven degrees."}}]}


def fill(backend: Backend, number: int = 3) -> list[str]:
    """Records of calls, the oldest first; their ids."""
    records = [
        make_trace(
            id=f"01900000-0000-7000-8000-{index:012d}",
            started_at=NOON + index * 1_000_000_000,
            request_model=f"model-{index}",
            response_model=f"model-{index}",
            run_id="run-1",
            content="full",
            request_json=json.dumps(TOOL_REQUEST),
            response_json=json.dumps(TOOL_RESPONSE),
        )
        for index in range(number)
    ]
    backend.write(records)
    return [record.id for record in records]


def test_the_newest_comes_first_with_its_words(memory: Backend, viewer: Viewer, open_page: Open) -> None:
    """A row says which call it is by its first words, which are read after the page is there."""
    fill(memory)
    page = open_page(viewer)
    rows = page.locator(".calls tbody tr")
    expect(rows).to_have_count(3)
    expect(rows.first.locator(".model")).to_contain_text("model-2")
    expect(rows.first.locator(".asked")).to_have_text("What is the weather in Oslo?")
    expect(rows.first.locator(".answered")).to_contain_text("It is seven degrees.")


def test_not_reported_is_not_zero(memory: Backend, viewer: Viewer, open_page: Open) -> None:
    """Tokens that the provider did not report are an outline and dashes; a reported zero is a zero."""
    memory.write(
        [make_trace(usage=Usage()), make_trace(usage=Usage(input_tokens=0, output_tokens=0, source="provider"))]
    )
    page = open_page(viewer)
    totals = page.locator(".totals")
    assert sorted(totals.all_inner_texts()) == ["0 → 0", "– → –"]  # noqa: RUF001 - the dash of the page
    expect(page.locator(".tokens.unreported rect.outline")).to_have_count(1)


def test_keys(memory: Backend, viewer: Viewer, open_page: Open) -> None:
    """j and k move, Enter opens, the browser's way back keeps the list, slash goes to the filter, Escape leaves it."""
    fill(memory)
    page = open_page(viewer)
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("j")
    page.keyboard.press("k")
    expect(page.locator("tr.selected .model")).to_contain_text("model-1")
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_contain_text("model-1")
    page.go_back()
    expect(page.locator(".calls tbody tr")).to_have_count(3)
    page.keyboard.press("/")
    expect(page.locator("#q")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#q")).not_to_be_focused()


def test_the_call(memory: Backend, viewer: Viewer, open_page: Open) -> None:
    """The conversation has the result of a tool inside of the call that it answers; tabs have the rest."""
    ids = fill(memory)
    page = open_page(viewer, f"/call/{ids[0]}")
    expect(page.locator(".turn.user").first).to_contain_text("What is the weather in Oslo?")
    call = page.locator(".turn.call")
    expect(call).to_contain_text("weather")
    expect(call.locator(".turn.result")).to_contain_text("seven degrees")
    page.get_by_role("link", name="Request", exact=True).click()
    expect(page.locator("#request-text")).to_contain_text('"role": "tool"')
    page.get_by_role("link", name="Tools", exact=True).click()
    expect(page.locator(".turn.tool")).to_contain_text("weather")
    page.get_by_role("link", name="run-1", exact=True).click()
    expect(page.locator("h1")).to_have_text("Run run-1")
    expect(page.locator(".tree tbody tr")).to_have_count(3)


def test_new_calls_arrive(memory: Backend, viewer: Viewer, open_page: Open) -> None:
    """At the top of the list a new call appears by itself; for somebody who has moved, a button says so."""
    fill(memory)
    page = open_page(viewer)
    memory.write([make_trace(started_at=NOON + 10**12, request_model="brand-new", response_model="brand-new")])
    expect(page.locator(".calls tbody tr").first.locator(".model")).to_contain_text("brand-new")
    page.keyboard.press("j")
    memory.write([make_trace(started_at=NOON + 2 * 10**12, request_model="newer", response_model="newer")])
    page.locator("#show-fresh").click()
    expect(page.locator(".calls tbody tr").first.locator(".model")).to_contain_text("newer")


def test_pages_of_a_long_list(memory: Backend, viewer: Viewer, open_page: Open) -> None:
    """Older calls are a link away, each call once."""
    fill(memory, 120)
    page = open_page(viewer)
    shown = [page.locator(".calls tbody tr").evaluate_all("rows => rows.map(row => row.dataset.id)")]
    for _ in range(2):
        page.get_by_role("link", name="Older").click()
        page.wait_for_url("**cursor**")
        shown.append(page.locator(".calls tbody tr").evaluate_all("rows => rows.map(row => row.dataset.id)"))
    every = [record_id for ids in shown for record_id in ids]
    assert [len(ids) for ids in shown] == [50, 50, 20]
    assert len(set(every)) == 120
    expect(page.get_by_role("link", name="Older")).to_have_count(0)
