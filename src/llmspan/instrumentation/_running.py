"""Which call the SDK is working on in this task or thread, as the hooks below ``request`` find it.

A context variable refers to it while ``request`` runs. Contexts are copied and may be kept for long, so what the
variable refers to is emptied when the request is over.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar, Token
from typing import Any, Final

from ._call import Call, Raised

_UNSEEN: Final = object()


#: makes the SDK's exception of one of the HTTP client's
Translate = Callable[["Running", Exception], BaseException]


class Running:
    """A call while its ``request`` runs."""

    __slots__ = (
        "_body", "_url", "attempt", "call", "client", "error", "has_open_response", "is_bypassed", "is_retrying",
        "is_watched", "outer", "retries_left", "translate",
    )  # fmt: skip

    def __init__(
        self, call: Call | None, client: Any, *, is_bypassed: bool = False, translate: Translate | None = None
    ) -> None:
        #: None once the request is over, and in one that is not recorded
        self.call = call
        self.client = client
        #: whether ``request`` was not reached, so that nothing but the hooks below it can tell how the call ends
        self.is_bypassed = is_bypassed
        self.outer: Running | None = None
        self._body: Any = _UNSEEN
        self._url: Any = None
        if is_bypassed:
            self.attempt = 0
            #: whether the end of its options tells that it is over before the first attempt
            self.is_watched = False
            self.translate = translate or _as_it_is
            #: what the latest attempt raised, how many more there may be, and whether one is being waited for
            self.error: Raised | None = None
            self.retries_left = 0
            self.is_retrying = False
            #: whether an attempt has got a response that is still to be read
            self.has_open_response = False

    def is_for(self, options: Any) -> bool:
        """Whether ``options`` belong to this request, and not to another one of the same client made meanwhile.

        The SDK copies options for each attempt, but not the body that they refer to.
        """
        if self._body is _UNSEEN:
            self._body, self._url = options.json_data, options.url
            return True
        return options.json_data is self._body and (self._body is not None or options.url == self._url)

    def end(self) -> Call | None:
        """The call, if its request was not over yet; from now on it is."""
        call, self.call = self.call, None
        self.client = self._body = None
        if self.is_bypassed:
            self.error = None
        return call


_running: Final[ContextVar[Running | None]] = ContextVar("llmspan_call", default=None)


def enter(running: Running | None) -> Token[Running | None]:
    """Let the hooks below find ``running``; None for a request that is not recorded."""
    return _running.set(running)


def leave(token: Token[Running | None]) -> None:
    """Undo :func:`enter`, in the same frame."""
    with suppress(ValueError):  # the coroutine is being driven in another context now; ours is gone anyway
        _running.reset(token)


def enter_bypassed(running: Running) -> None:
    """Let the hooks find a call whose ``request`` has no frame of ours that could reset the variable."""
    running.outer = current()
    _running.set(running)


def leave_bypassed(running: Running) -> None:
    """Undo :func:`enter_bypassed`, if the variable still has that value here."""
    if _running.get() is running:
        _running.set(running.outer)
    running.outer = None


def current() -> Running | None:
    """What is running in this task or thread."""
    running = _running.get()
    return running if running is not None and running.call is not None else None


def running_of(client: Any) -> Running | None:
    """What is running, if it is a request of ``client``."""
    running = _running.get()
    return running if running is not None and running.call is not None and running.client is client else None


def is_left_out(client: Any) -> bool:
    """Whether ``request`` of ``client`` is running and has found that it is not to be recorded."""
    running = _running.get()
    return running is not None and running.call is None and running.client is client


def current_call() -> Call | None:
    """The call whose request is running in this task or thread."""
    running = _running.get()
    return None if running is None else running.call


def _as_it_is(_: Running, error: Exception) -> BaseException:
    return error
