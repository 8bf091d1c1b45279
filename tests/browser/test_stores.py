"""The same pages on every store that can be read: a way through all of them, with the numbers of the reader."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Lock
from time import time_ns

import pytest
from playwright.sync_api import Page, expect

from llmspan.backends.base import Backend
from llmspan.errors import RetryableError
from llmspan.reader import Reader
from llmspan.trace import ProviderTrace
from llmspan.usage import Usage
from records import make_trace, this_day
from stores import MAKERS
from viewer import Viewer, running, viewing

Open = Callable[..., Page]
STORES = ("sqlite", "postgres", "clickhouse-chdb", "clickhouse-http")


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    backend = MAKERS[request.param](tmp_path)
    backend.open()
    yield backend
    backend.shutdown()


def fill(backend: Backend, start: int | None = None) -> list[ProviderTrace]:
    start = this_day() if start is None else start
    usage = Usage(input_tokens=1200, output_tokens=30, cache_read_tokens=1000, source="provider")
    records = [
        make_trace(
            started_at=start + index, response_model=f"model-{index % 2}", usage=usage if index else Usage(),
            status="error" if index == 3 else "ok", run_id="run-1", trace_id="1" * 32, span_id=f"{index + 1:016x}",
            parent_span_id=f"{index:016x}" if index else None, attributes={"tenant": "acme" if index > 1 else "other"},
            content="full", request_json=json.dumps({"messages": [{"role": "user", "content": f"words {index}"}]}),
            response_json=json.dumps({"choices": [{"message": {"role": "assistant", "content": "Done."}}]}),
        )
        for index in range(6)
    ]  # fmt: skip
    backend.write(records)
    backend.force_flush(30)
    return records


def test_a_way_through(store: Backend, open_page: Open) -> None:
    """From the list by a filter to a call, its run, and the sums: the same on each store."""
    records = fill(store)
    with viewing(store) as viewer:
        page = open_page(viewer)
        expect(page.locator(".calls tbody tr")).to_have_count(6)
        expect(page.locator(".asked").first).to_have_text("words 5")
        page.locator("#q").fill("tenant=acme -status:error tokens>1000")
        page.keyboard.press("Enter")
        expect(page.locator(".calls tbody tr")).to_have_count(3)
        page.locator(".calls tbody tr").last.click()
        expect(page.locator(".turn.user")).to_contain_text("words 2")
        assert json.loads(viewer.ask(f"/json/call/{records[2].id}").text) == json.loads(records[2].to_json())
        page.get_by_role("link", name="run-1", exact=True).click()
        expect(page.locator(".tree tbody tr")).to_have_count(6)
        expect(page.locator(".tree tr.fails")).to_have_count(4)  # the failed call, and those above it
        page.goto(f"{viewer.address}/usage?by=model")
        expected = {row.group["model"]: row.input_tokens for row in Reader(store).stats(["model"])}
        rows = page.locator(".usage tbody tr").all()
        shown = {row.locator("th").inner_text(): row.locator("td").nth(2).inner_text() for row in rows}
        assert shown == {model: f"{tokens:,}" for model, tokens in expected.items()}
        expect(page.locator("[data-chart] canvas")).to_have_count(4)


def test_what_somebody_does(store: Backend, open_page: Open) -> None:
    """A new row, a range of the chart, a call and back, a tree by keys, a note, a comparison, an export."""
    now = time_ns()
    records, lock = fill(store, now - 1000), Lock()
    with viewing(store, lock=lock) as viewer:
        page = open_page(viewer)
        expect(page.locator(".calls tbody tr")).to_have_count(6)
        with lock:
            store.write([make_trace(started_at=now, response_model="brand-new", trace_id="2" * 32)])
            store.force_flush(30)
        expect(page.locator(".calls tbody tr").first.locator(".model")).to_contain_text("brand-new", timeout=30_000)
        drag(page)
        page.wait_for_url("**since**")
        expect(page.locator(".calls tbody tr")).to_have_count(7)
        row = page.locator(f"tr[data-id='{records[2].id}']")
        row.click()
        page.wait_for_url(f"**/call/{records[2].id}")
        page.go_back()
        expect(row).to_have_class("selected")
        page.goto(f"{viewer.address}/run/run-1")
        page.keyboard.press("j")
        page.keyboard.press("ArrowLeft")
        expect(page.locator(".tree tbody tr:visible")).to_have_count(1)
        page.keyboard.press("ArrowRight")
        expect(page.locator(".tree tbody tr:visible")).to_have_count(6)
        page.get_by_text("Add a note or a score to the trace").click()
        page.get_by_label("Score or other value").fill("-1")
        page.get_by_role("button", name="Add", exact=True).click()
        expect(page.locator(".given-note")).to_contain_text("score -1")
        page.get_by_role("link", name="Compare with another run").click()
        page.get_by_label("A", exact=True).fill(records[0].id)
        page.get_by_label("B", exact=True).fill(records[1].id)
        page.get_by_role("button", name="Compare").click()
        expect(page.locator(".lines ins").first).to_contain_text("words 1")
        page.goto(f"{viewer.address}/?q=score<0")
        with page.expect_download() as download:
            page.get_by_role("link", name="JSON Lines").click()
        lines = download.value.path().read_text("utf-8").splitlines()
        page.goto("about:blank")  # the list listens to the viewer, which is about to end
        assert sorted(json.loads(line)["id"] for line in lines) == sorted(record.id for record in records)
        assert (
            json.loads(records[5].to_json()).items()
            <= next(line for line in map(json.loads, lines) if line["id"] == records[5].id).items()
        )


def drag(page: Page) -> None:
    """Over all of the chart of calls."""
    box = page.locator("[data-chart=status] .u-over").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 2, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 1, box["y"] + 20, steps=5)
    page.mouse.up()


class _Away(Reader):
    """A reader of a store that is away, until it is back."""

    is_away = True

    def list(self, *arguments: object, **options: object) -> object:  # type: ignore[override]
        if _Away.is_away:
            raise RetryableError("cannot connect to the database at db.example")
        return super().list(*arguments, **options)  # type: ignore[arg-type]


def test_a_store_that_is_away(memory: Backend) -> None:
    """The page says what is the matter, and works again when the store does, without a restart."""
    _Away.is_away = True
    with running(lambda: _Away(memory)) as viewer:
        answer = viewer.ask("/")
        assert (answer.status, "cannot connect to the database at db.example" in answer.text) == (503, True)
        _Away.is_away = False
        assert viewer.ask("/").status == 200


def test_a_call_that_is_not_there(viewer: Viewer) -> None:
    for path in ("/call/none", "/run/none", "/trace/none", "/conversation/none", "/nothing"):
        assert viewer.ask(path).status == 404
