"""The template in examples/ is a provider: one span and one record of each call, and nothing left behind it."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from streams import CHAT
from watching import Watch

TEMPLATE = Path(__file__).parents[2] / "examples" / "provider_template.py"
EVENTS = [piece.decode().removeprefix("data: ").strip() for piece in CHAT.stream]
KEY = "acme-planted-secret-0123456789"


class Client:
    """The client of an SDK that there is not."""

    host = "api.acme.test"
    key = KEY

    def _send(self, path: str, body: dict[str, Any], stream: bool = False) -> Any:
        if body["model"] == "broken":
            raise ConnectionError("no line")
        return (event for event in EVENTS) if stream else json.dumps(CHAT.body)

    def chat(self, model: str, **more: Any) -> Any:
        return self._send("/chat", {"model": model, "messages": [{"role": "user", "content": "hi"}]}, **more)


@pytest.fixture
def acme(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Client]]:
    """The SDK, instrumented by the template."""
    sdk = ModuleType("acme_llm")
    monkeypatch.setattr(sdk, "Client", Client, raising=False)
    monkeypatch.setitem(sys.modules, "acme_llm", sdk)
    spec = importlib.util.spec_from_file_location("provider_template", TEMPLATE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    before = vars(Client)["_send"]
    hooks = module.PROVIDER.instrument(watch.observer)
    yield Client
    hooks.remove()
    assert vars(Client)["_send"] is before


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_is_recorded(acme: type[Client], stream: bool, watch: Watch) -> None:
    """With the usage, the request and the response; without the key."""
    result = acme().chat("gpt-5-mini", stream=stream)
    if stream:
        assert list(result) == EVENTS
    record, span = watch.only()
    assert (record.status, record.provider, record.stream, record.attempts) == ("ok", "acme", stream, 1)
    assert (record.usage.input_tokens, record.usage.output_tokens) == (CHAT.input_tokens, CHAT.output_tokens)
    assert "wörld" in json.dumps(json.loads(record.response_json or ""), ensure_ascii=False)
    assert span.name == "chat gpt-5-mini"
    assert KEY not in record.to_json()


def test_a_call_that_fails_is_recorded(acme: type[Client], watch: Watch) -> None:
    """The caller gets the exception, and the record its class."""
    with pytest.raises(ConnectionError, match="no line"):
        acme().chat("broken")
    record, _ = watch.only()
    assert (record.status, record.error_type) == ("error", "ConnectionError")


def test_a_stream_that_is_left_is_recorded(acme: type[Client], watch: Watch) -> None:
    """What came before is in the record."""
    stream = acme().chat("gpt-5-mini", stream=True)
    next(stream)
    next(stream)
    stream.close()
    record, _ = watch.only()
    assert (record.status, record.chunk_count) == ("closed_early", 2)
