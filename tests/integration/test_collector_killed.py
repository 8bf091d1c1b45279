"""A Collector that is killed under load: what its persistent queue keeps, and that our own backend does not notice."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from integration.programs import ROOT, environment
from llmspan.demo.server import DemoServer
from llmspan.reader import Reader
from otelcol import Collector
from polling import until

pytestmark = pytest.mark.collector

CALLS = 600
PROGRAM = f"""
import anthropic
client = anthropic.Anthropic()
for n in range({CALLS}):
    client.messages.create(model="claude-demo", max_tokens=9, messages=[{{"role": "user", "content": str(n)}}])
"""


def test_kill_9_under_load_loses_nothing(tmp_path: Path) -> None:
    """Killed twice in the middle of a run and started again, the Collector delivers every span; some come twice.

    The direct backend has each call exactly once in the same run.
    """
    database = tmp_path / "traces.db"
    with DemoServer(pace=0.0) as provider, Collector(tmp_path / "store", "file") as store:
        hop = Collector(tmp_path / "hop", "forward", FORWARD_ENDPOINT=store.http)
        env = environment(
            provider,
            database,
            OTEL_TRACES_EXPORTER="llmspan_otlp",
            OTEL_METRICS_EXPORTER="none",
            OTEL_LOGS_EXPORTER="none",
            OTEL_EXPORTER_OTLP_ENDPOINT=hop.grpc,
            OTEL_BSP_SCHEDULE_DELAY="20",
        )
        command = ["opentelemetry-instrument", sys.executable, "-c", PROGRAM]
        program = subprocess.Popen(command, env=env, cwd=ROOT, stderr=subprocess.PIPE, text=True)
        try:
            for share in (0.2, 0.6):
                until(partial(under_way, hop, database, CALLS * share))
                hop.kill()
                hop = Collector(tmp_path / "hop", "forward", ports=hop.ports, FORWARD_ENDPOINT=store.http)
            _, told = program.communicate(timeout=120)
            assert program.returncode == 0, told
            until(lambda: len({span["spanId"] for span in store.spans()}) >= CALLS)
        finally:
            program.kill()
            program.wait()
            hop.stop()
    times = Counter(span["spanId"] for span in store.spans())
    print(f"{CALLS} calls, delivered twice: {sum(count - 1 for count in times.values())}")
    with Reader.from_env(backends="sqlite", sqlite_path=database) as reader:
        ids = [found.span_id for found in reader.iterate()]
    assert len(ids) == len(set(ids)) == CALLS
    assert times.keys() == set(ids)


def under_way(hop: Collector, database: Path, calls: float) -> bool:
    """Whether the Collector is receiving, and so many calls have been made."""
    return hop.own_metric("otelcol_receiver_accepted_spans") >= 20 and recorded(database) > calls


def recorded(database: Path) -> int:
    if not database.exists():
        return 0
    with Reader.from_env(backends="sqlite", sqlite_path=database) as reader:
        return sum(row.calls for row in reader.stats(["provider"]))
