"""Events that only append their text are read as one: what they say is the same as read one by one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llmspan.wire import reassemble
from llmspan.wire.apis.anthropic_messages import MessagesParser
from llmspan.wire.apis.openai_chat import ChatParser

#: texts as JSON writes them: halves of characters and escapes, what is no JSON, and what looks like the end of an event
TEXTS = {
    "plain": ["The", " quick", "", " brown", " fox"],
    "escapes": ["a", "\\n", '\\"}}\\n\\n', "\\\\", "b"],
    "surrogates": ["a", "b", "\\ud83d", "\\ude00", "c", "d"],
    "escapes of one character": ["a", "\\u00e9", "b", "c"],
    "wide": ["é", "ü", "\U0001f600", "x"],
    "no JSON": ["a", "b", "\\q", "c", "\t", "d", "\\u12", "34", "e"],
    "one": ["a"],
}
SIZES = [1, 40, 700]


def anthropic(texts: list[str], kind: str = "text") -> bytes:
    delta = {"text": "text_delta", "partial_json": "input_json_delta", "signature": "signature_delta"}[kind]
    events = ['{"type":"message_start","message":{"id":"m","usage":{"input_tokens":3}}}']
    events += ['{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}']
    template = '{"type":"content_block_delta","index":0,"delta":{"type":"%s","%s":"%s"}}'
    events += [template % (delta, kind, text) for text in texts]
    return stream([*events, '{"type":"message_stop"}'])


def chat(texts: list[str], padding: str = "", key: str = "content") -> bytes:
    template = '{"id":"c","choices":[{"index":0,"delta":{"%s":"%s"},"logprobs":null}]%s}'
    return stream([template % (key, text, padding) for text in texts] + ["[DONE]"])


def stream(events: list[str]) -> bytes:
    return "".join(f"data: {event}\n\n" for event in events).encode()


def one_by_one(monkeypatch: pytest.MonkeyPatch, api: str, body: bytes) -> Any:
    with monkeypatch.context() as patch:
        for parser in (MessagesParser, ChatParser):
            patch.setattr(parser, "appends_text", lambda *_: False)
        return reassemble(api, body)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("texts", TEXTS.values(), ids=TEXTS.keys())
def test_a_run_says_what_its_events_say(monkeypatch, texts, size):
    """Whatever the texts are, and however many: of text, of a tool's input, beside padding, and of what is replaced."""
    many = texts * size
    bodies = [("messages", anthropic(many, kind)) for kind in ("text", "partial_json", "signature")]
    bodies += [("chat_completions", chat(many, padding)) for padding in ("", ',"obfuscation":"xyz"', ',"data":"x"')]
    bodies += [("chat_completions", chat(many, key="reasoning")), ("chat_completions", chat(many, key="arguments"))]
    for api, body in bodies:
        assert reassemble(api, body) == one_by_one(monkeypatch, api, body)


def test_a_character_in_two_events(monkeypatch):
    """Bytes that are no text where an event ends are not put together to a character."""
    body = chat(["a", "b", "é", "c", "é"]).replace("é".encode(), b"\xc3", 1).replace("é".encode(), b"\xa9", 1)
    assert reassemble("chat_completions", body) == one_by_one(monkeypatch, "chat_completions", body)


def test_runs_are_joined(monkeypatch):
    """A parser is given few events for a stream of many."""
    seen: list[Any] = []
    event = ChatParser.event
    monkeypatch.setattr(ChatParser, "event", lambda self, *args: (seen.append(args), event(self, *args)))
    reply, response = reassemble("chat_completions", chat(["word "] * 500))
    assert (reply.chunk_count, len(json.dumps(response)) > 2500) == (500, True)
    assert len(seen) < 30
