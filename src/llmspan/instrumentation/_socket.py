"""The Responses WebSocket: one call, one span, one record per response, many of them on one connection.

What is sent and received is looked at on the ``websockets`` connection itself, where plain connections, sessions with
lanes and reconnections all come by; two attributes of that one object are shadowed, and the SDK's own objects stay as
they are. A lane (``stream_id``) answers its requests in order, one at a time, so that its oldest open call is the one
that an event belongs to. A response that nobody asked for (the server goes on after steering) is a call of its own.
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

from .._guard import guarded
from ._body import CHECKED_EVERY
from ._call import Call, Route, Target
from ._hooks import Patch

if TYPE_CHECKING:
    from ._stainless import Stainless

#: the SDK's modules that have such connections
CONNECTIONS: Final = ("resources.responses.responses", "resources.beta.responses.responses")
_MANAGERS: Final = ("ResponsesConnectionManager", "AsyncResponsesConnectionManager")
_ROUTE: Final = Route("chat", "responses")

_CREATE: Final = b'"response.create"'
_TERMINAL: Final = frozenset({"response.completed", "response.failed", "response.incomplete", "response.cancelled"})
#: events at which a response may begin or end, as they look in a message (a quote inside of a text is escaped)
_EDGE: Final = re.compile(rb'"(?:response\.(?:created|completed|failed|incomplete|cancelled)|error)"')
_LANE: Final = re.compile(rb'"stream_id"\s*:\s*"([^"\\]*)"')
_DELTA: Final = b".delta"


def connection_patches(hooks: Stainless, module: Any) -> Iterable[Patch]:
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


def _wrap(hooks: Stainless, is_async: bool, socket_of: Callable[[Any], Any], original: Any) -> Any:
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


def _attach(hooks: Stainless, manager: Any, socket_of: Callable[[Any], Any], result: Any) -> None:
    socket = socket_of(result)
    if not hooks.active or not type(socket).__module__.startswith("websockets.") or "recv" in vars(socket):
        return
    client = next(value for name, value in vars(manager).items() if name.endswith("__client"))
    lanes = _Lanes(hooks, hooks.provider.target(client))
    sink = hooks.observer.sink
    sink.ensure_started()
    shadow = _shadow_async if inspect.iscoroutinefunction(socket.recv) else _shadow
    shadow(socket, lanes)
    # a finaliser only hands over: what goes wrong is logged, and a log handler may do anything
    weakref.finalize(socket, sink.defer, functools.partial(guarded, "socket.dropped", lanes.dropped)).atexit = False


def _shadow(socket: Any, lanes: _Lanes) -> None:
    send, receive, close = socket.send, socket.recv, socket.close

    @functools.wraps(send)
    def tell(message: Any, *args: Any, **kwargs: Any) -> Any:
        turn = guarded("socket.sending", lanes.sending, message)
        try:
            return send(message, *args, **kwargs)
        except BaseException as error:
            guarded("socket.unsent", lanes.unsent, turn, error)
            raise

    @functools.wraps(receive)
    def hear(*args: Any, **kwargs: Any) -> Any:
        try:
            message = receive(*args, **kwargs)
        except Exception as error:
            guarded("socket.lost", lanes.lost, error)
            raise
        guarded("socket.received", lanes.received, message)
        return message

    @functools.wraps(close)
    def leave(*args: Any, **kwargs: Any) -> Any:
        try:
            return close(*args, **kwargs)
        finally:
            guarded("socket.closed", lanes.closed)

    socket.send, socket.recv, socket.close = tell, hear, leave


def _shadow_async(socket: Any, lanes: _Lanes) -> None:
    send, receive, close = socket.send, socket.recv, socket.close

    @functools.wraps(send)
    async def tell(message: Any, *args: Any, **kwargs: Any) -> Any:
        turn = guarded("socket.sending", lanes.sending, message)
        try:
            return await send(message, *args, **kwargs)
        except BaseException as error:
            guarded("socket.unsent", lanes.unsent, turn, error)
            raise

    @functools.wraps(receive)
    async def hear(*args: Any, **kwargs: Any) -> Any:
        try:
            message = await receive(*args, **kwargs)
        except Exception as error:
            guarded("socket.lost", lanes.lost, error)
            raise
        guarded("socket.received", lanes.received, message)
        return message

    @functools.wraps(close)
    async def leave(*args: Any, **kwargs: Any) -> Any:
        try:
            return await close(*args, **kwargs)
        finally:
            guarded("socket.closed", lanes.closed)

    socket.send, socket.recv, socket.close = tell, hear, leave


class _Turn:
    """A response that is expected or under way; ``call`` is None if it is not to be recorded."""

    __slots__ = ("call", "is_stamped", "unchecked")

    def __init__(self, call: Call | None) -> None:
        self.call = call
        self.unchecked = 0
        self.is_stamped = False

    def keep(self, message: bytes) -> None:
        """Append an event to the response, in the form in which streams have it."""
        if self.call is None or self.call.body is None:
            return
        body = self.call.body
        body.pieces.append(b"data: %b\n\n" % (message.replace(b"\n", b" ") if b"\n" in message else message))
        if not self.is_stamped:
            body.stamps.extend((body.size, perf_counter_ns()))
            self.is_stamped = _DELTA in message
        self.unchecked += 1
        if self.unchecked == CHECKED_EVERY:
            self.unchecked = 0
            body.check()


class _Lanes:
    """The responses of one connection, oldest first, by the lane that they are on (None: the default one)."""

    def __init__(self, hooks: Stainless, target: Target) -> None:
        self._hooks = hooks
        self._target = target
        self._lanes: dict[str | None, deque[_Turn]] = {}
        self._model: str | None = None

    def sending(self, message: bytes | str) -> _Turn | None:
        """A message is about to be sent: a new turn if it asks for a response."""
        data = message if isinstance(message, bytes) else message.encode()
        asked = json.loads(data) if _CREATE in data else None
        if not isinstance(asked, dict) or asked.get("type") != "response.create":
            return None
        turn = self._begin(asked, data)
        self._lanes.setdefault(_lane_of(asked), deque()).append(turn)
        return turn

    def unsent(self, turn: _Turn | None, error: BaseException) -> None:
        """The message could not be sent."""
        if turn is None:
            return
        for lane in self._lanes.values():
            if turn in lane:
                lane.remove(turn)
        if turn.call is not None:
            if isinstance(error, GeneratorExit):  # the coroutine was dropped, maybe by a finaliser
                turn.call.abandoned()
            else:
                turn.call.failed(error)

    def received(self, message: bytes | str) -> None:
        """A message came."""
        data = message if isinstance(message, bytes) else message.encode()
        if _EDGE.search(data) is not None:
            self._edge(data)
            return
        named = _LANE.search(data)
        lane = self._lanes.get(named[1].decode() if named is not None else None)
        if lane:
            lane[0].keep(data)

    def lost(self, error: Exception) -> None:
        """Receiving raised: the end of all turns if the connection is closed."""
        names = {kind.__name__ for kind in type(error).__mro__}
        if "ConnectionClosed" not in names:
            return
        for call in self._take_all():
            if "ConnectionClosedOK" in names and call.body is not None:
                call.body_read(call.body)
            else:
                call.failed(error)

    def closed(self) -> None:
        """The caller closed the connection."""
        for call in self._take_all():
            if call.body is not None:
                call.body_closed(call.body)

    def dropped(self) -> None:
        """Nobody holds the connection any more (on the sink's thread)."""
        for call in self._take_all():
            call.abandoned()

    def _edge(self, data: bytes) -> None:
        event = json.loads(data)
        if not isinstance(event, dict):
            return
        kind = event.get("type")
        lane = self._lanes.setdefault(_lane_of(event), deque())
        if kind == "response.created" and not lane:
            response = event.get("response")
            lane.append(self._begin(response if isinstance(response, dict) else {}, None))
        if not lane:
            return
        lane[0].keep(data)
        if kind in _TERMINAL or kind == "error":
            call = lane.popleft().call
            if call is not None and call.body is not None:
                call.body_read(call.body)

    def _begin(self, body: Mapping[str, Any], sent: bytes | None) -> _Turn:
        observer = self._hooks.observer
        call = observer.begin(_ROUTE, self._target, body, stream=True) if self._hooks.active else None
        if call is not None:
            call.model = call.model or self._model
            self._model = call.model
            call.request = sent
            call.attempts = 1 if sent is not None else 0
            call.new_body("")
            guarded("socket.start_span", observer.start_span, call, body)
        return _Turn(call)

    def _take_all(self) -> Iterator[Call]:
        for lane in self._lanes.values():
            while lane:
                call = lane.popleft().call
                if call is not None:
                    yield call


def _lane_of(event: Mapping[str, Any]) -> str | None:
    name = event.get("stream_id")
    return name if isinstance(name, str) else None
