"""Images, audio and old completions on the wire: whole, cut, failed."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest

from llmspan.wire import Reply, reassemble, summarize
from llmspan.wire.apis.anthropic_batches import read_result
from streams import sse

USAGE = {"input_tokens": 5, "output_tokens": 3, "total_tokens": 8}
ERROR = {"type": "error", "error": {"type": "server_error", "message": "busy", "code": None}}


def read(api: str, *events: dict[str, Any], media_type: str = "text/event-stream") -> tuple[Reply, Any]:
    """What a stream of these events says; the quick and the whole reading agree."""
    body = b"".join(map(sse, events))
    reply, response = reassemble(api, body, media_type)
    quick = summarize(api, body, media_type)
    assert (quick.usage, quick.error, quick.terminal) == (reply.usage, reply.error, reply.terminal)
    assert quick.first_output_at == reply.first_output_at
    return reply, response


def image(kind: str, content: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "b64_json": content, "created_at": 7, "size": "1024x1024", **more}


@pytest.mark.parametrize("prefix", ["image_generation", "image_edit"])
def test_images(prefix: str) -> None:
    """The completed event is what the body would have been; partial images are gone by then."""
    partial = image(f"{prefix}.partial_image", "part", partial_image_index=0)
    reply, response = read("images", partial, image(f"{prefix}.completed", "whole", usage=USAGE))
    assert response == {"created": 7, "data": [{"b64_json": "whole"}], "size": "1024x1024", "usage": USAGE}
    assert (reply.terminal, reply.chunk_count, reply.usage.output_tokens) == (True, 2, 3)


def test_images_cut() -> None:
    """Of a stream that was cut, the last partial image is kept; no usage is made up."""
    partials = [image("image_generation.partial_image", str(number), partial_image_index=number) for number in (0, 1)]
    reply, response = read("images", *partials)
    assert response["data"] == [{"b64_json": "1"}]
    assert (reply.terminal, reply.usage.source) == (False, "none")


@pytest.mark.parametrize("api", ["images", "speech", "transcriptions", "translations", "complete"])
def test_error_events(api: str) -> None:
    """An error event ends any of these streams."""
    reply, _ = read(api, ERROR)
    assert reply.error is not None
    assert (reply.error.code or reply.error.type, reply.error.message, reply.terminal) == ("server_error", "busy", True)


@pytest.mark.parametrize("api", ["images", "speech", "transcriptions", "translations", "complete"])
def test_error_bodies(api: str) -> None:
    """So does an error body, which is what the record then holds."""
    body = json.dumps(ERROR).encode()
    reply, response = reassemble(api, body, "application/json")
    assert reply.error is not None
    assert response == ERROR
    assert summarize(api, body, "application/json").error == reply.error


def test_speech_in_events() -> None:
    """The pieces of audio are put together to be described, also where the stream was cut."""
    pieces = [{"type": "speech.audio.delta", "audio": base64.b64encode(part).decode()} for part in (b"abc", b"def")]
    reply, response = read("speech", *pieces, {"type": "speech.audio.done", "usage": USAGE})
    assert response == {"bytes": 6, "sha256": hashlib.sha256(b"abcdef").hexdigest(), "usage": USAGE}
    assert (reply.terminal, reply.usage.input_tokens) == (True, 5)
    reply, response = read("speech", *pieces, {"type": "speech.audio.delta", "audio": "not base64"})
    assert (reply.terminal, response["bytes"]) == (False, 6)


def test_transcription_cut() -> None:
    """The words by then, and the segments of speakers."""
    reply, response = read(
        "transcriptions",
        {"type": "transcript.text.delta", "delta": "Hello"},
        {"type": "transcript.text.segment", "id": "s", "speaker": "A", "text": "Hello", "start": 0, "end": 1},
    )
    assert response["text"] == "Hello"
    assert response["segments"] == [{"id": "s", "speaker": "A", "text": "Hello", "start": 0, "end": 1}]
    assert reply.terminal is False


@pytest.mark.parametrize("text", ["Hello", "1\n00:00 --> 00:01\nHi", "WEBVTT\n\n00:00", '{"looks": "like JSON"'])
def test_transcription_as_text(text: str) -> None:
    """Plain text, subtitles: the text as it came, which says nothing else."""
    reply, response = reassemble("transcriptions", text.encode(), "text/plain; charset=utf-8")
    assert response == text
    assert reply == Reply(plain=True)


def test_transcription_by_duration() -> None:
    """Models that are billed by the second report seconds: no tokens, and the report as it was sent."""
    usage = {"type": "duration", "seconds": 3.5}
    reply, _ = reassemble("transcriptions", json.dumps({"text": "hi", "usage": usage}).encode(), "application/json")
    assert (reply.usage.input_tokens, reply.usage.details, reply.usage.raw) == (None, {}, usage)


def test_completions_of_anthropic_cut() -> None:
    """The text by then, and no stop reason."""
    reply, response = read("complete", {"type": "completion", "id": "c", "completion": " H", "stop_reason": None})
    assert response["completion"] == " H"
    assert (reply.terminal, reply.finish_reasons, reply.response_id) == (False, (None,), "c")


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b"null", b'{"result": 1}', b'{"custom_id": "a"}', b"\xff"])
def test_no_result(line: bytes) -> None:
    """What is not a batch's result is none."""
    assert read_result(line) is None


def test_a_result_of_a_kind_to_come() -> None:
    """A kind of result that nobody knows yet is a result all the same."""
    result = read_result(b'{"custom_id": "a", "result": {"type": "postponed"}}')
    assert result is not None
    assert (result.kind, result.response, result.reply.error) == ("postponed", None, None)
