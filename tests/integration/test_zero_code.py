"""Programs that know nothing of llmspan, run under ``opentelemetry-instrument`` and ``llmspan run``, end to end.

Real processes, the real SDKs, the demo's server for a provider, a real OTLP endpoint, a real SQLite file.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from integration.programs import NO_OTLP, environment, run
from llmspan.demo.server import DemoServer
from llmspan.reader import Reader
from llmspan.trace import ProviderTrace


class Otlp:
    """An OTLP/HTTP endpoint that keeps the spans it is sent."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                request = ExportTraceServiceRequest.FromString(body)
                for resource in request.resource_spans:
                    for scope in resource.scope_spans:
                        outer.spans.extend(scope.spans)
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def otlp() -> Iterator[Otlp]:
    endpoint = Otlp()
    yield endpoint
    endpoint.close()


@pytest.fixture(scope="module")
def provider() -> Iterator[DemoServer]:
    with DemoServer() as server:
        yield server


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "traces.db"


def to_otlp(otlp: Otlp) -> dict[str, str]:
    return {
        "OTEL_TRACES_EXPORTER": "otlp_proto_http",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        "OTEL_EXPORTER_OTLP_ENDPOINT": otlp.endpoint,
        "OTEL_SERVICE_NAME": "shop",
    }


def records(database: Path) -> list[ProviderTrace]:
    with Reader.from_env(backends="sqlite", sqlite_path=database) as reader:
        return [trace for found in reader.iterate() if (trace := reader.get(found.id)) is not None]


def attribute(span: Span, name: str) -> Any:
    for pair in span.attributes:
        if pair.key == name:
            kind = pair.value.WhichOneof("value")
            return None if kind is None else getattr(pair.value, kind)
    return None


@pytest.mark.parametrize("starter", [["opentelemetry-instrument"], ["llmspan", "run", "--"]], ids=["otel", "llmspan"])
@pytest.mark.parametrize(("example", "name"), [("openai_stream", "openai"), ("anthropic_stream", "anthropic")])
@pytest.mark.peer_fault("S9")
def test_one_span_over_otlp_and_one_record(
    starter: list[str], example: str, name: str, provider: DemoServer, database: Path, otlp: Otlp
) -> None:
    """An untouched program gives one span at the OTLP endpoint and one record in SQLite, and they agree."""
    env = environment(provider, database, **to_otlp(otlp))
    bare = run(sys.executable, f"examples/{example}.py", env=env)
    done = run(*starter, sys.executable, f"examples/{example}.py", env=env)
    assert (done.returncode, done.stdout) == (0, bare.stdout)
    (span,) = otlp.spans
    (record,) = records(database)
    assert span.span_id.hex() == record.span_id
    assert span.kind == Span.SPAN_KIND_CLIENT
    assert attribute(span, "llmspan.record.id") == record.id
    assert attribute(span, "gen_ai.provider.name") == record.provider == name
    assert attribute(span, "gen_ai.usage.input_tokens") == record.usage.input_tokens
    assert attribute(span, "gen_ai.usage.output_tokens") == record.usage.output_tokens
    assert record.usage.source == "provider" or name == "openai"
    assert record.status == "ok"
    assert record.stream
    assert record.source == "shop"
    assert "planted-secret" not in record.to_json()
    assert b"planted-secret" not in database.read_bytes()


def test_run_ends_with_a_summary(provider: DemoServer, database: Path) -> None:
    """``llmspan run`` says at the end what was called and where it is; the program's own output is its own."""
    done = run("llmspan", "run", "examples/anthropic_stream.py", env=environment(provider, database))
    assert done.returncode == 0
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("llmspan: ")]
    (record,) = records(database)
    assert line.startswith(f"llmspan: 1 call, 0 failed; tokens {record.usage.input_tokens} in")
    assert str(database) in line


def test_run_keeps_the_exit_code(provider: DemoServer, database: Path) -> None:
    """The program's exit code is the command's, and a failed call is counted as one."""
    code = "import openai; openai.OpenAI(max_retries=0).chat.completions.create(model='demo-overloaded', messages=[])"
    done = run("llmspan", "run", "--", sys.executable, "-c", code, env=environment(provider, database))
    assert done.returncode == 1
    assert "RateLimitError" in done.stderr
    assert "1 call, 1 failed" in done.stderr
    assert records(database)[0].status == "error"


@pytest.mark.parametrize("also", [{}, {"LLMSPAN_BACKENDS": "sqlite"}], ids=["exporter alone", "exporter and setting"])
def test_the_exporters_name_is_enough(also: dict[str, str], provider: DemoServer, database: Path) -> None:
    """``OTEL_TRACES_EXPORTER=llmspan_sqlite`` writes each call once, whether or not the backend is named too."""
    env = environment(provider, database, **{**NO_OTLP, "OTEL_TRACES_EXPORTER": "llmspan_sqlite"}, **also)
    done = run("opentelemetry-instrument", sys.executable, "examples/openai_stream.py", env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(records(database)) == 1


def test_exporter_records_do_not_depend_on_the_sampler(provider: DemoServer, database: Path) -> None:
    """With every trace sampled away, the exporter's store still has the record."""
    harsh = {"OTEL_TRACES_SAMPLER": "always_off", "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "100"}
    env = environment(provider, database, **{**NO_OTLP, "OTEL_TRACES_EXPORTER": "llmspan_sqlite"}, **harsh)
    run("opentelemetry-instrument", sys.executable, "examples/anthropic_stream.py", env=env)
    (record,) = records(database)
    assert record.response_json is not None
    assert record.usage.source == "provider"


@pytest.mark.parametrize("starter", [["opentelemetry-instrument"], ["llmspan", "run", "--no-summary", "--"]])
@pytest.mark.peer_fault("I3")
def test_nothing_imports_an_sdk(starter: list[str], provider: DemoServer, database: Path) -> None:
    """A program that does not use an SDK does not pay for one."""
    code = "import sys; print(sorted({'openai', 'anthropic', 'httpx2', 'pydantic'} & set(sys.modules)))"
    done = run(*starter, sys.executable, "-c", code, env=environment(provider, database, **NO_OTLP))
    assert (done.stdout, done.stderr) == ("[]\n", "")


BAD_SETTINGS = [
    ({"LLMSPAN_BACKENDS": "click-house"}, ["LLMSPAN_BACKENDS=click-house", "sqlite", "memory"]),
    ({"LLMSPAN_BACKENDS": ""}, ["LLMSPAN_BACKENDS=", "empty"]),
    ({"LLMSPAN_BACKENDS": "sqlite,sqlite"}, ["LLMSPAN_BACKENDS=sqlite,sqlite", "twice"]),
    ({"LLMSPAN_QUEUE_MAX_BYTES": "lots"}, ["LLMSPAN_QUEUE_MAX_BYTES=lots", "64MiB"]),
    ({"LLMSPAN_SQLITE_PATH": "/proc/nowhere/traces.db"}, ["LLMSPAN_SQLITE_PATH", "/proc/nowhere/traces.db"]),
    ({"LLMSPAN_CAPTURE_PAYLOADS": "some"}, ["LLMSPAN_CAPTURE_PAYLOADS=some", "full", "metadata"]),
]


@pytest.mark.parametrize(("settings", "told"), BAD_SETTINGS, ids=lambda value: str(value)[:40])
def test_a_wrong_setting_is_told_once_and_the_program_runs(
    settings: dict[str, str], told: list[str], provider: DemoServer, database: Path
) -> None:
    """Under ``opentelemetry-instrument`` the application is unharmed; the error is on stderr, once, in full."""
    env = environment(provider, database, **NO_OTLP, **settings)
    bare = run(sys.executable, "examples/openai_stream.py", env=env)
    done = run("opentelemetry-instrument", sys.executable, "examples/openai_stream.py", env=env)
    assert (done.returncode, done.stdout) == (0, bare.stdout)
    (line,) = [line for line in done.stderr.splitlines() if "llmspan" in line.lower()]
    assert all(word in line for word in told), line
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("settings", "told"), BAD_SETTINGS, ids=lambda value: str(value)[:40])
def test_a_wrong_setting_stops_llmspan_run_and_instrument(
    settings: dict[str, str], told: list[str], provider: DemoServer, database: Path
) -> None:
    """Who names llmspan himself is told before anything starts: exit code 2, or an exception."""
    env = environment(provider, database, **NO_OTLP, **settings)
    done = run("llmspan", "run", "examples/openai_stream.py", env=env)
    assert (done.returncode, done.stdout) == (2, "")
    assert all(word in done.stderr for word in told), done.stderr
    code = "import llmspan\ntry: llmspan.instrument()\nexcept llmspan.SettingsError as error: print(error)"
    done = run(sys.executable, "-c", code, env=env)
    assert all(word in done.stdout for word in told), done.stdout


def test_a_full_queue_at_exit_is_written(provider: DemoServer, database: Path) -> None:
    """Calls that ended just before the program did are in the store."""
    code = (
        "import anthropic\n"
        "client = anthropic.Anthropic()\n"
        "for n in range(40): client.messages.create(model='claude-demo', max_tokens=9,\n"
        "    messages=[{'role': 'user', 'content': 'x' * 100_000}])"
    )
    done = run("llmspan", "run", "--", sys.executable, "-c", code, env=environment(provider, database))
    assert done.returncode == 0, done.stderr
    assert len(records(database)) == 40


def test_streams_open_at_exit_are_recorded(provider: DemoServer, database: Path) -> None:
    """A stream that was never read to its end is closed_early when the program ends, not forgotten."""
    code = (
        "import openai\n"
        "stream = openai.OpenAI().chat.completions.create(model='gpt-demo', stream=True,\n"
        "    messages=[{'role': 'user', 'content': 'hi'}])\n"
        "next(stream)"
    )
    done = run("llmspan", "run", "--", sys.executable, "-c", code, env=environment(provider, database))
    assert done.returncode == 0, done.stderr
    (record,) = records(database)
    assert record.status == "closed_early"


@pytest.mark.parametrize("launcher", [("opentelemetry-instrument",), ("llmspan", "run")], ids=lambda words: words[-1])
def test_the_demo_below_another_start(provider: DemoServer, database: Path, launcher: tuple[str, ...]) -> None:
    """Where llmspan is set up already, the demo still records its calls, and leaves the user's store alone."""
    result = run(*launcher, "llmspan", "demo", "--json", env=environment(provider, database, **NO_OTLP))
    assert (result.returncode, result.stderr) == (0, "")
    records = [ProviderTrace.from_json(line) for line in result.stdout.splitlines()]
    assert {record.provider for record in records} == {"openai", "anthropic"}
    assert len({record.id for record in records}) == len(records) > 6
    with Reader.from_env(backends="sqlite", sqlite_path=database) as reader:
        assert not reader.list().traces
