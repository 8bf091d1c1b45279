"""A tool runner's loop: one parent span over the calls of its turns, where the SDK does not make one itself.

The parent is an ``invoke_agent`` span without usage and without a record: its children, the calls, have both. It is
current while the runner's own code runs, and not between two turns, when the application's code runs.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any

from opentelemetry import context
from opentelemetry.instrumentation.utils import is_instrumentation_enabled
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context

from ... import semconv
from ..._guard import guarded
from ...wire import error_type, read_error
from ..call import ErrorInfo
from ..patching import Patch

if TYPE_CHECKING:
    from .hooks import StainlessHooks

_EXHAUSTED = object()


def runner_patches(hooks: StainlessHooks, module: Any) -> Iterable[Patch]:
    """Patches of ``__run__``, the generator that a tool runner iterates over."""
    for owner in vars(module).values():
        if isinstance(owner, type) and owner.__module__ == module.__name__ and "__run__" in vars(owner):
            run = _run_async if hasattr(owner, "__anext__") else _run
            yield Patch(owner, "__run__", functools.partial(_wrap, hooks, run))


def _wrap(hooks: StainlessHooks, run: Callable[[Any, Any, StainlessHooks], Any], original: Any) -> Any:
    @functools.wraps(original)
    def __run__(runner: Any) -> Any:  # noqa: N807 - the SDK's name
        turns = original(runner)
        client = guarded("tool_runner.client", _client_without_tracing, hooks, runner)
        return turns if client is None else run(turns, functools.partial(_start, hooks, client, runner), hooks)

    return __run__


def _client_without_tracing(hooks: StainlessHooks, runner: Any) -> Any:
    """The runner's client; None if the SDK opens a span itself, or nothing is recorded."""
    client = runner._client
    return client if hooks.is_active and getattr(client, "_tracer", None) is None else None


def _start(hooks: StainlessHooks, client: Any, runner: Any) -> Span | None:
    """Start the parent span; called when the loop starts to run."""
    if not is_instrumentation_enabled():
        return None
    endpoint = hooks.provider.endpoint(client)
    model = runner._params.get("model")
    attributes = semconv.start_attributes(
        operation="invoke_agent",
        provider=endpoint.provider,
        model=model if isinstance(model, str) else None,
        address=endpoint.address,
        port=endpoint.port,
    )
    return hooks.observer.tracer.start_span("invoke_agent", kind=SpanKind.INTERNAL, attributes=attributes)


def _run(
    turns: Generator[Any, None, None], start: Callable[[], Span | None], hooks: StainlessHooks
) -> Generator[Any, None, None]:
    span = guarded("tool_runner.start", start)
    if span is None:
        yield from turns
        return
    span_context = set_span_in_context(span)
    try:
        while True:
            token = context.attach(span_context)
            try:
                item = next(turns, _EXHAUSTED)
            finally:
                context.detach(token)
            if item is _EXHAUSTED:
                break
            yield item
    except GeneratorExit:
        turns.close()
        hooks.observer.sink.defer(span.end)
        raise
    except BaseException as error:
        guarded("tool_runner.fail", _end_with_error, span, error)
        raise
    guarded("tool_runner.end", span.end)


async def _run_async(
    turns: AsyncGenerator[Any, None], start: Callable[[], Span | None], hooks: StainlessHooks
) -> AsyncGenerator[Any, None]:
    span = guarded("tool_runner.start", start)
    if span is None:
        async for item in turns:
            yield item
        return
    span_context = set_span_in_context(span)
    try:
        while True:
            token = context.attach(span_context)
            try:
                item = await anext(turns, _EXHAUSTED)
            except GeneratorExit:  # dropped while it waited, perhaps by a finaliser in another context
                raise
            except BaseException:
                context.detach(token)
                raise
            context.detach(token)
            if item is _EXHAUSTED:
                break
            yield item
    except GeneratorExit:
        try:
            await turns.aclose()
        finally:
            hooks.observer.sink.defer(span.end)
        raise
    except BaseException as error:
        guarded("tool_runner.fail", _end_with_error, span, error)
        raise
    guarded("tool_runner.end", span.end)


def _end_with_error(span: Span, error: BaseException) -> None:
    if isinstance(error, Exception):
        info = ErrorInfo.of(error)
        kind = error_type(read_error(info.body), http_status=info.status, exception=info.kind)
        span.set_attribute("error.type", kind)
        span.set_status(Status(StatusCode.ERROR, str(error)[:1000]))
    span.end()
