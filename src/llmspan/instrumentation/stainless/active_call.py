"""The call whose request the SDK is working on in this task or thread, as the hooks below ``request`` find it.

A context variable refers to it while ``request`` runs. Contexts are copied and may live long, so the object that the
variable refers to is emptied when the request is over.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar, Token
from typing import Any, Final

from ..call import Call, ErrorInfo

_UNSET: Final = object()

#: makes the SDK's exception of one that the HTTP client has raised
TranslateError = Callable[["ActiveCall", Exception], BaseException]


class ActiveCall:
    """A call while its ``request`` runs."""

    __slots__ = (
        "_body", "_url", "attempt", "call", "client", "error", "has_open_response", "is_bypassed", "is_retrying",
        "previous", "retries_left", "translate_error", "watches_options",
    )  # fmt: skip

    def __init__(
        self,
        call: Call | None,
        client: Any,
        *,
        is_bypassed: bool = False,
        translate_error: TranslateError | None = None,
    ) -> None:
        #: None once the request is over, and in one that is not recorded
        self.call = call
        self.client = client
        #: whether our ``request`` wrapper was not called, so that the hooks below have to find out how the call ends
        self.is_bypassed = is_bypassed
        self.previous: ActiveCall | None = None
        self._body: Any = _UNSET
        self._url: Any = None
        if is_bypassed:
            self.attempt = 0
            #: whether the request is over when its options are freed before the first attempt
            self.watches_options = False
            self.translate_error = translate_error or _unchanged
            #: the error of the latest attempt, the number of further ones, and whether the SDK waits for the next
            self.error: ErrorInfo | None = None
            self.retries_left = 0
            self.is_retrying = False
            #: whether an attempt has got a response that is not read yet
            self.has_open_response = False

    def owns(self, options: Any) -> bool:
        """Whether ``options`` belong to this request, not to another one that the same client makes meanwhile.

        The SDK copies options for each attempt, but not the body that they refer to.
        """
        body = getattr(options, "json_data", None)
        if self._body is _UNSET:
            self._body, self._url = body, getattr(options, "url", None)
            return True
        return body is self._body and (body is not None or getattr(options, "url", None) == self._url)

    def end_request(self) -> Call | None:
        """The call, if its request was not over yet; from now on it is."""
        call, self.call = self.call, None
        self.client = self._body = None
        if self.is_bypassed:
            self.error = None
        return call

    def leave(self, token: Token[ActiveCall | None]) -> None:
        """End the request and undo :func:`activate`, in the same frame."""
        self.call = self.client = self._body = None
        try:
            _current.reset(token)
        except ValueError:
            return  # the coroutine runs in another context now, where the variable is not ours


_current: Final[ContextVar[ActiveCall | None]] = ContextVar("llmspan_call", default=None)
#: makes an :class:`ActiveCall` what the hooks below find, and returns what :meth:`ActiveCall.leave` takes
activate: Final = _current.set


def activate_bypassed(active: ActiveCall) -> None:
    """Activate a call whose ``request`` has no frame of ours that could reset the variable."""
    active.previous = current_active_call()
    _current.set(active)


def deactivate_bypassed(active: ActiveCall) -> None:
    """Undo :func:`activate_bypassed`, if the variable still has that value here."""
    if _current.get() is active:
        _current.set(active.previous)
    active.previous = None


def current_active_call() -> ActiveCall | None:
    """The active call of this task or thread."""
    active = _current.get()
    return active if active is not None and active.call is not None else None


def active_call_of(client: Any) -> ActiveCall | None:
    """The active call of this task or thread, if it is a request of ``client``."""
    active = _current.get()
    return active if active is not None and active.call is not None and active.client is client else None


def is_nested(client: Any, options: Any) -> bool:
    """Whether another instrumentation's wrapper has led a call that has started to a second wrapper of ours."""
    active = _current.get()
    if active is None or active.client is not client:
        return False
    call = active.call
    return call is not None and call.options is options


def has_started(client: Any, options: Any) -> bool:
    """Whether a ``request`` of ``client`` runs that these ``options`` are of, or one that is not to be recorded."""
    active = _current.get()
    if active is None or active.client is not client:
        return False
    return active.call is None or active.owns(options)


def current_recorded_call() -> Call | None:
    """The call whose request runs in this task or thread."""
    active = _current.get()
    return None if active is None else active.call


def _unchanged(_: ActiveCall, error: Exception) -> BaseException:
    return error
