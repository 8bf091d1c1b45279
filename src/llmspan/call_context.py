"""Context and correlation ids: step, run, agent, user ... set by the program around its calls, by contextvars only.

Nothing is ever put on a client object, so a hundred tasks that share one client do not mix.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final

from opentelemetry import baggage

from . import _json
from ._guard import guarded

__all__ = ["CallContext", "context", "current", "with_baggage"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallContext:
    """What the calls made now are part of; the keys are those of the record."""

    step_id: str | None = None
    run_id: str | None = None
    agent_id: str | None = None
    conversation_id: str | None = None
    user_id: str | None = None
    org_id: str | None = None
    call_type: str | None = None
    agent_tags: tuple[str, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict[str, Any])
    llm_config: Any = None
    compaction_settings: Any = None
    billing_context: Any = None


EMPTY: Final = CallContext()
_TEXT_KEYS: Final = frozenset(f.name for f in fields(CallContext) if f.type == "str | None")
_scope: ContextVar[CallContext] = ContextVar("llmspan_scope", default=EMPTY)


def current() -> CallContext:
    """The call context of the current task or thread."""
    return _scope.get()


@contextmanager
def context(
    *,
    step_id: str | None = None,
    run_id: str | None = None,
    agent_id: str | None = None,
    conversation_id: str | None = None,
    user_id: str | None = None,
    org_id: str | None = None,
    call_type: str | None = None,
    agent_tags: Iterable[str] | None = None,
    attributes: Mapping[str, Any] | None = None,
    llm_config: Any = None,
    compaction_settings: Any = None,
    billing_context: Any = None,
) -> Generator[None]:
    """Mark the calls made inside the ``with`` block, in sync and async code alike.

    Blocks nest: what the inner one does not give is the outer one's; ``attributes`` are merged, the rest replaced.
    JSON values are copied on entry: changing them later changes no record.

    >>> with context(run_id="r1"):
    ...     with context(step_id="s1"):
    ...         current().run_id, current().step_id
    ('r1', 's1')
    """
    values = {
        "step_id": step_id,
        "run_id": run_id,
        "agent_id": agent_id,
        "conversation_id": conversation_id,
        "user_id": user_id,
        "org_id": org_id,
        "call_type": call_type,
        "agent_tags": None if agent_tags is None else tuple(agent_tags),
        "llm_config": _snapshot(llm_config),
        "compaction_settings": _snapshot(compaction_settings),
        "billing_context": _snapshot(billing_context),
    }
    enclosing = _scope.get()
    changes: dict[str, Any] = {key: value for key, value in values.items() if value is not None}
    if attributes:
        changes["attributes"] = {**enclosing.attributes, **(_snapshot(attributes) or {})}
    token = _scope.set(replace(enclosing, **changes))
    try:
        yield
    finally:
        with suppress(ValueError):  # a generator that ends in another context than it began in: nothing to undo there
            _scope.reset(token)


def _snapshot(value: Any) -> Any:
    """A plain JSON copy of a value that the program may go on changing."""
    return None if value is None else guarded("call_context.snapshot", lambda: json.loads(_json.dumps(value)))


def with_baggage(call_context: CallContext, keys: Iterable[str]) -> CallContext:
    """``call_context`` completed by the allowed ``keys`` of the current OpenTelemetry baggage; what is set stays."""
    members = {key: value for key in keys if (value := baggage.get_baggage(key)) is not None}
    if not members:
        return call_context
    texts = {k: str(v) for k, v in members.items() if k in _TEXT_KEYS and getattr(call_context, k) is None}
    extra = {k: v for k, v in members.items() if k not in _TEXT_KEYS and k not in call_context.attributes}
    return replace(call_context, **texts, attributes={**call_context.attributes, **extra})
