"""Measures what bench/scale.py computes with: CPU time and bytes of each hop, on this machine.

    uv run python bench/scale_measure.py          # writes bench/scale_inputs.json; needs the Collector (just collector)
    uv run python bench/scale_measure.py sizes    # ... only a part of it: sizes, collectors, clickhouse

All times are CPU time per span or record, of the process that does the work: they hold on a busy machine, and say how
many cores a rate needs. Spans are those of recorded calls, replayed through the SDKs; without recordings, of the demo.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lz4.frame
import zstandard
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import interaction
import replay
from integration.exporters_clickhouse import ExportersClickHouse
from llmspan import semconv
from llmspan.backends.clickhouse import ClickHouseBackend
from llmspan.otlp import OTLPSpanExporter
from llmspan.trace import ProviderTrace, new_id
from otelcol import Collector, version
from polling import until
from stores import clickhouse as store
from watching import watching

INPUTS = Path(__file__).with_name("scale_inputs.json")
SPANS = 20_000
KIB = 1024
CLASSES = [
    ("below 1 KiB", 0, KIB),
    ("1 to 4 KiB", KIB, 4 * KIB),
    ("4 to 16 KiB", 4 * KIB, 16 * KIB),
    ("above 16 KiB", 16 * KIB, 2**40),
]
BATCH = 500


def cpu() -> float:
    """CPU seconds of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def records() -> list[ProviderTrace]:
    """Records of recorded calls."""
    found: list[ProviderTrace] = []
    for name in interaction.recording_ids()[::2]:
        with watching() as watch:
            try:
                replay.replay_sync(interaction.Interaction.load(name))
            except Exception:  # noqa: BLE001 - what the provider said, as the SDK raises it
                continue
            found += watch.records
    return found


def as_spans(traces: Sequence[ProviderTrace], count: int) -> list[ReadableSpan]:
    """``count`` spans, each in a trace of its own, with the attributes of these records in turn."""
    kept = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({"service.name": "shop", "host.name": "node-1"}))
    provider.add_span_processor(SimpleSpanProcessor(kept))
    tracer = provider.get_tracer("llmspan")
    for n in range(count):
        trace = traces[n % len(traces)]
        attributes = semconv.to_attributes(trace) | {semconv.RECORD_ID: new_id()}
        tracer.start_span(semconv.span_name(trace.operation, trace.request_model), attributes=attributes).end()
    return list(kept.get_finished_spans())


def through(spans: Sequence[ReadableSpan], *names: str, sink: Callable[[], float], **env: str) -> dict[str, float]:
    """CPU of a Collector that takes these spans, per span, and of the exporter that sends them."""
    with tempfile.TemporaryDirectory() as folder, Collector(Path(folder), *names, **env) as collector:
        exporter = OTLPSpanExporter("grpc", endpoint=collector.grpc)
        exporter.export(spans[:BATCH])
        until(lambda: sink() >= BATCH)
        before, own = collector.own_metric("otelcol_process_cpu_seconds"), cpu()
        for start in range(BATCH, len(spans), BATCH):
            exporter.export(spans[start : start + BATCH])
        own = cpu() - own
        until(lambda: sink() >= len(spans))
        used = collector.own_metric("otelcol_process_cpu_seconds") - before
        exporter.shutdown()
    count = len(spans) - BATCH
    return {"collector_us": used / count * 1e6, "exporter_us": own / count * 1e6}


def collectors(spans: Sequence[ReadableSpan]) -> dict[str, float]:
    """An agent (queue on disk) and a gateway (all stages, to ClickHouse)."""
    with tempfile.TemporaryDirectory() as folder, Collector(Path(folder), "file") as last:
        received = lambda: last.own_metric("otelcol_receiver_accepted_spans")  # noqa: E731
        hosts = f"[127.0.0.1:{last.ports['grpc']}]"
        agent = through(spans, "agent", sink=received, GATEWAY_HOSTS=hosts, GATEWAY_INSECURE="true", OTELCOL_TOKEN="x")
    rows = 0
    kept: list[tuple[str, int]] = []
    blocks = tempfile.TemporaryDirectory()

    def swallow(statement: str) -> bytes:
        """Keep the blocks of inserts for later; they cost the engine's CPU, which is measured by itself."""
        nonlocal rows
        if not statement.startswith("INSERT"):
            return store.engine().query(statement, "Native").bytes()
        file = _file_of(statement)
        copy = Path(blocks.name, str(len(kept)))
        copy.write_bytes(file.read_bytes())
        kept.append((statement.replace(str(file), str(copy)), _rows_in(copy)))
        rows += kept[-1][1]
        return b""

    database = store.new_database()
    ClickHouseBackend.from_settings(store.settings(store.embedded_dsn(database), clickhouse_otel_traces=True)).open()
    with ExportersClickHouse(swallow) as server:
        gateway = through(
            spans,
            "redaction",
            "metrics-from-spans",
            "tail-sampling",
            "clickhouse",
            sink=lambda: rows,
            CLICKHOUSE_ENDPOINT=server.endpoint,
            CLICKHOUSE_DATABASE=database,
            CLICKHOUSE_COMPRESS="none",
            OTELCOL_DECISION_WAIT="2s",
            OTELCOL_SAMPLE_PERCENT="100",
        )
    store.engine().query(kept[0][0])
    before = cpu()
    for statement, _ in kept[1:]:
        store.engine().query(statement)
    inserted = (cpu() - before) / sum(count for _, count in kept[1:])
    blocks.cleanup()
    for table in ("otel_traces", "provider_traces"):
        found = store.engine().query(f"SELECT count() FROM `{database}`.{table}", "TabSeparated").bytes()
        assert int(found) == rows, (table, found, rows)
    return {
        "clickhouse_span_us": inserted * 1e6,
        "exporter_us": agent["exporter_us"],
        "agent_us": agent["collector_us"],
        "gateway_us": gateway["collector_us"],
    }


def _file_of(statement: str) -> Path:
    return Path(statement.partition("INFILE '")[2].partition("'")[0])


def _rows_in(file: Path) -> int:
    """How many rows a block of the Native format has: its second number."""
    numbers: list[int] = []
    value = shift = 0
    for byte in file.read_bytes()[:12]:
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            numbers.append(value)
            value = shift = 0
    return numbers[1]


def clickhouse(traces: Sequence[ProviderTrace]) -> dict[str, float]:
    """CPU of inserting records with payloads, driver and engine, as llmspan's backend does it."""
    backend = ClickHouseBackend.from_settings(store.settings(store.embedded_dsn()))
    backend.open()
    many = [_again(traces[n % len(traces)], n) for n in range(4_000)]
    backend.write(many[:1000])
    before = cpu()
    for start in range(1000, len(many), 1000):
        backend.write(many[start : start + 1000])
    used = cpu() - before
    backend.shutdown()
    return {"clickhouse_record_us": used / (len(many) - 1000) * 1e6}


def _again(trace: ProviderTrace, number: int) -> ProviderTrace:
    return replace(trace, id=f"{trace.id[:-12]}{number:012x}")


def sizes(traces: Sequence[ProviderTrace]) -> dict[str, Any]:
    """Bytes of a span in OTLP, and of records by the size of their payload; the calls are all different."""
    request: ExportTraceServiceRequest = encode_spans(as_spans(traces, len(traces)))
    encoded = request.SerializeToString()
    table: list[dict[str, float | str]] = []
    for name, low, high in CLASSES:
        texts = [t.to_json().encode() for t in traces if low <= payload_of(t) < high]
        together = b"\n".join(texts)
        packed = {
            "bytes": len(together),
            "lz4": len(lz4.frame.compress(together)),
            "zstd 1": len(zstandard.ZstdCompressor(1).compress(together)),
            "zstd 3": len(zstandard.ZstdCompressor(3).compress(together)),
        }
        table.append({"payload": name, "records": len(texts)} | {k: round(v / len(texts)) for k, v in packed.items()})
    return {
        "span_bytes": len(encoded) / len(traces),
        "span_zstd_bytes": len(zstandard.ZstdCompressor(1).compress(encoded)) / len(traces),
        "records": table,
    }


def payload_of(trace: ProviderTrace) -> int:
    return len(trace.request_json or "") + len(trace.response_json or "")


def main() -> None:
    wanted = sys.argv[1:] or ["sizes", "collectors", "clickhouse"]
    traces = records()
    steps: dict[str, Callable[[], dict[str, Any]]] = {
        "sizes": lambda: sizes(traces),
        "collectors": lambda: collectors(as_spans(traces, SPANS)),
        "clickhouse": lambda: clickhouse(traces),
    }
    inputs: dict[str, Any] = json.loads(INPUTS.read_text()) if INPUTS.exists() else {}
    inputs |= {"collector": version(), "date": time.strftime("%Y-%m-%d")}
    for name in wanted:
        found = steps[name]()
        inputs |= {key: round(value, 1) if isinstance(value, float) else value for key, value in found.items()}
        INPUTS.write_text(json.dumps(inputs, indent=2) + "\n")


if __name__ == "__main__":
    main()
