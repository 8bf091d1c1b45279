"""The least that a call costs with a span and a row: those that llmspan makes of it, made again by hand.

One call goes through llmspan, which then leaves. Every later call starts the same span with OpenTelemetry's SDK, gives
it the same attributes, and puts the same row, with an id of its own, to a thread that writes rows as llmspan does:
after the same linger, many in a transaction, into the same table with its indexes. Nothing finds out what the call was,
so what llmspan costs beyond this is the capture: hooks, reading the request and the reply, usage, redaction, delivery.
"""

from __future__ import annotations

import itertools
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind

import llmspan
from llmspan.settings import Settings
from observed import Seen

_TABLE = "provider_traces"
#: so many rows at most in a transaction, as the batches of llmspan's SQLite backend
_BATCH = 500


class Floor:
    """What replaces ``create`` of a client: the SDK's call, a span and a row."""

    def __init__(self, provider: Any, path: Path) -> None:
        self._provider, self._path = provider, path
        self._rows: queue.SimpleQueue[tuple[Any, ...] | threading.Event] = queue.SimpleQueue()

    def wrap(self, client: Any) -> Any:
        """The client, whose unary calls have the span and the row."""
        resource = client.messages if hasattr(client, "messages") else client.chat.completions
        learned: list[Callable[..., Any]] = []

        def create(*args: Any, **kwargs: Any) -> Any:
            if not learned:
                learned.append(self._learn(resource_create, args, kwargs))
            return learned[0](*args, **kwargs)

        resource_create = resource.create
        resource.create = create
        return client

    def flush(self) -> None:
        """Wait until all rows are written, and spans exported."""
        written = threading.Event()
        self._rows.put(written)
        written.wait()
        self._provider.force_flush()

    def _learn(self, create: Callable[..., Any], args: Any, kwargs: Any) -> Callable[..., Any]:
        """Make the call once through llmspan, and say how it is made without it."""
        self._path.unlink(missing_ok=True)
        seen, provider = Seen(), TracerProvider()
        provider.add_span_processor(seen)
        llmspan.instrument(backends="sqlite", sqlite_path=self._path, tracer_provider=provider)
        create(*args, **kwargs)
        llmspan.shutdown()
        columns, row = _row_of(self._path)
        threading.Thread(target=self._write, args=(columns,), daemon=True).start()
        tracer, rows = self._provider.get_tracer("floor"), self._rows
        name, start, end = seen.name, seen.start, seen.rest
        id_at, numbers = columns.index("id"), itertools.count()
        prefix = row[id_at][:24]

        def call(*args: Any, **kwargs: Any) -> Any:
            span = tracer.start_span(name, kind=SpanKind.CLIENT, attributes=start, start_time=time.time_ns())
            result = create(*args, **kwargs)
            span.set_attributes(end)
            span.end()
            rows.put((*row[:id_at], f"{prefix}{next(numbers):012x}", *row[id_at + 1 :]))
            return result

        return call

    def _write(self, columns: list[str]) -> None:
        connection = sqlite3.connect(self._path, isolation_level=None)
        for pragma in ("journal_mode = wal", "synchronous = normal", "wal_autocheckpoint = 4000"):
            connection.execute(f"PRAGMA {pragma}")
        places = ", ".join("?" * len(columns))
        statement = f"INSERT INTO {_TABLE} ({', '.join(columns)}) VALUES ({places}) ON CONFLICT DO NOTHING"
        linger = Settings().linger
        while True:
            taken = [self._rows.get()]
            if not isinstance(taken[0], threading.Event):
                time.sleep(linger)
            while len(taken) < _BATCH and not self._rows.empty():
                taken.append(self._rows.get())
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(statement, [row for row in taken if isinstance(row, tuple)])
            connection.execute("COMMIT")
            for answer in taken:
                if isinstance(answer, threading.Event):
                    answer.set()


def _row_of(path: Path) -> tuple[list[str], tuple[Any, ...]]:
    """The columns that are written, and their values in the only row."""
    with sqlite3.connect(path) as connection:
        columns = connection.execute(f"PRAGMA table_xinfo({_TABLE})").fetchall()
        written = [name for _, name, *_, hidden in columns if not hidden]
        (row,) = connection.execute(f"SELECT {', '.join(written)} FROM {_TABLE}").fetchall()
    return written, row
