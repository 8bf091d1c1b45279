"""Living through a cell of the matrix: the same cell bare and observed must look the same from where the caller is."""

from __future__ import annotations

import asyncio
import gc
import traceback
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import openai
from opentelemetry.trace import TracerProvider

import llmspan
from streams import Api

from .stage import Colour, Stage, unchanged
from .table import Outcome

_OURS = str(Path(llmspan.__file__).parent)
_HERE = str(Path(__file__).parents[1])


@dataclass(frozen=True)
class Seen:
    """What the caller saw of a cell; equal bare and observed."""

    events: list[Any]
    error: tuple[Any, ...] | None
    closed: list[int]
    requests: list[Any]
    is_collectable: bool


def perform(outcome: Outcome, api: Api, colour: Colour, provider: TracerProvider) -> tuple[Seen, Stage]:
    """Let a caller live through a cell; what he saw, and the stage with what was wrong around him."""
    stage = Stage(api, colour, provider.get_tracer("app"), leaves_last=outcome.leaves_last)
    stage.transport = outcome.server(api, stage)
    sdk = openai if api.provider == "openai" else anthropic
    gc.collect()
    gc.freeze()  # a collection has to look at this cell's objects only
    with _noting(sdk.APIError, stage), stage.tracer.start_as_current_span("caller"), unchanged(stage, "the caller"):
        error = (_run if colour == "sync" else _run_async)(outcome.drive(colour), stage)
        stage.look("at the end")
    is_collectable = all(stream() is None for stream in stage.streams)
    closed = [body.closed for body in stage.bodies]
    requests = [(request.method, str(request.url), request.content, _steady(request)) for request in stage.requests]
    return Seen(stage.events, error, closed, requests, is_collectable), stage


def _run(drive: Callable[[Stage], None], stage: Stage) -> tuple[Any, ...] | None:
    error = None
    try:
        drive(stage)
    except BaseException as caught:
        error = _told(caught, stage)
    gc.collect()
    return error


def _run_async(drive: Callable[[Stage], Coroutine[Any, Any, None]], stage: Stage) -> tuple[Any, ...] | None:
    async def live() -> tuple[Any, ...] | None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: stage.wrong.append(f"asyncio: {context}"))
        error = None
        with unchanged(stage, "the caller's task"):
            try:
                await drive(stage)
            except BaseException as caught:
                error = _told(caught, stage)
        for _ in range(20):  # generators that were dropped are closed by the loop, one level a turn
            gc.collect()
            await asyncio.sleep(0)
        return error

    with asyncio.Runner() as runner:
        return runner.run(live())


def _told(error: BaseException, stage: Stage) -> tuple[Any, ...]:
    """What can be told of an exception: its class, words, causes, and its way through everything but us."""
    frames = way_of(error)
    is_thrown = [id(error) == id(one) or id(error.__cause__) == id(one) for one in stage.thrown]
    chain = [type(one) for one in (error.__cause__, error.__context__)]
    told = (type(error), str(error), chain, error.__suppress_context__, any(is_thrown), frames)
    _let_go(error)
    stage.thrown.clear()
    return told


def way_of(error: BaseException) -> list[tuple[str, str]]:
    """The frames that an exception has come through, less ours and the tests'."""
    return [(frame.filename, frame.name) for frame in traceback.extract_tb(error.__traceback__) if not _is_ours(frame)]


def _is_ours(frame: traceback.FrameSummary) -> bool:
    return frame.filename.startswith((_OURS, _HERE))


def _let_go(error: BaseException | None) -> None:
    """Tracebacks hold on to the caller's frames, and those to his stream."""
    while error is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


def _steady(request: httpx2.Request) -> list[tuple[bytes, bytes]]:
    """The headers, but for keys that are new each time and the trace that anthropic's own tracing sends along."""
    volatile = (b"idempotency-key", b"traceparent")
    return [(name, value) for name, value in request.headers.raw if not name.lower().endswith(volatile)]


class _noting:  # noqa: N801
    """Notes the exceptions that an SDK makes, to be able to say whether the caller got the very same object."""

    def __init__(self, kind: type[BaseException], stage: Stage) -> None:
        self.kind = kind
        self.stage = stage

    def __enter__(self) -> None:
        self.original = original = self.kind.__init__
        stage = self.stage

        def __init__(error: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
            original(error, *args, **kwargs)
            stage.throw(error)

        self.kind.__init__ = __init__  # type: ignore[method-assign]

    def __exit__(self, *_: object) -> None:
        self.kind.__init__ = self.original  # type: ignore[method-assign]
