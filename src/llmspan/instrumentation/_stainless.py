"""The hooks of a Stainless-made SDK; openai and anthropic are both made so and differ only in their tables.

Every call of such an SDK goes through four places, whatever method the user called: the base client's ``request``
(start, exception, return), its ``_build_request`` (each attempt's exact bytes), its ``_process_response`` (the
response that counts) and the generator in ``Stream.__stream__`` (how the events end). See docs/decisions/0001.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from contextvars import ContextVar, Token
from typing import Any, Final, NamedTuple

from .._guard import guarded
from ._call import Call, Route, Target
from ._endpoints import absolute_address
from ._hooks import Patch, Patches, when_imported
from ._observe import Observer
from ._tee import call_of, hang, watched, watched_async
from ._upload import Upload
from ._versions import is_known


class _Running:
    """A call while its ``request`` runs. Contexts are copied, and kept for long: this one is emptied at the end."""

    __slots__ = ("call",)

    def __init__(self, call: Call) -> None:
        self.call: Call | None = call


#: what ``request`` is running in this task or thread; None in one that is not recorded. Set and reset in one frame
_running: ContextVar[_Running | None] = ContextVar("llmspan_call", default=None)

_NOTHING: Final[Mapping[str, Any]] = {}


class Prepared(NamedTuple):
    """What a provider makes of a call before it starts: the options to send, and which events to keep back."""

    options: Any
    hides: Callable[[Any], bool] | None = None


class Provider(NamedTuple):
    """What is particular to one SDK: the entry point ``llmspan.providers``."""

    #: the SDK's package
    name: str
    #: the kind of call that these options describe, or None if it is not ours to record
    route: Callable[[Any], Route | None]
    #: whom a client talks to at a URL (its ``base_url``, or an absolute one that it was asked for)
    target: Callable[..., Target]
    #: a chance to change the options of a call whose events reach the caller through the SDK's stream, given the
    #: client and the body; None leaves them alone
    prepare: Callable[[Observer, Call, Any, Mapping[str, Any]], Prepared | None] | None = None
    #: the body of these options less what the SDK, not the caller, has put there
    caller_body: Callable[[Any, Mapping[str, Any]], Mapping[str, Any]] = lambda _, body: body
    #: whether the span may only be opened once the request is built (an SDK span may be there by then)
    late_span: Callable[[Observer], bool] = lambda _: False
    #: a look at a call that has begun, with its options
    begun: Callable[[Call, Any], None] | None = None
    #: a look at what a call that is not recorded returned, with its options
    passed: Callable[[Any, Any], None] | None = None
    #: further patches, by the SDK's module that they are for
    extras: Mapping[str, Callable[[Stainless, Any], Iterable[Patch]]] = {}
    #: the newest major version that this was written for
    newest: int = 0

    def instrument(self, observer: Observer) -> Stainless:
        """Record this SDK's calls from now on, or from when the application imports it."""
        hooks = Stainless(self, observer)
        when_imported(f"{self.name}._base_client", hooks.install)
        for module, patches in self.extras.items():
            when_imported(f"{self.name}.{module}", functools.partial(hooks.extend, patches))
        return hooks


class Stainless:
    """The hooks of one provider, for one observer."""

    def __init__(self, provider: Provider, observer: Observer) -> None:
        self.provider = provider
        self.observer = observer
        self.active = True
        self._patches = Patches()
        self._stream_types: tuple[type, ...] = ()
        #: of the clients that live, by their ids: what tells that one is gone, its URL, and whom it talks to
        self._targets: dict[int, tuple[weakref.ref[Any], Any, Target]] = {}

    def install(self, base_client: Any) -> None:
        """Patch the SDK whose ``_base_client`` module this is; stay out of one that is made otherwise."""
        if not self.active or not is_known(self.provider.name, self.provider.newest, base_client):
            return
        streams = base_client.Stream, base_client.AsyncStream
        self._stream_types = streams
        self._patches.apply(
            (
                Patch(base_client.SyncAPIClient, "request", self._request),
                Patch(base_client.AsyncAPIClient, "request", self._request_async),
                Patch(base_client.BaseClient, "_build_request", self._build_request),
                Patch(base_client.SyncAPIClient, "_process_response", self._process_response),
                Patch(base_client.AsyncAPIClient, "_process_response", self._process_response_async),
                Patch(streams[0], "__stream__", functools.partial(self._stream, watch=watched)),
                Patch(streams[1], "__stream__", functools.partial(self._stream, watch=watched_async)),
            )
        )

    def extend(self, patches: Callable[[Stainless, Any], Iterable[Patch]], module: Any) -> None:
        """Apply a provider's further patches for ``module``."""
        if self.active:
            self._patches.apply(patches(self, module))

    def remove(self) -> None:
        """Take everything back. Calls that are under way end as they would have."""
        self.active = False
        self._patches.remove()

    # -- the wrappers: nothing in them but the order of things ------------------------------------------------------

    def _request(self, original: Any) -> Any:
        @functools.wraps(original)
        def request(client: Any, cast_to: Any, options: Any, *args: Any, **kwargs: Any) -> Any:
            call = guarded("request.begin", self._begin, client, cast_to, options, kwargs)
            if call is None:
                token = _running.set(None if self.active else _running.get())
                try:
                    result = original(client, cast_to, options, *args, **kwargs)
                finally:
                    _reset(token)
                return self._pass(options, result)
            running = _Running(call)
            token = _running.set(running)
            try:
                result = original(client, cast_to, call.options, *args, **kwargs)
            except BaseException as error:
                running.call = None
                _reset(token)
                _raised(call, error)
                raise
            running.call = None
            _reset(token)
            self._returned(call, result)
            return result

        return request

    def _request_async(self, original: Any) -> Any:
        @functools.wraps(original)
        async def request(client: Any, cast_to: Any, options: Any, *args: Any, **kwargs: Any) -> Any:
            call = guarded("request.begin", self._begin, client, cast_to, options, kwargs)
            if call is None:
                token = _running.set(None if self.active else _running.get())
                try:
                    result = await original(client, cast_to, options, *args, **kwargs)
                finally:
                    _reset(token)
                return self._pass(options, result)
            running = _Running(call)
            token = _running.set(running)
            try:
                result = await original(client, cast_to, call.options, *args, **kwargs)
            except GeneratorExit:  # the coroutine was dropped, maybe by a finaliser in another context: touch nothing
                running.call = None
                call.abandoned()
                raise
            except BaseException as error:
                running.call = None
                _reset(token)
                _raised(call, error)
                raise
            running.call = None
            _reset(token)
            self._returned(call, result)
            return result

        return request

    def _build_request(self, original: Any) -> Any:
        @functools.wraps(original)
        def _build_request(client: Any, *args: Any, **kwargs: Any) -> Any:
            request = original(client, *args, **kwargs)
            call = current_call()
            if call is not None and self.active:
                guarded("build_request", self._sending, call, request)
            return request

        return _build_request

    def _process_response(self, original: Any) -> Any:
        @functools.wraps(original)
        def _process_response(client: Any, *args: Any, **kwargs: Any) -> Any:
            call = current_call()
            if call is not None and self.active:
                guarded("process_response", _received, call, kwargs)
            return original(client, *args, **kwargs)

        return _process_response

    def _process_response_async(self, original: Any) -> Any:
        @functools.wraps(original)
        async def _process_response(client: Any, *args: Any, **kwargs: Any) -> Any:
            call = current_call()
            if call is not None and self.active:
                guarded("process_response", _received, call, kwargs)
            return await original(client, *args, **kwargs)

        return _process_response

    def _stream(self, original: Any, watch: Callable[[Any, Call], Any]) -> Any:
        @functools.wraps(original)
        def __stream__(stream: Any) -> Any:  # noqa: N807 - the SDK's name
            events = original(stream)
            return guarded("stream", _watch, stream, events, watch) or events

        return __stream__

    def _pass(self, options: Any, result: Any) -> Any:
        if self.active and self.provider.passed is not None:
            guarded("request.passed", self.provider.passed, options, result)
        return result

    # -- what they report -------------------------------------------------------------------------------------------

    def _begin(self, client: Any, cast_to: Any, options: Any, kwargs: Mapping[str, Any]) -> Call | None:
        route = self.provider.route(options) if self.active else None
        if route is None:
            return None
        body = _body(options)
        stream = kwargs.get("stream") is True or body.get("stream") is True or body.get("stream_format") == "sse"
        observer = self.observer
        call = observer.begin(route, self._target(client, options.url), body, stream=stream)
        if call is None:
            return None
        call.options = options
        call.path = options.url
        if vars(options).get("files"):
            call.upload = guarded("request.upload", Upload, body, options.files)
        if self.provider.begun is not None:
            guarded("request.begun", self.provider.begun, call, options)
        if not self.provider.late_span(observer) or observer.has_span(route):
            given = guarded("request.caller_body", self.provider.caller_body, options, body)
            guarded("request.start_span", observer.start_span, call, body if given is None else given)
        if self.provider.prepare is not None and self._reads_events(cast_to, kwargs):
            prepared = guarded("request.prepare", self.provider.prepare, observer, call, client, body)
            if prepared is not None:
                call.options = prepared.options
                call.hides = functools.partial(guarded, "stream.hides", prepared.hides) if prepared.hides else None
        return call

    def _reads_events(self, cast_to: Any, kwargs: Mapping[str, Any]) -> bool:
        """Whether the caller gets the events from a stream object whose generator is the SDK's, and so passes us."""
        if kwargs.get("stream") is not True or _is_http_response_class(cast_to):
            return False
        stream_class = kwargs.get("stream_cls")
        generator = getattr(getattr(stream_class, "__origin__", stream_class), "__stream__", None)
        return stream_class is None or any(generator is kind.__stream__ for kind in self._stream_types)

    def _sending(self, call: Call, request: Any) -> None:
        call.attempts += 1
        call.request = request
        if call.span is None and call.span_context is None and self.provider.late_span(self.observer):
            self.observer.start_span(call, _body(call.options))

    def _returned(self, call: Call, result: Any) -> None:
        call.options = None
        if not guarded("request.returned", self._keeps_open, call, result):
            call.returned()

    def _keeps_open(self, call: Call, result: Any) -> bool:
        """Whether ``result`` is a stream, or a response that is not read yet: then its end is the call's."""
        response = getattr(result, "response", None) if isinstance(result, self._stream_types) else None
        if response is None:
            # of the instance, as a model that lacks the attribute takes its time to say so
            members = getattr(result, "__dict__", _NOTHING)
            is_http = "extensions" in members and _is_http_response_class(type(result))
            response = result if is_http else members.get("http_response")
            if response is None or response.is_closed:
                return False
        if call_of(response) is not call and not response.is_closed:  # a middleware made this response
            _received(call, {"response": response, "stream": True})
        _adopt_running_iterator(call, result)
        return True

    def _target(self, client: Any, url: str = "") -> Target:
        address = absolute_address(url)
        if address is not None:
            return self.provider.target(client, address)
        base_url, key = client.base_url, id(client)
        known = self._targets.get(key)
        if known is None or known[1] is not base_url or known[0]() is not client:
            gone = weakref.ref(client, lambda _: self._targets.pop(key, None))
            known = gone, base_url, self.provider.target(client)
            self._targets[key] = known
        return known[2]


def current_call() -> Call | None:
    """The call whose ``request`` is running in this task or thread."""
    running = _running.get()
    return None if running is None else running.call


def _is_http_response_class(kind: Any) -> bool:
    """Whether ``kind`` is the ``Response`` of httpx or httpx2, which ``cast_to`` may be, or a class made of it."""
    return isinstance(kind, type) and hasattr(kind, "aiter_raw")


def _received(call: Call, kwargs: Mapping[str, Any]) -> None:
    response = kwargs["response"]
    call.noted(response)
    if kwargs.get("stream") or not response.is_closed:
        hang(call, response)


def _raised(call: Call, error: BaseException) -> None:
    call.options = None
    response = getattr(error, "response", None)
    if response is not None and getattr(response, "is_closed", False):
        guarded("request.raised", call.noted, response)
    call.failed(error)


def _watch(stream: Any, events: Any, watch: Callable[[Any, Call], Any]) -> Any:
    call = call_of(getattr(stream, "response", None))
    if call is None or call.is_watched:
        return None
    generator = watch(events, call)
    call.watched_by(generator)
    return generator


def _adopt_running_iterator(call: Call, stream: Any) -> None:
    """SDKs that make a stream's iterator at once had made it before a middleware's response was known to us."""
    events = vars(stream).get("_iterator") if hasattr(stream, "__dict__") else None
    if events is None or call.is_watched:
        return
    generator = (watched_async if hasattr(events, "__anext__") else watched)(events, call)
    call.watched_by(generator)
    stream._iterator = generator


def _body(options: Any) -> Mapping[str, Any]:
    """The request's JSON as the caller gave it; only its scalars may be looked at (iterables may be one-shot)."""
    body = options.json_data
    extra = vars(options).get("extra_json")
    if not (type(body) is dict or isinstance(body, Mapping)):
        return extra if isinstance(extra, Mapping) else {}
    return {**body, **extra} if extra else body


def _reset(token: Token[_Running | None]) -> None:
    with suppress(ValueError):  # the coroutine is being driven in another context now; ours is gone anyway
        _running.reset(token)
