"""Strict JSON text: what is strict already stays as it was sent, all else is made so."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
import types
from datetime import date
from types import MappingProxyType
from typing import Any
from unittest import mock

import pydantic_core
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from llmspan import _guard, _json
from llmspan.wire import sse
from records import examples, patient


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
        ("[NaN", '"[NaN"'),
        ("NaN, Infinity", '"NaN, Infinity"'),
        ("[-Infinity, " + "1" * 5000 + "]", '"[-Infinity, ' + "1" * 5000 + ']"'),
        ('{"\\ud800": 1, "x": "\\ud83d\\ude00"}', '{"\ufffd":1,"x":"\U0001f600"}'),
    ],
    ids=lambda value: repr(value[:16]),
)
def test_other_bodies(body, expected):
    """What is not strict JSON is rendered so that it is, and can be encoded."""
    assert _json.canonical(body) == expected
    assert json.loads(expected.encode()) is not None


@pytest.mark.parametrize(
    "body",
    [b'{"a": 1.0, "a": 123456789012345678901234567890}\r\n', b'{"a": NaN}', b'{"a": [1, -Infinity]}',
     b'{"a": "\\ud800"}', b'{"NaN": "\\ud83d\\ude00"}', b'{"a": "\xed\xa0\x80"}', b'{"a": "\xff"}', b' {"a": 1}',
     b'\xef\xbb\xbf{"a": 1}', "ü".encode("utf-16")],
)  # fmt: skip
def test_an_object_that_was_parsed_is_not_parsed_again(body):
    """The text of a body that was parsed as an object is the same as if it were read anew, strict or not."""
    assert _json.canonical_object(body) == _json.canonical(body)


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


@pytest.mark.parametrize(
    "text",
    ["", " ", "[]", "7", "7}",
     '["a":1}', "{", "{}}", '{"a"}', '{"a":}', '{"a":1,}', '{"a":1', '{"a":1 "b":2}', '{"a":1} x',
     "{1:2}", "{,}", '{"a":NaN}', '{"a" 1}', "{null:1}"],
)  # fmt: skip
def test_members_of_something_else(text):
    """What is not an object, not strict or not complete is refused."""
    with pytest.raises(ValueError, match=r".+"):
        list(_json.members(text))


def test_members_with_space_anywhere():
    """Space is allowed where JSON allows it, and belongs to no member."""
    text = ' \n{ "a" : 1.50 ,\t"b":\r{ "c" : [ ] } } \n'
    assert list(_json.members(text)) == [("a", 1.5, "1.50"), ("b", {"c": []}, '{ "c" : [ ] }')]
    assert list(_json.members("{ }")) == []


# -- dumps


def strict(text: str) -> Any:
    """Read JSON that UTF-8 can hold and that has no NaN in it."""

    def refuse(name: str) -> None:
        raise AssertionError(name)

    return json.loads(text.encode(), parse_constant=refuse)


strict_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
any_text = st.text(alphabet=st.characters(exclude_categories=()), max_size=5)
odd_values = st.recursive(
    st.none() | st.integers() | st.floats() | any_text | st.binary(max_size=5) | st.just(object) | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(any_text | st.integers() | st.none() | st.floats() | st.dates(), inner, max_size=3)
        | st.dictionaries(any_text, inner, max_size=3).map(MappingProxyType)
        | st.frozensets(any_text | st.integers(), max_size=3)
    ),
    max_leaves=8,
)


@patient
@given(value=strict_values)
def test_dumps_is_lossless(value):
    """What JSON can hold comes back equal, and is written without spaces or needless escapes."""
    text = _json.dumps(value)
    assert strict(text) == value
    assert text == json.dumps(value, ensure_ascii=False, separators=(",", ":"))


@settings(patient, max_examples=examples(300))
@given(value=odd_values)
def test_dumps_takes_anything(value):
    """Whatever stands in a value, its text is strict JSON, and already canonical."""
    text = _json.dumps(value)
    strict(text)
    assert _json.canonical(text) == text


@dataclasses.dataclass
class Point:
    x: float
    y: object


class Model(BaseModel):
    when: date
    tags: list[str]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (math.nan, "null"),
        ([math.inf, -math.inf, 1.5], "[null,null,1.5]"),
        ("\ud800x", '"\ufffdx"'),
        ({"\udfff": "\ud800"}, '{"\ufffd":"\ufffd"}'),
        (b"\xff\x00", '"/wA="'),
        (bytearray(b"ab"), '"YWI="'),
        (memoryview(b"ab"), '"YWI="'),
        ((1, (2,)), "[1,[2]]"),
        ({3, 1, 2}, "[1,2,3]"),
        ({1: "a", None: "b", False: "c", 2.5: "d"}, '{"1":"a","null":"b","false":"c","2.5":"d"}'),
        ({(1, 2): "a"}, '{"(1, 2)":"a"}'),
        (Point(math.nan, b"ab"), '{"x":null,"y":"YWI="}'),
        (Model(when=date(2026, 1, 31), tags=["ü"]), '{"when":"2026-01-31","tags":["ü"]}'),
        (MappingProxyType({"a": Point(1, None)}), '{"a":{"x":1,"y":null}}'),
        (Point, "\"<class 'test_json.Point'>\""),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, memoryview) else repr(value)[:24],
)
def test_odd_values(value, expected):
    """Values that JSON does not have are written as near to what they are as it has."""
    assert _json.dumps(value) == expected.replace("test_json", __name__)


def test_values_without_end():
    """A value that contains itself, or is nested too deep, ends in a note rather than in an error."""
    ring: list[Any] = ["start"]
    ring.append(ring)
    wheel: dict[str, Any] = {"rim": ring}
    wheel["hub"] = wheel
    deep: list[Any] = []
    spiral: Any = Point(0, None)
    for _ in range(100_000):
        deep = [deep]
        spiral = Point(0, spiral)
    for value, mark in (
        (ring, "circular"),
        (wheel, "circular"),
        (deep, "nested too deep"),
        (spiral, "nested too deep"),
    ):
        text = _json.dumps(value)
        strict(text)
        assert f'"[{mark}]"' in text


class _Mute:
    def __str__(self):
        raise AttributeError("no")


def test_odd_objects_never_raise():
    """Circles, objects that cannot say what they are, and numbers too long for decimal digits become something."""

    @dataclasses.dataclass
    class Node:
        name: str
        parent: Any = None
        children: list[Any] = dataclasses.field(default_factory=list)

    root = Node("root")
    root.children = [Node("a", root), Node("b", root)]
    assert json.loads(_json.dumps(root))["children"][0]["parent"] == "[circular]"
    assert json.loads(_json.dumps({"x": [_Mute()]})) == {"x": ["<_Mute>"]}
    assert json.loads(_json.dumps({"n": 10**5000}))["n"] == hex(10**5000)
    _guard.reset_error_counts()


_PIECES = st.sampled_from(
    [*'{}[]":,.-+eE01 \n\t\\/\x00\x1f\x7f', "u", "\\u", "\\ud83d", "\\ude00", "\\x", "\ud800", "\ufeff", "\xa0", "é",
     "\U0001f600", "null", "true", "NaN", "Infinity", "1e400", "0" * 20, "9" * 30, "00", '"a":', '"a"', "1.",
     ".5", "[1]"]
)  # fmt: skip
_JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@st.composite
def nearly_json(draw: st.DrawFn) -> str:
    """JSON text in which something may be added, missing or replaced."""
    text = json.dumps(draw(_JSON_VALUES), ensure_ascii=draw(st.booleans()))
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(text)))
        text = text[:start] + draw(_PIECES | st.just("")) + text[start + draw(st.integers(0, 2)) :]
    return text


@settings(patient, max_examples=examples(1000))
@given(nearly_json())
def test_what_is_read_fast_is_read_as_ever(text: str) -> None:
    """Pydantic's parser refuses what the standard library refuses; what it reads has the same values and types."""
    bodies = [text] if "\ud800" in text else [text, text.encode()]
    bodies.append(text.encode("utf-8", "surrogatepass"))
    for value in filter(lambda value: value is not None, map(_json.quick_value, bodies)):
        assert repr(value) == repr(_json.decoder.decode(text))


@pytest.mark.parametrize(
    "text",
    ["null", "NaN", "[-Infinity]", "[1", '{"a": 1} {}', "[01]", '"\\ud800"', '"\ud800"', "\ufeff{}", "[" * 300,
     "[" * 300 + "]" * 300, "[" * 100_000, b"\xff", b'"\xff"', b'"\xed\xa0\x80"', b""],
    ids=lambda text: repr(text[:12]),
)  # fmt: skip
def test_what_is_not_read_fast_is_left_to_the_standard_library(text: bytes | str) -> None:
    """Nothing is decided about it: what only one of the two parsers allows is stored as before."""
    assert _json.quick_value(text) is None


def _refusing(*_: Any, **__: Any) -> Any:
    raise TypeError("from_json() got an unexpected keyword argument 'cache_strings'")


@pytest.mark.parametrize(
    "module",
    [None, types.SimpleNamespace(), types.ModuleType("pydantic_core"), mock.Mock(from_json=_refusing),
     mock.Mock(from_json=lambda *_, **__: {"a": [1.25]}), []],
    ids=["none", "other", "empty", "old", "wrong", "unhashable"],
)  # fmt: skip
def test_without_a_parser_all_is_read_as_ever(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """No SDK has imported pydantic, or it is a version that we do not know."""
    monkeypatch.setitem(sys.modules, "pydantic_core", module)
    assert _json.quick_value('{"a": 1}') is None
    assert _json.canonical('\n{"a": [1.50, NaN]}') == '{"a":[1.5,null]}'
    assert _json.canonical('\n{"a": 1.50}') == '{"a": 1.50}'
    assert sse.json_object(b' {"a": 1.50}') == {"a": 1.5}


def test_none_of_a_payloads_texts_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parser remembers texts unless it is told not to; names of members are the SDK's own, and may be."""
    asked: list[Any] = []

    def from_json(text: Any, **options: Any) -> Any:
        asked.append(options)
        return pydantic_core.from_json(text, **options)

    monkeypatch.setitem(sys.modules, "pydantic_core", mock.Mock(from_json=from_json))
    assert _json.quick_value('{"a": 1}') == {"a": 1}
    assert {options["cache_strings"] for options in asked} == {"keys"}


class _PanicError(BaseException):
    """As pyo3 raises one for a panic in Rust."""

    __module__ = "pyo3_runtime"


@pytest.mark.parametrize(("error", "is_passed_on"), [(_PanicError, False), (KeyboardInterrupt, True)])
def test_a_panic_of_the_parser_is_no_ones_but_ours(
    error: type[BaseException], is_passed_on: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text is read by the standard library; an interrupt goes to the program."""

    def from_json(text: bytes | str, **_: Any) -> Any:
        if text == b'{"a": [1.5]}':
            return json.loads(text)
        raise error("here")

    monkeypatch.setitem(sys.modules, "pydantic_core", mock.Mock(from_json=from_json))
    if is_passed_on:
        with pytest.raises(error):
            _json.canonical('{"a": 1}')
    else:
        assert _json.canonical('\n{"a": 1.50}') == '{"a": 1.50}'
