"""The hooks of the SDK's ``BaseApiClient``: each of its four methods that make a request is one call.

Everything that the user may call leads there, over whichever HTTP library: a turn of automatic function calling, a hop
of a continued response, a message of a chat. Retries are below it, in ``_request_once``, and so are the events of a
stream, in ``HttpResponse``; where the program asked for a stream is above it. Interactions have a client of their own
(``interactions.py``).
"""

from __future__ import annotations

import copy
import functools
import sys
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import wrapt
from opentelemetry import trace
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.trace import Span

from ..._guard import guarded
from ...redaction import url_credentials
from ..call import Call, Endpoint
from ..chunk_collector import ChunkCollector
from ..credentials import client_credentials
from ..import_hooks import when_imported
from ..observer import Observer
from ..patching import Patch, Patches
from ..peers.call_spans import find_call_span
from ..sending import attach, detach, sending_context
from ..tee import observe_events, observe_events_async
from ..versions import Required, is_supported
from .active_call import activate, active_call, deactivate
from .attempts import RetryCounter, collector_of, keep_event, on_attempt, on_attempt_error, on_response, parse_error
from .batch import FETCH_BATCH, GeminiBatchResults, start_span_of_fetch
from .caller_contexts import context_of_caller, keep_context
from .interactions import InteractionHooks
from .routes import Target, endpoint, fetched_batch, target

#: what the hooks rely on in ``_api_client``
_REQUIRED: Final[Required] = {
    ("BaseApiClient", "request"): ("http_method", "path", "request_dict", "http_options"),
    ("BaseApiClient", "async_request"): ("http_method", "path", "request_dict", "http_options"),
    ("BaseApiClient", "request_streamed"): ("http_method", "path", "request_dict", "http_options"),
    ("BaseApiClient", "async_request_streamed"): ("http_method", "path", "request_dict", "http_options"),
    ("BaseApiClient", "_request_once"): ("http_request",),
    ("BaseApiClient", "_async_request_once"): ("http_request",),
    ("HttpResponse", "_iter_response_stream"): (),
    ("HttpResponse", "_aiter_response_stream"): (),
}
#: the modules with methods that the program gets a stream from -> their classes, sync and async, and the method
_STREAMS: Final = {
    "google.genai.models": (("Models", "AsyncModels"), "generate_content_stream"),
    "google.genai.chats": (("Chat", "AsyncChat"), "send_message_stream"),
}
_NO_EVENT: Final = object()


class GoogleGenAI(NamedTuple):
    """The entry point ``llmspan.providers: google_genai``."""

    name: str = "google_genai"
    #: the newest major version that the hooks were tested with
    latest_tested_major: int = 3

    def instrument(self, observer: Observer) -> GoogleGenAIHooks:
        """Record this SDK's calls from now on, or from when the application imports it."""
        hooks = GoogleGenAIHooks(observer, self.latest_tested_major)
        hooks.patch_on_import()
        return hooks


class GoogleGenAIHooks:
    """The hooks for one observer."""

    def __init__(self, observer: Observer, latest_tested_major: int = 0) -> None:
        self.observer = observer
        self.is_active = True
        self._latest_tested_major = latest_tested_major
        self._patches = Patches()
        self._cancels: list[Callable[[], None]] = []
        #: client -> the credentials of its proxies
        self._proxies: weakref.WeakKeyDictionary[Any, tuple[str, ...]] = weakref.WeakKeyDictionary()

    def patch_on_import(self) -> None:
        """Patch the SDK's modules now, if they are imported, and whenever they are."""
        interactions = InteractionHooks(self.observer)
        self._cancels.append(interactions.remove)
        self._cancels.append(when_imported("google.genai._api_client", self._install))
        for module in _STREAMS:
            self._cancels.append(when_imported(module, self._install_streams))
        interactions.patch_on_import()

    def remove(self) -> None:
        """Remove all patches. Calls that are open are still recorded when they end."""
        self.is_active = False
        while self._cancels:
            self._cancels.pop()()
        self._patches.remove()

    def _install(self, module: Any) -> None:
        if not self.is_active or not is_supported("google-genai", self._latest_tested_major, module, _REQUIRED):
            return
        client, response = module.BaseApiClient, module.HttpResponse
        self._patches.apply(
            (
                Patch(client, "request", self._request),
                Patch(client, "async_request", self._async_request),
                Patch(client, "request_streamed", self._request_streamed),
                Patch(client, "async_request_streamed", self._async_request_streamed),
                Patch(client, "_request_once", _request_once),
                Patch(client, "_async_request_once", _async_request_once),
                Patch(client, "_ensure_aiohttp_ssl_ctx", RetryCounter),
                Patch(response, "_iter_response_stream", _iter_response_stream),
                Patch(response, "_aiter_response_stream", _aiter_response_stream),
            )
        )

    def _install_streams(self, module: Any) -> None:
        (sync_class, async_class), name = _STREAMS[module.__name__]
        if self.is_active:
            self._patches.apply(
                (
                    Patch(getattr(module, sync_class), name, self._stream),
                    Patch(getattr(module, async_class), name, self._stream_async),
                )
            )

    # -- the wrappers: they call the SDK, and in the right order the methods below -----------------------------------

    def _request(self, original: Any) -> Any:
        @functools.wraps(original)
        def request(client: Any, http_method: str, path: str, request_dict: Any, http_options: Any = None) -> Any:
            call = guarded("google.start", self._start_call, client, http_method, path, request_dict, http_options)
            if call is None:
                return original(client, http_method, path, request_dict, http_options)
            activation = activate(call)
            try:
                result = original(client, http_method, path, request_dict, http_options)
            except BaseException as error:
                deactivate(activation)
                call.observer.on_error(call, error)
                raise
            deactivate(activation)
            _on_return(call)
            return result

        return request

    def _async_request(self, original: Any) -> Any:
        @functools.wraps(original)
        async def async_request(
            client: Any, http_method: str, path: str, request_dict: Any, http_options: Any = None
        ) -> Any:
            call = guarded("google.start", self._start_call, client, http_method, path, request_dict, http_options)
            if call is None:
                return await original(client, http_method, path, request_dict, http_options)
            result = await _send_async(call, original, client, http_method, path, request_dict, http_options)
            _on_return(call)
            return result

        return async_request

    def _request_streamed(self, original: Any) -> Any:
        @functools.wraps(original)
        def request_streamed(
            client: Any, http_method: str, path: str, request_dict: Any, http_options: Any = None
        ) -> Iterator[Any]:
            call = guarded("google.start", self._start_call, client, http_method, path, request_dict, http_options)
            events = original(client, http_method, path, request_dict, http_options)
            yield from events if call is None else observe_events(_send_at_first(call, events), call)

        return request_streamed

    def _async_request_streamed(self, original: Any) -> Any:
        @functools.wraps(original)
        async def async_request_streamed(
            client: Any, http_method: str, path: str, request_dict: Any, http_options: Any = None
        ) -> Any:
            call = guarded("google.start", self._start_call, client, http_method, path, request_dict, http_options)
            if call is None:
                return await original(client, http_method, path, request_dict, http_options)
            events = await _send_async(call, original, client, http_method, path, request_dict, http_options)
            return observe_events_async(events, call)

        return async_request_streamed

    def _stream(self, original: Any) -> Any:
        def generate_stream(wrapped: Any, _instance: Any, args: Any, kwargs: Any) -> Any:
            generator = wrapped(*args, **kwargs)
            if self.is_active:
                guarded("google.stream", keep_context, generator)
            return generator

        return _GeneratorFunction(original, generate_stream)

    def _stream_async(self, original: Any) -> Any:
        @functools.wraps(original)
        async def generate_stream(*args: Any, **kwargs: Any) -> Any:
            generator = await original(*args, **kwargs)
            if self.is_active:
                guarded("google.stream", keep_context, generator)
            return generator

        return generate_stream

    # -- what the wrappers call ---------------------------------------------------------------------------------------

    def _start_call(
        self, client: Any, http_method: str, path: str, body: Mapping[str, Any], http_options: Any
    ) -> Call | None:
        """A new call, with the context in which the program asked for it; None if it is not to be recorded."""
        requested = target(http_method, path, body) if self.is_active else None
        batch_id = fetched_batch(http_method, path) if self.is_active and requested is None else None
        if requested is None and batch_id is None:
            return None
        where = endpoint(client, http_options)
        credentials = guarded("google.proxies", self._proxy_credentials, client)
        where = where._replace(credentials=credentials) if credentials else where
        context = context_of_caller()
        if requested is None:
            call = self._start_fetch(batch_id or "", where)
        elif context is None:
            call = self._start(requested, where, body)
        else:
            # another instrumentation makes its span current again while the stream is read
            span = find_call_span(requested.route.operation, requested.model)
            call = context.run(self._start_below, span, requested, where, body)
        if call is not None:
            call.path = path
        return call

    def _start_below(
        self, span: Span | None, requested: Target, where: Endpoint, body: Mapping[str, Any]
    ) -> Call | None:
        """Start the call in the context in which the program asked for it, and with ``span`` as the current one."""
        if span is None:
            return self._start(requested, where, body)
        with trace.use_span(span, record_exception=False, set_status_on_exception=False):
            return self._start(requested, where, body)

    def _start(self, requested: Target, where: Endpoint, body: Mapping[str, Any]) -> Call | None:
        route, model, stream = requested
        call = self.observer.start_call(route, where, body, stream=stream, model=model)
        if call is not None:
            guarded("google.start_span", self.observer.start_span, call, body)
        return call

    def _start_fetch(self, batch_id: str, where: Endpoint) -> Call | None:
        """Start a call for a batch that may have results; it has no span yet."""
        if not is_instrumentation_enabled():  # most such calls are forgotten: this one is not counted as lost
            return None
        call = self.observer.start_call(FETCH_BATCH, where, {}, stream=False)
        if call is not None:
            call.batch_results = GeminiBatchResults(batch_id)
        return call

    def _proxy_credentials(self, client: Any) -> tuple[str, ...]:
        credentials = self._proxies.get(client)
        if credentials is None:
            proxy = (getattr(client, "_async_client_session_request_args", None) or {}).get("proxy")
            of_aiohttp = url_credentials(str(proxy)) if proxy else ()
            of_httpx = client_credentials(getattr(client, "_httpx_client", None))
            credentials = self._proxies[client] = (*of_httpx, *of_aiohttp)
        return credentials


async def _send_async(call: Call, original: Any, *args: Any) -> Any:
    """Await what ``original`` sends for ``call``; an exception ends the call."""
    activation = activate(call)
    try:
        result = await original(*args)
    except GeneratorExit:  # the coroutine was dropped, perhaps by a finaliser in another context
        activation[0].call = None
        call.observer.on_abandon(call)
        raise
    except BaseException as error:
        deactivate(activation)
        call.observer.on_error(call, error)
        raise
    deactivate(activation)
    return result


def _on_return(call: Call) -> None:
    """The SDK has read a response as a whole, and parses it when the call is over."""
    call.parse_error = parse_error
    if call.batch_results is not None:
        guarded("google.fetched", start_span_of_fetch, call)
    call.observer.on_return(call)


def _send_at_first(call: Call, events: Iterator[Any]) -> Iterator[Any]:
    """Yield what ``events`` yields: the request of ``call`` is sent when the first one is read."""
    activation = activate(call)
    try:
        first = next(events, _NO_EVENT)
    finally:
        deactivate(activation)
    if first is not _NO_EVENT:
        yield first
        yield from events


def _request_once(original: Any) -> Any:
    @functools.wraps(original)
    def request_once(client: Any, http_request: Any, *args: Any, **kwargs: Any) -> Any:
        call = active_call()
        if call is None:
            return original(client, http_request, *args, **kwargs)
        guarded("google.attempt", on_attempt, call, http_request)
        context = guarded("google.context", sending_context, call)
        token = attach(context)
        try:
            response = original(client, http_request, *args, **kwargs)
        except BaseException as error:
            detach(token, context)
            guarded("google.failed", on_attempt_error, call, error)
            raise
        detach(token, context)
        guarded("google.response", on_response, call, response)
        return response

    return request_once


def _async_request_once(original: Any) -> Any:
    @functools.wraps(original)
    async def async_request_once(client: Any, http_request: Any, *args: Any, **kwargs: Any) -> Any:
        """A coroutine function: the SDK's retries ask for one."""
        call = active_call()
        if call is None:
            return await original(client, http_request, *args, **kwargs)
        guarded("google.attempt", on_attempt, call, http_request)
        context = guarded("google.context", sending_context, call)
        token = attach(context)
        try:
            response = await original(client, http_request, *args, **kwargs)
        except GeneratorExit:  # dropped, perhaps by a finaliser in another context: set no variable
            raise
        except BaseException as error:
            detach(token, context)
            guarded("google.failed", on_attempt_error, call, error)
            raise
        detach(token, context)
        guarded("google.response", on_response, call, response)
        return response

    return async_request_once


def _iter_response_stream(original: Any) -> Any:
    @functools.wraps(original)
    def iter_response_stream(response: Any) -> Iterator[str]:
        collector = guarded("google.collector", collector_of, response)
        if collector is None:
            yield from original(response)
            return
        for text in original(response):
            guarded("google.event", keep_event, collector, text)
            yield text

    return iter_response_stream


def _aiter_response_stream(original: Any) -> Any:
    @functools.wraps(original)
    def aiter_response_stream(response: Any) -> AsyncIterator[str]:
        events = original(response)
        collector = guarded("google.collector", collector_of, response)
        return events if collector is None else _CollectedEvents(events, collector)

    return aiter_response_stream


class _CopiedByName:
    """Copies and pickles a wrapt wrapper, which by itself refuses, as Python does the function or method in it."""

    __slots__ = ()

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        function: Any = self
        owner = getattr(function, "__self__", None)
        return function if owner is None else getattr(copy.deepcopy(owner, memo), function.__name__)

    def __reduce__(self) -> Any:
        return self.__reduce_ex__(2)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """The attribute of its instance or class: by attribute access, which makes a new wrapper each time."""
        function: Any = self
        owner = getattr(function, "__self__", None)
        if owner is None:
            names = function.__qualname__.split(".")[:-1]
            owner = functools.reduce(getattr, names, sys.modules[function.__module__])
        return getattr, (owner, function.__name__)


class _BoundGeneratorFunction(_CopiedByName, wrapt.BoundFunctionWrapper):  # pyright: ignore[reportMissingTypeArgument]
    """What access to a :class:`_GeneratorFunction` by its class or an instance gives."""


class _GeneratorFunction(_CopiedByName, wrapt.FunctionWrapper):  # pyright: ignore[reportMissingTypeArgument]
    """A wrapper that ``inspect`` takes for the generator function that it wraps, and that runs when it is called."""

    __bound_function_wrapper__ = _BoundGeneratorFunction
    #: of the wrapper itself, not of the wrapped function (``patching.py``)
    _llmspan_original: Any = None


class _CollectedEvents:
    """The SDK's generator of events, each of which is kept.

    No generator itself: the SDK leaves it in a cycle, and a loop closes each generator of a cycle by a task of its own.
    """

    __slots__ = ("_collector", "_events")

    def __init__(self, events: AsyncGenerator[str], collector: ChunkCollector) -> None:
        self._events = events
        self._collector = collector

    def __aiter__(self) -> _CollectedEvents:
        return self

    async def __anext__(self) -> str:
        text = await self._events.__anext__()
        guarded("google.event", keep_event, self._collector, text)
        return text

    async def aclose(self) -> None:
        await self._events.aclose()


PROVIDER: Final = GoogleGenAI()
