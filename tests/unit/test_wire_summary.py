"""The summary of a stream: it reads few events of a long one, and says what the reassembled reply says of any."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmspan.wire import PARSERS, reassemble, summarize
from llmspan.wire.repeats import end_of_run
from records import examples, patient
from wires import STREAMS, both, created, ended, load, plain_events, start

LONG = 300
SPACINGS = {"compact": (",", ":"), "usual": (", ", ": "), "wide": (" , ", " : ")}


def wire(*events: dict[str, Any], spacing: str = "compact", named: bool = False) -> bytes:
    parts: list[str] = []
    for event in events:
        name = f"event: {event['type']}\n" if named else ""
        parts.append(f"{name}data: {json.dumps(event, separators=SPACINGS[spacing])}\n\n")
    return "".join(parts).encode()


@pytest.fixture
def fed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The APIs of the events that readers are given, one for each."""
    apis: list[str] = []

    def count(api: str, reader: Any) -> None:
        event = reader.event
        monkeypatch.setattr(reader, "event", lambda self, *args: (apis.append(api), event(self, *args))[1])

    for api in ("chat_completions", "messages", "responses"):
        count(api, PARSERS[api])
    return apis


# -- how few events are read


def chunk(delta: dict[str, Any], reason: str | None = None, index: int = 0, **more: Any) -> dict[str, Any]:
    return {"id": "c", "error": None, "choices": [{"index": index, "delta": delta, "finish_reason": reason}], **more}


def tool(index: int, arguments: str) -> dict[str, Any]:
    return chunk({"tool_calls": [{"index": index, "function": {"arguments": arguments}}]})


USAGE = {"id": "c", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 7}}
CHUNKS = {
    "text": [chunk({"content": f" word{n}"}, usage=None) for n in range(LONG)],
    "text with escapes": [chunk({"content": '\n"é"\\' * (n % 3)}) for n in range(LONG)],
    "text about errors": [chunk({"content": '{"error": "usage", "index": 1}'}) for _ in range(LONG)],
    "padding": [chunk({"content": f"w{n}"}, obfuscation="x" * (n % 7)) for n in range(LONG)],
    "parallel tool calls": [tool(n // 100, "x" * n) for n in range(LONG)],
    "reasoning, then text": [
        *(chunk({"reasoning": f"r{n}", "reasoning_details": [{"text": f"r{n}", "index": 0}]}) for n in range(LONG)),
        *(chunk({"content": f"w{n}"}) for n in range(LONG)),
    ],
}


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("name", CHUNKS)
def test_a_long_chat_stream(name: str, spacing: str, fed: list[str]) -> None:
    """Of hundreds of chunks a handful are read, however JSON is spaced and whatever the text talks of."""
    body = wire(*CHUNKS[name], chunk({}, "stop"), USAGE, spacing=spacing)
    reply = summarize("chat_completions", body)
    assert len(fed) <= 6
    assert (reply.finish_reasons, reply.usage.output_tokens) == (("stop",), 7)


@pytest.mark.parametrize("named", [True, False])
def test_a_long_message_stream(named: bool, fed: list[str]) -> None:
    """The same for messages: text, tool input and thinking."""
    kinds = {"text_delta": "text", "input_json_delta": "partial_json", "thinking_delta": "thinking"}
    deltas = [
        {"type": "content_block_delta", "index": at, "delta": {"type": kind, key: f"w{n}"}}
        for at, (kind, key) in enumerate(kinds.items()) for n in range(LONG)
    ]  # fmt: skip
    over = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}}
    summarize("messages", wire(start(input_tokens=1), *deltas, over, named=named))
    assert len(fed) == 5


def test_a_long_response_stream(fed: list[str]) -> None:
    """The same for responses, whose events are numbered."""
    deltas = [
        {"type": "response.output_text.delta", "content_index": 0, "delta": f"w{n}", "obfuscation": "x" * (n % 9),
         "output_index": 0, "sequence_number": n} for n in range(LONG)
    ]  # fmt: skip
    summarize("responses", wire(created(), *deltas, ended("completed"), named=True))
    assert len(fed) == 3


def test_a_run_of_any_length():
    """A run of a hundred thousand events is one match."""
    one = b'data: {"delta":"w"}\n\n'
    assert end_of_run(one * 100_000 + b"data: {}\n\n", 0, len(one)) == 100_000 * len(one)


@pytest.mark.parametrize("other", [
    '{"content":"a","b":2}', '{"content":"a","b":1,"c":"d"}', '{"content":7,"b":1}', '{"content":"a","b":1} ',
    '{"content":"a\\\\","b":1,"x":"","b":1}', '{"content":"a","b":1}\ndata:', '{"content":"a\n","b":1}',
])  # fmt: skip
def test_what_is_no_repetition(other: str):
    """An event that differs in anything but the text ends the run."""
    first = b'data: {"content":"x","b":1}\n\n'
    assert end_of_run(first * 2 + f"data: {other}\n\n".encode(), 0, len(first)) == 2 * len(first)


@pytest.mark.parametrize("event", [
    '{"content":"a","usage":{"content":"a"}}', '{"error":{"text":"a"}}', '{"response" :\n {"text":"a"}}',
])  # fmt: skip
def test_what_is_read_whole_is_no_run(event: str):
    """Of an event with usage, error or response nothing is left open."""
    block = f"data: {event}\n\n".encode()
    assert end_of_run(block * 2, 0, len(block)) == len(block)


@pytest.mark.parametrize("late", [False, True])
def test_several_choices(late: bool) -> None:
    """Every choice has an end of its own, wherever the pieces of the others are."""
    first = [chunk({"content": "a"}) for _ in range(LONG)]
    second = [chunk({"content": "b"}, index=1), chunk({}, "length", index=1)]
    chunks = [*first, chunk({}, "stop"), *second] if late else [*second, *first, chunk({}, "stop")]
    assert summarize("chat_completions", wire(*chunks, USAGE)).finish_reasons == ("stop", "length")


def test_comments_spaces_and_choices():
    """A stream that begins with a comment and spaces its JSON as no other: both readings know both choices."""
    body = b": connected\n\n" + wire(
        *(chunk({"content": "a"}, index=index) for index in (0, 1, 0, 1)), chunk({}, "stop"), chunk({}, "length", 1),
        spacing="wide",
    )  # fmt: skip
    assert both("chat_completions", body)[0].finish_reasons == ("stop", "length")


def test_an_error_in_another_spelling() -> None:
    """A gateway's own error is found in a stream that it passes on in another spelling."""
    body = wire(*CHUNKS["text"][:5]) + wire({"error": {"type": "overloaded", "message": "m"}}, spacing="usual")
    reply, _ = both("chat_completions", body)
    assert reply.error is not None
    assert (reply.error.type, reply.error.message) == ("overloaded", "m")


def test_a_sentinel_before_the_end():
    """``[DONE]`` ends a stream however much comes behind it."""
    body = wire(*CHUNKS["text"][:3]) + b"data: [DONE]\n\n" + b": bye\n\n" * 2000
    assert both("chat_completions", body)[0].terminal


# -- any stream

STEMS = (": hi", "id: 7", "retry: 10", "event: odd", "data: [DONE]", "data:", "data: {}", 'data: "x"', "odd", "data: 7")
UNKNOWN = (
    {"type": "response.dream.delta", "delta": "x", "output_index": 0}, {"type": "dream", "text": "x"}, {"id": "other"},
    {"type": "content_block_dream", "index": 0}, {"model": "other", "content": "x"}, {"type": "ping"},
    {"choices": [{"index": 2, "delta": {"content": "x"}}]}, {"service_tier": "flex", "system_fingerprint": "fp_9"},
    {"type": "error", "error": {"type": "odd", "message": "m", "text": "a"}}, {"error": {"text": "b"}},
    {"type": "message_start", "message": {"id": "again", "model": "n", "usage": {"input_tokens": 5}}},
    {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": None}, {"usage": {"prompt_tokens": 1}},
    {"type": "content_block_start", "index": 5, "content_block": {"type": "fallback", "to": {"model": "second"}}},
    {"type": "response.completed", "response": {"id": "r2", "model": "n", "text": "x"}},
    {"choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": "null"}], "usage": {"input": "x"}},
)  # fmt: skip


PARTIAL = {"type": "image_generation.partial_image"}


@cache
def synthetic() -> dict[str, list[tuple[str, str | None, dict[str, Any]]]]:
    """Streams of APIs that have few interactions: each an API, and its events' names and data."""
    media = {
        "images": [
            *({**PARTIAL, "b64_json": "x" * n, "partial_image_index": n} for n in range(3)),
            {"type": "image_generation.completed", "b64_json": "x", "usage": {"input_tokens": 1, "output_tokens": 2}},
        ],
        "speech": [
            *({"type": "speech.audio.delta", "audio": "eA=="} for _ in range(3)),
            {"type": "speech.audio.done", "usage": {"input_tokens": 1, "output_tokens": 2}},
        ],
        "transcriptions": [
            *({"type": "transcript.text.delta", "delta": f"w{n}"} for n in range(4)),
            {"type": "transcript.text.done", "text": "w", "usage": {"type": "duration", "seconds": 3}},
        ],
        "complete": [
            *({"type": "completion", "completion": f"w{n}", "stop_reason": None, "model": "m"} for n in range(4)),
            {"type": "completion", "completion": "", "stop_reason": "stop_sequence", "model": "m"},
        ],
        "chat_completions": [*CHUNKS["padding"][:4], *(chunk({"content": "b"}, index=1) for _ in range(3)), USAGE],
        "responses": [
            created(),
            *({"type": "response.output_text.delta", "delta": f"w{n}", "sequence_number": n} for n in range(4)),
            ended("completed", usage={"input_tokens": 1, "output_tokens": 2}),
        ],
        "decisions": [{"id": "d", "usage": {"input_tokens": 1}}, {"id": "d", "text": "a"}, {"id": "d", "text": "b"}],
        "input_tokens": [{"input_tokens": 3, "text": "a"}, {"input_tokens": 3, "text": "b"}],
    }  # fmt: skip
    return {f"synthetic {api}": [(api, event.get("type"), event) for event in media[api]] for api in media}


#: streams of more bytes are parsed too long for what they add
LARGEST = 60_000


@cache
def source_names() -> list[str]:
    return sorted([*synthetic(), *(name for name in STREAMS if len(load(name).wire) < LARGEST)])


@cache  # each at its first use: every process of the tests imports this module, and few run it
def source(name: str) -> list[tuple[str, str | None, dict[str, Any]]]:
    if name in synthetic():
        return synthetic()[name]
    api = load(name).record_api
    return [(api, event.name, event.data) for event in plain_events(load(name).wire) if event.data is not None]


def framed(data: dict[str, Any], name: str | None, spacing: str, style: str) -> str:
    """One event in some legal framing."""
    text = json.dumps(data, separators=SPACINGS[spacing], ensure_ascii=style != "utf8")
    lines = [text]
    if style == "lines":  # JSON may be broken wherever it may have space
        lines = json.dumps(data, indent=0).split("\n")
    elif style == "sorted":
        lines = [json.dumps(data, separators=SPACINGS[spacing], sort_keys=True)]
    field = "data:" if style == "tight" else "data: "
    head = "" if name is None else f"event: {name}\n"
    note = ": note\n" if style == "noted" else ""
    return head + "".join(f"{field}{line}\n" for line in lines) + note + "\n"


@st.composite
def streams(draw: st.DrawFn) -> tuple[str, bytes]:
    """A stream out of a known one: parts of it in another order, repeated, framed anew, with others' lines between."""
    events = source(draw(st.sampled_from(source_names())))
    api = events[0][0]
    begin = draw(st.integers(0, max(0, len(events) - 12)))
    picked = [*events[:2], *events[begin : begin + 10], *events[-3:]]
    styles = draw(st.lists(st.sampled_from(["plain", "plain", "plain", "utf8", "lines", "sorted", "tight", "noted"]),
                           min_size=1, max_size=3))  # fmt: skip
    spacings = draw(st.lists(st.sampled_from(sorted(SPACINGS)), min_size=1, max_size=2))
    for what in draw(st.lists(st.sampled_from(["swap", "repeat", "drop", "run"]), max_size=5)):
        here = draw(st.integers(0, len(picked) - 1))
        if what == "swap":
            there = draw(st.integers(0, len(picked) - 1))
            picked[here], picked[there] = picked[there], picked[here]
        elif what == "repeat":
            picked.insert(draw(st.integers(0, len(picked))), picked[here])
        elif what == "run":
            picked[here:here] = [picked[here]] * draw(st.integers(1, 5))
        elif len(picked) > 1:
            del picked[here]
    blocks = [
        framed(data, name, spacing, style)
        for (_, name, data), style, spacing in zip(
            picked, itertools.cycle(styles), itertools.cycle(spacings), strict=False
        )
    ]
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(blocks)))
        extra = draw(st.sampled_from(STEMS).map(lambda line: line + draw(st.sampled_from(["\n", "\n\n", "\n\n\n"])))
                     | st.builds(framed, st.sampled_from(UNKNOWN), st.sampled_from([None, "ping", "odd"]),
                                 st.sampled_from(sorted(SPACINGS)), st.just("plain")))  # fmt: skip
        blocks[at:at] = [extra] * draw(st.integers(1, 2))
    text = "".join(blocks) + draw(st.sampled_from(["", "data: [DONE]\n\n", "\n", "data: {"]))
    body = text.replace("\n", draw(st.sampled_from(["\n", "\n", "\r\n", "\r"]))).encode(errors="surrogatepass")
    body = draw(st.sampled_from([b"", b"", b"", b"\xef\xbb\xbf", b"\n"])) + body
    cut = draw(st.none() | st.integers(0, len(body)))
    if draw(st.booleans()) and cut is not None:
        return api, body[:cut]
    if cut is not None and draw(st.booleans()):
        return api, body[:cut] + draw(st.binary(max_size=3)) + body[cut + draw(st.integers(0, 3)) :]
    return api, body


@settings(patient, max_examples=examples(600), suppress_health_check=list(HealthCheck))
@given(stream=streams())
def test_the_summary_is_the_reassembled_reply(stream: tuple[str, bytes]) -> None:
    """Whatever a gateway makes of a stream, span and record state the same facts; only the record counts chunks."""
    api, body = stream
    for as_api in (api, "chat_completions") if api == "completions" else (api,):
        reply, _ = reassemble(as_api, body)
        assert summarize(as_api, body) == replace(reply, chunk_count=None)
