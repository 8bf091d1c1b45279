"""Every hook of ours made to raise: the program goes on as if we were not there; one log line, and a count.

The hooks are found in the code: each ``guarded(place, ...)`` of the package is broken in turn, at once and at its end.
A new one is tested as soon as it is there; if :func:`program` does not come by it, the test says so.
"""

from __future__ import annotations

import ast
import asyncio
import functools
import gc
import gzip
import importlib
import pkgutil
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import httpx2
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

import llmspan
from llmspan import _guard, defects, pipeline
from llmspan.exporter import SQLiteSpanExporter
from llmspan.instrumentation import Observer
from llmspan.instrumentation.anthropic import PROVIDER as ANTHROPIC
from llmspan.instrumentation.openai import PROVIDER as OPENAI
from llmspan.settings import Settings
from replay import Pieces, client_for
from streams import ALL, Api, json

ROOT = Path(__file__).parents[2]
SSE = {"content-type": "text/event-stream"}

#: places that no call to a provider comes by -> the tests that break them there
ELSEWHERE: dict[str, str] = {}

#: without these, the usage chunk that we asked for cannot be kept back any more, and reaches the caller
HIDING = {"stream", "stream.hides"}

#: places that note what they have caught themselves -> what raises there
NOTED = {
    "body.decompress": ("llmspan.instrumentation._body._decoder", ValueError),
    "pipeline.worker": ("llmspan.pipeline.Pipeline._make_record", RuntimeError),
}


def sites() -> dict[str, set[str]]:
    """Each guarded place in the package, by its name (``*`` for what varies) -> the modules that it is in."""
    found: dict[str, set[str]] = {}
    for info in pkgutil.walk_packages(llmspan.__path__, "llmspan."):
        if info.name == "llmspan._guard" or info.name.endswith("__main__"):
            continue
        source = importlib.util.find_spec(info.name).origin  # type: ignore[union-attr]
        for node in ast.walk(ast.parse(Path(source or "").read_text())):
            if isinstance(node, ast.Call) and (place := _place(node)):
                found.setdefault(place, set()).add(info.name)
    return found


def _place(call: ast.Call) -> str | None:
    """The place that a call to the guard names, directly or by ``partial``."""
    names = [word.id for word in (call.func, *call.args[:1]) if isinstance(word, ast.Name)]
    called = call.func.attr if isinstance(call.func, ast.Attribute) else names[0] if names else ""
    if not (called in ("guarded", "note") or (called == "partial" and "guarded" in names)):
        return None
    for word in call.args:
        if isinstance(word, ast.Constant) and isinstance(word.value, str):
            return word.value
        if isinstance(word, ast.JoinedStr):
            return "".join(part.value if isinstance(part, ast.Constant) else "*" for part in word.values)
    return None


SITES = sites()


class FaultError(Exception):
    """What our hooks are made to raise."""


class Odd:
    """A value that no JSON has."""


def break_place(place: str, when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the function that is guarded at ``place`` raise, at once or when it is done."""
    if place in NOTED:
        target, kind = NOTED[place]
        monkeypatch.setattr(target, functools.partial(_raise, kind("broken for a test")))
        return

    def guarded(name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        def broken(*args: Any, **kwargs: Any) -> None:
            if when == "at its end":
                function(*args, **kwargs)
            raise FaultError(place)

        return _guard.guarded(name, broken if fnmatch(name, place) else function, *args, **kwargs)

    for module in SITES[place]:
        monkeypatch.setattr(f"{module}.guarded", guarded)


def _raise(error: Exception, *_: Any) -> None:
    raise error


def respond(api: Api, request: httpx2.Request) -> httpx2.Response:
    """What the provider answers: an error, a body, or a stream; with usage if it is asked for, and compressed."""
    body = json.loads(request.content)
    if body["model"] == "refused":
        return httpx2.Response(400, json={"error": {"message": "no"}})
    if not body.get("stream"):
        return httpx2.Response(200, json=api.body)
    events = [piece for piece in api.stream if b'"choices": []' not in piece or body.get("stream_options")]
    data = gzip.compress(b"".join(events))
    pieces = [data[: len(data) // 2], data[len(data) // 2 :]]
    return httpx2.Response(200, headers={**SSE, "content-encoding": "gzip"}, stream=Pieces(pieces))


def program() -> list[Any]:
    """Calls of all kinds, and everything that a caller sees of them."""
    gc.freeze()  # the collection at the end has to look at this program's objects only
    seen: list[Any] = []
    for api in ALL:
        mock = httpx2.MockTransport(functools.partial(respond, api))
        with llmspan.context(llm_config={("a", "b"): Odd()}):
            client = client_for(api.provider, mock)
        create = api.method(client)
        with create(**api.arguments, stream=True) as stream:
            seen += [event.to_dict() for event in stream]
        seen.append(create(**api.arguments).to_dict())
        try:
            create(**{**api.arguments, "model": "refused"})
        except Exception as error:
            seen += [type(error), str(error)]
        dropped = create(**api.arguments, stream=True)
        seen.append(next(dropped).to_dict())
        del dropped
        asyncio.run(_read_async(api, mock, seen))
    gc.collect()
    gc.unfreeze()
    return seen


async def _read_async(api: Api, mock: httpx2.MockTransport, seen: list[Any]) -> None:
    stream = await api.method(client_for(api.provider, mock, is_async=True))(**api.arguments, stream=True)
    seen += [event.to_dict() async for event in stream]


def observed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The program with all of us around it: hooks, exporter, pipeline; then once more with no room in the queue."""
    seen: list[Any] = []
    for settings in (Settings(), Settings(queue_max_bytes=1)):
        line = pipeline.Pipeline()
        line.configure(settings)
        monkeypatch.setattr(pipeline, "shared", lambda line=line: line)
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(SQLiteSpanExporter(str(folder / "traces.db"))))
        observer = Observer(sink=line, tracer=provider.get_tracer("llmspan"))
        hooks = [sdk.instrument(observer) for sdk in (OPENAI, ANTHROPIC)]
        try:
            seen.append(program())
            with provider.get_tracer("other").start_as_current_span("chat m") as span:
                span.set_attributes({"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"})
        finally:
            for hook in hooks:
                hook.remove()
            line.close(30)
    return seen


@pytest.fixture(scope="module")
def bare() -> list[Any]:
    """What the program sees without us."""
    return program()


@pytest.mark.parametrize("place", sorted(SITES.keys() - ELSEWHERE.keys()))
@pytest.mark.parametrize("when", ["at once", "at its end"])
def test_a_hook_that_raises(
    place: str, when: str, bare: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """The program sees what it sees without us; the place is told once, with a traceback, and counted each time."""
    reader = InMemoryMetricReader()
    defects.register(MeterProvider(metric_readers=[reader], shutdown_on_exit=False))
    _guard.forget_failures()
    break_place(place, when, monkeypatch)
    for seen in observed(tmp_path, monkeypatch):
        if place not in HIDING:
            assert seen == bare
        assert [one for one in seen if one in bare] == bare
    failures = _guard.failures()
    _guard.forget_failures()
    assert failures, f"no call of program() comes by {place}: add one, or name the test that does in ELSEWHERE"
    assert all(fnmatch(name, place) for name in failures)
    lines = [record for record in caplog.records if record.name == "llmspan" and "internal error" in record.message]
    assert sorted(record.args[0] for record in lines) == sorted(failures)
    assert all(record.exc_info for record in lines)
    assert all(count >= 1 for count in failures.values())


def test_the_count_is_a_metric() -> None:
    """``llmspan.internal.errors`` says how often each place has failed, to any meter provider."""
    reader = InMemoryMetricReader()
    defects.register(MeterProvider(metric_readers=[reader], shutdown_on_exit=False))
    _guard.forget_failures()
    for error in (FaultError(), FaultError()):
        _guard.note("here", error)
    (metric,) = reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics  # type: ignore[union-attr]
    _guard.forget_failures()
    (point,) = metric.data.data_points
    assert (metric.name, metric.unit) == ("llmspan.internal.errors", "{error}")
    assert (point.attributes, point.value) == ({"llmspan.place": "here"}, 2)


def test_what_is_tested_elsewhere_is() -> None:
    """A place that :func:`program` cannot reach is named by the tests that break it."""
    for place, file in ELSEWHERE.items():
        assert f'"{place}"' in (ROOT / file).read_text()


def test_no_place_is_overlooked() -> None:
    """The walk over the code finds the places, and the tables name no others."""
    assert {"request.begin", "stream", "stream.hides", "hooks.*", "body.decompress"} <= SITES.keys()
    assert ELSEWHERE.keys() | NOTED.keys() <= SITES.keys()
