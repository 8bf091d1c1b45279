"""What of a payload is kept: capture policy, credentials, media, redaction, size cap, in this order.

Everything that goes to a store, on a span or into an event goes through here first. A payload that is cut stays valid
JSON and says so; usage and metadata are never dropped for its sake. What cannot be redacted is withheld.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

from . import _json
from ._guard import note, outcome
from .errors import SettingsError
from .redaction import MASK, Redactor, WithheldError, mask_keys, mask_members, mask_texts
from .settings import Settings
from .trace import Content, ProviderTrace

__all__ = ["MASK", "Policy"]

#: strings are cut to these lengths, in turn, until a payload fits
_STEPS: Final = (65_536, 16_384, 4_096, 1_024, 256, 64)

WITHHELD: Final = "[withheld by llmspan: it could not be redacted]"
_CREDENTIALS: Final = frozenset({"api_key", "authorization", "authorization_token", "headers"})
_WITH_CREDENTIALS: Final = ("tools", "mcp_servers")
#: record keys whose values come from the program around the call
_FROM_CONTEXT: Final = ("attributes", "llm_config", "compaction_settings", "billing_context")
_FROM_ERRORS: Final = ("error_message", "error_json")

#: members that hold bare base64 (anthropic sources, openai audio, files and images, parts of the GenAI conventions)
_MEDIA_MEMBERS: Final = frozenset({"data", "file_data", "b64_json", "partial_image_b64", "result", "content"})
#: what is in a payload's text if there is any base64 to be expected; reading it all to find none is not cheap
_MEDIA_SIGNS: Final = ("base64", "b64_json", "partial_image_b64", '"audio"', '"input_audio"', '"file_data"',
                       '"image_generation_call"', '"blob"')  # fmt: skip
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_\s-]++={0,2}\s*", re.ASCII)
_DATA_URL: Final = re.compile(r"data:([\w.+-]+/[\w.+-]+)?(?:;[^,;]*)*?;base64,", re.ASCII)
#: how the bytes of a kind of media begin
_MAGIC: Final = {
    b"\x89PNG\r\n\x1a\n": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"GIF8": "image/gif",
    b"%PDF-": "application/pdf",
    b"OggS": "audio/ogg",
    b"fLaC": "audio/flac",
    b"ID3": "audio/mpeg",
}
_RIFF: Final = {b"WAVE": "audio/wav", b"WEBP": "image/webp"}


class _Kept(NamedTuple):
    text: str | None
    is_cut: bool


@dataclass(frozen=True, slots=True)
class Policy:
    """Which payloads are kept, and up to which size (bytes of JSON text, each)."""

    keep: bool = True
    max_bytes: int = 16 * 1024 * 1024
    #: base64 of more bytes is replaced by what it was
    max_media_bytes: int = 64 * 1024
    redact: Redactor = field(default_factory=Redactor)

    @classmethod
    def from_settings(cls, settings: Settings) -> Policy:
        """The policy that the settings describe."""
        return cls(
            keep=settings.content == "full",
            max_bytes=settings.max_payload_bytes,
            max_media_bytes=settings.max_media_bytes,
            redact=Redactor(settings.redact_patterns, settings.redact),
        )

    def kept(self, trace: ProviderTrace) -> ProviderTrace:
        """``trace``, whose values are still as they came, as it may be stored."""
        request_json, response_json, content = self.apply(trace.request_json, trace.response_json)
        if request_json is None and response_json is None:
            content = "truncated" if trace.content == "truncated" else "metadata"
        values = self.clean({key: getattr(trace, key) for key in (*_FROM_ERRORS, *_FROM_CONTEXT)})
        return replace(trace, **values, request_json=request_json, response_json=response_json, content=content)

    def apply(
        self, request: bytes | str | None, response: str | None, secrets: Iterable[str] = ()
    ) -> tuple[str | None, str | None, Content]:
        """The texts to store for a request (as sent) and a response (JSON text), and what became of them.

        ``secrets`` are texts that the payload must not hold, such as the key that the call was made with.
        """
        if not self.keep:
            return None, None, "metadata"
        sent = self._kept(_json.canonical(request) if request else None, secrets)
        received = self._kept(response, secrets)
        if sent.text is None and received.text is None and (request or response):
            return None, None, "metadata"
        return sent.text, received.text, "truncated" if sent.is_cut or received.is_cut else "full"

    def clean(self, facts: dict[str, Any], secrets: Callable[[], Iterable[str]] = tuple) -> dict[str, Any]:
        """A record's values: keys masked in what errors say, credentials in what the program said, all redacted.

        ``facts`` have those of errors, and those of the program's as far as they are wanted; they are changed in place.
        """
        for key in _FROM_ERRORS:
            if facts[key] is not None:
                self._clean_errors(facts, tuple(secrets()))
                break
        for key in _FROM_CONTEXT:
            if facts.get(key):
                facts[key] = self._redacted(mask_members(facts[key]), {} if key == "attributes" else None)
        return facts

    def _clean_errors(self, facts: dict[str, Any], secrets: Iterable[str]) -> None:
        for key in _FROM_ERRORS:
            if facts[key] is not None:
                masked = mask_members(mask_texts(facts[key], lambda text: mask_keys(_without(text, secrets))))
                facts[key] = self._redacted(masked, WITHHELD if key == "error_message" else None)

    def _redacted(self, value: Any, otherwise: Any) -> Any:
        return value if not self.redact else _result(self.redact, value, otherwise)

    def _kept(self, text: str | None, secrets: Iterable[str]) -> _Kept:
        if text is None:
            return _Kept(None, is_cut=False)
        found = _result(self._ready, _without(text, secrets), None)
        if found is None:
            return _Kept(None, is_cut=True)
        if len(found.text) * 4 <= self.max_bytes:
            return found
        size = len(found.text.encode())
        if size <= self.max_bytes:
            return found
        return _Kept(truncated(found.text, size, self.max_bytes), is_cut=True)

    def _ready(self, text: str) -> _Kept:
        """``text`` itself if there is nothing to take out of it: then it is stored as it was sent, to the byte."""
        has_credentials = any(f'"{key}"' in text for key in _CREDENTIALS)
        has_media = len(text) > self.max_media_bytes and any(sign in text for sign in _MEDIA_SIGNS)
        if not (has_credentials or has_media or self.redact):
            return _Kept(text, is_cut=False)
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            if self.redact:
                raise WithheldError("the payload is nested too deep to be looked at") from None
            return _Kept(text, is_cut=False)
        is_changed = has_credentials and _mask_credentials(value)
        media = _Media(self.max_media_bytes) if has_media else None
        if media is not None:
            value = media.replaced(value)
        if self.redact:
            before = json.dumps(value)
            value = self.redact(value)
            is_changed = is_changed or json.dumps(value) != before
        is_cut = media is not None and media.found > 0
        return _Kept(_json.dumps(value) if is_changed or is_cut else text, is_cut)


def _result(function: Callable[[Any], Any], value: Any, otherwise: Any) -> Any:
    """What ``function`` makes of ``value``; if it raises, ``otherwise``, counted and logged without the value."""
    found: list[Any] = []
    error = outcome(lambda: found.append(function(value)))
    if error is None:
        return found[0]
    if not isinstance(error, Exception):
        raise error
    told = (
        str(error) if isinstance(error, WithheldError | SettingsError) else f"redaction raised {type(error).__name__}"
    )
    note("content.redact", WithheldError(told))
    return otherwise


def _without(text: str, secrets: Iterable[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, MASK)
    return text


def _mask_credentials(body: Any) -> bool:
    """Mask the credentials that a request carries for remote tools; whether there were any.

    Sources: openai ``Mcp`` tools (``authorization``, ``headers``), anthropic ``mcp_servers`` (``authorization_token``),
    gateways that take the upstream's ``api_key`` in the body.
    """
    found = [entry for key in _WITH_CREDENTIALS for entry in _objects(body, key) if not _CREDENTIALS.isdisjoint(entry)]
    if isinstance(body, dict) and body.get("api_key") is not None:
        body["api_key"] = MASK
        found.append(body)
    for entry in found:
        if entry is not body:
            entry.update({key: MASK for key in _CREDENTIALS & entry.keys() if entry[key] is not None})
    return bool(found)


def _objects(body: Any, key: str) -> list[dict[str, Any]]:
    entries = body.get(key) if isinstance(body, dict) else None
    return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []


class _Media:
    """Replaces base64 of more than ``limit`` bytes by what it was; counts what it replaced."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._shortest = limit * 4 // 3
        self.found = 0

    def replaced(self, value: Any, name: str = "", around: Mapping[str, Any] | None = None) -> Any:
        if isinstance(value, str):
            return value if len(value) <= self._shortest else self._described(value, name, around or {})
        if isinstance(value, dict):
            return {key: self.replaced(item, key, value) for key, item in value.items()}
        if isinstance(value, list):
            return [self.replaced(item) for item in value]
        return value

    def _described(self, text: str, name: str, around: Mapping[str, Any]) -> Any:
        url = _DATA_URL.match(text)
        if url is None and (name not in _MEDIA_MEMBERS or not _BASE64.fullmatch(text)):
            return text
        try:
            content = _decoded(text[url.end() :] if url else text)
        except (ValueError, binascii.Error):
            return text
        if len(content) <= self._limit:
            return text
        self.found += 1
        kind = (url[1] if url else None) or _told_kind(around) or _seen_kind(content)
        return {"type": kind, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _decoded(text: str) -> bytes:
    plain = "".join(text.split()).translate(str.maketrans("-_", "+/")).rstrip("=")
    return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)


def _told_kind(around: Mapping[str, Any]) -> str | None:
    """The media type that stands beside the data; OpenAI's audio has only a ``format``."""
    for key in ("media_type", "mime_type"):
        if isinstance(around.get(key), str):
            return around[key]
    return f"audio/{around['format']}" if isinstance(around.get("format"), str) else None


def _seen_kind(content: bytes) -> str:
    if content.startswith(b"RIFF"):
        return _RIFF.get(content[8:12], "application/octet-stream")
    return next((kind for magic, kind in _MAGIC.items() if content.startswith(magic)), "application/octet-stream")


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
