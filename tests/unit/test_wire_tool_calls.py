"""Tool calls of chat streams: the reassembled calls are those that the non-streaming response would list."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from records import patient
from wires import both, piece, wire

_ABSENT: Any = ...


def fragment(
    index: Any = _ABSENT, identifier: Any = _ABSENT, name: Any = _ABSENT, arguments: Any = _ABSENT
) -> dict[str, Any]:
    """One tool call fragment; what is not given is not in it."""
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not _ABSENT}
    outer = {key: value for key, value in (("index", index), ("id", identifier)) if value is not _ABSENT}
    return {**outer, **({"function": function} if function else {})}


def calls_of(*chunks: list[dict[str, Any]]) -> list[tuple[Any, Any, Any]]:
    """Id, name and arguments of each call in the message that the chunks' fragments make up."""
    events = [{"id": "c", "choices": [piece(tool_calls=chunk)]} for chunk in chunks]
    _, response = both("chat_completions", wire(*events, {"id": "c", "choices": [piece(finish="tool_calls")]}))
    calls = response["choices"][0]["message"]["tool_calls"]
    assert all("index" not in call and call["type"] == "function" for call in calls)
    return [(call["id"], call["function"]["name"], call["function"]["arguments"]) for call in calls]


PARIS, UTC = ("a", "weather", '{"city":"Paris"}'), ("b", "time", '{"tz":"UTC"}')
ROME = ("c", "weather", '{"city":"Rome"}')


@pytest.mark.parametrize("same_chunk", [True, False])
@pytest.mark.parametrize("index", [0, None, _ABSENT])
def test_whole_calls_of_one_index(index, same_chunk):
    """Parallel calls that all have index 0, null or none are told apart by their ids, as Gemini sends them."""
    whole = [fragment(index, *call) for call in (PARIS, UTC, ROME)]
    chunks = [whole] if same_chunk else [[call] for call in whole]
    assert calls_of(*chunks) == [PARIS, UTC, ROME]


@pytest.mark.parametrize("index", [0, None, _ABSENT])
@pytest.mark.parametrize("identifier", ["", None, "null", _ABSENT])
def test_whole_calls_without_ids(index, identifier):
    """Whole calls of one index that have no ids are several calls, of different functions or of the same one."""
    calls = [[fragment(index, identifier, *call[1:])] for call in (PARIS, UTC, PARIS, ROME)]
    assert [call[1:] for call in calls_of(*calls)] == [PARIS[1:], UTC[1:], PARIS[1:], ROME[1:]]


@pytest.mark.parametrize("index", [0, None, _ABSENT])
def test_fragments_of_one_index(index):
    """Calls of one index in fragments: those without an id continue the call that was opened last."""
    assert calls_of(
        [fragment(index, "a", "weather", "")], [fragment(index, arguments='{"city"')],
        [fragment(index, arguments=':"Paris"}')], [fragment(index, "b", "time", '{"tz"')],
        [fragment(index, arguments=':"UTC"}')],
    ) == [PARIS, UTC]  # fmt: skip


@pytest.mark.parametrize("index", [0, None, _ABSENT])
@pytest.mark.parametrize("named", [True, False])
def test_ids_on_each_fragment(index, named):
    """A fragment that repeats its call's id, and perhaps its name, belongs to that call, interleaved as well."""
    again = ("weather", "time") if named else (_ABSENT, _ABSENT)
    assert calls_of(
        [fragment(index, "a", "weather", ""), fragment(index, "b", "time", '{"tz"')],
        [fragment(index, "a", again[0], '{"city"')], [fragment(index, "b", again[1], ':"UTC"}')],
        [fragment(index, "a", again[0], ':"Paris"}')],
    ) == [PARIS, UTC]  # fmt: skip


def test_fresh_ids_on_each_fragment():
    """vLLM makes up an id for each fragment: a fragment without a name is no call of its own, the first id stands."""
    assert calls_of(
        [fragment(0, "a", "weather", "")], [fragment(0, "x1", arguments='{"city"')],
        [fragment(0, "x2", arguments=':"Paris"}')], [fragment(1, "b", "time")], [fragment(1, "x3", arguments="")],
        [fragment(1, "x4", arguments='{"tz":"UTC"}')],
    ) == [PARIS, UTC]  # fmt: skip


def test_mixed_fragments():
    """Calls by index, by id and without either in one stream."""
    assert calls_of(
        [fragment(0, "a", "weather", "")], [fragment(identifier="a", arguments='{"city"')],
        [fragment(arguments=':"Paris"}')],
        [fragment(None, "b", "time", '{"tz"')], [fragment(1, arguments=':"UTC"}')],
        [fragment(1, "c", "weather", '{"city":"Rome"}')],
    ) == [PARIS, UTC, ROME]  # fmt: skip


def test_indices_name_places_of_calls_that_have_none():
    """Calls opened without an index and continued by one: the index is the place in the list."""
    assert calls_of(
        [fragment(identifier="a", name="weather"), fragment(identifier="b", name="time")],
        [fragment(0, arguments='{"city":'), fragment(1, arguments='{"tz":')],
        [fragment(1, arguments='"UTC"}'), fragment(0, arguments='"Paris"}')],
    ) == [PARIS, UTC]  # fmt: skip


def test_the_id_comes_late():
    """A call that was opened by its name gets its id from a later fragment of its index."""
    assert calls_of(
        [fragment(0, name="weather")], [fragment(0, "a", arguments='{"city":"Paris"}')],
        [fragment(1, "b")], [fragment(1, name="time", arguments='{"tz":"UTC"}')],
    ) == [PARIS, UTC]  # fmt: skip


def test_one_id_for_two_calls():
    """A server whose ids are the functions' names sends two calls of one id: whole calls of two indices are two."""
    calls = [("weather", "weather", call[2]) for call in (PARIS, ROME)]
    assert calls_of([fragment(0, *calls[0]), fragment(1, *calls[1])]) == calls


def test_calls_are_in_the_order_of_their_indices():
    """A call of a later index that arrives first is listed later."""
    assert calls_of([fragment(1, *UTC)], [fragment(0, *PARIS)]) == [PARIS, UTC]


@pytest.mark.parametrize("later", ["", None, "null", "weather"])
def test_a_name_that_says_nothing(later):
    """An empty name, null, the text ``null`` or the same name in a later fragment leaves the name as it was."""
    assert calls_of([fragment(0, "a", "weather", "")], [fragment(0, _ABSENT, later, '{"city"')],
                    [fragment(0, "null", later, ':"Paris"}')]) == [PARIS]  # fmt: skip


@pytest.mark.parametrize("pieces", [("wea", "ther"), ("wea", "weather"), ("null", "weather")])
def test_a_name_in_pieces(pieces):
    """A name that comes piece by piece, or longer each time, is one name."""
    assert calls_of([fragment(0, "a", pieces[0])], [fragment(0, name=pieces[1])],
                    [fragment(0, arguments='{"city":"Paris"}')]) == [PARIS]  # fmt: skip


@pytest.mark.parametrize("first", ["{}", '{"city":"Paris"}'])
def test_arguments_that_begin_anew(first):
    """The empty input that gateways send before the real one, or a call repeated in the end, is not put before it."""
    assert calls_of([fragment(0, "a", "weather", first)], [fragment(0, arguments='{"city"')],
                    [fragment(0, arguments=':"Paris"}')]) == [PARIS]  # fmt: skip
    assert calls_of([fragment(0, *PARIS)], [fragment(0, *PARIS)]) == [PARIS]


@pytest.mark.parametrize("arguments", ["", "not JSON", '{"a":', "[1]"])
def test_arguments_stay_as_they_are(arguments):
    """Arguments are never repaired: empty, cut or without sense, they are what was sent."""
    assert calls_of([fragment(0, "a", "weather", arguments)], [fragment(0, arguments="")]) == [
        ("a", "weather", arguments)
    ]


@pytest.mark.parametrize(("second", "expected"), [
    ("c", [("a", "f", "{}"), ("b", "f", "{}")]), ("other", [("a", "f", "{}{}")]),
])  # fmt: skip
def test_calls_behind_a_finish_reason(second, expected):
    """A server may finish each of its chunks; where another response follows, its pieces go by index as in the SDK."""
    events = [
        {"id": name, "choices": [piece(finish="tool_calls", tool_calls=[fragment(0, call, "f", "{}")])]}
        for name, call in (("c", "a"), (second, "b"))
    ]
    _, response = both("chat_completions", wire(*events))
    calls = response["choices"][0]["message"]["tool_calls"]
    assert [(call["id"], call["function"]["name"], call["function"]["arguments"]) for call in calls] == expected


def test_reasoning_details_of_one_index():
    """Details of another type or id under one index are details of their own; pieces of one detail are one."""
    text = {"index": 0, "type": "reasoning.text", "text": "Hm", "id": None}
    events = [{"choices": [piece(reasoning_details=[detail])]} for detail in (
        text, {**text, "text": "m"}, {"index": 0, "type": "reasoning.encrypted", "data": "x", "id": "r1"},
        {"index": 0, "type": "reasoning.encrypted", "data": "y", "id": "r2"},
    )]  # fmt: skip
    _, response = both("chat_completions", wire(*events))
    details = response["choices"][0]["message"]["reasoning_details"]
    assert [(d.get("text"), d.get("data")) for d in details] == [("Hmm", None), (None, "x"), (None, "y")]


names = st.sampled_from(["weather", "time", "search"])
whole_arguments = st.dictionaries(st.sampled_from(["city", "tz"]), st.text('ab{}\\" ,:é', max_size=5), max_size=2)


@patient
@given(data=st.data(), calls=st.lists(st.tuples(names, whole_arguments), min_size=1, max_size=4))
def test_any_style_gives_the_same_calls(data, calls):
    """However a server numbers calls and repeats ids and names, the calls are those it made."""
    expected = [(f"call_{at}", name, json.dumps(given)) for at, (name, given) in enumerate(calls)]
    index_style = data.draw(st.sampled_from(["counted", "zero", "null", "missing"]))
    repeats_id, repeats_name = data.draw(st.booleans()), data.draw(st.booleans())
    fragments: list[list[dict[str, Any]]] = []
    for at, (identifier, name, arguments) in enumerate(expected):
        index = {"counted": at, "zero": 0, "null": None, "missing": _ABSENT}[index_style]
        cut = data.draw(st.integers(0, len(arguments)))
        fragments.append([
            fragment(index, identifier, name, arguments[:cut]),
            fragment(index, identifier if repeats_id else _ABSENT, name if repeats_id and repeats_name else _ABSENT,
                     arguments[cut:]),
        ])  # fmt: skip
    in_order = [one for call in fragments for one in call]
    turns = [call[turn] for turn in (0, 1) for call in fragments]
    can_interleave = index_style == "counted" or repeats_id
    chunks = turns if can_interleave and data.draw(st.booleans()) else in_order
    assert calls_of(*([one] for one in chunks)) == expected
