"""Every surface, in both colours, in every way of reading it: one span, one record, the provider's numbers."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest

import surfaces
from replay import client_for
from surface_calls import call, call_async, server
from surfaces import AUDIO, Surface
from watching import Watch

ROWS = [
    pytest.param(surface, way, id=f"{surface.provider}-{surface.name}-{way}".replace(" ", ""))
    for surface in surfaces.ALL
    for way in surfaces.ways(surface)
]
rows = pytest.mark.parametrize(("surface", "way"), ROWS)
pytestmark = pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")  # the SDK's own


@rows
@pytest.mark.peer_fault("S1", "S3", "S6", "N12")
def test_sync(surface: Surface, way: str, watch: Watch) -> None:
    """The call is recorded once, as what it is, with its request, response and usage."""
    seen: list[httpx2.Request] = []
    with client_for(surface.provider, server(surface, seen)) as client:
        call(surface, way, client)
    check(surface, watch, seen)


@pytest.mark.anyio
@rows
@pytest.mark.peer_fault("S1", "S3", "S6", "N12")
async def test_async(surface: Surface, way: str, watch: Watch) -> None:
    """The same through the async client."""
    seen: list[httpx2.Request] = []
    async with client_for(surface.provider, server(surface, seen), is_async=True) as client:
        await call_async(surface, way, client)
    check(surface, watch, seen)


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("surface", surfaces.ALL, ids=lambda surface: f"{surface.provider}-{surface.name}")
def test_the_table_leaves_nothing_out(surface: Surface, is_async: bool) -> None:
    """A variant that the table says the SDK does not have is one that it does not have."""
    client = client_for(surface.provider, server(surface, []), is_async=is_async)
    resource, _, method = surface.path.rpartition(".")
    for part in resource.split("."):
        client = getattr(client, part)
    there = [
        variant for variant in ("raw", "streaming") if hasattr(getattr(client, f"with_{variant}_response"), method)
    ]
    assert there == list(surface.variants)


def check(surface: Surface, watch: Watch, seen: list[httpx2.Request]) -> None:
    record, span = watch.only()
    attributes = span.attributes or {}
    assert (record.status, record.error_type, record.http_status) == ("ok", None, 200)
    assert (record.api, record.operation, record.request_id) == (surface.api, surface.operation, "req_1")
    assert record.stream == surface.streams
    assert (record.usage.input_tokens, record.usage.output_tokens) == surface.usage
    assert attributes.get("gen_ai.usage.input_tokens") == surface.usage[0]
    assert attributes.get("gen_ai.usage.output_tokens") == surface.usage[1]
    assert record.usage.details.items() >= surface.details.items()
    assert record.usage.source == ("none" if surface.usage == (None, None) else "provider")
    assert attributes["gen_ai.operation.name"] == surface.operation
    assert attributes.get("gen_ai.output.type") == surface.output_type
    assert span.name == " ".join(filter(None, (surface.operation, record.request_model)))
    (request,) = seen
    check_request(record, request)
    check_response(surface, record)
    assert record.content == "full"
    assert watch.observer.open_calls == {}


def check_request(record: Any, request: httpx2.Request) -> None:
    if request.method == "GET":
        assert record.request_json is None
    elif request.headers["content-type"].startswith("multipart/"):
        sent = json.loads(record.request_json)
        files = [value for value in sent.values() if isinstance(value, dict)]
        assert len(files) == 1
        assert files[0].keys() == {"filename", "content_type", "bytes", "sha256"}
        assert files[0]["filename"].encode() in request.content
        assert record.request_bytes == len(request.content)
    else:
        assert record.request_json == request.content.decode()
        assert record.request_bytes == len(request.content)


def check_response(surface: Surface, record: Any) -> None:
    response = json.loads(record.response_json)
    if surface.api == "speech":
        assert response["bytes"] == len(AUDIO)
        assert len(response["sha256"]) == 64
    elif surface.content_type.startswith("text/plain"):
        assert response == surface.reply[0].decode()
    elif not surface.streams:
        assert response == json.loads(surface.reply[0])
    elif surface.api == "images":
        assert response["data"][0]["b64_json"]
    else:
        assert "wörld" in record.response_json or "Hello" in record.response_json
