"""The tee under the bytes of a response, and the generator around the events that the SDK makes of them.

Both pass everything on at once and unchanged, and report to the call's observer how reading ended. Sync and async have
the same loop, which Python requires twice; what is done with a chunk is in ``chunk_collector.py``.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from time import perf_counter_ns
from typing import Any, Final

from .._guard import guarded
from .body import TRIM_INTERVAL, Body
from .call import Call
from .chunk_collector import ChunkCollector

#: the key of a response's ``extensions`` that holds its call; httpx leaves ``extensions`` out of pickles
KEY: Final = "llmspan.call"


def attach_tee(call: Call, response: Any) -> None:
    """Put a tee under the body of ``response`` (an httpx or httpx2 Response, whether it is read or not)."""
    if response.extensions.get(KEY) is call:
        return
    stream, is_read, http = response.stream, response.is_closed, _http_of(type(response))
    body = call.new_body("" if is_read else response.headers.get("content-encoding", ""), http.__name__)
    if is_read:  # by a hook of the HTTP client, for example: the SDK does not read the stream again
        body.pieces.append(response.content)
    response.extensions[KEY] = call
    tee_class = _tee_classes(http)[isinstance(stream, http.SyncByteStream), isinstance(stream, http.AsyncByteStream)]
    response.stream = tee_class(stream, call, body)


@functools.lru_cache(maxsize=64)
def _http_of(response_class: type) -> Any:
    """The httpx or httpx2 module that a response's class, or one of its bases, comes from."""
    modules = (sys.modules.get(base.__module__.partition(".")[0]) for base in response_class.__mro__)
    return next(module for module in modules if hasattr(module, "AsyncByteStream"))


def call_of(response: Any) -> Call | None:
    """The call that a response belongs to; None if it has no tee."""
    extensions = getattr(response, "extensions", None)
    return extensions.get(KEY) if type(extensions) is dict else None


class _Tee:
    """What the sync and the async tee share. No ``__getattr__``: anthropic reads attributes once per event."""

    def __init__(self, stream: Any, call: Call, body: Body) -> None:
        self._stream = stream
        self._call = call
        self._body = body
        self._is_started = False
        self._collect = ChunkCollector(body, times_all_chunks=call.observer.times_all_chunks).collect
        stream_observer = getattr(stream, "stream_observer", None)
        if stream_observer is not None:
            self.stream_observer = stream_observer

    @property
    def elapsed(self) -> Any:
        """What ``Response.elapsed`` of httpx2 asks the stream for."""
        return getattr(self._stream, "elapsed", None)

    def _iterate(self) -> Iterator[bytes]:
        if self._is_started:  # openai drains a connection behind [DONE]: that is not part of the response
            yield from self._stream
            return
        self._is_started = True
        source = iter(self._stream)
        append, stamp = self._body.pieces.append, self._body.arrivals.append
        to_append = to_stamp = 0
        try:
            for chunk in source:
                append(chunk)
                if to_append:
                    to_append -= 1
                elif to_stamp > 1:
                    to_stamp -= 1
                    stamp(perf_counter_ns())
                elif not (to_stamp := guarded("tee.take", self._collect, perf_counter_ns()) or 0):
                    to_append = TRIM_INTERVAL - 1
                yield chunk
        except GeneratorExit:
            raise
        except BaseException as error:
            self._call.observer.on_body_error(self._call, self._body, error)
            raise
        self._call.observer.on_body_end(self._call, self._body)

    async def _iterate_async(self) -> AsyncIterator[bytes]:
        source = self._stream.__aiter__()
        is_drain, self._is_started = self._is_started, True
        append, stamp = self._body.pieces.append, self._body.arrivals.append
        to_append = to_stamp = 0
        try:
            if is_drain:
                async for chunk in source:
                    yield chunk
                return
            async for chunk in source:
                append(chunk)
                if to_append:
                    to_append -= 1
                elif to_stamp > 1:
                    to_stamp -= 1
                    stamp(perf_counter_ns())
                elif not (to_stamp := guarded("tee.take", self._collect, perf_counter_ns()) or 0):
                    to_append = TRIM_INTERVAL - 1
                yield chunk
            self._call.observer.on_body_end(self._call, self._body)
        except GeneratorExit:
            await close_events(source)
            raise
        except BaseException as error:
            if not is_drain:
                self._call.observer.on_body_error(self._call, self._body, error)
            raise

    def _close(self) -> None:
        try:
            self._stream.close()
        finally:
            self._call.observer.on_body_close(self._call, self._body)

    async def _close_async(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            self._call.observer.on_body_close(self._call, self._body)

    def __del__(self) -> None:
        call = self.__dict__.get("_call")
        if call is not None:
            call.observer.on_body_gc(call, self._body)


@functools.lru_cache(maxsize=4)  # one a library, and another one each time that it is imported anew
def _tee_classes(http: Any) -> dict[tuple[bool, bool], Callable[[Any, Call, Body], Any]]:
    """The tee classes for streams of ``http`` (the httpx or httpx2 module): by whether they are sync, and async."""
    sync_base, async_base = http.SyncByteStream, http.AsyncByteStream
    sync_names = {"__iter__": _Tee._iterate, "close": _Tee._close}
    async_names = {"__aiter__": _Tee._iterate_async, "aclose": _Tee._close_async}
    return {
        (True, False): type("Tee", (_Tee, sync_base), sync_names),
        (False, True): type("AsyncTee", (_Tee, async_base), async_names),
        (True, True): type("ByteTee", (_Tee, sync_base, async_base), sync_names | async_names),
    }


def observe_events(events: Iterator[Any], call: Call) -> Iterator[Any]:
    """Yield what the SDK's generator ``events`` yields, and report how it ends."""
    try:
        if call.hides_event is None:
            yield from events
        else:
            for event in events:
                if not call.hides_event(event):
                    yield event
    except GeneratorExit:
        close = getattr(events, "close", None)
        if close is not None:
            close()
        call.observer.on_abandon(call)
        raise
    except BaseException as error:
        call.observer.on_error(call, error)
        raise
    call.observer.on_stream_end(call)


async def observe_events_async(events: AsyncIterator[Any], call: Call) -> AsyncIterator[Any]:
    """The async form of :func:`observe_events`."""
    try:
        if call.hides_event is None:
            async for event in events:
                yield event
        else:
            async for event in events:
                if not call.hides_event(event):
                    yield event
    except GeneratorExit:
        try:
            await close_events(events)
        finally:
            call.observer.on_abandon(call)
        raise
    except BaseException as error:
        call.observer.on_error(call, error)
        raise
    call.observer.on_stream_end(call)


async def close_events(source: AsyncIterator[Any]) -> None:
    """Close ``source`` in this task, as happens without us: a finaliser would close it in another task."""
    close = getattr(source, "aclose", None)
    if close is not None and not getattr(source, "ag_running", False):  # a loop that ends closes all generators at once
        await close()
