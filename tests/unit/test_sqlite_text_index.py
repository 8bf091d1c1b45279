"""The text index of SQLite: what it leaves out, what it believes, and what remains of deleted records."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from llmspan.backends.conditions import Preselection
from llmspan.backends.sqlite import SQLiteBackend, text_index
from llmspan.backends.sqlite.text_index import trigram_query
from llmspan.errors import BackendError
from llmspan.query.filters import Filters
from llmspan.query.matching import spellings
from records import make_trace
from stores import shutting_down


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "t.db"


@pytest.fixture
def backend(path: Path) -> Iterator[SQLiteBackend]:
    with shutting_down(SQLiteBackend(path)) as backend:
        write(backend, "red fox", "brown bear", "grey wolf")
        backend.index_text()
        yield backend


def write(backend: SQLiteBackend, *texts: str) -> None:
    backend.write([make_trace(id=text, request_json=json.dumps({"text": text})) for text in texts])


def candidates(path: Path, text: str) -> list[str]:
    """The ids that the index leaves over for a search."""
    values: dict[str, object] = {}

    def mark(value: object) -> str:
        values[f"v{len(values)}"] = value
        return f":v{len(values) - 1}"

    with closing(sqlite3.connect(path)) as connection:
        condition = text_index.preselect(connection, Preselection(spellings(text), mark, ()))
        return [row[0] for row in connection.execute(f"SELECT id FROM provider_traces WHERE {condition}", values)]


def found(backend: SQLiteBackend, text: str) -> list[str]:
    return [record.id for record in backend.list(Filters.parse(f'"{text}"')).traces]


def test_candidates(backend: SQLiteBackend, path: Path) -> None:
    """Records without the text are left out; those that came later are candidates until a search takes them in."""
    assert candidates(path, "Fox") == ["red fox"]
    write(backend, "arctic fox", "crow")
    assert sorted(candidates(path, "fox")) == ["arctic fox", "crow", "red fox"]
    assert sorted(found(backend, "fox")) == ["arctic fox", "red fox"]
    assert sorted(candidates(path, "fox")) == ["arctic fox", "red fox"]


def test_an_index_of_other_rows_is_not_believed(backend: SQLiteBackend, path: Path) -> None:
    """Where the last row is another one, all records are candidates, and the index is made anew."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE llmspan_text_state SET last_id = 'another'")
    assert sorted(candidates(path, "fox")) == ["brown bear", "grey wolf", "red fox"]
    backend.index_text()
    assert candidates(path, "fox") == ["red fox"]


def test_a_search_does_not_wait_for_a_writer(backend: SQLiteBackend, path: Path) -> None:
    """While another process writes, what is not in the index yet is read; who indexes on request waits as ever."""
    write(backend, "red deer")
    patience = pragma(backend, "busy_timeout")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(BackendError):
            backend._index_step(waits=False)
        assert {trace.id for trace in backend.list(Filters.parse('"red"')).traces} == {"red fox", "red deer"}
    assert pragma(backend, "busy_timeout") == patience > 0


def pragma(backend: SQLiteBackend, name: str) -> int:
    with backend._writer.use() as connection:
        (value,) = connection.execute(f"PRAGMA {name}").fetchone()
    return value


def test_nothing_of_deleted_records_remains(backend: SQLiteBackend, path: Path) -> None:
    """The index has no more entries than one that is made of what is left, wherever the deleted records stood."""
    assert backend.delete(Filters.parse('id:"red fox","grey wolf"')) == 2
    write(backend, "gone again")
    backend.index_text()
    backend.remove(["gone again"])
    with closing(sqlite3.connect(path)) as connection:
        matches = connection.execute("SELECT rowid FROM llmspan_text WHERE llmspan_text MATCH 'fox OR olf'").fetchall()
        connection.execute("INSERT INTO llmspan_text (llmspan_text) VALUES ('integrity-check')")
    assert (matches, b"red fox" in path.read_bytes()) == ([], False)
    assert found(backend, "bear") == ["brown bear"]
    write(backend, "red fox")
    assert found(backend, "fox") == ["red fox"]


def test_without_fts5_a_search_reads_the_payloads(backend: SQLiteBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    """An index that this SQLite cannot read changes nothing but the time that a search takes."""
    monkeypatch.setattr(text_index, "trigram_query", lambda text: 'no_such_column : "x"')
    assert found(backend, "fox") == ["red fox"]


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("ab", ""),
        ("aBc", '"abc"'),
        ('a"b', '"a""b"'),
        ("abÜcd", ""),
        ("xyzÜ天気予", '"xyz" AND "天気予"'),
    ],
)
def test_trigrams(text: str, query: str) -> None:
    """Only trigrams that each SQLite folds alike are asked for."""
    assert trigram_query(text) == query
