"""What of a payload is kept: capture policy, size cap, the JSON text that stores get.

A payload that is cut stays valid JSON and says so; usage and metadata are never dropped for its sake.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any, Final

from . import _json
from .settings import Settings
from .trace import Content, ProviderTrace

__all__ = ["Policy"]

#: strings are cut to these lengths, in turn, until a payload fits
_STEPS: Final = (65_536, 16_384, 4_096, 1_024, 256, 64)

MASK: Final = "[masked by llmspan]"
_CREDENTIALS: Final = frozenset({"authorization", "authorization_token", "headers"})
_WITH_CREDENTIALS: Final = ("tools", "mcp_servers")


@dataclass(frozen=True, slots=True)
class Policy:
    """Which payloads are kept, and up to which size (bytes of JSON text, each)."""

    keep: bool = True
    max_bytes: int = 16 * 1024 * 1024

    @classmethod
    def from_settings(cls, settings: Settings) -> Policy:
        """The policy that the settings describe."""
        return cls(keep=settings.content == "full", max_bytes=settings.max_payload_bytes)

    def kept(self, trace: ProviderTrace) -> ProviderTrace:
        """``trace``, whose payloads are still as they came, as it may be stored."""
        request_json, response_json, content = self.apply(trace.request_json, trace.response_json)
        if request_json is None and response_json is None:
            content = trace.content if trace.content == "truncated" else "metadata"
        return replace(trace, request_json=request_json, response_json=response_json, content=content)

    def apply(self, request: bytes | str | None, response: str | None) -> tuple[str | None, str | None, Content]:
        """The texts to store for a request (as sent) and a response (JSON text), and what became of them."""
        if not self.keep:
            return None, None, "metadata"
        kept_request, cut_request = self._fit(without_credentials(_json.canonical(request)) if request else None)
        kept_response, cut_response = self._fit(response)
        return kept_request, kept_response, "truncated" if cut_request or cut_response else "full"

    def _fit(self, text: str | None) -> tuple[str | None, bool]:
        if text is None or len(text) * 4 <= self.max_bytes:
            return text, False
        size = len(text.encode())
        if size <= self.max_bytes:
            return text, False
        return truncated(text, size, self.max_bytes), True


def without_credentials(text: str) -> str:
    """A request's JSON text with the credentials that it carries for remote tools masked; as it is if there are none.

    Sources: openai ``Mcp`` tools (``authorization``, ``headers``), anthropic ``mcp_servers`` (``authorization_token``).
    """
    if not any(f'"{key}"' in text for key in _CREDENTIALS):
        return text
    try:
        body = json.loads(text)
    except (ValueError, RecursionError):
        return text
    found = [entry for key in _WITH_CREDENTIALS for entry in _objects(body, key) if not _CREDENTIALS.isdisjoint(entry)]
    for entry in found:
        entry.update({key: MASK for key in _CREDENTIALS & entry.keys() if entry[key] is not None})
    return _json.dumps(body) if found else text


def _objects(body: Any, key: str) -> list[dict[str, Any]]:
    entries = body.get(key) if isinstance(body, dict) else None
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


def truncated(text: str, size: int, limit: int) -> str:
    """JSON ``text`` of ``size`` bytes with its longest strings cut so that it fits ``limit``; still valid JSON."""
    try:
        shorter = _shortened(json.loads(text), limit)
    except (ValueError, RecursionError):
        shorter = None
    return shorter or _json.dumps({"llmspan.truncated": True, "bytes": size})


def _shortened(value: Any, limit: int) -> str | None:
    for length in _STEPS:
        if length <= limit:
            shorter = _json.dumps(_cut(value, length))
            if len(shorter.encode()) <= limit:
                return shorter
    return None


def _cut(value: Any, length: int) -> Any:
    if isinstance(value, str) and len(value) > length:
        return f"{value[:length]}... [{len(value)} characters, cut by llmspan]"
    if isinstance(value, dict):
        return {key: _cut(item, length) for key, item in value.items()}
    if isinstance(value, list):
        return [_cut(item, length) for item in value]
    return value
