"""The pipeline's accounting as OpenTelemetry metrics, so that a loss shows on a dashboard.

Observable instruments only: nothing is done per record, the counters are read when a reader collects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation, get_meter

from .._version import __version__
from .pipeline import Pipeline
from .statistics import BackendStatus

__all__ = ["register"]

BACKEND: Final = "llmspan.backend.name"
LOCATION: Final = "llmspan.backend.location"
REASON: Final = "llmspan.drop.reason"
MEDIUM: Final = "llmspan.medium"

_GetValue = Callable[[BackendStatus], float]

_COUNTERS: Final[Mapping[str, tuple[_GetValue, str]]] = {
    "llmspan.records.accepted": (lambda s: s.accepted, "Records taken in for a backend."),
    "llmspan.records.delivered": (lambda s: s.delivered, "Records that the backend has."),
    "llmspan.records.dead_lettered": (
        lambda s: s.dead_lettered,
        "Records refused permanently, kept in a file.",
    ),
    "llmspan.records.recovered": (lambda s: s.recovered, "Records that dead processes had left in the spool."),
    "llmspan.records.without_payload": (
        lambda s: s.without_payload,
        "Records whose payload was dropped: the queue was full.",
    ),
    "llmspan.writes.failed": (lambda s: s.failed_writes, "Writes that the backend did not take."),
}
_GAUGES: Final[Mapping[str, tuple[_GetValue, str]]] = {
    "llmspan.records.queued": (lambda s: s.queued, "Records that wait in memory."),
    "llmspan.records.spooled": (lambda s: s.spooled, "Records that wait on disk."),
}
_BREAKER: Final = {"closed": 0, "half_open": 1, "open": 2}


def register(pipeline: Callable[[], Pipeline], meter_provider: MeterProvider | None = None) -> None:
    """Offer the instruments to ``meter_provider``, by default the global one, also one that is set later.

    ``pipeline`` gives the one to read.
    """
    meter = get_meter("llmspan", __version__, meter_provider)
    for name, (get_value, text) in _COUNTERS.items():
        meter.create_observable_counter(name, [_observe_each(pipeline, get_value)], "{record}", text)
    for name, (get_value, text) in _GAUGES.items():
        meter.create_observable_up_down_counter(name, [_observe_each(pipeline, get_value)], "{record}", text)

    def dropped(_: CallbackOptions) -> Iterable[Observation]:
        for status in pipeline().status():
            for reason, number in status.dropped.items():
                yield Observation(number, {**_attributes_of(status), REASON: reason})

    def size(_: CallbackOptions) -> Iterable[Observation]:
        for medium, number in pipeline().sizes().items():
            yield Observation(number, {MEDIUM: medium})

    def breaker(status: BackendStatus) -> int:
        return _BREAKER[status.breaker]

    text = "Records given up, by reason."
    meter.create_observable_counter("llmspan.records.dropped", [dropped], "{record}", text)
    meter.create_observable_up_down_counter("llmspan.waiting.size", [size], "By", "What waits, in memory and on disk.")
    text = "Since the call of the oldest record that waits had ended; 0 if nothing waits."
    age = _observe_each(pipeline, BackendStatus.waiting_age)
    meter.create_observable_gauge("llmspan.waiting.age", [age], "s", text)
    text = "0 writes go through, 1 one write is trying, 2 the backend is given a pause."
    meter.create_observable_gauge("llmspan.breaker.state", [_observe_each(pipeline, breaker)], "1", text)


def _observe_each(
    pipeline: Callable[[], Pipeline], get_value: _GetValue
) -> Callable[[CallbackOptions], Iterable[Observation]]:
    def observe(_: CallbackOptions) -> Iterable[Observation]:
        return [Observation(get_value(status), _attributes_of(status)) for status in pipeline().status()]

    return observe


def _attributes_of(status: BackendStatus) -> dict[str, str]:
    return {BACKEND: status.backend, LOCATION: status.location}
