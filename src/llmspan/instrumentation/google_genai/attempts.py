"""The attempts of a call: what is kept of a request, of the response to it, and of an exception."""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable
from typing import Any, Final

from ..body import Body
from ..call import Call
from ..chunk_collector import ChunkCollector
from ..sent_request import SentRequest
from .active_call import active_call

#: the SDK raises for every other status
_SUCCESS: Final = 200
#: responses whose events are still to be read -> who collects them
_collectors: Final[weakref.WeakKeyDictionary[Any, ChunkCollector]] = weakref.WeakKeyDictionary()


def on_attempt(call: Call, http_request: Any) -> None:
    """The SDK is about to send a request."""
    call.attempts += 1
    call.body = call.headers = call.http_status = None  # of an earlier attempt, which this one replaces
    call.request = SentRequest(http_request.url, http_request.headers, http_request.data)


class RetryCounter:
    """Wraps what makes the TLS settings of aiohttp: beside a client's start, that is done where an attempt is repeated.

    The SDK repeats what aiohttp could not send within the same ``_async_request_once``. This is no function, and so is
    not bound to the instance on which the static method is called.
    """

    def __init__(self, original: Callable[..., Any]) -> None:
        self._original = original

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Count the attempt that follows, if a request is being sent."""
        call = active_call()
        if call is not None:
            call.attempts += 1
        return self._original(*args, **kwargs)


def parse_error(body: bytes) -> Exception | None:
    """What the SDK raises when it parses ``body`` and looks for a member of it, which it does outside of the call."""
    try:
        value = json.loads(body)
        if value is not None:
            _ = "" in value
    except (ValueError, TypeError, RecursionError) as error:  # Ctrl-C, on the caller's thread, passes
        return error
    return None


def on_response(call: Call, response: Any) -> None:
    """An attempt has succeeded: ``response`` has the whole text, or refers to a stream."""
    call.http_status = _SUCCESS
    call.headers = {name.lower(): value for name, value in response.headers.items()}
    content = response.response_stream
    if isinstance(content, list):
        text = content[0] if content else None
        call.body = Body.from_content((text or "").encode())
        return
    body = call.new_body("")
    _collectors[response] = ChunkCollector(body, times_all_chunks=call.observer.times_all_chunks)


def on_attempt_error(call: Call, error: BaseException) -> None:
    """An attempt has failed; the SDK's exceptions for a bad status have the response of whichever HTTP library."""
    response: Any = getattr(error, "response", None)
    status = getattr(response, "status_code", None) or getattr(response, "status", None)
    if not isinstance(status, int):
        return
    call.http_status = status
    call.headers = {str(name).lower(): value for name, value in response.headers.items()}
    content = getattr(response, "_body", None)  # of aiohttp, whose own way to it is a coroutine
    content = getattr(response, "content", None) if content is None else content
    call.body = Body.from_content(content) if isinstance(content, bytes) else None


def collector_of(response: Any) -> ChunkCollector | None:
    """Who collects the events of ``response``; None if it is of no recorded call."""
    return _collectors.pop(response, None)


def framed(text: str) -> bytes:
    """An event as it was sent: the SDK has cut off its line ends and the names of its fields."""
    data = text.encode()
    return b"data: %b\n\n" % (data.replace(b"\n", b"\ndata: ") if b"\n" in data else data)


def keep_event(collector: ChunkCollector, text: str) -> None:
    """Keep one event of a response."""
    collector.add(framed(text))
