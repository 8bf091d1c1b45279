"""Spans of Langfuse's SDK: what of them is a model call, and where they have its facts; a dialect of ``span_import``.

An observation of the type ``generation`` or ``embedding`` is a call. Its usage is one JSON object: the provider's own
where Langfuse has wrapped an SDK, else one with Langfuse's names (``input``, ``output``), as the program gave it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from opentelemetry.sdk.trace import ReadableSpan

from . import semconv
from .attribute_values import Attributes, parse_json, parse_object, without_empty
from .usage import Usage

__all__ = ["NAMES", "facts", "finish_reasons", "operation", "payload", "usage"]

_PREFIX: Final = "langfuse.observation."
_OPERATIONS: Final = {"generation": "chat", "embedding": "embeddings"}
#: the names that Langfuse and its integrations give to counts; all keys with one value mean the same
_CACHE_READ: Final = ("input_cached_tokens", "input_cache_read", "cache_read_input_tokens")
_CACHE_WRITE: Final = ("input_cache_creation", "cache_creation_input_tokens", "input_cache_write_tokens")
_REASONING: Final = ("output_reasoning_tokens", "output_reasoning")
_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"

NAMES: Final[Mapping[str, str]] = {
    f"{_PREFIX}model.name": semconv.REQUEST_MODEL,
    "session.id": "gen_ai.conversation.id",
    "langfuse.session.id": "gen_ai.conversation.id",
    "langfuse.user.id": "user.id",
}


def operation(attributes: Attributes) -> str | None:
    """The operation of a call; ``other`` for agents, tools, chains and plain spans of Langfuse's."""
    kind = attributes.get(f"{_PREFIX}type")
    return None if kind is None else _OPERATIONS.get(str(kind), "other")


def facts(span: ReadableSpan) -> Mapping[str, Any]:
    """The provider, which only the name of a wrapped SDK's span tells, and when the first chunk of a stream came."""
    values: dict[str, Any] = {}
    if span.name.startswith("OpenAI-"):
        values[semconv.PROVIDER] = "openai"
    first = parse_json((span.attributes or {}).get(f"{_PREFIX}completion_start_time"))
    seconds = _seconds_since_epoch(first)
    if seconds is not None and span.start_time is not None:
        values |= {semconv.STREAM: True, _FIRST_CHUNK: max(0.0, seconds - span.start_time / 1e9)}
    return values


def _seconds_since_epoch(value: Any) -> float | None:
    try:
        return datetime.fromisoformat(value).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None


def finish_reasons(attributes: Attributes) -> Sequence[str]:
    """The finish reason that the wrapper of a stream adds to the metadata."""
    reason = parse_json(attributes.get(f"{_PREFIX}metadata.finish_reason"))
    return (reason,) if isinstance(reason, str) else ()


def usage(attributes: Attributes) -> Usage | None:
    """The usage of a call; None if the span has none."""
    counts = parse_object(attributes.get(f"{_PREFIX}usage_details"))
    if not counts:
        return None
    if "input" not in counts and "output" not in counts:
        return Usage.from_raw(counts)  # the provider's own object
    sums = {side: _side(counts, side) for side in ("input", "output")}
    return Usage(
        input_tokens=sums["input"],
        output_tokens=sums["output"],
        cache_read_tokens=_first(counts, _CACHE_READ),
        cache_write_tokens=_first(counts, _CACHE_WRITE),
        reasoning_tokens=_first(counts, _REASONING),
        source="provider",
        raw=counts,
    )


def _side(counts: Mapping[str, Any], side: str) -> int | None:
    """All tokens of one side. Langfuse's counts exclude each other, unless their total says that they do not."""
    number = _integer(counts.get(side))
    parts = [count for name, value in counts.items() if name != side and side in name and (count := _integer(value))]
    if number is None or _is_sum_of_sides(counts):
        return number
    return number + sum(parts)


def _is_sum_of_sides(counts: Mapping[str, Any]) -> bool:
    sides = [_integer(counts.get(side)) or 0 for side in ("input", "output")]
    return _integer(counts.get("total")) == sum(sides)


def _first(counts: Mapping[str, Any], names: Sequence[str]) -> int | None:
    return next((count for name in names if (count := _integer(counts.get(name))) is not None), None)


def _integer(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def payload(attributes: Attributes) -> tuple[Any, Any]:
    """Request and response in the provider's shape where they are messages, else as they are.

    The parameters of the model are left out: Langfuse writes its own defaults among those that were sent.
    """
    request = parse_json(attributes.get(f"{_PREFIX}input"))
    response = parse_json(attributes.get(f"{_PREFIX}output"))
    if not (isinstance(request, dict) and "messages" in request):
        key = "messages" if isinstance(request, list) else "input"
        request = without_empty({key: request})
    return request, _response(response)


def _response(response: Any) -> dict[str, Any] | None:
    if isinstance(response, str):
        response = {"role": "assistant", "content": response}
    if isinstance(response, dict) and "role" in response:
        return {"choices": [{"index": 0, "message": response}]}
    return without_empty({"output": response})
