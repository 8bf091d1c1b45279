"""One call of a caller's, lived through and watched from outside: what he gets, and what changes around him."""

from __future__ import annotations

import asyncio
import contextvars
import weakref
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx2
from opentelemetry import trace

from replay import Pieces, client_for
from streams import Api

Colour = Literal["sync", "async"]


@dataclass
class Stage:
    """One cell being lived through: what the caller is given, and what he saw."""

    api: Api
    colour: Colour
    tracer: trace.Tracer
    retries: int = 0
    #: whether a caller who leaves has seen the last event, and not only the first one with output
    leaves_last: bool = False
    #: what the server raises, so that the caller can be asked whether it is what he got
    thrown: list[BaseException] = field(default_factory=list)
    events: list[Any] = field(default_factory=list)
    streams: list[weakref.ref[Any]] = field(default_factory=list)
    #: whatever was wrong with the surroundings of the caller, in words
    wrong: list[str] = field(default_factory=list)
    bodies: list[Pieces] = field(default_factory=list)
    answers: list[Any] = field(default_factory=list)
    requests: list[httpx2.Request] = field(default_factory=list)
    #: set when the server has nothing more to say and waits; for ever, unless the client goes
    waiting: asyncio.Event = field(default_factory=asyncio.Event)
    transport: httpx2.MockTransport | None = None

    @property
    def enough(self) -> int:
        """So many events are read by callers who leave: up to the first one with output, or all."""
        return self.api.events if self.leaves_last else self.api.first_output + 1

    def client(self) -> Any:
        assert self.transport is not None
        return client_for(
            self.api.provider,
            self.transport,
            is_async=self.colour == "async",
            max_retries=self.retries,
            base_url="http://local.test/v1",
        )

    def open(self) -> Any:
        """The stream of a sync call."""
        return self.opened(self.api.method(self.client())(**self.api.arguments, stream=True))

    async def open_async(self) -> Any:
        """The stream of an async call."""
        return self.opened(await self.api.method(self.client())(**self.api.arguments, stream=True))

    def opened(self, stream: Any) -> Any:
        self.streams.append(weakref.ref(stream))
        self.look("behind the call")
        return stream

    def saw(self, event: Any) -> bool:
        """The caller has got an event, and makes a span of his own about it. Whether he has had enough."""
        self.events.append(event.to_dict())
        self.look("in the loop")
        return len(self.events) >= self.enough

    def look(self, where: str) -> None:
        """A span that the caller makes is a child of his own current one."""
        mine = trace.get_current_span()
        if getattr(mine, "name", "caller") != "caller":
            self.wrong.append(f"{where}: the current span is {mine}")
        with self.tracer.start_as_current_span("caller") as inner:
            parent = getattr(inner, "parent", None)
            expected = mine.get_span_context()
            if (parent.span_id if parent else 0) != expected.span_id:
                self.wrong.append(f"{where}: a new span became a child of {parent}")

    def throw(self, error: BaseException) -> BaseException:
        self.thrown.append(error)
        return error


class unchanged:  # noqa: N801 - reads as a statement
    """Checks that all context variables are what they were, in the thread or task that runs it."""

    def __init__(self, stage: Stage, where: str) -> None:
        self.stage = stage
        self.where = where

    def __enter__(self) -> None:
        self.before = dict(contextvars.copy_context())

    def __exit__(self, *_: object) -> None:
        after = dict(contextvars.copy_context())
        if after != self.before:
            changed = {var.name for var in {*after, *self.before} if after.get(var) is not self.before.get(var)}
            self.stage.wrong.append(f"context variables of {self.where} have changed: {changed}")
