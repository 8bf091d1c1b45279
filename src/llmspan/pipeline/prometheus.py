"""Statuses of processes as Prometheus' text format, version 0.0.4.

Metrics and labels have the names that Prometheus gives to the OpenTelemetry metrics of ``metrics.py``, so that one
alert covers programs, which export by OTLP, and sidecars, which are asked for ``/metrics``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from .metrics import BACKEND, LOCATION, MEDIUM, REASON
from .statistics import BackendStatus
from .status_file import ProcessStatus

__all__ = ["CONTENT_TYPE", "prometheus_text"]

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_Samples = Callable[[BackendStatus], Mapping[tuple[tuple[str, str], ...], float]]
_BREAKER: Final = {"closed": 0, "half_open": 1, "open": 2}


def _label(attribute: str) -> str:
    """The label that Prometheus gives to an OpenTelemetry attribute."""
    return attribute.replace(".", "_")


def _one(get_value: Callable[[BackendStatus], float]) -> _Samples:
    return lambda status: {(): get_value(status)}


_FAMILIES: Final[tuple[tuple[str, str, str, _Samples], ...]] = (
    ("llmspan_records_accepted_total", "counter", "Records taken in for a backend.", _one(lambda s: s.accepted)),
    ("llmspan_records_delivered_total", "counter", "Records that the backend has.", _one(lambda s: s.delivered)),
    (
        "llmspan_records_dropped_total", "counter", "Records given up, by reason.",
        lambda s: {((_label(REASON), reason),): number for reason, number in s.dropped.items()},
    ),
    (
        "llmspan_records_dead_lettered_total", "counter", "Records refused permanently, kept in a file.",
        _one(lambda s: s.dead_lettered),
    ),
    (
        "llmspan_records_recovered_total", "counter", "Records that dead processes had left in the spool.",
        _one(lambda s: s.recovered),
    ),
    (
        "llmspan_records_without_payload_total", "counter", "Records whose payload was dropped: the queue was full.",
        _one(lambda s: s.without_payload),
    ),
    (
        "llmspan_writes_failed_total", "counter", "Writes that the backend did not take.",
        _one(lambda s: s.failed_writes),
    ),
    ("llmspan_records_queued", "gauge", "Records that wait in memory.", _one(lambda s: s.queued)),
    ("llmspan_records_spooled", "gauge", "Records that wait on disk.", _one(lambda s: s.spooled)),
    (
        "llmspan_waiting_age_seconds", "gauge",
        "Since the call of the oldest record that waits had ended; 0 if nothing waits.",
        _one(lambda s: s.waiting_age()),
    ),
    (
        "llmspan_breaker_state_ratio", "gauge",
        "0 writes go through, 1 one write is trying, 2 the backend is given a pause.",
        _one(lambda s: _BREAKER[s.breaker]),
    ),
)  # fmt: skip


def prometheus_text(statuses: Sequence[ProcessStatus]) -> str:
    """All samples of all processes, each family under its head."""
    return "".join(f"{line}\n" for line in _lines(statuses))


def _lines(statuses: Sequence[ProcessStatus]) -> Iterator[str]:
    for name, kind, about, samples in _FAMILIES:
        yield f"# HELP {name} {about}"
        yield f"# TYPE {name} {kind}"
        for status in statuses:
            for backend in status.backends:
                where = ((_label(BACKEND), backend.backend), (_label(LOCATION), backend.location))
                for labels, value in samples(backend).items():
                    yield f"{name}{{{_labels((*_process(status), *where, *labels))}}} {value}"
    yield "# HELP llmspan_waiting_size_bytes What waits, in memory and on disk."
    yield "# TYPE llmspan_waiting_size_bytes gauge"
    for status in statuses:
        for medium, value in status.waiting_bytes.items():
            yield f"llmspan_waiting_size_bytes{{{_labels((*_process(status), (_label(MEDIUM), medium)))}}} {value}"
    yield "# HELP llmspan_sidecar_senders Senders that are connected."
    yield "# TYPE llmspan_sidecar_senders gauge"
    for status in statuses:
        if status.senders is not None:
            yield f"llmspan_sidecar_senders{{{_labels(_process(status))}}} {status.senders}"


def _process(status: ProcessStatus) -> tuple[tuple[str, str], ...]:
    return ("pid", str(status.pid)), ("role", status.role), ("program", status.program)


def _labels(labels: Sequence[tuple[str, str]]) -> str:
    return ",".join(f'{name}="{_escaped(value)}"' for name, value in labels)


def _escaped(value: str) -> str:
    value = "".join(letter if letter.isprintable() or letter == "\n" else "\ufffd" for letter in value)
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
