"""The hooks of an SDK that Stainless generates; openai and anthropic differ only in their :class:`Provider`.

Every call of such an SDK passes four places, whichever method the user called: the base client's ``request`` (start,
exception, return), its ``_build_request`` (the bytes of each attempt), its ``_process_response`` (the response that
counts) and the generator in ``Stream.__stream__`` (how the events end). See docs/decisions/0001. Calls that do not pass
our wrapper of ``request`` are handled in ``bypass.py``.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NamedTuple

from ..._guard import guarded
from ..call import Call, Endpoint, Route
from ..credentials import client_credentials
from ..import_hooks import when_imported
from ..observer import Observer
from ..patching import Patch, Patches
from ..routes import absolute_address
from ..tee import call_of, observe_events, observe_events_async
from ..upload import Upload
from ..versions import Required, is_supported
from .active_call import ActiveCall, activate, active_call_of, deactivate_bypassed, is_nested
from .attempts import collect_response, end_by_error, end_bypassed_by_error
from .bypass import Bypass, begin_attempt
from .http_client import http_hooks

_NO_MEMBERS: Final[Mapping[str, Any]] = {}
#: what the hooks rely on in ``_base_client``
REQUIRED: Final[Required] = {
    ("SyncAPIClient", "request"): ("cast_to", "options"),
    ("AsyncAPIClient", "request"): ("cast_to", "options"),
    ("BaseClient", "_build_request"): ("options",),
    ("SyncAPIClient", "_process_response"): ("response",),
    ("AsyncAPIClient", "_process_response"): ("response",),
    ("Stream", "__stream__"): (),
    ("AsyncStream", "__stream__"): (),
}


class RequestOverrides(NamedTuple):
    """What a provider changes in a call before it is sent: its options, and the events that the caller is not shown."""

    options: Any
    hides_event: Callable[[Any], bool] | None = None


class Provider(NamedTuple):
    """What is particular to one SDK: the entry point ``llmspan.providers``."""

    #: the SDK's package
    name: str
    #: the kind of call that these options describe; None if it is not recorded
    route: Callable[[Any], Route | None]
    #: the endpoint of a client's requests, for its ``base_url`` or for an absolute URL
    endpoint: Callable[..., Endpoint]
    #: changes the options of a call whose events reach the caller through the SDK's stream; gets the client and the
    #: body, and returns None to change nothing
    on_request: Callable[[Observer, Call, Any, Mapping[str, Any]], RequestOverrides | None] | None = None
    #: the body without what the SDK, not the caller, has put there
    caller_body: Callable[[Any, Mapping[str, Any]], Mapping[str, Any]] | None = None
    #: whether the span is opened when the request is built and not before: there may be a span of the SDK by then
    defers_span: Callable[[Observer], bool] = lambda _: False
    #: runs when a call has started, with its options
    on_call_started: Callable[[Call, Any], None] | None = None
    #: runs when a call that is not recorded has returned, with its options and the result
    on_unrecorded_result: Callable[[Any, Any], None] | None = None
    #: further patches, by the module of the SDK that they belong to
    extra_patches: Mapping[str, Callable[[StainlessHooks, Any], Iterable[Patch]]] = {}
    #: the newest major version that the hooks were tested with
    latest_tested_major: int = 0

    def instrument(self, observer: Observer) -> StainlessHooks:
        """Record this SDK's calls from now on, or from when the application imports it."""
        hooks = StainlessHooks(self, observer)
        hooks.patch_on_import()
        return hooks


class StainlessHooks:
    """The hooks of one provider, for one observer."""

    def __init__(self, provider: Provider, observer: Observer) -> None:
        self.provider = provider
        self.observer = observer
        self.is_active = True
        self._defers_span = provider.defers_span(observer)
        self._patches = Patches()
        #: of every import of the SDK
        self._stream_types: weakref.WeakSet[type] = weakref.WeakSet()
        self._cancels: list[Callable[[], None]] = []
        #: ``id(client)`` -> the client (a weak reference that removes the entry), its URL, and the endpoint of that
        self._endpoints: dict[int, tuple[weakref.ref[Any], Any, Endpoint]] = {}

    def patch_on_import(self) -> None:
        """Patch the SDK and its HTTP client now, if they are imported, and whenever they are."""
        package = self.provider.name
        http_hooks.acquire()
        self._cancels.append(http_hooks.release)
        self._cancels.append(when_imported(f"{package}._base_client", self.install))
        for module, patches in self.provider.extra_patches.items():
            extend = functools.partial(self.extend, patches)
            self._cancels.append(when_imported(f"{package}.{module}", extend))

    def install(self, base_client: Any) -> None:
        """Patch the SDK whose ``_base_client`` module this is, if it has everything that the hooks need."""
        package, latest = self.provider.name, self.provider.latest_tested_major
        if not self.is_active or not is_supported(package, latest, base_client, REQUIRED):
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
                Patch(streams[0], "__stream__", functools.partial(self._stream, observe=observe_events)),
                Patch(streams[1], "__stream__", functools.partial(self._stream, observe=observe_events_async)),
                *Bypass(self, base_client).patches(),
            )
        )

    def extend(self, patches: Callable[[StainlessHooks, Any], Iterable[Patch]], module: Any) -> None:
        """Apply a provider's further patches for ``module``."""
        if self.is_active:
            self._patches.apply(patches(self, module))

    def remove(self) -> None:
        """Remove all patches. Calls that are open are still recorded when they end."""
        self.is_active = False
        while self._cancels:
            self._cancels.pop()()
        self._patches.remove()

    # -- the wrappers: they call the SDK, and in the right order the methods below -----------------------------------

    def _request(self, original: Any) -> Any:
        @functools.wraps(original)
        def request(client: Any, cast_to: Any, options: Any, *args: Any, **kwargs: Any) -> Any:
            if not self.is_active or is_nested(client, options):
                return original(client, cast_to, options, *args, **kwargs)
            call = guarded("request.begin", self.start_call, client, cast_to, options, kwargs)
            active = ActiveCall(call, client)
            token = activate(active)
            if call is None:
                try:
                    result = original(client, cast_to, options, *args, **kwargs)
                finally:
                    active.leave(token)
                return self._on_unrecorded(options, result)
            try:
                result = original(client, cast_to, call.options, *args, **kwargs)
            except BaseException as error:
                active.leave(token)
                end_by_error(call, error)
                raise
            active.leave(token)
            self._on_return(call, result)
            return result

        return request

    def _request_async(self, original: Any) -> Any:
        @functools.wraps(original)
        async def request(client: Any, cast_to: Any, options: Any, *args: Any, **kwargs: Any) -> Any:
            if not self.is_active or is_nested(client, options):
                return await original(client, cast_to, options, *args, **kwargs)
            call = guarded("request.begin", self.start_call, client, cast_to, options, kwargs)
            active = ActiveCall(call, client)
            token = activate(active)
            if call is None:
                try:
                    result = await original(client, cast_to, options, *args, **kwargs)
                finally:
                    active.leave(token)
                return self._on_unrecorded(options, result)
            try:
                result = await original(client, cast_to, call.options, *args, **kwargs)
            except GeneratorExit:  # the coroutine was dropped, perhaps by a finaliser in another context
                active.end_request()
                call.observer.on_abandon(call)
                raise
            except BaseException as error:
                active.leave(token)
                end_by_error(call, error)
                raise
            active.leave(token)
            self._on_return(call, result)
            return result

        return request

    def _build_request(self, original: Any) -> Any:
        @functools.wraps(original)
        def _build_request(client: Any, options: Any, *args: Any, **kwargs: Any) -> Any:
            active = active_call_of(client) if self.is_active else None
            if active is None:
                return original(client, options, *args, **kwargs)
            if active.is_bypassed:
                options = guarded("bypassed.attempt", begin_attempt, active, client, options, kwargs) or options
            request = original(client, options, *args, **kwargs)
            call = active.call
            if call is not None:
                call.attempts += 1
                call.request = request
                if self._defers_span and call.span is None and call.span_context is None:
                    guarded("request.start_span", self._start_deferred_span, call, options)
            return request

        return _build_request

    def _process_response(self, original: Any) -> Any:
        @functools.wraps(original)
        def _process_response(client: Any, *args: Any, **kwargs: Any) -> Any:
            active = active_call_of(client) if self.is_active else None
            if active is not None and active.call is not None:
                guarded("process_response", collect_response, active.call, kwargs)
            if active is None or not active.is_bypassed:
                return original(client, *args, **kwargs)
            try:
                result = original(client, *args, **kwargs)
            except BaseException as error:
                guarded("bypassed.raised", end_bypassed_by_error, active, error)
                raise
            guarded("bypassed.returned", self._on_bypassed_return, active, result)
            return result

        return _process_response

    def _process_response_async(self, original: Any) -> Any:
        @functools.wraps(original)
        async def _process_response(client: Any, *args: Any, **kwargs: Any) -> Any:
            active = active_call_of(client) if self.is_active else None
            if active is not None and active.call is not None:
                guarded("process_response", collect_response, active.call, kwargs)
            if active is None or not active.is_bypassed:
                return await original(client, *args, **kwargs)
            try:
                result = await original(client, *args, **kwargs)
            except BaseException as error:
                guarded("bypassed.raised", end_bypassed_by_error, active, error)
                raise
            guarded("bypassed.returned", self._on_bypassed_return, active, result)
            return result

        return _process_response

    def _stream(self, original: Any, observe: Callable[[Any, Call], Any]) -> Any:
        @functools.wraps(original)
        def __stream__(stream: Any) -> Any:  # noqa: N807 - the SDK's name
            events = original(stream)
            return guarded("stream", _observed, stream, events, observe) or events

        return __stream__

    def _on_unrecorded(self, options: Any, result: Any) -> Any:
        if self.is_active and self.provider.on_unrecorded_result is not None:
            guarded("request.passed", self.provider.on_unrecorded_result, options, result)
        return result

    # -- what the wrappers call ---------------------------------------------------------------------------------------

    def start_call(self, client: Any, cast_to: Any, options: Any, kwargs: Mapping[str, Any]) -> Call | None:
        """A new call, or None if it is not to be recorded."""
        route = self.provider.route(options) if self.is_active else None
        if route is None:
            return None
        body = _body(options)
        stream = kwargs.get("stream") is True or body.get("stream") is True or body.get("stream_format") == "sse"
        observer = self.observer
        call = observer.start_call(route, self._endpoint_of(client, options.url), body, stream=stream)
        if call is None:
            return None
        call.options = options
        call.path = options.url
        if vars(options).get("files"):
            call.upload = guarded("request.upload", Upload, body, options.files)
        if self.provider.on_call_started is not None:
            guarded("request.begun", self.provider.on_call_started, call, options)
        if not self._defers_span or observer.has_span(call):
            caller_body = body
            if self.provider.caller_body is not None:
                caller_body = guarded("request.caller_body", self.provider.caller_body, options, body)
            guarded("request.start_span", observer.start_span, call, body if caller_body is None else caller_body)
        if self.provider.on_request is not None and self._reads_events(cast_to, kwargs):
            overrides = guarded("request.prepare", self.provider.on_request, observer, call, client, body)
            if overrides is not None:
                call.options = overrides.options
                if overrides.hides_event is not None:
                    call.hides_event = functools.partial(guarded, "stream.hides", overrides.hides_event)
        return call

    def _reads_events(self, cast_to: Any, kwargs: Mapping[str, Any]) -> bool:
        """Whether the caller reads events from a stream object with the SDK's own generator, which we wrap."""
        if kwargs.get("stream") is not True or _is_http_response_class(cast_to):
            return False
        stream_class = kwargs.get("stream_cls")
        # by the class that defines the generator: a wrapt wrapper of the function is a new object at each access
        bases = getattr(getattr(stream_class, "__origin__", stream_class), "__mro__", ())
        owner = next((base for base in bases if "__stream__" in vars(base)), None)
        return stream_class is None or owner in self._stream_types

    def _start_deferred_span(self, call: Call, options: Any) -> None:
        """Open a span that was deferred, as the SDK might have opened one by now."""
        self.observer.start_span(call, _body(options))

    def _on_return(self, call: Call, result: Any) -> None:
        call.options = None
        if not guarded("request.returned", self._is_open, call, result):
            call.observer.on_return(call)

    def _on_bypassed_return(self, active: ActiveCall, result: Any) -> None:
        call = active.end_request()
        if call is not None:
            deactivate_bypassed(active)
            self._on_return(call, result)

    def _is_open(self, call: Call, result: Any) -> bool:
        """Whether ``result`` is a stream, or a response that is not read yet: then the call ends with that."""
        # from ``__dict__``: a pydantic model is slow to say that it lacks an attribute
        members = getattr(result, "__dict__", _NO_MEMBERS)
        response = members.get("response")
        if response is None or not any(map(self._stream_types.__contains__, type(result).__mro__)):
            is_http = "extensions" in members and _is_http_response_class(type(result))
            response = result if is_http else members.get("http_response")
            if response is None or response.is_closed:
                return False
        if call_of(response) is not call and not response.is_closed:  # a middleware made this response
            collect_response(call, {"response": response, "stream": True})
        if call.generator is None:
            _observe_existing_iterator(call, result)
        return True

    def _endpoint_of(self, client: Any, url: str = "") -> Endpoint:
        address = absolute_address(url) if "://" in url else None
        if address is not None:
            return _with_credentials(self.provider.endpoint(client, address), client)
        base_url, key = client.base_url, id(client)
        cached = self._endpoints.get(key)
        if cached is None or cached[1] is not base_url or cached[0]() is not client:
            reference = weakref.ref(client, lambda _: self._endpoints.pop(key, None))
            cached = reference, base_url, _with_credentials(self.provider.endpoint(client), client)
            self._endpoints[key] = cached
        return cached[2]


def _with_credentials(endpoint: Endpoint, client: Any) -> Endpoint:
    credentials = guarded("request.client_credentials", client_credentials, getattr(client, "_client", None))
    return endpoint._replace(credentials=credentials) if credentials else endpoint


def _is_http_response_class(kind: Any) -> bool:
    """Whether ``kind`` (a ``cast_to``, for example) is the ``Response`` of httpx or httpx2, or a subclass."""
    return isinstance(kind, type) and hasattr(kind, "aiter_raw")


def _observed(stream: Any, events: Any, observe: Callable[[Any, Call], Any]) -> Any:
    """The generator around ``events``; None if the stream is of no recorded call, or has one already."""
    call = call_of(getattr(stream, "response", None))
    if call is None or call.generator is not None:
        return None
    generator = observe(events, call)
    call.generator = weakref.ref(generator)
    return generator


def _observe_existing_iterator(call: Call, stream: Any) -> None:
    """Wrap the iterator of a stream that was made before its response, a middleware's, was known to be the call's."""
    events = vars(stream).get("_iterator") if hasattr(stream, "__dict__") else None
    if events is None:
        return
    generator = (observe_events_async if hasattr(events, "__anext__") else observe_events)(events, call)
    call.generator = weakref.ref(generator)
    stream._iterator = generator


def _body(options: Any) -> Mapping[str, Any]:
    """The request's JSON as the caller passed it. Only its scalars may be read: iterables may be one-shot."""
    body = options.json_data
    extra = vars(options).get("extra_json")
    if not (type(body) is dict or isinstance(body, Mapping)):
        return extra if isinstance(extra, Mapping) else {}
    return {**body, **extra} if extra else body
