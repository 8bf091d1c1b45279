"""Programs' tests replace the clocks and the pauses: our threads are not seen in their mocks, nor stopped by them."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any
from unittest import mock

import httpx2
import pytest
from freezegun import freeze_time
from opentelemetry.sdk.trace import TracerProvider

from llmspan.backends.sqlite import SQLiteBackend
from llmspan.errors import RetryableError
from llmspan.instrumentation import Observer
from llmspan.instrumentation.anthropic import PROVIDER as ANTHROPIC
from llmspan.instrumentation.openai import PROVIDER as OPENAI
from llmspan.pipeline import Pipeline
from replay import client_for, transport
from scripted import Scripted, ids_in, pipeline_to, raising, submit
from streams import ALL, Api
from watching import watching

CLOCKS = ("sleep", "time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns")


@pytest.fixture
def asked() -> Iterator[list[str]]:
    """Who of us asks a mock: ``module: function of time``."""
    seen: list[str] = []

    def counting(name: str) -> Callable[..., Any]:
        real = getattr(time, name)

        def mocked(*args: Any) -> Any:
            caller = sys._getframe(1).f_globals["__name__"]
            if caller.partition(".")[0] == "llmspan":
                seen.append(f"{caller}: {name}")
            return real(*args)

        return mocked

    with mock.patch.multiple(time, **{name: counting(name) for name in CLOCKS}):
        yield seen


@contextmanager
def recorded_by(pipeline: Pipeline) -> Iterator[None]:
    """All that users get is at work in a block: hooks, spans, the pipeline."""
    observer = Observer(sink=pipeline, tracer=TracerProvider(shutdown_on_exit=False).get_tracer("llmspan"))
    hooks = [provider.instrument(observer) for provider in (OPENAI, ANTHROPIC)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def serve(api: Api, *, streamed: bool) -> httpx2.MockTransport:
    if streamed:
        return transport(200, {"content-type": "text/event-stream"}, list(api.stream))
    return transport(200, {"content-type": "application/json"}, [json.dumps(api.body).encode()])


def call(api: Api, *, streamed: bool) -> None:
    client = client_for(api.provider, serve(api, streamed=streamed))
    reply = api.method(client)(**api.arguments, **({"stream": True} if streamed else {}))
    if streamed:
        list(reply)


async def call_async(api: Api, *, streamed: bool) -> None:
    client = client_for(api.provider, serve(api, streamed=streamed), is_async=True)
    reply = await api.method(client)(**api.arguments, **({"stream": True} if streamed else {}))
    if streamed:
        assert [chunk async for chunk in reply]


def test_mocks_of_time_are_not_asked_by_us(asked: list[str], tmp_path: Path) -> None:
    """Not by a call or a stream, not by the worker, its spool or a store, not while somebody waits for them."""
    backend = SQLiteBackend(tmp_path / "traces.db")
    pipeline = pipeline_to(backend, Scripted(raising(RetryableError("away"))), spool_dir=tmp_path / "spool")
    with recorded_by(pipeline):
        for api, streamed in product(ALL, (False, True)):
            call(api, streamed=streamed)
            asyncio.run(call_async(api, streamed=streamed))
    submit(pipeline, 200, response_json=json.dumps({"text": "x" * 50_000}))
    assert pipeline.wait_until_spooled(60)
    assert pipeline.flush(60)
    assert pipeline.close(60)
    assert len(ids_in(backend)) == 200 + 4 * len(ALL)
    assert asked == []


def test_a_frozen_clock_stops_no_delivery() -> None:
    """What could not be written is tried again, and deadlines come, while freezegun holds the time."""
    backend = Scripted(raising(RetryableError("away")))
    with freeze_time("2026-01-31"):
        pipeline = pipeline_to(backend)
        ids = submit(pipeline, 3)
        assert pipeline.flush(20)
        assert pipeline.close(20)
    assert sum(backend.batches) == 3 + backend.batches[0]  # what was refused is tried once more
    assert ids_in(backend) == set(ids)


@pytest.mark.parametrize("api", ALL, ids=lambda api: api.name)
def test_a_record_follows_a_frozen_clock_as_its_span_does(api: Api) -> None:
    """A program that freezes time finds its record at that time, with no duration."""
    with watching() as watch, freeze_time("2026-01-31"):
        call_of = client_for(api.provider, serve(api, streamed=False))
        api.method(call_of)(**api.arguments)
    record, span = watch.only()
    assert record.started_at == span.start_time == span.end_time == 1_769_817_600 * 10**9
    assert record.duration_ns == 0
