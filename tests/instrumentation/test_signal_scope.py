"""What belongs on which call's signals: content, details events, vendors' attributes, what the caller asked for."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from opentelemetry._logs import SeverityNumber

import surfaces
from llmspan.content import ContentPolicy
from llmspan.instrumentation import ContentCapture
from llmspan.messages import INPUT, INSTRUCTIONS, OUTPUT, TOOLS
from llmspan.metrics import CallMetrics
from replay import client_for, transport
from signals import Logs, Meters
from streams import CHAT, MESSAGES, RESPONSES
from surface_calls import call, server
from surfaces import Surface
from watching import Watch, watching

JSON = {"content-type": "application/json"}
CONTENT = {INPUT, OUTPUT, INSTRUCTIONS, TOOLS}
#: operations that neither ask for what a model generates nor bring it
NO_GENERATION = {"embeddings", "count_tokens", "moderation"}
PLAIN = [surface for surface in surfaces.ALL if "plain" in surfaces.ways(surface)]
#: where OpenAI's language is spoken by somebody else
ELSEWHERE = {
    "groq": "https://api.groq.com/openai/v1",
    "deepseek": "https://api.deepseek.com",
    "mistral_ai": "https://api.mistral.ai/v1",
    "gcp.gemini": "https://generativelanguage.googleapis.com/v1beta/openai",
    "openrouter": "https://openrouter.ai/api/v1",
}
TIER = {"service_tier": "priority"}


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
@pytest.mark.parametrize("surface", PLAIN, ids=lambda surface: f"{surface.provider}-{surface.name}")
def test_content_belongs_to_conversations(surface: Surface, logs: Logs) -> None:
    """Documents that are embedded, counted or classified are on no span and in no event; the record has them.

    Nor is there a details event: the conventions have it for inference. An event says all that its span says.
    """
    with watching(capture=ContentCapture.from_mode("SPAN_AND_EVENT", ContentPolicy()), logger=logs.logger) as watch:
        with client_for(surface.provider, server(surface, [])) as client:
            call(surface, "plain", client)
        record, span = watch.only()
    on_span = CONTENT & (span.attributes or {}).keys()
    if surface.operation in NO_GENERATION:
        assert not on_span
        assert logs.events == []
    else:
        (event,) = logs.events
        assert CONTENT & event.attributes.keys() == on_span
        said = {name: value for name, value in (span.attributes or {}).items() if name not in CONTENT}
        assert said.items() <= dict(event.attributes).items()
        assert (event.severity_number, event.severity_text) == (SeverityNumber.DEBUG, "DEBUG")
    assert record.content == "full"


def openai_calls(watch: Watch, **options: Any) -> list[dict[str, Any]]:
    """The spans of a chat and of a response whose caller asked for a tier and whose answers name one."""
    made: list[dict[str, Any]] = []
    for api in (CHAT, RESPONSES):
        body = {**api.body, "service_tier": "priority", "system_fingerprint": "fp_1"}
        mock = transport(200, JSON, [json.dumps(body).encode()])
        client = client_for("openai", mock, **options)
        api.method(client)(**api.arguments, **TIER)
    made += [dict(span.attributes or {}) for span in watch.spans]
    return made


def vendors(attributes: dict[str, Any]) -> set[str]:
    return {name for name in attributes if name.startswith(("openai.", "anthropic."))}


@pytest.mark.parametrize("provider", ELSEWHERE)
def test_openai_attributes_are_not_on_others(provider: str, logs: Logs, meters: Meters) -> None:
    """A provider that speaks OpenAI's language has no ``openai.*`` attribute on span, event or metric."""
    capture, metrics = ContentCapture.from_mode("EVENT_ONLY", ContentPolicy()), CallMetrics(meters.provider)
    with watching(capture=capture, logger=logs.logger, metrics=metrics) as watch:
        spans = openai_calls(watch, base_url=ELSEWHERE[provider])
        assert len(watch.records) == 2
    assert [span["gen_ai.provider.name"] for span in spans] == [provider] * 2
    points = [dict(point.attributes) for found in meters.points().values() for point in found]
    for attributes in (*spans, *(dict(event.attributes) for event in logs.events), *points):
        assert vendors(attributes) == set()
    assert [span["llmspan.response.service_tier"] for span in spans] == ["priority"] * 2


def test_openai_attributes_are_on_openais_and_azures(logs: Logs) -> None:
    """OpenAI's spans have them, Azure OpenAI's too, and so have their events."""
    expected = {
        "openai.api.type", "openai.request.service_tier", "openai.response.service_tier",
        "openai.response.system_fingerprint",
    }  # fmt: skip
    for base_url in ("https://api.openai.com/v1", "https://x.openai.azure.com/openai/v1"):
        with watching(capture=ContentCapture.from_mode("EVENT_ONLY", ContentPolicy()), logger=logs.logger) as watch:
            spans = openai_calls(watch, base_url=base_url)
            assert len(watch.records) == 2
        for attributes in (*spans, *(dict(event.attributes) for event in logs.events[-2:])):
            assert vendors(attributes) >= expected - {"openai.response.system_fingerprint"}
        assert vendors(spans[0]) == expected


def test_anthropic_attributes_are_not_on_a_clouds() -> None:
    """A message that Bedrock serves has no ``anthropic.*`` attribute; the same numbers are under our own names."""
    import anthropic
    import httpx2

    mock = httpx2.MockTransport(lambda _: httpx2.Response(200, json=MESSAGES.body))
    client = anthropic.AnthropicBedrock(
        aws_access_key="a", aws_secret_key="s", aws_region="eu-west-1", http_client=httpx2.Client(transport=mock)
    )
    with watching() as watch:
        client.messages.create(**MESSAGES.arguments)
        record, span = watch.only()
    assert record.provider == "aws.bedrock"
    assert vendors(dict(span.attributes or {})) == set()
    assert (span.attributes or {})["llmspan.usage.cache_write_1h_tokens"] == 500


@pytest.mark.parametrize(
    ("asked", "written"),
    [
        ({}, None),
        ({"encoding_format": "base64"}, ("base64",)),
        ({"encoding_format": "float"}, ("float",)),
        ({"encoding_format": openai.omit}, None),
        ({"extra_body": {"encoding_format": "base64"}}, ("base64",)),
    ],
    ids=["nothing", "base64", "float", "omit", "extra body"],  # an address in an id differs from process to process
)
def test_encoding_formats_are_what_the_caller_asked_for(
    asked: dict[str, Any], written: tuple[str, ...] | None, watch: Watch
) -> None:
    """The SDK asks for base64 where its caller says nothing: that is not the caller's request."""
    body = json.dumps({"object": "list", "model": "e", "data": [{"index": 0, "embedding": [0.5]}]}).encode()
    for method in ("embeddings", "embeddings.with_raw_response"):
        resource: Any = client_for("openai", transport(200, JSON, [body]))
        for name in method.split("."):
            resource = getattr(resource, name)
        resource.create(model="e", input="hi", **asked)
    found = [(span.attributes or {}).get("gen_ai.request.encoding_formats") for span in watch.spans]
    assert found == [written] * 2


def test_encoding_formats_of_a_bare_request(watch: Watch) -> None:
    """A request that the caller writes himself is all his, ``base64`` included."""
    client = client_for("openai", transport(200, JSON, [b"{}"]))
    client.post("/embeddings", cast_to=object, body={"model": "e", "input": "hi", "encoding_format": "base64"})
    _, span = watch.only()
    assert (span.attributes or {})["gen_ai.request.encoding_formats"] == ("base64",)
