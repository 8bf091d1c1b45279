"""Calls that come soon after each other share a write, in every store: one transaction, insert or acknowledgement."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from llmspan.backends.base import Backend
from llmspan.settings import Settings
from llmspan.trace import ProviderTrace
from polling import until
from records import make_trace
from scripted import Ready, pipeline_to

#: what comes in the time of a linger at a hundred calls a second
_CALLS = int(100 * Settings().linger)


def test_records_of_one_linger_share_a_write(
    make_backend: Callable[[], Backend], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first call is written alone, the calls of the following linger together; all of them can be read."""
    backend = make_backend()
    batches: list[int] = []
    write = backend.write

    def counted(records: Sequence[ProviderTrace]) -> None:
        write(records)
        batches.append(len(records))

    monkeypatch.setattr(backend, "write", counted)
    pipeline = pipeline_to(backend, linger=60.0)  # type: ignore[arg-type]
    records = [make_trace() for _ in range(1 + _CALLS)]
    pipeline.submit(Ready(records[0]))
    until(lambda: batches)
    until(lambda: pipeline._wake_signal.lingers)
    for record in records[1:]:
        pipeline.submit(Ready(record))
    assert pipeline.flush(60)
    assert batches == [1, _CALLS]
    assert _CALLS >= 10
    assert all(backend.get(record.id) is not None for record in records)
