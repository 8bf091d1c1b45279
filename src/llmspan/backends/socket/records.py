"""A record on the socket: the body of a v4 frame, and the line of v3.

In both, payloads are embedded as the bytes that they are. A v4 body leaves out what is None and has the payloads in
front, so that a reader gets their exact text without looking at each member.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from json.encoder import encode_basestring
from operator import attrgetter
from typing import Any, Final

from ... import _json
from ..._pace import yield_gil
from ...errors import PermanentError, RecordError
from ...span_record import SpanRecord, StoredItem
from ...trace import (
    _USAGE_KEYS,
    FAILED,
    KEYS,
    KINDS,
    PAYLOAD_KEYS,
    ProviderTrace,
    _format_time,
    _parse_time,
    datetime_of,
)

__all__ = ["decode_item", "decode_record", "encode_record", "encode_span", "v3_line", "without_payload"]

_FIELDS: Final = [key for key in KEYS if key not in (*PAYLOAD_KEYS, "id", "started_at")]
_PREFIXES: Final = [(f'"{key}":', key, KINDS[key]) for key in _FIELDS]
_values: Final = attrgetter(*(f"usage.{_USAGE_KEYS[key]}" if key in _USAGE_KEYS else key for key in _FIELDS))
_INTEGERS: Final = [key for key in KEYS if KINDS[key] == "integer"]
_EMPTY_BY_DEFAULT: Final = frozenset({"agent_tags", "attributes", "finish_reasons", "usage_details"})
_FRONT: Final = re.compile(r'"(type|seq|id|request_json|response_json)":(?=\S)')
_SPAN: Final = re.compile(rb'\{"type":"record","seq":[0-9]{1,18},"id":"[0-9a-f/]{49}","item":"span",')
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_LINE_BREAKS: Final = str.maketrans("\r\n", "  ")
_V3_ID: Final = "provider_trace-"


def encode_record(record: ProviderTrace) -> bytes:
    """The body of the record's frame: a JSON object without its opening brace.

    Raises:
        PermanentError: a number is not a whole number of 64 bits; the message names the record and the key.
    """
    yield_gil()
    parts = [f'"id":{encode_basestring(record.id)}']
    parts.extend(f'"{key}":{text}' for key in PAYLOAD_KEYS if (text := getattr(record, key)) is not None)
    _check_integer(record.id, "started_at", record.started_at)
    parts.append(f'"started_at":"{_format_time(record.started_at)}"')
    for (prefix, key, kind), value in zip(_PREFIXES, _values(record), strict=True):
        if value is None:
            continue
        if kind == "text":
            parts.append(prefix + encode_basestring(str(value)))
        elif kind == "integer":
            _check_integer(record.id, key, value)
            parts.append(f"{prefix}{value:d}")
        elif kind == "boolean":
            parts.append(prefix + ("true" if value else "false"))
        elif value or key not in _EMPTY_BY_DEFAULT:
            parts.append(prefix + _json.dumps(value))
    return _utf8(",".join(parts) + "}")


def decode_record(frame: bytes) -> ProviderTrace:
    """The record of a whole frame, payloads to the byte; the order of the members does not matter.

    Raises:
        RecordError: the frame holds no record; the message names the key or the place.
    """
    try:
        text = frame.decode().strip()
        values, at = _leading(text)
        members = _json.decoder.decode("{" + text[at:])
        values = values | members if members.keys().isdisjoint(PAYLOAD_KEYS) else _all(text)
        if values.get("started_at") is not None:
            values["started_at"] = _parse_time(values["started_at"])
    except (ValueError, RecursionError) as error:
        raise RecordError(f"not a provider trace: {error}") from error
    try:
        record = ProviderTrace.from_dict(values)
    except RecursionError:  # in the message about a value that is wrong and nested deeply
        raise RecordError("not a provider trace: a value has the wrong type and is nested too deep") from None
    for key in _INTEGERS:
        if (value := values.get(key)) is not None and not -(2**63) <= value < 2**63:
            raise RecordError(f"{key} is a number of {value.bit_length()} bits; a record holds those of 64")
    return record


def encode_span(span: SpanRecord) -> bytes:
    """The body of the frame of a span, whose first members, ``id`` and ``item``, tell it from a record."""
    yield_gil()
    return _utf8(span.to_json()[1:])


def decode_item(frame: bytes) -> StoredItem:
    """The record or the span of a whole frame.

    Raises:
        RecordError: the frame holds neither; the message names the key or the place.
    """
    if not _SPAN.match(frame):
        return decode_record(frame)
    try:
        values = json.loads(frame)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"not a span: {error}") from error
    return SpanRecord.from_dict(values)


def without_payload(record: ProviderTrace) -> ProviderTrace:
    """The record with its payloads gone and their sizes kept."""
    return replace(
        record,
        request_json=None,
        response_json=None,
        content="truncated",
        request_bytes=_size(record.request_bytes, record.request_json),
        response_bytes=_size(record.response_bytes, record.response_json),
    )


def v3_line(record: ProviderTrace) -> bytes:
    """The record as one line of the older protocol: 17 keys, a newline at the end.

    A record that failed or was cancelled has an ``error`` there, and then no ``response``: such a line has no other
    way to say so.
    """
    failed = record.status in FAILED or record.status == "cancelled"
    values = {
        "protocol_version": 3,
        "provider_trace_id": record.id if record.id.startswith(_V3_ID) else f"{_V3_ID}{record.id}",
        "agent_id": record.agent_id,
        "run_id": record.run_id,
        "step_id": record.step_id,
        "tags": list(record.agent_tags),
        "type": record.call_type or "agent_step",
        "source": record.source,
        "request": record.request_json or "{}",
        "response": "null" if failed else record.response_json or "{}",
        "error": (record.error_message or record.error_type or record.status) if failed else None,
        "error_type": (record.error_type or record.status) if failed else None,
        "timestamp": datetime_of(record.started_at + record.duration_ns).isoformat(),
        "org_id": record.org_id,
        "user_id": record.user_id,
        "compaction_settings": record.compaction_settings,
        "llm_config": record.llm_config,
    }
    # Between the tokens of a payload a line break is a space, and inside of JSON strings none can stand.
    members = (
        f'"{key}":{str(value).translate(_LINE_BREAKS) if key in ("request", "response") else _json.dumps(value)}'
        for key, value in values.items()
    )
    return _utf8("{" + ",".join(members) + "}\n")


def _leading(text: str) -> tuple[dict[str, Any], int]:
    """The members that :func:`encode_record` puts in front, payloads as text, and where the others begin.

    Nothing, if the text is spaced otherwise.
    """
    values: dict[str, Any] = {}
    at = 1
    while match := _FRONT.match(text, at):
        key = match[1]
        value, end = _json.decoder.raw_decode(text, match.end())
        values[key] = text[match.end() : end] if key in PAYLOAD_KEYS else value
        if text[end : end + 1] == "}":
            return values, end
        if text[end : end + 1] != ",":
            return {}, 1
        at = end + 1
    return values, at


def _all(text: str) -> dict[str, Any]:
    return {key: member if key in PAYLOAD_KEYS else value for key, value, member in _json.members(text)}


def _check_integer(record_id: str, key: str, value: Any) -> None:
    if not isinstance(value, int) or not -(2**63) <= value < 2**63:
        raise PermanentError(f"record {record_id}: {key} is {value!r:.80}, not a whole number of 64 bits")


def _size(stated: int | None, text: str | None) -> int | None:
    return stated if stated is not None or text is None else len(_utf8(text))


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:  # lone surrogates
        return _SURROGATE.sub("\ufffd", text).encode()
