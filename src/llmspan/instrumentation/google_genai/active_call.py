"""The call whose request the SDK is working on in this task or thread, as the hooks below ``request`` find it.

Contexts are copied and may live long (a pooled connection keeps one), so the variable refers to an object that is
emptied when the request is over.
"""

from __future__ import annotations

from contextlib import suppress
from contextvars import ContextVar, Token
from typing import Final

from ..call import Call


class ActiveCall:
    """A call while its request is sent."""

    __slots__ = ("call",)

    def __init__(self, call: Call) -> None:
        #: None once the response is there
        self.call: Call | None = call


_current: Final[ContextVar[ActiveCall | None]] = ContextVar("llmspan_google_genai_call", default=None)
Activation = tuple[ActiveCall, Token[ActiveCall | None]]


def activate(call: Call) -> Activation:
    """Let the hooks below find ``call``."""
    active = ActiveCall(call)
    return active, _current.set(active)


def deactivate(activation: Activation) -> None:
    """Undo :func:`activate`, in the same frame."""
    active, token = activation
    active.call = None
    with suppress(ValueError):  # the coroutine runs in another context now, where the variable is not ours
        _current.reset(token)


def active_call() -> Call | None:
    """The call whose request runs in this task or thread."""
    active = _current.get()
    return None if active is None else active.call
