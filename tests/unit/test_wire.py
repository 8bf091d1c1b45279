"""Reading what came over the wire: whole, cut anywhere, odd, broken, or nothing that a provider should send."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai._streaming import SSEDecoder

from llmspan.usage import Usage
from llmspan.wire import READERS, Reply, ReplyError, read_error, reassemble, sse, summarize
from llmspan.wire.body import BodyReader
from records import patient
from replay import Recording, recording_ids


def both(api: str, body: bytes) -> tuple[Reply, Any]:
    """What ``reassemble`` says, once it is sure that ``summarize`` says the same."""
    reply, response = reassemble(api, body)
    assert summarize(api, body) == replace(reply, chunk_count=None)
    return reply, response


# -- recordings: whole, and cut


class Plain(NamedTuple):
    """One event of a recording, read without the package's help."""

    end: int
    name: str | None
    data: dict[str, Any] | None
    done: bool


def plain_events(body: bytes) -> Iterator[Plain]:
    start = 0
    for match in re.finditer(rb"\r?\n\r?\n", body):
        fields = [line.partition(":") for line in body[start : match.start()].decode().splitlines()]
        start = match.end()
        told = {name: [value.removeprefix(" ") for other, _, value in fields if other == name] for name, *_ in fields}
        text = "\n".join(told.get("data", []))
        yield Plain(start, *told.get("event", [None])[-1:], json.loads(text) if text[:1] == "{" else None,
                    text.startswith("[DONE]"))  # fmt: skip


@dataclass
class Told:
    """What a provider has said so far, kept by plain rules."""

    api: str
    usage: dict[str, Any] | None = None
    delta_seen: bool = False
    over: bool = False
    reasons: dict[int, str | None] | None = None

    def take(self, event: Plain) -> None:
        self.over = self.over or event.done
        data = event.data or {}
        if self.api == "messages":
            self.take_message_event(data)
        elif self.api == "responses":
            self.take_response_event(data)
        else:
            self.take_chunk(data)

    def take_message_event(self, data: dict[str, Any]) -> None:
        kind = data.get("type")
        self.over = self.over or kind in ("message_stop", "error") or bool((data.get("delta") or {}).get("stop_reason"))
        if kind == "message_start":
            self.usage = dict(data["message"]["usage"])
        elif kind == "message_delta":
            self.usage = self.usage or {}
            self.usage |= {k: v for k, v in data["usage"].items() if v is not None or k not in self.usage}
            self.delta_seen = True

    def take_response_event(self, data: dict[str, Any]) -> None:
        response = data.get("response") or {}
        self.usage = response.get("usage") if response else self.usage
        finished = ("completed", "failed", "incomplete", "cancelled")
        self.over = self.over or data.get("type") == "error" or response.get("status") in finished

    def take_chunk(self, data: dict[str, Any]) -> None:
        self.usage = data.get("usage") or (data.get("x_groq") or {}).get("usage") or self.usage
        self.over = self.over or bool(data.get("error"))
        self.reasons = self.reasons or {}
        for choice in data.get("choices") or []:
            index = choice.get("index") or 0
            self.reasons[index] = choice.get("finish_reason") or self.reasons.get(index)

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
        final = self.terminal and (self.api != "messages" or self.delta_seen)
        return "provider" if final else "partial"


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


#: recordings whose own deltas do not add up to their own whole, and why
UNLIKE = {
    "chat_completions-stream-together-240e642b18": "repeats each delta as a choice's `text`",
    "completions-stream-together-d6ad2ac023": "repeats each text as a choice's `delta`",
    "responses-stream-bedrock-mantle-6807bb2444": "counts content parts from 1, its whole response from 0",
    "responses-stream-openai-5720632e00": "was shortened by those who published it: its deltas are not all there",
}
#: streams that end without a finish reason or terminal event
CUT = {"chat_completions-stream-gpustack-1e0c48d270", "completions-stream-writer-bf0b3db08f"}


@cache
def load(name: str) -> Recording:
    return Recording.load(name)


STREAMS = [name for name in recording_ids() if "-stream-" in name and load(name).expect["is_sse"]]


@pytest.mark.recordings
@pytest.mark.parametrize("name", recording_ids())
def test_the_summary_is_the_reassemblys(name):
    """The cheap reading and the whole reading of a recorded body state the same facts, all but the count of chunks."""
    recording = load(name)
    reply, _ = both(recording.record_api, recording.wire)
    assert (reply.chunk_count is not None) == recording.expect["is_sse"]
    assert reply.terminal == (name not in CUT)


@pytest.mark.recordings
@pytest.mark.parametrize("name", STREAMS)
def test_cut_after_each_event(name):
    """A stream cut after any event has the usage told by then and no other, and is over only once that was said."""
    recording = load(name)
    api, body, told = recording.record_api, recording.wire, Told(recording.record_api)
    for event in plain_events(body):
        told.take(event)
        summary = summarize(api, body[: event.end])
        assert (summary.usage.raw or None) == (told.raw or None)
        assert (summary.usage.source, summary.terminal) == (told.source, told.terminal)
        if api == "messages" and not told.delta_seen:  # W8: the 1 of message_start is a placeholder
            assert (summary.usage.output_tokens, summary.usage.reasoning_tokens) == (None, None)
            assert summary.usage.source != "provider"


@pytest.mark.recordings
@pytest.mark.parametrize("name", STREAMS)
def test_text_only_grows(name):
    """After any event, each text of the response so far begins the same text of the whole response."""
    recording = load(name)
    body = sse.unix_lines(recording.wire)
    _, whole = reassemble(recording.record_api, body)
    final, reader, unlike = dict(texts(whole)), READERS[recording.record_api](), []
    for event in sse.events(body):
        if event.data is not None:
            reader.event(event.data, event.name)
            unlike += [path for path, text in texts(reader.response()) if not final.get(path, "").startswith(text)]
    assert bool(unlike) == (name in UNLIKE), unlike[:3]


@pytest.mark.recordings
@pytest.mark.parametrize("name", STREAMS)
def test_cut_anywhere(name):
    """A stream cut at any byte reads like the events that are complete; both readings agree, terminal or not."""
    recording = load(name)
    api, body = recording.record_api, recording.wire
    ends = [event.end for event in plain_events(body)]
    cuts = {*range(1, len(body), max(1, len(body) // 16)), *(end - 1 for end in ends[-3:]), *ends[:2], *ends[-2:]}
    for cut in cuts:
        lines = sse.unix_lines(body[:cut])
        complete = lines[: lines.rfind(b"\n\n") + 2] if b"\n\n" in lines else b""
        reply, response = both(api, body[:cut])
        as_complete, same = both(api, complete)
        assert replace(reply, first_output_at=None) == replace(
            as_complete, first_output_at=None, chunk_count=reply.chunk_count
        )
        assert response == same
        assert reply.first_output_at is None or 0 < reply.first_output_at <= cut


# -- whatever a gateway may send

ODD: list[Any] = [
    None, True, 0, -3, 2**70, 1.5, float("nan"), "", "odd", "\ud800", [], ["odd", None, 1, [], {}], {},
    {"type": ["odd"], "x": {}},
]  # fmt: skip


@cache
def zoo() -> dict[str, tuple[str, list[dict[str, Any]], int]]:
    """One small recorded stream for each kind of event, and where in it that event is."""
    found: dict[str, tuple[str, list[dict[str, Any]], int]] = {}
    for name in sorted(STREAMS, key=lambda name: len(load(name).wire)):
        api = load(name).record_api
        events = [event.data for event in plain_events(load(name).wire) if event.data is not None]
        for at, data in enumerate(events):
            inner = data.get("delta") or (data.get("choices") or [{}])[0].get("delta")
            keys = "+".join(sorted(inner)) if isinstance(inner, dict) else ""
            parts = [(data.get(key) or {}).get("type") for key in ("content_block", "item", "part")]
            kind = ".".join(filter(None, (api, data.get("type"), *parts, keys)))
            found.setdefault(kind, (api, events, at))
    return found


def paths(value: Any, path: tuple[Any, ...] = (), depth: int = 5) -> Iterator[tuple[Any, ...]]:
    yield path
    children = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, item in children:
        if depth:
            yield from paths(item, (*path, key), depth - 1)


def changed(value: Any, path: tuple[Any, ...], to: Any) -> Any:
    """A copy of ``value`` with ``to`` at ``path``; what the path does not lead to stays as it is."""
    if not path:
        return copy.deepcopy(to)
    if isinstance(value, dict) and path[0] in value:
        return {**value, path[0]: changed(value[path[0]], path[1:], to)}
    if isinstance(value, list) and isinstance(path[0], int) and path[0] < len(value):
        return [changed(item, path[1:], to) if at == path[0] else item for at, item in enumerate(value)]
    return value


def wire(*events: Any, end: str = "") -> bytes:
    return "".join(f"data: {json.dumps(event)}\n\n" for event in events).encode() + end.encode()


def check_sane(api: str, body: bytes) -> None:
    """Neither reading raises, and what they give has the types that spans and stores rely on."""
    reply, response = reassemble(api, body)
    for read in (reply, summarize(api, body)):
        assert all(reason is None or isinstance(reason, str) for reason in read.finish_reasons)
        facts = (read.response_id, read.response_model, read.service_tier, read.system_fingerprint)
        assert all(fact is None or isinstance(fact, str) for fact in facts)
        assert type(read.terminal) is bool
        error = read.error or ReplyError()
        assert all(part is None or isinstance(part, str) for part in (error.type, error.code, error.message))
        usage = read.usage
        numbers = [usage.input_tokens, usage.output_tokens, usage.cache_read_tokens, *usage.details.values()]
        assert all(number is None or type(number) is int for number in numbers)
    assert response is None or reply.plain or isinstance(response, dict)
    json.dumps(response)


@pytest.mark.recordings
@pytest.mark.parametrize("kind", zoo())
def test_any_value_of_an_event_may_be_odd(kind):
    """Whatever stands in place of any value of any kind of event, before and after sound ones, is passed over."""
    api, events, at = zoo()[kind]
    event, before, after = events[at], events[: min(at, 3)], events[at + 1 : at + 4]
    for path in paths(event):
        for value in ODD:
            odd = changed(event, path, value)
            check_sane(api, wire(*before, odd, event, odd, *after))


@pytest.mark.recordings
@pytest.mark.parametrize("api", READERS)
def test_any_value_of_a_body_may_be_odd(api):
    """The same for the bodies of calls that do not stream."""
    names = [name for name in recording_ids() if "-unary-" in name and load(name).record_api == api]
    for name in sorted(names, key=lambda name: len(load(name).wire))[:40:4]:
        body = json.loads(load(name).wire)
        for path in paths(body):
            for value in ODD:
                check_sane(api, json.dumps(changed(body, path, value)).encode())


edits = st.lists(
    st.tuples(
        st.sampled_from(["change", "drop", "double", "swap", "cut", "garble"]),
        st.integers(0, 40),
        st.integers(0, 200),
        st.sampled_from(ODD),
    ),
    max_size=12,
)


@pytest.mark.recordings
@pytest.mark.skipif(not recording_ids(), reason="no recordings to mix")
@settings(patient, max_examples=400)
@given(data=st.data(), edits=edits)
def test_any_mixture_is_read(data, edits):
    """Events changed, dropped, doubled, in another order, cut or garbled, and read as another API's: never an error."""
    api, events, at = zoo()[data.draw(st.sampled_from(sorted(zoo())))]
    blocks: list[Any] = list(events[max(0, at - 8) : at + 8])
    for what, first, second, value in edits:
        if not blocks:
            break
        here, there = first % len(blocks), second % len(blocks)
        if what == "change" and not isinstance(blocks[here], bytes):
            where = list(paths(blocks[here]))
            blocks[here] = changed(blocks[here], where[second % len(where)], value)
        elif what == "drop":
            del blocks[here]
        elif what == "double":
            blocks.insert(there, blocks[here])
        elif what == "swap":
            blocks[here], blocks[there] = blocks[there], blocks[here]
        else:
            text = blocks[here] if isinstance(blocks[here], bytes) else wire(blocks[here])
            half = second % (len(text) + 1)
            blocks[here] = text[:half] if what == "cut" else text[:half] + b"\xff\x00" + text[half + 1 :]
    body = b"".join(block if isinstance(block, bytes) else wire(block) for block in blocks)
    check_sane(data.draw(st.sampled_from([api, *READERS])), body)


@patient
@given(api=st.sampled_from(sorted(READERS)), body=st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_bytes_are_read(api, body):
    """Bytes that are neither JSON nor events give no response, and no usage, but for the APIs that answer so."""
    reply, response = both(api, body)
    assert replace(reply.usage, raw=None) == Usage()
    assert response is None or reply.plain or isinstance(json.loads(body), dict)
    assert not reply.plain or READERS[api].plain or body[:1] == b"\x00"


@pytest.mark.parametrize("api", READERS)
def test_nesting_without_end(api):
    """JSON nested deeper than Python can go is passed over, in a body, in an event, in a tool's input."""
    deep = "[" * 100_000 + "]" * 100_000
    both(api, f'{{"id":{deep}}}'.encode())
    body = f'data: {{"id":{deep}}}\n\n'.encode()
    assert both(api, body) == (Reply(terminal=issubclass(READERS[api], BodyReader), chunk_count=0), None)
    both(
        api,
        wire({"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": deep}}),
    )


# -- server-sent events


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


@settings(patient, max_examples=300)
@given(lines=lines, ends=st.lists(st.sampled_from(["\n", "\r\n", "\r"]), min_size=14, max_size=14), tail=st.booleans())
def test_events_are_the_sdks(lines, ends, tail):
    """Any framing gives the events that the SDK's own decoder gives: same names, same objects, none more."""
    text = "".join(line + end for line, end in zip(lines, ends, strict=False)) + ("data: {}" if tail else "")
    theirs = [(event.event, event.data) for event in SSEDecoder().iter_bytes(iter([text.encode()])) if event.data]
    ours = [event for event in sse.events(sse.unix_lines(text.encode())) if event.data is not None or event.done]
    assert [event.name or None for event in ours if event.done] == [
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


# -- chat completions


def chat(*choices: Any, end: str = "data: [DONE]\n\n", **last: Any) -> tuple[Reply, Any]:
    """A stream with a chunk for each of ``choices``, and one with the keys of ``last``."""
    chunks = [{"id": "c", "model": "m", "choices": [choice]} for choice in choices]
    if last:
        chunks.append({"id": "c", "model": "m", "choices": [], **last})
    return both("chat_completions", wire(*chunks, end=end))


def piece(index: Any = 0, finish: Any = None, **delta: Any) -> dict[str, Any]:
    return {"index": index, "delta": delta, "finish_reason": finish}


def call_piece(index: Any, arguments: str | None, **more: Any) -> dict[str, Any]:
    """A chunk's choice with one piece of a tool call."""
    name = more.pop("name", None)
    return piece(tool_calls=[{"index": index, **more, "function": {"name": name, "arguments": arguments}}])


def messages_of(response: Any) -> list[Any]:
    return [choice["message"] for choice in response["choices"]]


def test_parallel_tool_calls():
    """W7: interleaved pieces of parallel tool calls go to their own call by index; none is lost."""
    reply, response = chat(
        piece(role="assistant", content=None),
        call_piece(0, "", id="call_a", type="function", name="first"),
        call_piece(1, "", id="call_b", type="function", name="second"),
        call_piece(1, '{"b":'),
        call_piece(0, '{"a":'),
        call_piece(0, "1}"),
        call_piece(1, "2}"),
        piece(finish="tool_calls"),
    )
    assert messages_of(response) == [{"role": "assistant", "content": None, "tool_calls": [
        {"id": "call_a", "type": "function", "function": {"name": "first", "arguments": '{"a":1}'}},
        {"id": "call_b", "type": "function", "function": {"name": "second", "arguments": '{"b":2}'}},
    ]}]  # fmt: skip
    assert reply.finish_reasons == ("tool_calls",)


def test_tool_calls_in_one_chunk():
    """Two pieces of one index in one chunk are one call."""
    pieces = [{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{"}},
              {"index": 0, "function": {"arguments": "}"}}]  # fmt: skip
    _, response = chat(piece(tool_calls=pieces))
    assert messages_of(response)[0]["tool_calls"] == [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    ]


@pytest.mark.parametrize("index", [None, ...], ids=["null", "missing"])
def test_tool_calls_without_index(index):
    """Gemini-compatible endpoints and Mistral send whole calls with an index of null, or without: each is a call."""
    calls = [{"index": index, "id": name, "function": {"name": name, "arguments": "{}"}} for name in "ab"]
    calls = [{key: value for key, value in call.items() if value is not ...} for call in calls]
    _, response = chat(piece(tool_calls=calls[:1]), piece(tool_calls=calls[1:], finish="tool_calls"))
    assert [call["id"] for call in messages_of(response)[0]["tool_calls"]] == ["a", "b"]
    assert "index" not in messages_of(response)[0]["tool_calls"][0]


@pytest.mark.parametrize("index", [None, ...], ids=["null", "missing"])
def test_choices_without_index(index):
    """A choice whose index is null or missing is the first one."""
    choices = [{**piece(content=text), "index": index} for text in ("Hel", "lo")]
    choices = [{key: value for key, value in choice.items() if value is not ...} for choice in choices]
    _, response = chat(*choices, piece(finish="stop"))
    assert [(choice["index"], choice["message"]["content"]) for choice in response["choices"]] == [(0, "Hello")]


def test_interleaved_choices():
    """W15: the pieces of n=2 choices, interleaved, are two texts, not one; each has its own finish reason."""
    reply, response = chat(
        piece(1, content="B"), piece(0, content="A"), piece(1, content="1"), piece(0, content="0"),
        piece(1, finish="length"), piece(0, content="b", finish="stop"),
    )  # fmt: skip
    assert [message["content"] for message in messages_of(response)] == ["A0b", "B1"]
    assert reply.finish_reasons == ("stop", "length")


def test_a_choice_that_never_finished():
    """One of two choices still open is no end; both readings know of the second choice even if it came late."""
    reply, _ = chat(piece(0, content="A"), piece(1, content="B"), piece(0, finish="stop"), end="")
    assert (reply.finish_reasons, reply.terminal) == (("stop", None), False)
    reply, _ = chat(piece(0, content="A"), piece(1, content="B"), end="")
    assert (reply.finish_reasons, reply.terminal) == ((None, None), False)


def test_refusal():
    """A refusal is put together like text, beside a content of null."""
    _, response = chat(piece(role="assistant", content=None, refusal=""), piece(refusal="I "), piece(refusal="won't."))
    assert messages_of(response) == [{"role": "assistant", "content": None, "refusal": "I won't."}]


def test_logprobs():
    """The log-probabilities of the chunks are one list, for content and for refusals; null ends nothing."""

    def logprobs(**lists: Any) -> dict[str, Any]:
        return {**piece(content="x"), "logprobs": {"content": None, "refusal": None, **lists}}

    _, response = chat(
        logprobs(content=[{"token": "a"}]), {**piece(content="x"), "logprobs": None},
        logprobs(content=[{"token": "b"}, {"token": "c"}]), logprobs(refusal=[{"token": "r"}]),
    )  # fmt: skip
    assert response["choices"][0]["logprobs"] == {
        "content": [{"token": "a"}, {"token": "b"}, {"token": "c"}], "refusal": [{"token": "r"}],
    }  # fmt: skip


def test_function_call():
    """The function call of old is put together by the same rules."""
    _, response = chat(piece(function_call={"name": "f", "arguments": ""}), piece(function_call={"arguments": '{"a"'}),
                       piece(function_call={"arguments": ":1}"}), piece(finish="function_call"))  # fmt: skip
    assert messages_of(response)[0]["function_call"] == {"name": "f", "arguments": '{"a":1}'}


def test_custom_tool():
    """A custom tool's input grows as a function's arguments do, and the call has the type of its key."""
    _, response = chat(piece(tool_calls=[{"index": 0, "id": "c", "custom": {"name": "sh", "input": "l"}}]),
                       piece(tool_calls=[{"index": 0, "custom": {"input": "s"}}]))  # fmt: skip
    assert messages_of(response)[0]["tool_calls"] == [
        {"id": "c", "custom": {"name": "sh", "input": "ls"}, "type": "custom"}
    ]


def test_vendors_reasoning():
    """Reasoning grows as text, detail by detail where it has an index; what classifies or identifies stays whole."""

    def detail(index: int, **more: Any) -> dict[str, Any]:
        return {"index": index, "type": "reasoning.text", "format": "anthropic-v1", **more}

    _, response = chat(
        piece(reasoning_content="Think", reasoning_details=[detail(0, text="Think", id="r")]),
        piece(reasoning_content="ing", reasoning_details=[detail(0, text="ing", signature=None), detail(1, text="B")]),
        piece(reasoning_details=[detail(0, signature="sig", id="r")]),
    )
    (message,) = messages_of(response)
    assert message["reasoning_content"] == "Thinking"
    assert message["reasoning_details"] == [detail(0, text="Thinking", id="r", signature="sig"), detail(1, text="B")]


def test_content_parts():
    """Mistral turns from parts to plain strings within a stream: parts of one kind that follow each other are one."""

    def thinking(text: str) -> list[Any]:
        return [{"type": "thinking", "thinking": [{"type": "text", "text": text}]}]

    _, response = chat(
        piece(role="assistant", content=""), piece(content=thinking("Let ")), piece(content=thinking("me.")),
        piece(content="Four"), piece(content=" it is."), piece(content=[{"type": "reference", "reference_ids": [1]}]),
        piece(content="", finish="stop"),
    )  # fmt: skip
    assert messages_of(response)[0]["content"] == [
        *thinking("Let me."), {"type": "text", "text": "Four it is."}, {"type": "reference", "reference_ids": [1]},
    ]  # fmt: skip


def test_a_message_beside_the_delta():
    """Perplexity repeats the message so far beside each delta: it is not added to it."""
    chunks = [{**piece(content=text), "message": {"role": "assistant", "content": whole}}
              for text, whole in (("a", "a"), ("b", "ab"))]  # fmt: skip
    assert messages_of(chat(*chunks)[1])[0]["content"] == "ab"
    whole = {"index": 0, "message": {"role": "assistant", "content": "ab"}, "finish_reason": "stop"}
    assert messages_of(chat(whole)[1])[0]["content"] == "ab"


def test_changing_heads():
    """Azure's first chunk has no id and no model, later ones may rename the model: first id, last model."""
    reply, response = both("chat_completions", wire(
        {"id": "", "model": "", "object": "", "choices": [], "prompt_filter_results": [{"prompt_index": 0}]},
        {"id": "one", "created": 5, "model": "gpt", "choices": [piece(content="a")], "system_fingerprint": None},
        {"id": "two", "created": 6, "model": "gpt-2026", "choices": [piece(finish="stop")],
         "system_fingerprint": "fp", "service_tier": "default", "obfuscation": "xyz"},
    ))  # fmt: skip
    assert (reply.response_id, reply.response_model) == ("one", "gpt-2026")
    assert (reply.system_fingerprint, reply.service_tier) == ("fp", "default")
    assert response == {
        "id": "one", "object": "chat.completion", "created": 5, "model": "gpt-2026", "system_fingerprint": "fp",
        "service_tier": "default", "prompt_filter_results": [{"prompt_index": 0}],
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": "stop",
                     "logprobs": None}],
    }  # fmt: skip


USAGE = {"prompt_tokens": 1000, "completion_tokens": 100, "prompt_tokens_details": {"cached_tokens": 800},
         "completion_tokens_details": {"reasoning_tokens": 50}}  # fmt: skip


@pytest.mark.parametrize("place", ["own chunk", "with a choice", "x_groq"])
def test_where_usage_comes(place):
    """Usage is found in a chunk of its own, in one with choices, and where Groq puts it."""
    last = {"own chunk": {"usage": USAGE}, "with a choice": {"choices": [piece(finish="stop")], "usage": USAGE},
            "x_groq": {"x_groq": {"id": "req", "usage": USAGE}}}[place]  # fmt: skip
    reply, response = chat(piece(content="a"), piece(finish="stop"), **last)
    assert reply.usage == Usage.from_raw(USAGE)
    assert response["usage"] == USAGE


def test_usage_on_many_chunks():
    """W13: cumulative usage on each chunk is replaced, not added; null in a later chunk takes nothing away."""
    early = {**USAGE, "completion_tokens": 10, "prompt_tokens_details": {"cached_tokens": 700}}
    chunks = [{"choices": [piece(content="a")], "usage": early}, {"choices": [piece(finish="stop")], "usage": USAGE},
              {"choices": [], "usage": None}]  # fmt: skip
    reply, _ = both("chat_completions", wire(*chunks))
    assert (reply.usage.input_tokens, reply.usage.cache_read_tokens) == (1000, 800)
    assert (reply.usage.output_tokens, reply.usage.reasoning_tokens) == (100, 50)
    reply, _ = both("chat_completions", wire(chunks[0]))
    assert (reply.usage.output_tokens, reply.usage.source) == (10, "partial")


def test_no_usage_is_no_estimate():
    """W15: a stream without usage, or one cut before it, has none; a reported zero is zero."""
    assert chat(piece(content="a"), piece(finish="stop"))[0].usage == Usage()
    assert chat(piece(content="a"), end="")[0].usage == Usage()
    reply, _ = chat(piece(finish="stop"), usage={"prompt_tokens": 0, "completion_tokens": 0})
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (0, 0)


def test_error_in_a_chat_stream():
    """W3: an error mid-stream is an error, with the text that came before it, and with the usage beside it."""
    error = {
        "error": {"code": 502, "message": "upstream", "metadata": {}},
        "usage": USAGE,
        "choices": [piece(finish="error")],
    }
    reply, response = both("chat_completions", wire({"id": "c", "choices": [piece(content="so far")]}, error))
    assert reply.error == ReplyError(type=None, code="502", message="upstream", json=error)
    assert (reply.terminal, reply.usage.input_tokens, reply.finish_reasons) == (True, 1000, ("error",))
    assert messages_of(response)[0]["content"] == "so far"
    reply, response = both("chat_completions", wire({"id": "c", "choices": [piece(content="a")]}, {"error": "boom"}))
    assert (reply.error, reply.finish_reasons) == (ReplyError(message="boom", json={"error": "boom"}), (None,))
    assert messages_of(response)[0]["content"] == "a"


@pytest.mark.parametrize(("delta", "output"), [
    ({"role": "assistant"}, False), ({"role": "assistant", "content": "", "channel": "x"}, False), ({}, False),
    ({"content": None, "tool_calls": []}, False), ({"content": "a"}, True), ({"reasoning_content": "a"}, True),
    ({"tool_calls": [{}]}, True), ({"refusal": "no"}, True),
])  # fmt: skip
def test_first_output_of_chat(delta, output):
    """The first output is the first delta with more than a role and empty values."""
    body = wire({"choices": [piece(**delta)]})
    assert both("chat_completions", body)[0].first_output_at == (len(body) if output else None)


# -- legacy completions


def test_text_completion():
    """Texts of two choices, interleaved, and their parallel lists of log-probabilities; null ends nothing."""

    def chunk(index: int, text: Any, finish: str | None = None, **logprobs: Any) -> dict[str, Any]:
        choice = {"index": index, "text": text, "finish_reason": finish, "logprobs": logprobs or None}
        return {"id": "c", "object": "text_completion", "model": "m", "choices": [choice]}

    reply, response = both("completions", wire(
        chunk(1, "B", tokens=["B"], top_logprobs=[{"B": -1}]), chunk(0, "A", tokens=["A"], top_logprobs=None),
        chunk(1, "2", tokens=["2"], top_logprobs=None), chunk(0, None), chunk(0, "1", "stop"), chunk(1, "", "length"),
    ))  # fmt: skip
    assert response["choices"] == [
        {"index": 0, "text": "A1", "finish_reason": "stop", "logprobs": {"tokens": ["A"], "top_logprobs": None}},
        {"index": 1, "text": "B2", "finish_reason": "length",
         "logprobs": {"tokens": ["B", "2"], "top_logprobs": [{"B": -1}]}},
    ]  # fmt: skip
    assert (response["object"], reply.finish_reasons) == ("text_completion", ("stop", "length"))


# -- messages


def start(**usage: Any) -> dict[str, Any]:
    return {"type": "message_start", "message": {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "content": [], "stop_reason": None,
        "stop_sequence": None, "usage": usage}}  # fmt: skip


def opened(index: int, kind: str, **block: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": {"type": kind, **block}}


def grown(index: int, kind: str, **delta: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": {"type": kind, **delta}}


def closed(index: int) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def over(reason: str = "end_turn", **usage: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    delta = {"stop_reason": reason, "stop_sequence": None}
    return {"type": "message_delta", "delta": delta, "usage": usage}, {"type": "message_stop"}


def anthropic(*events: Any, end: str = "") -> tuple[Reply, Any]:
    """A stream with event names, as Anthropic sends it."""
    named = b"".join(b"event: " + event["type"].encode() + b"\n" + wire(event) for event in events)
    return both("messages", named + end.encode())


def content_of(*events: Any) -> list[Any]:
    return anthropic(start(input_tokens=1), *events, *over(output_tokens=1))[1]["content"]


def test_message():
    """A whole stream is the message: text, stop reason and what ``message_delta`` adds; pings are no chunks."""
    delta, stop = over(input_tokens=3, output_tokens=42)
    reply, response = anthropic(
        start(input_tokens=3, output_tokens=1, service_tier="standard"), {"type": "ping"}, opened(0, "text", text=""),
        grown(0, "text_delta", text="Hel"), {"type": "ping"}, grown(0, "text_delta", text="lo"), closed(0),
        {"type": "content_block_note", "index": 0, "delta": {"type": "text_delta", "text": "never heard of"}},
        {**delta, "context_management": {"applied_edits": []}}, stop,
    )  # fmt: skip
    assert reply == Reply(
        response_id="msg_1", response_model="claude", finish_reasons=("end_turn",), service_tier="standard",
        usage=Usage.from_raw({"input_tokens": 3, "output_tokens": 42, "service_tier": "standard"}),
        terminal=True, chunk_count=8, first_output_at=reply.first_output_at,
    )  # fmt: skip
    assert response == {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "stop_sequence": None,
        "content": [{"type": "text", "text": "Hello"}], "stop_reason": "end_turn",
        "usage": {"input_tokens": 3, "output_tokens": 42, "service_tier": "standard"},
        "context_management": {"applied_edits": []},
    }  # fmt: skip


def test_cut_before_the_delta():
    """W8: a stream cut before ``message_delta`` has no output tokens: the 1 of ``message_start`` is no count."""
    reply, response = anthropic(
        start(input_tokens=10, cache_read_input_tokens=900, output_tokens=1,
              output_tokens_details={"thinking_tokens": 0}),
        opened(0, "text", text=""), grown(0, "text_delta", text="Hel"),
    )  # fmt: skip
    usage = reply.usage
    assert (usage.input_tokens, usage.output_tokens, usage.reasoning_tokens) == (910, None, None)
    assert (usage.source, reply.terminal, reply.finish_reasons) == ("partial", False, (None,))
    assert response["content"] == [{"type": "text", "text": "Hel"}]


def test_the_delta_changes_the_input():
    """W9: server tools raise the input after the start: 25 and 1900 are reported, not 10 and 900, nor their sums."""
    reply, response = anthropic(
        start(input_tokens=10, cache_read_input_tokens=900, cache_creation_input_tokens=0, output_tokens=1),
        *over(input_tokens=25, cache_read_input_tokens=1900, cache_creation_input_tokens=None, output_tokens=42,
              server_tool_use={"web_search_requests": 1}),
    )  # fmt: skip
    assert (reply.usage.input_tokens, reply.usage.cache_read_tokens, reply.usage.cache_write_tokens) == (1925, 1900, 0)
    assert (reply.usage.output_tokens, reply.usage.details) == (42, {"web_search_requests": 1})
    assert response["usage"] == reply.usage.raw


@pytest.mark.parametrize(("later", "details"), [
    ({"cache_creation_input_tokens": 17_269}, {}),
    ({"cache_creation_input_tokens": 30}, {"cache_write_5m_tokens": 10, "cache_write_1h_tokens": 20}),
    ({}, {"cache_write_5m_tokens": 10, "cache_write_1h_tokens": 20}),
    ({"cache_creation_input_tokens": 40, "cache_creation": {"ephemeral_5m_input_tokens": 40}},
     {"cache_write_5m_tokens": 40}),
])  # fmt: skip
def test_stale_split_of_cache_writes(later, details):
    """The 5m/1h split of ``message_start`` is told only as long as its total stands or it was restated itself."""
    split = {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20}
    reply, _ = anthropic(start(input_tokens=1, cache_creation_input_tokens=30, cache_creation=split, output_tokens=1),
                         *over(output_tokens=5, **later))  # fmt: skip
    assert reply.usage.details == details
    assert reply.usage.cache_write_tokens == later.get("cache_creation_input_tokens", 30)


def test_two_deltas():
    """Of two ``message_delta`` the later one's numbers stand, key by key."""
    first, _ = over(input_tokens=8, output_tokens=10)
    reply, _ = anthropic(start(input_tokens=5, output_tokens=1), first, *over("max_tokens", output_tokens=30))
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (8, 30)
    assert reply.finish_reasons == ("max_tokens",)


def test_tool_inputs():
    """Tool inputs that come in pieces, interleaved, are objects; one that never came is what it opened with."""
    assert content_of(
        opened(0, "tool_use", id="a", name="f", input={}), opened(1, "tool_use", id="b", name="g", input={}),
        grown(1, "input_json_delta", partial_json=""), grown(0, "input_json_delta", partial_json='{"x"'),
        grown(1, "input_json_delta", partial_json='{"y":2}'), grown(0, "input_json_delta", partial_json=": 1}"),
        opened(2, "tool_use", id="c", name="h", input={}), closed(0), closed(1), closed(2),
    ) == [
        {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}},
        {"type": "tool_use", "id": "b", "name": "g", "input": {"y": 2}},
        {"type": "tool_use", "id": "c", "name": "h", "input": {}},
    ]  # fmt: skip


@pytest.mark.parametrize("given", ['{"query": "wea', '{"a": 1,}', "[1", "{", "nul"])
def test_tool_input_cut_short(given):
    """Fine-grained tool input that was cut or is invalid is kept as text, in the wrapper that Anthropic proposes."""
    (block,) = content_of(opened(0, "tool_use", id="a", name="f", input={}),
                          *(grown(0, "input_json_delta", partial_json=letter) for letter in given))  # fmt: skip
    assert block == {"type": "tool_use", "id": "a", "name": "f", "input": {"INVALID_JSON": given}}


def test_citations():
    """Citations gather in a list beside the text."""
    cites = [{"type": "char_location", "cited_text": text} for text in ("one", "two")]
    (block,) = content_of(
        opened(0, "text", text="", citations=None), grown(0, "citations_delta", citation=cites[0]),
        grown(0, "text_delta", text="So."), grown(0, "citations_delta", citation=cites[1]),
    )  # fmt: skip
    assert block == {"type": "text", "text": "So.", "citations": cites}


def test_thinking():
    """Thinking grows; its signature replaces; redacted thinking arrives whole."""
    assert content_of(
        opened(0, "thinking", thinking="", signature=""), grown(0, "thinking_delta", thinking="Hm"),
        grown(0, "thinking_delta", thinking="m."), grown(0, "signature_delta", signature="old"),
        grown(0, "signature_delta", signature="sig=="), closed(0), opened(1, "redacted_thinking", data="xyz"),
    ) == [
        {"type": "thinking", "thinking": "Hmm.", "signature": "sig=="}, {"type": "redacted_thinking", "data": "xyz"},
    ]  # fmt: skip


def test_server_tools():
    """A server tool's input comes in pieces, its result whole; both stay beside the text."""
    result = {"tool_use_id": "s", "content": [{"type": "web_search_result", "url": "u"}]}
    assert content_of(
        opened(0, "server_tool_use", id="s", name="web_search", input={}),
        grown(0, "input_json_delta", partial_json='{"query": "x"}'), opened(1, "web_search_tool_result", **result),
        opened(2, "text", text=""), grown(2, "text_delta", text="Found."),
    ) == [
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "x"}},
        {"type": "web_search_tool_result", **result},
        {"type": "text", "text": "Found."},
    ]  # fmt: skip


def test_compaction_and_deltas_to_come():
    """A compaction's content grows, and so does whatever delta is invented next; other values replace."""
    assert content_of(
        opened(0, "compaction", content=None), grown(0, "compaction_delta", content="Summ"),
        grown(0, "compaction_delta", content="ary"), opened(1, "dream", dream="", depth=0),
        grown(1, "dream_delta", dream="I ", depth=1), grown(1, "dream_delta", dream="fly", depth=2),
    ) == [{"type": "compaction", "content": "Summary"}, {"type": "dream", "dream": "I fly", "depth": 2}]  # fmt: skip


def test_error_in_a_message_stream():
    """W3, synthetic: ``event: error`` mid-stream is an error that keeps text and input, and ends the stream."""
    error = {"type": "error", "error": {"details": None, "type": "overloaded_error", "message": "Overloaded"},
             "request_id": "req_1"}  # fmt: skip
    reply, response = anthropic(start(input_tokens=7, output_tokens=1), opened(0, "text", text=""),
                                grown(0, "text_delta", text="So f"), error)  # fmt: skip
    assert reply.error == ReplyError(type="overloaded_error", code=None, message="Overloaded", json=error)
    assert (reply.usage.input_tokens, reply.usage.output_tokens, reply.usage.source) == (7, None, "partial")
    assert (reply.terminal, reply.finish_reasons) == (True, (None,))
    assert response["content"] == [{"type": "text", "text": "So f"}]


def test_gateways_sentinel():
    """``[DONE]`` at the end of an Anthropic stream (a gateway's) is no chunk and changes nothing."""
    events = (start(input_tokens=1, output_tokens=1), *over(output_tokens=2))
    bare = anthropic(*events)
    assert bare[0].chunk_count == 3
    assert anthropic(*events, end="event: data\ndata: [DONE]\n\n") == bare


@pytest.mark.parametrize("place", range(1, 6))
def test_gateways_order(place):
    """A gateway that sends ``message_delta`` before the blocks are closed, or begun, loses neither usage nor reason."""
    delta, stop = over("max_tokens", output_tokens=42)
    blocks = [opened(0, "text", text=""), grown(0, "text_delta", text="a"), grown(0, "text_delta", text="b"), closed(0)]
    events = [start(input_tokens=3, output_tokens=1), *blocks]
    reply, response = anthropic(*events[:place], delta, *events[place:], stop)
    assert (reply.usage.output_tokens, reply.usage.source, reply.finish_reasons) == (42, "provider", ("max_tokens",))
    assert response["content"] == [{"type": "text", "text": "ab"}]


def test_a_stop_without_a_reason():
    """``message_stop`` is an end, even of a message that never got its reason."""
    reply, response = anthropic(start(), {"type": "message_stop"})
    assert (reply.terminal, reply.finish_reasons, reply.usage) == (True, (None,), Usage())
    assert response["usage"] == {}


def test_a_message_without_usage():
    """A message about whose usage nothing was ever said has none, and none is made up."""
    begin = start()
    del begin["message"]["usage"]
    delta, stop = over()
    reply, response = anthropic(begin, {key: value for key, value in delta.items() if key != "usage"}, stop)
    assert reply.usage == Usage()
    assert "usage" not in response


def test_an_error_that_quotes_an_event():
    """An event's name in another event's text misleads nobody."""
    error = {"type": "error", "error": {"type": "api_error", "message": "no content_block_stop, no message_delta"}}
    delta, _ = over(output_tokens=42)
    reply, _ = anthropic(start(input_tokens=3, output_tokens=1), opened(0, "text", text="message_delta"), delta, error)
    assert (reply.usage.output_tokens, reply.finish_reasons) == (42, ("end_turn",))
    assert reply.error is not None


def test_the_type_may_be_the_events_name():
    """Data that has no ``type`` of its own has its event's name."""
    body = b"".join(
        b"event: " + kind.encode() + b"\n" + wire({key: value for key, value in event.items() if key != "type"})
        for event in (start(input_tokens=4, output_tokens=1), *over(output_tokens=9))
        for kind in [event["type"]]
    )
    reply, response = both("messages", body)
    assert (reply.usage.input_tokens, reply.usage.output_tokens, response["stop_reason"]) == (4, 9, "end_turn")


def test_gateways_that_start_differently():
    """Without usage in ``message_start``, or with content there already, the message keeps what was sent."""
    begin = start()
    del begin["message"]["usage"]
    del begin["message"]["content"]
    reply, response = anthropic(begin, *over(input_tokens=3, output_tokens=2))
    assert response["usage"] == reply.usage.raw == {"input_tokens": 3, "output_tokens": 2}
    assert (response["content"], reply.usage.source) == ([], "provider")
    begin["message"]["content"] = [{"type": "text", "text": "Hi"}]
    assert anthropic(begin, *over(output_tokens=2))[1]["content"] == [{"type": "text", "text": "Hi"}]
    reply, response = both(
        "messages", wire(start(input_tokens=3), grown(0, "text_delta", text="a"), *over(output_tokens=2))
    )
    assert response["content"] == [{"type": "text", "text": "a"}]  # neither event names nor a block's start
    assert (reply.usage.output_tokens, reply.terminal) == (2, True)


@pytest.mark.parametrize("usage", [None, {}, {"input_tokens": 3, "output_tokens": 4, "cache_read_input_tokens": None}])
def test_message_body(usage):
    """W10: a body is the response to the letter; usage of null, or null within it, is not reported, not an error."""
    body = {"id": "msg_1", "type": "message", "model": "m", "stop_reason": "end_turn", "usage": usage}
    reply, response = both("messages", json.dumps(body).encode())
    assert (reply.terminal, reply.finish_reasons, response) == (True, ("end_turn",), body)
    assert reply.usage == Usage.from_raw(usage)
    assert reply.usage.cache_read_tokens is None


@pytest.mark.parametrize(("body", "kind"), [
    ({"type": "error", "message": "m"}, "error"), ({"type": "error", "error": {"type": "t", "message": "m"}}, "t"),
    ({"error": {"type": "t", "message": "m"}}, "t"),
])  # fmt: skip
def test_error_as_message_body(body, kind):
    """A body is an error by its type or by its ``error``, and is no message then."""
    reply, response = both("messages", json.dumps(body).encode())
    assert reply.error is not None
    assert (reply.error.kind, reply.error.message, reply.terminal, response) == (kind, "m", True, None)


@pytest.mark.parametrize(("event", "output"), [
    (opened(0, "text", text=""), False), (opened(0, "thinking", thinking=""), False), (closed(0), False),
    (opened(0, "tool_use", id="a"), True), (opened(0, "redacted_thinking", data="x"), True),
    (grown(0, "text_delta", text=""), False), (grown(0, "text_delta", text="a"), True),
    (grown(0, "thinking_delta", thinking="a"), True), (over()[0], False), ({"type": "ping"}, False),
])  # fmt: skip
def test_first_output_of_messages(event, output):
    """The first output is the first delta with content, or a block that opens with content."""
    body = wire(start(), event)
    assert both("messages", body)[0].first_output_at == (len(body) if output else None)


# -- responses


def created(**response: Any) -> dict[str, Any]:
    whole = {"id": "resp_1", "object": "response", "model": "gpt", "status": "in_progress", "output": [],
             "usage": None, "error": None, **response}  # fmt: skip
    return {"type": "response.created", "response": whole}


def ended(status: str, **response: Any) -> dict[str, Any]:
    return {"type": f"response.{status}", "response": created(status=status, **response)["response"]}


def of_item(kind: str, index: int = 0, **more: Any) -> dict[str, Any]:
    return {"type": f"response.{kind}", "output_index": index, **more}


def item(index: int, kind: str, **more: Any) -> dict[str, Any]:
    return of_item("output_item.added", index, item={"id": f"i{index}", "type": kind, "status": "in_progress", **more})


R_USAGE = {"input_tokens": 20, "input_tokens_details": {"cached_tokens": 8, "cache_write_tokens": 0},
           "output_tokens": 9, "output_tokens_details": {"reasoning_tokens": 4}, "total_tokens": 29}  # fmt: skip


def test_response():
    """The terminal event's response is the response, whatever the deltas before it said."""
    whole = ended("completed", usage=R_USAGE, service_tier="default", output=[{"type": "message", "content": []}])
    reply, response = both("responses", wire(
        created(service_tier="auto"), item(0, "message", content=[]),
        of_item("output_text.delta", content_index=0, delta="ignored in the end"), whole,
    ))  # fmt: skip
    assert response == whole["response"]
    assert reply == Reply(
        response_id="resp_1", response_model="gpt", finish_reasons=("completed",), usage=Usage.from_raw(R_USAGE),
        service_tier="default", terminal=True, chunk_count=4, first_output_at=reply.first_output_at,
    )  # fmt: skip


def test_response_cut_mid_item():
    """A response cut mid-item is made of what came: arguments, summary, reasoning, text, refusal, annotations, code."""
    note = {"type": "url_citation", "url": "u"}
    reply, response = both("responses", wire(
        created(),
        item(0, "reasoning", summary=[]),
        of_item("reasoning_summary_part.added", summary_index=0, part={"type": "summary_text", "text": ""}),
        of_item("reasoning_summary_text.delta", summary_index=0, delta="**Pl"),
        of_item("reasoning_summary_text.delta", summary_index=0, delta="an**"),
        of_item("reasoning_summary_text.delta", summary_index=1, delta="then"),
        of_item("reasoning_text.delta", content_index=0, delta="raw"),
        of_item("reasoning_text.delta", content_index=1, delta="er"),
        item(1, "function_call", call_id="c", name="f", arguments=""),
        of_item("function_call_arguments.delta", 1, delta='{"a"'),
        of_item("function_call_arguments.delta", 1, delta=":"),
        item(2, "message", role="assistant", content=[]),
        of_item("content_part.added", 2, content_index=0, part={"type": "output_text", "text": "", "annotations": []}),
        of_item("output_text.delta", 2, content_index=0, delta="Hel"),
        of_item("output_text.annotation.added", 2, content_index=0, annotation=note),
        of_item("refusal.delta", 2, content_index=1, delta="I w"),
        of_item("refusal.delta", 2, content_index=1, delta="on't"),
        of_item("output_text.delta", 2, content_index=2, delta="Bye"),
        item(3, "custom_tool_call", input=""), of_item("custom_tool_call_input.delta", 3, delta="ls"),
        item(4, "mcp_call", arguments=""), of_item("mcp_call_arguments.delta", 4, delta="{}"),
        item(5, "code_interpreter_call", code=None), of_item("code_interpreter_call_code.delta", 5, delta="1+1"),
    ))  # fmt: skip
    assert (reply.terminal, reply.finish_reasons, reply.usage) == (False, (None,), Usage())
    assert response["status"] == "in_progress"
    reasoning, function, message, custom, mcp, code = response["output"]
    assert reasoning["summary"] == [
        {"type": "summary_text", "text": "**Plan**"},
        {"type": "summary_text", "text": "then"},
    ]
    assert [(part["type"], part["text"]) for part in reasoning["content"]] == [
        ("reasoning_text", "raw"), ("reasoning_text", "er"),
    ]  # fmt: skip
    assert (function["call_id"], function["arguments"]) == ("c", '{"a":')
    assert message["content"] == [
        {"type": "output_text", "text": "Hel", "annotations": [note]}, {"type": "refusal", "refusal": "I won't"},
        {"type": "output_text", "text": "Bye"},
    ]  # fmt: skip
    assert (custom["input"], mcp["arguments"], code["code"]) == ("ls", "{}", "1+1")


def test_parts_as_they_open_and_close():
    """A part has all that its events say: what it opened with, and what it was when it was done."""
    done = {"type": "output_text", "text": "Whole", "logprobs": [1]}
    _, response = both("responses", wire(
        created(), item(0, "reasoning"), item(1, "message"),
        of_item("reasoning_summary_part.added", summary_index=0, part={"type": "summary_text", "text": "", "x": 1}),
        of_item("reasoning_summary_text.delta", summary_index=0, delta="So"),
        of_item("content_part.added", 1, content_index=0, part={"type": "output_text", "text": "", "logprobs": []}),
        of_item("content_part.added", 1, content_index=1, part={"type": "refusal", "refusal": "n"}),
        of_item("refusal.delta", 1, content_index=1, delta="o"),
        of_item("content_part.done", 1, content_index=0, part=done),
    ))  # fmt: skip
    assert response["output"][0]["summary"] == [{"type": "summary_text", "text": "So", "x": 1}]
    assert response["output"][1]["content"] == [done, {"type": "refusal", "refusal": "no"}]


def test_parts_of_odd_places():
    """A part below zero or beyond all reason is the first part: no event can make a list of any length."""
    places = [of_item("output_text.delta", content_index=place, delta="a") for place in (-1, 10**9, None, "1", 0)]
    assert both("responses", wire(created(), *places))[1]["output"] == [
        {"content": [{"type": "output_text", "text": "aaaaa"}]}
    ]


def test_parts_of_odd_types():
    """A part that is no object gives way to the text that is said to continue it."""
    _, response = both("responses", wire(created(), item(0, "message", content=["odd", None]),
                                         of_item("output_text.delta", content_index=0, delta="So"),
                                         of_item("refusal.delta", content_index=1, delta="no")))  # fmt: skip
    assert response["output"][0]["content"] == [
        {"type": "output_text", "text": "So"}, {"type": "refusal", "refusal": "no"},
    ]  # fmt: skip


@pytest.mark.parametrize(("event", "output"), [
    (created(), False), (item(0, "message", content=[]), False), (of_item("output_text.delta", delta=""), False),
    (of_item("output_text.delta", content_index=0, delta="a"), True), (of_item("output_item.done", item={}), True),
    (of_item("function_call_arguments.delta", delta="{"), True), (ended("completed"), True), (ended("failed"), False),
    (of_item("image_generation_call.partial_image"), True), (ended("incomplete"), True), ({"type": 7}, False),
])  # fmt: skip
def test_first_output_of_responses(event, output):
    """The first output is the first delta with content, a partial image, or an item or response that came whole."""
    body = wire(created(), event)
    assert both("responses", body)[0].first_output_at == (len(body) if output else None)


def test_response_cut_between_items():
    """An item that is done stands as it was sent, in the order of the items, beside one that is not."""
    done = {"id": "i0", "type": "message", "status": "completed", "content": [{"type": "output_text", "text": "Whole"}]}
    _, response = both("responses", wire(
        created(), item(1, "function_call", arguments=""), item(0, "message", content=[]),
        of_item("output_text.delta", content_index=0, delta="Who"), of_item("output_item.done", item=done),
        of_item("function_call_arguments.delta", 1, delta="{"),
    ))  # fmt: skip
    assert response["output"] == [
        done, {"id": "i1", "type": "function_call", "status": "in_progress", "arguments": "{"},
    ]  # fmt: skip


def test_failed_response():
    """W10: ``response.failed`` with a usage of null is a failure without usage, with id, error and what came before."""
    failed = ended("failed", error={"code": "rate_limit_exceeded", "message": "slow down"})
    text = of_item("output_text.delta", content_index=0, delta="So")
    reply, response = both("responses", wire(created(), item(0, "message", content=[]), text, failed))
    assert (reply.terminal, reply.finish_reasons, reply.usage, reply.response_id) == (
        True,
        ("failed",),
        Usage(),
        "resp_1",
    )
    assert reply.error == ReplyError(code="rate_limit_exceeded", message="slow down", json=failed["response"]["error"])
    assert response["output"][0]["content"] == [{"type": "output_text", "text": "So"}]


@pytest.mark.parametrize("error", [
    {"type": "error", "code": "insufficient_quota", "message": "no", "param": None, "sequence_number": 2},
    {"type": "error", "error": {"type": "quota", "code": "insufficient_quota", "message": "no"}},
])  # fmt: skip
def test_error_before_failed(error):
    """An ``error`` event, in either form, is the error; ``response.failed`` behind it still brings id and status."""
    begun = (created(), item(0, "message", content=[]), of_item("output_text.delta", content_index=0, delta="So"))
    reply, _ = both("responses", wire(*begun, error))
    assert reply.error is not None
    assert (reply.error.code, reply.error.message, reply.terminal) == ("insufficient_quota", "no", True)
    assert reply.error.type == error.get("error", {}).get("type")
    reply, _ = both(
        "responses", wire(*begun, error, ended("failed", error={"code": "insufficient_quota", "message": "no"}))
    )
    assert reply.error is not None
    assert (reply.error.kind, reply.finish_reasons, reply.response_id) == ("insufficient_quota", ("failed",), "resp_1")


def test_errors_without_a_type():
    """A gateway's bare error is an error; an event of a known type that happens to have one is that event."""
    reply, _ = both("responses", wire(created(), {"error": {"type": "t", "message": "m"}}))
    assert reply.error is not None
    assert (reply.error.kind, reply.terminal) == ("t", True)
    reply, response = both("responses", wire(created(), item(0, "mcp_call", arguments="{}") | {"error": "no"}))
    assert (reply.error, reply.terminal, len(response["output"])) == (None, False, 1)


@pytest.mark.parametrize("status", ["completed", "incomplete", "failed", "cancelled"])
def test_responses_that_are_over(status):
    """Each of the four ends is an end; a response that comes behind it, doubled or late, does not undo it."""
    for last in ([], [created()], [ended("in_progress")], [ended(status, usage=R_USAGE)]):
        reply, response = both("responses", wire(created(), ended(status, usage=R_USAGE), *last))
        assert (reply.terminal, reply.finish_reasons, response["status"]) == (True, (status,), status)
        assert reply.usage.source == "provider"


def test_response_body():
    """A body that does not stream is the response to the letter, a background one that is only queued as well."""
    body = created(status="queued")["response"]
    reply, response = both("responses", json.dumps(body).encode())
    assert (reply.terminal, reply.finish_reasons, response) == (True, ("queued",), body)


# -- bodies and errors


def test_embeddings():
    """Embeddings have an input and no output: a vendor's completion tokens stay in ``raw``."""
    raw = {"prompt_tokens": 5, "completion_tokens": 0, "total_tokens": 5}
    body = {"object": "list", "data": [{"embedding": "AAAA"}], "model": "e", "usage": raw, "id": "vendor"}
    reply, response = both("embeddings", json.dumps(body).encode())
    assert (reply.usage.input_tokens, reply.usage.output_tokens, reply.usage.raw) == (5, None, raw)
    assert (reply.response_model, reply.response_id, reply.terminal, response) == ("e", None, True, body)


@pytest.mark.parametrize("api", READERS)
@pytest.mark.parametrize(("body", "message"), [
    (b'{"error": {"type": "t", "message": "m"}}', "m"),
    (b'[{"error": {"code": 400, "message": "m"}}]', "m"),
    (b'"plain"', "plain"),
    (b"\xef\xbb\xbf" + b'{"error": "m"}', "m"),
])  # fmt: skip
def test_error_bodies(api, body, message):
    """A JSON body that tells of an error is over, and tells it, for each API."""
    reply, _ = both(api, body)
    assert reply.error is not None
    assert (reply.error.message, reply.terminal, reply.usage) == (message, True, Usage())


@pytest.mark.parametrize("api", READERS)
@pytest.mark.parametrize("body", [b"", b'{"id": "c", "cho', b"{", b"[", b'"'])
def test_bodies_cut_short(api, body):
    """Nothing, or JSON that breaks off, is neither a response nor an end."""
    assert both(api, body) == (Reply(), None)


@pytest.mark.parametrize(("value", "kind", "message"), [
    ({"error": {"type": "invalid_request_error", "code": "c", "message": "m"}}, "invalid_request_error", "m"),
    ({"error": {"type": "overloaded_error"}}, "overloaded_error", None),  # W21: no message is an error all the same
    ({"error": {"code": 429, "message": None}}, "429", None),
    ({"error": {"type": "", "code": "", "message": ""}}, None, None),
    ({"error": "m", "code": 7}, "7", "m"),
    ({"error": "m", "type": ["odd"]}, None, "m"),
    ({"type": "t", "message": "m", "code": True}, "t", "m"),  # Mistral and Azure: at the top
    ({"detail": "m"}, None, "m"),
    ({"message": {"detail": []}}, None, None),
    ([{"error": {"message": "m"}}], None, "m"),
    ("m", None, "m"),
])  # fmt: skip
def test_read_error(value, kind, message):
    """Errors in all the forms that providers use; what cannot be told apart is left out, the whole is kept."""
    error = read_error(value)
    assert error is not None
    assert (error.kind, error.message) == (kind, message)
    assert error.json == (value[0] if isinstance(value, list) else value)


@pytest.mark.parametrize("value", [None, {}, [], "", 0, 7, True, [[]], [None]])
def test_no_error(value):
    """What says nothing is no error."""
    assert read_error(value) is None


@pytest.mark.parametrize("error", [None, {}, "", False])
@pytest.mark.parametrize(("api", "event"), [
    ("chat_completions", {"choices": [piece(content="a")]}), ("completions", {"choices": [{"text": "a"}]}),
    ("responses", created()), ("responses", ended("completed")), ("messages", start(input_tokens=1)),
])  # fmt: skip
def test_null_is_no_error(api, event, error):
    """W21: ``error: null``, or an empty one, in an event, its response or a body is no error."""
    event = {**event, "error": error}
    if "response" in event:
        event["response"] = {**event["response"], "error": error}
    assert both(api, wire(event))[0].error is None
    assert both(api, json.dumps(event).encode())[0].error is None


def test_a_binary_body_is_not_judged():
    """Bytes that are neither JSON nor events nor whole frames tell nothing; above all not that the stream was cut."""
    odd = b"\x00\x00\x00\x81\x00\x00\x00\x4b" + bytes(range(121))
    for reply in (summarize("messages", odd), reassemble("messages", odd)[0]):
        assert reply.plain
        assert reply.usage.source == "none"
        assert reply.response_id is None


SPELLINGS = [(",", ":"), (", ", ": "), (" , ", " : ")]


def spelled(event: Any, separators: tuple[str, str]) -> bytes:
    return f"data: {json.dumps(event, separators=separators)}\n\n".encode()


@pytest.mark.parametrize("separators", SPELLINGS)
def test_facts_in_any_spelling(separators):
    """However JSON is spaced, the facts are found: the last usage that says anything, every finish, every choice."""
    used = [{"id": "c", "choices": [piece(content="a")], "usage": {"prompt_tokens": 5, "completion_tokens": n}}
            for n in range(1, 4)]  # fmt: skip
    ends = [{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}, {"choices": [], "usage": {}}]
    reply, _ = both("chat_completions", b"".join(spelled(event, separators) for event in used + ends))
    assert (reply.usage.input_tokens, reply.usage.output_tokens, reply.finish_reasons) == (5, 3, ("stop",))
    others = [{"choices": [{"index": index, "delta": {"content": "b"}}]} for index in (1, 2)]
    reply, _ = both("chat_completions", b"".join(spelled(event, separators) for event in [*used, *others, ends[0]]))
    assert reply.finish_reasons == ("stop", None, None)


@pytest.mark.parametrize(("early", "late"), [(SPELLINGS[0], SPELLINGS[1]), (SPELLINGS[1], SPELLINGS[0])])
def test_a_gateway_that_spells_differently(early, late):
    """Of two usages, one of them written by a gateway in another style, the later one counts."""
    first = {"choices": [piece(content="a")], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}
    second = {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 7}}
    reply, _ = both("chat_completions", spelled(first, early) + spelled(second, late))
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (5, 7)
