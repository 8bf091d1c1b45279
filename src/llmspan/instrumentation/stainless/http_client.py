"""The HTTP client's ``send``: the place where an attempt is sent, in the context of ``sending.py``.

Every attempt passes ``send``, even if another instrumentation has wrapped the SDK's methods above it.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.context import Context, attach, get_current

from ..._guard import guarded
from ..import_hooks import when_imported
from ..patching import Patch, Patches
from ..sending import detach, sending_context
from .active_call import ActiveCall, current_active_call
from .attempts import on_attempt_error, on_attempt_response

#: the HTTP libraries of the SDKs, old and new
_LIBRARIES: Final = ("httpx", "httpx2")


class HttpHooks:
    """The patches of both libraries, which all providers share: the first one applies them, the last removes them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._patches = Patches()
        self._cancels: list[Callable[[], None]] = []
        self._users = 0

    def acquire(self) -> None:
        """Patch the libraries, now or when they are imported, unless another provider has."""
        with self._lock:
            self._users += 1
            if self._users == 1:
                self._cancels = [when_imported(name, self._install) for name in _LIBRARIES]

    def release(self) -> None:
        """Remove the patches if no other provider needs them."""
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


def _context_to_send_in(
    active: ActiveCall, http_client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Context | None:
    """The context for an attempt of the active call; None for a request that a hook or a login makes meanwhile.

    Our span is current in there, unless a span has become current since the call started. Such a span is nearer to the
    request: a middleware's, or the SDK's own where both are wanted.
    """
    call = active.call
    if call is None:
        return None
    request = args[0] if args else kwargs.get("request")
    if call.request is None and getattr(active.client, "_client", None) is http_client:
        call.request = request  # made by a ``_build_request`` that a subclass has overridden
        call.attempts += 1
    if call.request is not request:
        return None
    current = trace.get_current_span().get_span_context()
    if current.is_valid and (call.parent is None or current.span_id != call.parent.span_id):
        return get_current()
    return sending_context(call) or get_current()


def _send(original: Any) -> Any:
    @functools.wraps(original)
    def send(http_client: Any, *args: Any, **kwargs: Any) -> Any:
        active = current_active_call()
        if active is None:
            return original(http_client, *args, **kwargs)
        context = guarded("http.sending", _context_to_send_in, active, http_client, args, kwargs)
        if context is None:
            return original(http_client, *args, **kwargs)
        token = attach(context)
        try:
            response = original(http_client, *args, **kwargs)
        except BaseException as error:
            detach(token, context)
            guarded("http.failed", on_attempt_error, active, error)
            raise
        detach(token, context)
        guarded("http.received", on_attempt_response, active, response)
        return response

    return send


def _send_async(original: Any) -> Any:
    @functools.wraps(original)
    async def send(http_client: Any, *args: Any, **kwargs: Any) -> Any:
        active = current_active_call()
        if active is None:
            return await original(http_client, *args, **kwargs)
        context = guarded("http.sending", _context_to_send_in, active, http_client, args, kwargs)
        if context is None:
            return await original(http_client, *args, **kwargs)
        token = attach(context)
        try:
            response = await original(http_client, *args, **kwargs)
        except GeneratorExit as error:  # dropped, perhaps by a finaliser in another context: set no variable
            guarded("http.failed", on_attempt_error, active, error)
            raise
        except BaseException as error:
            detach(token, context)
            guarded("http.failed", on_attempt_error, active, error)
            raise
        detach(token, context)
        guarded("http.received", on_attempt_response, active, response)
        return response

    return send
