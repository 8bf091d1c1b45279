"""What a request itself says about its caller: ``user``, ``safety_identifier``, ``metadata``.

It fills the keys of a record that the program's context does not set. Sources: openai ``CompletionCreateParams`` and
``ResponseCreateParams`` (``user``, ``safety_identifier``, ``metadata``), anthropic ``MetadataParam`` (``user_id``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from typing import Any, Final

from ..call_context import CallContext
from ..content import ContentPolicy

#: the keys of a request that name its caller, and what their values are then
CALLER_TYPES: Final[Mapping[str, type]] = {"user": str, "safety_identifier": str, "metadata": dict}
#: OpenAI's limits for metadata; gateways have others
_MAX_ENTRIES: Final = 16
_MAX_KEY_LENGTH: Final = 64
_MAX_VALUE_LENGTH: Final = 512
#: the APIs whose metadata has a ``user_id``
_ANTHROPIC_APIS: Final = frozenset({"messages", "complete", "count_tokens"})


def with_request_metadata(
    context: CallContext, api: str, body: Mapping[str, Any], policy: ContentPolicy
) -> CallContext:
    """``context`` with the values of ``body`` where it has none."""
    value = body.get("metadata")
    metadata: Mapping[str, Any] = value if isinstance(value, dict) else {}
    user = None if context.user_id is not None else _user(api, body, metadata)
    entries = {
        key[:_MAX_KEY_LENGTH]: item[:_MAX_VALUE_LENGTH] if isinstance(item, str) else item
        for key, item in islice(metadata.items(), _MAX_ENTRIES)
        if isinstance(key, str) and isinstance(item, str | bool | int | float) and not _is_user(api, key)
    }
    if user is not None:
        context = replace(context, user_id=policy.clean_text(user))
    return replace(context, attributes={**entries, **context.attributes}) if entries else context


def _user(api: str, body: Mapping[str, Any], metadata: Mapping[str, Any]) -> str | None:
    candidates = [body.get("user"), body.get("safety_identifier")]
    if api in _ANTHROPIC_APIS:
        candidates.append(metadata.get("user_id"))
    return next((value[:_MAX_VALUE_LENGTH] for value in candidates if isinstance(value, str) and value), None)


def _is_user(api: str, key: str) -> bool:
    return key == "user_id" and api in _ANTHROPIC_APIS
