"""The least that a call costs with a span and a row: those that llmspan makes of it, made again by hand.

One call goes through llmspan, which then leaves. Every later call starts the same span with OpenTelemetry's SDK, gives
it the same attributes, and puts the same row, with an id of its own, to a thread that writes rows as llmspan does:
after the same linger, many in a transaction, into the same table with its indexes. Nothing finds out what the call was,
so what llmspan costs beyond this is the capture: hooks, reading the request and the reply, usage, redaction, delivery.

:class:`ReadingFloor` also reads: one hook, the exact request and reply, their usage, the values of attributes and row
from them, by code that can do no more than this one call. It knows neither errors nor retries nor streams, looks for no
credentials, counts nothing that it takes or loses, and keeps to no limit.
"""

from __future__ import annotations

import itertools
import json
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind

import llmspan
from llmspan.settings import Settings
from observed import Seen

_TABLE = "provider_traces"
#: so many rows at most in a transaction, as the batches of llmspan's SQLite backend
_BATCH = 500


class Call(NamedTuple):
    """What llmspan makes of a call."""

    name: str
    start: dict[str, Any]
    end: dict[str, Any]
    columns: list[str]
    row: tuple[Any, ...]


class Floor:
    """What replaces ``create`` of a client: the SDK's call, a span and a row."""

    def __init__(self, provider: Any, path: Path) -> None:
        self.provider, self.path = provider, path
        self.rows: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def wrap(self, client: Any) -> Any:
        """The client, whose unary calls have the span and the row."""
        resource = client.messages if hasattr(client, "messages") else client.chat.completions
        create, learned = resource.create, list[Callable[..., Any]]()

        def first(*args: Any, **kwargs: Any) -> Any:
            if not learned:
                learned.append(self.again(client, create, self._learn(create, args, kwargs)))
            return learned[0](*args, **kwargs)

        resource.create = first
        return client

    def flush(self) -> None:
        """Wait until all rows are written, and spans exported."""
        written = threading.Event()
        self.rows.put(written)
        written.wait()
        self.provider.force_flush()

    def _learn(self, create: Callable[..., Any], args: Any, kwargs: Any) -> Call:
        """Make the call once through llmspan, and remember what that made of it."""
        self.path.unlink(missing_ok=True)
        seen, provider = Seen(), TracerProvider()
        provider.add_span_processor(seen)
        llmspan.instrument(backends="sqlite", sqlite_path=self.path, tracer_provider=provider)
        create(*args, **kwargs)
        llmspan.shutdown()
        columns, row = _row_of(self.path)
        threading.Thread(target=self._write, args=(columns, row), daemon=True).start()
        return Call(seen.name, seen.start, seen.rest, columns, row)

    def again(self, _: Any, create: Callable[..., Any], learned: Call) -> Callable[..., Any]:
        """The function that stands for ``create`` from now on."""
        tracer, rows = self.provider.get_tracer("floor"), self.rows
        name, start, end, row = learned.name, learned.start, learned.end, learned.row
        id_at, numbers = learned.columns.index("id"), itertools.count()
        prefix = row[id_at][:24]

        def call(*args: Any, **kwargs: Any) -> Any:
            span = tracer.start_span(name, kind=SpanKind.CLIENT, attributes=start, start_time=time.time_ns())
            result = create(*args, **kwargs)
            span.set_attributes(end)
            span.end()
            rows.put((*row[:id_at], f"{prefix}{next(numbers):012x}", *row[id_at + 1 :]))
            return result

        return call

    def rows_of(self, taken: list[Any], columns: list[str], row: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        """The rows that were queued."""
        return taken

    def _write(self, columns: list[str], row: tuple[Any, ...]) -> None:
        connection = sqlite3.connect(self.path, isolation_level=None)
        for pragma in ("journal_mode = wal", "synchronous = normal", "wal_autocheckpoint = 4000"):
            connection.execute(f"PRAGMA {pragma}")
        places = ", ".join("?" * len(columns))
        statement = f"INSERT INTO {_TABLE} ({', '.join(columns)}) VALUES ({places}) ON CONFLICT DO NOTHING"
        linger = Settings().linger
        while True:
            taken = [self.rows.get()]
            if not isinstance(taken[0], threading.Event):
                time.sleep(linger)
            while len(taken) < _BATCH and not self.rows.empty():
                taken.append(self.rows.get())
            connection.execute("BEGIN IMMEDIATE")
            queued = [item for item in taken if not isinstance(item, threading.Event)]
            connection.executemany(statement, self.rows_of(queued, columns, row))
            connection.execute("COMMIT")
            for answer in taken:
                if isinstance(answer, threading.Event):
                    answer.set()


class ReadingFloor(Floor):
    """The same span and row, from what was sent and received. See the module."""

    def again(self, client: Any, create: Callable[..., Any], learned: Call) -> Callable[..., Any]:
        """The function that stands for ``create`` from now on."""
        tracer, rows, (name, start, end, columns, row) = self.provider.get_tracer("floor"), self.rows, learned
        http, exchange, numbers = client._client, threading.local(), itertools.count()
        send, prefix = http.send, row[columns.index("id")][:24]

        def keep(request: Any, **kwargs: Any) -> Any:
            response = send(request, **kwargs)
            exchange.last = request, response
            return response

        http.send = keep

        def call(*args: Any, **kwargs: Any) -> Any:
            record_id, started_at, started_ns = f"{prefix}{next(numbers):012x}", time.time_ns(), time.perf_counter_ns()
            begin = {**start, "gen_ai.request.model": kwargs["model"], "llmspan.record.id": record_id}
            for key, parameter in _PARAMETERS.items():
                if key in kwargs:
                    begin[parameter] = kwargs[key]
            span = tracer.start_span(name, kind=SpanKind.CLIENT, attributes=begin, start_time=started_at)
            result = create(*args, **kwargs)
            duration = time.perf_counter_ns() - started_ns
            request, response = exchange.last
            sent, received, headers = request.content, response.content, response.headers
            reply = json.loads(received)
            five, reasons = _usage_of(reply["usage"]), _reasons_of(reply)
            request_id = headers.get("x-request-id") or headers.get("request-id")
            attributes = {
                **end,
                "gen_ai.response.model": reply["model"],
                "gen_ai.response.id": reply["id"],
                "http.response.status_code": response.status_code,
                "llmspan.request.id": request_id,
                "llmspan.request.bytes": len(sent),
                "llmspan.response.bytes": len(received),
                "llmspan.response.finish_reasons": reasons,
            }
            attributes |= {_COUNTS[key]: count for key, count in five.items() if count is not None}
            span.set_attributes(attributes)
            span.end(started_at + duration)
            context = span.get_span_context()
            rows.put((record_id, context, started_at, duration, sent, received, reply, five, reasons, request_id))
            return result

        return call

    def rows_of(self, taken: list[Any], columns: list[str], row: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        """The rows of the exchanges that were queued."""
        known, made = dict(zip(columns, row, strict=True)), list[tuple[Any, ...]]()
        for record_id, context, started_at, duration, sent, received, reply, five, reasons, request_id in taken:
            request = sent.decode()
            json.loads(request)  # a text that is no JSON would not be one in the row
            values = {
                **known,
                **five,
                "id": record_id,
                "trace_id": f"{context.trace_id:032x}",
                "span_id": f"{context.span_id:016x}",
                "started_at": started_at,
                "duration_ns": duration,
                "request_json": request,
                "response_json": received.decode(),
                "request_bytes": len(sent),
                "response_bytes": len(received),
                "response_model": reply["model"],
                "response_id": reply["id"],
                "request_id": request_id,
                "finish_reasons": json.dumps(reasons),
                "usage_raw": json.dumps(reply["usage"]),
            }
            made.append(tuple(map(values.__getitem__, columns)))
        return made


_PARAMETERS = {"max_tokens": "gen_ai.request.max_tokens", "temperature": "gen_ai.request.temperature"}
_COUNTS = {
    "input_tokens": "gen_ai.usage.input_tokens",
    "output_tokens": "gen_ai.usage.output_tokens",
    "cache_read_tokens": "gen_ai.usage.cache_read.input_tokens",
    "cache_write_tokens": "gen_ai.usage.cache_write.input_tokens",
    "reasoning_tokens": "gen_ai.usage.reasoning.output_tokens",
}


def _usage_of(usage: dict[str, Any]) -> dict[str, int | None]:
    if "prompt_tokens" in usage:
        prompt, completion = usage.get("prompt_tokens_details") or {}, usage.get("completion_tokens_details") or {}
        return {
            "input_tokens": usage["prompt_tokens"],
            "output_tokens": usage["completion_tokens"],
            "cache_read_tokens": prompt.get("cached_tokens"),
            "cache_write_tokens": None,
            "reasoning_tokens": completion.get("reasoning_tokens"),
        }
    read, written = usage.get("cache_read_input_tokens"), usage.get("cache_creation_input_tokens")
    return {
        "input_tokens": usage["input_tokens"] + (read or 0) + (written or 0),
        "output_tokens": usage["output_tokens"],
        "cache_read_tokens": read,
        "cache_write_tokens": written,
        "reasoning_tokens": None,
    }


def _reasons_of(reply: dict[str, Any]) -> tuple[str, ...]:
    if "choices" in reply:
        return tuple([choice["finish_reason"] for choice in reply["choices"]])
    return (reply["stop_reason"],)


def _row_of(path: Path) -> tuple[list[str], tuple[Any, ...]]:
    """The columns that are written, and their values in the only row."""
    with sqlite3.connect(path) as connection:
        columns = connection.execute(f"PRAGMA table_xinfo({_TABLE})").fetchall()
        written = [name for _, name, *_, hidden in columns if not hidden]
        (row,) = connection.execute(f"SELECT {', '.join(written)} FROM {_TABLE}").fetchall()
    return written, row
