"""The HTTP client's ``send``: our span is the current one while the SDK sends an attempt, and at no other time.

So the spans of HTTP instrumentations (one per attempt) become children of the call's. Everything else that the SDK
does runs with the caller's own context: its own tracing would otherwise take our span as parent. No header is set here.
``send`` is also the lowest place that every attempt passes, whoever has wrapped the SDK's methods above it.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from contextvars import Token
from typing import Any, Final

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan

from .._guard import guarded
from ._attempts import on_response, on_send_error
from ._call import Call
from ._hooks import Patch, Patches
from ._imports import when_imported
from ._running import Running, current

#: the HTTP libraries of the SDKs, old and new
_LIBRARIES: Final = ("httpx", "httpx2")


class HttpHooks:
    """The patches of both libraries, for all providers together: applied for the first, removed with the last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._patches = Patches()
        self._cancels: list[Callable[[], None]] = []
        self._users = 0

    def acquire(self) -> None:
        """Patch the libraries, now or when they are imported, unless they are patched already."""
        with self._lock:
            self._users += 1
            if self._users == 1:
                self._cancels = [when_imported(name, self._install) for name in _LIBRARIES]

    def release(self) -> None:
        """Take the patches back once nobody needs them."""
        with self._lock:
            self._users -= 1
            if self._users == 0:
                for cancel in self._cancels:
                    cancel()
                self._patches.remove()

    def _install(self, library: Any) -> None:
        table = (Patch(library.Client, "send", _send), Patch(library.AsyncClient, "send", _send_async))
        self._patches.apply(table)


#: one for the process
http_hooks: Final = HttpHooks()


def _sending(http_client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Running | None:
    """The running request if what is sent is its attempt, and not a request that a hook or a login makes meanwhile."""
    running = current()
    if running is None or running.call is None:
        return None
    request = args[0] if args else kwargs.get("request")
    call = running.call
    if call.request is None and getattr(running.client, "_client", None) is http_client:
        call.request = request  # somebody's own ``_build_request`` has made it
        call.attempts += 1
    return running if call.request is request else None


def _context_of(call: Call | None) -> Context | None:
    """The current context with the span of ``call`` in it, if that is ours and none has become current since it began.

    Its ids only: a pooled connection keeps the context that it was opened in, and a call that a hook makes in there
    would take our span for one that somebody else has opened for that very call. A span that has become current since
    is nearer to the request: a middleware's, or that of the anthropic SDK where both are wanted.
    """
    if call is None or call.is_adopted or call.has_native_span or call.span_context is None:
        return None
    newest = trace.get_current_span().get_span_context()
    if newest.is_valid and (call.parent is None or newest.span_id != call.parent.span_id):
        return None
    return trace.set_span_in_context(NonRecordingSpan(call.span_context))


def _detach(token: Token[Context] | None, inside: Context | None) -> None:
    if token is not None and otel_context.get_current() is inside:
        otel_context.detach(token)


def _send(original: Any) -> Any:
    @functools.wraps(original)
    def send(http_client: Any, *args: Any, **kwargs: Any) -> Any:
        running = guarded("http.sending", _sending, http_client, args, kwargs)
        if running is None:
            return original(http_client, *args, **kwargs)
        inside = guarded("http.context", _context_of, running.call)
        token = None if inside is None else otel_context.attach(inside)
        try:
            response = original(http_client, *args, **kwargs)
        except BaseException as error:
            _detach(token, inside)
            guarded("http.failed", on_send_error, running, error)
            raise
        _detach(token, inside)
        guarded("http.received", on_response, running, response)
        return response

    return send


def _send_async(original: Any) -> Any:
    @functools.wraps(original)
    async def send(http_client: Any, *args: Any, **kwargs: Any) -> Any:
        running = guarded("http.sending", _sending, http_client, args, kwargs)
        if running is None:
            return await original(http_client, *args, **kwargs)
        inside = guarded("http.context", _context_of, running.call)
        token = None if inside is None else otel_context.attach(inside)
        try:
            response = await original(http_client, *args, **kwargs)
        except GeneratorExit as error:  # dropped, maybe by a finaliser in another context: touch no variable
            guarded("http.failed", on_send_error, running, error)
            raise
        except BaseException as error:
            _detach(token, inside)
            guarded("http.failed", on_send_error, running, error)
            raise
        _detach(token, inside)
        guarded("http.received", on_response, running, response)
        return response

    return send
