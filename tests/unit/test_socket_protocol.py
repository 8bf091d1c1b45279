"""The protocol of the socket, without one: frames, greetings, windows, and what is wrong on the wire."""

from __future__ import annotations

import json
import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmspan._guard import exception_of
from llmspan.backends.socket.protocol import (
    LEAST_MAX_FRAME,
    MAX_FRAME,
    VERSION,
    WINDOW_BYTES,
    WINDOW_RECORDS,
    FrameDecoder,
    ProtocolError,
    Received,
    Receiver,
    Sender,
    encode_frame,
)
from records import patient

BODIES = st.lists(st.binary(min_size=1, max_size=300), max_size=8)


def frame(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


def pieces(stream: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    return [stream[a:b] for a, b in pairwise(edges)]


def values_of(data: bytes) -> list[dict[str, object]]:
    return [json.loads(body) for body in FrameDecoder(MAX_FRAME).feed(data)]


def greeted(*, sender_max: int = MAX_FRAME, receiver_max: int = MAX_FRAME) -> tuple[Sender, Receiver]:
    sender, receiver = Sender("a/1", sender_max), Receiver("b/2", receiver_max)
    (answer,) = receiver.feed(sender.greeting())
    assert isinstance(answer, bytes)
    sender.feed(answer)
    return sender, receiver


def sent(sender: Sender, *bodies: bytes) -> bytes:
    """The bytes of these records, all of which must have room; without any, of one."""
    given = bodies or (b'"id":"x"}',)
    pieces = sender.frames(given, 0, len(given))
    assert len(pieces) == 2 * len(given)
    return b"".join(pieces)


def room_for(sender: Sender, body: bytes) -> bool:
    """Whether the window lets this record go; it does go then."""
    return bool(sender.frames([body], 0, 1))


# -- frames ---------------------------------------------------------------------------------------------------------


@patient
@given(bodies=BODIES, cuts=st.lists(st.integers(0, 3000), max_size=30))
def test_any_cut_of_the_stream_decodes_the_same(bodies: list[bytes], cuts: list[int]) -> None:
    """However the bytes are cut into reads, the same frames come out."""
    decoder = FrameDecoder(1000)
    found = [body for piece in pieces(b"".join(map(frame, bodies)), cuts) for body in decoder.feed(piece)]
    assert found == bodies
    assert not decoder.pending


@patient
@given(bodies=BODIES, length=st.integers(301, 2**32 - 1) | st.just(0), cuts=st.lists(st.integers(0, 3000), max_size=9))
def test_a_bad_length_is_told_after_all_that_came_before(bodies: list[bytes], length: int, cuts: list[int]) -> None:
    """Frames before a bad one are given out; the error names the frame and the byte, and nothing is read of it."""
    good = b"".join(map(frame, bodies))
    decoder = FrameDecoder(300)
    found: list[bytes] = []
    error = None
    for piece in pieces(good + struct.pack(">I", length) + b"rest", cuts):
        error = error or exception_of(lambda: found.extend(decoder.feed(piece)))  # noqa: B023 - called at once
    assert found == bodies
    assert isinstance(error, ProtocolError)
    assert error.code == ("too_large" if length else "malformed")
    assert f"frame {len(bodies) + 1}, at byte {len(good)}: " in str(error)


@patient
@given(garbage=st.binary(max_size=200), greet=st.booleans(), cuts=st.lists(st.integers(0, 300), max_size=5))
def test_garbage_is_a_clear_error_or_not_finished(garbage: bytes, greet: bool, cuts: list[int]) -> None:
    """Bytes that are no protocol end in an error that can be told, or wait for more; nothing else is ever raised."""
    sender, receiver = greeted() if greet else (Sender("a"), Receiver("b"))
    for end in (receiver, sender):
        for piece in pieces(garbage, cuts):
            error = exception_of(lambda: list(end.feed(piece) or ()))  # noqa: B023 - called at once
            if error is not None:
                assert isinstance(error, ProtocolError)
                assert error.code in ("malformed", "too_large", "unsupported_version") or error.is_reported
                assert values_of(error.frame())[0]["message"]
                break


@pytest.mark.parametrize("text", [b'{"protocol_version":3}\n', b"GET / HTTP/1.1\r\n"])
def test_text_is_recognised(text: bytes) -> None:
    """Who sends lines to a receiver of frames is told what that looks like."""
    with pytest.raises(ProtocolError, match="looks like text, such as the lines of v3"):
        list(Receiver("b").feed(text))


# -- greeting -------------------------------------------------------------------------------------------------------


def test_both_greet_and_the_smaller_limit_holds() -> None:
    """Both ends name version, software and limit; the sender ends up with the smaller limit, and the window."""
    sender, receiver = Sender("a/1", 200_000), Receiver("b/2", 100_000)
    (hello,) = values_of(sender.greeting())
    assert hello == {"type": "hello", "version": 4, "max_frame": 200_000, "software": "a/1"}
    (answer,) = receiver.feed(sender.greeting())
    assert isinstance(answer, bytes)
    assert values_of(answer)[0].items() >= {"type": "hello", "version": 4, "max_frame": 100_000}.items()
    assert not sender.ready
    sender.feed(answer)
    assert (sender.ready, sender.max_frame, sender.peer, receiver.peer) == (True, 100_000, "b/2", "a/1")


@pytest.mark.parametrize(("sender_max", "receiver_max"), [(200_000, 100_000), (100_000, 200_000), (1, 1)])
def test_largest_body_fits_and_one_byte_more_does_not(sender_max: int, receiver_max: int) -> None:
    """``largest_body`` is what the receiver takes, to the byte, also with the longest seq that there can be."""
    sender, receiver = greeted(sender_max=sender_max, receiver_max=receiver_max)
    assert sender.max_frame == max(LEAST_MAX_FRAME, min(sender_max, receiver_max))
    sender.sent = receiver.seq = 10**17
    body = b'"id":"' + b"x" * (sender.largest_body - 8) + b'"}'
    assert [record.seq for record in receiver.feed(sent(sender, body))] == [10**17 + 1]  # type: ignore[union-attr]
    with pytest.raises(ProtocolError, match="the limit is"):
        list(receiver.feed(sent(sender, body + b" ")))


def test_unknown_version_is_refused_with_the_known_ones() -> None:
    """A greeting of another version is answered with the versions that are spoken; the sender learns them."""
    receiver = Receiver("b")
    with pytest.raises(ProtocolError, match="version 5 is not supported, only version 4") as caught:
        list(receiver.feed(encode_frame({"type": "hello", "version": 5, "max_frame": 99_999})))
    (answer,) = values_of(caught.value.frame())
    assert (answer["type"], answer["code"], answer["versions"]) == ("error", "unsupported_version", [VERSION])
    with pytest.raises(ProtocolError, match="only version 4") as told:
        Sender("a").feed(caught.value.frame())
    assert told.value.is_reported


@pytest.mark.parametrize("first", [{"type": "record", "seq": 1}, {"type": "hello", "version": 4}, {"seq": 1}])
def test_what_is_no_greeting_is_refused(first: dict[str, object]) -> None:
    """A record before the greeting, or a greeting without its limit, ends the conversation."""
    with pytest.raises(ProtocolError, match=r"first frame|HELLO") as caught:
        list(Receiver("b").feed(encode_frame(first)))
    assert caught.value.code == "malformed"


# -- records, acks, window -----------------------------------------------------------------------------------------


def test_records_are_numbered_and_acknowledged_up_to() -> None:
    """seq begins at 1; one ack covers all before it."""
    sender, receiver = greeted()
    stream = b"".join(sent(sender) for _ in range(3))
    found = list(receiver.feed(stream))
    assert [(record.seq, record.frame[-9:]) for record in found if isinstance(record, Received)] == [
        (1, b'"id":"x"}'),
        (2, b'"id":"x"}'),
        (3, b'"id":"x"}'),
    ]
    sender.feed(receiver.ack(2))
    assert sender.acked == 2
    sender.feed(receiver.reject(3, "never") + receiver.ack(3))
    assert (sender.acked, sender.rejected) == (3, {3: "never"})


def test_records_of_other_senders_may_be_written_otherwise() -> None:
    """Spaces and another order of members are JSON too."""
    _, receiver = greeted()
    (record,) = receiver.feed(frame(b' { "id" : "x", "seq" : 1, "type" : "record" }'))
    assert isinstance(record, Received)
    assert record.seq == 1


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (b'{"type":"record","seq":3,"id":"x"}', "seq is 3, expected 2"),
        (b'{"type":"record","seq":1,"id":"x"}', "seq is 1, expected 2"),
        (b'{"type":"record","seq":"2"}', "seq is '2', not a whole number"),
        (b'{"type":"records","seq":2}', "the type is 'records', not record"),
        (b"[1]", "not a JSON object"),
        (b"nonsense", "not JSON"),
        (b"\xff\xfe", "not JSON"),
    ],
)
def test_a_bad_record_is_named(bad: bytes, told: str) -> None:
    """What is no record in its place is refused with the frame and the seq that it should have had."""
    sender, receiver = greeted()
    list(receiver.feed(sent(sender)))
    with pytest.raises(ProtocolError, match=f"frame 3: {told}") as caught:
        list(receiver.feed(frame(bad)))
    assert (caught.value.code, caught.value.seq) == ("malformed", 2)


def test_window_by_records() -> None:
    """No more than the window's records are under way; an ack makes room for as many."""
    sender, receiver = greeted()
    assert len(sender.frames([b"x"] * (WINDOW_RECORDS + 5), 0, 10_000)) == 2 * WINDOW_RECORDS
    assert not room_for(sender, b"x")
    sender.feed(receiver.ack(2))
    assert room_for(sender, b"x")
    assert room_for(sender, b"x")
    assert not room_for(sender, b"x")


def test_window_by_bytes_lets_one_record_always_go() -> None:
    """No more than the window's bytes are under way, except one record that is larger than that."""
    sender, receiver = greeted()
    large = b"x" * (WINDOW_BYTES + 1)
    assert room_for(sender, large)
    assert not room_for(sender, b"x")
    sender.feed(receiver.ack(1))
    assert room_for(sender, b"x")
    assert not room_for(sender, large)
    assert sender.sent == 2


def test_frames_come_from_where_they_are_asked() -> None:
    """A batch is sent part by part: so many from a place on, numbered through."""
    sender, receiver = greeted()
    bodies = [b'"id":"%d"}' % at for at in range(5)]
    first = b"".join(sender.frames(bodies, 0, 2))
    rest = b"".join(sender.frames(bodies, 2, 9))
    found = [record for record in receiver.feed(first + rest) if isinstance(record, Received)]
    assert [(record.seq, json.loads(record.frame)["id"]) for record in found] == [(at + 1, f"{at}") for at in range(5)]


@pytest.mark.parametrize("seq", [0, 3])
def test_impossible_acks_are_refused(seq: int) -> None:
    """An ack of what was not sent, or a smaller one than before, is an error."""
    sender, receiver = greeted()
    sent(sender, b"x", b"x")
    sender.feed(receiver.ack(1))
    with pytest.raises(ProtocolError, match=f"ack of {seq}"):
        sender.feed(receiver.ack(seq))


def test_unknown_frames_and_members_are_ignored() -> None:
    """A newer receiver may say more than is known here."""
    sender, _ = greeted()
    sent(sender, b"x")
    sender.feed(encode_frame({"type": "news"}) + encode_frame({"type": "ack", "seq": 1, "more": [1]}))
    assert sender.acked == 1


def test_an_error_says_when_to_come_again() -> None:
    """``retry_after`` and ``seq`` of an error reach the sender."""
    sender, _ = greeted()
    with pytest.raises(ProtocolError, match="full") as caught:
        sender.feed(ProtocolError("unavailable", "full", retry_after=1.5, seq=7).frame())
    error = caught.value
    assert (error.code, error.retry_after, error.seq, error.is_reported) == ("unavailable", 1.5, 7, True)
