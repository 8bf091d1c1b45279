"""Calls of Google's APIs as programs: what the Python does is sent again, and is the request that it was made from."""

from __future__ import annotations

import contextlib
import io
import json
import shlex
from collections.abc import Iterator
from typing import Any

import pytest

from gemini_server import KEY, SDK_WARNINGS, GeminiServer, client_for, gemini_server
from gemini_surfaces import SURFACES, Surface, call
from llmspan.ui.snippets import snippets_of
from records import make_trace
from watching import watching

pytestmark = pytest.mark.filterwarnings(*SDK_WARNINGS)
DECLARATION = {"name": "add", "description": "Adds.", "parameters": {"type": "OBJECT", "properties": {}}}
CONFIG = {
    "temperature": 0.5, "system_instruction": "Be brief.", "tools": [{"function_declarations": [DECLARATION]}],
    "safety_settings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
    "thinking_config": {"thinking_budget": 0}, "response_mime_type": "application/json",
}  # fmt: skip
#: surfaces of the Gemini API that can be written down
WRITTEN = ("models.generate_content", "models.generate_content_stream", "interactions.create", "models.embed_content")


@pytest.fixture(scope="module")
def running() -> Iterator[GeminiServer]:
    with gemini_server() as server:
        yield server


def written() -> list[Surface]:
    return [surface for surface in SURFACES if surface.path in WRITTEN and not surface.vertex]


@pytest.mark.parametrize("surface", written(), ids=lambda surface: surface.name)
def test_snippets_make_the_same_request(
    surface: Surface, running: GeminiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run as they are, with the key in the environment, they send the same path and body; they do not have the key."""
    running.reset()
    running.answers(surface.answer())
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    arguments = surface.arguments | ({"config": CONFIG} if surface.path.startswith("models.generate") else {})
    with watching() as watch:
        call(client_for(running), Surface(**{**vars(surface), "arguments": arguments}))
    first = running.requests[-1]
    snippets = snippets_of(watch.records[0])
    if snippets.python is not None:
        with contextlib.redirect_stdout(io.StringIO()):
            exec(snippets.python, {})
        assert (running.requests[-1].path, running.requests[-1].json) == (first.path, first.json)
    assert (snippets.python is None) == (surface.path == "models.embed_content")
    words = shlex.split(snippets.curl or "")
    assert words[1].replace("/v1beta/", "/v1/") == f"{running.url}{first.path}".replace("/v1beta/", "/v1/")
    assert json.loads(words[-1]) == first.json
    assert KEY not in f"{snippets}"


def test_servers_of_google() -> None:
    """The Gemini API is the client's own server; Vertex AI has its location in the host, and no curl."""
    fields: dict[str, Any] = {"api": "generate_content", "request_model": "m", "request_json": '{"contents": "hi"}'}
    gemini = {"provider": "gcp.gemini", "server_address": "generativelanguage.googleapis.com", "server_port": 443}
    snippets = snippets_of(make_trace(**fields, **gemini))
    assert "client = genai.Client()" in (snippets.python or "")
    assert (snippets.curl or "").startswith(
        "curl https://generativelanguage.googleapis.com/v1beta/models/m:generateContent "
    )
    for host, location in (("us-east1-aiplatform.googleapis.com", "us-east1"), ("aiplatform.googleapis.com", "global")):
        vertex = {"provider": "gcp.vertex_ai", "server_address": host, "server_port": 443}
        snippets = snippets_of(make_trace(**fields, **vertex))
        assert f"genai.Client(vertexai=True, location='{location}')" in (snippets.python or "")
        assert snippets.curl is None


def test_other_apis_are_as_they_were() -> None:
    """The snippets of chat completions name the key as a variable, and the server only if it is not OpenAI's own."""
    body = '{"model": "m", "messages": []}'
    own = make_trace(api="chat_completions", request_json=body, server_address="api.openai.com", server_port=443)
    snippets = snippets_of(own)
    assert "client = OpenAI()\nresponse = client.chat.completions.create(\n    model='m',\n" in (snippets.python or "")
    assert (snippets.curl or "").startswith('curl https://api.openai.com/v1/chat/completions \\\n  -H "Authorization: ')
    local = make_trace(api="chat_completions", request_json=body, server_address="localhost", server_port=8000)
    assert "OpenAI(base_url='http://localhost:8000/v1')" in (snippets_of(local).python or "")


def chat_snippet(members: str, **fields: Any) -> str:
    record = make_trace(api="chat_completions", request_json=f'{{"model": "m", {members}}}', **fields)
    return snippets_of(record).python or ""


def test_every_snippet_is_python() -> None:
    """Members that can be no argument are in ``extra_body``, and a number without a literal is made of its name."""
    text = chat_snippet('"from": 1, "x-y": 2, "timeout": 3, "top_p": NaN, "n": [-Infinity]')
    compile(text, "snippet", "exec")
    assert "    extra_body={'from': 1, 'x-y': 2, 'timeout': 3}," in text
    assert """    top_p=float("nan"),\n    n=[float("-inf")],""" in text


@pytest.mark.parametrize("depth", [120, 350, 900])
def test_a_deep_request_has_no_snippet(depth: int) -> None:
    """What Python cannot read, or what cannot be written, is left out; nothing is raised."""
    assert chat_snippet(f'"a": {"[" * depth}{"]" * depth}') == ""
    compile(chat_snippet(f'"a": {"[" * 90}{"]" * 90}'), "snippet", "exec")


@pytest.mark.parametrize(
    ("host", "port", "url"),
    [
        ("a.test", 80, "http://a.test:80/v1"),
        ("a.test", 443, "https://a.test/v1"),
        ("a.test", 8443, "https://a.test:8443/v1"),
        ("localhost", 80, "http://localhost:80/v1"),
        ("localhost", 443, "https://localhost/v1"),
    ],
)
def test_the_address_of_a_server(host: str, port: int, url: str) -> None:
    """Port 80 is not encrypted, wherever it is."""
    assert f"base_url={url!r})" in chat_snippet('"messages": []', server_address=host, server_port=port)
