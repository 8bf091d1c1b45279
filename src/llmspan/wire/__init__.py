"""What came over the wire, read once the call is over: bytes in, facts and the whole response out.

One reader per API. :func:`summarize` passes over events that only bring more text and is cheap enough for the caller's
thread; :func:`reassemble` reads everything and belongs on a worker. Both feed the same reader, and what the first
passes over changes no fact, so they cannot disagree.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final

from .._pace import breathe
from . import frames, media, sse
from .audio import SpeechReader, TranscriptionReader
from .batches import BatchesReader
from .body import BodyReader, CountReader
from .chat import ChatReader
from .complete import CompleteReader
from .completions import CompletionsReader
from .embeddings import EmbeddingsReader
from .error_types import class_name, error_type
from .images import ImagesReader
from .messages import MessagesReader
from .repeats import end_of_run
from .reply import Reader, Reply, ReplyError, read_error
from .responses import ResponsesReader

__all__ = [
    "READERS",
    "Reader",
    "Reply",
    "ReplyError",
    "class_name",
    "error_type",
    "may_be_plain",
    "read_error",
    "reassemble",
    "summarize",
]

#: the reader of each API, by the record's ``api``
READERS: Final[dict[str, type[Reader]]] = {
    "chat_completions": ChatReader,
    "complete": CompleteReader,
    "completions": CompletionsReader,
    "count_tokens": CountReader,
    "decisions": BodyReader,
    "embeddings": EmbeddingsReader,
    "images": ImagesReader,
    "input_tokens": CountReader,
    "message_batches": BatchesReader,
    "messages": MessagesReader,
    "moderations": BodyReader,
    "responses": ResponsesReader,
    "responses_compact": ResponsesReader,
    "speech": SpeechReader,
    "transcriptions": TranscriptionReader,
    "translations": TranscriptionReader,
}


def may_be_plain(api: str) -> bool:
    """Whether an API may answer with text or bytes, which are told by their media type alone."""
    return bool(READERS[api].plain)


def summarize(api: str, body: bytes, media_type: str = "") -> Reply:
    """The facts of a response body (decoded bytes of any shape that the API has). Does not count chunks."""
    if not body:
        return Reply()
    reader = READERS[api]()
    shape = sse.shape_of(body, media_type, reader.plain)
    if shape in ("bytes", "text"):
        return Reply(plain=True)
    if shape == "json":
        thin = reader.thinned(body)
        return _read_json(reader, body if thin is body or sse.json_object(thin) is None else thin)
    lines, origin = _lines(body, shape)
    if not lines:
        return Reply(plain=True)
    first_output, done = _feed_few(reader, lines)
    return _conclude(reader, origin, first_output, done=done)


def reassemble(api: str, body: bytes, media_type: str = "") -> tuple[Reply, Any]:
    """The facts, and the response as the non-streaming call would have returned it (None if nothing came).

    Bytes (audio) are only described: their type, their number and their SHA-256.
    """
    if not body:
        return Reply(), None
    reader = READERS[api]()
    shape = sse.shape_of(body, media_type, reader.plain)
    if shape == "bytes":
        return Reply(plain=True), media.describe(body, media_type)
    if shape == "text":
        return Reply(plain=True), body.decode(errors="replace")
    if shape == "json":
        reply = _read_json(reader, body)
        return reply, reader.response()
    lines, origin = _lines(body, shape)
    if not lines:
        return Reply(plain=True), None
    chunks, first_output, done = 0, None, False
    for event in sse.events(lines):
        done = done or event.done
        if event.data is None or event.name in reader.silent_events:
            continue
        chunks += 1
        reader.event(event.data, event.name)
        breathe()
        if first_output is None and reader.carries_output(event.data):
            first_output = event.end
    reply = _conclude(reader, origin, first_output, done=done)
    reply.chunk_count = chunks
    return reply, reader.response()


def _lines(body: bytes, shape: sse.Shape) -> tuple[bytes, Callable[[int], int]]:
    """The events of a body with unix line ends, and where in the body something is that is at an offset of them."""
    if shape == "frames":
        events = frames.as_events(body)
        return events.text, events.origin
    return sse.unix_lines(body), lambda offset: sse.wire_offset(body, offset)


def _feed_few(reader: Reader, lines: bytes) -> tuple[int | None, bool]:
    """Feed the events of a stream, less those that repeat the one before them but for their text.

    Returns where the first output ends, and whether the stream said that it was done.
    """
    start, first_output, done = 0, None, False
    while (stop := lines.find(b"\n\n", start)) != -1:
        begin, start = start, stop + 2
        event = sse.parse(lines[begin:stop], start)
        if event is None:
            continue
        done = done or event.done
        if event.data is None or event.name in reader.silent_events:
            continue
        reader.event(event.data, event.name)
        if first_output is None and reader.carries_output(event.data):
            first_output = start
        if first_output is not None and reader.repeats:
            start = end_of_run(lines, begin, start)
    return first_output, done


def _conclude(reader: Reader, origin: Callable[[int], int], first_output: int | None, *, done: bool) -> Reply:
    reply = reader.reply()
    reply.first_output_at = None if first_output is None else origin(first_output)
    reply.terminal = reply.terminal or done or reply.error is not None
    if not reply.terminal:
        reply.usage = reply.usage.as_partial()
    return reply


def _read_json(reader: Reader, body: bytes) -> Reply:
    data = sse.json_object(body)
    if data is None:
        return _read_odd_json(reader, body)
    reader.body(data)
    reply = reader.reply()
    reply.terminal = True
    return reply


def _read_odd_json(reader: Reader, body: bytes) -> Reply:
    """Of JSON that is no object: an error, if it is whole."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return Reply()
    reply = reader.reply()
    reply.terminal = True
    reply.error = read_error(data)
    return reply
