"""The attempts of a call: what is kept of a response or an exception, and which of them ends the call.

A call whose ``request`` passes our wrapper is ended by that wrapper alone. A bypassed call (see ``bypass.py``) has no
such frame: it is ended by the events after which the SDK's ``request`` has returned or raised.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

from ..._guard import guarded
from ..call import Call, ErrorInfo
from ..tee import attach_tee
from .active_call import ActiveCall, deactivate_bypassed


def collect_response(call: Call, kwargs: Mapping[str, Any]) -> None:
    """Keep the facts of a response, and collect its bytes when they are read."""
    response = kwargs["response"]
    call.on_response(response)
    if kwargs.get("stream") or not response.is_closed:
        attach_tee(call, response)


def end_by_error(call: Call, error: BaseException) -> None:
    """End a call by the exception that its caller gets."""
    call.options = None
    response = getattr(error, "response", None)
    if response is not None and getattr(response, "is_closed", False):
        guarded("request.raised", call.on_response, response)
    call.observer.on_error(call, error)


def on_attempt_response(active: ActiveCall, response: Any) -> None:
    """The HTTP client has got a response to an attempt."""
    call = active.call
    if call is None or not response.is_success:
        return
    if response.is_closed:
        call.on_response(response)
    elif active.is_bypassed:
        collect_response(call, {"response": response})
        active.has_open_response = True


def on_attempt_error(active: ActiveCall, error: BaseException) -> None:
    """The HTTP client has raised: the SDK makes another attempt, or raises its own exception from this one."""
    if not active.is_bypassed:
        return
    if isinstance(error, Exception):
        error = active.translate_error(active, error)
        if active.retries_left > 0:
            # the facts only: the traceback would keep the options alive whose end ends the call
            active.error = ErrorInfo.of(error)
            return
    end_bypassed_by_error(active, error)


def end_bypassed_by_error(active: ActiveCall, error: BaseException) -> None:
    """End a bypassed call by the exception that leaves the SDK's ``request``."""
    call = active.end_request()
    if call is None:
        return
    if isinstance(error, GeneratorExit):  # a coroutine was dropped, perhaps by a finaliser in another context
        call.observer.on_abandon(call)
        return
    deactivate_bypassed(active)
    end_by_error(call, error)


def watch_request_options(active: ActiveCall, options: Any) -> None:
    """End the call when ``options`` are freed before its first attempt: a login, for example, has raised."""
    active.watches_options = True
    weakref.finalize(options, _on_request_options_freed, active).atexit = False


def watch_attempt_options(active: ActiveCall, options: Any) -> None:
    """End the call when the ``options`` of an attempt are freed, which only the frame of ``request`` refers to.

    Other exceptions in there (of a login, a signature, a hook of the program) pass none of our hooks.
    """
    active.attempt += 1
    weakref.finalize(options, _on_attempt_options_freed, active, active.attempt).atexit = False


def watch_retry_options(active: ActiveCall, options: Any) -> None:
    """The same by the options that all attempts are made from, which the function that waits for a retry is passed."""
    active.is_retrying = True
    weakref.finalize(options, _on_request_over, active).atexit = False


def _on_request_options_freed(active: ActiveCall) -> None:
    if active.attempt == 0:
        _on_request_over(active)


def _on_attempt_options_freed(active: ActiveCall, attempt: int) -> None:
    if attempt == active.attempt and not active.is_retrying:
        _on_request_over(active)


def _on_request_over(active: ActiveCall) -> None:
    error, has_open_response = active.error, active.has_open_response
    call = active.end_request()
    if call is None:
        return
    call.options = None
    if error is not None or not has_open_response:  # else the end of the response is that of the call
        call.observer.sink.defer(lambda: guarded("bypassed.lost", _end_by_last_attempt, call, error))


def _end_by_last_attempt(call: Call, error: ErrorInfo | None) -> None:
    observer = call.observer
    if error is not None:
        observer.on_error(call, error)
    elif call.body is not None:
        observer.on_return(call)
    else:
        observer.on_abandon(call)
