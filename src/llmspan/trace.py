"""``ProviderTrace``: the record of one call, and its one JSON form.

A record is frozen and complete: it is made once, after the call has ended. ``id`` (a UUIDv7) is the idempotency
key: however often a record is delivered, a store holds it once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from operator import attrgetter, itemgetter
from types import NoneType, UnionType
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

from . import _json
from ._clock import SECOND
from ._ids import new_id
from ._unchecked import unchecked_constructor
from .errors import RecordError
from .notebook_html import facts_table
from .printable import json_printable
from .usage import Usage, UsageSource

__all__ = [
    "FAILED",
    "KEYS",
    "KINDS",
    "PAYLOAD_KEYS",
    "SCHEMA_VERSION",
    "Content",
    "Kind",
    "ProviderTrace",
    "RecordStatus",
    "datetime_of",
    "nanoseconds_of",
    "new_id",
]

SCHEMA_VERSION: Final = 1

#: ``ok`` the provider said that it was done; ``error`` the caller got an exception or the provider reported a
#: failure; ``cancelled`` the caller's task or program was interrupted; ``closed_early`` the caller stopped reading;
#: ``incomplete`` the bytes ended, without an exception, before the provider said that it was done.
RecordStatus = Literal["ok", "error", "cancelled", "closed_early", "incomplete"]
#: ``full`` request and response are here; ``metadata`` they are not; ``truncated`` they were cut to fit a limit.
Content = Literal["full", "metadata", "truncated"]

#: what counts as a failure: not what the caller chose (``cancelled``, ``closed_early``)
FAILED: Final[tuple[RecordStatus, ...]] = ("error", "incomplete")
#: What a key's value is. A ``list`` holds texts, a ``map`` is an object, ``json`` is any JSON value.
Kind = Literal["text", "integer", "boolean", "list", "map", "json"]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ProviderTrace:
    """One call to a provider. ``None`` means not known or not reported, never zero.

    Times are integer nanoseconds (``started_at`` since the Unix epoch, UTC). ``request_json`` and ``response_json``
    are JSON *text* in the provider's own shape; a streamed response is reassembled into what the non-streaming call
    would have returned. ``error_json``, ``llm_config``, ``compaction_settings``, ``billing_context`` are JSON values.
    """

    # identity
    id: str
    trace_id: str | None = None
    span_id: str | None = None
    parent_span_id: str | None = None
    schema_version: int = SCHEMA_VERSION
    # who
    step_id: str | None = None
    run_id: str | None = None
    agent_id: str | None = None
    conversation_id: str | None = None
    user_id: str | None = None
    org_id: str | None = None
    agent_tags: tuple[str, ...] = ()
    call_type: str | None = None
    source: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict[str, Any])
    # what
    provider: str
    operation: str
    api: str
    request_model: str | None = None
    response_model: str | None = None
    response_id: str | None = None
    request_id: str | None = None
    stream: bool = False
    service_tier: str | None = None
    server_address: str | None = None
    server_port: int | None = None
    sdk: str | None = None
    # outcome
    status: RecordStatus
    finish_reasons: tuple[str | None, ...] = ()
    error_type: str | None = None
    error_message: str | None = None
    error_json: Any = None
    http_status: int | None = None
    attempts: int | None = None
    # time
    started_at: int
    duration_ns: int
    time_to_first_chunk_ns: int | None = None
    chunk_count: int | None = None
    # usage: input_tokens ... usage_raw in every store
    usage: Usage = field(default_factory=Usage)
    # payload
    request_json: str | None = None
    response_json: str | None = None
    content: Content = "metadata"
    request_bytes: int | None = None
    response_bytes: int | None = None
    # context of the program around the call
    llm_config: Any = None
    compaction_settings: Any = None
    billing_context: Any = None

    @classmethod
    def of_fields(cls, values: Mapping[str, Any]) -> ProviderTrace:
        """The record with these values, one for each field; others are ignored, and none is checked.

        In a fraction of the constructor's time: a record is made of every call.

        Raises:
            KeyError: a field has no value.
        """
        return _record_of(_field_values(values))

    @property
    def started(self) -> datetime:
        """``started_at`` as an aware UTC datetime (microseconds: Python's datetime has no nanoseconds)."""
        return datetime_of(self.started_at)

    def __repr__(self) -> str:
        """What tells the call from others; :meth:`to_dict` has all values."""
        model, usage = self.response_model or self.request_model, self.usage
        return (
            f"ProviderTrace(id={self.id!r}, provider={self.provider!r}, operation={self.operation!r}, model={model!r},"
            f" status={self.status!r}, started={_format_time(self.started_at)}, input_tokens={usage.input_tokens},"
            f" output_tokens={usage.output_tokens}, ...)"
        )

    def _repr_html_(self) -> str:
        """What a notebook shows: the values that there are, and the payloads to be opened."""
        values = self.to_dict() | {"started_at": _format_time(self.started_at)}
        payloads = {key: values.pop(key) for key in PAYLOAD_KEYS}
        return facts_table(values, payloads)

    def to_dict(self) -> dict[str, Any]:
        """All :data:`KEYS`, flat, with plain values; payloads stay JSON text, ``started_at`` an integer."""
        return dict(zip(KEYS, _in_order(self.flat_values()), strict=True))

    def flat_values(self) -> dict[str, Any]:
        """As :meth:`to_dict`, in any order, which takes half of the time."""
        values: dict[str, Any] = dict(zip(_UNORDERED_KEYS, _values(self) + _usage_values(self.usage), strict=True))
        values["agent_tags"] = list(self.agent_tags)
        values["finish_reasons"] = list(self.finish_reasons)
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ProviderTrace:
        """The inverse of :meth:`to_dict`; unknown keys are ignored (a newer writer), None and missing are the default.

        Raises:
            RecordError: a required key is missing or a value has the wrong type; the message names it.
        """
        present = {key: values[key] for key in KEYS if values.get(key) is not None}
        missing = [key for key in _REQUIRED if key not in present]
        if missing:
            raise RecordError(f"not a provider trace: no value for {', '.join(missing)}")
        for key, value in present.items():
            _check(key, value)
        present |= {key: tuple(present[key]) for key in ("agent_tags", "finish_reasons") if key in present}
        usage = {name: present.pop(key) for key, name in _USAGE_KEYS.items() if key in present}
        return cls(**present, usage=Usage(**usage))

    def to_json(self) -> str:
        """The canonical JSON text: one object, :data:`KEYS` in order, payloads embedded exactly as they are."""
        values = self.to_dict()
        values["started_at"] = _format_time(self.started_at)
        payload = {key: values.pop(key) for key in PAYLOAD_KEYS}
        head = _json.dumps(values)[:-1]
        return head + "".join(f',"{key}":{text or "null"}' for key, text in payload.items()) + "}"

    def to_json_line(self) -> str:
        """:meth:`to_json` on one line, for JSON Lines and terminals: the same values, without a control character.

        Providers indent their JSON, and a payload is kept as it was sent. White space becomes spaces; what ends a line
        or controls a terminal can otherwise only stand in a string, where its escape means the same.
        """
        return json_printable(self.to_json())

    @classmethod
    def from_json(cls, text: str | bytes) -> ProviderTrace:
        """Read :meth:`to_json`'s form back, payloads to the byte.

        Raises:
            RecordError: the text is not JSON, not an object, or not a record.
        """
        try:
            source = text if isinstance(text, str) else text.decode()
            values: dict[str, Any] = {}
            for key, value, member in _json.members(source):
                values[key] = (None if value is None else member) if key in PAYLOAD_KEYS else value
            if values.get("started_at") is not None:
                values["started_at"] = _parse_time(values["started_at"])
        except (ValueError, RecursionError) as error:
            raise RecordError(f"not a provider trace: {error}") from error
        return cls.from_dict(values)


_FIELDS: Final = tuple(field.name for field in fields(ProviderTrace))
_field_values: Final = itemgetter(*_FIELDS)
_record_of: Final = unchecked_constructor(ProviderTrace)

PAYLOAD_KEYS: Final = ("request_json", "response_json")

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_USAGE_KEYS: Final = {
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cache_read_tokens": "cache_read_tokens",
    "cache_write_tokens": "cache_write_tokens",
    "reasoning_tokens": "reasoning_tokens",
    "usage_details": "details",
    "usage_source": "source",
    "usage_raw": "raw",
}
_REQUIRED: Final = ("id", "provider", "operation", "api", "status", "started_at", "duration_ns")
_CHOICES: Final = {
    "status": get_args(RecordStatus), "content": get_args(Content), "usage_source": get_args(UsageSource),
}  # fmt: skip
_Types = tuple[type, ...]
_ITEMS: Final[dict[str, tuple[_Types, str]]] = {
    "agent_tags": ((str,), "texts"),
    "finish_reasons": ((str, NoneType), "texts"),
    "usage_details": ((int,), "whole numbers"),
}
_KIND_OF_TYPE: Final[dict[Any, Kind]] = {
    str: "text", Literal: "text", int: "integer", bool: "boolean", tuple: "list", Mapping: "map", Any: "json",
}  # fmt: skip
_TYPES: Final[dict[Kind, tuple[_Types, str]]] = {
    "text": ((str,), "text"),
    "integer": ((int,), "a whole number"),
    "boolean": ((bool,), "true or false"),
    "list": ((list, tuple), "a list"),
    "map": ((Mapping,), "an object"),
    "json": ((object,), "a JSON value"),
}
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z", re.ASCII)


def _keys() -> tuple[str, ...]:
    names: list[str] = []
    for f in fields(ProviderTrace):
        names.extend(_USAGE_KEYS if f.name == "usage" else [f.name])
    payload = [name for name in names if name in PAYLOAD_KEYS]
    return (*(name for name in names if name not in PAYLOAD_KEYS), *payload)


#: The record's keys, in the order of the canonical JSON form; the same in every store. Payloads come last.
KEYS: Final = _keys()
_PLAIN_FIELDS: Final = tuple(name for name in _FIELDS if name != "usage")
_UNORDERED_KEYS: Final = (*_PLAIN_FIELDS, *_USAGE_KEYS)
_values: Final[Callable[[ProviderTrace], tuple[Any, ...]]] = attrgetter(*_PLAIN_FIELDS)
_in_order: Final = itemgetter(*KEYS)
_usage_values: Final = attrgetter(*_USAGE_KEYS.values())


def _kinds() -> dict[str, Kind]:
    hints = get_type_hints(ProviderTrace)
    usage = get_type_hints(Usage)
    hints |= {key: usage[name] for key, name in _USAGE_KEYS.items()}
    return {key: _kind(hints[key]) for key in KEYS}


def _kind(hint: Any) -> Kind:
    if isinstance(hint, UnionType):
        hint = next(part for part in get_args(hint) if part is not NoneType)
    return _KIND_OF_TYPE[get_origin(hint) or hint]


#: What the value of each key is; None is possible beside it for every key that has no other default.
KINDS: Final = _kinds()


def datetime_of(nanoseconds: int) -> datetime:
    """Nanoseconds since the epoch as an aware UTC datetime, cut to microseconds."""
    return _EPOCH + timedelta(microseconds=nanoseconds // 1000)


def nanoseconds_of(moment: datetime) -> int:
    """``moment`` in nanoseconds since the epoch; without a time zone it is local time.

    Only with integers: a float has no room for the microseconds of today, and ``int()`` of a negative one cuts upwards.
    """
    aware = moment if moment.tzinfo is not None else moment.astimezone()
    return (aware - _EPOCH) // timedelta(microseconds=1) * 1000


def _format_time(nanoseconds: int) -> str:
    minutes, rest = divmod(nanoseconds, 60_000_000_000)
    seconds, fraction = divmod(rest, SECOND)
    return f"{_format_minute(minutes)}:{seconds:02d}.{fraction:09d}Z"


@lru_cache(64)
def _format_minute(minutes: int) -> str:
    # Records of one minute mostly come one after the other, and to format a date takes longer than all the rest.
    return (_EPOCH + timedelta(minutes=minutes)).isoformat()[:16]


def _parse_time(value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if not isinstance(value, str) or not _TIME.fullmatch(value):
        raise ValueError(f"started_at is {value!r:.80}, not a time such as 2026-01-31T12:00:00.000000000Z")
    main, _, fraction = value.removesuffix("Z").partition(".")
    try:
        whole_seconds = datetime.fromisoformat(main).replace(tzinfo=UTC)
    except ValueError as error:
        raise ValueError(f"started_at is {value!r}: {error}") from None
    seconds = (whole_seconds - _EPOCH) // timedelta(seconds=1)
    return seconds * SECOND + int((fraction or "0").ljust(9, "0"))


def _check(key: str, value: Any) -> None:
    """Raise :class:`RecordError` unless ``value`` is one that ``key`` can have."""
    allowed, expected = _TYPES[KINDS[key]]
    if not _is(value, allowed):
        raise RecordError(f"{key} is {value!r:.80}; it must be {expected}")
    if key in _ITEMS:
        allowed, expected = _ITEMS[key]
        items = value.values() if KINDS[key] == "map" else value
        if not all(_is(item, allowed) for item in items):
            raise RecordError(f"{key} is {value!r:.80}; its values must be {expected}")
    if key in _CHOICES and value not in _CHOICES[key]:
        raise RecordError(f"{key} is {value!r:.80}; it must be one of {', '.join(_CHOICES[key])}")


def _is(value: object, allowed: _Types) -> bool:
    return isinstance(value, allowed) and (not isinstance(value, bool) or int not in allowed)
