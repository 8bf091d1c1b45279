"""Responses of all interactions read whole, cut after each event, and cut anywhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest

from interaction import Interaction, parameters, wire_ids
from llmspan.wire import PARSERS, reassemble, sse, summarize
from wires import STREAMS, Plain, both, load, plain_events


@dataclass
class ReportedSoFar:
    """What a provider has said so far, by plain rules."""

    api: str
    usage: dict[str, Any] | None = None
    delta_seen: bool = False
    message_id: str | None = None
    over: bool = False
    reasons: dict[int, str | None] | None = None
    #: an error came where the response had more to say
    broken: bool = False

    def take(self, event: Plain) -> None:
        self.over = self.over or event.done
        data = event.data or {}
        if self.api == "messages":
            self.take_message_event(data)
        elif self.api == "responses":
            self.take_response_event(data)
        elif self.api in ("images", "speech", "transcriptions"):
            self.take_media_event(data)
        elif self.api == "generate_content":
            self.take_content(data)
        elif self.api == "interactions":
            self.take_interaction_event(data)
        elif self.api == "complete":
            self.over = self.over or data.get("type") == "error" or bool(data.get("stop_reason"))
        else:
            self.take_chunk(data)

    def take_message_event(self, data: dict[str, Any]) -> None:
        kind = data.get("type")
        self.over = self.over or kind in ("message_stop", "error") or bool((data.get("delta") or {}).get("stop_reason"))
        if kind == "message_start" and data["message"]["id"] != self.message_id:  # else the same once more
            usage = dict(data["message"].get("usage") or {})
            self.usage, self.delta_seen, self.message_id = usage, False, data["message"]["id"]
        elif kind == "message_delta":
            self.usage = self.usage or {}
            self.usage |= {k: v for k, v in data["usage"].items() if v is not None or k not in self.usage}
            self.delta_seen = True

    def take_response_event(self, data: dict[str, Any]) -> None:
        response = data.get("response") or {}
        if not self.over:
            self.usage = response.get("usage") if response else self.usage
        finished = ("completed", "failed", "incomplete", "cancelled")
        ended = response.get("status") in finished or data.get("type") == "response.done"
        self.over = self.over or data.get("type") == "error" or ended

    def take_media_event(self, data: dict[str, Any]) -> None:
        self.usage = data.get("usage") or self.usage
        self.over = self.over or data["type"] == "error" or data["type"].endswith((".done", ".completed"))

    def take_content(self, data: dict[str, Any]) -> None:
        self.usage = data.get("usageMetadata") or self.usage
        self.broken = self.broken or ("error" in data and not self.terminal)
        self.over = self.over or "error" in data or "blockReason" in (data.get("promptFeedback") or {})
        self.reasons = self.reasons or {}
        for at, candidate in enumerate(data.get("candidates") or []):
            index, parts = candidate.get("index", at), (candidate.get("content") or {}).get("parts") or []
            goes_on = any(part.keys() - {"text", "thought", "thoughtSignature"} or part.get("text") for part in parts)
            reason = candidate.get("finishReason")
            self.reasons[index] = reason or (None if goes_on else self.reasons.get(index))

    def take_interaction_event(self, data: dict[str, Any]) -> None:
        for place in (data.get("metadata"), data.get("interaction")):
            self.usage = (place or {}).get("usage") or self.usage
        self.over = self.over or data.get("event_type") in ("interaction.completed", "error")

    def take_chunk(self, data: dict[str, Any]) -> None:
        self.usage = data.get("usage") or (data.get("x_groq") or {}).get("usage") or self.usage
        self.over = self.over or data.get("error") not in (None, "null")
        self.reasons = self.reasons or {}
        for choice in data.get("choices") or []:
            index = choice.get("index") or 0
            reason = choice.get("finish_reason")
            self.reasons[index] = self.reasons.get(index) if reason in (None, "", "null") else reason

    @property
    def terminal(self) -> bool:
        return self.over or (bool(self.reasons) and all(self.reasons.values()))

    @property
    def raw(self) -> dict[str, Any] | None:
        if self.api != "messages" or self.delta_seen or self.usage is None:
            return self.usage
        return {k: v for k, v in self.usage.items() if k not in ("output_tokens", "output_tokens_details")}

    @property
    def source(self) -> str:
        if not self.raw:
            return "none"
        final = self.terminal and not self.broken and (self.api != "messages" or self.delta_seen)
        return "provider" if final else "partial"


def media_type(interaction: Interaction) -> str:
    """The media type, where that alone tells what a body is made of."""
    kind: str = interaction.response["headers"].get("content-type", "")
    return kind if PARSERS[interaction.record_api].plain else ""


GROWING = {"text", "content", "refusal", "arguments", "reasoning_content", "reasoning", "thinking", "input", "code"}


def texts(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], str]]:
    """The strings that a stream makes longer, by where they stand in the response."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from texts(item, (*path, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from texts(item, (*path, index))
    elif isinstance(value, str) and path[-1] in GROWING:
        yield path, value


#: recordings whose own deltas do not add up to their own whole, and why; of our own, `unlike` says it
UNLIKE = {
    "chat_completions-stream-together-240e642b18": "repeats each delta as a choice's `text`",
    "completions-stream-together-d6ad2ac023": "repeats each text as a choice's `delta`",
    "responses-stream-bedrock-mantle-6807bb2444": "counts content parts from 1, its whole response from 0",
    "responses-stream-openai-5720632e00": "was shortened by those who published it: its deltas are not all there",
}
every_stream = pytest.mark.parametrize("name", parameters(STREAMS))


@pytest.mark.parametrize("name", parameters(wire_ids()))
def test_the_summary_is_the_reassemblys(name):
    """The cheap reading and the whole reading of a body state the same facts, all but the count of chunks."""
    interaction = load(name)
    reply, _ = both(interaction.record_api, interaction.wire, media_type(interaction))
    summary = summarize(interaction.record_api, interaction.wire, media_type(interaction))
    is_array = PARSERS[interaction.record_api].array_is_stream and interaction.wire.startswith(b"[")
    is_stream = interaction.expect["is_sse"] or is_array
    assert bool(reply.chunk_count) == reply.is_stream == summary.is_stream == is_stream
    is_page = interaction.response["status"] >= 400  # of a proxy, which cannot say that it is whole
    assert (reply.terminal or reply.plain or is_page) == (not interaction.is_cut)


@every_stream
def test_cut_after_each_event(name):
    """A stream cut after any event has the usage told by then and no other, and is over only once that was said."""
    interaction = load(name)
    api, body, reported = interaction.record_api, interaction.wire, ReportedSoFar(interaction.record_api)
    for event in plain_events(body):
        reported.take(event)
        summary = summarize(api, body[: event.end], media_type(interaction))
        assert (summary.usage.raw or None) == (reported.raw or None)
        assert (summary.usage.source, summary.terminal) == (reported.source, reported.terminal)
        if api == "messages" and not reported.delta_seen:  # W8: the 1 of message_start is a placeholder
            assert (summary.usage.output_tokens, summary.usage.reasoning_tokens) == (None, None)
            assert summary.usage.source != "provider"


@every_stream
def test_text_only_grows(name):
    """After any event, each text of the response so far begins the same text of the whole response."""
    interaction = load(name)
    body = sse.unix_lines(interaction.wire)
    _, whole = reassemble(interaction.record_api, body, media_type(interaction))
    final, parser, unlike = dict(texts(whole)), PARSERS[interaction.record_api](), []
    for event in sse.events(body):
        if event.data is not None:
            parser.event(event.data, event.name)
            unlike += [path for path, text in texts(parser.response()) if not final.get(path, "").startswith(text)]
    assert bool(unlike) == (name in UNLIKE or "unlike" in interaction.data), unlike[:3]


@every_stream
def test_cut_anywhere(name):
    """A stream cut at any byte reads like the events that are complete; both readings agree, terminal or not."""
    interaction = load(name)
    api, body = interaction.record_api, interaction.wire
    ends = [event.end for event in plain_events(body)]
    cuts = {*range(1, len(body), max(1, len(body) // 16)), *(end - 1 for end in ends[-3:]), *ends[:2], *ends[-2:]}
    for cut in cuts:
        lines = sse.unix_lines(body[:cut])
        complete = lines[: lines.rfind(b"\n\n") + 2] if b"\n\n" in lines else b""
        reply, response = both(api, body[:cut], media_type(interaction))
        as_complete, same = both(api, complete, media_type(interaction))
        assert replace(reply, first_output_at=None) == replace(
            as_complete, first_output_at=None, chunk_count=reply.chunk_count
        )
        assert response == same
        assert reply.first_output_at is None or 0 < reply.first_output_at <= cut
