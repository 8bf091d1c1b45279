"""Every recorded method of google-genai, over each of its HTTP libraries: one span, one record, nothing secret."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest

from gemini_server import KEY, SDK_WARNINGS, TOKEN, WAYS, GeminiServer, Way, client_for, gemini_server
from gemini_surfaces import SURFACES, Surface, call, call_async
from watching import Watch

pytestmark = pytest.mark.filterwarnings(*SDK_WARNINGS)


@pytest.fixture(scope="module")
def running() -> Iterator[GeminiServer]:
    with gemini_server() as server:
        yield server


@pytest.fixture
def server(running: GeminiServer) -> GeminiServer:
    running.reset()
    return running


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("surface", SURFACES, ids=lambda surface: surface.name)
def test_surface(surface: Surface, way: Way, server: GeminiServer, watch: Watch) -> None:
    """The call is recorded once, as what it is, with its request, its response and the provider's numbers."""
    server.answers(surface.answer())
    client = client_for(server, way, vertex=surface.vertex)
    if way == "sync":
        call(client, surface)
    else:
        asyncio.run(_closed(client, surface))
    record, span = watch.only()
    attributes = span.attributes or {}
    assert (record.status, record.http_status, record.attempts) == ("ok", 200, 1)
    assert (record.api, record.operation, record.stream) == (surface.api, surface.operation, surface.stream)
    assert (record.usage.input_tokens, record.usage.output_tokens) == surface.usage
    assert record.request_model == surface.model
    assert span.name == " ".join(filter(None, (surface.operation, surface.model)))
    provider = "gcp.vertex_ai" if surface.vertex else "gcp.gemini"
    assert attributes["gen_ai.provider.name"] == record.provider == provider
    assert (attributes["server.address"], attributes["server.port"]) == ("127.0.0.1", server.server_port)
    check_payload(record, server)
    assert not any(secret in record.to_json() + str(dict(attributes)) for secret in (KEY, TOKEN))


async def _closed(client: Any, surface: Surface) -> None:
    try:
        await call_async(client, surface)
    finally:
        await client.aio.aclose()


def check_payload(record: Any, server: GeminiServer) -> None:
    (request,) = server.requests
    assert (record.request_json or "") == request.body.decode()
    assert record.request_bytes == (len(request.body) or None)
    assert json.loads(record.response_json)
    assert record.content == "full"
