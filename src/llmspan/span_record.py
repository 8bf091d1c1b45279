"""``SpanRecord``: one OpenTelemetry span that is stored beside the records, with the columns of ``otel_traces``.

The Collector's ClickHouse exporter defines these columns, and every store has them. Such a span gives calls their place
between agents, tools and servers. It is never one of a call, and never carries the usage of one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, Literal, get_args

from . import _json
from .errors import RecordError
from .printable import json_printable
from .trace import ProviderTrace

__all__ = ["SPAN_COLUMNS", "SpanRecord", "SpanStatus", "StoredItem", "item_from_json", "without_attributes"]

SpanStatus = Literal["Unset", "Ok", "Error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpanRecord:
    """A span that has ended. Times are nanoseconds, ``started_at`` since the epoch, UTC; attributes are texts."""

    trace_id: str
    span_id: str
    parent_span_id: str | None = None
    trace_state: str = ""
    name: str
    #: ``Internal``, ``Server``, ``Client``, ``Producer``, ``Consumer`` or ``Unspecified``
    kind: str = "Internal"
    service_name: str = ""
    resource_attributes: Mapping[str, str] = field(default_factory=dict[str, str])
    scope_name: str = ""
    scope_version: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict[str, str])
    started_at: int
    duration_ns: int
    status_code: SpanStatus = "Unset"
    status_message: str = ""

    @property
    def id(self) -> str:
        """What tells it from all other items: the trace and the span."""
        return f"{self.trace_id}/{self.span_id}"

    def to_dict(self) -> dict[str, Any]:
        """All :data:`SPAN_COLUMNS` with plain values."""
        values = {name: getattr(self, name) for name in SPAN_COLUMNS}
        return values | {name: dict(values[name]) for name in _MAPS}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SpanRecord:
        """The inverse of :meth:`to_dict`; other keys are ignored.

        Raises:
            RecordError: a value is missing or has the wrong type; the message names it.
        """
        present = {name: values[name] for name in SPAN_COLUMNS if values.get(name) is not None}
        if missing := [name for name in _REQUIRED if name not in present]:
            raise RecordError(f"not a span: no value for {', '.join(missing)}")
        for name, value in present.items():
            if not _is_valid(name, value):
                raise RecordError(f"not a span: {name} is {value!r:.80}")
        return cls(**present)

    def to_json(self) -> str:
        """One JSON object, which :func:`item_from_json` tells from that of a record."""
        return _json.dumps({"id": self.id, "item": "span", **self.to_dict()})

    def to_json_line(self) -> str:
        """:meth:`to_json` on one line, without a control character."""
        return json_printable(self.to_json())


#: what waits in queues and in the spool, and goes to backends
StoredItem = ProviderTrace | SpanRecord

#: the names of the columns, in their order
SPAN_COLUMNS: Final = tuple(f.name for f in fields(SpanRecord))

_MAPS: Final = ("resource_attributes", "attributes")
_INTEGERS: Final = ("started_at", "duration_ns")
_REQUIRED: Final = ("trace_id", "span_id", "name", "started_at", "duration_ns")
_IDS: Final = {
    "trace_id": re.compile("[0-9a-f]{32}"),
    "span_id": re.compile("[0-9a-f]{16}"),
    "parent_span_id": re.compile("[0-9a-f]{16}"),
}
_HEAD: Final = re.compile(rb'\{"id":"[0-9a-f/]{49}","item":"span",')


def item_from_json(text: bytes) -> StoredItem:
    """The record or the span that ``to_json`` of either wrote.

    Raises:
        RecordError: it is neither.
    """
    if not _HEAD.match(text):
        return ProviderTrace.from_json(text)
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"not a span: {error}") from error
    return SpanRecord.from_dict(values)


def without_attributes(span: SpanRecord) -> SpanRecord | None:
    """The span with nothing but what makes the tree; None if there is nothing else."""
    if not span.attributes and not span.resource_attributes:
        return None
    return replace(span, attributes={}, resource_attributes={})


def _is_valid(name: str, value: Any) -> bool:
    if name in _INTEGERS:
        return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63
    if name in _MAPS:
        return isinstance(value, Mapping) and all(isinstance(text, str) for item in value.items() for text in item)
    if name == "status_code":
        return value in get_args(SpanStatus)
    return isinstance(value, str) and (name not in _IDS or bool(_IDS[name].fullmatch(value)))
