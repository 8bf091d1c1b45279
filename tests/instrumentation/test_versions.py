"""SDK versions that nobody has seen: newer ones are told of once and work; those built otherwise are left alone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import openai
import pytest

from llmspan.instrumentation import versions
from llmspan.instrumentation.openai import PROVIDER
from llmspan.instrumentation.stainless.hooks import REQUIRED
from replay import client_for, transport
from streams import CHAT, json
from watching import Watch, watching


@pytest.fixture(autouse=True)
def _nothing_told() -> Any:
    versions.reset_warnings()
    yield
    versions.reset_warnings()


def call() -> Any:
    mock = transport(200, {"content-type": "application/json"}, [json.dumps(CHAT.body).encode()])
    with client_for("openai", mock) as client:
        return client.chat.completions.create(**CHAT.arguments)


def test_known_versions_are_not_mentioned(caplog: pytest.LogCaptureFixture) -> None:
    """The installed SDKs are known: nothing is logged."""
    with watching():
        call()
    assert caplog.messages == []


def test_a_newer_major_is_told_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A major version that is newer than any we know: one warning that names it, and the calls are recorded."""
    monkeypatch.setattr(versions.metadata, "version", lambda name: "4.0.0" if name == "openai" else "2.12.0")
    for _ in range(2):
        with watching() as watch:
            assert call().id == CHAT.response_id
        assert len(watch.records) == 1
    (line,) = caplog.messages
    assert "openai 4.0.0" in line
    assert "3.x" in line


@pytest.mark.parametrize("change", ["gone", "other parameters"])
def test_an_sdk_that_is_built_otherwise_is_left_alone(
    change: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Something that the hooks need is missing: nothing is patched, one warning says so, the calls work as always."""
    base = openai._base_client
    if change == "gone":
        monkeypatch.delattr(base.AsyncStream, "__stream__")
    else:
        monkeypatch.setattr(base.AsyncAPIClient, "request", lambda self, request: None)
    before = base.SyncAPIClient.request
    for _ in range(2):
        with watching() as watch:
            assert base.SyncAPIClient.request is before
            assert call().id == CHAT.response_id
        assert watch.records == []
    (line,) = caplog.messages
    assert "not recorded" in line
    assert ("no AsyncStream.__stream__" if change == "gone" else "AsyncAPIClient.request") in line


def test_what_others_have_wrapped_is_fine() -> None:
    """A method that somebody else has replaced by one that hands everything on is no reason to stay out."""

    def anything(*args: Any, **kwargs: Any) -> None: ...

    names = ("SyncAPIClient", "AsyncAPIClient", "BaseClient", "Stream", "AsyncStream")
    owners = {
        name: type(name, (), dict.fromkeys(("request", "_build_request", "_process_response", "__stream__"), anything))
        for name in names
    }
    assert versions.is_supported("openai", PROVIDER.latest_tested_major, SimpleNamespace(**owners), REQUIRED)


def test_nothing_that_we_know_of_is_there(caplog: pytest.LogCaptureFixture, watch: Watch) -> None:
    """A module without any of it is said to be other, not an error of ours."""
    assert not versions.is_supported("openai", 3, SimpleNamespace(), REQUIRED)
    assert "no SyncAPIClient.request" in caplog.messages[0]
