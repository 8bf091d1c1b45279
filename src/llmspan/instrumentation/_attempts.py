"""What the hooks report of a call's attempts: a response, an exception, and which of them ends the call.

A call whose ``request`` we are in is ended by that frame alone. A bypassed call (see ``_bypassed.py``) has no such
frame: it is ended by the events after which the SDK has returned or raised.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

from .._guard import guarded
from ._call import Call, Raised
from ._running import Running, leave_bypassed
from ._tee import hang


def received(call: Call, kwargs: Mapping[str, Any]) -> None:
    """Keep what is known of a response, and collect its bytes while they are read."""
    response = kwargs["response"]
    call.noted(response)
    if kwargs.get("stream") or not response.is_closed:
        hang(call, response)


def raised(call: Call, error: BaseException) -> None:
    """End a call by what its caller gets."""
    call.options = None
    response = getattr(error, "response", None)
    if response is not None and getattr(response, "is_closed", False):
        guarded("request.raised", call.noted, response)
    call.failed(error)


def on_response(running: Running, response: Any) -> None:
    """The HTTP client has got a response to an attempt."""
    call = running.call
    if call is None or not response.is_success:
        return
    if response.is_closed:
        call.noted(response)
    elif running.is_bypassed:
        received(call, {"response": response})
        running.has_open_response = True


def on_send_error(running: Running, error: BaseException) -> None:
    """The HTTP client has raised; the SDK retries, or raises its own exception from that."""
    if not running.is_bypassed:
        return
    if isinstance(error, Exception):
        error = running.translate(running, error)
        if running.retries_left > 0:
            running.error = Raised.of(error)  # its traceback would keep the options alive that tell of the end
            return
    fail(running, error)


def fail(running: Running, error: BaseException) -> None:
    """End a bypassed call by the exception that leaves the SDK's ``request``."""
    call = running.end()
    if call is None:
        return
    if isinstance(error, GeneratorExit):  # a coroutine was dropped, maybe by a finaliser in another context
        call.abandoned()
        return
    leave_bypassed(running)
    raised(call, error)


def watch_start(running: Running, options: Any) -> None:
    """Notice that the SDK's ``request`` is over before its first attempt: what logs in, for one, may raise there."""
    running.is_watched = True
    weakref.finalize(options, _on_start_gone, running).atexit = False


def watch_attempt(running: Running, options: Any) -> None:
    """Notice that the SDK's ``request`` is over by the end of an attempt's ``options``, which live in its frame only.

    Whatever else raises in there (a login, a signature, a hook of the program's) passes none of our hooks.
    """
    running.attempt += 1
    weakref.finalize(options, _on_attempt_gone, running, running.attempt).atexit = False


def watch_retries(running: Running, options: Any) -> None:
    """The same by the options that all attempts are made from, which the wait for a retry is given."""
    running.is_retrying = True
    weakref.finalize(options, _on_request_gone, running).atexit = False


def _on_start_gone(running: Running) -> None:
    if running.attempt == 0:
        _on_request_gone(running)


def _on_attempt_gone(running: Running, attempt: int) -> None:
    if attempt == running.attempt and not running.is_retrying:
        _on_request_gone(running)


def _on_request_gone(running: Running) -> None:
    error, has_open_response = running.error, running.has_open_response
    call = running.end()
    if call is None:
        return
    call.options = None
    if error is not None or not has_open_response:  # an open response ends the call itself
        call.judge.sink.defer(lambda: guarded("bypassed.lost", _conclude, call, error))


def _conclude(call: Call, error: Raised | None) -> None:
    if error is not None:
        call.failed(error)
    elif call.body is not None:
        call.returned()
    else:
        call.abandoned()
