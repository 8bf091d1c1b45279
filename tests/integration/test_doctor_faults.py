"""Each fault that ``llmspan doctor`` knows, planted for real: its output as a user sees it, and its exit code."""

from __future__ import annotations

import os
import resource
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from integration.preloaded import preloaded_python
from llmspan.backends.sqlite import SQLiteBackend
from records import make_trace
from stores import postgres, shutting_down
from stores.sidecar import short_directory

SITE = Path(pytest.__file__).parents[1]
SOURCE = Path(__file__).parents[2] / "src"
DISABLED = "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"

Doctor = Callable[..., tuple[int, list[str]]]


@pytest.fixture
def doctor(tmp_path: Path) -> Doctor:
    """Run the command in a process and an environment of its own; its exit code and the lines that it prints."""

    def run(
        *words: str, before: tuple[str, ...] = (), python: tuple[str, ...] = (), **more: Any
    ) -> tuple[int, list[str]]:
        theirs = ("LLMSPAN_", "OTEL_", "LETTA_", "OPENAI_", "ANTHROPIC_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(theirs)}
        environment = {**kept, "XDG_DATA_HOME": str(tmp_path), "HOME": str(tmp_path), **more.pop("env", {})}
        if not (before or python or more):
            code, printed = preloaded_python().run_module("llmspan", "doctor", *words, env=environment)
        else:
            command = [*before, sys.executable, *python, "-m", "llmspan", "doctor", *words]
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, env=environment, timeout=300, **more
            )
            code, printed = done.returncode, done.stdout + done.stderr
        assert "Traceback" not in printed
        return code, printed.splitlines()

    return run


def problems(lines: list[str]) -> list[str]:
    return [line for line in lines if line.startswith(("✗", "x "))]


def test_a_sound_setup_is_well(doctor: Doctor) -> None:
    """Without a fault there is no problem: what is found below is what was planted."""
    code, lines = doctor()
    assert (code, problems(lines), lines[-1]) == (0, [], "all is well")


FAULTS: dict[str, tuple[dict[str, str], str]] = {
    "a setting misspelt": ({"LLMSPAN_BACKEND": "sqlite"}, "LLMSPAN_BACKEND; did you mean LLMSPAN_BACKENDS?"),
    "no spans": ({"OTEL_SDK_DISABLED": "true"}, "OTEL_SDK_DISABLED=true: no spans are made"),
    "an exporter misspelt": ({"OTEL_TRACES_EXPORTER": "otpl"}, "OTEL_TRACES_EXPORTER=otpl: unknown exporter"),
    "one instrumentation off": ({DISABLED: "llmspan_openai"}, "llmspan_openai"),
    "all instrumentations off": ({DISABLED: "*"}, "llmspan_anthropic"),
    "few attributes": ({"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "8"}, "a span may lose attributes"),
    "no redact module": ({"LLMSPAN_REDACT": "no_such_module:mask"}, "no request and no response is stored"),
    "no redact function": ({"LLMSPAN_REDACT": "json:no_such"}, "LLMSPAN_REDACT=json:no_such: "),
    "no place for a spool": ({"LLMSPAN_SPOOL_DIR": "/proc/nowhere/spool"}, "LLMSPAN_SPOOL_DIR=/proc/nowhere/spool"),
    "no place for SQLite": ({"LLMSPAN_SQLITE_PATH": "/proc/nowhere/x.db"}, "LLMSPAN_SQLITE_PATH=/proc/nowhere/x.db"),
    "no sidecar": ({"LLMSPAN_BACKENDS": "socket", "LLMSPAN_SOCKET": "/nowhere/s.sock"}, "no process listens there"),
    "no database": (
        {"LLMSPAN_BACKENDS": "postgres", "LLMSPAN_POSTGRES_DSN": "postgresql://127.0.0.1:1/none"}, "backend postgres: ",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_environment(doctor: Doctor, fault: str) -> None:
    """The fault is a line that says what is wrong, the exit code is 1, and the last line counts the problems."""
    variables, told = FAULTS[fault]
    code, lines = doctor(env=variables)
    found = problems(lines)
    assert code == 1
    assert any(told in line for line in found), lines
    assert lines[-1] == f"{len(found)} problem{'' if len(found) == 1 else 's'}"


# -- packages -------------------------------------------------------------------------------------------------------


@pytest.fixture
def site(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """The environment's packages without some, as variables for a Python that looks nowhere else."""

    def without(*prefixes: str) -> dict[str, str]:
        place = tmp_path / "site"
        place.mkdir()
        for path in SITE.iterdir():
            if not path.name.startswith(prefixes):
                (place / path.name).symlink_to(path)
        return {"PYTHONPATH": os.pathsep.join([str(place), str(SOURCE)])}

    return without


def test_without_an_sdk(doctor: Doctor, site: Callable[..., dict[str, str]]) -> None:
    """An environment without any of the SDKs has nothing to record."""
    code, lines = doctor(python=("-S",), env=site("openai", "anthropic", "google_genai"))
    assert (code, len(problems(lines))) == (1, 1)
    assert "none of openai, anthropic and google-genai is installed" in problems(lines)[0]


def test_without_the_package(doctor: Doctor, site: Callable[..., dict[str, str]]) -> None:
    """Code that is only on the path has no backends: programs would not start either, and the remedy is named."""
    code, lines = doctor(python=("-S",), env=site("llmspan"))
    assert code == 2
    assert "llmspan is not installed as a package; pip install it" in lines[-1]


# -- disks ----------------------------------------------------------------------------------------------------------


def _has_namespaces() -> bool:
    if shutil.which("unshare") is None:
        return False
    mount = ["unshare", "-rm", "sh", "-c", "mount -t tmpfs -o size=64k tmpfs /mnt"]
    return subprocess.run(mount, check=False, capture_output=True).returncode == 0


needs_namespaces = pytest.mark.skipif(
    not _has_namespaces(), reason="NOT TESTED without namespaces: a disk that is full"
)


def full_disk(place: Path) -> tuple[str, ...]:
    """What starts a command for which ``place`` is a disk of 64 KiB that is full."""
    script = 'mount -t tmpfs -o size=64k tmpfs "$0"; cat /dev/zero > "$0/fill" 2>/dev/null; exec "$@"'
    return ("unshare", "-rm", "sh", "-c", script, str(place))


@needs_namespaces
@pytest.mark.parametrize("name", ["LLMSPAN_SPOOL_DIR", "LLMSPAN_SQLITE_PATH"])
def test_a_disk_that_is_full(doctor: Doctor, tmp_path: Path, name: str) -> None:
    """A spool, or a database, on a disk without a free block: the setting is named, and the reason."""
    disk = tmp_path / "disk"
    disk.mkdir()
    code, lines = doctor(before=full_disk(disk), env={name: str(disk / "there")})
    (line,) = problems(lines)
    assert code == 1
    assert "No space left" in line or "full" in line
    assert str(disk) in line


def test_a_limit_on_files_is_like_a_full_disk(doctor: Doctor, tmp_path: Path) -> None:
    """The system's word for what it does not take is in the report."""
    code, lines = doctor(
        env={"LLMSPAN_SPOOL_DIR": str(tmp_path / "spool")},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 19, 1 << 19)),
    )
    assert code == 1
    assert any("File too large" in line and "spool" in line for line in problems(lines))


def test_a_spool_in_the_place_of_a_file(doctor: Doctor, tmp_path: Path) -> None:
    """A file cannot be made a directory."""
    (tmp_path / "file").touch()
    code, lines = doctor(env={"LLMSPAN_SPOOL_DIR": str(tmp_path / "file" / "spool")})
    assert (code, len(problems(lines))) == (1, 1)
    assert "LLMSPAN_SPOOL_DIR=" in problems(lines)[0]


# -- stores ---------------------------------------------------------------------------------------------------------


def test_a_store_that_loses_what_is_written(doctor: Doctor, tmp_path: Path) -> None:
    """A trigger swallows what is inserted, without an error; the record that was written is missed."""
    path = tmp_path / "t.db"
    with shutting_down(SQLiteBackend(path)) as backend:
        backend.write([make_trace()])
    connection = sqlite3.connect(path)
    with connection:
        connection.execute(
            "CREATE TRIGGER swallow BEFORE INSERT ON provider_traces BEGIN SELECT RAISE(IGNORE); END"
        )  # fmt: skip
    connection.close()
    code, lines = doctor("--db", str(path))
    assert (code, len(problems(lines))) == (1, 1)
    assert "written without an error, but is not there" in problems(lines)[0]


def test_a_file_that_is_not_ours(doctor: Doctor, tmp_path: Path) -> None:
    """A file of another program is named, and left as it is."""
    path = tmp_path / "notes.txt"
    path.write_text("no database, but long enough to be looked at as one")
    code, lines = doctor("--db", str(path))
    assert (code, len(problems(lines))) == (1, 1)
    assert str(path) in problems(lines)[0]
    assert path.read_text().startswith("no database")


def test_a_socket_of_another_program(doctor: Doctor) -> None:
    """Who listens there and does not speak the protocol is told apart from nobody."""
    with short_directory() as directory, socket.socket(socket.AF_UNIX) as other:
        other.bind(str(directory / "s.sock"))
        environment = {"LLMSPAN_BACKENDS": "socket", "LLMSPAN_SOCKET": str(directory / "s.sock")}
        code, lines = doctor(env=environment)
    assert (code, len(problems(lines))) == (1, 1)
    assert "no process listens there" in problems(lines)[0]


@pytest.fixture(params=["postgres", "chdb"])
def fresh(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, str]]:
    """Variables that name a real store in which nothing of ours is yet."""
    if request.param == "postgres":
        yield {"LLMSPAN_BACKENDS": "postgres", "LLMSPAN_POSTGRES_DSN": postgres.new_schema()}
    else:
        pytest.importorskip("chdb", reason="NOT TESTED without chDB: a fresh ClickHouse")
        yield {"LLMSPAN_BACKENDS": "clickhouse", "LLMSPAN_CLICKHOUSE_DSN": f"chdb://{tmp_path / 'chdb'}?database=new"}


def test_a_fresh_store_that_the_program_sets_up_itself_is_well(doctor: Doctor, fresh: dict[str, str]) -> None:
    """No tables yet is no fault where the program makes them; a second look finds them there."""
    code, lines = doctor(env=fresh)
    assert (code, problems(lines), lines[-1]) == (0, [], "all is well")
    assert any("have been set up, as a program does at start" in line for line in lines)
    code, lines = doctor(env=fresh)
    assert (code, problems(lines)) == (0, [])
    assert not any("have been set up" in line for line in lines)


def test_a_fresh_store_that_is_left_to_migrate_is_a_problem(doctor: Doctor, fresh: dict[str, str]) -> None:
    """With ``LLMSPAN_AUTO_MIGRATE=0`` the program could not write; the remedy is named, and no table is made."""
    for _ in range(2):
        code, lines = doctor(env={**fresh, "LLMSPAN_AUTO_MIGRATE": "0"})
        (line,) = problems(lines)
        assert code == 1
        assert "llmspan migrate" in line
