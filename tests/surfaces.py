"""The table of surfaces: what users call, what it is answered with, and what has to be recorded of it.

One row per method. ``tests/instrumentation/test_surfaces.py`` calls each in both colours and in every way of reading
that it has; ``docs/coverage.md`` is generated from the same rows.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from streams import CHAT, MESSAGES, RESPONSES, sse

How = Literal["body", "stream", "manager", "bytes"]

JSON = "application/json"
SSE = "text/event-stream"
AUDIO = b"ID3\x04\x00" + bytes(range(256)) * 3


@dataclass(frozen=True)
class Surface:
    """One method: ``path`` leads from a client to it."""

    name: str
    provider: Literal["openai", "anthropic"]
    path: str
    arguments: Callable[[], dict[str, Any]]
    reply: list[bytes]
    api: str
    operation: str = "chat"
    how: How = "body"
    content_type: str = JSON
    usage: tuple[int | None, int | None] = (None, None)
    #: which of ``with_raw_response`` and ``with_streaming_response`` the SDK has for it
    variants: tuple[str, ...] = ("raw", "streaming")
    output_type: str | None = None
    details: dict[str, int] = field(default_factory=dict)

    @property
    def streams(self) -> bool:
        return self.content_type == SSE

    def method(self, client: Any, variant: str = "") -> Any:
        """The method, or its ``with_..._response`` variant."""
        *resources, name = self.path.split(".")
        found = client
        for part in resources:
            found = getattr(found, part)
        return getattr(getattr(found, variant) if variant else found, name)


def _json(value: Any) -> list[bytes]:
    return [json.dumps(value).encode()]


def _same(arguments: dict[str, Any], **more: Any) -> Callable[[], dict[str, Any]]:
    return lambda: {**arguments, **more}


_TOKENS = {"input_tokens": 50, "output_tokens": 20, "total_tokens": 70}
_IMAGE_USAGE = {**_TOKENS, "input_tokens_details": {"image_tokens": 40, "text_tokens": 10}}
_IMAGE = base64.b64encode(b"\x89PNG not really").decode()
_IMAGES = {"created": 1790000000, "data": [{"b64_json": _IMAGE}], "usage": _IMAGE_USAGE, "size": "1024x1024"}
_SPOKEN = {"type": "tokens", **_TOKENS, "input_token_details": {"audio_tokens": 45, "text_tokens": 5}}
_DETAILS = {"image_input_tokens": 40, "text_input_tokens": 10}
_HEARD = {"audio_input_tokens": 45, "text_input_tokens": 5}
_RESPONSE = RESPONSES.body
_COMPACTED = {
    "id": "resp_1", "object": "response.compaction", "created_at": 1790000000, "usage": _RESPONSE["usage"],
    "output": [{"type": "compaction", "id": "cmp_1", "encrypted_content": "x"}],
}  # fmt: skip
_COMPLETION = {
    "id": "cmpl-1", "object": "text_completion", "created": 1790000000, "model": "gpt-3.5-turbo-instruct",
    "choices": [{"index": 0, "text": "Hello", "finish_reason": "stop", "logprobs": None}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 1, "total_tokens": 6},
}  # fmt: skip
_EMBEDDING = {
    "object": "list", "model": "e", "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}],
    "usage": {"prompt_tokens": 9, "total_tokens": 9},
}  # fmt: skip
_DECISION = {
    "model": "d", "answers": [{"type": "predicate", "name": None, "probability": 0.5}],
    "usage": {
        **_TOKENS, "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    },
}  # fmt: skip
_MODERATION = {"id": "modr-1", "model": "omni-moderation-latest", "results": []}
_BATCH = {
    "id": "msgbatch_1", "type": "message_batch", "processing_status": "in_progress",
    "created_at": "2026-11-01T00:00:00Z", "expires_at": "2026-11-02T00:00:00Z",
    "ended_at": None, "results_url": None, "archived_at": None, "cancel_initiated_at": None,
    "request_counts": {"processing": 1, "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0},
}  # fmt: skip

_IMAGE_STREAM = [
    {"type": "image_generation.partial_image", "b64_json": _IMAGE, "created_at": 1790000000, "partial_image_index": 0,
     "size": "1024x1024", "quality": "high", "background": "opaque", "output_format": "png"},
    {"type": "image_generation.completed", "b64_json": _IMAGE, "created_at": 1790000000, "usage": _IMAGE_USAGE,
     "size": "1024x1024", "quality": "high", "background": "opaque", "output_format": "png"},
]  # fmt: skip
_EDIT_STREAM = [{**event, "type": event["type"].replace("generation", "edit")} for event in _IMAGE_STREAM]
_SPEECH_STREAM = [
    {"type": "speech.audio.delta", "audio": base64.b64encode(AUDIO[:300]).decode()},
    {"type": "speech.audio.delta", "audio": base64.b64encode(AUDIO[300:]).decode()},
    {"type": "speech.audio.done", "usage": _TOKENS},
]
_WORDS = ["Hello", ", wörld"]
_TRANSCRIPT_STREAM = [
    *({"type": "transcript.text.delta", "delta": word} for word in _WORDS),
    {"type": "transcript.text.done", "text": "".join(_WORDS), "usage": _SPOKEN},
]


def audio_file() -> Any:
    return ("question.mp3", io.BytesIO(AUDIO), "audio/mpeg")


def image_file() -> Any:
    return ("cat.png", b"\x89PNG not really", "image/png")


_CHAT_USAGE = (CHAT.input_tokens, CHAT.output_tokens)
_RESPONSES_USAGE = (RESPONSES.input_tokens, RESPONSES.output_tokens)
_MESSAGES_USAGE = (MESSAGES.input_tokens, MESSAGES.output_tokens)
_CHAT = {"provider": "openai", "api": "chat_completions", "usage": _CHAT_USAGE}
_RESP = {"provider": "openai", "api": "responses", "usage": _RESPONSES_USAGE}
_CONTENT = {"provider": "openai", "operation": "generate_content"}
_MSG = {"provider": "anthropic", "api": "messages", "usage": _MESSAGES_USAGE}


def _image(path: str, arguments: Callable[[], dict[str, Any]], **more: Any) -> Surface:
    given = {"reply": _json(_IMAGES), "usage": (50, 20), "output_type": "image", "details": _DETAILS, **more}
    name = f"{path}{', stream' if given.get('how') == 'stream' else ''}"
    return Surface(name=name, path=path, arguments=arguments, api="images", **_CONTENT, **given)


OPENAI = [
    Surface("chat.completions.create", path="chat.completions.create", arguments=_same(CHAT.arguments),
            reply=_json(CHAT.body), **_CHAT),
    Surface("chat.completions.create, stream", path="chat.completions.create", how="stream", content_type=SSE,
            arguments=_same(CHAT.arguments, stream=True), reply=CHAT.stream, **_CHAT),
    Surface("chat.completions.parse", path="chat.completions.parse", arguments=_same(CHAT.arguments),
            reply=_json(CHAT.body), **_CHAT),
    Surface("chat.completions.stream", path="chat.completions.stream", arguments=_same(CHAT.arguments), how="manager",
            content_type=SSE, reply=CHAT.stream, variants=(), **_CHAT),
    Surface("responses.create", path="responses.create", arguments=_same(RESPONSES.arguments),
            reply=_json(_RESPONSE), **_RESP),
    Surface("responses.create, stream", path="responses.create", how="stream", content_type=SSE,
            arguments=_same(RESPONSES.arguments, stream=True), reply=RESPONSES.stream, **_RESP),
    Surface("responses.parse", path="responses.parse", arguments=_same(RESPONSES.arguments), variants=("raw",),
            reply=_json(_RESPONSE), **_RESP),
    Surface("responses.stream", path="responses.stream", arguments=_same(RESPONSES.arguments), how="manager",
            content_type=SSE, reply=RESPONSES.stream, variants=(), **_RESP),
    Surface("responses.compact", path="responses.compact", arguments=_same({"model": "gpt-5-mini", "input": "hi"}),
            reply=_json(_COMPACTED), **{**_RESP, "api": "responses_compact"}),
    Surface("responses.retrieve", path="responses.retrieve", arguments=_same({"response_id": "resp_1"}),
            reply=_json(_RESPONSE), operation="fetch_response", **{**_RESP, "usage": (None, None)}),
    Surface("responses.retrieve, stream", path="responses.retrieve", how="stream", content_type=SSE,
            arguments=_same({"response_id": "resp_1", "stream": True}), reply=RESPONSES.stream,
            operation="fetch_response", **{**_RESP, "usage": (None, None)}),
    Surface("responses.input_tokens.count", "openai", path="responses.input_tokens.count", api="input_tokens",
            arguments=_same({"model": "gpt-5-mini", "input": "hi"}), operation="count_tokens",
            reply=_json({"object": "response.input_tokens", "input_tokens": 7})),
    Surface("beta.responses.create", path="beta.responses.create", arguments=_same(RESPONSES.arguments),
            reply=_json(_RESPONSE), **_RESP),
    Surface("beta.responses.create, stream", path="beta.responses.create", how="stream", content_type=SSE,
            arguments=_same(RESPONSES.arguments, stream=True), reply=RESPONSES.stream, **_RESP),
    Surface("beta.responses.compact", path="beta.responses.compact",
            arguments=_same({"model": "gpt-5-mini", "input": "hi"}), reply=_json(_COMPACTED),
            **{**_RESP, "api": "responses_compact"}),
    Surface("beta.responses.retrieve", path="beta.responses.retrieve", arguments=_same({"response_id": "resp_1"}),
            reply=_json(_RESPONSE), operation="fetch_response", **{**_RESP, "usage": (None, None)}),
    Surface("beta.responses.retrieve, stream", path="beta.responses.retrieve", how="stream", content_type=SSE,
            arguments=_same({"response_id": "resp_1", "stream": True}), reply=RESPONSES.stream,
            operation="fetch_response", **{**_RESP, "usage": (None, None)}),
    Surface("beta.responses.input_tokens.count", "openai", path="beta.responses.input_tokens.count",
            api="input_tokens", arguments=_same({"model": "gpt-5-mini", "input": "hi"}), operation="count_tokens",
            reply=_json({"object": "response.input_tokens", "input_tokens": 7})),
    Surface("completions.create", "openai", path="completions.create", operation="text_completion", usage=(5, 1),
            arguments=_same({"model": "gpt-3.5-turbo-instruct", "prompt": "Say"}), api="completions",
            reply=_json(_COMPLETION)),
    Surface("completions.create, stream", "openai", path="completions.create", operation="text_completion",
            arguments=_same({"model": "gpt-3.5-turbo-instruct", "prompt": "Say", "stream": True}), api="completions",
            usage=(5, 1), how="stream", content_type=SSE, reply=[sse(_COMPLETION), b"data: [DONE]\n\n"]),
    Surface("embeddings.create", "openai", path="embeddings.create", api="embeddings", operation="embeddings",
            arguments=_same({"model": "e", "input": "hi"}), usage=(9, None), reply=_json(_EMBEDDING)),
    _image("images.generate", _same({"model": "gpt-image-1", "prompt": "a cat"})),
    _image("images.generate", _same({"model": "gpt-image-1", "prompt": "a cat", "stream": True, "partial_images": 1}),
           reply=[sse(event) for event in _IMAGE_STREAM], how="stream", content_type=SSE),
    _image("images.edit", lambda: {"model": "gpt-image-1", "prompt": "a hat", "image": image_file()}),
    _image("images.edit", lambda: {"model": "gpt-image-1", "prompt": "a hat", "image": image_file(), "stream": True},
           reply=[sse(event) for event in _EDIT_STREAM], how="stream", content_type=SSE),
    _image("images.create_variation", lambda: {"model": "dall-e-2", "image": image_file()}),
    Surface("audio.speech.create", path="audio.speech.create", how="bytes", content_type="audio/mpeg", reply=[AUDIO],
            arguments=_same({"model": "tts-1", "voice": "alloy", "input": "hi"}), api="speech", output_type="speech",
            **_CONTENT),
    Surface("audio.speech.create, events", path="audio.speech.create", how="bytes", content_type=SSE, usage=(50, 20),
            arguments=_same({"model": "gpt-4o-mini-tts", "voice": "alloy", "input": "hi", "stream_format": "sse"}),
            reply=[sse(event) for event in _SPEECH_STREAM], api="speech", output_type="speech", **_CONTENT),
    Surface("audio.transcriptions.create", path="audio.transcriptions.create", api="transcriptions", usage=(50, 20),
            arguments=lambda: {"model": "gpt-4o-transcribe", "file": audio_file()}, output_type="text", details=_HEARD,
            reply=_json({"text": "Hello, wörld", "usage": _SPOKEN}), **_CONTENT),
    Surface("audio.transcriptions.create, text", path="audio.transcriptions.create", api="transcriptions",
            arguments=lambda: {"model": "whisper-1", "file": audio_file(), "response_format": "text"},
            content_type="text/plain; charset=utf-8", reply=["Hello, wörld\n".encode()], output_type="text",
            **_CONTENT),
    Surface("audio.transcriptions.create, stream", path="audio.transcriptions.create", api="transcriptions",
            arguments=lambda: {"model": "gpt-4o-transcribe", "file": audio_file(), "stream": True}, details=_HEARD,
            how="stream", content_type=SSE, reply=[sse(event) for event in _TRANSCRIPT_STREAM], usage=(50, 20),
            output_type="text", **_CONTENT),
    Surface("audio.translations.create", path="audio.translations.create", api="translations", output_type="text",
            arguments=lambda: {"model": "whisper-1", "file": audio_file()}, reply=_json({"text": "Hello"}), **_CONTENT),
    Surface("moderations.create", "openai", path="moderations.create", api="moderations", operation="moderation",
            arguments=_same({"model": "omni-moderation-latest", "input": "hi"}), reply=_json(_MODERATION)),
    Surface("decisions.create", path="decisions.create", api="decisions", usage=(50, 20), reply=_json(_DECISION),
            arguments=_same({"model": "d", "input": "hi", "questions": [{"type": "predicate", "question": "?"}]}),
            **_CONTENT),
]  # fmt: skip

ANTHROPIC = [
    Surface("messages.create", path="messages.create", arguments=_same(MESSAGES.arguments),
            reply=_json(MESSAGES.body), **_MSG),
    Surface("messages.create, stream", path="messages.create", how="stream", content_type=SSE,
            arguments=_same(MESSAGES.arguments, stream=True), reply=MESSAGES.stream, **_MSG),
    Surface("messages.parse", path="messages.parse", arguments=_same(MESSAGES.arguments), variants=(),
            reply=_json(MESSAGES.body), **_MSG),
    Surface("messages.stream", path="messages.stream", arguments=_same(MESSAGES.arguments), how="manager",
            content_type=SSE, reply=MESSAGES.stream, variants=(), **_MSG),
    Surface("messages.count_tokens", "anthropic", path="messages.count_tokens", api="count_tokens",
            arguments=_same({key: MESSAGES.arguments[key] for key in ("model", "messages")}),
            operation="count_tokens", reply=_json({"input_tokens": 7})),
    Surface("messages.batches.create", "anthropic", path="messages.batches.create", api="message_batches",
            operation="create_batch", reply=_json(_BATCH),
            arguments=lambda: {"requests": [{"custom_id": "a", "params": MESSAGES.arguments}]}),
    Surface("beta.messages.create", path="beta.messages.create", arguments=_same(MESSAGES.arguments),
            reply=_json(MESSAGES.body), **_MSG),
    Surface("beta.messages.create, stream", path="beta.messages.create", how="stream", content_type=SSE,
            arguments=_same(MESSAGES.arguments, stream=True), reply=MESSAGES.stream, **_MSG),
    Surface("beta.messages.parse", path="beta.messages.parse", arguments=_same(MESSAGES.arguments), variants=("raw",),
            reply=_json(MESSAGES.body), **_MSG),
    Surface("beta.messages.stream", path="beta.messages.stream", arguments=_same(MESSAGES.arguments), how="manager",
            content_type=SSE, reply=MESSAGES.stream, variants=(), **_MSG),
    Surface("beta.messages.count_tokens", "anthropic", path="beta.messages.count_tokens", api="count_tokens",
            arguments=_same({key: MESSAGES.arguments[key] for key in ("model", "messages")}),
            operation="count_tokens", reply=_json({"input_tokens": 7})),
    Surface("beta.messages.batches.create", "anthropic", path="beta.messages.batches.create", api="message_batches",
            operation="create_batch", reply=_json(_BATCH),
            arguments=lambda: {"requests": [{"custom_id": "a", "params": MESSAGES.arguments}]}),
]  # fmt: skip

ALL = [*OPENAI, *ANTHROPIC]

#: how a response may be read; the columns of the table
WAYS = ("plain", "raw", "streaming: parse", "streaming: iter_lines", "streaming: iter_bytes", "streaming: json")


def ways(surface: Surface) -> list[str]:
    """The ways that a surface has."""
    there = ("plain", *surface.variants)
    has_json = surface.content_type == JSON
    return [way for way in WAYS if way.partition(":")[0] in there and (has_json or not way.endswith("json"))]
