"""Sums and charts: the table's numbers are those of ``stats``, a group leads to its calls, a drag chooses a time."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from time import time_ns
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from llmspan.backends.base import Backend, Filters
from llmspan.errors import RetryableError
from llmspan.reader import Reader
from llmspan.ui.pages import usage as pages_usage
from llmspan.usage import Usage
from records import make_trace
from viewer import Viewer

Open = Callable[..., Page]
HOUR = 3600 * 10**9


def fill(backend: Backend) -> None:
    now = time_ns()
    usages = (
        Usage(input_tokens=1234, output_tokens=10, cache_read_tokens=1000, source="provider"),
        Usage(input_tokens=0, output_tokens=0, source="provider"),
        Usage(),
    )
    backend.write(
        [
            make_trace(
                started_at=now - index * HOUR,
                response_model=f"model-{index % 2}",
                usage=usages[index % 3],
                status=("ok", "error", "incomplete")[index % 3],
                agent_tags=("a", "b") if index % 2 else (),
            )
            for index in range(9)
        ]
    )


def test_the_numbers_are_those_of_stats(memory: Backend, viewer: Viewer, open_page: Open) -> None:
    """Row by row, for a filter as well; what no call reports is a dash."""
    fill(memory)
    for query, by in (("", "model"), ("status:ok", "model"), ("", "tag"), ("-status:ok", "user_id")):
        page = open_page(viewer, f"/usage?q={query}&by={by}")
        rows = page.locator(".usage tbody tr")
        expected = Reader(memory).stats([by], Filters.parse(query))
        expect(rows).to_have_count(len(expected))
        shown = {row.locator("th").inner_text(): row.locator("td").all_inner_texts()[:5] for row in rows.all()}
        dash = "–"  # noqa: RUF001 - the dash of the page
        assert shown == {
            row.group[by] or "none": [
                dash if value is None else f"{value:,}"
                for value in (
                    row.calls, row.failures, row.input_tokens, row.cache_read_tokens, row.cache_write_tokens,
                )
            ]
            for row in expected
        }  # fmt: skip


def test_a_group_leads_to_its_calls(memory: Backend, viewer: Viewer, open_page: Open) -> None:
    """Also the group of the calls without a value."""
    fill(memory)
    page = open_page(viewer, "/usage?by=tag")
    number = page.locator(".usage tbody tr", has=page.get_by_role("link", name="none", exact=True)).locator("td").first
    calls = int(number.inner_text())
    page.get_by_role("link", name="none", exact=True).click()
    expect(page.locator(".calls tbody tr")).to_have_count(calls)


def test_a_group_of_a_choice_leads_to_its_own_calls(memory: Backend, viewer: Viewer, open_page: Open) -> None:
    """A filter and the group are both terms of one key, and both must hold."""
    fill(memory)
    page = open_page(viewer, "/usage?by=model&q=model:model-0,model-1")
    row = page.locator(".usage tbody tr", has=page.get_by_role("link", name="model-0"))
    calls = int(row.locator("td").first.inner_text())
    page.get_by_role("link", name="model-0").click()
    expect(page.locator(".calls tbody tr")).to_have_count(calls)
    page.get_by_role("link", name="All of them").click()
    expect(page.locator(".calls tbody tr")).to_have_count(9)


def test_groups_that_are_no_term(memory: Backend, viewer: Viewer) -> None:
    """A period has no page of its own, and no link; any key that can be grouped by has a page that is there."""
    fill(memory)
    for by in ("hour", "day", "started_at", "attributes.x y", "tag", ""):
        answer = viewer.ask(f"/usage?by={quote(by)}")
        assert answer.status == 200
        for link in re.findall(r'<th scope="row"><a href="([^"]+)"', answer.text):
            assert viewer.ask(html.unescape(link)).status == 200


def test_charts(memory: Backend, viewer: Viewer, open_page: Open) -> None:
    """Each chart is drawn; a drag over the calls leaves those of that time, and the filter says which."""
    fill(memory)
    page = open_page(viewer, "/usage")
    expect(page.locator("[data-chart][data-ready]")).to_have_count(4)
    expect(page.locator("[data-chart] canvas")).to_have_count(4)
    page.goto(f"{viewer.address}/")
    plot = page.locator("[data-chart=status] .u-over")
    box = plot.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 1, box["y"] + 20, steps=5)
    page.mouse.up()
    page.wait_for_url("**since**")
    expect(page.locator("#q")).to_have_value(re.compile(r"^since:\S+Z until:\S+Z$"))
    left = page.locator(".calls tbody tr").count()
    assert 0 < left < 9


def test_json(memory: Backend, viewer: Viewer) -> None:
    """The series has a bar for each hour, also for those without calls, and counts each call once."""
    fill(memory)
    series = json.loads(viewer.ask("/series.json").text)
    assert series["period"] == "hour"
    assert all(later - earlier == 3600 for earlier, later in zip(series["times"], series["times"][1:], strict=False))
    assert sum(sum(column) for column in series["status"].values()) == 9
    groups = json.loads(viewer.ask("/usage.json?by=model").text)["groups"]
    assert sum(group["calls"] for group in groups) == 9


def test_a_key_that_cannot_be_grouped_by(viewer: Viewer) -> None:
    answer = viewer.ask("/usage?by=statsu")
    assert (answer.status, "statsu" in answer.text) == (400, True)


def test_costs_of_many_calls_come_later(
    memory: Backend, viewer: Viewer, open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sums are there first; costs and latencies replace their dots, as a page has them at once."""
    fill(memory)
    complete = open_page(viewer, "/usage?by=model").locator(".usage tbody").inner_text()
    assert "…" not in complete
    monkeypatch.setattr(pages_usage, "_AT_ONCE", 8)
    first = viewer.ask("/usage?by=model").text
    assert first.count("…") > 3
    page = open_page(viewer, "/usage?by=model")
    expect(page.locator("#sums")).not_to_contain_text("…")
    assert page.locator(".usage tbody").inner_text() == complete
    expect(page.locator("[data-chart] canvas")).to_have_count(4)


def test_sums_of_very_many_calls_come_later(
    memory: Backend, viewer: Viewer, open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of calls is there first; the sums follow, then costs and latencies, as a page has them at once."""
    fill(memory)
    complete = open_page(viewer, "/usage?by=model").locator(".usage tbody").inner_text()
    monkeypatch.setattr(pages_usage, "_AT_ONCE", 8)
    monkeypatch.setattr(pages_usage, "_SUMS_AT_ONCE", 8)
    first = viewer.ask("/usage?by=model").text
    assert "being added up" in first
    assert "<dd>9</dd>" in first
    page = open_page(viewer, "/usage?by=model")
    expect(page.locator("#sums")).not_to_contain_text("…")
    assert page.locator(".usage tbody").inner_text() == complete


def test_costs_that_take_too_long(
    memory: Backend, viewer: Viewer, open_page: Open, watch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sums stay, and the page says what is missing."""
    fill(memory)
    watch.expected.append("503")
    monkeypatch.setattr(pages_usage, "_AT_ONCE", 8)

    def away(*arguments: object, **options: object) -> object:
        raise RetryableError("the query was ended")

    monkeypatch.setattr(Reader, "costs", away)
    page = open_page(viewer, "/usage?by=model")
    expect(page.locator("#late")).to_be_visible()
    expect(page.locator("#sums")).to_contain_text("9")
    expect(page.locator(".usage tbody tr")).to_have_count(2)
