"""The table of the conventions finds what is against it, and knows every name that the package writes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import SpanKind, StatusCode

import conventions
import llmspan

GOOD: dict[str, Any] = {
    "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "m",
    "server.address": "api.openai.com", "server.port": 443, "gen_ai.response.finish_reasons": ("stop",),
    "gen_ai.usage.input_tokens": 0, "gen_ai.request.temperature": 1.0, "llmspan.record.id": "r",
}  # fmt: skip


def faults_of(attributes: dict[str, Any], *, failed: bool = False, **request: Any) -> list[str]:
    span: Any = TracerProvider(shutdown_on_exit=False).get_tracer("t").start_span(
        "chat m", kind=SpanKind.CLIENT, attributes={k: v for k, v in attributes.items() if v is not None}
    )  # fmt: skip
    if failed:
        span.set_status(StatusCode.ERROR)
    span.end()
    return conventions.span_faults(span, request)


def test_a_good_span():
    """A span that keeps to the conventions has no fault."""
    assert faults_of(GOOD, model="m", temperature=1.0) == []


@pytest.mark.parametrize(("wrong", "fault"), [
    ({"gen_ai.provider.name": None}, "gen_ai.provider.name is missing"),
    ({"gen_ai.request.model": None}, "span name 'chat m'"),
    ({"server.port": None}, "server.address without server.port"),
    ({"gen_ai.request.temperature": 1}, "gen_ai.request.temperature is 1, not double"),
    ({"gen_ai.usage.input_tokens": "7"}, "gen_ai.usage.input_tokens is '7', not int"),
    ({"gen_ai.request.top_k": 1.0}, "gen_ai.request.top_k is 1.0, not int"),
    ({"gen_ai.request.stream": False}, "gen_ai.request.stream is written only where it is true"),
    ({"gen_ai.request.choice.count": 1}, "gen_ai.request.choice.count is written only"),
    ({"gen_ai.usage.cache_creation.input_tokens": 1}, "gen_ai.usage.cache_creation.input_tokens is no attribute"),
    ({"gen_ai.odd": "x"}, "gen_ai.odd is no attribute"), ({"odd": "x"}, "odd is no attribute"),
    ({"gen_ai.output.type": "xml"}, "gen_ai.output.type is 'xml'"),
    ({"gen_ai.response.finish_reasons": ("end_turn",)}, "gen_ai.response.finish_reasons is ('end_turn',)"),
    ({"gen_ai.provider.name": "groq", "openai.api.type": "responses"}, "openai.api.type on a call of 'groq'"),
    ({"error.type": "x"}, "status UNSET with error.type 'x'"),
    ({"gen_ai.operation.name": "embeddings"}, "gen_ai.request.temperature does not belong to the operation"),
    ({"gen_ai.operation.name": "fetch_response"}, "gen_ai.response.id is required"),
    ({"gen_ai.input.messages": '[{"role":"user","parts":[{"type":"text"}]}]'}, "a part without content"),
])  # fmt: skip
def test_a_wrong_span(wrong, fault):
    """Each kind of fault is found, and named."""
    assert any(found.startswith(fault) or fault in found for found in faults_of(GOOD | wrong))


def test_what_a_request_requires():
    """A parameter that the conventions want on the span is missed; a failed span needs an error type."""
    assert faults_of(GOOD, seed=7) == ["gen_ai.request.seed is missing: the request has seed=7"]
    assert faults_of(GOOD, stream=True) == ["gen_ai.request.stream is missing: the request asks for a stream"]
    assert faults_of(GOOD, failed=True) == ["status ERROR with error.type None"]


def test_every_name_is_in_the_table():
    """Every name of the conventions that the package writes is in the table, also where no recording has it."""
    source = Path(llmspan.__file__).parent
    files = [*source.glob("*semconv*.py"), source / "metrics.py", source / "messages.py"]
    texts = [file.read_text("utf-8") for file in files]
    names = set(re.findall(r'"((?:gen_ai|openai)\.[a-z0-9_.]+[a-z0-9])"', "\n".join(texts)))
    known = conventions.TYPES.keys() | conventions.METRICS.keys() | REPLACED
    assert sorted(names - known) == []


#: names that the conventions have replaced: read, and written on request only
REPLACED = {
    "gen_ai.usage.cache_creation.input_tokens", "gen_ai.usage.prompt_tokens", "gen_ai.usage.completion_tokens",
    "gen_ai.system", "gen_ai.client.operation.time_to_first_chunk", "gen_ai.client.operation.time_per_output_chunk",
    "gen_ai.client.token.usage",
}  # fmt: skip
