"""What a request itself says about who is calling: ``user``, ``safety_identifier``, ``metadata``.

It fills the keys of a record that the program's own context leaves open. Sources: openai ``CompletionCreateParams`` and
``ResponseCreateParams`` (``user``, ``safety_identifier``, ``metadata``), anthropic ``MetadataParam`` (``user_id``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from typing import Any, Final

from ..content import Policy
from ..scope import Scope

#: the members of a request that say who is calling
SAYS_WHO: Final = frozenset({"user", "safety_identifier", "metadata"})
#: OpenAI's own limits for metadata; gateways have others
_MOST_ENTRIES: Final = 16
_LONGEST_KEY: Final = 64
_LONGEST_VALUE: Final = 512
#: the APIs whose metadata has a ``user_id`` that stands for the user
_ANTHROPIC_APIS: Final = frozenset({"messages", "complete", "count_tokens"})


def with_request_metadata(scope: Scope, api: str, body: Mapping[str, Any], policy: Policy) -> Scope:
    """``scope`` completed by what ``body`` says; what is set stays."""
    value = body.get("metadata")
    metadata: Mapping[str, Any] = value if isinstance(value, dict) else {}
    user = None if scope.user_id is not None else _user(api, body, metadata)
    entries = {
        key[:_LONGEST_KEY]: item[:_LONGEST_VALUE] if isinstance(item, str) else item
        for key, item in islice(metadata.items(), _MOST_ENTRIES)
        if isinstance(key, str) and isinstance(item, str | bool | int | float) and not _is_user(api, key)
    }
    if user is not None:
        scope = replace(scope, user_id=policy.clean_text(user))
    return replace(scope, attributes={**entries, **scope.attributes}) if entries else scope


def _user(api: str, body: Mapping[str, Any], metadata: Mapping[str, Any]) -> str | None:
    named = [body.get("user"), body.get("safety_identifier")]
    if api in _ANTHROPIC_APIS:
        named.append(metadata.get("user_id"))
    return next((value[:_LONGEST_VALUE] for value in named if isinstance(value, str) and value), None)


def _is_user(api: str, key: str) -> bool:
    return key == "user_id" and api in _ANTHROPIC_APIS
