"""Reads a finished response body: bytes in, facts and the whole response out.

One parser per API. :func:`summarize` skips events that only add text and is cheap enough for the caller's thread;
:func:`reassemble` reads everything and belongs on a worker. Both feed the same parser, and the skipped events change
no fact, so the two cannot disagree.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from .._pace import yield_gil
from . import aws_eventstream, media, sse
from .apis.anthropic_batches import BatchesParser
from .apis.anthropic_completions import CompleteParser
from .apis.anthropic_messages import MessagesParser
from .apis.gemini import GenerateContentParser
from .apis.gemini_bodies import DecisionsParser, EmbedContentParser, PredictedImagesParser, ResourceParser
from .apis.gemini_interactions import InteractionsParser
from .apis.json_body import BodyParser, CountParser
from .apis.openai_audio import SpeechParser, TranscriptionParser
from .apis.openai_chat import ChatParser
from .apis.openai_completions import CompletionsParser
from .apis.openai_embeddings import EmbeddingsParser
from .apis.openai_images import ImagesParser
from .apis.openai_responses import ResponsesParser
from .repeats import end_of_run, joined_run
from .reply import Reply, ResponseParser, objects, read_error

__all__ = ["PARSERS", "reassemble", "summarize"]

#: the parser of each API, by the record's ``api``
PARSERS: Final[dict[str, type[ResponseParser]]] = {
    "batch_embed_contents": EmbedContentParser,
    "batch_generate_content": ResourceParser,
    "cached_contents": ResourceParser,
    "chat_completions": ChatParser,
    "complete": CompleteParser,
    "completions": CompletionsParser,
    "count_tokens": CountParser,
    "decisions": BodyParser,
    "embed_content": EmbedContentParser,
    "embeddings": EmbeddingsParser,
    "gemini_count_tokens": CountParser,
    "gemini_decisions": DecisionsParser,
    "generate_content": GenerateContentParser,
    "imagen_predict": PredictedImagesParser,
    "images": ImagesParser,
    "input_tokens": CountParser,
    "interactions": InteractionsParser,
    "message_batches": BatchesParser,
    "messages": MessagesParser,
    "moderations": BodyParser,
    "predict": EmbedContentParser,
    "responses": ResponsesParser,
    "responses_compact": ResponsesParser,
    "speech": SpeechParser,
    "transcriptions": TranscriptionParser,
    "translations": TranscriptionParser,
}

#: bytes of events that are read between two looks at the clock: less than a tenth of a millisecond
_BYTES_BETWEEN_LOOKS: Final = 1024
#: bytes that are read event by event behind one whose text could not be joined with those that follow
_BYTES_WITHOUT_JOINING: Final = 512


def summarize(api: str, body: bytes, media_type: str = "") -> Reply:
    """The facts of a response body (decoded bytes of any shape that the API has). Does not count chunks."""
    if not body:
        return Reply()
    parser = PARSERS[api]()
    shape = sse.shape_of(body, media_type, parser.plain)
    if shape in ("bytes", "text"):
        return Reply(plain=True)
    if shape == "json":
        stripped = parser.strip_bulk(body)
        if stripped is body or sse.json_object(stripped) is None:
            reply = _read_json(parser, body)
            reply.chunk_count = None
            return reply
        reply = _read_json(parser, stripped)
        reply.parsed_as_json = "part"
        return reply
    lines, wire_offset = _lines(body, shape)
    if not lines:
        return Reply(plain=True)
    has_event, first_output, is_done = _feed_changes(parser, lines)
    return _finish_stream(parser, wire_offset, first_output, has_event=has_event, is_done=is_done)


def reassemble(api: str, body: bytes, media_type: str = "", summary: Reply | None = None) -> tuple[Reply, Any]:
    """The facts, and the response as the non-streaming call would have returned it (None if nothing came).

    ``summary`` has the facts if the body is a stream that was summarized before; it gets the number of chunks.
    Bytes (audio) are only described: their type, their number and their SHA-256.
    """
    if not body:
        return Reply(), None
    parser = PARSERS[api]()
    shape = sse.shape_of(body, media_type, parser.plain)
    if shape == "bytes":
        return Reply(plain=True), media.describe(body, media_type)
    if shape == "text":
        return Reply(plain=True), body.decode(errors="replace")
    if shape == "json":
        reply = _read_json(parser, body)
        return reply, parser.response()
    lines, wire_offset = _lines(body, shape)
    if not lines:
        return Reply(plain=True), None
    chunks, first_output, is_done = _feed_all(parser, lines)
    reply = summary
    if reply is None:
        reply = _finish_stream(parser, wire_offset, first_output, has_event=chunks > 0, is_done=is_done)
    reply.chunk_count = chunks
    return reply, parser.response()


def _lines(body: bytes, shape: sse.Shape) -> tuple[bytes, Callable[[int], int]]:
    """The events of a body with unix line ends, and where in the body something is that is at an offset of them."""
    if shape == "frames":
        events = aws_eventstream.as_events(body)
        return events.text, events.wire_offset
    lines = sse.unix_lines(body)
    return lines, int if lines is body else partial(sse.wire_offset, body)


def _feed_all(parser: ResponseParser, lines: bytes) -> tuple[int, int | None, bool]:
    """Feed all events of a stream.

    Returns their number, where the first output ends, and whether the stream said that it was done.
    """
    start, chunks, first_output, is_done, pause_at, join_at = 0, 0, None, False, 0, 0
    while (stop := lines.find(b"\n\n", start)) != -1:
        begin, start = start, stop + 2
        event = sse.parse(lines, begin, stop)
        if event is None:
            continue
        is_done = is_done or event.is_done
        if event.data is None or event.name in parser.silent_events:
            continue
        chunks += 1
        parser.event(event.data, event.name)
        if first_output is None and parser.carries_output(event.data):
            first_output = start
        if start >= join_at and first_output is not None and parser.appends_text(event.data):
            number, start = _feed_run(parser, lines, begin, start)
            chunks += number
            join_at = start if number else start + _BYTES_WITHOUT_JOINING
        if start >= pause_at:
            pause_at = start + _BYTES_BETWEEN_LOOKS
            yield_gil()
    return chunks, first_output, is_done


def _feed_run(parser: ResponseParser, lines: bytes, begin: int, start: int) -> tuple[int, int]:
    """Feed as one the events that repeat the one between ``begin`` and ``start`` but for its text.

    Returns their number and where they end: 0 and ``start`` if they cannot be joined.
    """
    run = joined_run(lines, begin, start)
    event = None if run is None else sse.parse(run.event, 0, len(run.event) - 2)
    if run is None or event is None or event.data is None:
        return 0, start
    parser.event(event.data, event.name)
    return run.number, run.end


def _feed_changes(parser: ResponseParser, lines: bytes) -> tuple[bool, int | None, bool]:
    """Feed the events of a stream, less those that repeat the one before them but for their text.

    Returns whether there was an event, where the first output ends, and whether the stream said that it was done.
    """
    start, has_event, first_output, is_done = 0, False, None, False
    while (stop := lines.find(b"\n\n", start)) != -1:
        begin, start = start, stop + 2
        event = sse.parse(lines, begin, stop)
        if event is None:
            continue
        is_done = is_done or event.is_done
        if event.data is None or event.name in parser.silent_events:
            continue
        has_event = True
        parser.event(event.data, event.name)
        if first_output is None and parser.carries_output(event.data):
            first_output = start
        if first_output is not None and parser.skips_repeats:
            start = _skip_run(parser, lines, begin, start)
    return has_event, first_output, is_done


def _skip_run(parser: ResponseParser, lines: bytes, begin: int, start: int) -> int:
    """Where the run ends of events that repeat the one between ``begin`` and ``start``, the last of them read."""
    end = end_of_run(lines, begin, start)
    if end > start and parser.reads_last_of_run:
        last = sse.parse(lines, lines.rfind(b"\n\n", begin, end - 2) + 2, end - 2)
        if last is not None and last.data is not None:
            parser.event(last.data, last.name)
    return end


def _finish_stream(
    parser: ResponseParser,
    wire_offset: Callable[[int], int],
    first_output: int | None,
    *,
    has_event: bool,
    is_done: bool,
) -> Reply:
    reply = parser.reply()
    reply.is_stream = has_event
    reply.first_output_at = None if first_output is None else wire_offset(first_output)
    reply.terminal = reply.terminal or is_done or reply.error is not None
    if not reply.terminal:
        reply.usage = reply.usage.as_partial()
    return reply


def _read_json(parser: ResponseParser, body: bytes) -> Reply:
    data = sse.json_object(body)
    if data is None:
        return _read_non_object(parser, body)
    parser.body(data)
    reply = parser.reply()
    reply.terminal = True
    reply.parsed_as_json = "whole"
    return reply


def _read_non_object(parser: ResponseParser, body: bytes) -> Reply:
    """Of JSON that is no object: the events of a stream, where the API has such, else an error, if it is whole."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return Reply()
    if parser.array_is_stream and isinstance(data, list):
        events = objects(data)
        for event in events:
            parser.event(event, None)
        reply = _finish_stream(parser, int, None, has_event=bool(events), is_done=False)
        reply.chunk_count = len(events)
        return reply
    reply = parser.reply()
    reply.terminal = True
    reply.error = read_error(data)
    return reply
