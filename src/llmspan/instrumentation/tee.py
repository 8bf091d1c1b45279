"""The tee under the bytes of a response, and the generator around the events that the SDK makes of them.

Both pass everything on at once and unchanged, and report to the call's observer how reading ended. Sync and async have
the same loop, which Python requires twice; what is done with a chunk is in ``_Tee._keep``.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from time import perf_counter_ns
from typing import Any, Final

from .._guard import guarded
from .body import TRIM_INTERVAL, Body
from .call import Call

#: the key of a response's ``extensions`` that holds its call; httpx leaves ``extensions`` out of pickles
KEY: Final = "llmspan.call"

#: Only the time of the first output is needed, and reading the clock is the most expensive step per chunk. So stamping
#: ends after this many chunks that look like output. Reasoning models behind gateways may send any number of empty
#: deltas before: those are stamped and do not count.
_STAMPED_OUTPUTS: Final = 16
#: a chunk of more bytes is not searched: it contains output, or it is the first event, which repeats the request
_MAX_SEARCHED: Final = 8 * 1024
#: more than a response can have chunks
_ALL: Final = 1 << 62
#: a non-empty text under one of the keys that the APIs use for a model's output
_OUTPUT: Final = re.compile(
    rb'"(?:arguments|audio|b64_json|code|completion|content|delta|input|partial_json|reasoning|reasoning_content|refusal'
    rb'|text|thinking|transcript)"\s*:\s*"[^"]'
)


def _looks_like_output(chunk: bytes) -> bool:
    return len(chunk) > _MAX_SEARCHED or _OUTPUT.search(chunk) is not None


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
        #: there are two states, one after the other: while stamping, each chunk goes through ``_keep``; then one in
        #: ``TRIM_INTERVAL`` does, and the loop itself appends the others, as a call for each is expensive
        self._is_stamping = True
        self._outputs_to_stamp = _ALL if call.observer.times_all_chunks else _STAMPED_OUTPUTS
        stream_observer = getattr(stream, "stream_observer", None)
        if stream_observer is not None:
            self.stream_observer = stream_observer

    @property
    def elapsed(self) -> Any:
        """What ``Response.elapsed`` of httpx2 asks the stream for."""
        return getattr(self._stream, "elapsed", None)

    def _keep(self, chunk: bytes) -> bool:
        """Keep a chunk, stamped with its time while ``_is_stamping``; whether the next one is to be stamped as well."""
        body = self._body
        body.pieces.append(chunk)
        # reset first: if this fails, later chunks have no time instead of a wrong one
        is_stamping, self._is_stamping = self._is_stamping, False
        if not is_stamping:
            body.trim()
            return False
        stamps = body.stamps
        stamps.append((stamps[-2] if stamps else 0) + len(chunk))
        stamps.append(perf_counter_ns())
        if self._outputs_to_stamp <= _STAMPED_OUTPUTS and _looks_like_output(chunk):
            self._outputs_to_stamp -= 1
        is_stamping = self._outputs_to_stamp > 0
        if not is_stamping or len(stamps) % (2 * TRIM_INTERVAL) == 0:
            body.trim()
        self._is_stamping = is_stamping
        return is_stamping

    def _iterate(self) -> Iterator[bytes]:
        if self._is_started:  # openai drains a connection behind [DONE]: that is not part of the response
            yield from self._stream
            return
        self._is_started = True
        source = iter(self._stream)
        append, append_only = self._body.pieces.append, 0
        try:
            for chunk in source:
                if append_only:
                    append_only -= 1
                    append(chunk)
                elif not guarded("tee.take", self._keep, chunk):
                    append_only = TRIM_INTERVAL - 1
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
        append, append_only = self._body.pieces.append, 0
        try:
            if is_drain:
                async for chunk in source:
                    yield chunk
                return
            async for chunk in source:
                if append_only:
                    append_only -= 1
                    append(chunk)
                elif not guarded("tee.take", self._keep, chunk):
                    append_only = TRIM_INTERVAL - 1
                yield chunk
            self._call.observer.on_body_end(self._call, self._body)
        except GeneratorExit:
            await _aclose(source)
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
            await _aclose(events)
        finally:
            call.observer.on_abandon(call)
        raise
    except BaseException as error:
        call.observer.on_error(call, error)
        raise
    call.observer.on_stream_end(call)


async def _aclose(source: AsyncIterator[Any]) -> None:
    """Close ``source`` in this task, as happens without us: a finaliser would close it in another task."""
    close = getattr(source, "aclose", None)
    if close is not None and not getattr(source, "ag_running", False):  # a loop that ends closes all generators at once
        await close()
