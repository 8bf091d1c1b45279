"""Calls that reach the SDK's ``request`` without passing ours.

A wrapper that somebody put on a subclass, or on a client, before us holds the SDK's function as it was then, and calls
it whatever we put into the class. OpenInference does so. What that function calls on ``self`` is ours again:
``_maybe_override_cast_to`` is where such a call begins, inside of whatever the wrappers have opened. An SDK that makes
spans of its own (anthropic >= 1.14) has opened one by then; there it is ``_copy_and_prepare``, which comes before. The
call ends with ``_process_response``, with the making of a status error, with what the HTTP client or the wait for a
retry raises, or when the options of its attempt are gone.
"""

from __future__ import annotations

import functools
import sys
import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from .._guard import guarded
from ._attempts import fail, watch_attempt, watch_retries, watch_start
from ._hooks import Patch
from ._running import Running, current, enter_bypassed, is_left_out, running_of

if TYPE_CHECKING:
    from ._stainless import Stainless

#: what waits for the next attempt; in older SDKs, it also makes it
_RETRIES: Final = ("_sleep_for_retry", "_retry_request")
#: so many frames above ours the SDK's own is looked for; wrappers of somebody's may be between
_FRAMES: Final = 16
#: stands for options that are not held
_SOME: Final = object()
#: options that ``_copy_and_prepare`` has made, by their ids: whether they are of a call to record is decided
_decided: Final[dict[int, weakref.ref[Any]]] = {}


class Bypass:
    """The further hooks that one import of an SDK needs for such calls."""

    def __init__(self, hooks: Stainless, base_client: Any) -> None:
        self._hooks = hooks
        self._base_client = base_client

    def patches(self) -> Iterable[Patch]:
        """The table of them."""
        base_client = self._base_client
        yield Patch(base_client.BaseClient, "_maybe_override_cast_to", self._override_cast_to)
        yield Patch(base_client.BaseClient, "_make_status_error_from_response", self._make_status_error)
        yield Patch(base_client.SyncAPIClient, "_copy_and_prepare", self._copy)
        yield Patch(base_client.AsyncAPIClient, "_copy_and_prepare", self._copy_async)
        yield Patch(base_client.FinalRequestOptions, "get_max_retries", _max_retries)
        for name in _RETRIES:
            yield Patch(base_client.SyncAPIClient, name, _retry)
            yield Patch(base_client.AsyncAPIClient, name, _retry_async)

    def _copy(self, original: Any) -> Any:
        @functools.wraps(original)
        def _copy_and_prepare(client: Any, options: Any) -> Any:
            prepared = original(client, options)
            if self._hooks.active:
                guarded("bypassed.begin", self._begin_early, client, prepared)
            return prepared

        return _copy_and_prepare

    def _copy_async(self, original: Any) -> Any:
        @functools.wraps(original)
        async def _copy_and_prepare(client: Any, options: Any) -> Any:
            prepared = await original(client, options)
            if self._hooks.active:
                guarded("bypassed.begin", self._begin_early, client, prepared)
            return prepared

        return _copy_and_prepare

    def _override_cast_to(self, original: Any) -> Any:
        @functools.wraps(original)
        def _maybe_override_cast_to(client: Any, cast_to: Any, options: Any) -> Any:
            if self._hooks.active:
                guarded("bypassed.begin", self._begin_late, client, cast_to, options)
            return original(client, cast_to, options)

        return _maybe_override_cast_to

    def _make_status_error(self, original: Any) -> Any:
        @functools.wraps(original)
        def _make_status_error_from_response(client: Any, *args: Any, **kwargs: Any) -> Any:
            error = original(client, *args, **kwargs)
            running = running_of(client)
            if running is not None and running.is_bypassed:
                guarded("bypassed.status_error", fail, running, error)
            return error

        return _make_status_error_from_response

    def _begin_early(self, client: Any, options: Any) -> None:
        """Begin before the SDK opens its own span, which would stand in front of a wrapper's, or be a second one."""
        self._begin(client, None, options)
        key = id(options)
        _decided[key] = weakref.ref(options, lambda _: _decided.pop(key, None))

    def _begin_late(self, client: Any, cast_to: Any, options: Any) -> None:
        decided = _decided.get(id(options))
        if decided is None or decided() is not options:
            self._begin(client, cast_to, options)

    def _begin(self, client: Any, cast_to: Any, options: Any) -> None:
        around = running_of(client)
        if is_left_out(client) or (around is not None and around.is_for(options)):
            return
        body = options.json_data
        is_stream = isinstance(body, dict) and body.get("stream") is True
        is_sdk_type = str(getattr(cast_to, "__module__", "")).startswith(f"{self._hooks.provider.name}.")
        stream_class = _stream_class(client) if is_stream else None
        asked = {"stream": is_stream and is_sdk_type, "stream_cls": stream_class}
        call = self._hooks.begin(client, cast_to, options, asked)
        if call is not None:
            if call.hides is None:
                call.options = _SOME  # their end tells of the request's
            running = Running(call, client, is_bypassed=True, translate=self._to_sdk_error)
            running.is_for(options)
            enter_bypassed(running)

    def _to_sdk_error(self, running: Running, error: Exception) -> BaseException:
        """The exception that the SDK raises from one of the HTTP client's."""
        sdk = self._base_client
        names = {kind.__name__ for kind in type(error).__mro__}
        if names & {"OpenAIError", "AnthropicError"}:
            return error
        kind = sdk.APITimeoutError if "TimeoutException" in names else sdk.APIConnectionError
        request = running.call.request if running.call is not None else None
        translated: BaseException = kind(request=request)
        translated.__cause__ = error
        return translated


def _stream_class(client: Any) -> Any:
    """The class of the stream that the running ``request`` is to return; None if that is the SDK's.

    No hook is given it before the request is sent, and a class with a generator of its own would show its caller the
    usage chunk that we ask for. So it is read from the SDK's frame, which is one of the next few above.
    """
    frame = sys._getframe(1)
    for _ in range(_FRAMES):
        if frame is None:
            return None
        names = frame.f_locals
        if names.get("self") is client and "stream_cls" in names:
            return names["stream_cls"]
        frame = frame.f_back
    return None


def begin_attempt(running: Running, client: Any, options: Any, kwargs: dict[str, Any]) -> Any:
    """Take note of an attempt of a bypassed call; the options to build its request from."""
    running.is_retrying = False
    running.error = None
    running.retries_left = options.get_max_retries(client.max_retries) - kwargs.get("retries_taken", 0)
    watch_attempt(running, options)
    call = running.call
    if call is None or call.hides is None or call.options is None:
        return options
    changed = options.model_copy() if hasattr(options, "model_copy") else options.copy()
    changed.json_data = call.options.json_data
    return changed


def _max_retries(original: Any) -> Any:
    """What the SDK asks the options that it keeps until its ``request`` is over, before it prepares an attempt."""

    @functools.wraps(original)
    def get_max_retries(options: Any, *args: Any, **kwargs: Any) -> Any:
        running = current()
        if running is not None and running.is_bypassed and not running.is_watched and running.is_for(options):
            guarded("bypassed.start", watch_start, running, options)
        return original(options, *args, **kwargs)

    return get_max_retries


def _retry(original: Any) -> Any:
    @functools.wraps(original)
    def retry(client: Any, *args: Any, **kwargs: Any) -> Any:
        running = running_of(client)
        if running is None or not running.is_bypassed:
            return original(client, *args, **kwargs)
        guarded("bypassed.retrying", watch_retries, running, kwargs.get("options") or args[0])
        try:
            return original(client, *args, **kwargs)
        except BaseException as error:
            guarded("bypassed.retry", fail, running, error)
            raise

    return retry


def _retry_async(original: Any) -> Any:
    @functools.wraps(original)
    async def retry(client: Any, *args: Any, **kwargs: Any) -> Any:
        running = running_of(client)
        if running is None or not running.is_bypassed:
            return await original(client, *args, **kwargs)
        guarded("bypassed.retrying", watch_retries, running, kwargs.get("options") or args[0])
        try:
            return await original(client, *args, **kwargs)
        except BaseException as error:
            guarded("bypassed.retry", fail, running, error)
            raise

    return retry
