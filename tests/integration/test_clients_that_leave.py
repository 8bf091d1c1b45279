"""Streams behind a web page whose client goes away: real servers, real sockets, each API from each kind of generator.

What the server does then is the server's affair: uvicorn cancels the task in which an async generator waits for the
provider, and drops a generator that runs in threads; a WSGI server calls ``close()``. Each is one span and one record.
"""

from __future__ import annotations

import gc
import json
import logging
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from integration.programs import NO_OTLP, environment, running
from llmspan.reader import Reader
from polling import until
from streams import ALL, WORDS, Api
from watching import Watch, watching
from webservers import PATIENCE, Moment, Page, leave, providing, read_until, uvicorn_serving, visiting, wsgiref_serving


class Case(NamedTuple):
    """How a page is served, what its server is doing when the client leaves, and what its call's status is then."""

    name: str
    serving: Callable[[Page], AbstractContextManager[int]]
    colour: Any
    moment: Moment
    status: str


CASES = [
    Case("uvicorn-async-waiting", uvicorn_serving, "async", "waiting", "cancelled"),
    Case("uvicorn-async-holding", uvicorn_serving, "async", "holding", "cancelled"),
    Case("uvicorn-thread-waiting", uvicorn_serving, "sync", "waiting", "closed_early"),
    Case("uvicorn-thread-holding", uvicorn_serving, "sync", "holding", "closed_early"),
    Case("wsgi-waiting", wsgiref_serving, "sync", "waiting", "closed_early"),
    Case("wsgi-holding", wsgiref_serving, "sync", "holding", "closed_early"),
]


@pytest.mark.parametrize("api", ALL, ids=lambda api: api.name)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_client_goes_away(api: Api, case: Case, caplog: pytest.LogCaptureFixture) -> None:
    """One record with what had come, and the span of it; nothing is leaked, and the next visitor is served."""
    with watching() as watch, providing() as provider:
        page = Page(api, case.colour, watch.tracer_provider.get_tracer("app"), provider=provider, moment=case.moment)
        with case.serving(page) as port:
            with visiting(port) as client:
                read_until(client, lambda read: b"data" in read)
                assert page.is_stuck.wait(PATIENCE)
                leave(client)
            if case.serving is wsgiref_serving:
                provider.gate.set()
            assert page.done.acquire(timeout=PATIENCE)
            until(lambda: is_over(page, watch))
            seen = len(page.events)
            with visiting(port) as client:
                assert read_until(client, lambda _: False).count(b"data") > page.enough
            assert page.done.acquire(timeout=PATIENCE)
            until(lambda: is_over(page, watch))
    assert page.wrong == []
    assert [line.getMessage() for line in caplog.records if line.levelno >= logging.WARNING] == []
    left, next_one = watch.records
    assert (left.status, left.chunk_count) == (case.status, seen)
    check_partial(api, left)
    assert (next_one.status, next_one.usage.output_tokens) == ("ok", api.output_tokens)
    check_spans(watch, is_inside=case.serving is uvicorn_serving)


GUNICORN = """
import sys
import anthropic, openai
import llmspan

llmspan.instrument()


def body(name, path, arguments):
    method = anthropic.Anthropic() if "messages" in path else openai.OpenAI()
    for part in path.split("."):
        method = getattr(method, part)
    with llmspan.context(step_id=name):
        stream = method(**arguments, stream=True)
    try:
        for event in stream:
            yield b"data"
    finally:
        print("left", name, file=sys.stderr, flush=True)


def app(environ, start_response):
    name = environ["PATH_INFO"].strip("/")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return body(name, *APIS[name])
"""


@pytest.mark.parametrize("worker", ["sync", "gthread"])
def test_client_of_gunicorn_goes_away(worker: str, tmp_path: Path) -> None:
    """gunicorn closes the generator when it cannot write: one record a page, closed early, with what had come.

    The SDK's stream refers to itself: it is gone when Python collects it, or when the worker ends.
    """
    apis = {api.name: (api.path, api.arguments) for api in ALL}
    (tmp_path / "pages.py").write_text(f"APIS = {apis!r}\n{GUNICORN}")
    with providing() as provider:
        env = environment(provider, tmp_path / "traces.db", PYTHONPATH=str(tmp_path), HOME=str(tmp_path), **NO_OTLP)
        command = ("gunicorn", "-k", worker, "--threads", "1", "--bind", "127.0.0.1:0", "pages:app")
        with running(*command, env=env, folder=tmp_path) as process:
            port = int(said(tmp_path / "log.txt", r"Listening at: http://127\.0\.0\.1:(\d+)"))
            for api in ALL:
                provider.gate.clear()
                with visiting(port, f"/{api.name}") as client:
                    read_until(client, lambda read, api=api: read.count(b"data") > api.first_output)
                    leave(client)
                provider.gate.set()
                said(tmp_path / "log.txt", f"(left {api.name}\n)")
            process.terminate()
            process.wait(PATIENCE)
    for api in ALL:
        (record,) = stored(tmp_path, api.name)
        assert record.status == "closed_early"
        check_partial(api, record)


def said(log: Path, pattern: str) -> str:
    """What a server has logged, once it has."""
    until(lambda: re.search(pattern, log.read_text()))
    found = re.search(pattern, log.read_text())
    assert found is not None
    return found[1]


def stored(folder: Path, step: str) -> list[Any]:
    if not (folder / "traces.db").exists():
        return []
    with Reader.from_env(backends="sqlite", sqlite_path=str(folder / "traces.db")) as reader:
        return list(reader.list_by_step_id(step))


def is_over(page: Page, watch: Watch) -> bool:
    """Whether all calls have ended and all streams are gone."""
    gc.collect()
    watch._run_late()
    return not watch.observer.open_calls and all(stream() is None for stream in page.streams)


def check_partial(api: Api, record: Any) -> None:
    """What had come is kept; usage is as far as it was told, and marked."""
    assert WORDS[0] in record.response_json
    assert json.loads(record.request_json)["model"] == api.arguments["model"]
    assert record.error_type == ("asyncio.exceptions.CancelledError" if record.status == "cancelled" else None)
    assert (record.usage.input_tokens, record.usage.output_tokens) == (api.early_input_tokens, None)
    assert record.usage.source == ("none" if api.early_input_tokens is None else "partial")


def check_spans(watch: Watch, *, is_inside: bool) -> None:
    """A span a record, each in the trace of its own visit."""
    spans = {f"{span.context.span_id:016x}": span for span in watch.spans if span.name != "caller"}
    assert list(spans) == [record.span_id for record in watch.records]
    visits = [span.context.span_id for span in watch.spans if span.name == "caller" and span.parent is None]
    for record, span in zip(watch.records, spans.values(), strict=True):
        assert (span.attributes or {})["llmspan.status"] == record.status
        assert span.end_time is not None
        parent = span.parent.span_id if span.parent is not None else None
        assert parent in visits if is_inside else parent is None
    assert len({record.trace_id for record in watch.records}) == len(watch.records)
