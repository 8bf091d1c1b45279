"""A span as a flat row of texts and integers, and the SQL that stores of rows write and read spans with.

The columns of the table ``spans`` are those of :data:`llmspan.span_record.SPAN_COLUMNS`; maps are JSON text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from .. import _json
from ..errors import RecordError
from ..limits import MAX_JSON_BYTES, MAX_MESSAGE_BYTES, cut_json
from ..span_record import SPAN_COLUMNS, SpanRecord
from .query import Query, SqlDialect
from .rows import Cell, plain_text

__all__ = ["SPAN_COLUMNS", "decode_span", "encode_span", "spans_of_traces"]

_MAPS: Final = ("resource_attributes", "attributes")


def encode_span(span: SpanRecord) -> dict[str, Cell]:
    """The row of a span, one cell a column."""
    row: dict[str, Any] = span.to_dict()
    for name, value in row.items():
        if name in _MAPS:
            row[name] = _json.dumps(cut_json(value, MAX_JSON_BYTES))
        elif isinstance(value, str):
            row[name] = plain_text(value, MAX_MESSAGE_BYTES) if name == "status_message" else plain_text(value)
    return row


def decode_span(row: Mapping[str, Any]) -> SpanRecord:
    """The span of a row.

    Raises:
        RecordError: a cell is not what :func:`encode_span` would have put there.
    """
    values = dict(row)
    for name in _MAPS:
        try:
            members = json.loads(values[name])
            values[name] = {key: _text(value) for key, value in members.items()}
        except (ValueError, RecursionError, AttributeError) as error:
            raise RecordError(f"{name} of span {values.get('span_id')!r} is no JSON object: {error}") from error
    return SpanRecord.from_dict(values)


def spans_of_traces(dialect: SqlDialect, trace_ids: Sequence[str], limit: int) -> Query:
    """The spans of these traces in the table of ``dialect``, the earliest first."""
    values: dict[str, Cell] = {f"trace_{at}": plain_text(name) for at, name in enumerate(trace_ids)}
    marks = ", ".join(dialect.parameter(name, value) for name, value in values.items())
    return Query(
        f"SELECT {dialect.select(SPAN_COLUMNS)} FROM {dialect.table} WHERE trace_id IN ({marks})"  # noqa: S608 - all ours
        f" ORDER BY {dialect.started_at}, span_id LIMIT {limit:d}",
        values,
    )


def _text(value: Any) -> str:
    return value if isinstance(value, str) else _json.dumps(value)
