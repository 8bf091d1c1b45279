"""The Responses WebSocket: one call, one span, one record per response, many of them on one connection.

``send``, ``recv`` and ``close`` of the ``websockets`` connection are shadowed: plain connections, sessions with lanes
and reconnections all use them; the SDK's own objects are not touched. A lane (``stream_id``) answers its requests in
order, one at a time, so an event belongs to the oldest open call of its lane. A response that no message of the caller
requested (the server continues after steering) is a call of its own.
"""

from __future__ import annotations

import functools
import inspect
import json
import re
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Final

from ..._guard import guarded
from ...redaction import url_credentials
from ..body import TRIM_INTERVAL
from ..call import Call, Endpoint, Route
from ..credentials import header_credentials
from ..patching import Patch

if TYPE_CHECKING:
    from .hooks import StainlessHooks

#: the SDK's modules that have such connections
CONNECTIONS: Final = ("resources.responses.responses", "resources.beta.responses.responses")
_MANAGERS: Final = ("ResponsesConnectionManager", "AsyncResponsesConnectionManager")
_ROUTE: Final = Route("chat", "responses")

_CREATE: Final = b'"response.create"'
_TERMINAL: Final = frozenset({"response.completed", "response.failed", "response.incomplete", "response.cancelled"})
#: events at which a response starts or ends, as they look in a message (a quote in a text is escaped)
_BOUNDARY: Final = re.compile(rb'"(?:response\.(?:created|completed|failed|incomplete|cancelled)|error)"')
_LANE: Final = re.compile(rb'"stream_id"\s*:\s*"([^"\\]*)"')
_DELTA: Final = b".delta"


def connection_patches(hooks: StainlessHooks, module: Any) -> Iterable[Patch]:
    """Patches of where a connection manager connects; older SDKs do so as they enter."""
    for name in _MANAGERS:
        manager = getattr(module, name, None)
        is_async = name.startswith("Async")
        if manager is None:
            continue
        if "_connect_ws" in vars(manager):
            yield Patch(manager, "_connect_ws", functools.partial(_wrap, hooks, is_async, lambda socket: socket))
        else:
            enter = "__aenter__" if is_async else "__enter__"
            wrap = functools.partial(_wrap, hooks, is_async, lambda connection: connection._connection)
            yield from (Patch(manager, method, wrap) for method in (enter, "enter"))


def _wrap(hooks: StainlessHooks, is_async: bool, socket_of: Callable[[Any], Any], original: Any) -> Any:
    if is_async:

        @functools.wraps(original)
        async def connect_async(manager: Any, *args: Any, **kwargs: Any) -> Any:
            result = await original(manager, *args, **kwargs)
            guarded("socket.attach", _attach, hooks, manager, socket_of, result)
            return result

        return connect_async

    @functools.wraps(original)
    def connect(manager: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(manager, *args, **kwargs)
        guarded("socket.attach", _attach, hooks, manager, socket_of, result)
        return result

    return connect


def _attach(hooks: StainlessHooks, manager: Any, socket_of: Callable[[Any], Any], result: Any) -> None:
    socket = socket_of(result)
    if not hooks.is_active or not type(socket).__module__.startswith("websockets.") or "recv" in vars(socket):
        return
    client = next(value for name, value in vars(manager).items() if name.endswith("__client"))
    endpoint = hooks.provider.endpoint(client)
    credentials = guarded("socket.credentials", _handshake_credentials, socket) or ()
    connection = _Connection(hooks, endpoint._replace(credentials=credentials))
    sink = hooks.observer.sink
    sink.ensure_started()
    shadow = _shadow_methods_async if inspect.iscoroutinefunction(socket.recv) else _shadow_methods
    shadow(socket, connection)
    # deferred, as a finaliser must not log: the handlers of the program may do anything
    on_gc = functools.partial(guarded, "socket.dropped", connection.on_gc)
    weakref.finalize(socket, sink.defer, on_gc).atexit = False


def _handshake_credentials(socket: Any) -> tuple[str, ...]:
    """What the connection was opened with: an error may repeat it, and messages have no headers."""
    request = getattr(socket, "request", None)
    pairs = request.headers.raw_items() if request is not None else ()
    headers = ((name.encode("latin-1"), value.encode("utf-8", "replace")) for name, value in pairs)
    path = getattr(request, "path", "")
    return (*header_credentials(headers, include_suspected=True), *url_credentials(path))


def _shadow_methods(socket: Any, connection: _Connection) -> None:
    original_send, original_recv, original_close = socket.send, socket.recv, socket.close

    @functools.wraps(original_send)
    def send(message: Any, *args: Any, **kwargs: Any) -> Any:
        pending = guarded("socket.sending", connection.on_send, message)
        try:
            return original_send(message, *args, **kwargs)
        except BaseException as error:
            guarded("socket.unsent", connection.on_send_error, pending, error)
            raise

    @functools.wraps(original_recv)
    def recv(*args: Any, **kwargs: Any) -> Any:
        try:
            message = original_recv(*args, **kwargs)
        except Exception as error:
            guarded("socket.lost", connection.on_receive_error, error)
            raise
        guarded("socket.received", connection.on_message, message)
        return message

    @functools.wraps(original_close)
    def close(*args: Any, **kwargs: Any) -> Any:
        try:
            return original_close(*args, **kwargs)
        finally:
            guarded("socket.closed", connection.on_close)

    socket.send, socket.recv, socket.close = send, recv, close


def _shadow_methods_async(socket: Any, connection: _Connection) -> None:
    original_send, original_recv, original_close = socket.send, socket.recv, socket.close

    @functools.wraps(original_send)
    async def send(message: Any, *args: Any, **kwargs: Any) -> Any:
        pending = guarded("socket.sending", connection.on_send, message)
        try:
            return await original_send(message, *args, **kwargs)
        except BaseException as error:
            guarded("socket.unsent", connection.on_send_error, pending, error)
            raise

    @functools.wraps(original_recv)
    async def recv(*args: Any, **kwargs: Any) -> Any:
        try:
            message = await original_recv(*args, **kwargs)
        except Exception as error:
            guarded("socket.lost", connection.on_receive_error, error)
            raise
        guarded("socket.received", connection.on_message, message)
        return message

    @functools.wraps(original_close)
    async def close(*args: Any, **kwargs: Any) -> Any:
        try:
            return await original_close(*args, **kwargs)
        finally:
            guarded("socket.closed", connection.on_close)

    socket.send, socket.recv, socket.close = send, recv, close


class _PendingResponse:
    """A response that was requested and has not ended; ``call`` is None if it is not recorded."""

    __slots__ = ("call", "is_stamped", "untrimmed")

    def __init__(self, call: Call | None) -> None:
        self.call = call
        self.untrimmed = 0
        self.is_stamped = False

    def append(self, message: bytes) -> None:
        """Append an event to the response, as a server-sent event, which the parser of streams reads."""
        if self.call is None or self.call.body is None:
            return
        body = self.call.body
        body.pieces.append(b"data: %b\n\n" % (message.replace(b"\n", b" ") if b"\n" in message else message))
        if not self.is_stamped:
            body.stamps.extend((body.size, perf_counter_ns()))
            self.is_stamped = _DELTA in message
        self.untrimmed += 1
        if self.untrimmed == TRIM_INTERVAL:
            self.untrimmed = 0
            body.trim()


class _Connection:
    """The pending responses of one connection, the oldest first, by their lane (None is the default one)."""

    def __init__(self, hooks: StainlessHooks, endpoint: Endpoint) -> None:
        self._hooks = hooks
        self._endpoint = endpoint
        self._lanes: dict[str | None, deque[_PendingResponse]] = {}
        self._model: str | None = None

    def on_send(self, message: bytes | str) -> _PendingResponse | None:
        """A message is about to be sent. Returns a new pending response if the message requests one."""
        data = message if isinstance(message, bytes) else message.encode()
        request = json.loads(data) if _CREATE in data else None
        if not isinstance(request, dict) or request.get("type") != "response.create":
            return None
        pending = self._start(request, data)
        self._lanes.setdefault(_lane_of(request), deque()).append(pending)
        return pending

    def on_send_error(self, pending: _PendingResponse | None, error: BaseException) -> None:
        """The message could not be sent."""
        if pending is None:
            return
        for lane in self._lanes.values():
            if pending in lane:
                lane.remove(pending)
        call = pending.call
        if call is not None:
            if isinstance(error, GeneratorExit):  # the coroutine was dropped, perhaps by a finaliser
                call.observer.on_abandon(call)
            else:
                call.observer.on_error(call, error)

    def on_message(self, message: bytes | str) -> None:
        """A message was received."""
        data = message if isinstance(message, bytes) else message.encode()
        if _BOUNDARY.search(data) is not None:
            self._on_boundary_event(data)
            return
        match = _LANE.search(data)
        lane = self._lanes.get(match[1].decode() if match is not None else None)
        if lane:
            lane[0].append(data)

    def on_receive_error(self, error: Exception) -> None:
        """Receiving has raised: all responses end if the connection is closed."""
        names = {kind.__name__ for kind in type(error).__mro__}
        if "ConnectionClosed" not in names:
            return
        for call in self._pop_calls():
            if "ConnectionClosedOK" in names and call.body is not None:
                call.observer.on_body_end(call, call.body)
            else:
                call.observer.on_error(call, error)

    def on_close(self) -> None:
        """The caller closed the connection."""
        for call in self._pop_calls():
            if call.body is not None:
                call.observer.on_body_close(call, call.body)

    def on_gc(self) -> None:
        """The connection was garbage-collected (on the sink's worker)."""
        for call in self._pop_calls():
            call.observer.on_abandon(call)

    def _on_boundary_event(self, data: bytes) -> None:
        event = json.loads(data)
        if not isinstance(event, dict):
            return
        kind = event.get("type")
        lane = self._lanes.setdefault(_lane_of(event), deque())
        if kind == "response.created" and not lane:
            response = event.get("response")
            lane.append(self._start(response if isinstance(response, dict) else {}, None))
        if not lane:
            return
        lane[0].append(data)
        if kind in _TERMINAL or kind == "error":
            call = lane.popleft().call
            if call is not None and call.body is not None:
                call.observer.on_body_end(call, call.body)

    def _start(self, body: Mapping[str, Any], message: bytes | None) -> _PendingResponse:
        observer = self._hooks.observer
        call = observer.start_call(_ROUTE, self._endpoint, body, stream=True) if self._hooks.is_active else None
        if call is not None:
            call.model = call.model or self._model
            self._model = call.model
            call.request = message
            call.attempts = 1 if message is not None else 0
            call.new_body("")
            guarded("socket.start_span", observer.start_span, call, body)
        return _PendingResponse(call)

    def _pop_calls(self) -> Iterator[Call]:
        for lane in self._lanes.values():
            while lane:
                call = lane.popleft().call
                if call is not None:
                    yield call


def _lane_of(event: Mapping[str, Any]) -> str | None:
    name = event.get("stream_id")
    return name if isinstance(name, str) else None
