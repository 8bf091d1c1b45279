"""``llmspan.annotate`` and ``llmspan annotate``: what is stored and shown, and what is refused, on a SQLite file."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import llmspan
from llmspan.backends.sqlite import SQLiteBackend
from llmspan.cli import main
from llmspan.errors import QueryError, RecordError, SettingsError
from records import make_trace

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith(("LLMSPAN_", "OTEL_", "LETTA_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


@pytest.fixture
def db(tmp_path: Path) -> Path:
    path = tmp_path / "some.db"
    backend = SQLiteBackend(path)
    backend.write([make_trace(id="0123456789", trace_id=TRACE), make_trace(id="other", trace_id=None)])
    backend.shutdown()
    return path


def call(*words: str) -> Result:
    return CliRunner().invoke(main, words, catch_exceptions=False, prog_name="llmspan")


def stored(db: Path) -> list[llmspan.Annotation]:
    with llmspan.Reader.from_env(sqlite_path=db) as reader:
        return list(reader.annotations(record_id="0123456789", trace_id=TRACE))


def test_annotate_in_python(db: Path) -> None:
    """Each kind of value comes back with its id, from a program with an event loop as from one without."""
    ids = [
        llmspan.annotate(record_id="0123456789", score=1, comment="good", source="ann", sqlite_path=db),
        llmspan.annotate(record_id="0123456789", name="label", value="poor", sqlite_path=db),
        asyncio.run(llmspan.annotate_async(trace_id=TRACE, name="helpful", value=True, sqlite_path=db)),
    ]
    assert [one.id for one in stored(db)] == ids
    assert [(one.name, one.value) for one in stored(db)] == [("score", 1.0), ("label", "poor"), ("helpful", 1.0)]
    assert llmspan.remove_annotation(ids[1], sqlite_path=db)
    assert not llmspan.remove_annotation(ids[1], sqlite_path=db)

    async def read() -> list[str]:
        async with llmspan.AsyncReader.from_env(sqlite_path=db) as reader:
            return [one.id for one in await reader.annotations(trace_id=TRACE)]

    assert asyncio.run(read()) == ids[2:]


def test_texts_are_masked_and_redacted(db: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys of vendors are masked in any case, and what the settings name as well; what fails is not stored."""
    key = "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGH"
    llmspan.annotate(record_id="0123456789", comment=f"sent {key}", sqlite_path=db)
    monkeypatch.setenv("LLMSPAN_REDACT_PATTERNS", "email")
    llmspan.annotate(record_id="0123456789", name="who", value="ann@acme.com", sqlite_path=db)
    monkeypatch.setenv("LLMSPAN_REDACT", "no.such:function")
    with pytest.raises(RecordError, match="could not be redacted"):
        llmspan.annotate(record_id="0123456789", comment="secret", sqlite_path=db)
    masked, redacted = stored(db)
    assert masked.comment == "sent [masked by llmspan]"
    assert redacted.value is not None
    assert "acme" not in str(redacted.value)


def test_stores_that_cannot_be_annotated(db: Path, tmp_path: Path) -> None:
    """A socket says where its records are; a store that is not there is not made; two values are one too many."""
    with pytest.raises(SettingsError, match=r"'socket' .* only takes records; they are read where the receiver"):
        llmspan.annotate(record_id="1", score=1, backends="socket")
    missing = tmp_path / "missing.db"
    with pytest.raises(RecordError, match=f"no call '1' in {missing}"):
        llmspan.annotate(record_id="1", score=1, sqlite_path=missing)
    assert not missing.exists()
    with pytest.raises(RecordError, match="give score or value"):
        llmspan.annotate(record_id="0123456789", score=1, value=2, sqlite_path=db)
    with (
        llmspan.Reader.from_env(sqlite_path=db) as reader,
        pytest.raises(QueryError, match=r"cannot group by 'score': .* calls can be chosen by it, not grouped"),
    ):
        reader.stats(["score"])


def test_the_command(db: Path) -> None:
    """By the beginning of an id; show prints it, escapes made visible; it is found, and taken out again."""
    words = ("annotate", "01234567", "--db", str(db))
    first = call(*words, "--score", "-1", "--comment", "wrong \x1b[31mcity\nsecond line", "--source", "ann")
    assert first.exit_code == 0, first.output
    assert "call 0123456789 has the annotation score" in first.stdout
    made: dict[str, Any] = json.loads(call(*words, "--name", "label", "--value", "0.5", "--json").stdout)
    assert (made["name"], made["value"], made["created_at"][-1]) == ("label", 0.5, "Z")
    ticket = "123456789012345678"  # no float is this number
    assert json.loads(call(*words, "--name", "ticket", "--value", ticket, "--json").stdout)["value"] == ticket
    call("annotate", "--trace-id", TRACE, "--name", "note", "--comment", "the run", "--db", str(db))
    shown = call("show", "0123456789", "--db", str(db)).stdout
    assert "score -1  by ann" in shown
    assert "wrong \\x1b[31mcity\n  second line" in shown
    assert "label 0.5" in shown
    assert "note of the trace" in shown
    line = json.loads(call("show", "--where", "score<0", "--json", "--db", str(db)).stdout)
    assert (line["id"], [one["name"] for one in line["annotations"]]) == (
        "0123456789",
        ["score", "label", "ticket", "note"],
    )
    assert "annotations" not in json.loads(call("show", "other", "--json", "--db", str(db)).stdout)
    assert call("annotate", "--remove", made["id"], "--db", str(db)).exit_code == 0
    assert [one.name for one in stored(db)] == ["score", "ticket", "note"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("nowhere", "--score", "1"), 1, "no call 'nowhere' in sqlite"),
        (("--trace-id", "f" * 32, "--score", "1"), 1, "no call of trace"),
        (("--remove", "nothing"), 1, "no annotation 'nothing' in sqlite"),
        (("0123456789",), 1, "neither a value nor a comment"),
        (("0123456789", "--score", "nan"), 1, "value is nan"),
        (("0123456789", "--trace-id", TRACE, "--score", "1"), 2, "give one of ID, --trace-id, --remove"),
        (("0123456789", "--score", "high"), 2, "'high' is not a valid float"),
    ],
)
def test_wrong_use_of_the_command(db: Path, words: tuple[str, ...], code: int, message: str) -> None:
    """What is not there exits with 1, wrong usage with 2; the message names it."""
    result = call("annotate", *words, "--db", str(db))
    assert (result.exit_code, message in result.output) == (code, True), result.output


def test_a_file_that_may_only_be_read(db: Path) -> None:
    """The error names the file and what would be right, and nothing changes."""
    db.chmod(0o400)
    if os.access(db, os.W_OK):
        pytest.skip("this user may write to every file")
    with pytest.raises(SettingsError, match="LLMSPAN_SQLITE_PATH"):
        llmspan.annotate(record_id="0123456789", score=1, sqlite_path=db)
