"""Text of others stays text: a corpus of markup and script in every text of a record and of a note, on every page."""

from __future__ import annotations

import json
from collections.abc import Callable
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from llmspan.annotation import Annotation
from llmspan.backends.base import Backend
from records import NOON, make_trace
from viewer import Viewer

Open = Callable[..., Page]

CORPUS = (
    "<script>document.title='owned'</script>",
    "<img src=x onerror=\"document.title='owned'\">",
    "\"><svg onload=document.title='owned'>",
    "'-document.title='owned'-'",
    "javascript:document.title='owned'",
    "{{ 7*7 }}${7*7}<%= 7*7 %>",
    "</title></textarea></script><h1>owned</h1>",
    "\u202eevil\u2066 \x1b[31m\x00\ufeff",
)
CALL, OTHER_CALL, TRACE = "call-1", "call-2", "4bf92f3577b34da6a3ce929d0e0e4736"
TABS = ("messages", "tools", "request", "response", "usage", "timing", "attributes")


def fill(backend: Backend, text: str) -> None:
    body = {"model": text, "messages": [{"role": text, "content": text}], "tools": [{"type": text, "name": text}]}
    blocks = [{"type": "text", "text": text, "citations": [{"title": text, "url": text, "cited_text": text}]}]
    backend.write(
        [
            make_trace(
                id=record_id, provider=text, operation=text, request_model=text, started_at=NOON + index,
                response_model=f"{text}{index}", run_id=text, user_id=text, agent_id=text, step_id=text,
                agent_tags=(text,), trace_id=TRACE, conversation_id=text,
                attributes={text: text, "nested": {text: [text]}}, status="error", error_type=text,
                error_message=text, error_json={text: text}, finish_reasons=(text,), content="full",
                request_json=json.dumps({**body, "temperature": f"{text}{index}"}),
                response_json=json.dumps({text: f"{text}{index}", "content": blocks}),
            )
            for index, record_id in enumerate((CALL, OTHER_CALL))
        ]
    )  # fmt: skip
    for subject in ({"record_id": CALL, "trace_id": None}, {"record_id": None, "trace_id": TRACE}):
        note = Annotation.make(**subject, name=text, value=text, comment=text, source=text)
        backend.annotate(note)  # type: ignore[attr-defined] - the store in memory keeps them


# at the beginning of a text, where an address would take a script; and all others at once
@pytest.mark.parametrize("text", [CORPUS[4], "\n".join(CORPUS)], ids=["address", "markup"])
def test_stays_text(memory: Backend, viewer: Viewer, open_page: Open, text: str) -> None:
    """Nothing runs, no element appears, no request leaves, nothing is refused by the policy, and the text is there."""
    fill(memory, text)
    page = open_page(viewer)
    expect(page.locator(".calls tbody tr")).to_have_count(2)
    name, filters = quote(text, safe=""), quote(f'"{text[:20]}"')
    paths = [f"/call/{CALL}?tab={tab}" for tab in TABS]
    paths += [f"/annotations/{CALL}", f"/trace-annotations/{TRACE}", f"/diff?a={CALL}&b={OTHER_CALL}"]
    paths += [f"/run/{name}", f"/conversation/{name}", f"/usage?by=user_id&q={filters}", f"/?q={filters}"]
    for path in paths:
        page.goto(f"{viewer.address}{path}")
        expect(page.locator("h1")).to_have_count(1)
        assert not page.title().startswith("owned"), path
        assert page.locator("main script, main img[src=x], main svg[onload]").count() == 0
        assert page.locator("main a[href^='javascript' i]").count() == 0
        assert "49" not in page.locator("main").inner_text().replace(TRACE, ""), path
        assert text[:20] in page.locator("main").inner_text() or "tab=" in path or "q=" in path, path
    page.goto(f"{viewer.address}/diff?a={name}&b={name}", wait_until="commit")
    expect(page.locator("h1")).to_have_text("Compare")
    page.goto(f"{viewer.address}/call/{CALL}")
    page.get_by_role("link", name="JSON", exact=True).click()
    assert page.evaluate("document.contentType") == "application/json"
