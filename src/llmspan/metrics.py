"""Metrics of the GenAI conventions, one set of points for each observed call, made from its record.

Points are recorded by the pipeline's worker, where the record is complete: the caller pays nothing, ``llmspan.flush``
waits for them too. Without a MeterProvider nothing is recorded. Names and bucket boundaries are the conventions'
(``client-inference.md``, ``client-embeddings.md``, ``gen-ai-token-metrics.md``; Development), replaced ones only on
request.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from opentelemetry import metrics, trace
from opentelemetry.context import Context
from opentelemetry.metrics import Counter, Histogram, MeterProvider

from . import semconv
from ._version import __version__
from .settings import SemconvCompat
from .trace import FAILED, ProviderTrace

__all__ = ["CallMetrics"]

SECONDS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
TOKENS: Final = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)

INFERENCE: Final = frozenset({"chat", "text_completion", "generate_content"})
#: name -> what it counts, in the record's usage
_SUBSETS: Final = {
    "gen_ai.client.inference.usage.cache_read.input_tokens": "cache_read_tokens",
    "gen_ai.client.inference.usage.cache_write.input_tokens": "cache_write_tokens",
    "gen_ai.client.inference.usage.reasoning.output_tokens": "reasoning_tokens",
}
_MODALITIES: Final = ("text", "image", "audio")
_MODALITY: Final = "gen_ai.token.modality"


class CallMetrics:
    """The instruments, and what they record of a call.

    Args:
        meter_provider: where points go; the global one by default, which may be set later than this is made.
        compat: whether the names that the conventions have replaced are recorded, beside the current ones or instead.
    """

    def __init__(self, meter_provider: MeterProvider | None = None, *, compat: SemconvCompat = "off") -> None:
        self._given = meter_provider
        self._compat = compat
        self._histograms: dict[str, Histogram] = {}
        self._counters: dict[str, Counter] = {}
        self._meter = metrics.get_meter(semconv.SCOPE, __version__, meter_provider, schema_url=semconv.SCHEMA_URL)

    def record(
        self, call: ProviderTrace, gaps: Iterable[int] = (), *, is_timed: bool = True, fingerprint: str | None = None
    ) -> None:
        """Record the points of one finished call.

        Args:
            call: its record.
            gaps: the nanoseconds between pieces of its output.
            is_timed: whether its duration is how long a caller waited for it; that of a batch's result is not.
            fingerprint: what OpenAI calls the ``system_fingerprint`` of the response.
        """
        if not self._is_listened_to():
            return
        span_context = _context(call)
        common = _attributes(call, fingerprint)
        ended = {**common, "error.type": call.error_type} if call.status == "error" else common
        if call.operation not in INFERENCE and call.operation != "embeddings":
            self._time("gen_ai.client.operation.duration", call.duration_ns, ended, span_context)
            return
        if self._compat != "instead":
            self._current(call, gaps, common, ended, span_context, is_timed=is_timed)
        if self._compat != "off":
            self._replaced(call, gaps, common, ended, span_context, is_timed=is_timed)

    def _current(
        self,
        call: ProviderTrace,
        gaps: Iterable[int],
        common: Any,
        ended: Any,
        span_context: Context | None,
        *,
        is_timed: bool,
    ) -> None:
        """The points of a call that spends tokens."""
        if call.operation == "embeddings":
            self._time("gen_ai.client.embeddings.duration", call.duration_ns, ended, span_context)
            self._distribute("gen_ai.client.embeddings.operation.input_tokens", call, call.usage.input_tokens, common)
            return
        if is_timed:
            self._inference_times(call, common, ended, span_context)
        self._inference_tokens(call, common, span_context)
        for gap in gaps:
            self._time("gen_ai.client.inference.time_per_output_chunk", gap, common, span_context)

    def _replaced(
        self,
        call: ProviderTrace,
        gaps: Iterable[int],
        common: Any,
        ended: Any,
        span_context: Context | None,
        *,
        is_timed: bool,
    ) -> None:
        """The same points as the conventions had them before."""
        if is_timed:
            self._replaced_times(call, common, ended, span_context)
        self._replaced_tokens(call, common, span_context)
        for gap in gaps:
            self._time("gen_ai.client.operation.time_per_output_chunk", gap, common, span_context)

    def _is_listened_to(self) -> bool:
        """Whether a meter provider is set up: that of the API alone does nothing."""
        # Until a provider is set, the API's meter has no real one. To ask for the provider takes longer: it looks at
        # the environment each time.
        if getattr(self._meter, "_real_meter", self._meter) is None:
            return False
        provider = self._given or metrics.get_meter_provider()
        return not type(provider).__module__.startswith("opentelemetry.metrics")

    def _inference_times(self, call: ProviderTrace, common: Any, ended: Any, span_context: Context | None) -> None:
        self._time("gen_ai.client.inference.duration", call.duration_ns, ended, span_context)
        if call.time_to_first_chunk_ns is not None:
            name = "gen_ai.client.inference.time_to_first_chunk"
            self._time(name, call.time_to_first_chunk_ns, common, span_context)

    def _inference_tokens(self, call: ProviderTrace, common: Any, span_context: Context | None) -> None:
        for direction, total in (("input", call.usage.input_tokens), ("output", call.usage.output_tokens)):
            name = f"gen_ai.client.inference.usage.{direction}_tokens"
            for modality, count in _by_modality(call, direction, total):
                self._count(name, count, {**common, _MODALITY: modality}, span_context)
            self._distribute(f"gen_ai.client.inference.operation.{direction}_tokens", call, total, common)
        for name, key in _SUBSETS.items():
            count = getattr(call.usage, key)
            if count is not None:
                self._count(name, count, {**common, _MODALITY: "unknown"}, span_context)

    def _distribute(self, name: str, call: ProviderTrace, count: int | None, common: Any) -> None:
        """How many tokens one successful call took; a failed one says nothing about that."""
        if count is not None and call.status not in FAILED:
            self._histogram(name, "{token}", TOKENS).record(count, common)

    def _replaced_times(self, call: ProviderTrace, common: Any, ended: Any, span_context: Context | None) -> None:
        self._time("gen_ai.client.operation.duration", call.duration_ns, ended, span_context)
        if call.time_to_first_chunk_ns is not None:
            name = "gen_ai.client.operation.time_to_first_chunk"
            self._time(name, call.time_to_first_chunk_ns, common, span_context)

    def _replaced_tokens(self, call: ProviderTrace, common: Any, span_context: Context | None) -> None:
        for direction, total in (("input", call.usage.input_tokens), ("output", call.usage.output_tokens)):
            if total is not None:
                histogram = self._histogram("gen_ai.client.token.usage", "{token}", TOKENS)
                histogram.record(total, {**common, "gen_ai.token.type": direction}, span_context)

    def _time(self, name: str, nanoseconds: int, attributes: Any, span_context: Context | None) -> None:
        self._histogram(name, "s", SECONDS).record(nanoseconds / 1e9, attributes, span_context)

    def _count(self, name: str, count: int, attributes: Any, span_context: Context | None) -> None:
        if name not in self._counters:
            self._counters[name] = self._meter.create_counter(name, "{token}")
        self._counters[name].add(count, attributes, span_context)

    def _histogram(self, name: str, unit: str, boundaries: tuple[float, ...]) -> Histogram:
        if name not in self._histograms:
            self._histograms[name] = self._meter.create_histogram(
                name, unit, explicit_bucket_boundaries_advisory=boundaries
            )
        return self._histograms[name]


def _attributes(call: ProviderTrace, fingerprint: str | None) -> dict[str, Any]:
    optional = {
        "gen_ai.operation.name": call.operation,
        "gen_ai.provider.name": call.provider,
        "gen_ai.request.model": call.request_model,
        "gen_ai.response.model": call.response_model,
        "server.address": call.server_address,
        "server.port": call.server_port if call.server_address else None,
    }
    attributes = {name: value for name, value in optional.items() if value is not None}
    vendor = semconv.vendor_response_attributes(call.provider, call.api, call.service_tier, fingerprint)
    return attributes | {name: value for name, value in vendor.items() if name.startswith("openai.")}


def _by_modality(call: ProviderTrace, direction: str, total: int | None) -> list[tuple[str, int]]:
    """The tokens of one direction by modality, as far as the provider says; the rest is ``unknown``.

    No report counts as 0, as the conventions have it: a counter that is never added to is not there to be queried.
    """
    counts = [(name, call.usage.details.get(f"{name}_{direction}_tokens") or 0) for name in _MODALITIES]
    positive = [(name, count) for name, count in counts if count > 0]
    remainder = (total or 0) - sum(count for _, count in positive)
    if remainder < 0:  # the provider contradicts itself
        return [("unknown", total or 0)]
    return [*positive, ("unknown", remainder)] if remainder or not positive else positive


def _context(call: ProviderTrace) -> Context | None:
    """The call's own span, for exemplars."""
    if call.trace_id is None or call.span_id is None:
        return None
    parent = trace.SpanContext(
        int(call.trace_id, 16), int(call.span_id, 16), is_remote=False, trace_flags=trace.TraceFlags(1)
    )
    return trace.set_span_in_context(trace.NonRecordingSpan(parent))
