"""Calls that reach the SDK's ``request`` without passing our wrapper of it.

A wrapper that another instrumentation put on a subclass, or on a client, before us holds the SDK's function as it was
then and calls it, whatever is in the class now. OpenInference does so. The methods that this function calls on ``self``
are ours again. Such a call starts in ``_maybe_override_cast_to``, inside the spans that the wrappers have opened. An
SDK that makes spans itself (anthropic >= 1.14) has opened one by then; there the call starts in ``_copy_and_prepare``,
which runs earlier. It ends in ``_process_response``, when a status error is made, when the HTTP client or the wait for
a retry raises, or when the options of its last attempt are freed.
"""

from __future__ import annotations

import functools
import sys
import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from ..._guard import guarded
from ..patching import Patch
from .active_call import ActiveCall, activate_bypassed, active_call_of, current_active_call, has_started
from .attempts import (
    end_bypassed_by_error,
    watch_attempt_options,
    watch_request_options,
    watch_retry_options,
)

if TYPE_CHECKING:
    from .hooks import StainlessHooks

#: the methods that wait for the next attempt; in older SDKs, they also make it
_RETRY_METHODS: Final = ("_sleep_for_retry", "_retry_request")
#: the SDK's frame is searched in so many frames above ours; other instrumentations' wrappers may be between
_MAX_FRAMES: Final = 16
#: in place of options that must not be kept alive, as their end is observed
_FREED_OPTIONS: Final = object()
#: options that ``_copy_and_prepare`` has made, by their ids: the decision whether to record their call is made
_decided: Final[dict[int, weakref.ref[Any]]] = {}


class Bypass:
    """The patches that one import of an SDK needs for such calls."""

    def __init__(self, hooks: StainlessHooks, base_client: Any) -> None:
        self._hooks = hooks
        self._base_client = base_client

    def patches(self) -> Iterable[Patch]:
        """The patch table."""
        base_client = self._base_client
        yield Patch(base_client.BaseClient, "_maybe_override_cast_to", self._override_cast_to)
        yield Patch(base_client.BaseClient, "_make_status_error_from_response", self._make_status_error)
        yield Patch(base_client.SyncAPIClient, "_copy_and_prepare", self._copy)
        yield Patch(base_client.AsyncAPIClient, "_copy_and_prepare", self._copy_async)
        yield Patch(base_client.FinalRequestOptions, "get_max_retries", _max_retries)
        for name in _RETRY_METHODS:
            yield Patch(base_client.SyncAPIClient, name, _retry)
            yield Patch(base_client.AsyncAPIClient, name, _retry_async)

    def _copy(self, original: Any) -> Any:
        @functools.wraps(original)
        def _copy_and_prepare(client: Any, options: Any) -> Any:
            prepared = original(client, options)
            if self._hooks.is_active and not has_started(client, prepared):
                guarded("bypassed.begin", self._start_early, client, prepared)
            return prepared

        return _copy_and_prepare

    def _copy_async(self, original: Any) -> Any:
        @functools.wraps(original)
        async def _copy_and_prepare(client: Any, options: Any) -> Any:
            prepared = await original(client, options)
            if self._hooks.is_active and not has_started(client, prepared):
                guarded("bypassed.begin", self._start_early, client, prepared)
            return prepared

        return _copy_and_prepare

    def _override_cast_to(self, original: Any) -> Any:
        @functools.wraps(original)
        def _maybe_override_cast_to(client: Any, cast_to: Any, options: Any) -> Any:
            if self._hooks.is_active and not has_started(client, options):
                guarded("bypassed.begin", self._start_late, client, cast_to, options)
            return original(client, cast_to, options)

        return _maybe_override_cast_to

    def _make_status_error(self, original: Any) -> Any:
        @functools.wraps(original)
        def _make_status_error_from_response(client: Any, *args: Any, **kwargs: Any) -> Any:
            error = original(client, *args, **kwargs)
            active = active_call_of(client)
            if active is not None and active.is_bypassed:
                guarded("bypassed.status_error", end_bypassed_by_error, active, error)
            return error

        return _make_status_error_from_response

    def _start_early(self, client: Any, options: Any) -> None:
        """Start before the SDK opens its own span: that would hide a wrapper's span, or be a second one of the call."""
        self._start(client, None, options)
        key = id(options)
        _decided[key] = weakref.ref(options, lambda _: _decided.pop(key, None))

    def _start_late(self, client: Any, cast_to: Any, options: Any) -> None:
        decided = _decided.get(id(options))
        if decided is None or decided() is not options:
            self._start(client, cast_to, options)

    def _start(self, client: Any, cast_to: Any, options: Any) -> None:
        body = options.json_data
        is_stream = isinstance(body, dict) and body.get("stream") is True
        is_sdk_type = str(getattr(cast_to, "__module__", "")).startswith(f"{self._hooks.provider.name}.")
        stream_class = _stream_class(client) if is_stream else None
        kwargs = {"stream": is_stream and is_sdk_type, "stream_cls": stream_class}
        call = self._hooks.start_call(client, cast_to, options, kwargs)
        if call is not None:
            if call.hides_event is None:
                call.options = _FREED_OPTIONS
            active = ActiveCall(call, client, is_bypassed=True, translate_error=self._to_sdk_error)
            active.owns(options)
            activate_bypassed(active)

    def _to_sdk_error(self, active: ActiveCall, error: Exception) -> BaseException:
        """The exception that the SDK raises for one of the HTTP client."""
        sdk = self._base_client
        names = {kind.__name__ for kind in type(error).__mro__}
        if names & {"OpenAIError", "AnthropicError"}:
            return error
        kind = sdk.APITimeoutError if "TimeoutException" in names else sdk.APIConnectionError
        request = active.call.request if active.call is not None else None
        translated: BaseException = kind(request=request)
        translated.__cause__ = error
        return translated


def _stream_class(client: Any) -> Any:
    """The stream class that was passed to the running ``request``; None if it is the SDK's.

    No hook is passed it before the request is sent, and a class with a generator of its own would yield the usage chunk
    that we ask for to its caller. So it is read from the SDK's frame, which is one of the next few above.
    """
    frame = sys._getframe(1)
    for _ in range(_MAX_FRAMES):
        if frame is None:
            return None
        variables = frame.f_locals
        if variables.get("self") is client and "stream_cls" in variables:
            return variables["stream_cls"]
        frame = frame.f_back
    return None


def begin_attempt(active: ActiveCall, client: Any, options: Any, kwargs: dict[str, Any]) -> Any:
    """Start an attempt of a bypassed call; returns the options to build its request from."""
    active.is_retrying = False
    active.error = None
    active.retries_left = options.get_max_retries(client.max_retries) - kwargs.get("retries_taken", 0)
    watch_attempt_options(active, options)
    call = active.call
    if call is None or call.hides_event is None or call.options is None:
        return options
    changed = options.model_copy() if hasattr(options, "model_copy") else options.copy()
    changed.json_data = call.options.json_data
    return changed


def _max_retries(original: Any) -> Any:
    """``get_max_retries``, which the SDK calls before the first attempt on the options that ``request`` keeps."""

    @functools.wraps(original)
    def get_max_retries(options: Any, *args: Any, **kwargs: Any) -> Any:
        active = current_active_call()
        if active is not None and active.is_bypassed and not active.watches_options and active.owns(options):
            guarded("bypassed.start", watch_request_options, active, options)
        return original(options, *args, **kwargs)

    return get_max_retries


def _retry(original: Any) -> Any:
    @functools.wraps(original)
    def retry(client: Any, *args: Any, **kwargs: Any) -> Any:
        active = active_call_of(client)
        if active is None or not active.is_bypassed:
            return original(client, *args, **kwargs)
        guarded("bypassed.retrying", watch_retry_options, active, kwargs.get("options") or args[0])
        try:
            return original(client, *args, **kwargs)
        except BaseException as error:
            guarded("bypassed.retry", end_bypassed_by_error, active, error)
            raise

    return retry


def _retry_async(original: Any) -> Any:
    @functools.wraps(original)
    async def retry(client: Any, *args: Any, **kwargs: Any) -> Any:
        active = active_call_of(client)
        if active is None or not active.is_bypassed:
            return await original(client, *args, **kwargs)
        guarded("bypassed.retrying", watch_retry_options, active, kwargs.get("options") or args[0])
        try:
            return await original(client, *args, **kwargs)
        except BaseException as error:
            guarded("bypassed.retry", end_bypassed_by_error, active, error)
            raise

    return retry
