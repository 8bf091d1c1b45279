"""One process of the matrix: one peer, one order, all of its surfaces. ``run.py`` starts it in the peer's environment.

    python program.py PEER ORDER OUTPUT        (under opentelemetry-instrument if ORDER is a zero-code one)

It writes a JSON object to OUTPUT: surface -> cell.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from judge import Cell, judge
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from peer import PEER_FIRST, ZERO_CODE, ZERO_CODE_PEER_FIRST, Peer, Stage
from registry import PEERS
from standin import StandIn

import llmspan


class Program:
    """A program with a peer and llmspan in it, in the order that it is given."""

    def __init__(self, peer: Peer, order: str, server: StandIn) -> None:
        self._peer = peer
        self._server = server
        self._seen: set[str] = set()
        self._exporter = InMemorySpanExporter()
        provider = self._tracer_provider(peer, order)
        self._stage = Stage(
            server.openai_base_url, server.anthropic_base_url, server.anthropic_base_url, provider, self._exporter
        )
        activate = peer.activate or _nothing
        if order in (ZERO_CODE, ZERO_CODE_PEER_FIRST):
            if not peer.has_entry_point:
                activate(self._stage)
            return
        steps: list[Callable[[], None]] = [lambda: activate(self._stage), llmspan.instrument]
        for step in steps if order == PEER_FIRST else reversed(steps):
            step()

    def run(self, surface: str) -> Cell:
        """Make the calls of one cell in a span of the program's own."""
        self._exporter.clear()
        self._server.take()
        error = None
        with trace.get_tracer("program").start_as_current_span("program") as span:
            try:
                self._peer.calls[surface](self._stage)
            except Exception as raised:
                traceback.print_exc()
                error = f"raised {type(raised).__name__}: {raised}"
        records, spans = self._new_records(), self._exporter.get_finished_spans()
        cell = judge(span.get_span_context(), spans, records, self._server.take(), logs_usage=self._peer.logs_usage)
        if not error and surface not in self._peer.without_spans and not self._peer_made_one_of(spans):
            error = f"{self._peer.name} was not at work: it made no span"
        return replace(cell, faults=[error, *cell.faults]) if error else cell

    def _peer_made_one_of(self, spans: Sequence[Any]) -> bool:
        scopes = self._peer.scopes
        return not scopes or any(span.instrumentation_scope.name.startswith(scopes) for span in spans)

    def _tracer_provider(self, peer: Peer, order: str) -> Any:
        if order in (ZERO_CODE, ZERO_CODE_PEER_FIRST):
            provider: Any = trace.get_tracer_provider()
        elif peer.owns_provider:
            return None
        else:
            provider = TracerProvider(shutdown_on_exit=False)
            trace.set_tracer_provider(provider)
        provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        return provider

    def _new_records(self) -> list[Any]:
        llmspan.flush(30)
        with llmspan.Reader.from_env() as reader:
            records = [record for record in reader.iterate() if record.id not in self._seen]
        self._seen.update(record.id for record in records)
        return records


def _nothing(stage: Stage) -> None:
    pass


def main(name: str, order: str, output: str) -> None:
    peer = PEERS[name]
    assert order in peer.orders
    with StandIn() as server:
        program = Program(peer, order, server)
        cells = {surface: asdict(program.run(surface)) for surface in peer.calls}
        Path(output).write_text(json.dumps(cells))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)  # exporters of some peers would try for a while to reach their own service


if __name__ == "__main__":
    main(*sys.argv[1:])
