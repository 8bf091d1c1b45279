"""AWS event streams: frames in, events out; cut anywhere, broken, or of other kinds."""

from __future__ import annotations

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frames import chunk, exception, frame
from llmspan.wire import reassemble, summarize
from llmspan.wire.aws_eventstream import as_events, read_frames
from llmspan.wire.error_types import error_type
from records import patient
from streams import MESSAGES

EVENTS = [json.loads(event.decode().partition("data: ")[2]) for event in MESSAGES.stream]
FRAMES = [chunk(event) for event in EVENTS if event["type"] != "ping"]
BODY = b"".join(FRAMES)


def test_a_stream_reads_as_the_same_events() -> None:
    """A message in frames is the message that it is in server-sent events, and says where its first output was."""
    reply, response = reassemble("messages", BODY)
    plain, same = reassemble("messages", b"".join(event for event in MESSAGES.stream if b"ping" not in event))
    assert response == same
    assert (reply.usage, reply.chunk_count, reply.terminal) == (plain.usage, plain.chunk_count, True)
    assert reply.first_output_at == sum(map(len, FRAMES[: MESSAGES.first_output]))
    assert summarize("messages", BODY).first_output_at == reply.first_output_at


@pytest.mark.parametrize("end", range(0, len(BODY), 211))
def test_a_stream_that_was_cut(end: int) -> None:
    """Half a frame is none: what came before it counts, and nothing is invented."""
    whole = list(read_frames(BODY[:end]))
    assert len(whole) == sum(1 for number in range(1, len(FRAMES) + 1) if len(b"".join(FRAMES[:number])) <= end)
    reply, _ = reassemble("messages", BODY[:end])
    assert reply.terminal is False or end >= len(BODY) - len(FRAMES[-1]) - len(FRAMES[-2])


@pytest.mark.parametrize("kind", ["throttlingException", "modelStreamErrorException"])
def test_an_exception_is_an_error_event(kind: str) -> None:
    """An exception frame is the error that the SDK raises, by its own name and words."""
    reply, _ = reassemble("messages", BODY[: len(FRAMES[0])] + exception(kind, "slow down"))
    assert reply.error is not None
    assert (error_type(reply.error), reply.error.message) == (kind, "slow down")


def test_an_error_without_payload() -> None:
    """An error frame says in its headers what it is."""
    reply, _ = reassemble("messages", frame(b"", message_type="error", error_code="Broken", error_message="sorry"))
    assert reply.error is not None
    assert (error_type(reply.error), reply.error.message) == ("Broken", "sorry")


def test_all_kinds_of_headers_are_passed_over() -> None:
    """Numbers, flags, bytes and times among the headers do not hide the strings behind them."""
    head = b"".join(
        bytes([1]) + b"x" + bytes([kind]) + value
        for kind, value in [
            (0, b""), (1, b""), (2, b"1"), (3, b"12"), (4, b"1234"), (5, b"12345678"), (6, b"\x00\x03abc"),
            (8, b"12345678"), (9, b"1" * 16), (7, b"\x00\x02ok"),
        ]
    )  # fmt: skip
    body = struct.pack(">III", 16 + len(head), len(head), 0) + head + b"\x00" * 4
    (found,) = read_frames(body)
    assert found.headers == {"x": "ok"}
    assert found.end == len(body)


@patient
@given(body=st.binary(max_size=200), at=st.integers(0, len(BODY)))
def test_any_bytes(body: bytes, at: int) -> None:
    """Whatever is there instead of frames, reading ends and says nothing that was not there."""
    for odd in (body, b"\x00" + body, BODY[:at] + body):
        assert as_events(odd).text.count(b"\n\n") <= len(FRAMES) + 1
