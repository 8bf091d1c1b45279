"""A tool runner's loop: one parent span over the calls of its turns, where the SDK does not make one itself.

The parent is an ``invoke_agent`` span without usage and without a record: the turns are the calls, and have both. It
is current only while the runner's own code runs, never between two turns, when the application's does.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any

from opentelemetry import context
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context

from .. import semconv
from .._guard import guarded
from ..wire import error_type, read_error
from ._call import Raised
from ._hooks import Patch

if TYPE_CHECKING:
    from ._stainless import Stainless

_OVER = object()


def runner_patches(hooks: Stainless, module: Any) -> Iterable[Patch]:
    """Patches of ``__run__``, the generator that a tool runner iterates over."""
    for owner in vars(module).values():
        if isinstance(owner, type) and owner.__module__ == module.__name__ and "__run__" in vars(owner):
            turns = _turns_async if hasattr(owner, "__anext__") else _turns
            yield Patch(owner, "__run__", functools.partial(_wrap, hooks, turns))


def _wrap(hooks: Stainless, turns: Callable[[Any, Any, Stainless], Any], original: Any) -> Any:
    @functools.wraps(original)
    def __run__(runner: Any) -> Any:  # noqa: N807 - the SDK's name
        steps = original(runner)
        client = guarded("tool_runner.client", _client_without_tracing, hooks, runner)
        return steps if client is None else turns(steps, functools.partial(_start, hooks, client, runner), hooks)

    return __run__


def _client_without_tracing(hooks: Stainless, runner: Any) -> Any:
    """The runner's client; None if the SDK is going to open a span itself, or nothing is to be recorded."""
    client = runner._client
    return client if hooks.active and getattr(client, "_tracer", None) is None else None


def _start(hooks: Stainless, client: Any, runner: Any) -> Span | None:
    """The parent span, once the loop begins to run."""
    if not is_instrumentation_enabled():
        return None
    target = hooks.provider.target(client)
    model = runner._params.get("model")
    attributes = semconv.start_attributes(
        operation="invoke_agent",
        provider=target.provider,
        model=model if isinstance(model, str) else None,
        address=target.address,
        port=target.port,
    )
    return hooks.observer.tracer.start_span("invoke_agent", kind=SpanKind.INTERNAL, attributes=attributes)


def _turns(
    steps: Generator[Any, None, None], start: Callable[[], Span | None], hooks: Stainless
) -> Generator[Any, None, None]:
    span = guarded("tool_runner.start", start)
    if span is None:
        yield from steps
        return
    inside = set_span_in_context(span)
    try:
        while True:
            token = context.attach(inside)
            try:
                item = next(steps, _OVER)
            finally:
                context.detach(token)
            if item is _OVER:
                break
            yield item
    except GeneratorExit:
        steps.close()
        hooks.observer.sink.defer(span.end)
        raise
    except BaseException as error:
        guarded("tool_runner.fail", _fail, span, error)
        raise
    guarded("tool_runner.end", span.end)


async def _turns_async(
    steps: AsyncGenerator[Any, None], start: Callable[[], Span | None], hooks: Stainless
) -> AsyncGenerator[Any, None]:
    span = guarded("tool_runner.start", start)
    if span is None:
        async for item in steps:
            yield item
        return
    inside = set_span_in_context(span)
    try:
        while True:
            token = context.attach(inside)
            try:
                item = await anext(steps, _OVER)
            except GeneratorExit:  # dropped while it waited, maybe by a finaliser in another context: touch nothing
                raise
            except BaseException:
                context.detach(token)
                raise
            context.detach(token)
            if item is _OVER:
                break
            yield item
    except GeneratorExit:
        try:
            await steps.aclose()
        finally:
            hooks.observer.sink.defer(span.end)
        raise
    except BaseException as error:
        guarded("tool_runner.fail", _fail, span, error)
        raise
    guarded("tool_runner.end", span.end)


def _fail(span: Span, error: BaseException) -> None:
    if isinstance(error, Exception):
        raised = Raised.of(error)
        told = read_error(raised.body)
        kind = error_type(told, http_status=raised.status, exception=raised.kind)
        span.set_attribute("error.type", kind)
        span.set_status(Status(StatusCode.ERROR, str(error)[:1000]))
    span.end()
