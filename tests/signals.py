"""Metrics and log records in memory, for the tests of what calls say beside their spans."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource

#: made once: each provider would start a thread to look for its own
RESOURCE = Resource.create()
INFERENCE = "gen_ai.client.inference."


class Meters:
    """A meter provider of its own, and its points by metric."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider([self.reader], resource=RESOURCE, shutdown_on_exit=False)

    def metrics(self) -> dict[str, Any]:
        data = self.reader.get_metrics_data()
        scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics] if data else []
        return {metric.name: metric for scope in scopes for metric in scope.metrics}

    def points(self) -> dict[str, list[Any]]:
        return {name: list(metric.data.data_points) for name, metric in self.metrics().items()}

    def sums(self, name: str) -> dict[str, int]:
        """A counter's values by modality."""
        return {point.attributes["gen_ai.token.modality"]: point.value for point in self.points()[INFERENCE + name]}


class Logs:
    """A logger of its own, and what it was told."""

    def __init__(self) -> None:
        self.exporter = InMemoryLogRecordExporter()
        self.provider = LoggerProvider(resource=RESOURCE, shutdown_on_exit=False)
        self.provider.add_log_record_processor(SimpleLogRecordProcessor(self.exporter))
        self.logger = self.provider.get_logger("llmspan")

    @property
    def events(self) -> list[Any]:
        return [data.log_record for data in self.exporter.get_finished_logs()]
