"""The table: what the server does, what the caller does, and what must have been recorded then."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Literal

from httpx2 import ConnectError, ReadTimeout, RemoteProtocolError

from streams import Api

from . import callers
from .servers import (
    Answer,
    error_event,
    http_error,
    no_terminal_event,
    raises_after,
    raises_at_once,
    rate_limited,
    waits,
    whole,
)
from .stage import Colour, Stage

Keeps = Literal["all", "words", "error", "nothing"]


@dataclass(frozen=True)
class Outcome:
    """One way for a call to end.

    ``keeps`` is what the record has of the response: ``all`` of it, the ``words`` up to the first output, the
    provider's ``error`` body, or ``nothing``. ``error`` is ``error.type``, or ``raised`` for the class of the
    exception that the caller got, or ``provider`` for what the provider's event says.
    """

    name: str
    server: Answer
    sync: Callable[[Stage], None] | None
    asynchronous: Callable[[Stage], Coroutine[Any, Any, None]] | None
    status: str
    keeps: Keeps
    error: str | None = None
    attempts: int = 1
    #: whether the caller leaves after the last event: he has all of it, but does not ask whether there is more
    leaves_last: bool = False

    def drive(self, colour: Colour) -> Any:
        """What the caller does; None if there is no such thing in that colour (only asyncio has tasks)."""
        return self.sync if colour == "sync" else self.asynchronous


def read(name: str, server: Answer, status: str, keeps: Keeps, error: str | None = None, attempts: int = 1) -> Outcome:
    """The caller reads on until the server has done its worst."""
    return Outcome(name, server, callers.reads, callers.reads_async, status, keeps, error, attempts)


def left(name: str, sync: Any, asynchronous: Any, keeps: Keeps = "words") -> Outcome:
    """The caller leaves before the end."""
    return Outcome(name, whole, sync, asynchronous, "closed_early", keeps)


def left_last(name: str, sync: Any, asynchronous: Any) -> Outcome:
    """The caller leaves right after the terminal event, as many do who wait for it."""
    return Outcome(f"{name} after the last event", whole, sync, asynchronous, "ok", "all", leaves_last=True)


def cancelled(name: str, server: Answer, keeps: Keeps) -> Outcome:
    """The caller's task is cancelled while it waits for the server."""
    return Outcome(name, server, None, callers.cancelled_while_waiting, "cancelled", keeps, "raised")


def mine() -> BaseException:
    return callers.MineError("mine")


OUTCOMES: tuple[Outcome, ...] = (
    read("finished", whole, "ok", "all"),
    *(
        read(f"HTTP {code}", http_error(code), "error", "error", "some_error")
        for code in (400, 401, 404, 429, 500, 529)
    ),
    read("HTTP 429 twice, then an answer", rate_limited(2), "ok", "all", attempts=3),
    read("HTTP 429 on all attempts", rate_limited(9), "error", "error", "some_error", attempts=3),
    read("connection refused", raises_at_once(ConnectError, "refused"), "error", "nothing", "raised"),
    read("timeout before the headers", raises_at_once(ReadTimeout, "slow"), "error", "nothing", "raised"),
    read("timeout before the first event", raises_after(0, ReadTimeout), "error", "nothing", "raised"),
    read("timeout between events", raises_after(None, ReadTimeout), "error", "words", "raised"),
    read("error event", error_event, "error", "words", "provider"),
    read("connection lost", raises_after(None, RemoteProtocolError), "error", "words", "raised"),
    read("no terminal event", no_terminal_event, "incomplete", "words"),
    left("break", callers.breaks, callers.breaks_async),
    left("close", callers.closes, callers.closes_async),
    left("with block left", callers.leaves_with, callers.leaves_with_async),
    left("dropped unread", callers.drops, callers.drops_async, "nothing"),
    left("exception in the loop", callers.raises(mine), callers.raises_async(mine)),
    left("KeyboardInterrupt in the loop", callers.raises(KeyboardInterrupt), callers.raises_async(KeyboardInterrupt)),
    read("KeyboardInterrupt while waiting", raises_after(None, KeyboardInterrupt), "cancelled", "words", "raised"),
    cancelled("task cancelled before the headers", waits(before_headers=True), "nothing"),
    cancelled("task cancelled between events", waits(before_headers=False), "words"),
    left("task cancelled while holding an event", None, callers.cancelled_while_holding_an_event),
    Outcome("handed to another thread or task", whole, callers.hands_over, callers.hands_over_async, "ok", "all"),
    left("client of a web response went away", callers.client_goes_away, callers.client_goes_away_async),
    left_last("break", callers.breaks, callers.breaks_async),
    left_last("close", callers.closes, callers.closes_async),
    left_last("with block left", callers.leaves_with, callers.leaves_with_async),
    left_last("exception in the loop", callers.raises(mine), callers.raises_async(mine)),
    left_last("task cancelled while holding an event", None, callers.cancelled_while_holding_an_event),
    left_last("client of a web response went away", callers.client_goes_away, callers.client_goes_away_async),
)  # fmt: skip


def cells(apis: list[Api]) -> list[tuple[Outcome, Api, Colour]]:
    """All cells of the matrix that exist."""
    colours: tuple[Colour, Colour] = ("sync", "async")
    return [
        (outcome, api, colour)
        for outcome in OUTCOMES
        for api in apis
        for colour in colours
        if outcome.drive(colour) is not None
    ]
