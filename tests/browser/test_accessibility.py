"""No page has what axe-core calls a violation: contrast, names, roles, order; in light and dark, wide and narrow."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from axe import find_axe
from llmspan.annotation import Annotation
from llmspan.backends.base import Backend
from llmspan.usage import Usage
from records import NOON, make_trace
from viewer import Viewer

Open = Callable[..., Page]

CALL, OTHER_CALL, TRACE = (
    "01900000-0000-7000-8000-000000000001", "01900000-0000-7000-8000-000000000010", "4bf92f3577b34da6a3ce929d0e0e4736"
)  # fmt: skip
PAGES = (
    "/", "/?q=status:error", "/?q=model:nothing", f"/call/{CALL}", f"/call/{CALL}?tab=request",
    f"/call/{CALL}?tab=usage", f"/call/{CALL}?tab=attributes", f"/annotations/{CALL}", f"/trace-annotations/{TRACE}",
    "/run/run-1", "/diff", f"/diff?a={CALL}&b={OTHER_CALL}", "/diff?a=run-1&b=run-2", "/usage", "/health", "/call/none",
    "/?q=statsu:x",
)  # fmt: skip


@pytest.fixture(scope="session")
def axe() -> Path:
    script = find_axe()
    if script is None:
        pytest.skip("axe-core is not there, and npm cannot fetch it")
    return script


def fill(backend: Backend) -> None:
    request = {"model": "m", "messages": [{"role": "user", "content": "Hello\n" * 60}]}
    usage = Usage(input_tokens=100, output_tokens=9, cache_read_tokens=40, cache_write_tokens=9, source="provider")
    statuses = ("ok", "error", "incomplete", "cancelled", "closed_early")
    backend.write(
        [
            make_trace(
                id=CALL if index == 1 else f"01900000-0000-7000-8000-00000000001{index}", started_at=NOON + index,
                status=status, run_id="run-2" if index == 4 else "run-1", user_id="ann", usage=usage, content="full",
                request_json=json.dumps({**request, "temperature": index}), trace_id=TRACE,
                response_json=json.dumps({"choices": [{"message": {"role": "assistant", "content": f"Hi {index}"}}]}),
                error_type="rate_limit_error" if status == "error" else None, attributes={"tenant": "acme"},
            )
            for index, status in enumerate(statuses)
        ]
    )  # fmt: skip
    for subject in ({"record_id": CALL, "trace_id": None}, {"record_id": None, "trace_id": TRACE}):
        note = Annotation.make(**subject, name="score", value=0.5, comment="long words " * 60 + "w" * 200, source="ann")
        backend.annotate(note)  # type: ignore[attr-defined] - the store in memory keeps them


@pytest.mark.parametrize("width", [1400, 375])
def test_no_violation(memory: Backend, viewer: Viewer, open_page: Open, watch: object, axe: Path, width: int) -> None:
    """Each page, as it is when its scripts have done their work; no page is wider than the window."""
    fill(memory)
    watch.expected += ["Failed to load resource"]  # type: ignore[attr-defined] - pages that say what is wrong
    page = open_page(viewer, viewport={"width": width, "height": 900}, bypass_csp=True)
    page.add_init_script(path=axe)
    violations: dict[str, list[str]] = {}
    for path in PAGES:
        page.goto(viewer.address + path)
        expect(page.locator("main")).to_be_visible()
        page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
        if page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
            violations[path] = ["wider than the window"]
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type] - one of two
            # where things are does not change with the colours
            options = "{runOnly: ['color-contrast']}" if scheme == "dark" else "{}"
            found = page.evaluate(f"axe.run(document, {options}).then(result => result.violations)")
            texts = [f"{one['id']}: {node['html'][:150]}" for one in found for node in one["nodes"][:3]]
            if texts:
                violations[f"{path} {scheme}"] = texts
    assert violations == {}
