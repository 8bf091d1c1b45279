"""What of a payload is kept: all of it, none of it, or as much as fits, and always valid JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmspan import _json
from llmspan.content import Policy, truncated
from records import patient

MARK = {"llmspan.truncated": True}
texts = st.text(max_size=5) | st.integers(0, 3000).map(lambda size: "ü" * size)
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner, max_size=4),
    max_leaves=12,
)


def dumped(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def is_cut(short: Any, whole: Any) -> bool:
    """Whether ``short`` is ``whole`` with some of its strings shortened, and nothing else changed."""
    if isinstance(short, str) and isinstance(whole, str):
        kept, _, note = short.partition("... [")
        return short == whole or (whole.startswith(kept) and note == f"{len(whole)} characters, cut by llmspan]")
    if isinstance(short, dict) and isinstance(whole, dict):
        return short.keys() == whole.keys() and all(is_cut(short[key], whole[key]) for key in whole)
    if isinstance(short, list) and isinstance(whole, list):
        return len(short) == len(whole) and all(map(is_cut, short, whole))
    return bool(short == whole)


def test_defaults():
    """Unless told otherwise, payloads are kept, up to 16 MiB each."""
    assert Policy() == Policy(keep=True, max_bytes=16 * 1024 * 1024)


def test_metadata_only():
    """With capture off nothing is kept, whatever there was."""
    assert Policy(keep=False).apply(b'{"a":1}', '{"b":2}') == (None, None, "metadata")


@pytest.mark.parametrize(
    "text", ['{ "a" :1,\n"a": 1e400 }', "[123456789012345678901234567890.10]", '"\\u0000"', "null"]
)
def test_full_payload_is_as_sent(text):
    """What fits is kept to the byte: spacing, doubled keys, long numbers, escapes."""
    assert Policy().apply(text.encode(), text) == (text, text, "full")


@pytest.mark.parametrize(("request_body", "kept"), [
    (None, None), (b"", None), (b"\xff", '{"base64":"/w=="}'), (b"a=1", '"a=1"'), (b'{"a":NaN}', '{"a":null}'),
])  # fmt: skip
def test_odd_requests(request_body, kept):
    """A request that is missing, no text, no JSON or not strict is stored as strict JSON, or not at all."""
    assert Policy().apply(request_body, None) == (kept, None, "full")


@pytest.mark.parametrize("character", ["x", "ü", "\U0001f600"])
@pytest.mark.parametrize("room", [-1, 0, 1])
def test_the_cap_is_in_bytes(character, room):
    """A payload may have exactly ``max_bytes`` bytes of UTF-8 and not one more."""
    text = dumped({"text": character * 500})
    request, response, content = Policy(max_bytes=len(text.encode()) + room).apply(text.encode(), text)
    assert request == response
    assert (response == text, content) == ((True, "full") if room >= 0 else (False, "truncated"))


@pytest.mark.parametrize(("long_request", "long_response"), [(True, False), (False, True), (True, True)])
def test_each_payload_has_its_own_cap(long_request, long_response):
    """Only the payload that is too long is cut; either of them makes the record ``truncated``."""
    long, short = dumped({"a": "x" * 2000}), dumped({"a": "x"})
    given = (long if long_request else short, long if long_response else short)
    request, response, content = Policy(max_bytes=1000).apply(given[0].encode(), given[1])
    assert (request == given[0], response == given[1], content) == (not long_request, not long_response, "truncated")


@patient
@given(value=documents, limit=st.integers(60, 4000))
def test_cut_payload(value, limit):
    """A cut payload is valid JSON within its limit: the same document with its longest strings shortened, or a mark."""
    text = dumped(value)
    _, kept, content = Policy(max_bytes=limit).apply(None, text)
    assert kept is not None
    assert len(kept.encode()) <= limit
    size = len(text.encode())
    assert content == ("full" if size <= limit else "truncated")
    assert (
        kept == text
        if content == "full"
        else json.loads(kept) == MARK | {"bytes": size} or is_cut(json.loads(kept), value)
    )


def test_the_longest_strings_go_first():
    """Strings are cut as little as is needed: where cutting the long one suffices, the short ones stay."""
    value = {
        "model": "gpt-5",
        "messages": [{"role": "user", "content": "x" * 5000}, {"role": "user", "content": "y" * 1024}],
    }
    _, kept, _ = Policy(max_bytes=3000).apply(None, dumped(value))
    cut = json.loads(kept or "")
    assert cut["messages"][1] == value["messages"][1]
    assert cut["messages"][0]["content"] == "x" * 1024 + "... [5000 characters, cut by llmspan]"


def test_what_strings_cannot_make_fit():
    """A document of many small values is replaced by a mark that says how large it was."""
    text = dumped(list(range(1000)))
    assert json.loads(truncated(text, len(text), 100)) == MARK | {"bytes": len(text)}


@pytest.mark.parametrize("depth", [600, 900, 100_000])
def test_nesting_without_end(depth):
    """A payload nested deeper than Python can follow is cut or marked, not an error."""
    text = '{"a":' * depth + dumped("x" * 5000) + "}" * depth
    cut = truncated(text, len(text), 4096)
    assert len(cut) <= 4096
    assert json.loads(cut).keys() in ({"a"}, {"llmspan.truncated", "bytes"})


def test_a_text_that_is_no_json():
    """What cannot be read cannot be shortened: it is replaced by the mark."""
    assert json.loads(truncated("x" * 500, 500, 100)) == MARK | {"bytes": 500}


@patient
@given(text=st.text(max_size=300) | st.binary(max_size=300), limit=st.integers(60, 200))
def test_any_request_is_kept_or_cut(text, limit):
    """Whatever was sent, what is kept is strict JSON text within the limit."""
    body = text.encode() if isinstance(text, str) else text
    kept, _, _ = Policy(max_bytes=limit).apply(body, None)
    assert (kept is None) == (body == b"")
    assert kept is None or (len(kept.encode()) <= limit and _json.canonical(kept) == kept)


def test_credentials_for_remote_tools_are_masked():
    """Tokens and headers that a request carries for MCP servers are not stored; the rest of the request is."""
    request = {
        "model": "m",
        "input": 'say "authorization"',
        "tools": [
            {"type": "mcp", "server_url": "https://x", "authorization": "s3cret", "headers": {"X-Key": "s3cret"}}
        ],
        "mcp_servers": [{"name": "n", "authorization_token": "s3cret"}, {"name": "open", "authorization_token": None}],
    }
    kept, _, content = Policy().apply(json.dumps(request).encode(), None)
    assert "s3cret" not in kept
    assert content == "full"
    stored = json.loads(kept)
    assert (stored["model"], stored["input"], stored["tools"][0]["server_url"]) == ("m", request["input"], "https://x")
    assert stored["mcp_servers"][1]["authorization_token"] is None


def test_a_request_without_credentials_is_kept_to_the_byte():
    """A tool that is merely called ``headers`` changes nothing."""
    text = '{"model" : "m", "tools": [{"name": "headers"}], "input": "1e400"}'
    assert Policy().apply(text.encode(), None)[0] == text
