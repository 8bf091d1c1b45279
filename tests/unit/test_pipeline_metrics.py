"""The accounts as metrics: the same numbers as ``status()``, read when somebody collects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from llmspan._clock import HOUR, time_ns
from llmspan.errors import PermanentError, RetryableError
from llmspan.pipeline import metrics
from scripted import Scripted, pipeline_to, raising, submit

EACH = ("accepted", "delivered", "queued", "spooled", "dead_lettered", "without_payload", "recovered")


def collected(reader: InMemoryMetricReader) -> dict[str, list[tuple[dict[str, Any], int]]]:
    data = reader.get_metrics_data()
    assert data is not None
    return {
        metric.name: [(dict(point.attributes), point.value) for point in metric.data.data_points]
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


def test_the_numbers_are_those_of_the_status() -> None:
    """Every counter of every backend is there, under the backend's name and place, and balances."""
    reader = InMemoryMetricReader()
    one = Scripted(raising(RetryableError("away")), raising(PermanentError("no")), place="one")
    pipeline = pipeline_to(one, Scripted(place="two"))
    metrics.register(lambda: pipeline, MeterProvider([reader]))
    submit(pipeline, 1)
    assert pipeline.flush(30)
    submit(pipeline, 3)
    assert pipeline.flush(30)
    found = collected(reader)
    for status in pipeline.status():
        whose = {"llmspan.backend.name": "memory", "llmspan.backend.location": status.location}
        for name in EACH:
            assert (whose, getattr(status, name)) in found[f"llmspan.records.{name}"]
        assert (whose, status.failed_writes) in found["llmspan.writes.failed"]
        assert (whose, 0) in found["llmspan.breaker.state"]
    assert dict(found["llmspan.records.dead_lettered"][0][0])["llmspan.backend.location"] == "one"
    assert found["llmspan.records.dead_lettered"][0][1] == 1
    assert {attributes["llmspan.medium"] for attributes, _ in found["llmspan.waiting.size"]} == {"memory", "disk"}


@pytest.mark.parametrize("spooled", [False, True])
def test_the_age_is_that_of_the_oldest_record_that_waits(tmp_path: Path, *, spooled: bool) -> None:
    """Since its call had ended, in memory and on disk, while its write is tried; nothing waits once it is written."""
    reader = InMemoryMetricReader()
    before: list[float] = []

    def away(records: Any) -> None:
        before.append(pipeline.status()[0].waiting_age())
        raise RetryableError("away")

    pipeline = pipeline_to(Scripted(away, place="here"), spool_dir=tmp_path if spooled else None)
    metrics.register(lambda: pipeline, MeterProvider([reader]))
    submit(pipeline, 1, started_at=time_ns() - HOUR, duration_ns=HOUR // 6)
    assert pipeline.flush(30)
    assert 3000 <= before[0] < 3600
    assert collected(reader)["llmspan.waiting.age"][0][1] == 0
    assert pipeline.close(30)


def test_losses_are_told_by_reason() -> None:
    """A record that is dropped counts under its reason."""
    reader = InMemoryMetricReader()
    pipeline = pipeline_to(Scripted(place="here"))
    metrics.register(lambda: pipeline, MeterProvider([reader]))
    pipeline._workers[0].stats.accepted()
    pipeline._workers[0].stats.dropped("queue_full")
    ((attributes, value),) = collected(reader)["llmspan.records.dropped"]
    assert (attributes["llmspan.drop.reason"], value) == ("queue_full", 1)
