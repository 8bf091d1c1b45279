"""Records made by hand, for providers whose SDK is not observed: ``llmspan.record`` and, to wait for it, ``create``.

A record made here goes the way of all others: the content policy, the pipeline, every backend. ``llmspan.context`` and
the current span say who is calling. No span is made.
"""

from __future__ import annotations

import atexit
import functools
import json
from asyncio import sleep, to_thread
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import fields, replace
from datetime import datetime, timedelta
from time import time_ns
from typing import Any, Final, ParamSpec

from opentelemetry import trace as otel_trace

from . import _json, call_context, pipeline, wire
from ._clock import monotonic
from ._native import Lock
from .backends import load_backends
from .backends.base import Backend
from .content import ContentPolicy
from .errors import BackendError, RecordError
from .pipeline import Pipeline
from .pipeline.status_file import status_directory
from .settings import Settings
from .trace import ProviderTrace, RecordStatus, nanoseconds_of, new_id
from .usage import Usage
from .wire import PARSERS, read_error, reassemble

__all__ = ["create", "record"]

P = ParamSpec("P")

#: characters of an error that are masked; what a record holds of them is cut behind the masks
_MESSAGE_LIMIT: Final = 16_384
_lock = Lock()
#: a backend answers one reader at a time
_reading = Lock()


def record(
    *,
    provider: str,
    model: str | None = None,
    operation: str = "chat",
    api: str | None = None,
    request: Any = None,
    response: Any = None,
    usage: Usage | Mapping[str, Any] | None = None,
    started_at: datetime | int | None = None,
    duration: timedelta | float | None = None,
    time_to_first_chunk: timedelta | float | None = None,
    stream: bool = False,
    status: RecordStatus | None = None,
    finish_reasons: Iterable[str | None] = (),
    error: BaseException | str | None = None,
    error_type: str | None = None,
    error_json: Any = None,
    http_status: int | None = None,
    attempts: int | None = None,
    response_model: str | None = None,
    response_id: str | None = None,
    request_id: str | None = None,
    service_tier: str | None = None,
    server_address: str | None = None,
    server_port: int | None = None,
    sdk: str | None = None,
    source: str | None = None,
    attributes: Mapping[str, Any] | None = None,
    id: str | None = None,  # noqa: A002 - the record's key
) -> str:
    """Hand over the record of one call that has ended. Never blocks on a store; returns the record's id.

    Args:
        provider: ``gen_ai.provider.name``, such as ``gcp.gemini``.
        model: the model that was asked for.
        operation: ``gen_ai.operation.name``: ``chat``, ``text_completion``, ``embeddings``, ...
        api: the shape of request and response; ``operation`` if not given. For one that llmspan knows
            (``chat_completions``, ``responses``, ``messages``, ``completions``, ``embeddings``) what is not given here
            is read from ``response``, which may also be the bytes of a stream.
        request: what was sent: a JSON value, an object with ``model_dump``, JSON text or bytes. Copied at once.
        response: what came back, likewise.
        usage: the provider's own usage object, or a :class:`llmspan.Usage`; ``response["usage"]`` if not given.
        started_at: an aware datetime, or nanoseconds since the epoch; ``duration`` ago if not given.
        duration: seconds, or a timedelta; the time since ``started_at`` if not given.
        time_to_first_chunk: seconds, or a timedelta.
        stream: whether the response was streamed.
        status: ``ok``, ``error``, ``cancelled``, ``closed_early`` or ``incomplete``; by ``error`` if not given.
        finish_reasons: one per choice.
        error: the exception or message that the call ended with.
        error_type: the class of the error; by ``error_json``, ``http_status`` and the exception's class if not given.
        error_json: the provider's error body.
        http_status: the HTTP status code.
        attempts: how many requests were sent.
        response_model: the model that answered.
        response_id: the provider's id of the response.
        request_id: the provider's id of the request.
        service_tier: the tier that served the call.
        server_address: the host.
        server_port: the port.
        sdk: what made the call, ``name/version``.
        source: which program this is; the one of all other records if not given.
        attributes: merged into those of :func:`llmspan.context`.
        id: the record's id, so that handing it over again stores it once; a fresh one if not given.

    Raises:
        RecordError: a value cannot be in a record; the message names it.
        SettingsError: nothing has been set up yet, and the environment's settings are wrong.
    """
    shared = _shared_pipeline()
    started, lasted = _times(started_at, duration)
    context = call_context.current()
    span_context = otel_trace.get_current_span().get_span_context()
    raised = error if isinstance(error, BaseException) else None
    values: dict[str, Any] = {
        **{f.name: getattr(context, f.name) for f in fields(context)},
        "id": id or new_id(),
        "trace_id": f"{span_context.trace_id:032x}" if span_context.is_valid else None,
        "parent_span_id": f"{span_context.span_id:016x}" if span_context.is_valid else None,
        "attributes": _copied({**context.attributes, **(attributes or {})}),
        "source": source or shared.source,
        "provider": provider,
        "operation": operation,
        "api": api or operation,
        "request_model": model,
        "response_model": response_model,
        "response_id": response_id,
        "request_id": request_id,
        "stream": stream,
        "service_tier": service_tier,
        "server_address": server_address,
        "server_port": server_port,
        "sdk": sdk,
        "status": status or (_status_of(raised) if error is not None or error_type is not None else "ok"),
        "finish_reasons": tuple(finish_reasons),
        "error_type": error_type or _error_type(error, error_json, http_status),
        "error_message": None if error is None else str(error)[:_MESSAGE_LIMIT],
        "error_json": _copied(error_json),
        "http_status": http_status,
        "attempts": attempts,
        "started_at": started,
        "duration_ns": lasted,
        "time_to_first_chunk_ns": None if time_to_first_chunk is None else _nanoseconds(time_to_first_chunk),
    }
    metadata = replace(ProviderTrace.from_dict(values), usage=_usage(usage))
    request_text, response_text = _text(request), _text(response)
    size = len(request_text or "") + len(response_text or "")
    shared.submit(
        pipeline.PrebuiltRecord(
            lambda: _with_payloads(metadata, request_text, response_text), shared.policy or ContentPolicy(), size
        )
    )
    return metadata.id


def _awaited(function: Callable[P, str]) -> Callable[P, Coroutine[Any, Any, str]]:
    @functools.wraps(function, assigned=("__module__",))
    async def record_async(*args: P.args, **kwargs: P.kwargs) -> str:
        """:func:`record`, and wait until every backend has it. For event loops, which it does not block.

        Raises:
            RecordError: a value cannot be in a record; the message names it.
            SettingsError: nothing has been set up yet, and the environment's settings are wrong.
            BackendError: it was not stored in ``LLMSPAN_WRITE_TIMEOUT`` seconds, or given up.
        """
        # imports and reading the environment the first time, copying the payload every time
        record_id = await to_thread(function, *args, **kwargs)
        await _stored(pipeline.shared(), record_id)
        return record_id

    record_async.__name__ = record_async.__qualname__ = "record_async"
    return record_async


record_async = _awaited(record)
#: the older name
create = record_async


async def _stored(shared: Pipeline, record_id: str) -> None:
    """Wait until all records accepted so far are settled, this one among them; raise if it was not stored."""
    before = shared.status()
    deadline = monotonic() + Settings.from_env().write_timeout
    pause = 0.001
    while not _are_settled(shared, [state.accepted for state in before]):
        if monotonic() > deadline:
            raise BackendError(f"record {record_id} is not stored yet; it stays queued: {_last_errors(shared)}")
        await sleep(pause)
        pause = min(pause * 2, 0.05)
    primary = shared.backends[0]
    if primary.readable and not await to_thread(_has, primary, record_id):
        raise BackendError(f"record {record_id} was not stored: {_last_errors(shared)}")


def _are_settled(shared: Pipeline, accepted: list[int]) -> bool:
    """Whether each backend is done with as many records as it had accepted: they are taken in their order."""
    settled_counts = (state.accepted - state.queued - state.spooled for state in shared.status())
    return all(count >= accepted_count for count, accepted_count in zip(settled_counts, accepted, strict=False))


def _has(backend: Backend, record_id: str) -> bool:
    with _reading:
        return backend.get(record_id) is not None


def _last_errors(shared: Pipeline) -> str:
    errors = (f"{state.backend}: {state.last_error}" for state in shared.status() if state.last_error)
    return "; ".join(errors) or "the backends report no error"


def _shared_pipeline() -> Pipeline:
    """The pipeline, with the backends of the environment if none was added."""
    shared = pipeline.shared()
    with _lock:
        if shared.policy is None:
            settings = Settings.from_env()
            shared.policy, shared.source = ContentPolicy.from_settings(settings), settings.service_name
        if not shared.backends:
            settings = Settings.from_env()
            shared.configure(settings)
            shared.status_file.set_directory(status_directory(settings.status_dir))
            for backend in load_backends(settings):
                shared.add(backend)
            atexit.register(shared.flush, settings.exit_timeout)
    return shared


def _with_payloads(
    record: ProviderTrace, request_text: str | bytes | None, response_text: str | bytes | None
) -> ProviderTrace:
    """The record with its payloads, and facts from them for keys that were not given. Slow; for the worker."""
    request_json = None if request_text is None else _json.canonical(request_text)
    response_json, facts = _read(record.api, response_text)
    missing = {key: value for key, value in facts.items() if value and not getattr(record, key)}
    usage = record.usage if record.usage.source != "none" else facts.get("usage") or Usage()
    return replace(
        record,
        **missing | {"usage": usage},
        request_json=request_json,
        response_json=response_json,
        request_bytes=_length(request_text),
        response_bytes=_length(response_text),
    )


def _read(api: str, response_text: str | bytes | None) -> tuple[str | None, dict[str, Any]]:
    """The response's JSON text, and the record's values that are in it."""
    if response_text is None:
        return None, {}
    if api not in PARSERS:
        text = _json.canonical(response_text)
        usage = _usage_in(text)
        return text, {"usage": usage}
    body = response_text.encode("utf-8", "surrogatepass") if isinstance(response_text, str) else response_text
    reply, response = reassemble(api, body)
    facts = {
        "response_model": reply.response_model,
        "response_id": reply.response_id,
        "finish_reasons": reply.finish_reasons,
        "service_tier": reply.service_tier,
        "chunk_count": reply.chunk_count,
        "usage": reply.usage,
    }
    is_stream = reply.chunk_count is not None and response is not None
    return _json.dumps(response) if is_stream else _json.canonical(response_text), facts


def _usage_in(text: str) -> Usage:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return Usage()
    return Usage.from_raw(value.get("usage")) if isinstance(value, dict) else Usage()


def _usage(usage: Usage | Mapping[str, Any] | None) -> Usage:
    if usage is None or isinstance(usage, Usage):
        return usage or Usage()
    if not isinstance(usage, Mapping):
        raise RecordError(f"usage is {usage!r:.80}; it must be a llmspan.Usage or the provider's usage object")
    return Usage.from_raw(_copied(usage))


def _times(started_at: datetime | int | None, duration: timedelta | float | None) -> tuple[int, int]:
    """Start and length, in nanoseconds; what is not given is counted back from, or up to, now."""
    now = time_ns()
    if isinstance(started_at, datetime):
        if started_at.tzinfo is None:
            raise RecordError(f"started_at is {started_at!r}, a time without a time zone; use datetime.now(UTC)")
        started_at = nanoseconds_of(started_at)
    lasted = None if duration is None else _nanoseconds(duration)
    if started_at is None:
        return now - (lasted or 0), lasted or 0
    return started_at, max(0, now - started_at) if lasted is None else lasted


def _nanoseconds(length: timedelta | float) -> int:
    seconds = length.total_seconds() if isinstance(length, timedelta) else length
    if not isinstance(seconds, int | float) or not 0 <= seconds < float("inf"):
        raise RecordError(f"{length!r:.80} is not a length of time; use seconds or a timedelta, 0 or more")
    return round(seconds * 1e9)


def _status_of(raised: BaseException | None) -> RecordStatus:
    return "error" if raised is None or isinstance(raised, Exception) else "cancelled"


def _error_type(error: BaseException | str | None, error_json: Any, http_status: int | None) -> str | None:
    """The class of the failure by the rule of observed calls; None if nothing failed."""
    if error is None:
        return None
    body = _copied(getattr(error, "body", None) if error_json is None else error_json)
    kind = type(error) if isinstance(error, BaseException) else None
    return wire.error_type(read_error(body), http_status=http_status, exception=kind)


def _text(value: Any) -> str | bytes | None:
    """A copy that later changes to ``value`` cannot reach."""
    return value if value is None or isinstance(value, str | bytes) else _json.dumps(value)


def _copied(value: Any) -> Any:
    return None if value is None else json.loads(_json.dumps(value))


def _length(text: str | bytes | None) -> int | None:
    return len(text.encode("utf-8", "surrogatepass")) if isinstance(text, str) else None if text is None else len(text)
