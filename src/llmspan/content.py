"""What of a payload is kept: capture policy, size cap, the JSON text that stores get.

A payload that is cut stays valid JSON and says so; usage and metadata are never dropped for its sake.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from . import _json
from .trace import Content

__all__ = ["Policy"]

#: strings are cut to these lengths, in turn, until a payload fits
_STEPS: Final = (65_536, 16_384, 4_096, 1_024, 256, 64)


@dataclass(frozen=True, slots=True)
class Policy:
    """Which payloads are kept, and up to which size (bytes of JSON text, each)."""

    keep: bool = True
    max_bytes: int = 16 * 1024 * 1024

    def apply(self, request: bytes | None, response: str | None) -> tuple[str | None, str | None, Content]:
        """The texts to store for a request (bytes as sent) and a response (JSON text), and what became of them."""
        if not self.keep:
            return None, None, "metadata"
        kept_request, cut_request = self._fit(_json.canonical(request) if request else None)
        kept_response, cut_response = self._fit(response)
        return kept_request, kept_response, "truncated" if cut_request or cut_response else "full"

    def _fit(self, text: str | None) -> tuple[str | None, bool]:
        if text is None or len(text) * 4 <= self.max_bytes:
            return text, False
        size = len(text.encode())
        if size <= self.max_bytes:
            return text, False
        return truncated(text, size, self.max_bytes), True


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
