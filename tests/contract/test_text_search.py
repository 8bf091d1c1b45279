"""Text search means the same in each store, with a text index, without one, and with one that is behind."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from random import Random

import pytest

from llmspan.backends.base import Backend, Filters, SupportsDelete, SupportsTextIndex
from llmspan.trace import ProviderTrace
from records import NOON, make_trace

WORDS = (
    "Weather", "weather", "100%", "a_b", "grüße", "GRÜSSE", "天気予報", 'say "hi"', "back\\slash", "line\nend",
    "🙂 smile", "x",
)  # fmt: skip
TEXTS = (
    "weather", "WEATHER", "eath", "we", "x", "100%", "a_b", "axb", "grüße", "grüsse", "天気予", "天", 'say "', "k\\s",
    "e\ne", "🙂 smi", "smile", " ", "weather a_b", "nothing like it", "Weather 天気予報 100%", '"role"', "ü",
)  # fmt: skip


def records(first: int, number: int) -> list[ProviderTrace]:
    """Records with a few words each, one in four without a payload."""
    chance = Random(first)
    return [
        make_trace(
            id=f"{at:03}", started_at=NOON + at, request_json=_payload(chance, at), response_json=_payload(chance, at)
        )
        for at in range(first, first + number)
    ]


def _payload(chance: Random, at: int) -> str | None:
    text = " ".join(chance.choices(WORDS, k=3))
    return None if at % 4 == 0 else json.dumps({"role": "user", "text": text}, ensure_ascii=at % 2 == 0)


def check(backend: Backend, written: Sequence[ProviderTrace]) -> None:
    """Each text, also negated and beside another filter, is found where plain Python finds it."""
    for text in TEXTS:
        quoted = '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
        for query in (quoted, f"-{quoted}", f"{quoted} id:01*"):
            filters = Filters.parse(query)
            expected = [record.id for record in written if filters.matches(record)][::-1]
            assert [record.id for record in backend.list(filters, limit=500).traces] == expected, query
    paged = backend.list(Filters.parse('"weather"'), limit=2, payload=True)
    assert [bool(record.request_json) for record in paged.traces] == [True, True]


@pytest.fixture
def indexed(make_backend: Callable[[], Backend]) -> Backend:
    """A store of its own: the index stays in it."""
    backend = make_backend()
    if not isinstance(backend, SupportsTextIndex):
        pytest.skip("this store has no text index")
    return backend


def test_an_index_changes_no_result(indexed: Backend) -> None:
    """Without an index, with one, with records that came after it, with records deleted, and without it again."""
    assert isinstance(indexed, SupportsTextIndex)
    assert isinstance(indexed, SupportsDelete)
    first, second = records(0, 40), records(40, 20)
    indexed.write(first)
    assert not indexed.has_text_index()
    check(indexed, first)
    indexed.index_text()
    assert indexed.has_text_index()
    check(indexed, first)
    indexed.write(second)
    check(indexed, first + second)
    gone = Filters.parse("id:00*,05*")
    assert indexed.delete(gone) == 20
    remaining = [record for record in first + second if not gone.matches(record)]
    check(indexed, remaining)
    indexed.write(first[:10])
    indexed.index_text()
    check(indexed, first[:10] + remaining)
    indexed.drop_text_index()
    assert not indexed.has_text_index()
    check(indexed, first[:10] + remaining)


def test_a_record_that_came_twice(indexed: Backend) -> None:
    """Of two records with one id the first counts, whichever of them has the text."""
    assert isinstance(indexed, SupportsTextIndex)
    indexed.index_text()
    indexed.write([make_trace(id="a", request_json='{"text": "first words"}')])
    indexed.write([make_trace(id="a", request_json='{"text": "other words"}')])
    assert [record.id for record in indexed.list(Filters.parse('"first words"')).traces] == ["a"]
    assert indexed.list(Filters.parse('"other words"')).traces == []
