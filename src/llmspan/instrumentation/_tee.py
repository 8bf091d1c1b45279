"""The thin shells around what the SDK reads: a tee under the response's bytes, one generator frame over its events.

Both hand through and tell the :class:`~llmspan.instrumentation._call.Call` how it ended. Nothing is ever held back,
reordered or read ahead; sync and async differ only where the language makes them.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import islice
from time import perf_counter_ns
from typing import Any

from .._guard import guarded
from ._body import CHECKED_EVERY, Body
from ._call import Call

#: where a response carries its call: ``extensions`` is httpx's public slot for such things and is left out of pickles
KEY = "llmspan.call"

#: Time is for the first output, and asking for it is the dearest thing done per piece, so it ends with this many pieces
#: that look like output. Reasoning models behind gateways send any number of empty deltas while they think: those are
#: stamped and do not count.
_STAMPS = 16
#: a piece of so many bytes is not searched: it has output in it, or is the request repeated in the first event
_LONG = 8 * 1024
#: more than there can be pieces
_EVERY = 1 << 62
#: a text that is not empty, where APIs have what the model produced
_OUTPUT = re.compile(
    rb'"(?:arguments|audio|b64_json|code|completion|content|delta|input|partial_json|reasoning|reasoning_content|refusal'
    rb'|text|thinking|transcript)"\s*:\s*"[^"]'
)


def _looks_like_output(piece: bytes) -> bool:
    return len(piece) > _LONG or _OUTPUT.search(piece) is not None


def hang(call: Call, response: Any) -> None:
    """Put a tee under the body of ``response`` (an httpx or httpx2 Response, whether it is read or not)."""
    if response.extensions.get(KEY) is call:
        return
    stream, is_read, http = response.stream, response.is_closed, _http_of(type(response))
    body = call.new_body("" if is_read else response.headers.get("content-encoding", ""), http.__name__)
    if is_read:  # by a hook of the HTTP client, say; nobody will ask the tee for it
        body.pieces.append(response.content)
    response.extensions[KEY] = call
    response.stream = _tee_for(http)(stream, call, body)


@functools.lru_cache(maxsize=64)
def _http_of(kind: type) -> Any:
    """The httpx or httpx2 module that a response's class, or what that derives from, is of."""
    modules = (sys.modules.get(one.__module__.partition(".")[0]) for one in kind.__mro__)
    return next(module for module in modules if hasattr(module, "AsyncByteStream"))


def call_of(response: Any) -> Call | None:
    """The call that a response belongs to, if we watch it."""
    extensions = getattr(response, "extensions", None)
    return extensions.get(KEY) if type(extensions) is dict else None


class _Tee:
    """What the sync and the async tee share. No ``__getattr__``: anthropic asks for attributes once per event."""

    def __init__(self, stream: Any, call: Call, body: Body) -> None:
        self._stream = stream
        self._call = call
        self._body = body
        self._begun = False
        self._due = _EVERY if call.judge.stamps_all else _STAMPS
        observer = getattr(stream, "stream_observer", None)
        if observer is not None:
            self.stream_observer = observer

    @property
    def elapsed(self) -> Any:
        """What ``Response.elapsed`` of httpx2 asks the stream for."""
        return getattr(self._stream, "elapsed", None)

    def _iterate(self) -> Iterator[bytes]:
        if self._begun:  # read on after the end, to drain a connection: not part of the response
            yield from self._stream
            return
        self._begun = True
        body = self._body
        keep = body.pieces.append
        source = iter(self._stream)
        try:
            for piece in source:
                needs_time = guarded("tee.take", self._take, piece)
                yield piece
                if not needs_time:
                    for further in islice(source, CHECKED_EVERY - 1):
                        keep(further)
                        yield further
        except GeneratorExit:
            raise
        except BaseException as error:
            self._call.body_failed(self._body, error)
            raise
        self._call.body_read(self._body)

    async def _iterate_async(self) -> AsyncIterator[bytes]:
        source = self._stream.__aiter__()
        is_rest, self._begun = self._begun, True
        keep, unseen = self._body.pieces.append, 0
        try:
            if is_rest:  # openai drains a connection behind [DONE]: not part of the response
                async for piece in source:
                    yield piece
                return
            async for piece in source:
                if unseen:
                    unseen -= 1
                    keep(piece)
                elif not guarded("tee.take", self._take, piece):
                    unseen = CHECKED_EVERY - 1
                yield piece
            self._call.body_read(self._body)
        except GeneratorExit:
            await _close(source)
            raise
        except BaseException as error:
            if not is_rest:
                self._call.body_failed(self._body, error)
            raise

    def _take(self, piece: bytes) -> bool:
        """Keep a piece, and see to those that came before it; whether the next one is to come here too."""
        body = self._body
        body.pieces.append(piece)
        due, self._due = self._due, 0  # if anything fails here, what comes later has no time, rather than a wrong one
        if not due:
            body.check()
            return False
        stamps = body.stamps
        stamps.append((stamps[-2] if stamps else 0) + len(piece))
        stamps.append(perf_counter_ns())
        remaining = due - 1 if due <= _STAMPS and _looks_like_output(piece) else due
        if not remaining or len(stamps) % (2 * CHECKED_EVERY) == 0:
            body.check()
        self._due = remaining
        return remaining > 0

    def _close(self) -> None:
        try:
            self._stream.close()
        finally:
            self._call.body_closed(self._body)

    async def _close_async(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            self._call.body_closed(self._body)

    def __del__(self) -> None:
        call = self.__dict__.get("_call")
        if call is not None:
            call.body_dropped(self._body)


@functools.lru_cache(maxsize=4)  # one a library, and its successor after a new import
def _tee_for(http: Any) -> Callable[[Any, Call, Body], Any]:
    """A maker of tees that are byte streams to ``http`` (the httpx or httpx2 module), of the colours of the stream."""
    sync_base, async_base = http.SyncByteStream, http.AsyncByteStream
    sync_names = {"__iter__": _Tee._iterate, "close": _Tee._close}
    async_names = {"__aiter__": _Tee._iterate_async, "aclose": _Tee._close_async}
    kinds = {
        (True, False): type("Tee", (_Tee, sync_base), sync_names),
        (False, True): type("AsyncTee", (_Tee, async_base), async_names),
        (True, True): type("ByteTee", (_Tee, sync_base, async_base), sync_names | async_names),
    }

    def make(stream: Any, call: Call, body: Body) -> Any:
        return kinds[isinstance(stream, sync_base), isinstance(stream, async_base)](stream, call, body)

    return make


def watched(events: Iterator[Any], call: Call) -> Iterator[Any]:
    """The SDK's own event generator, one frame deeper."""
    try:
        if call.hides is None:
            yield from events
        else:
            for event in events:
                if not call.hides(event):
                    yield event
    except GeneratorExit:
        close = getattr(events, "close", None)
        if close is not None:
            close()
        call.abandoned()
        raise
    except BaseException as error:
        call.failed(error)
        raise
    call.exhausted()


async def watched_async(events: AsyncIterator[Any], call: Call) -> AsyncIterator[Any]:
    """The async twin of :func:`watched`."""
    try:
        if call.hides is None:
            async for event in events:
                yield event
        else:
            async for event in events:
                if not call.hides(event):
                    yield event
    except GeneratorExit:
        try:
            await _close(events)
        finally:
            call.abandoned()
        raise
    except BaseException as error:
        call.failed(error)
        raise
    call.exhausted()


async def _close(source: AsyncIterator[Any]) -> None:
    """Close it here and now, as without us, and not by a finaliser in another task."""
    close = getattr(source, "aclose", None)
    if close is not None and not getattr(source, "ag_running", False):  # a loop that ends closes all at once
        await close()
