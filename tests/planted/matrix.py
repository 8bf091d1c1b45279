"""The run: all places once, into all sinks at once.

The stores are real: Postgres by a role and ClickHouse by HTTP, each with a secret as its password, SQLite, a sidecar
behind a relay. A store that is down fills the spool, one that refuses fills the dead letters.
"""

from __future__ import annotations

import io
import itertools
import logging
import os
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from psycopg.conninfo import make_conninfo

import llmspan
from llmspan import _guard, content, exporter, lifecycle, pipeline
from llmspan.backends import load_backend
from llmspan.backends.base import GROUPS
from llmspan.backends.memory import MemoryBackend
from llmspan.backends.postgres import PostgresBackend
from llmspan.backends.socket import SocketBackend
from llmspan.backends.sqlite import SQLiteBackend
from llmspan.cli import run, trial
from llmspan.redaction import context, json_text, patterns
from llmspan.settings import Settings
from stores import clickhouse, postgres
from stores.clickhouse_http import Front
from stores.sidecar import RunningSidecar, short_directory

from . import marks, sinks
from .carriers import CARRIERS
from .echoes import ECHOES, Answer, transport
from .others import OTHERS, PROMPTS, Act

#: settings that hold a secret; in this order
SETTINGS: Final = ("password of Postgres", "password of ClickHouse", "OTLP endpoint and headers", "proxy variables",
                   "wrong password", "unreachable store", "redis-like variable")  # fmt: skip


class Place(NamedTuple):
    """One place: ``act`` is None for those that are settings of the run itself."""

    number: int
    name: str
    secret: str
    act: Act | None = None


def _carried(name: str, answer: Answer, *, stream: bool) -> Act:
    carrier = CARRIERS[name]

    def act(secret: str, word: str) -> None:
        with suppress(Exception):  # what the SDK raises for such an answer
            carrier.call(secret, transport(answer, secret, carrier.api), stream, word)

    return act


def _named() -> Iterator[tuple[str, Any, Act | None]]:
    for name in SETTINGS:
        yield f"setting: {name}", marks.opaque, None
    for (name, carrier), (echo, (answer, stream)) in itertools.product(CARRIERS.items(), ECHOES.items()):
        # the body of a call that succeeds is not read on the caller's thread, so its span may repeat a name from it
        is_unread = carrier.in_body and echo == "names of an answer"
        if not is_unread and (carrier.streams or not stream):
            yield f"{name}: {echo}", carrier.form, _carried(name, answer, stream=stream)
    for name, other in OTHERS.items():
        yield name, other.form, other.act


PLACES: Final = tuple(
    Place(number, name, form(number), act) for number, (name, form, act) in enumerate(_named(), start=1)
)
PROMPT_PLACES: Final = tuple(
    Place(number, name, other.form(number), other.act)
    for number, (name, other) in enumerate(PROMPTS.items(), start=len(PLACES) + 1)
)


@dataclass
class Run:
    """What came of it: the bytes of each sink, by its name."""

    sinks: dict[str, bytes] = field(default_factory=dict[str, bytes])

    def add(self, name: str, *parts: object) -> None:
        texts = (part if isinstance(part, bytes) else str(part).encode("utf-8", "replace") for part in parts)
        self.sinks[name] = b"\n".join([self.sinks.get(name, b""), *texts])


#: the sinks in which each record must be found, by its canary
STORES: Final = (
    "SQLite", "SQLite's file", "Postgres", "ClickHouse", "memory", "sidecar's SQLite", "bytes on the socket", "spool",
    "dead letters", "export", "show --json",
)  # fmt: skip
SINKS: Final = (
    *STORES, "repr of records", "OTLP spans", "OTLP events", "OTLP metrics", "bytes on the v3 socket", "show --full",
    "tail", "tail --json", "stats", "stats --json", "doctor", "run", "summary", "log", "standard error",
    "repr of objects", "status", "errors", "arguments of processes",
)  # fmt: skip


#: ours and those of the stores' drivers
_LOGGERS: Final = ("llmspan", "psycopg", "clickhouse_connect", "urllib3", "chdb")
#: places whose records are made of no call of an SDK: they have no span of ours
_WITHOUT_SPAN: Final = ("record: ", "span: ")


def has_span(place: Place) -> bool:
    """Whether what stands beside the secret of a place is on a span of ours."""
    return place.act is not None and not place.name.startswith(_WITHOUT_SPAN)


@contextmanager
def _capturing() -> Iterator[sinks.LogLines]:
    lines = sinks.LogLines()
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.DEBUG)
        logger.addHandler(lines)
    try:
        yield lines
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(lines)
            logger.setLevel(level)


def run_matrix(folder: Path, patch: pytest.MonkeyPatch, places: Sequence[Place] = PLACES) -> Run:
    """``places``, by default all, into all sinks."""
    result = Run()
    secrets = {name: PLACES[index].secret for index, name in enumerate(SETTINGS)}
    lifecycle.close(30)
    exporter._seen_spans.forget()
    patch.setenv("HOME", str(folder / "home"))
    with ExitStack() as stack:
        short = stack.enter_context(short_directory())
        log = stack.enter_context(_capturing())
        printed = stack.enter_context(redirect_stderr(io.StringIO()))
        receiver = sinks.OtlpReceiver()
        stack.callback(receiver.stop)
        setup = _Setup(folder, short, secrets, receiver, stack)
        _set_variables(patch, setup)
        stack.callback(lifecycle.close, 30)
        _call(places, setup, result, None)
        _call(PROMPT_PLACES, setup, result, "keys")
        setup.stop_sidecar()
        _read_stores(result, setup)
        _read_commands(result, setup)
        _read_objects(result, setup)
        for signal in ("spans", "events", "metrics"):
            result.add(f"OTLP {signal}", receiver.bodies[{"spans": "traces", "events": "logs"}.get(signal, signal)])
        result.add("log", log.text)
        result.add("standard error", printed.getvalue())
    assert set(result.sinks) == set(SINKS)
    return result


class _Setup:
    """The servers and files of a run."""

    def __init__(
        self, folder: Path, short: Path, secrets: Mapping[str, str], receiver: sinks.OtlpReceiver, stack: ExitStack
    ) -> None:
        self.folder, self.short, self.secrets, self.receiver = folder, short, secrets, receiver
        self.database = folder / "traces.db"
        self.admin_dsn = postgres.new_schema()
        role = f"planted_{os.getpid()}_{short.name[-6:].lower()}"
        password = secrets["password of Postgres"]
        (schema,) = postgres.execute(self.admin_dsn, "SELECT current_schema()")[0]
        postgres.execute(self.admin_dsn, f"CREATE ROLE {role} LOGIN PASSWORD '{password}'",
                         f"GRANT ALL ON SCHEMA {schema} TO {role}")  # fmt: skip
        stack.callback(postgres.execute, self.admin_dsn, f"DROP OWNED BY {role} CASCADE", f"DROP ROLE {role}")
        self.postgres_dsn = make_conninfo(self.admin_dsn, user=role, password=password)
        self.front = Front(clickhouse.engine(), password=secrets["password of ClickHouse"])
        self.front.start()
        stack.callback(self.front.stop)
        self.clickhouse_database = clickhouse.new_database()
        who = f"default:{secrets['password of ClickHouse']}@"
        self.clickhouse_dsn = self.front.dsn(self.clickhouse_database, who)
        self.memory = MemoryBackend()
        self.sidecar: Any = RunningSidecar(short / "s.sock", SQLiteBackend(folder / "sidecar.db"))
        self.relay = sinks.Relay(short / "r.sock", short / "s.sock")
        stack.callback(self.stop_sidecar)

    def stop_sidecar(self) -> None:
        """Stop what stands behind the socket; again, do nothing."""
        sidecar, self.sidecar = self.sidecar, None
        if sidecar is not None:
            self.relay.stop()
            assert sidecar.stop()

    def extra_backends(self) -> Iterator[Any]:
        """Stores beside those that the settings name."""
        wrong, unreachable = self.secrets["wrong password"], self.secrets["unreachable store"]
        yield self.memory
        yield sinks.Away()
        yield sinks.Refusing()
        yield PostgresBackend(make_conninfo(self.postgres_dsn, password=wrong))
        for dsn in (self.front.dsn("d", f"default:{wrong}@"), f"http://ann:{unreachable}@127.0.0.1:1/d"):
            yield load_backend("clickhouse", Settings(clickhouse_dsn=dsn), named_by="a test")
        yield PostgresBackend(f"postgresql://ann:{unreachable}@127.0.0.1:1/d?connect_timeout=2")


def _set_variables(patch: pytest.MonkeyPatch, setup: _Setup) -> None:
    secrets = setup.secrets
    endpoint, proxy = secrets["OTLP endpoint and headers"], secrets["proxy variables"]
    patch.setenv("LLMSPAN_POSTGRES_DSN", setup.postgres_dsn)
    patch.setenv("LLMSPAN_CLICKHOUSE_DSN", setup.clickhouse_dsn)
    patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", setup.receiver.endpoint("", f"ann:{endpoint}@"))
    patch.setenv("OTEL_EXPORTER_OTLP_HEADERS", f"authorization=Bearer {endpoint},x-api-key={endpoint}")
    patch.setenv("NO_PROXY", "127.0.0.1,x.example")
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        patch.setenv(name, f"http://ann:{proxy}@127.0.0.1:9")
    patch.setenv("REDIS_URL", f"redis://:{secrets['redis-like variable']}@h:6379")


def _call(places: Sequence[Place], setup: _Setup, result: Run, patterns: str | None) -> None:
    """Make the calls of ``places``, and wait until all is written."""
    providers = sinks.Providers(setup.receiver, setup.secrets["OTLP endpoint and headers"])
    llmspan.instrument(
        tracer_provider=providers.tracer, logger_provider=providers.logger, meter_provider=providers.meter,
        backends="sqlite,postgres,clickhouse,socket", sqlite_path=setup.database, socket=setup.short / "r.sock",
        spool_dir=setup.folder / "spool", dead_letter_dir=setup.folder / "dead", clickhouse_otel_traces=True,
        clickhouse_ttl=None, redact_patterns=patterns, semconv_compat="beside", chunk_metrics=True, summary=True,
        otel_instrumentation_genai_capture_message_content="SPAN_AND_EVENT", queue_max_items=100_000,
        queue_max_bytes="1g",
    )  # fmt: skip
    for backend in setup.extra_backends():
        pipeline.shared().add(backend)
    for place in places:
        if place.act is not None:
            word = marks.canary(place.number)
            with llmspan.context(step_id=place.name.partition(":")[0], attributes={"place": word}):
                place.act(place.secret, word)
    llmspan.flush(5)
    result.add("status", repr(llmspan.status()), llmspan.status())
    result.add("repr of objects", repr(pipeline.shared()), *map(repr, pipeline.shared().backends))
    result.add("arguments of processes", _arguments())
    with redirect_stderr(io.StringIO()) as printed:
        lifecycle._state.has_ended = False
        lifecycle._at_exit()
        lifecycle._state.has_ended = False
    result.add("summary", printed.getvalue())
    lifecycle.close(5)
    providers.shutdown()
    assert _guard.failures() == {}, _guard.failures()


def _arguments() -> bytes:
    """The command lines of all processes of this user, ours and their children among them."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            lines.append(path.read_bytes())
    return b"\n".join(lines)


def _read_stores(result: Run, setup: _Setup) -> None:
    result.add("SQLite", sinks.sqlite_rows(setup.database))
    result.add("SQLite's file", *(path.read_bytes() for path in setup.folder.glob("traces.db*")))
    result.add("Postgres", sinks.postgres_rows(setup.admin_dsn))
    result.add("ClickHouse", sinks.clickhouse_rows(setup.clickhouse_database))
    with llmspan.Reader(setup.memory) as reader:
        traces = list(reader.iterate())
        result.add("memory", *(found.to_json() for trace in traces if (found := reader.get(trace.id))))
    result.add("sidecar's SQLite", sinks.sqlite_rows(setup.folder / "sidecar.db"))
    result.add("bytes on the socket", setup.relay.passed)
    result.add("spool", sinks.files(setup.folder / "spool"))
    result.add("dead letters", sinks.files(setup.folder / "dead"))
    _send_by_v3(result, setup)


def _send_by_v3(result: Run, setup: _Setup) -> None:
    """The older framing, which is a line for each record."""
    receiver = sinks.LineReceiver(setup.short / "v3.sock")
    backend = SocketBackend(setup.short / "v3.sock", framing="v3")
    backend.open()
    with llmspan.Reader(setup.memory) as reader:
        traces = [found for trace in reader.iterate() if (found := reader.get(trace.id))]
    for start in range(0, len(traces), 100):
        backend.write(traces[start : start + 100])
    backend.shutdown()
    result.add("bytes on the v3 socket", receiver.stop())


def _read_commands(result: Run, setup: _Setup) -> None:
    db = ("--db", str(setup.database))
    result.add("export", sinks.command("export", *db))
    with llmspan.Reader.from_env(backends="sqlite", sqlite_path=setup.database) as reader:
        listed = list(reader.iterate())
        steps = sorted({trace.step_id for trace in listed if trace.step_id})
        unnamed = [trace.id for trace in listed if not trace.step_id]
        result.add("repr of records", *(f"{reader.get(trace.id)!r} {reader.get(trace.id)}" for trace in listed))
        result.add("repr of objects", repr(reader), repr(reader.backend))
    for words in (*(["--step-id", step] for step in steps), *([id_] for id_ in unnamed)):
        result.add("show --json", sinks.command("show", *words, "--json", *db))
        result.add("show --full", sinks.command("show", *words, "--full", *db))
    result.add("tail", sinks.command("tail", "--once", "-n", "100000", *db))
    result.add("tail --json", sinks.command("tail", "--once", "--json", "-n", "100000", *db))
    for name in GROUPS:
        result.add("stats", sinks.command("stats", "--by", name, *db))
        result.add("stats --json", sinks.command("stats", "--by", name, "--json", *db))
    original, trial._run = trial._run, lambda sdks, environ: {}
    try:
        for backend in ("sqlite", "postgres", "clickhouse", "memory"):
            result.add("doctor", sinks.command("doctor", "--backend", backend))
            result.add("doctor", sinks.command("doctor", "--json", "--backend", backend))
    finally:
        trial._run = original
    environ = dict(os.environ)
    result.add("run", *run.prepare(environ, ["python", "app.py"]), *run.command_line("python", []))


def _read_objects(result: Run, setup: _Setup) -> None:
    settings = Settings.from_env()
    result.add("repr of objects", repr(settings), str(settings), repr(Settings.from_env(backends="memory")))
    for backend in setup.extra_backends():
        result.add("repr of objects", repr(backend), str(backend), backend.location)
        result.add("errors", *_errors_of(backend))


def _errors_of(backend: Any) -> Iterator[str]:
    """What a store that cannot be used says, with the traceback that a program would print."""
    try:
        backend.open()
        backend.check()
    except Exception as error:
        yield repr(error)
        yield "".join(traceback.format_exception(error))
    finally:
        backend.shutdown()


def run_without_masks(folder: Path, patch: pytest.MonkeyPatch) -> bytes:
    """What SQLite holds if nothing is masked: the secret of every place, if the place is one."""
    patch.setattr(patterns, "_replaced", lambda text, spans: text)
    patch.setattr(json_text._Scan, "_is_credential", lambda scan, name: False)
    patch.setattr(context, "_member", lambda name, item: (False, None))
    patch.setattr(content, "mask_credential_members", lambda value, mask: value)
    lifecycle.close(30)
    exporter._seen_spans.forget()
    llmspan.instrument(
        backends="sqlite", sqlite_path=folder / "traces.db", queue_max_items=100_000, queue_max_bytes="1g"
    )
    for place in (*PLACES, *PROMPT_PLACES):
        if place.act is not None:
            place.act(place.secret, marks.canary(place.number))
    assert lifecycle.close(60)
    return sinks.sqlite_rows(folder / "traces.db")
