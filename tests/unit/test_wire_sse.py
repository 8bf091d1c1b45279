"""Server-sent events: lines, fields, ends, the sentinel; the same events as the SDK's own decoder finds."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai._streaming import SSEDecoder

from llmspan.wire import Reply, sse
from records import examples, patient
from wires import both, wire


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends(end):
    """Line feeds, CRLF and lone carriage returns are line ends alike."""
    events = [{"id": "c", "choices": [{"index": 0, "delta": {"content": "a\r\nb"}}]}, {"id": "c", "choices": []}]
    reply, response = both("chat_completions", wire(*events, end="data: [DONE]\n\n").replace(b"\n", end.encode()))
    assert (reply.chunk_count, reply.terminal) == (2, True)
    assert response["choices"][0]["message"]["content"] == "a\r\nb"


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_first_output_is_told_in_bytes_received(end):
    """``first_output_at`` counts the bytes as they came, so that the piece which brought the output can be found."""
    head, output = b": ping\n\n" * 500 + wire({"choices": []}), wire({"choices": [{"delta": {"content": "x"}}]})
    body = (head + output + wire({"choices": []})).replace(b"\n", end.encode())
    reply, _ = both("chat_completions", body)
    assert reply.first_output_at is not None
    expected = len((head + output).replace(b"\n", end.encode()))
    assert expected - len(end) < reply.first_output_at <= expected


def test_comments_and_other_fields():
    """Comments, ids, retry times and unknown fields are no data; a space behind the colon is optional."""
    body = b': hi\n\nid: 7\nretry: 1\nodd\ndata:{"id":"c","choices":[]}\n: more\n\n: OPENROUTER PROCESSING\n\n'
    assert both("chat_completions", body)[0] == Reply(response_id="c", chunk_count=1)


def test_data_on_several_lines():
    """Several data lines of one event are one text."""
    body = b'event: message_start\ndata: {"type": "message_start",\ndata: "message": {"id": "m",\ndata: "usage":\n'
    body += b'data: {"input_tokens": 3, "cache_read_input_tokens": 4, "output_tokens": 1}}}\n\n'
    reply, _ = both("messages", body)
    assert (reply.response_id, reply.usage.input_tokens, reply.usage.output_tokens) == ("m", 7, None)


def test_an_event_counts_once_its_blank_line_is_there():
    """An event without its blank line at the end of a cut stream never was one, as in the SDKs."""
    last = {"index": 0, "delta": {"content": "b"}, "finish_reason": "stop"}
    whole = wire({"id": "c", "choices": [{"index": 0, "delta": {"content": "a"}}]}, {"id": "c", "choices": [last]})
    reply, response = both("chat_completions", whole[:-1])
    assert (reply.chunk_count, reply.terminal, reply.finish_reasons) == (1, False, (None,))
    assert response["choices"][0]["message"]["content"] == "a"


@pytest.mark.parametrize(("end", "terminal"), [
    ("data: [DONE]\n\n", True),
    ("data:[DONE]\n\n", True),
    ("event: data\ndata: [DONE]\n\n", True),
    ("data: [DONE]\n\n" + ": bye\n\n" * 50, True),
    ("data: [DONE]\n", False),
    ("data: [DONE", False),
    ('data: {"id":"c","choices":[],"note":"data: [DONE]"}\n\n', False),
    ('data: {"id":"c","choices":[]}\n\ndata: "[DONE]"\n\n', False),
])  # fmt: skip
def test_the_sentinel(end, terminal):
    """``[DONE]`` ends a stream, however it is framed, if it is an event; a model that writes of it ends nothing."""
    body = wire({"id": "c", "choices": [{"index": 0, "delta": {"content": "[DONE]"}}]}, end=end)
    assert both("chat_completions", body)[0].terminal is terminal


lines = st.lists(
    st.sampled_from(
        ['data: {"a":1}', 'data:{"b":', "data: 2}", "data:", "data", "event: x", "event:", "event: ping", ": note", "",
         "", "", "id: 1", "retry: 5", "odd: {}", ' data: {"c":3}', "data: [DONE]", 'data: "ü"', "data: {}"]
    ),
    max_size=14,
)  # fmt: skip


@settings(patient, max_examples=examples(300))
@given(lines=lines, ends=st.lists(st.sampled_from(["\n", "\r\n", "\r"]), min_size=14, max_size=14), tail=st.booleans())
def test_events_are_the_sdks(lines, ends, tail):
    """Any framing gives the events that the SDK's own decoder gives: same names, same objects, none more."""
    text = "".join(line + end for line, end in zip(lines, ends, strict=False)) + ("data: {}" if tail else "")
    theirs = [(event.event, event.data) for event in SSEDecoder().iter_bytes(iter([text.encode()])) if event.data]
    ours = [event for event in sse.events(sse.unix_lines(text.encode())) if event.data is not None or event.is_done]
    assert [event.name or None for event in ours if event.is_done] == [
        name for name, data in theirs if data.startswith("[DONE]")
    ]
    objects = [(name, json_object(data)) for name, data in theirs]
    assert [(e.name or None, e.data) for e in ours if e.data is not None] == [
        (n, d) for n, d in objects if d is not None
    ]


def json_object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
