"""What of a payload is kept: capture policy, credentials, media, redaction, size cap, in this order.

Everything that goes to a store, on a span or into an event goes through here first. A payload that is cut stays valid
JSON and is marked ``truncated``; usage and metadata are never dropped for it. What cannot be redacted is withheld.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from operator import attrgetter
from typing import Any, Final, NamedTuple

from . import _json
from ._guard import exception_of, report_internal_error
from .errors import SettingsError
from .limits import MAX_JSON_BYTES, MAX_TEXT_BYTES, cut_json, cut_text, truncated
from .media import MediaDescriptions
from .redaction import (
    MASK,
    ExactMask,
    RedactionError,
    Redactor,
    has_credential_members,
    map_json,
    mask_bytes,
    mask_context,
    mask_credential_members,
    mask_errors,
    mask_json_text,
    mask_names,
    mask_strings,
    may_hold_key,
    may_hold_sign,
)
from .settings import Settings
from .trace import KEYS, KINDS, PAYLOAD_KEYS, Content, ProviderTrace

__all__ = ["MASK", "ContentPolicy"]

WITHHELD: Final = "[withheld by llmspan: it could not be redacted]"
#: characters of an error's message that a record holds
_LONGEST_MESSAGE: Final = 1000
#: shorter credentials of a request may well be words of the response
_SHORTEST_CREDENTIAL: Final = 8
#: record keys whose values come from the program around the call
_FROM_CONTEXT: Final = ("attributes", "llm_config", "compaction_settings", "billing_context")
_FROM_ERRORS: Final = ("error_message", "error_json")
#: record keys whose values are short texts
_TEXTS: Final = tuple(
    key for key in KEYS if KINDS[key] == "text"
    and key not in (*PAYLOAD_KEYS, "error_message", "status", "content", "usage_source")
)  # fmt: skip
#: record keys whose values are lists of such texts
_NAME_LISTS: Final = ("agent_tags", "finish_reasons")
_CLEANED: Final = (*_FROM_ERRORS, *_FROM_CONTEXT, *_TEXTS, *_NAME_LISTS)
_cleaned_values: Final = attrgetter(*_CLEANED)
_NO_CREDENTIALS: Final = ExactMask()
#: characters that are within the limit in any script
_SHORT: Final = MAX_TEXT_BYTES // 4

#: what is in a payload's text if there is any base64 to be expected; reading it all to find none is not cheap
_MEDIA_SIGNS: Final = ("base64", "b64_json", "partial_image_b64", '"audio"', '"input_audio"', '"file_data"',
                       '"image_generation_call"', '"blob"', '"inlineData"', '"inline_data"', '"bytesBase64Encoded"',
                       '"mime_type"')  # fmt: skip


class _StoredText(NamedTuple):
    text: str | None
    is_cut: bool


@dataclass(frozen=True, slots=True)
class ContentPolicy:
    """Which payloads are kept, and up to which size (bytes of JSON text, each)."""

    keep: bool = True
    max_bytes: int = 16 * 1024 * 1024
    #: base64 of more bytes is replaced by what it was
    max_media_bytes: int = 64 * 1024
    redact: Redactor = field(default_factory=Redactor)

    @classmethod
    def from_settings(cls, settings: Settings) -> ContentPolicy:
        """The policy that the settings describe."""
        return cls(
            keep=settings.capture_payloads == "full",
            max_bytes=settings.max_payload_bytes,
            max_media_bytes=settings.max_media_bytes,
            redact=Redactor(settings.redact_patterns, settings.redact),
        )

    def apply_to_record(self, record: ProviderTrace) -> ProviderTrace:
        """``record``, whose values are still as they came, as it may be stored."""
        failed = record.status == "error"
        request_json, response_json, content = self.apply_to_payloads(
            record.request_json, record.response_json, failed=failed
        )
        if request_json is None and response_json is None:
            content = "metadata"
        if record.content == "truncated":
            content = "truncated"
        values = self._cleaned(record)
        return replace(record, **values, request_json=request_json, response_json=response_json, content=content)

    def enforce(self, record: ProviderTrace) -> ProviderTrace:
        """``record`` of another process, which has a policy of its own, as this one lets it be stored. Never raises.

        What is withheld or cut stays so. What is masked in any case is masked whoever sent the record: to mask it
        again changes nothing.
        """
        is_read = bool(self.redact) or _may_hold_credentials(record)
        enforced: list[ProviderTrace] = []
        error = exception_of(lambda: enforced.append(self._read_again(record) if is_read else self._limited(record)))
        if error is None:
            return enforced[0]
        report_internal_error("content.redact", RedactionError(f"redaction raised {type(error).__name__}"))
        return _withheld(record)

    def _read_again(self, record: ProviderTrace) -> ProviderTrace:
        """As :meth:`apply_to_record`; ``content`` stays what the sender says unless more is withheld or cut here."""
        stored = self.apply_to_record(record)
        is_withheld = (stored.request_json is None and record.request_json is not None) or (
            stored.response_json is None and record.response_json is not None
        )
        return stored if is_withheld or stored.content == "truncated" else replace(stored, content=record.content)

    def apply_to_payloads(
        self,
        request: bytes | str | None,
        response: str | None,
        credentials: ExactMask = _NO_CREDENTIALS,
        *,
        failed: bool = False,
    ) -> tuple[str | None, str | None, Content]:
        """The texts to store for a request (as sent) and a response (JSON text), and the value of ``content``.

        ``credentials`` are those that the call was made with. What the provider says of a call that ``failed`` is
        masked like an error.
        """
        if not self.keep:
            return None, None, "metadata"
        body_credentials = set[str]()
        stored_request = self._stored_text(
            _json.canonical(request) if request else None, _Masks(credentials, masked_credentials=body_credentials)
        )
        long_credentials = {text for text in body_credentials if len(text) >= _SHORTEST_CREDENTIAL and text != MASK}
        if not long_credentials.issubset(credentials.credentials):
            credentials = ExactMask.of((*credentials.credentials, *long_credentials))
        stored_response = self._stored_text(response, _Masks(credentials, failed=failed))
        if stored_request.text is None and stored_response.text is None and (request or response):
            return None, None, "metadata"
        is_cut = stored_request.is_cut or stored_response.is_cut
        return stored_request.text, stored_response.text, "truncated" if is_cut else "full"

    def clean_metadata(self, facts: dict[str, Any], credentials: ExactMask = _NO_CREDENTIALS) -> dict[str, Any]:
        """A record's values: keys masked in what errors say, credentials in what the program said, all redacted.

        ``facts`` have those of errors, and others as far as they are wanted; they are changed in place. Texts
        are cut to what a record may hold. ``credentials`` are those that the call was made with.
        """
        if facts.get("error_message") is not None or facts.get("error_json") is not None:
            self._clean_errors(facts, credentials)
        for key in _FROM_CONTEXT:
            if facts.get(key):
                facts[key] = _result(self._clean_context, facts[key], None)
        if "attributes" in facts and not isinstance(facts["attributes"], Mapping):
            facts["attributes"] = {}
        _clean_names(facts, credentials)
        return facts

    def clean_text(self, value: str) -> str | None:
        """What may be kept of a short text that a request says about its caller; None if it cannot be redacted."""
        cleaned = _result(self._clean_context, mask_errors(value), None)
        return cleaned if isinstance(cleaned, str) else None

    def clean_attributes(self, attributes: Mapping[str, str]) -> dict[str, Any]:
        """What may be kept of a span's attributes; nothing if they cannot be redacted."""
        cleaned = _result(self._clean_context, dict(attributes), None)
        return cleaned if isinstance(cleaned, dict) else {}

    def _clean_errors(self, facts: dict[str, Any], credentials: ExactMask) -> None:
        def cleaned(value: Any) -> Any:
            masked = mask_strings(_readable(value), credentials.on_errors)
            return self._cut(self._redacted(mask_credential_members(masked, MASK)))

        for key in _FROM_ERRORS:
            if facts.get(key) is not None:
                facts[key] = _result(cleaned, facts[key], WITHHELD if key == "error_message" else None)

    def _clean_context(self, value: Any) -> Any:
        return self._cut(self._redacted(mask_context(_readable(value))))

    def _cut(self, value: Any) -> Any:
        """What a record may hold of a value, cut behind the masks: half a key is no key to a pattern."""
        return value[:_LONGEST_MESSAGE] if isinstance(value, str) else cut_json(value)

    def _redacted(self, value: Any) -> Any:
        return self.redact(value) if self.redact else value

    def _limited(self, record: ProviderTrace) -> ProviderTrace:
        """``record``, whose payloads hold no credential, without what this policy does not keep."""
        cleaned = self._cleaned(record)
        changes = {key: value for key, value in cleaned.items() if value != getattr(record, key)}
        for key, text in (("request_json", record.request_json), ("response_json", record.response_json)):
            if text is not None and not self.keep:
                changes |= {key: None, "content": "truncated" if record.content == "truncated" else "metadata"}
            elif text is not None and (len(text) * 4 > self.max_bytes or len(text) > self.max_media_bytes):
                stored_text = self._stored_text(text)
                changes |= {key: stored_text.text, "content": "truncated"} if stored_text.is_cut else {}
        return replace(record, **changes) if changes else record

    def _cleaned(self, record: ProviderTrace) -> dict[str, Any]:
        """What may be kept of all values but the payloads."""
        return self.clean_metadata(dict(zip(_CLEANED, _cleaned_values(record), strict=True)))

    def _stored_text(self, text: str | None, masks: _Masks | None = None) -> _StoredText:
        is_cut = False
        if text is not None and (self._may_change(text) or (masks is not None and masks.may_match(text))):
            text, is_cut = _result(lambda value: self._ready(value, masks), text, (None, True))
        if text is None or len(text) * 4 <= self.max_bytes:
            return _StoredText(text, is_cut)
        size = len(text.encode())
        if size <= self.max_bytes:
            return _StoredText(text, is_cut)
        return _StoredText(truncated(text, size, self.max_bytes), is_cut=True)

    def _may_change(self, text: str) -> bool:
        """Whether :meth:`_ready` takes more out of ``text`` than masks do."""
        return bool(self.redact) or len(text) > self.max_media_bytes

    def _ready(self, text: str, masks: _Masks | None) -> tuple[str, bool]:
        """``text`` itself if there is nothing to take out of it: then it is stored as it was sent, to the byte."""
        if masks is not None:
            text = masks.applied(text)
        is_cut = False
        if len(text) > self.max_media_bytes and any(sign in text for sign in _MEDIA_SIGNS):
            text, is_cut = _without_media(text, self.max_media_bytes)
        return (self.redact.on_text(text) if self.redact else text), is_cut


@dataclass(slots=True)
class _Masks:
    """What is masked in a payload whether or not the program asks for it."""

    #: what the call was made with
    credentials: ExactMask = _NO_CREDENTIALS
    failed: bool = False
    #: collects the credentials that a request carries in its body
    masked_credentials: set[str] | None = None

    def may_match(self, text: str) -> bool:
        """Whether :meth:`applied` may change JSON ``text``."""
        return (
            self.failed
            or text.startswith(('"', '{"base64":"'))
            or has_credential_members(text)
            or self.credentials.may_match(text)
        )

    def applied(self, text: str) -> str:
        """JSON ``text`` without credentials; itself where there are none."""
        if has_credential_members(text):
            text = mask_json_text(text, members=True, masked_credentials=self.masked_credentials)
        is_text = self.masked_credentials is not None and text.startswith('"')  # a request that is no JSON
        if text.startswith('{"base64":"'):
            mask = self.credentials.of_bytes()
            return mask_bytes(text, mask if self.masked_credentials is None and not self.failed else mask.on_errors)
        if self.failed or is_text:
            return mask_json_text(text, self.credentials.on_errors)
        return mask_json_text(text, self.credentials) if self.credentials.may_match(text) else text


def _may_hold_credentials(record: ProviderTrace) -> bool:
    """Whether a payload of ``record`` may hold what is masked in any case; recognised by members' names."""
    return record.status == "error" or any(
        text is not None and (text.startswith(('"', '{"base64":"')) or has_credential_members(text))
        for text in (record.request_json, record.response_json)
    )


def _clean_names(facts: dict[str, Any], credentials: ExactMask) -> None:
    """Mask whole keys, and the credentials of the call, in ids, names and tags; cut those that are too long."""
    lists: dict[str, tuple[str | None, ...]] = {key: tuple(value) for key in _NAME_LISTS if (value := facts.get(key))}
    facts |= lists
    texts: list[str] = list(filter(None, chain(map(facts.get, _TEXTS), *lists.values())))
    joined = "\n".join(texts)
    is_in = credentials.credentials and credentials.is_in(joined)
    if not is_in and max(map(len, texts), default=0) <= _SHORT and not any(map(may_hold_sign, texts)):
        return  # as in most calls
    for key in _TEXTS:
        if facts.get(key):
            facts[key] = _clean_name(facts[key], credentials)
    for key, items in lists.items():
        facts[key] = tuple([item and _clean_name(item, credentials) for item in items])


def _clean_name(name: str, credentials: ExactMask) -> str:
    if credentials.is_in(name) or may_hold_key(name):
        name = _result(lambda text: mask_names(credentials(text)), name, WITHHELD)
    return cut_text(name) if len(name) > _SHORT else name


def _withheld(record: ProviderTrace) -> ProviderTrace:
    """What is left of a record that could not be redacted: who, when, how much, and that there was an error."""
    values: dict[str, Any] = {**dict.fromkeys((*PAYLOAD_KEYS, *_FROM_CONTEXT)), "attributes": {}, "error_json": None}
    values["error_message"] = None if record.error_message is None else WITHHELD
    values["content"] = "truncated" if record.content == "truncated" else "metadata"
    names = {key: getattr(record, key) for key in (*_TEXTS, *_NAME_LISTS)}
    _clean_names(names, _NO_CREDENTIALS)
    return replace(record, **values, **names)


def _readable(value: Any) -> Any:
    """As much of ``value`` as is worth masking: more than is kept of it, so that no cut is at the end of what is."""
    return value if isinstance(value, str) else cut_json(value, 4 * MAX_JSON_BYTES)


def _result(function: Callable[[Any], Any], value: Any, default: Any) -> Any:
    """What ``function`` makes of ``value``; if it raises, ``otherwise``, counted and logged without the value."""
    results: list[Any] = []
    error = exception_of(lambda: results.append(function(value)))
    if error is None:
        return results[0]
    if not isinstance(error, Exception):
        raise error
    message = (
        str(error) if isinstance(error, RedactionError | SettingsError) else f"redaction raised {type(error).__name__}"
    )
    report_internal_error("content.redact", RedactionError(message))
    return default


def _without_media(text: str, limit: int) -> tuple[str, bool]:
    """JSON ``text`` in which base64 of more than ``limit`` bytes is described, and whether there was any."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text, False
    media = MediaDescriptions(limit)
    value = map_json(value, leaf=media.described)
    return (_json.dumps(value), True) if media.replaced_count else (text, False)
