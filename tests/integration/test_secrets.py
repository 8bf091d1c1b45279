"""Planted secrets: everything that is exported, logged or written is searched for them, in every mode there is."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import llmspan
from llmspan import lifecycle
from replay import transport
from streams import CHAT, MESSAGES

SSE = {"content-type": "text/event-stream", "set-cookie": "session=planted-cookie-set"}
JSON = {"content-type": "application/json"}
KEY = "sk-" + "planted-key-4f6a8c"
OTHER = "planted-odd-key-77"
#: what is in every payload: where it is found, the search looks at the right place
CANARY = "canary-in-the-payload"


class Exported:
    """Everything that OpenTelemetry was given."""

    def __init__(self) -> None:
        self.spans = InMemorySpanExporter()
        self.tracer_provider = TracerProvider()
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self.spans))
        self.events = InMemoryLogRecordExporter()
        self.logger_provider = LoggerProvider(shutdown_on_exit=False)
        self.logger_provider.add_log_record_processor(SimpleLogRecordProcessor(self.events))
        self.reader = InMemoryMetricReader()
        self.meter_provider = MeterProvider([self.reader], shutdown_on_exit=False)

    def text(self) -> str:
        data = self.reader.get_metrics_data()
        return "\n".join(
            [
                *(span.to_json() for span in self.spans.get_finished_spans()),
                *(repr(dict(found.log_record.attributes or {})) for found in self.events.get_finished_logs()),
                data.to_json() if data else "",
            ]
        )


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    lifecycle.close(30)
    yield
    lifecycle.close(30)


def echo(request: httpx2.Request) -> httpx2.Response:
    """A server that says in its error what it was asked with, as some do."""
    shown = f"{KEY[:8]}{'*' * 12}{KEY[-4:]}"
    body = {"error": {
        "message": f"Incorrect API key provided: {shown}. You sent {dict(request.headers)}",
        "code": "invalid_api_key", "param": {"api_key": KEY, "authorization": f"Bearer {KEY}"},
    }}  # fmt: skip
    return httpx2.Response(401, json=body)


def openai_client(mock: Any, key: str = KEY) -> openai.OpenAI:
    return openai.OpenAI(
        api_key=key, max_retries=0, http_client=httpx2.Client(transport=mock, cookies={"session": "planted-cookie"}),
        default_headers={"x-proxy-authorization": "planted-proxy"},
    )  # fmt: skip


def anthropic_client(mock: Any) -> anthropic.Anthropic:
    return anthropic.Anthropic(api_key=KEY, max_retries=0, http_client=httpx2.Client(transport=mock))


def finished_calls() -> None:
    mcp = {"type": "mcp", "server_label": "wiki", "server_url": "https://x.example", "authorization": "planted-mcp",
           "headers": {"authorization": "planted-mcp-header"}}  # fmt: skip
    client = openai_client(transport(200, SSE, list(CHAT.stream)))
    question = [{"role": "user", "content": CANARY}]
    for _ in client.chat.completions.create(
        model="m", messages=question, tools=[mcp], stream=True, extra_body={"api_key": "planted-upstream"},
        extra_headers={"Authorization": f"Bearer {OTHER}", "Cookie": "planted-cookie=1"},
    ):  # fmt: skip
        pass
    servers = [{"type": "url", "name": "wiki", "url": "https://x.example", "authorization_token": "planted-mcp-token"}]
    for _ in anthropic_client(transport(200, SSE, list(MESSAGES.stream))).beta.messages.create(
        model="m", max_tokens=9, messages=question, mcp_servers=servers, stream=True
    ):
        pass


def refused_calls() -> None:
    question = [{"role": "user", "content": CANARY}]
    for key in (KEY, OTHER):
        with suppress(openai.AuthenticationError):
            openai_client(httpx2.MockTransport(echo), key).chat.completions.create(model="m", messages=question)
    azure = openai.AzureOpenAI(
        api_key=OTHER, api_version="2024-10-21", azure_endpoint="https://x.openai.azure.com", max_retries=0,
        http_client=httpx2.Client(transport=httpx2.MockTransport(echo)),
    )  # fmt: skip
    with suppress(openai.AuthenticationError):
        azure.chat.completions.create(model="m", messages=question)
    with suppress(anthropic.AuthenticationError):
        anthropic_client(httpx2.MockTransport(echo)).messages.create(model="m", max_tokens=9, messages=question)


def calls_that_break() -> None:
    def refuse(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError(f"no route with {request.headers['authorization']}")

    with suppress(openai.APIConnectionError):
        openai_client(httpx2.MockTransport(refuse)).chat.completions.create(
            model="m", messages=[{"role": "user", "content": CANARY}]
        )
    with llmspan.context(llm_config={"model": "m", "api_key": KEY}, billing_context={"authorization": KEY}):
        llmspan.record(
            provider="x", request={"messages": [CANARY], "api_key": KEY}, error=ValueError(f"401 for Bearer {KEY}"),
            error_json={"message": f"bad key {KEY}"},
        )  # fmt: skip


@pytest.mark.parametrize("mode", ["NO_CONTENT", "SPAN_AND_EVENT"])
@pytest.mark.parametrize("calls", [finished_calls, refused_calls, calls_that_break])
def test_no_secret_gets_out(
    calls: Any, mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Keys, tokens and cookies of calls are in no span, event, metric, log line or file; the payload itself is."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    exported = Exported()
    with caplog.at_level(logging.DEBUG, "llmspan"):
        llmspan.instrument(
            tracer_provider=exported.tracer_provider, logger_provider=exported.logger_provider,
            meter_provider=exported.meter_provider, backends="sqlite", sqlite_path=tmp_path / "x.db",
            otel_instrumentation_genai_capture_message_content=mode, semconv_compat=True,
        )  # fmt: skip
        calls()
        assert llmspan.flush(30)
        with llmspan.Reader.from_env(backends="sqlite", sqlite_path=tmp_path / "x.db") as reader:
            read = [reader.get(trace.id) for trace in reader.iterate()]
        assert lifecycle.close(30)
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert any(CANARY.encode() in content for content in files.values())
    assert (CANARY in exported.text()) == (mode == "SPAN_AND_EVENT")
    everything = [exported.text(), caplog.text, repr(read), repr(llmspan.status()), *map(repr, files.values())]
    for place in everything:
        assert "planted" not in place
        assert KEY not in place
    for name, content in files.items():
        assert b"planted" not in content, name


def test_the_search_finds(tmp_path: Path) -> None:
    """Were a secret in a payload by the caller's own doing, this search would see it: it looks at the right files."""
    llmspan.instrument(backends="sqlite", sqlite_path=tmp_path / "x.db")
    client = openai_client(transport(200, SSE, list(CHAT.stream)))
    for _ in client.chat.completions.create(
        model="m", messages=[{"role": "user", "content": "planted by hand"}], stream=True
    ):
        pass
    assert lifecycle.close(30)
    assert any(b"planted" in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
