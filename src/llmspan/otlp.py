"""OTLP export whose requests fit: batches are split by encoded bytes, and spans too large for one are cut.

A batch of 512 spans that carry message content is larger than the 4 MiB that a gRPC receiver takes; it is refused
whole, and retried in vain. The size of a span is bounded from above without encoding it, so that nothing is encoded
twice. The records of trace backends do not pass here and are never cut to the limits of OTLP.
"""

from __future__ import annotations

import importlib
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from . import _json
from ._guard import guarded
from ._log import WarningsOnce
from ._native import Lock
from .errors import SettingsError
from .limits import truncated
from .settings import Settings

__all__ = ["OTLPSpanExporter", "SizeLimitedSpanExporter", "oversize_warning", "size_of", "size_of_origin"]

logger = logging.getLogger("llmspan")

MAX_BYTES: Final = 4_000_000
MAX_SPAN_BYTES: Final = 256 * 1024
#: on a span that was cut: how many bytes of attributes are not there
CUT_BYTES: Final = "llmspan.otlp.cut_bytes"

#: a protobuf field number and a length, at most
_FIELD: Final = 7
#: the parts of a span whose size is fixed: ids, times, kind, flags, status code, counts of what was dropped
_SPAN: Final = 128
#: what is left of a value, at least: room for the note that it was cut
_LEAST: Final = 128

_MODULES: Final = {
    "grpc": "opentelemetry.exporter.otlp.proto.grpc.trace_exporter",
    "http/protobuf": "opentelemetry.exporter.otlp.proto.http.trace_exporter",
}
#: exporters that send a batch in one request, however large it is
_UNLIMITED: Final = frozenset({"otlp", "otlp_proto_grpc", "otlp_proto_http"})


class SizeLimitedSpanExporter(SpanExporter):
    """Hands spans to another exporter in batches of bounded encoded size.

    Args:
        exporter: the exporter that sends them.
        max_bytes: the largest request, in bytes before compression.
        max_span_bytes: the largest span; the longest attributes of a larger one are cut, JSON text stays JSON.
    """

    def __init__(
        self, exporter: SpanExporter, *, max_bytes: int = MAX_BYTES, max_span_bytes: int = MAX_SPAN_BYTES
    ) -> None:
        self._exporter = exporter
        self._max_bytes = max_bytes
        self._max_span_bytes = max_span_bytes
        self._warnings = WarningsOnce()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send all batches; FAILURE if one of them failed. The others have been sent all the same."""
        result = SpanExportResult.SUCCESS
        for batch in self._batches(spans):
            if self._exporter.export(batch) is not SpanExportResult.SUCCESS:
                result = SpanExportResult.FAILURE
        return result

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Have the other exporter do it."""
        return self._exporter.force_flush(timeout_millis)

    def shutdown(self) -> None:
        """Shut the other exporter down."""
        self._exporter.shutdown()

    def _batches(self, spans: Sequence[ReadableSpan]) -> Iterator[list[ReadableSpan]]:
        batch: list[ReadableSpan] = []
        origins: set[tuple[int, int]] = set()  # resources and scopes that this batch has: each is sent once
        total = 0
        for span in spans:
            origin = (id(span.resource), id(span.instrumentation_scope))
            about = size_of_origin(span)
            span, size = self._fitted(span, about)
            added = size if origin in origins else size + about
            if batch and total + added > self._max_bytes:
                yield batch
                batch, origins, total, added = [], set(), 0, size + about
            batch.append(span)
            origins.add(origin)
            total += added
        if batch:
            yield batch

    def _fitted(self, span: ReadableSpan, about: int) -> tuple[ReadableSpan, int]:
        size = size_of(span)
        limit = min(self._max_span_bytes, self._max_bytes - about)
        if size <= limit:
            return span, size
        smaller = guarded("otlp.cut", _cut, span, size, limit) or span
        self._warnings.warn(
            "llmspan: span %r has %d bytes, more than the %d that LLMSPAN_OTLP_MAX_SPAN_BYTES and"
            " LLMSPAN_OTLP_MAX_BYTES allow; its longest attributes are cut, and so are those of later ones."
            " Message content on spans does not fit into OTLP: the whole of it is in the records of"
            " LLMSPAN_BACKENDS. To keep it off spans, set"
            " OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=NO_CONTENT.",
            span.name,
            size,
            limit,
        )
        return smaller, size_of(smaller)


class OTLPSpanExporter(SpanExporter):
    """The OTLP exporter of the OpenTelemetry SDK, with bounded requests. Entry point ``llmspan_otlp``.

    It obeys the ``OTEL_EXPORTER_OTLP_*`` variables. Making one neither connects nor raises: an exporter that fails to
    construct would switch off all of auto-instrumentation.

    Args:
        protocol: ``grpc`` or ``http/protobuf``; otherwise ``OTEL_EXPORTER_OTLP_TRACES_PROTOCOL``,
            ``OTEL_EXPORTER_OTLP_PROTOCOL``, ``grpc``.
        max_bytes: the largest request; ``LLMSPAN_OTLP_MAX_BYTES`` if not given.
        max_span_bytes: the largest span; ``LLMSPAN_OTLP_MAX_SPAN_BYTES`` if not given.
        options: for the SDK's exporter: ``endpoint``, ``headers``, ``timeout``, ...
    """

    def __init__(
        self,
        protocol: str | None = None,
        max_bytes: int | str | None = None,
        max_span_bytes: int | str | None = None,
        **options: Any,
    ) -> None:
        options_by_name: dict[str, Any] = {
            "otel_exporter_otlp_traces_protocol": protocol,
            "otlp_max_bytes": max_bytes,
            "otlp_max_span_bytes": max_span_bytes,
        }
        self._options = options
        self._lock = Lock()
        self._exporter: SpanExporter | None = None
        self._settings: Settings | None = None
        self._closed = False
        try:
            self._settings = Settings.from_env(**options_by_name)
        except SettingsError as error:
            _log_error(str(error))

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send the spans, in as many requests as it takes."""
        exporter = self._opened()
        return SpanExportResult.FAILURE if exporter is None else exporter.export(spans)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:  # noqa: ARG002
        """There is nothing queued here."""
        return True

    def shutdown(self) -> None:
        """Close the connection; a request under way is given up."""
        with self._lock:
            self._closed = True
            if self._exporter is not None:
                self._exporter.shutdown()

    def _opened(self) -> SpanExporter | None:
        """The exporter, made when the first spans come: after a fork, and where an error can be logged."""
        with self._lock:
            settings = self._settings
            if self._exporter is None and settings is not None and not self._closed:
                self._exporter = _make(settings, self._options)
                if self._exporter is None:
                    self._settings = None  # logged once, not for every batch
            return self._exporter


def oversize_warning(settings: Settings) -> str | None:
    """A warning, if content is captured on spans that go to an OTLP exporter which does not bound its requests."""
    capture = settings.otel_instrumentation_genai_capture_message_content
    exporters = {name.strip() for name in (settings.otel_traces_exporter or "").split(",")}
    if not capture.startswith("SPAN") or exporters.isdisjoint(_UNLIMITED):
        return None
    return (
        f"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT={capture} puts message content on spans, and"
        f" OTEL_TRACES_EXPORTER={settings.otel_traces_exporter} sends up to 512 spans in one request: above the"
        " receiver's limit (4 MiB for gRPC) all of them are dropped. OTEL_TRACES_EXPORTER=llmspan_otlp splits them."
    )


def _make(settings: Settings, options: Mapping[str, Any]) -> SpanExporter | None:
    protocol = settings.otel_exporter_otlp_traces_protocol or settings.otel_exporter_otlp_protocol or "grpc"
    if protocol not in _MODULES:
        _log_error(f"OTEL_EXPORTER_OTLP_PROTOCOL={protocol}: llmspan_otlp speaks {' and '.join(_MODULES)}")
        return None
    try:
        sender: Callable[..., SpanExporter] = importlib.import_module(_MODULES[protocol]).OTLPSpanExporter
    except ImportError as error:
        _log_error(f'the exporter for OTLP over {protocol} is not installed ({error}): pip install "llmspan[otlp]"')
        return None
    exporter = guarded("otlp.exporter", sender, **options)
    if exporter is None:
        _log_error(f"the exporter for OTLP over {protocol} does not take its settings (OTEL_EXPORTER_OTLP_*)")
        return None
    return SizeLimitedSpanExporter(
        exporter, max_bytes=settings.otlp_max_bytes, max_span_bytes=settings.otlp_max_span_bytes
    )


def _log_error(reason: str) -> None:
    logger.error("llmspan: %s. Spans are not exported over OTLP.", reason)


def size_of(span: ReadableSpan) -> int:
    """How many bytes ``span`` takes in an OTLP request, at most; resource and scope not counted."""
    size = _SPAN + _text(span.name) + _text(span.status.description or "") + _size_of_attributes(span.attributes)
    if span.context is not None:
        size += _size_of_state(span.context)
    for event in span.events:
        size += 4 * _FIELD + _text(event.name) + _size_of_attributes(event.attributes)
    for link in span.links:
        size += 64 + _size_of_state(link.context) + _size_of_attributes(link.attributes)
    return size


def size_of_origin(span: ReadableSpan) -> int:
    """How many bytes the resource and the scope of ``span`` take in an OTLP request, at most."""
    size = 4 * _FIELD + _size_of_attributes(span.resource.attributes) + _text(span.resource.schema_url)
    scope = span.instrumentation_scope
    if scope is not None:
        size += _text(scope.name) + _text(scope.version or "") + _text(scope.schema_url or "")
        size += 2 * _FIELD + _size_of_attributes(scope.attributes)
    return size


def _size_of_state(context: Any) -> int:
    return _FIELD + sum(len(key) + len(value) + 2 for key, value in context.trace_state.items())


def _size_of_attributes(attributes: Mapping[str, Any] | None) -> int:
    return sum(2 * _FIELD + _text(key) + _size_of_value(value) for key, value in (attributes or {}).items())


def _size_of_value(value: Any) -> int:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bool | int | float) or value is None:
        return 12
    if isinstance(value, bytes):
        return _FIELD + len(value)
    if isinstance(value, Mapping):
        return _FIELD + _size_of_attributes(value)
    if isinstance(value, Sequence):
        return _FIELD + sum(_FIELD + _size_of_value(item) for item in value)
    return _text(str(value))


def _text(value: str) -> int:
    return _FIELD + (len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass")))


def _cut(span: ReadableSpan, size: int, limit: int) -> ReadableSpan:
    """A copy of ``span``, of ``size`` bytes, whose longest attributes, its events' among them, are cut to fit."""
    attributes = dict(span.attributes or {})
    events = [dict(event.attributes or {}) for event in span.events]
    sizes = [(_size_of_value(value), owner, key) for owner in (attributes, *events) for key, value in owner.items()]
    excess = size - limit + 3 * _FIELD + len(CUT_BYTES) + 12
    level = _level([value_size for value_size, _, _ in sizes], sum(value_size for value_size, _, _ in sizes) - excess)
    removed = 0
    for value_size, owner, key in sizes:
        if value_size > level:
            owner[key] = _shorter(owner[key], level)
            removed += value_size - _size_of_value(owner[key])
    attributes[CUT_BYTES] = removed
    return ReadableSpan(
        name=span.name,
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=attributes,
        events=[
            Event(event.name, event_attributes, event.timestamp)
            for event, event_attributes in zip(span.events, events, strict=True)
        ],
        links=span.links,
        kind=span.kind,
        status=span.status,
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _level(sizes: Sequence[int], room: int) -> int:
    """The size to which the larger ones of ``sizes`` have to be cut for their sum to fit ``room``."""
    remaining = len(sizes)
    for size in sorted(sizes):
        if size * remaining > room:
            break
        room -= size
        remaining -= 1
    return max(room // max(remaining, 1), _LEAST)


def _shorter(value: Any, limit: int) -> Any:
    """``value`` in at most ``limit`` bytes, of the same type if that can be."""
    size = _size_of_value(value)
    room = limit - _FIELD
    if isinstance(value, str):
        if value[:1] in ("{", "["):
            return truncated(value, size, room)
        return f"{value[: (room - 48) // 4 if not value.isascii() else room - 48]}... [{size} bytes, cut by llmspan]"
    if isinstance(value, bytes):
        return value[:room]
    try:  # a structured value grows in OTLP: every item has a header
        shortened = json.loads(truncated(_json.dumps(_plain(value)), size, limit // 2))
    except (TypeError, ValueError):
        shortened = None
    return (
        shortened if shortened is not None and _size_of_value(shortened) <= limit else f"[{size} bytes, cut by llmspan]"
    )


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain(item) for item in value]
    return value
