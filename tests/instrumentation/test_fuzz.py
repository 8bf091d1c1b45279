"""Streams as no provider should send them, through the real SDKs: with us and without us the same comes out.

Truncated, duplicated, reordered, type-confused, in arbitrary pieces: the caller gets the same events and the same
exception, and nothing of ours fails inside.
"""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from replay import Pieces, client_for
from streams import ALL, Api, json
from watching import watching

SSE = {"content-type": "text/event-stream"}
apis = pytest.mark.parametrize("api", ALL, ids=lambda api: api.name)
#: one client an API and colour, as programs have it
often = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2**65) | st.floats(allow_nan=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def paths(value: Any, prefix: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to each value inside a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [prefix, *(path for key, inner in items for path in paths(inner, (*prefix, key)))]


@st.composite
def confused(draw: st.DrawFn, event: bytes) -> bytes:
    """An event with one value of another type, without one, or with one too many."""
    head, _, data = event.partition(b"data: ")
    try:
        value = json.loads(data)
    except ValueError:  # the sentinel, or cut already
        return event
    path = draw(st.sampled_from(paths(value)))
    other = draw(json_values)
    if not path:
        return head + b"data: " + json.dumps(other).encode() + b"\n\n"
    value = copy.deepcopy(value)
    owner = value
    for key in path[:-1]:
        owner = owner[key]
    if draw(st.booleans()):
        owner[path[-1]] = other
    else:
        del owner[path[-1]]
    return head + b"data: " + json.dumps(value).encode() + b"\n\n"


@st.composite
def streams_of(draw: st.DrawFn, api: Api) -> list[bytes]:
    """A body in pieces: what the API would send, with anything done to it."""
    events = list(api.stream)
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, max(0, len(events) - 1)))
        how = draw(st.sampled_from(["confuse", "repeat", "drop", "swap", "cut", "noise", "rename", "comment"]))
        if not events:
            break
        if how == "confuse":
            events[at] = draw(confused(events[at]))
        elif how == "repeat":
            events.insert(draw(st.integers(0, len(events))), events[at])
        elif how == "drop":
            del events[at]
        elif how == "swap":
            other = draw(st.integers(0, len(events) - 1))
            events[at], events[other] = events[other], events[at]
        elif how == "cut":
            events[at] = events[at][: draw(st.integers(0, len(events[at])))]
        elif how == "noise":
            events.insert(at, draw(st.binary(max_size=30)))
        elif how == "rename":
            events[at] = (
                b"event: " + draw(st.sampled_from([b"error", b"ping", b"x", b"", b"done"])) + b"\n" + events[at]
            )
        else:
            events.insert(
                at, draw(st.sampled_from([b": hi\n\n", b"\n\n", b"\r\n", b"id: 1\nretry: x\n", b"data:\n\n"]))
            )
    return cut(b"".join(events), draw(st.lists(st.integers(1, 400), max_size=6)))


def cut(body: bytes, sizes: list[int]) -> list[bytes]:
    """``body`` in pieces of these sizes, and the rest."""
    pieces: list[bytes] = []
    for size in sizes:
        pieces.append(body[:size])
        body = body[size:]
    return [piece for piece in (*pieces, body) if piece]


def read(api: Api, pieces: list[bytes], ending: str, *, is_async: bool = False) -> list[Any]:
    """Everything that a caller sees of a stream."""
    error = (lambda: httpx2.ReadError("gone")) if ending == "lost" else None

    def respond(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers=SSE, stream=Pieces(pieces, error))

    mock = httpx2.MockTransport(respond)
    create = api.method(client_for(api.provider, mock, is_async=is_async, base_url="http://local.test/v1"))
    seen: list[Any] = []
    try:
        if is_async:
            asyncio.run(_read_async(create(**api.arguments, stream=True), seen))
        else:
            with create(**api.arguments, stream=True) as stream:
                for event in stream:
                    _see(event, seen)
    except Exception as raised:
        seen += [type(raised), str(raised)]
    return seen


async def _read_async(coming: Any, seen: list[Any]) -> None:
    async with await coming as stream:
        async for event in stream:
            _see(event, seen)


def _see(event: Any, seen: list[Any]) -> None:
    seen.append((type(event), repr(event)))


@apis
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@often
@given(data=st.data())
def test_any_stream(api: Api, is_async: bool, data: st.DataObject) -> None:
    """The same events, in their types and values, the same exception; one record, one span; no defect of ours."""
    pieces = data.draw(streams_of(api))
    ending = data.draw(st.sampled_from(["closed", "lost"]))
    bare = read(api, pieces, ending, is_async=is_async)
    with watching() as watch:
        assert read(api, pieces, ending, is_async=is_async) == bare
        record, span = watch.only()
    assert span.end_time is not None
    assert record.usage.input_tokens is None or record.usage.input_tokens >= 0


@apis
@often
@given(noise=st.lists(st.binary(max_size=60), max_size=8))
def test_noise(api: Api, noise: list[bytes]) -> None:
    """Bytes that are no stream at all."""
    bare = read(api, noise, "closed")
    with watching() as watch:
        assert read(api, noise, "closed") == bare
        watch.only()


@apis
@often
@given(body=json_values | st.binary(max_size=60).map(bytes), status=st.sampled_from([200, 201, 400, 429, 500]))
def test_any_body(api: Api, body: Any, status: int) -> None:
    """The answer to a call that does not stream may be any JSON, or none."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()

    def run() -> list[Any]:
        def respond(_: httpx2.Request) -> httpx2.Response:
            return httpx2.Response(status, headers={"content-type": "application/json"}, content=content)

        client = client_for(api.provider, httpx2.MockTransport(respond), base_url="http://local.test/v1")
        try:
            result = api.method(client)(**api.arguments)
        except Exception as raised:
            return [type(raised), str(raised)]
        return [type(result), repr(result)]

    bare = run()
    with watching() as watch:
        assert run() == bare
        watch.only()
