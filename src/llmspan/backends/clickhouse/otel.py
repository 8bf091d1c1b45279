"""A record as a row of ``otel_traces``, and the view that makes records of the rows that came through a Collector.

The table is that of the Collector's ClickHouse exporter: attributes are text there, lists JSON text, as in Go. The view
reads them by the same names as :func:`llmspan.semconv.from_span`, and gives a span without a record id the same id.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, get_args

from ... import _json, semconv
from ..._version import __version__
from ...span_record import SpanRecord, SpanStatus
from ...trace import KEYS, KINDS, ProviderTrace, RecordStatus
from ...usage import UsageSource
from ..rows import plain_text
from ..span_rows import encode_span

__all__ = [
    "BETWEEN_CALLS",
    "OTEL_COLUMNS",
    "SPAN_SELECTION",
    "WRITTEN_SPAN",
    "otel_rows",
    "record_id",
    "span_of",
    "span_rows",
    "view_columns",
    "view_condition",
]

#: the columns of ``otel_traces`` that a record fills; a record has neither events nor links
OTEL_COLUMNS: Final = (
    "Timestamp", "TraceId", "SpanId", "ParentSpanId", "TraceState", "SpanName", "SpanKind", "ServiceName",
    "ResourceAttributes", "ScopeName", "ScopeVersion", "SpanAttributes", "Duration", "StatusCode", "StatusMessage",
)  # fmt: skip

#: on the spans that a backend wrote: the record itself is there already
_WRITTEN: Final = "llmspan.written"
#: operations that are one call of a model; the spans of agents and workflows repeat the sums of theirs
_MODEL_CALLS: Final = ("chat", "text_completion", "generate_content", "embeddings")
_LAST_SECOND: Final = 4_102_444_800_000_000_000
_LONGEST: Final = 2**63 - 1


def otel_rows(traces: Sequence[ProviderTrace]) -> list[list[Any]]:
    """A row for each record that is new in ``traces``."""
    return list({record.id: _row(record) for record in reversed(traces)}.values())[::-1]


def _row(record: ProviderTrace) -> list[Any]:
    attributes = {plain_text(name): _text(value) for name, value in semconv.to_attributes(record).items()}
    source = plain_text(record.source or "")
    return [
        max(0, min(record.started_at, _LAST_SECOND)),
        plain_text(record.trace_id or ""),
        plain_text(record.span_id or ""),
        plain_text(record.parent_span_id or ""),
        "",
        plain_text(semconv.span_name(record.operation, record.request_model)),
        "Client",
        source,
        {"service.name": source} if source else {},
        "llmspan",
        __version__,
        attributes | {_WRITTEN: "true"},
        max(0, min(record.duration_ns, _LONGEST)),
        "Error" if record.status == "error" else "Unset",
        plain_text(record.error_message or ""),
    ]


def span_rows(spans: Sequence[SpanRecord]) -> list[list[Any]]:
    """A row for each span that is new in ``spans``; the view makes no record of it, whatever it is."""
    return [_span_row(span) for span in {span.id: span for span in reversed(spans)}.values()][::-1]


def _span_row(span: SpanRecord) -> list[Any]:
    cells = encode_span(span)
    maps = (json.loads(str(cells[name])) for name in ("resource_attributes", "attributes"))
    resource_attributes, attributes = ({name: _text(value) for name, value in values.items()} for values in maps)
    return [
        max(0, min(span.started_at, _LAST_SECOND)),
        cells["trace_id"],
        cells["span_id"],
        cells["parent_span_id"] or "",
        cells["trace_state"],
        cells["name"],
        cells["kind"],
        cells["service_name"],
        resource_attributes,
        cells["scope_name"],
        cells["scope_version"],
        attributes | {_WRITTEN: "true"},
        max(0, min(span.duration_ns, _LONGEST)),
        cells["status_code"],
        cells["status_message"],
    ]


def span_of(row: Mapping[str, Any]) -> SpanRecord:
    """The span of a row with the columns of :data:`SPAN_SELECTION`."""
    values = dict(row)
    for name in ("resource_attributes", "attributes"):
        values[name] = {str(key): str(value) for key, value in values[name].items() if key != _WRITTEN}
    values["parent_span_id"] = values["parent_span_id"] or None
    if values["status_code"] not in get_args(SpanStatus):
        values["status_code"] = "Unset"
    return SpanRecord.from_dict(values)


#: the columns of a span under the names of :class:`SpanRecord`
SPAN_SELECTION: Final = ", ".join(
    f"{column} AS {name}"
    for name, column in {
        "trace_id": "TraceId", "span_id": "SpanId", "parent_span_id": "ParentSpanId", "trace_state": "TraceState",
        "name": "SpanName", "kind": "SpanKind", "service_name": "ServiceName",
        "resource_attributes": "ResourceAttributes", "scope_name": "ScopeName", "scope_version": "ScopeVersion",
        "attributes": "SpanAttributes", "started_at": "toUnixTimestamp64Nano(Timestamp)",
        "duration_ns": "toInt64(Duration)", "status_code": "StatusCode", "status_message": "StatusMessage",
    }.items()
)  # fmt: skip
#: rows that are spans of our own beside the records, and not of a call
WRITTEN_SPAN: Final = (
    f"mapContains(SpanAttributes, '{_WRITTEN}') AND NOT mapContains(SpanAttributes, '{semconv.RECORD_ID}')"
)
#: rows that are no call's own
BETWEEN_CALLS: Final = f"NOT mapContains(SpanAttributes, '{semconv.RECORD_ID}')"


def _text(value: Any) -> str:
    """A value as the Collector writes it."""
    if isinstance(value, str):
        return plain_text(value)
    return _json.dumps(list(value) if isinstance(value, tuple) else value)


# -- the view


def view_condition() -> str:
    """Which rows are calls of a model, and not yet records."""
    operations = ", ".join(_quoted(name) for name in _MODEL_CALLS)
    has_record_id = f"mapContains(SpanAttributes, {_quoted(semconv.RECORD_ID)})"
    return (
        f"({has_record_id} OR SpanAttributes[{_quoted(semconv.OPERATION)}] IN ({operations}))"
        f" AND NOT mapContains(SpanAttributes, {_quoted(_WRITTEN)})"
    )


def record_id() -> str:
    """The id of the record that a row of ``otel_traces`` is, or is made into."""
    return _shaped()["id"]


def view_columns() -> str:
    """The expressions of the record's keys, one a line."""
    shaped = _shaped()
    columns = {key: shaped.get(key) or _plain(key) for key in KEYS if key in shaped or _name(key) is not None}
    return ",\n    ".join(f"{expression} AS {key}" for key, expression in columns.items())


def _shaped() -> Mapping[str, str]:
    """The keys that are not simply an attribute."""
    status = _one_of(str(_name("status")), get_args(RecordStatus))
    source = _one_of(semconv._USAGE_SOURCE, get_args(UsageSource))
    counted = " OR ".join(f"isNotNull({_plain(key)})" for key in semconv._FIVE)
    return {
        "id": f"coalesce({_plain('id')}, {_ID})",
        "trace_id": "nullIf(TraceId, '')",
        "span_id": "nullIf(SpanId, '')",
        "parent_span_id": "nullIf(ParentSpanId, '')",
        "agent_tags": f"JSONExtract({_value(semconv._TAGS)}, 'Array(String)')",
        "source": f"coalesce({_plain('source')}, nullIf(ServiceName, ''))",
        "attributes": _object(
            f"startsWith(kv.1, {_quoted(semconv._CUSTOM_PREFIX)})", _behind("kv.1", semconv._CUSTOM_PREFIX),
            "toJSONString(kv.2)",
        ),
        "provider": f"coalesce({_plain('provider')}, 'unknown')",
        "operation": _value(semconv.OPERATION),
        "api": f"coalesce({_plain('api')}, {_attribute('openai.api.type')}, {_value(semconv.OPERATION)})",
        "stream": f"{_value(semconv.STREAM)} = 'true'",
        "status": f"coalesce({status}, if(isNull({_plain('error_type')}), 'ok', 'error'))",
        "finish_reasons": f"arrayMap(reason -> nullIf(reason, 'error'), JSONExtract(coalesce("
                          f"{_attribute(semconv.RAW_FINISH_REASONS)}, {_value(semconv.FINISH_REASONS)}),"
                          " 'Array(String)'))",
        "error_type": f"coalesce({_plain('error_type')}, {_attribute(semconv.CANCELLED_BY)})",
        "error_message": f"coalesce({_plain('error_message')}, nullIf(StatusMessage, ''))",
        "started_at": "toUnixTimestamp64Nano(Timestamp)",
        "duration_ns": "toInt64(Duration)",
        "time_to_first_chunk_ns": f"toInt64(round(toFloat64OrNull({_value(semconv._FIRST_CHUNK)}) * 1e9))",
        "usage_details": _details(),
        "usage_source": f"coalesce({source}, if({counted}, 'provider', 'none'))",
        "content": "'metadata'",
    }  # fmt: skip


def _name(key: str) -> str | None:
    return semconv._SAME.get(key) or semconv._FIVE.get(key)


def _plain(key: str) -> str:
    """The value of a key that is an attribute, under its name or an older one; NULL where there is none."""
    name = str(_name(key))
    names = [name, *(old for old, new in semconv._OLD_NAMES.items() if new == name)]
    expression = _number if KINDS[key] == "integer" else _attribute
    return expression(name) if len(names) == 1 else f"coalesce({', '.join(expression(source) for source in names)})"


def _details() -> str:
    detail_names = semconv._DETAIL_OF
    names, keys = (", ".join(_quoted(text) for text in texts) for texts in (detail_names, detail_names.values()))
    counted = f"(startsWith(kv.1, {_quoted(semconv._USAGE_PREFIX)}) OR kv.1 IN ({names}))"
    key = f"transform(kv.1, [{names}], [{keys}], {_behind('kv.1', semconv._USAGE_PREFIX)})"
    return _object(f"{counted} AND isNotNull(toInt64OrNull(kv.2))", key, "toString(toInt64OrZero(kv.2))")


def _object(condition: str, key: str, value: str) -> str:
    """A JSON object of the attributes that are meant; ``kv`` is one of them."""
    matching = f"arrayFilter(kv -> {condition}, CAST(SpanAttributes, 'Array(Tuple(String, String))'))"
    members = f"arrayMap(kv -> concat(toJSONString({key}), ':', {value}), {matching})"
    return f"concat('{{', arrayStringConcat({members}, ','), '}}')"


def _behind(text: str, prefix: str) -> str:
    return f"substring({text}, {len(prefix) + 1})"


def _attribute(name: str) -> str:
    return f"if(mapContains(SpanAttributes, {_quoted(name)}), {_value(name)}, NULL)"


def _one_of(name: str, values: Sequence[str]) -> str:
    return f"if({_value(name)} IN ({', '.join(_quoted(value) for value in values)}), {_value(name)}, NULL)"


def _number(name: str) -> str:
    return f"toInt64OrNull({_value(name)})"


def _value(name: str) -> str:
    return f"SpanAttributes[{_quoted(name)}]"


def _quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


# A UUID of version 5 in the namespace of object ids, of "trace/span" in hexadecimal without leading zeros.
_NAME: Final = "concat(trimLeft(TraceId, '0'), '/', trimLeft(SpanId, '0'))"
_HASH: Final = f"substring(SHA1(concat(unhex('6ba7b8129dad11d180b400c04fd430c8'), {_NAME})), 1, 16)"
_BITS: Final = (
    f"concat(substring({_HASH}, 1, 6),"
    f" char(bitOr(bitAnd(reinterpretAsUInt8(substring({_HASH}, 7, 1)), 15), 80)), substring({_HASH}, 8, 1),"
    f" char(bitOr(bitAnd(reinterpretAsUInt8(substring({_HASH}, 9, 1)), 63), 128)), substring({_HASH}, 10))"
)
_ID: Final = f"UUIDNumToString(toFixedString({_BITS}, 16))"
