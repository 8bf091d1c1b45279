"""The interactions that tests replay: those of our own making, always, and recorded ones where they are.

Own ones are the files in ``interactions/``: small, with expectations that were worked out by hand. Recorded ones lie
beside the project (or where ``LLMSPAN_TEST_RECORDINGS`` says), with expectations that were computed from their bodies.
Both have the same fields, so one test replays both.
"""

from __future__ import annotations

import base64
import json
import os
import tomllib
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import pytest

from frames import chunk, exception

ROOT = Path(__file__).resolve().parents[1]
RECORDINGS = Path(os.environ.get("LLMSPAN_TEST_RECORDINGS", ROOT.parent / "shared" / "recordings"))
GOOGLE_RECORDINGS = Path(os.environ.get("LLMSPAN_TEST_GOOGLE_RECORDINGS", ROOT.parent / "shared" / "recordings-google"))
OWN = Path(__file__).with_name("interactions")

#: Of how many recordings one is replayed: a part is enough where only the version of Python differs.
EVERY = int(os.environ.get("LLMSPAN_TEST_RECORDINGS_EVERY", "1"))

#: how a name begins -> the SDK, and the method that makes the call
CALLS = {
    "batch_embed_contents": ("google", "models.embed_content"),
    "batch_generate_content": ("google", "batches.create"),
    "beta_messages": ("anthropic", "beta.messages.create"),
    "cached_contents": ("google", "caches.create"),
    "chat_completions": ("openai", "chat.completions.create"),
    "complete": ("anthropic", "post"),
    "completions": ("openai", "completions.create"),
    "count_tokens": ("anthropic", "messages.count_tokens"),
    "decisions": ("openai", "decisions.create"),
    "embed_content": ("google", "models.embed_content"),
    "embeddings": ("openai", "embeddings.create"),
    "gemini_decisions": ("google", "decisions.create"),
    "gemini_count_tokens": ("google", "models.count_tokens"),
    "generate_content": ("google", "models.generate_content"),
    "imagen_predict": ("google", "models.generate_images"),
    "images": ("openai", "images.generate"),
    "input_tokens": ("openai", "responses.input_tokens.count"),
    "interactions": ("google", "interactions.create"),
    "message_batches": ("anthropic", "messages.batches.create"),
    "messages": ("anthropic", "messages.create"),
    "moderations": ("openai", "moderations.create"),
    "predict": ("google", "models.embed_content"),
    "responses": ("openai", "responses.create"),
    "responses_compact": ("openai", "responses.compact"),
    "speech": ("openai", "audio.speech.create"),
    "transcriptions": ("openai", "audio.transcriptions.create"),
    "translations": ("openai", "audio.translations.create"),
}
#: APIs whose events have their type as a name, too
_NAMED = ("beta_messages", "messages", "complete", "responses", "images")
_SSE, _FRAMES = "text/event-stream", "application/vnd.amazon.eventstream"

#: recorded streams that end without a finish reason or terminal event
_CUT = {"chat_completions-stream-gpustack-1e0c48d270", "completions-stream-writer-bf0b3db08f"}


@cache
def recording_ids() -> list[str]:
    """The ids of all recordings that are there, or of every ``EVERY``-th."""
    return sorted(path.stem for path in RECORDINGS.glob("*-*-*.json"))[::EVERY]


@cache
def own_ids() -> list[str]:
    """The ids of the interactions of our own making."""
    return sorted(path.stem for path in OWN.glob("*.toml"))


@cache
def google_recording_ids() -> list[str]:
    """The ids of the recordings of Google's APIs, or of every ``EVERY``-th."""
    return sorted(path.stem for path in GOOGLE_RECORDINGS.glob("*-*-*.json"))[::EVERY]


def interaction_ids() -> list[str]:
    """The ids of the interactions that an SDK replays in all tests: those of openai and anthropic."""
    return [*(name for name in own_ids() if not is_google(name)), *recording_ids()]


def wire_ids() -> list[str]:
    """The ids of all interactions: their bytes are read whether or not an SDK replays them."""
    return [*own_ids(), *recording_ids(), *google_recording_ids()]


def is_google(name: str) -> bool:
    """Whether an interaction is one of Google's APIs."""
    return CALLS[name.partition("-")[0]][0] == "google" or name in google_recording_ids()


def parameters(names: list[str] | None = None) -> list[Any]:
    """All interactions, or those of these names, as values of a test's parameter; recorded ones are marked so."""
    names = interaction_ids() if names is None else names
    recorded = {*recording_ids(), *google_recording_ids()}
    return [pytest.param(name, marks=[pytest.mark.recordings] if name in recorded else []) for name in names]


@dataclass(frozen=True)
class Interaction:
    """One interaction: ``provider`` is the SDK that makes the call, ``method`` leads to how it does.

    The other fields are in the README beside the recordings; of our own, in the one beside ours.
    """

    data: dict[str, Any]

    @classmethod
    def load(cls, name: str) -> Interaction:
        """The interaction of a name."""
        if name in own_ids():
            return _own(name)
        if name in google_recording_ids():
            return cls(_of_google(json.loads((GOOGLE_RECORDINGS / f"{name}.json").read_text())))
        return cls(json.loads((RECORDINGS / f"{name}.json").read_text()))

    def __getattr__(self, name: str) -> Any:
        try:
            return self.data[name]
        except KeyError:
            raise AttributeError(name) from None

    @property
    def prefix(self) -> str:
        return self.id.partition("-")[0]

    @property
    def is_own(self) -> bool:
        return "wire" in self.data

    @property
    def method(self) -> str:
        """The path from a client to the method."""
        if self.request["method"] == "GET":
            return "responses.retrieve"
        return self.data.get("call") or CALLS[self.prefix][1]

    @cached_property
    def wire(self) -> bytes:
        """The body of the response."""
        return self.data["wire"] if self.is_own else self.response["body"].encode()

    @property
    def sdk_error(self) -> str | None:
        """The exception class that the bare SDK raises on this interaction."""
        outcome = self.sdk_replay["outcome"]
        # TypeError: raised by the program that replayed it, over a chunk without choices; the SDK hands it on
        return None if outcome in ("ok", "TypeError") or outcome.startswith("differs") else outcome

    @property
    def streams(self) -> bool:
        """Whether the call has to ask for a stream to be answered so."""
        return (self.stream or self.expect["is_sse"]) and self.record_api != "speech"

    @property
    def record_api(self) -> str:
        is_count = self.provider == "google" and self.prefix == "count_tokens"
        return "gemini_count_tokens" if is_count else self.prefix.removeprefix("beta_")

    @property
    def is_cut(self) -> bool:
        """Whether the stream ends without a finish reason or terminal event."""
        return self.id in _CUT or self.expect.get("outcome") == "incomplete"

    @property
    def is_loose(self) -> bool:
        """Whether the stream leaves out, all over, what the SDK's model requires."""
        return bool(self.data.get("loose"))

    @property
    def options(self) -> dict[str, Any]:
        """What the client is made with."""
        return {"base_url": self.data["base_url"]} if "base_url" in self.data else {}

    @property
    def client(self) -> str:
        """The kind of client."""
        return self.data.get("client") or self.provider


def _of_google(data: dict[str, Any]) -> dict[str, Any]:
    """A recording of Google's with the fields that all have: what its expectation does not name is not to be there."""
    expect = data["expect"]
    none = dict.fromkeys([*_EXPECTED.values(), *_DETAILS.values()])
    chunks = {"n_sse_events_without_ping": expect.get("n_chunks")}
    if data["api"] == "count_tokens":
        chunks["source"] = "none"
    return data | {"expect": {**none, **expect, **chunks, "finish_reasons": expect["finish_reasons"] or []}}


@cache
def _own(name: str) -> Interaction:
    """An interaction of our own, in the form of a recorded one."""
    source: dict[str, Any] = tomllib.loads((OWN / f"{name}.toml").read_text())
    prefix = name.partition("-")[0]
    request, response = source.pop("request", {}), source.pop("response")
    body = json.loads(request.get("body", "{}"))
    content_type, wire = _wire(response, named=prefix in _NAMED)
    expected = source.pop("expect", {})
    return Interaction({
        "upstream": "own", **source,
        "id": name,
        "provider": CALLS[prefix][0],
        "stream": "-stream-" in name,
        "request": {"method": request.get("method", "POST"), "url_path": request.get("url"), "body": body},
        "response": {
            "status": response.get("status", 200),
            "headers": {"content-type": content_type, **response.get("headers", {})},
            "body": wire.decode(errors="replace"),
        },
        "wire": wire,
        "expect": _expectation(expected, response.get("status", 200)),
        "sdk_replay": {"outcome": expected.get("raises", "ok")},
    })  # fmt: skip


def _wire(response: dict[str, Any], *, named: bool) -> tuple[str, bytes]:
    """The body's media type and bytes: as they stand in the file, or framed as events, one a line."""
    if "base64" in response:
        return response.get("content_type", "application/octet-stream"), base64.b64decode(response["base64"])
    if "body" in response:
        body = response["body"].removesuffix("\n") if response.get("trim", True) else response["body"]
        default = "application/json" if body[:1] in "{[" else _SSE
        return response.get("content_type", default), body.encode()
    lines = response["events"].strip("\n").split("\n")
    head = json.loads(response.get("head", "{}"))
    if response.get("framing") == "aws":
        return _FRAMES, b"".join(_frame(json.loads(line)) for line in lines)
    text = "".join(_event(line, head, named=response.get("named", named)) for line in lines)
    return _SSE, text.replace("\n", response.get("line_end", "\n")).encode()


def _event(line: str, head: dict[str, Any], *, named: bool) -> str:
    """One server-sent event: a JSON object, merged into ``head``, a comment, or a word such as ``[DONE]``."""
    if line.startswith(":"):
        return f"{line}\n\n"
    if not line.startswith("{"):
        return f"data: {line}\n\n"
    if head:
        line = json.dumps(head | json.loads(line), ensure_ascii=False)
    name = json.loads(line).get("type") if named else None
    return f"{f'event: {name}{chr(10)}' if name else ''}data: {line}\n\n"


def _frame(event: dict[str, Any]) -> bytes:
    """An event as Bedrock frames it; ``{"exception": [kind, message]}`` is an exception."""
    return exception(*event["exception"]) if "exception" in event else chunk(event)


#: what an expectation says -> the same in a recording's
_EXPECTED = {
    "id": "response_id", "model": "response_model", "tier": "service_tier", "fingerprint": "system_fingerprint",
    "chunks": "n_sse_events_without_ping",
}  # fmt: skip
_TOKENS = {
    "input": "input_tokens_total", "output": "output_tokens", "cache_read": "cache_read_tokens",
    "cache_write": "cache_write_tokens", "reasoning": "reasoning_tokens",
}  # fmt: skip
_DETAILS = {
    "cache_write_5m_tokens": "cache_write_5m_tokens", "cache_write_1h_tokens": "cache_write_1h_tokens",
    "iterations_input_tokens": "iterations_input_tokens_total", "iterations_output_tokens": "iterations_output_tokens",
}  # fmt: skip
#: what only our own say: each is compared where it is there
_ONLY_OWN = ("at", "details", "error_type", "gen_ai_provider", "outcome", "source", "span")


def _expectation(own: dict[str, Any], status: int) -> dict[str, Any]:
    """A hand-written expectation in the form of a recording's; what it does not say is not to be there."""
    tokens, details = own.get("tokens", {}), own.get("details", {})
    usage, error = own.get("usage"), own.get("error")
    reasons = [None if reason == "(none)" else reason for reason in own.get("finish", [])]
    tools = [
        {"id": None if identity == "(none)" else identity, "name": name, "arguments": arguments}
        for identity, name, arguments in own.get("tools", [])
    ]
    known = {
        *_EXPECTED, *_ONLY_OWN, "tokens", "usage", "error", "finish", "tools", "text", "raises", "finish_on_span",
    }  # fmt: skip
    assert own.keys() <= known, own.keys() - known
    assert tokens.keys() <= _TOKENS.keys(), tokens
    return {
        **{theirs: own.get(ours) for ours, theirs in _EXPECTED.items()},
        **{theirs: tokens.get(ours) for ours, theirs in _TOKENS.items()},
        **{theirs: details.get(ours) for ours, theirs in _DETAILS.items()},
        "details": {},
        **{key: own[key] for key in _ONLY_OWN if key in own},
        "usage_raw": None if usage is None else json.loads(usage),
        "finish_reasons": reasons,
        "finish_on_span": own.get("finish_on_span", [reason or "error" for reason in reasons]),
        "is_sse": "chunks" in own,
        "text": own.get("text", ""),
        "tool_calls": tools,
        "error": None
        if error is None
        else {"http_status": status, "type": None, "code": None, "message": None} | error,
    }
