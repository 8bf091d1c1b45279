"""Audio: speech (``POST /audio/speech``), transcriptions and translations (``POST /audio/transcriptions``, ...).

Source: openai ``SpeechCreateParams``, ``Transcription``, ``TranscriptionStreamEvent``. Speech is bytes, or events with
bytes in them; either way only their type, size and SHA-256 make up the response. A transcription is JSON, events, or
plain text.
"""

from __future__ import annotations

import base64
from typing import Any, ClassVar

from ...usage import Usage
from ..media import describe
from ..reply import JsonObject, Reply, ReplyError, ResponseParser, has_error, obj, read_error, string


class SpeechParser(ResponseParser):
    """Reads speech that came as events (``stream_format="sse"``) or an error that came as JSON."""

    plain: ClassVar = "bytes"

    def __init__(self) -> None:
        self._body: JsonObject | None = None
        self._audio: list[str] = []
        self._usage: object = None
        self._done = False
        self._error: ReplyError | None = None

    def event(self, data: JsonObject, name: str | None) -> None:
        """Take one event of a stream."""
        kind = data.get("type") or name
        if has_error(data) or kind == "error":
            self._error = read_error(data)
        elif kind == "speech.audio.done":
            self._done = True
            self._usage = data.get("usage")
        elif isinstance(data.get("audio"), str):
            self._audio.append(data["audio"])

    def body(self, data: JsonObject) -> None:
        """Take a JSON body: an error."""
        self._body = data
        if has_error(data):
            self._error = read_error(data)

    def carries_output(self, data: JsonObject) -> bool:
        """Audio."""
        return bool(data.get("audio"))

    def reply(self) -> Reply:
        """What is known by now."""
        return Reply(usage=Usage.from_raw(obj(self._usage)), error=self._error, terminal=self._done)

    def response(self) -> Any:
        """The body, or what the audio was."""
        if self._body is not None:
            return self._body
        if not self._audio and not self._done:
            return None
        audio = b"".join(_decoded(piece) for piece in self._audio)
        return describe(audio) | ({"usage": self._usage} if self._usage else {})


class TranscriptionParser(ResponseParser):
    """Reads transcriptions and translations."""

    plain: ClassVar = "text"

    def __init__(self) -> None:
        self._body: JsonObject | None = None
        self._words: list[str] = []
        self._segments: list[JsonObject] = []
        self._done: JsonObject | None = None
        self._error: ReplyError | None = None

    def event(self, data: JsonObject, name: str | None) -> None:
        """Take one event of a stream."""
        kind = data.get("type") or name
        if has_error(data) or kind == "error":
            self._error = read_error(data)
        elif kind == "transcript.text.done":
            self._done = data
        elif kind == "transcript.text.segment":
            self._segments.append({key: value for key, value in data.items() if key != "type"})
        elif kind == "transcript.text.delta":
            self._words.append(string(data.get("delta")) or "")

    def body(self, data: JsonObject) -> None:
        """Take the body of a call that does not stream."""
        self._body = data
        if has_error(data):
            self._error = read_error(data)

    def carries_output(self, data: JsonObject) -> bool:
        """A word, or a segment."""
        return bool(data.get("delta") or data.get("text"))

    def reply(self) -> Reply:
        """What is known by now."""
        source = self._body or self._done or {}
        return Reply(
            usage=Usage.from_raw(obj(source.get("usage"))),
            error=self._error,
            terminal=self._body is not None or self._done is not None,
        )

    def response(self) -> Any:
        """A ``Transcription``."""
        if self._body is not None:
            return self._body
        if self._done is None and not self._words and not self._segments:
            return None
        response: JsonObject = {"text": "".join(self._words)}
        response |= {key: value for key, value in (self._done or {}).items() if key != "type"}
        if self._segments:
            response.setdefault("segments", self._segments)
        return response


def _decoded(piece: str) -> bytes:
    try:
        return base64.b64decode(piece)
    except ValueError:
        return b""
