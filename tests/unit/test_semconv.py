"""The record as span attributes and back, and the names and types that the conventions give them."""

from __future__ import annotations

import ast
import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags, set_span_in_context

from llmspan import _json, semconv, semconv_request
from llmspan.errors import RecordError
from llmspan.trace import ProviderTrace
from llmspan.usage import KNOWN_COUNTS, Usage
from records import NOON, full_trace, make_trace, patient, traces

TRACE, SPAN, PARENT = 0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331, 0x00F067AA0BA902B7

#: attribute -> type, as section 2 of the notes on the GenAI conventions has them (v1.41 moved to semconv-genai)
GENAI = {
    "gen_ai.operation.name": str,
    "gen_ai.provider.name": str,
    "gen_ai.conversation.id": str,
    "gen_ai.conversation.compacted": bool,
    "gen_ai.prompt.name": str,
    "gen_ai.prompt.version": str,
    "gen_ai.response.status": str,
    "gen_ai.output.type": str,
    "gen_ai.agent.id": str,
    "gen_ai.request.model": str,
    "gen_ai.request.choice.count": int,
    "gen_ai.request.seed": int,
    "gen_ai.request.stream": bool,
    "gen_ai.request.top_k": int,
    "gen_ai.request.top_p": float,
    "gen_ai.request.temperature": float,
    "gen_ai.request.frequency_penalty": float,
    "gen_ai.request.presence_penalty": float,
    "gen_ai.request.max_tokens": int,
    "gen_ai.request.stop_sequences": tuple,
    "gen_ai.request.previous_response.id": str,
    "gen_ai.request.reasoning.level": str,
    "gen_ai.request.encoding_formats": tuple,
    "gen_ai.embeddings.dimension.count": int,
    "gen_ai.response.id": str,
    "gen_ai.response.model": str,
    "gen_ai.response.finish_reasons": tuple,
    "gen_ai.response.time_to_first_chunk": float,
    "gen_ai.usage.input_tokens": int,
    "gen_ai.usage.output_tokens": int,
    "gen_ai.usage.cache_read.input_tokens": int,
    "gen_ai.usage.cache_write.input_tokens": int,
    "gen_ai.usage.reasoning.output_tokens": int,
    "gen_ai.usage.text.input_tokens": int,
    "gen_ai.usage.text.output_tokens": int,
    "gen_ai.usage.audio.cache_read.input_tokens": int,
    "gen_ai.usage.image.cache_read.input_tokens": int,
    "gen_ai.usage.text.cache_read.input_tokens": int,
    "gen_ai.usage.image.input_tokens": int,
    "gen_ai.usage.image.output_tokens": int,
    "gen_ai.usage.audio.input_tokens": int,
    "gen_ai.usage.audio.output_tokens": int,
}
#: of the general conventions, and of vendors
OTHERS = {
    "error.type": str,
    "server.address": str,
    "server.port": int,
    "http.response.status_code": int,
    "http.request.resend_count": int,
    "user.id": str,
    "openai.api.type": str,
    "openai.request.service_tier": str,
    "openai.response.service_tier": str,
    "openai.response.system_fingerprint": str,
    "anthropic.response.service_tier": str,
    "anthropic.usage.cache_creation.ephemeral_5m_input_tokens": int,
    "anthropic.usage.cache_creation.ephemeral_1h_input_tokens": int,
}
#: read, never written
OLD = {
    "gen_ai.system", "gen_ai.usage.prompt_tokens", "gen_ai.usage.completion_tokens",
    "gen_ai.usage.cache_creation.input_tokens",
}  # fmt: skip


class FixedIds(IdGenerator):
    def generate_span_id(self) -> int:
        return SPAN

    def generate_trace_id(self) -> int:
        return TRACE


_tracer = TracerProvider(id_generator=FixedIds()).get_tracer("test")


def span_of(attributes: Mapping[str, Any], trace: ProviderTrace | None = None, **at: Any) -> ReadableSpan:
    """A finished span of the real SDK with these attributes, at the place and time of ``trace``."""
    parent = None
    if trace is not None:
        at = {"start": trace.started_at, "end": trace.started_at + trace.duration_ns}
        if trace.parent_span_id is not None:
            ids = SpanContext(TRACE, PARENT, is_remote=False, trace_flags=TraceFlags(1))
            parent = set_span_in_context(NonRecordingSpan(ids))
    span = _tracer.start_span("s", parent, SpanKind.CLIENT, attributes, start_time=at.get("start", NOON))
    span.end(at.get("end", NOON + 5))
    assert isinstance(span, ReadableSpan)
    return span


def facts_of(trace: ProviderTrace) -> dict[str, Any]:
    return {field.name: getattr(trace, field.name) for field in dataclasses.fields(trace)}


def bare(trace: ProviderTrace) -> ProviderTrace:
    """What of a record attributes carry."""
    usage = Usage() if trace.operation == "fetch_response" else dataclasses.replace(trace.usage, raw=None)
    return dataclasses.replace(
        trace, usage=usage, schema_version=1, request_json=None, response_json=None, error_json=None,
        llm_config=None, compaction_settings=None, billing_context=None,
    )  # fmt: skip


def carried(trace: ProviderTrace) -> ProviderTrace:
    """``trace`` in a place that a span can have, and with finish reasons that a span can tell apart."""
    return dataclasses.replace(
        trace, trace_id=f"{TRACE:032x}", span_id=f"{SPAN:016x}",
        parent_span_id=None if trace.parent_span_id is None else f"{PARENT:016x}",
        finish_reasons=tuple(reason if reason != "error" and reason else None for reason in trace.finish_reasons),
    )  # fmt: skip


# -- there and back


@patient
@given(trace=traces().map(carried))
def test_round_trip(trace):
    """A record comes back from its span as it was, less what never goes on spans.

    Those are payloads, ``usage.raw``, the four JSON values and the schema version; a fetched response's usage, which
    is another call's; ids that are no span's; and, as attributes, maps and lists come back as JSON text. An empty
    finish reason is a missing one, which a span spells ``error``.
    """
    found = semconv.from_span(span_of(semconv.to_attributes(trace), trace))
    values = {
        key: value if isinstance(value, str | bool | int | float) else _json.dumps(value)
        for key, value in trace.attributes.items()
    }
    assert found == dataclasses.replace(bare(trace), attributes=values)


def test_full_round_trip():
    """The same for a record in which no field has its default, so that none is left out."""
    trace = carried(full_trace(attributes={"a": 1, "b": "x", "c": 1.5, "d": True}))
    assert semconv.from_span(span_of(semconv.to_attributes(trace), trace)) == bare(trace)


@patient
@given(trace=traces().map(carried), fingerprint=st.none() | st.just("fp"))
def test_a_span_of_ours(trace, fingerprint):
    """What a span gets at its start and at its end is the record too, less what only the worker knows."""
    start = semconv.start_attributes(
        operation=trace.operation, provider=trace.provider, model=trace.request_model,
        address=trace.server_address, port=trace.server_port,
    ) | {semconv.RECORD_ID: trace.id}  # fmt: skip
    if trace.stream:
        start[semconv.STREAM] = True
    end = semconv.end_attributes(facts_of(trace), semconv.SpanFacts(system_fingerprint=fingerprint))
    assert start.keys().isdisjoint(end)
    found = semconv.from_span(span_of(start | end, trace))
    known = bare(trace)
    accepted = trace.http_status is not None and trace.http_status < 400
    failed = trace.status == "error" and accepted and trace.error_json is not None
    reasons = trace.finish_reasons or ((None,) if trace.status == "incomplete" or failed else ())
    port = None if not trace.server_address else trace.server_port
    assert found == dataclasses.replace(
        known, chunk_count=None, content="metadata", finish_reasons=reasons, attributes=found.attributes,
        server_port=port,
    )  # fmt: skip
    assert found.attributes.keys() == known.attributes.keys()


@patient
@given(trace=traces())
def test_none_is_absent(trace):
    """No attribute is None, and each of the five numbers is there exactly if it was reported, 0 as much as 7."""
    attributes = semconv.to_attributes(trace)
    assert None not in attributes.values()
    billed = trace.operation != "fetch_response"
    for key, name in FIVE.items():
        value = getattr(trace.usage, key)
        assert attributes.get(name) == (value if billed else None)
        assert (name in attributes) == (billed and value is not None)


FIVE = {
    "input_tokens": "gen_ai.usage.input_tokens",
    "output_tokens": "gen_ai.usage.output_tokens",
    "cache_read_tokens": "gen_ai.usage.cache_read.input_tokens",
    "cache_write_tokens": "gen_ai.usage.cache_write.input_tokens",
    "reasoning_tokens": "gen_ai.usage.reasoning.output_tokens",
}


def test_zeros_are_written():
    """Reported zeros are on the span: usage, details, chunks and bytes."""
    details = {"cache_write_5m_tokens": 0, "audio_input_tokens": 0, "web_search_requests": 0}
    usage = Usage(**dict.fromkeys(FIVE, 0), details=details, source="provider")
    trace = make_trace(provider="anthropic", usage=usage, chunk_count=0, request_bytes=0, time_to_first_chunk_ns=0)
    attributes = semconv.to_attributes(trace)
    assert [attributes[name] for name in FIVE.values()] == [0] * 5
    assert attributes["anthropic.usage.cache_creation.ephemeral_5m_input_tokens"] == 0
    assert attributes["gen_ai.usage.audio.input_tokens"] == 0
    assert attributes["llmspan.usage.web_search_requests"] == 0
    assert attributes["gen_ai.response.time_to_first_chunk"] == 0.0
    assert (attributes["llmspan.response.chunk_count"], attributes["llmspan.request.bytes"]) == (0, 0)


def test_payload_stays_off_spans():
    """Neither payload nor anything else that may hold one is in any attribute (W36)."""
    planted = "PLANTED"
    trace = full_trace(
        request_json=json.dumps(planted), response_json=json.dumps(planted), error_json={"body": planted},
        llm_config=planted, compaction_settings=planted, billing_context=planted,
        usage=Usage(input_tokens=1, source="provider", raw={"note": planted}),
    )  # fmt: skip
    for attributes in (semconv.to_attributes(trace), semconv.end_attributes(facts_of(trace))):
        assert attributes["gen_ai.usage.input_tokens"] == 1
        assert planted not in repr(attributes)


def test_every_detail_has_its_own_attribute():
    """No two finer counts share an attribute, and each comes back under its name."""
    details = {name: at for at, name in enumerate(sorted({name for name in KNOWN_COUNTS.values() if name}))}
    trace = carried(make_trace(usage=Usage(details=details, source="provider")))
    assert semconv.from_span(span_of(semconv.to_attributes(trace), trace)).usage.details == details


# -- spans of others

LEAST = {"gen_ai.operation.name": "chat"}


def test_least_span():
    """A span with nothing but an operation is a record: ok, no usage, at the span's place and time."""
    span = span_of(LEAST, start=NOON, end=NOON + 7)
    found = semconv.from_span(span)
    assert found == ProviderTrace(
        id=found.id, trace_id=f"{TRACE:032x}", span_id=f"{SPAN:016x}", provider="unknown", operation="chat", api="chat",
        status="ok", started_at=NOON, duration_ns=7,
    )  # fmt: skip
    assert semconv.from_span(span).id == found.id  # whoever meets this span gives it the same id


def test_ids_differ_between_spans():
    """Two spans without an id of ours do not get the same one; one outside of any trace gets a fresh one each time."""
    others = [
        ReadableSpan("s", SpanContext(TRACE, SPAN + at, is_remote=False), attributes=LEAST, start_time=1)
        for at in (0, 1)
    ]
    assert len({semconv.from_span(span).id for span in others}) == 2
    placeless = ReadableSpan("s", attributes=LEAST)
    assert semconv.from_span(placeless).id != semconv.from_span(placeless).id
    assert (semconv.from_span(placeless).trace_id, semconv.from_span(placeless).started_at) == (None, 0)


@pytest.mark.parametrize("attributes", [None, {}, {"gen_ai.provider.name": "openai"}, {"gen_ai.operation.name": 7}])
def test_not_a_genai_span(attributes):
    """A span without an operation is none of ours, and the error says which span it was."""
    with pytest.raises(RecordError, match=r"span 'GET /' has no gen_ai\.operation\.name"):
        semconv.from_span(ReadableSpan("GET /", attributes=attributes))


@pytest.mark.parametrize(("old", "new", "value", "key"), [
    ("gen_ai.usage.cache_creation.input_tokens", "gen_ai.usage.cache_write.input_tokens", 3, "cache_write_tokens"),
    ("gen_ai.usage.prompt_tokens", "gen_ai.usage.input_tokens", 0, "input_tokens"),
    ("gen_ai.usage.completion_tokens", "gen_ai.usage.output_tokens", 5, "output_tokens"),
])  # fmt: skip
def test_old_usage_names(old, new, value, key):
    """Counts in their old spelling are read; the new spelling wins if a span has both."""
    found = semconv.from_span(span_of(LEAST | {old: value}))
    assert (getattr(found.usage, key), found.usage.source) == (value, "provider")
    both = semconv.from_span(span_of(LEAST | {old: value, new: 99}))
    assert getattr(both.usage, key) == 99


def test_old_provider_name():
    """``gen_ai.system`` is the provider, unless the provider is there by its new name."""
    assert semconv.from_span(span_of(LEAST | {"gen_ai.system": "openai"})).provider == "openai"
    both = LEAST | {"gen_ai.system": "openai", "gen_ai.provider.name": "groq"}
    assert semconv.from_span(span_of(both)).provider == "groq"


def test_what_others_tell():
    """What another instrumentation wrote by the conventions is in the record: error, API, reasons, timing, usage."""
    found = semconv.from_span(span_of(LEAST | {
        "error.type": "timeout", "openai.api.type": "responses", "gen_ai.response.finish_reasons": ["stop", "error"],
        "gen_ai.response.time_to_first_chunk": 0.25, "gen_ai.request.stream": True, "server.port": 443,
    }))  # fmt: skip
    assert (found.status, found.error_type, found.api) == ("error", "timeout", "responses")
    assert (found.finish_reasons, found.time_to_first_chunk_ns, found.stream) == (("stop", None), 250_000_000, True)
    assert (found.server_port, found.usage) == (443, Usage())


def test_values_of_other_types():
    """A value of a type that its key cannot have is left out: it costs one value, not the record."""
    found = semconv.from_span(span_of(LEAST | {
        "server.port": "443", "gen_ai.response.id": 5, "gen_ai.request.model": ["m"], "gen_ai.usage.input_tokens": "12",
        "gen_ai.usage.output_tokens": 3, "gen_ai.usage.audio.input_tokens": 1.5, "llmspan.usage.x": "1",
        "gen_ai.response.finish_reasons": "stop", "gen_ai.response.time_to_first_chunk": "soon",
    }))  # fmt: skip
    assert found == ProviderTrace(
        id=found.id, trace_id=found.trace_id, span_id=found.span_id, provider="unknown", operation="chat", api="chat",
        status="ok", started_at=NOON, duration_ns=5, usage=Usage(output_tokens=3, source="provider"),
    )  # fmt: skip
    assert ProviderTrace.from_json(found.to_json()) == found


# -- start and end


@pytest.mark.parametrize(("operation", "model", "name"), [
    ("chat", "gpt-5", "chat gpt-5"), ("embeddings", None, "embeddings"), ("fetch_response", "", "fetch_response"),
])  # fmt: skip
def test_span_name(operation, model, name):
    """A span is named after the operation and the model that was asked for."""
    assert semconv.span_name(operation, model) == name


def test_start_attributes():
    """At the start a span has what samplers may look at, and nothing that is not known; a port only with an address."""
    full = {"operation": "chat", "provider": "openai", "model": "gpt-5", "address": "api.openai.com", "port": 443}
    assert semconv.start_attributes(**full) == {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-5",
        "server.address": "api.openai.com", "server.port": 443,
    }  # fmt: skip
    least = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai"}
    assert semconv.start_attributes(**full | {"model": None, "address": None}) == least


def end_of(**facts: Any) -> dict[str, Any]:
    return semconv.end_attributes(facts_of(make_trace(**facts)))


@pytest.mark.parametrize(("status", "reasons", "written"), [
    ("incomplete", (), ("error",)), ("incomplete", (None,), ("error",)),
    ("closed_early", (None, "stop"), ("error", "stop")),
    ("ok", ("stop",), ("stop",)), ("ok", (), None), ("error", (), None), ("cancelled", (), None),
])  # fmt: skip
def test_finish_reasons_at_the_end(status, reasons, written):
    """A reason that was expected and did not come is ``error``: of each such choice, and of a stream cut before any."""
    assert end_of(status=status, finish_reasons=reasons).get("gen_ai.response.finish_reasons") == written


@pytest.mark.parametrize(("provider", "api", "name"), [
    ("openai", "chat_completions", "openai.response.service_tier"),
    ("azure.ai.openai", "responses", "openai.response.service_tier"),
    ("groq", "chat_completions", None), ("openrouter", "responses", None), ("aws.bedrock", "responses", None),
    ("anthropic", "messages", "anthropic.response.service_tier"), ("aws.bedrock", "messages", None),
    ("openai", "embeddings", None),
])  # fmt: skip
def test_vendors_names_at_the_end(provider, api, name):
    """A vendor's own names are on its own calls only, beside ours, which is the same for all."""
    tier, fingerprint = "openai.response.service_tier", "openai.response.system_fingerprint"
    facts = facts_of(make_trace(provider=provider, api=api, service_tier="priority"))
    end = semconv.end_attributes(facts, semconv.SpanFacts(system_fingerprint="fp"))
    written = {key: value for key, value in end.items() if "service_tier" in key}
    assert written == {"llmspan.response.service_tier": "priority"} | ({name: "priority"} if name else {})
    assert end.get(fingerprint) == ("fp" if name == tier else None)
    none = semconv.end_attributes(facts_of(make_trace(provider=provider, api=api)))
    assert not [key for key in none if "tier" in key or "fingerprint" in key]


@pytest.mark.parametrize(("provider", "prefix"), [
    ("anthropic", "anthropic.usage.cache_creation.ephemeral_"), ("aws.bedrock", None), ("openai", None),
])  # fmt: skip
def test_lifetimes_of_cache_writes(provider, prefix):
    """Cache writes by lifetime have Anthropic's names on its own spans, ours on others, and come back from both."""
    details = {"cache_write_5m_tokens": 3, "cache_write_1h_tokens": 4}
    trace = carried(make_trace(provider=provider, usage=Usage(details=details, source="provider")))
    attributes = semconv.to_attributes(trace)
    names = [f"{prefix}{span}_input_tokens" if prefix else f"llmspan.usage.cache_write_{span}_tokens"
             for span in ("5m", "1h")]  # fmt: skip
    assert [attributes.pop(name) for name in names] == [3, 4]
    assert not [name for name in attributes if "ephemeral" in name or "cache_write_" in name]
    assert semconv.from_span(span_of(semconv.to_attributes(trace), trace)).usage.details == details


@pytest.mark.parametrize(("attempts", "resent"), [(None, None), (0, None), (1, None), (2, 1), (4, 3)])
def test_resend_count(attempts, resent):
    """Repeated attempts are counted as HTTP resends; the first one is none."""
    assert end_of(attempts=attempts).get("http.request.resend_count") == resent


def test_a_fetched_responses_usage():
    """Fetching a response again spends nothing, so its span has no usage at all, source included."""
    usage = Usage(input_tokens=5, details={"x": 1}, source="provider", raw={"input_tokens": 5})
    trace = make_trace(operation="fetch_response", usage=usage)
    for attributes in (semconv.to_attributes(trace), semconv.end_attributes(facts_of(trace))):
        assert not [name for name in attributes if "usage" in name]


# -- the names


def literals() -> set[str]:
    """The attribute names that stand in the module, ours and prefixes left out."""
    trees = [ast.parse(Path(str(module.__file__)).read_text()) for module in (semconv, semconv_request)]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    texts = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return {text for text in texts if re.fullmatch(r"(?!llmspan\.)[a-z_]+(\.[a-z0-9_]+)+", text)}


def test_names_are_the_conventions():
    """The names in the module are those of the conventions, all in their current spelling, and the four old ones."""
    assert literals() - semconv.OPENAI == GENAI.keys() | OTHERS.keys() | OLD


def everything() -> dict[str, Any]:
    """Every attribute that can be written, from several calls."""
    details = dict.fromkeys(filter(None, KNOWN_COUNTS.values()), 1)
    found: dict[str, Any] = {}
    for provider, api in (("openai", "chat_completions"), ("anthropic", "messages")):
        trace = full_trace(provider=provider, api=api, usage=dataclasses.replace(full_trace().usage, details=details))
        found |= semconv.to_attributes(trace)
        found |= semconv.end_attributes(
            facts_of(trace), semconv.SpanFacts("fp", response_status="completed", is_compacted=True)
        )
        found |= semconv.request_attributes(provider, api, {
            "temperature": 1, "top_p": 1, "top_k": 1, "frequency_penalty": 1, "presence_penalty": 1, "seed": 1, "n": 2,
            "max_tokens": 1, "previous_response_id": "r", "reasoning_effort": "low", "stop": "x",
            "service_tier": "flex", "prompt": {"id": "pmpt_1", "version": "3"},
            "response_format": {"type": "text"},
        })  # fmt: skip
    return found | semconv.request_attributes("openai", "embeddings", {"dimensions": 1, "encoding_format": "float"})


def test_all_names_are_written_with_their_types():
    """Every name of the conventions that we know is written, with its type, and no other outside of ``llmspan.``."""
    written = {name: type(value) for name, value in everything().items() if not name.startswith("llmspan.")}
    assert written == GENAI | OTHERS


def test_attributes_survive_the_sdk():
    """The SDK takes every attribute that we write as it is: none is dropped or turned into something else."""
    attributes = everything()
    assert dict(span_of(attributes).attributes or {}) == attributes
