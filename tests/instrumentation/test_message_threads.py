"""Anthropic's message threads: the server holds the conversation, and each turn is a call like any other."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from replay import Pieces, client_for
from streams import MESSAGES
from watching import Watch

THREAD = {key: MESSAGES.arguments[key] for key in ("model", "max_tokens")}


def server() -> httpx2.MockTransport:
    headers = {"content-type": "text/event-stream"}

    def answer(request: httpx2.Request) -> httpx2.Response:
        if b'"stream":true' in request.content.replace(b" ", b""):
            return httpx2.Response(200, headers=headers, stream=Pieces(list(MESSAGES.stream)))
        return httpx2.Response(200, json=MESSAGES.body)

    return httpx2.MockTransport(answer)


def turns(thread: Any, how: str) -> None:
    for text in ("one", "two"):
        turn = {"role": "user", "content": text}
        if how == "send":
            thread.send(turn)
        else:
            with thread.stream(turn) as stream:
                stream.get_final_message()


@pytest.mark.parametrize("how", ["send", "stream"])
def test_each_turn_has_a_span_and_a_record(how: str, watch: Watch) -> None:
    """Starting a thread is no call; each turn is one, with the usage of that turn."""
    turns(client_for("anthropic", server(), open_telemetry=False).beta.messages.thread(**THREAD), how)
    assert [span.name for span in watch.spans] == ["chat claude-sonnet-5"] * 2
    usage = [(record.usage.input_tokens, record.usage.output_tokens) for record in watch.records]
    assert usage == [(MESSAGES.input_tokens, MESSAGES.output_tokens)] * 2
    assert [record.span_id for record in watch.records] == [f"{span.context.span_id:016x}" for span in watch.spans]
