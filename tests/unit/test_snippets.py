"""Snippets: where a record contains the text that was searched for, as people read it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmspan.backends.base import Filters
from llmspan.backends.memory import MemoryBackend
from llmspan.query.snippets import searched_texts, snippet_of
from llmspan.reader import Reader
from records import make_trace


@pytest.mark.parametrize(
    ("request_json", "response_json", "text", "shown"),
    [
        ('{"text": "What is the Weather?"}', None, "weather", "What is the [Weather]?"),
        (None, '{"text": "gr\\u00fc\\u00dfe dich"}', "grüße", "[grüße] dich"),
        ('{"text": "one\\ntwo \\"three\\" four"}', None, "three", 'one two "[three]" four'),
        ('{"role": "user", "n": 17}', None, ": 17", '{"role": "user", "n"[: 17]}'),
        ('{"a": "b\\nc"}', None, "nc", '{"a": "b\\[nc]"}'),
        ('{"text": "no"}', '{"text": "yes"}', "yes", "[yes]"),
    ],
)
def test_snippet(request_json: str | None, response_json: str | None, text: str, shown: str) -> None:
    """The words of the JSON string around the match; of JSON itself where the match is not in one string."""
    snippet = snippet_of(make_trace(request_json=request_json, response_json=response_json), [text])
    assert snippet is not None
    assert f"{snippet.before}[{snippet.match}]{snippet.after}" == shown
    assert snippet.part == ("request" if request_json and response_json is None else "response")


def test_long_texts_are_cut_at_words() -> None:
    """What is left out before and after the match is three dots, and no word is cut."""
    words = " ".join(f"word{number}" for number in range(1000))
    snippet = snippet_of(make_trace(request_json=json.dumps({"text": words})), ["word500"])
    assert snippet is not None
    assert snippet.before.startswith("...word4")
    assert snippet.after.endswith("...")
    assert set(str(snippet).strip(".").split()) < set(words.split())


payloads = st.none() | st.text(alphabet='ab "\\\n\u00fc\ud800', max_size=300).map(lambda text: json.dumps({"t": text}))


@given(payloads, payloads, st.text(alphabet='abAB"\\ü ', min_size=1, max_size=3))
def test_who_matches_has_a_snippet(request_json: str | None, response_json: str | None, text: str) -> None:
    """A record has a snippet exactly if the filter means it, and the snippet is bounded."""
    record = make_trace(request_json=request_json, response_json=response_json)
    filters = Filters.parse(json.dumps(text, ensure_ascii=False))
    snippet = snippet_of(record, searched_texts(filters))
    assert (snippet is not None) == filters.matches(record)
    assert len(str(snippet)) < 400


def test_reader_reads_payloads_of_a_page() -> None:
    """A listing has no payloads; its snippets are read apart, and only if a text is searched for, and not excluded."""
    backend = MemoryBackend()
    texts = {"a": "red fox", "b": "dog"}
    backend.write([make_trace(id=name, request_json=json.dumps({"t": text})) for name, text in texts.items()])
    reader = Reader(backend)
    page = reader.list()
    snippets = reader.snippets(page.traces, Filters.parse('"FOX"'))
    assert {name: str(snippet) for name, snippet in snippets.items()} == {"a": "red fox"}
    assert reader.snippets(page.traces, Filters.parse('-"fox"')) == {}
