"""The hooks of a Stainless-made SDK; openai and anthropic are both made so and differ only in their tables.

Every call of such an SDK goes through four places, whatever method the user called: the base client's ``request``
(start, exception, return), its ``_build_request`` (each attempt's exact bytes), its ``_process_response`` (the
response that counts) and the generator in ``Stream.__stream__`` (how the events end). See docs/decisions/0001; for
calls that reach the SDK's ``request`` past ours, ``_bypassed.py``.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from .._guard import guarded
from ._attempts import fail, raised, received
from ._bypassed import Bypass, begin_attempt
from ._call import Call, Route, Target
from ._endpoints import absolute_address
from ._hooks import Patch, Patches
from ._http import http_hooks
from ._imports import when_imported
from ._observe import Observer
from ._running import Running, enter, leave, leave_bypassed, running_of
from ._tee import call_of, watched, watched_async
from ._upload import Upload
from ._versions import is_known

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
        hooks.watch()
        return hooks


class Stainless:
    """The hooks of one provider, for one observer."""

    def __init__(self, provider: Provider, observer: Observer) -> None:
        self.provider = provider
        self.observer = observer
        self.active = True
        self._patches = Patches()
        #: those of every import of the SDK
        self._stream_types: weakref.WeakSet[type] = weakref.WeakSet()
        self._cancels: list[Callable[[], None]] = []
        #: of the clients that live, by their ids: what tells that one is gone, its URL, and whom it talks to
        self._targets: dict[int, tuple[weakref.ref[Any], Any, Target]] = {}

    def watch(self) -> None:
        """Patch the SDK, and what sends its requests, now and whenever they are imported."""
        package = self.provider.name
        http_hooks.acquire()
        self._cancels.append(http_hooks.release)
        self._cancels.append(when_imported(f"{package}._base_client", self.install))
        for module, patches in self.provider.extras.items():
            extend = functools.partial(self.extend, patches)
            self._cancels.append(when_imported(f"{package}.{module}", extend))

    def install(self, base_client: Any) -> None:
        """Patch the SDK whose ``_base_client`` module this is; stay out of one that is made otherwise."""
        if not self.active or not is_known(self.provider.name, self.provider.newest, base_client):
            return
        streams = base_client.Stream, base_client.AsyncStream
        self._stream_types.update(streams)
        self._patches.apply(
            (
                Patch(base_client.SyncAPIClient, "request", self._request),
                Patch(base_client.AsyncAPIClient, "request", self._request_async),
                Patch(base_client.BaseClient, "_build_request", self._build_request),
                Patch(base_client.SyncAPIClient, "_process_response", self._process_response),
                Patch(base_client.AsyncAPIClient, "_process_response", self._process_response_async),
                Patch(streams[0], "__stream__", functools.partial(self._stream, watch=watched)),
                Patch(streams[1], "__stream__", functools.partial(self._stream, watch=watched_async)),
                *Bypass(self, base_client).patches(),
            )
        )

    def extend(self, patches: Callable[[Stainless, Any], Iterable[Patch]], module: Any) -> None:
        """Apply a provider's further patches for ``module``."""
        if self.active:
            self._patches.apply(patches(self, module))

    def remove(self) -> None:
        """Take everything back. Calls that are under way end as they would have."""
        self.active = False
        while self._cancels:
            self._cancels.pop()()
        self._patches.remove()

    # -- the wrappers: nothing in them but the order of things ------------------------------------------------------

    def _request(self, original: Any) -> Any:
        @functools.wraps(original)
        def request(client: Any, cast_to: Any, options: Any, *args: Any, **kwargs: Any) -> Any:
            if not self.active or self._is_inside(client, options):
                return original(client, cast_to, options, *args, **kwargs)
            call = guarded("request.begin", self.begin, client, cast_to, options, kwargs)
            running = Running(call, client)
            token = enter(running)
            if call is None:
                try:
                    result = original(client, cast_to, options, *args, **kwargs)
                finally:
                    running.end()
                    leave(token)
                return self._pass(options, result)
            try:
                result = original(client, cast_to, call.options, *args, **kwargs)
            except BaseException as error:
                running.end()
                leave(token)
                raised(call, error)
                raise
            running.end()
            leave(token)
            self._returned(call, result)
            return result

        return request

    def _request_async(self, original: Any) -> Any:
        @functools.wraps(original)
        async def request(client: Any, cast_to: Any, options: Any, *args: Any, **kwargs: Any) -> Any:
            if not self.active or self._is_inside(client, options):
                return await original(client, cast_to, options, *args, **kwargs)
            call = guarded("request.begin", self.begin, client, cast_to, options, kwargs)
            running = Running(call, client)
            token = enter(running)
            if call is None:
                try:
                    result = await original(client, cast_to, options, *args, **kwargs)
                finally:
                    running.end()
                    leave(token)
                return self._pass(options, result)
            try:
                result = await original(client, cast_to, call.options, *args, **kwargs)
            except GeneratorExit:  # the coroutine was dropped, maybe by a finaliser in another context: touch nothing
                running.end()
                call.abandoned()
                raise
            except BaseException as error:
                running.end()
                leave(token)
                raised(call, error)
                raise
            running.end()
            leave(token)
            self._returned(call, result)
            return result

        return request

    def _build_request(self, original: Any) -> Any:
        @functools.wraps(original)
        def _build_request(client: Any, options: Any, *args: Any, **kwargs: Any) -> Any:
            running = running_of(client) if self.active else None
            if running is None:
                return original(client, options, *args, **kwargs)
            if running.is_bypassed:
                options = guarded("bypassed.attempt", begin_attempt, running, client, options, kwargs) or options
            request = original(client, options, *args, **kwargs)
            guarded("build_request", self._sending, running.call, options, request)
            return request

        return _build_request

    def _process_response(self, original: Any) -> Any:
        @functools.wraps(original)
        def _process_response(client: Any, *args: Any, **kwargs: Any) -> Any:
            running = running_of(client) if self.active else None
            if running is not None and running.call is not None:
                guarded("process_response", received, running.call, kwargs)
            if running is None or not running.is_bypassed:
                return original(client, *args, **kwargs)
            try:
                result = original(client, *args, **kwargs)
            except BaseException as error:
                guarded("bypassed.raised", fail, running, error)
                raise
            guarded("bypassed.returned", self._bypassed_returned, running, result)
            return result

        return _process_response

    def _process_response_async(self, original: Any) -> Any:
        @functools.wraps(original)
        async def _process_response(client: Any, *args: Any, **kwargs: Any) -> Any:
            running = running_of(client) if self.active else None
            if running is not None and running.call is not None:
                guarded("process_response", received, running.call, kwargs)
            if running is None or not running.is_bypassed:
                return await original(client, *args, **kwargs)
            try:
                result = await original(client, *args, **kwargs)
            except BaseException as error:
                guarded("bypassed.raised", fail, running, error)
                raise
            guarded("bypassed.returned", self._bypassed_returned, running, result)
            return result

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

    def _is_inside(self, client: Any, options: Any) -> bool:
        """Whether a wrapper of somebody's has brought a call that has begun to another of our own wrappers."""
        running = running_of(client)
        return running is not None and running.call is not None and running.call.options is options

    def begin(self, client: Any, cast_to: Any, options: Any, kwargs: Mapping[str, Any]) -> Call | None:
        """A new call, or None if it is not to be recorded."""
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
        if not self.provider.late_span(observer) or observer.has_span(call):
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
        # by the class that has the generator: a wrapt wrapper of it is another object each time that it is asked for
        kinds = getattr(getattr(stream_class, "__origin__", stream_class), "__mro__", ())
        owner = next((kind for kind in kinds if "__stream__" in vars(kind)), None)
        return stream_class is None or owner in self._stream_types

    def _sending(self, call: Call | None, options: Any, request: Any) -> None:
        if call is None:
            return
        call.attempts += 1
        call.request = request
        # the span of a call that had to wait for one of the SDK's
        if call.span is None and call.span_context is None and self.provider.late_span(self.observer):
            self.observer.start_span(call, _body(options))

    def _returned(self, call: Call, result: Any) -> None:
        call.options = None
        if not guarded("request.returned", self._keeps_open, call, result):
            call.returned()

    def _bypassed_returned(self, running: Running, result: Any) -> None:
        call = running.end()
        if call is not None:
            leave_bypassed(running)
            self._returned(call, result)

    def _keeps_open(self, call: Call, result: Any) -> bool:
        """Whether ``result`` is a stream, or a response that is not read yet: then its end is the call's."""
        # of the instance, as a model that lacks the attribute takes its time to say so
        members = getattr(result, "__dict__", _NOTHING)
        response = members.get("response")
        if response is None or not self._is_stream(result):
            is_http = "extensions" in members and _is_http_response_class(type(result))
            response = result if is_http else members.get("http_response")
            if response is None or response.is_closed:
                return False
        if call_of(response) is not call and not response.is_closed:  # a middleware made this response
            received(call, {"response": response, "stream": True})
        _adopt_running_iterator(call, result)
        return True

    def _is_stream(self, result: Any) -> bool:
        return any(kind in self._stream_types for kind in type(result).__mro__)

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


def _is_http_response_class(kind: Any) -> bool:
    """Whether ``kind`` is the ``Response`` of httpx or httpx2, which ``cast_to`` may be, or a class made of it."""
    return isinstance(kind, type) and hasattr(kind, "aiter_raw")


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
