"""Strict JSON text: what is strict already stays as it was sent, all else is made so."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmspan import _json
from records import patient


@pytest.mark.parametrize(
    "text",
    ['{ "a" :1,\n"a": 2}', "[1e400, -0.0, 123456789012345678901234567890.10]", '"\\u0000\\ud83d\\ude00 \ufffd"', "null",
     '["\\ud83d\\ude00", "\ufffd"]', '"ü\U0001f600"'],
)  # fmt: skip
def test_strict_text_stays(text):
    """Strict JSON is kept to the character, from text and from bytes, without the space around it."""
    assert _json.canonical(text) == text
    assert _json.canonical(f"\n {text}\t\r\n".encode()) == text


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", '""'),
        (b"not JSON", '"not JSON"'),
        (b"data: {}\n\n", '"data: {}\\n\\n"'),
        (b"\xff\x00", '{"base64":"/wA="}'),
        ('{"a": NaN, "b": [Infinity]}', '{"a":null,"b":[null]}'),
        (' {"a": "\\ud800"}', '{"a":"\ufffd"}'),
        ('{"a": "\\udfff", "b": "\ufffd"}', '{"a":"\ufffd","b":"\ufffd"}'),
        ('{"a": "\ud800", "a": 1}', '{"a":1}'),
        ("[" * 100_000, json.dumps("[" * 100_000)),
    ],
    ids=lambda value: repr(value[:16]),
)
def test_other_bodies(body, expected):
    """What is not strict JSON is rendered so that it is, and can be encoded."""
    assert _json.canonical(body) == expected
    assert json.loads(expected.encode()) is not None


@patient
@given(body=st.binary() | st.text(alphabet=st.characters(exclude_categories=())))
def test_canonical_is_always_strict(body):
    """Whatever is sent, the result is JSON that UTF-8 can hold, and making it strict once more changes nothing."""
    text = _json.canonical(body)
    assert _json.canonical(text.encode()) == text


@patient
@given(
    value=st.dictionaries(
        st.text(), st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3))
    ),
    indent=st.sampled_from([None, 0, 2]),
)
def test_members_are_the_source(value, indent):
    """The members of an object come in order, each with its key, its value and its own text."""
    found = list(_json.members(json.dumps(value, indent=indent)))
    assert {key: member for key, member, _ in found} == value
    assert [key for key, *_ in found] == list(value)
    assert [json.loads(text) for *_, text in found] == list(value.values())


def test_members_that_are_doubled():
    """A key that is there twice is given twice."""
    assert [(key, text) for key, _, text in _json.members('{"a": 1.0 ,"a":[ ]}')] == [("a", "1.0"), ("a", "[ ]")]
