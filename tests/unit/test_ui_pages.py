"""Pages without a browser: ids of all kinds, limits of size, and answers to what goes wrong."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from llmspan.backends.memory import MemoryBackend
from llmspan.reader import Reader
from records import make_trace
from viewer import TOKEN, Viewer, running, viewing

IDS = (
    "team/run 1",
    "two\nlines\n",
    "a.json",
    "b?c#d",
    "../x",
    "ü %2F",
    '"quoted"',
    "none",
    "x,y",
    "-z*",
    "//evil.example",
)


@pytest.fixture
def memory() -> MemoryBackend:
    backend = MemoryBackend()
    backend.open()
    return backend


@pytest.fixture
def viewer(memory: MemoryBackend) -> Iterator[Viewer]:
    with viewing(memory) as started:
        yield started


def links(text: str) -> list[str]:
    return [html.unescape(link) for link in re.findall(r'href="(/(?!static)[^"]*)"', text)]


@pytest.mark.parametrize("odd", IDS)
def test_ids_of_all_characters(memory: MemoryBackend, viewer: Viewer, odd: str) -> None:
    """Whatever an id or tag is, its links lead to pages, and those of the filter line to the calls that have it."""
    memory.write(
        [
            make_trace(
                id=f"{odd}-id", run_id=odd, trace_id=odd, conversation_id=odd, user_id=odd, org_id=odd, agent_id=odd,
                step_id=odd, agent_tags=(odd,),
            ),
            make_trace(id="another"),
        ]
    )  # fmt: skip
    page = viewer.ask(f"/call/{quote(f'{odd}-id', safe='')}")
    assert page.status == 200
    for link in links(page.text):
        if link.startswith("/export/parquet"):
            continue  # no text
        answer = viewer.ask(link)
        assert answer.status == 200, link
        if link.startswith("/export/"):
            assert "another" not in answer.text
        elif "?q=" in link:
            assert answer.text.count("<tr data-id=") == 1, link
    for kind in ("run", "trace", "conversation"):
        tree = json.loads(viewer.ask(f"/json/{kind}/{quote(odd, safe='')}").text)
        assert tree["sums"]["calls"] == 1


def test_a_text_that_is_searched_for_is_marked(memory: MemoryBackend, viewer: Viewer) -> None:
    """The list has the words around the match, escaped; without a search it has none."""
    memory.write([make_trace(request_json='{"text": "a <b>Weather</b> report"}')])
    text = viewer.ask("/?q=%22weather%22+since:5200w").text
    assert "a &lt;b&gt;<mark>Weather</mark>&lt;/b&gt; report" in text
    assert "<mark>" not in viewer.ask("/").text


@pytest.mark.parametrize("limit", ["0", "501", "0000000019999999", "1" + "0" * 5000, "-1", "x", "", "1.5", "²"])
def test_a_limit_that_is_none(memory: MemoryBackend, viewer: Viewer, limit: str) -> None:
    memory.write([make_trace()])
    answer = viewer.ask(f"/calls.json?limit={quote(limit)}")
    assert (answer.status, "expected a whole number from 1 to 500" in answer.text) == (400, True)


def test_a_large_call_has_a_page_of_modest_size(memory: MemoryBackend, viewer: Viewer) -> None:
    """What does not fit is a link away, on each tab."""
    messages = [{"role": "user", "content": "words " * 6_000} for _ in range(250)]
    memory.write(
        [
            make_trace(
                id="large-call", content="full", request_json=json.dumps({"messages": messages}),
                response_json=json.dumps({"data": list(range(400_000))}),
            )
        ]
    )  # fmt: skip
    for tab in ("messages", "tools", "request", "response", "usage", "timing", "attributes"):
        answer = viewer.ask(f"/call/large-call?tab={tab}")
        assert (answer.status, len(answer.text) < 400_000) == (200, True), tab
    assert "Show all" in viewer.ask("/call/large-call").text
    assert len(viewer.ask("/call/large-call?all=1").text) > 9_000_000


def test_a_deep_call_has_a_page(memory: MemoryBackend, viewer: Viewer) -> None:
    """A request that is nested too deep for a snippet is shown without one."""
    payload = f'{{"model": "m", "a": {"[" * 350}{"]" * 350}}}'
    memory.write([make_trace(id="deep", api="chat_completions", content="full", request_json=payload)])
    for tab in ("messages", "tools", "request", "response", "usage", "timing", "attributes"):
        assert viewer.ask(f"/call/deep?tab={tab}").status == 200, tab


def test_a_defect_is_answered_with_the_headers_of_a_page(memory: MemoryBackend) -> None:
    """A failure of ours says nothing of itself, and is no way around the policy of pages."""

    class Broken(Reader):
        def count(self, filters: object = None) -> int:
            raise AssertionError(filters)

        list = count  # type: ignore[assignment]

    with running(lambda: Broken(memory)) as viewer:
        answer = viewer.ask("/")
    assert (answer.status, "AssertionError" in answer.text) == (500, False)
    assert answer.headers["content-security-policy"].startswith("default-src 'self'")


PNG = "iVBORw0KGgoAAAANSUhEUgAAAAoAAAAKCAYAAACNMs+9AAAAFUlEQVR42mNk+M9Qz0AEYBxVSF+FAAhKDveksOjmAAAAAElFTkSuQmCC"


def test_images_are_shown_and_nothing_that_runs(memory: MemoryBackend, viewer: Viewer) -> None:
    """A stored image is an image of the page, by its bytes; one of SVG or HTML is told by type, size and hash only."""
    urls = [f"data:{kind};base64,{PNG}" for kind in ("image/png", "image/svg+xml", "text/html")]
    content = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    memory.write(
        [
            make_trace(
                id="a/b", content="full", request_json=json.dumps({"messages": [{"role": "user", "content": content}]})
            )
        ]
    )
    page = viewer.ask("/call/a%2Fb").text
    sources = [html.unescape(source) for source in re.findall(r'<img class="media" src="([^"]+)"', page)]
    assert sources == ["/media/a%2Fb?of=request&at=0"]
    assert page.count("78 bytes, sha256 027dc563") == 3
    status, headers, body = viewer.ask_bytes(sources[0])
    assert (status, headers["content-type"], body[:4]) == (200, "image/png", b"\x89PNG")
    for wrong in (
        "of=request&at=1",
        "of=request&at=2",
        "of=request&at=99",
        "of=response&at=0",
        "of=x&at=0",
        "at=-1",
        "",
    ):
        assert viewer.ask(f"/media/a%2Fb?{wrong}").status == 404
    assert viewer.ask("/media/none?of=request&at=0").status == 404


ODD = (
    "/?q=%00", "/?q=%ff%fe", "/?cursor=x", "/?group=%22", f"/?q={'a' * 8000}", f"/?q={'(%22' * 500}", "/usage?by=%00",
    "/usage?by=tag&complete=x", "/series.json?q=since:9999999999999999d", "/series.json?q=since:1970-01-01",
    "/usage?q=since:2999-01-01", "/diff?a=%00&b=%00", "/diff.json", "/call/%00", f"/call/{'a' * 4000}", "/trace/zz",
    "/conversation/%ff", "/annotations/%00", "/trace-annotations/%00", "/export/xml", "/calls.json?limit=%C2%B2",
    "/complete?word=model:%00", "/previews?id=%00", "/media/x?of=request&at=%C2%B2", "/call/x?tab=%00&all=2",
    "/static/%2e%2e/app.py", "//evil.example/", "/call/", "/run/",
)  # fmt: skip


def test_odd_addresses(memory: MemoryBackend, viewer: Viewer) -> None:
    """Whatever is asked for, the answer is a page that says what is wrong, and no failure of the viewer."""
    memory.write([make_trace(id="x")])
    answers = {path: viewer.ask(path).status for path in ODD}
    assert {path: status for path, status in answers.items() if status not in (200, 400, 404)} == {}
    sent = {"Cookie": f"llmspan_ui_{viewer.port}={TOKEN}", "Origin": viewer.address}
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"):
        assert viewer.ask("/annotations/x", method=method, headers=sent).status == 405
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    memory.write([make_trace(trace_id=trace)])
    body = "value=1&page=https://evil.example&page_id=//evil.example"
    answer = viewer.ask(f"/trace-annotations/{trace}", method="POST", headers=sent, body=body)
    assert (answer.status, answer.headers["location"]) == (303, "/trace-annotations/%2F%2Fevil.example")
