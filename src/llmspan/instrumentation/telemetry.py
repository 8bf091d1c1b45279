"""The metrics and the content event of a record: of a call, or of a batch result that a call has fetched.

Everything here runs on the sink's worker, after the record was built.
"""

from __future__ import annotations

from itertools import pairwise

from .. import semconv
from .._guard import guarded
from ..trace import ProviderTrace
from .call import Call, PayloadTexts
from .content_capture import emit_call_event


def publish(record: ProviderTrace, call: Call, texts: PayloadTexts, *, is_timed: bool = True) -> None:
    """Emit the metrics and the event of ``record``, which belongs to ``call``."""
    observer = call.observer
    if observer.metrics is not None:
        gaps = _chunk_gaps(call, record) if observer.times_all_chunks else ()
        fingerprint = call.span_facts.system_fingerprint
        guarded("telemetry.metrics", observer.metrics.record, record, gaps, is_timed=is_timed, fingerprint=fingerprint)
    if observer.logger is not None and "EVENT" in observer.capture.mode() and record.operation in semconv.GENERATION:
        args = observer.logger, record, call, texts, observer.capture, observer.compat
        guarded("telemetry.details", emit_call_event, *args)


def _chunk_gaps(call: Call, record: ProviderTrace) -> list[int]:
    """The nanoseconds between the chunks that were received from the first output on."""
    if call.body is None or record.time_to_first_chunk_ns is None:
        return []
    first_output = call.started_ns + record.time_to_first_chunk_ns
    times = [time for time in call.body.times if time >= first_output]
    return [later - earlier for earlier, later in pairwise(times)]
