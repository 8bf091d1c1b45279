"""Streams as no provider should send them, through the real SDKs: with us and without us the same comes out.

Random, truncated, duplicated, reordered, type-confused, badly framed, and all of that at once, in arbitrary pieces:
the caller gets the same events, and the same exception by the same way; as much is read, and nothing of ours fails.
"""

from __future__ import annotations

import asyncio
import contextvars
import copy
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from outcomes import way_of
from records import examples, patient
from replay import Pieces, client_for
from streams import ALL, Api, json
from watching import watching

apis = pytest.mark.parametrize("api", ALL, ids=lambda api: api.name)
colours = pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
often = settings(patient, max_examples=examples(100))
seldom = settings(patient, max_examples=examples(30))

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


Edit = Callable[[st.DrawFn, list[bytes]], list[bytes]]


def random(draw: st.DrawFn, events: list[bytes]) -> list[bytes]:
    """Bytes of no meaning, before, between and behind the events, or instead of one."""
    for noise in draw(st.lists(st.binary(min_size=1, max_size=30), min_size=1, max_size=3)):
        at = draw(st.integers(0, len(events)))
        events[at : at + draw(st.integers(0, 1))] = [noise]
    return events


def truncated(draw: st.DrawFn, events: list[bytes]) -> list[bytes]:
    """The stream ends at any byte, or events lack their end, or are missing."""
    how = draw(st.sampled_from(["stream", "event", "missing"]))
    if how == "stream":
        body = b"".join(events)
        return [body[: draw(st.integers(0, len(body)))]]
    at = draw(st.integers(0, len(events) - 1))
    events[at : at + 1] = [events[at][: draw(st.integers(0, len(events[at])))]] if how == "event" else []
    return events


def duplicated(draw: st.DrawFn, events: list[bytes]) -> list[bytes]:
    """Events that come again, at once or later; or the whole stream does."""
    if draw(st.integers(0, 9)) == 0:
        return [*events, *events]
    for event in draw(st.lists(st.sampled_from(events), min_size=1, max_size=3)):
        events.insert(draw(st.integers(0, len(events))), event)
    return events


def reordered(draw: st.DrawFn, events: list[bytes]) -> list[bytes]:
    """Two events changed places, or all of them are in any order."""
    if draw(st.booleans()):
        return draw(st.permutations(events))
    one, other = (draw(st.integers(0, len(events) - 1)) for _ in range(2))
    events[one], events[other] = events[other], events[one]
    return events


def type_confused(draw: st.DrawFn, events: list[bytes]) -> list[bytes]:
    """Values of events are of other types, or missing."""
    for at in draw(st.lists(st.integers(0, len(events) - 1), min_size=1, max_size=3)):
        events[at] = draw(confused(events[at]))
    return events


def badly_framed(draw: st.DrawFn, events: list[bytes]) -> list[bytes]:
    """Events under other names, other fields and comments, blank lines, other line ends."""
    at = draw(st.integers(0, len(events) - 1))
    how = draw(st.sampled_from(["name", "field", "end"]))
    if how == "name":
        name = draw(st.sampled_from([b"error", b"ping", b"x", b"", b"done"]))
        events[at] = b"event: " + name + b"\n" + events[at]
    elif how == "field":
        events.insert(at, draw(st.sampled_from([b": hi\n\n", b"\n\n", b"\r\n", b"id: 1\nretry: x\n", b"data:\n\n"])))
    else:
        return [event.replace(b"\n", draw(st.sampled_from([b"\r\n", b"\r"]))) for event in events]
    return events


EDITS: tuple[Edit, ...] = (random, truncated, duplicated, reordered, type_confused, badly_framed)


@st.composite
def streams_of(draw: st.DrawFn, api: Api, edit: Edit | None = None) -> list[bytes]:
    """What the API would send, with an edit made to it (None: any number of any), in pieces of any size."""
    events = list(api.stream)
    for step in [edit] if edit is not None else draw(st.lists(st.sampled_from(EDITS), max_size=4)):
        events = step(draw, events) or [b""]
    return cut(b"".join(events), draw(st.lists(st.integers(1, 400), max_size=6)))


def cut(body: bytes, sizes: list[int]) -> list[bytes]:
    """``body`` in pieces of these sizes, and the rest."""
    pieces: list[bytes] = []
    for size in sizes:
        pieces.append(body[:size])
        body = body[size:]
    return [piece for piece in (*pieces, body) if piece]


def read(api: Api, body: Pieces, *, is_async: bool, status: int = 200, is_stream: bool = True) -> list[Any]:
    """Everything that a caller sees of a call, and how much of the answer was read and closed."""
    kind = "text/event-stream" if is_stream else "application/json"
    mock = httpx2.MockTransport(lambda _: httpx2.Response(status, headers={"content-type": kind}, stream=body))
    create = api.method(client_for(api.provider, mock, is_async=is_async, base_url="http://local.test/v1"))
    arguments = {**api.arguments, "stream": True} if is_stream else api.arguments
    seen: list[Any] = []
    try:
        if is_async:
            runner().run(_read_async(create(**arguments), seen, is_stream), context=contextvars.copy_context())
        else:
            result = create(**arguments)
            if is_stream:
                with result as stream:
                    for event in stream:
                        _see(event, seen)
            else:
                _see(result, seen)
    except Exception as raised:
        _see_error(raised, seen)
    return [*seen, len(body.pieces), body.closed]


@cache
def runner() -> asyncio.Runner:
    """One event loop for all examples: the SDKs start a thread for each loop."""
    return asyncio.Runner()


@pytest.fixture(autouse=True, scope="module")
def loop() -> Iterator[None]:
    yield
    if runner.cache_info().currsize:
        runner().close()
    runner.cache_clear()


async def _read_async(coming: Any, seen: list[Any], is_stream: bool) -> None:
    result = await coming
    if not is_stream:
        _see(result, seen)
        return
    async with result as stream:
        async for event in stream:
            _see(event, seen)


def _see(event: Any, seen: list[Any]) -> None:
    seen.append((type(event), repr(event), getattr(event, "model_fields_set", None)))


def _see_error(error: BaseException | None, seen: list[Any]) -> None:
    """An exception with its causes: class, words, what the SDK says beside them, and the way that it took."""
    while error is not None:
        told = [getattr(error, name, None) for name in ("status_code", "body", "code", "request_id")]
        seen.append((type(error), str(error), told, error.__suppress_context__, way_of(error)))
        error = error.__cause__ or error.__context__


def check(api: Api, pieces: list[bytes], *, is_async: bool, is_lost: bool = False, **options: Any) -> None:
    """The same bare and observed; and one span, one record, without a defect of ours."""
    error = (lambda: httpx2.ReadError("gone")) if is_lost else None
    bare = read(api, Pieces(pieces, error), is_async=is_async, **options)
    with watching() as watch:
        assert read(api, Pieces(pieces, error), is_async=is_async, **options) == bare
        record, span = watch.only()
    assert span.end_time is not None
    assert record.usage.input_tokens is None or record.usage.input_tokens >= 0


@apis
@colours
@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.__name__)
@seldom
@given(data=st.data())
def test_each_kind_of_stream(api: Api, is_async: bool, edit: Edit, data: st.DataObject) -> None:
    """One thing that is wrong with a stream, of each kind, for each API, sync and async."""
    check(api, data.draw(streams_of(api, edit)), is_async=is_async, is_lost=data.draw(st.booleans()))


@apis
@colours
@often
@given(data=st.data())
def test_any_stream(api: Api, is_async: bool, data: st.DataObject) -> None:
    """Whatever is wrong with a stream, all at once."""
    check(api, data.draw(streams_of(api)), is_async=is_async, is_lost=data.draw(st.booleans()))


@apis
@colours
@often
@given(noise=st.lists(st.binary(min_size=1, max_size=60), max_size=8))
def test_noise(api: Api, is_async: bool, noise: list[bytes]) -> None:
    """Bytes that are no stream at all."""
    check(api, noise, is_async=is_async)


@apis
@colours
@often
@given(body=json_values | st.binary(max_size=60), status=st.sampled_from([200, 201, 400, 429, 500]))
def test_any_body(api: Api, is_async: bool, body: Any, status: int) -> None:
    """The answer to a call that does not stream may be any JSON, or none."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    check(api, cut(content, [7]), is_async=is_async, status=status, is_stream=False)
