"""What is said where a record has no usage: the cause, and what would help."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llmspan.backends.memory import MemoryBackend
from llmspan.cli import doctor_checks, render
from llmspan.settings import Settings
from llmspan.trace import ProviderTrace
from llmspan.usage import Usage
from llmspan.usage_notes import find_unasked_streams, usage_note
from records import make_trace
from unit.test_cli_render import drawn


def stream(request: dict[str, Any] | None = None, **values: Any) -> ProviderTrace:
    """A chat stream without usage."""
    text = None if request is None else json.dumps(request)
    given = {"stream": True, "usage": Usage(), "server_address": "gateway.example", "request_json": text}
    return make_trace(**(given | values))


def test_a_stream_that_did_not_ask() -> None:
    """The cause is named with both remedies, in ``show``."""
    record = stream({"model": "m", "stream": True})
    note = usage_note(record) or ""
    assert note.startswith("the stream did not ask for usage")
    assert "LLMSPAN_INCLUDE_USAGE=auto,gateway.example" in note
    assert 'stream_options={"include_usage": True}' in note
    shown = " ".join(drawn(render.call(record)).split())
    assert "the stream did not ask for usage" in shown
    assert "not reported by the provider" not in shown


@pytest.mark.parametrize(
    ("address", "port", "setting"),
    [
        ("litellm", 4000, "auto,litellm:4000"),
        ("localhost", 4000, "auto,localhost"),
        ("::1", 8000, "auto,[::1]"),
        (None, None, "on"),
    ],
)
def test_the_remedy_is_a_value_that_the_setting_takes(address: str | None, port: int | None, setting: str) -> None:
    """What is proposed can be copied."""
    note = usage_note(stream({}, server_address=address, server_port=port)) or ""
    assert f"LLMSPAN_INCLUDE_USAGE={setting}," in note
    Settings.from_env({"LLMSPAN_INCLUDE_USAGE": setting})


@pytest.mark.parametrize("options", [{"include_usage": False}, {"include_obfuscation": False}])
def test_options_of_the_callers_own_are_the_callers_to_change(options: dict[str, Any]) -> None:
    """The setting leaves ``stream_options`` alone, so it is not offered as the remedy."""
    note = usage_note(stream({"stream_options": options})) or ""
    assert note == 'the stream did not ask for usage; pass stream_options={"include_usage": True}'


def test_a_legacy_completion_has_to_ask_by_itself() -> None:
    """The setting is for chat streams."""
    note = usage_note(stream({"prompt": "?"}, api="completions")) or ""
    assert "did not ask" in note
    assert "LLMSPAN" not in note


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (stream({"stream_options": {"include_usage": True}}), "not reported by the provider, although"),
        (stream(None), "not reported by the provider; such streams report usage only if asked to"),
        (stream({}, status="error"), "not reported by the provider"),
        (stream({}, status="closed_early"), "not reported by the provider"),
        (stream({}, api="messages"), "not reported by the provider"),
        (stream({}, stream=False), "not reported by the provider"),
        (stream({}, request_json="[]"), "not reported by the provider; such"),
        (stream({}, usage=Usage(input_tokens=1, source="partial")), "a lower bound"),
    ],
)
def test_other_causes_are_not_called_this_one(record: ProviderTrace, said: str) -> None:
    """Whoever asked, or never got to the end, or speaks another API, did not fail to ask."""
    note = usage_note(record) or ""
    assert note.startswith(said)
    assert "did not ask" not in note


def test_a_final_report_needs_no_note() -> None:
    """Nothing is said about numbers that are the provider's."""
    assert usage_note(make_trace()) is None


def test_the_doctor_finds_them() -> None:
    """Streams that did not ask are counted by host, with the setting that would ask for them."""
    store = MemoryBackend()
    unasked = [stream({"stream": True}, server_address=host) for host in ("a.example", "b.example", "a.example")]
    asked = stream({"stream_options": {"include_usage": True}}, server_address="c.example")
    store.write([*unasked, asked, make_trace(), stream({}, status="error", server_address="d.example")])
    found = [one for one in doctor_checks.run_checks(Settings(), [store], {}) if one.check == "usage"]
    assert [one.level for one in found] == ["note"]
    assert "3 are streams that did not ask for usage" in found[0].message
    assert "a.example (2), b.example (1)" in found[0].message
    assert "LLMSPAN_INCLUDE_USAGE=auto,a.example,b.example" in found[0].message
    assert "c.example" not in found[0].message
    assert "d.example" not in found[0].message


def test_the_doctor_has_nothing_to_say() -> None:
    """Where usage is known, or nothing is stored, there is no finding."""
    store = MemoryBackend()
    assert find_unasked_streams(store) is None
    store.write([make_trace(stream=True)])
    assert find_unasked_streams(store) is None
