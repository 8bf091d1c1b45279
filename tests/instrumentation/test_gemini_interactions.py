"""Recorded traffic of Google's APIs, replayed through google-genai over each of its HTTP libraries: one exact record.

The expectations were computed from the raw bodies with plain JSON parsing, without any SDK and without this project.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from google import genai
from google.genai import types

from gemini_server import KEY, SDK_WARNINGS, TOKEN, WAYS, Answer, GeminiServer, Way, client_for, gemini_server
from interaction import Interaction, google_recording_ids, parameters
from llmspan.content import ContentPolicy
from watching import Watch, watching

pytestmark = pytest.mark.filterwarnings(*SDK_WARNINGS)
WHOLE = ContentPolicy(max_media_bytes=1 << 40)
_PATH = re.compile(r"models/([^/]+):(\w+)")
_METHODS = {
    "generateContent": "models.generate_content",
    "streamGenerateContent": "models.generate_content_stream",
    "countTokens": "models.count_tokens",
    "batchEmbedContents": "models.embed_content",
}
#: the SDK's exceptions for a body that is no stream of events
_ARRAY = "is_json_array"


@pytest.fixture(scope="module")
def running() -> Iterator[GeminiServer]:
    with gemini_server() as server:
        yield server


def answer_of(interaction: Interaction) -> Answer:
    response = interaction.response
    headers = {"Content-Type": response["headers"].get("content-type", "application/json")}
    return Answer([response["body"].encode()], response["status"], headers)


def arguments(interaction: Interaction) -> tuple[str, dict[str, Any]]:
    """The method of a client, and its arguments: the body goes out as it was recorded."""
    body = interaction.request["body"] or {}
    options = types.HttpOptions(extra_body=body)
    if interaction.prefix == "interactions":
        return "interactions.create", {**body, "stream": interaction.streams} if body else {"model": "m", "input": "?"}
    if interaction.prefix == "cached_contents":
        return "caches.create", {"model": body.get("model", "m"), "config": {"http_options": options}}
    match = _PATH.search(interaction.request["url_path"])
    assert match is not None
    model, method = match.groups()
    if method not in _METHODS:  # the SDK's own method has changed to another one of the API for this model
        return "_api_client.request", {"http_method": "post", "path": f"models/{model}:{method}", "request_dict": body}
    return _METHODS[method], {"model": model, "contents": "?", "config": {"http_options": options}}


def method_of(client: Any, name: str) -> Any:
    for part in name.split("."):
        client = getattr(client, part)
    return client


def replay(interaction: Interaction, server: GeminiServer, way: Way) -> Exception | None:
    server.reset()
    server.answers(answer_of(interaction))
    client = client_for(server, way, vertex=interaction.upstream == "vertex_ai")
    try:
        if way == "sync":
            _replay(interaction, client)
        else:
            asyncio.run(_replay_async(interaction, client))
    except Exception as error:
        return error
    return None


def _replay(interaction: Interaction, client: genai.Client) -> None:
    name, given = arguments(interaction)
    result = method_of(client, name)(**given)
    if interaction.streams:
        for _ in result:
            pass


async def _replay_async(interaction: Interaction, client: genai.Client) -> None:
    name, given = arguments(interaction)
    async with client.aio as opened:
        name = name.replace(".request", ".async_request")
        result = await method_of(opened, name)(**given)
        if interaction.streams:
            async for _ in result:
                pass


def cells() -> list[Any]:
    """Every recording by the sync client, and by turns over one of the HTTP libraries of the async one."""
    values = parameters(google_recording_ids())
    chosen = [(value, way) for at, value in enumerate(values) for way in ("sync", WAYS[1 + at % 2])]
    return [pytest.param(*value.values, way, marks=value.marks) for value, way in chosen]


@pytest.mark.parametrize(("name", "way"), cells())
def test_recording(name: str, way: Way, running: GeminiServer) -> None:
    """One span and one record, equal to what the recording is known to hold."""
    interaction = Interaction.load(name)
    with watching(policy=WHOLE) as watch:
        error = replay(interaction, running, way)
    check(interaction, watch, error, running)


def check(interaction: Interaction, watch: Watch, error: Exception | None, server: GeminiServer) -> None:
    record, span = watch.only()
    attributes = span.attributes or {}
    expect, status = interaction.expect, interaction.response["status"]
    assert (type(error).__name__ if error else "") == (interaction.sdk_error or "").partition(":")[0], error
    assert (record.api, record.http_status) == (interaction.record_api, status)
    assert record.provider == ("gcp.vertex_ai" if interaction.upstream == "vertex_ai" else "gcp.gemini")
    assert record.request_json == server.requests[-1].body.decode()
    assert len(server.requests) == record.attempts == 1
    assert KEY not in record.to_json()
    assert TOKEN not in record.to_json()
    if status >= 400:
        assert record.status == "error"
        assert record.error_type in {expect["error"]["type"], expect["error"]["code"], str(status)}
        return
    assert record.status == ("ok" if error is None else "error")
    if expect[_ARRAY]:  # the SDK reads no further than to the first line of it
        return
    check_usage(expect, record, attributes)
    assert list(record.finish_reasons) == (expect["finish_reasons"] or [])
    assert (record.response_id, record.response_model) == (expect["response_id"], expect["response_model"])
    assert record.chunk_count == (expect["n_sse_events_without_ping"] if expect["is_sse"] else None)
    if interaction.record_api == "generate_content":
        check_response(expect, json.loads(record.response_json or "null"))


def check_usage(expect: dict[str, Any], record: Any, attributes: Any) -> None:
    """The same numbers in the record and on the span."""
    usage = record.usage
    names = {
        "input_tokens": "input_tokens_total", "output_tokens": "output_tokens", "reasoning_tokens": "reasoning_tokens",
        "cache_read_tokens": "cache_read_tokens", "cache_write_tokens": "cache_write_tokens",
    }  # fmt: skip
    assert {name: getattr(usage, name) for name in names} == {name: expect[theirs] for name, theirs in names.items()}
    assert usage.raw == expect["usage_raw"]
    assert attributes.get("gen_ai.usage.input_tokens") == usage.input_tokens
    assert attributes.get("gen_ai.usage.output_tokens") == usage.output_tokens


def check_response(expect: dict[str, Any], response: Any) -> None:
    """The text and the calls of what the stream was put together to, which the SDK's model accepts."""
    model = types.GenerateContentResponse._from_response(response=response, kwargs={})  # as the SDK reads each response
    parts = [part for each in model.candidates or [] if each.content for part in each.content.parts or []]
    assert "".join(part.text or "" for part in parts if not part.thought) == expect["text"]
    assert [part.function_call.name for part in parts if part.function_call] == [
        call["name"]
        for call in expect["tool_calls"]
        if call["name"]  # the other events of one have its arguments only
    ]
