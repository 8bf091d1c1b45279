"""Programs whose threads are greenlets: gevent and eventlet replace locks and threads, before or after llmspan starts.

Every request is answered, every record is stored once, and the program ends when it is told to.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import pytest

from integration.programs import BIN, NO_OTLP, ROOT, environment, running, steps_in
from integration.unix_http import PATIENCE, ask, is_listening
from llmspan.backends.base import Backend
from llmspan.backends.clickhouse import ClickHouseBackend
from llmspan.backends.postgres import PostgresBackend
from llmspan.backends.sqlite import SQLiteBackend
from llmspan.demo.server import DemoServer
from llmspan.reader import Reader
from llmspan.settings import Settings
from polling import until
from stores import clickhouse, postgres
from stores.sidecar import RunningSidecar, short_directory

# it is not imported here: it would warn of every fork of later tests
if find_spec("eventlet") is None:
    pytest.skip("eventlet does not support this Python", allow_module_level=True)

KINDS = ["gevent", "eventlet"]
#: what gunicorn gives a worker to end by itself, after which it kills it
GRACEFUL_SECONDS = 60


@pytest.fixture(scope="module")
def provider() -> Iterator[DemoServer]:
    with DemoServer() as server:
        yield server


@pytest.fixture
def env(provider: DemoServer, tmp_path: Path) -> dict[str, str]:
    return environment(
        provider,
        tmp_path / "traces.db",
        LLMSPAN_EXIT_TIMEOUT="30",
        PYTHONPATH=str(tmp_path),
        PYTHONUNBUFFERED="1",
        PYTHONWARNINGS="ignore",
        **NO_OTLP,
    )


def documented(name: str) -> str:
    """A program of the documentation."""
    text = (ROOT / "docs" / "delivery.md").read_text()
    return dict(re.findall(r"```python\n# (\w+\.py)\n(.*?)```", text, re.DOTALL))[name]


LAUNCHERS = {
    "in code": [],
    "llmspan run": [str(BIN / "llmspan"), "run", "-m"],
    "opentelemetry-instrument": [str(BIN / "opentelemetry-instrument")],
}


#: both launchers set up before gunicorn is imported, by the same code; in code, it is before or after the fork
STARTS = [("in code", []), ("in code", ["--preload"]), ("llmspan run", ["--preload"]), ("opentelemetry-instrument", [])]


@pytest.mark.parametrize(("launcher", "preload"), STARTS, ids=lambda value: "".join(value))
@pytest.mark.parametrize("kind", KINDS)
def test_gunicorn(kind: str, launcher: str, preload: list[str], env: dict[str, str], tmp_path: Path) -> None:
    """Two workers of greenlets: many requests at once, the first ones too, and SIGTERM ends all within its time."""
    program = documented("wsgi_app.py")
    if launcher != "in code":
        program = program.replace("llmspan.instrument()", "")
    (tmp_path / "wsgi_app.py").write_text(program)
    with short_directory() as directory:
        path = directory / "s"
        options = ["-k", kind, "-w", "2", "--bind", f"unix:{path}", "--graceful-timeout", str(GRACEFUL_SECONDS)]
        command = [*LAUNCHERS[launcher], "gunicorn", *preload, *options, "wsgi_app:app"]
        names = [f"step-{number:02}" for number in range(30)]
        with running(*command, env=env, folder=tmp_path) as process:
            until(lambda: is_listening(path))
            ask(path, names)
            process.terminate()
            assert process.wait(PATIENCE) == 0
    log = (tmp_path / "log.txt").read_text()
    assert steps_in(tmp_path / "traces.db") == names
    assert "SIGKILL" not in log
    assert "Traceback" not in log


PROGRAM = """
import sys
kind, moment = sys.argv[1:]


def patch():
    if kind == "gevent":
        from gevent import monkey

        monkey.patch_all()
    else:
        import eventlet

        eventlet.monkey_patch()


def call(step_id):
    with llmspan.context(step_id=step_id):
        OpenAI().responses.create(model="gpt-5.4", input="What is a trace?")


if moment == "before the import":
    patch()
import llmspan
if moment == "before the set-up":
    patch()
llmspan.instrument()
if moment == "after the set-up":
    patch()
from openai import OpenAI
if moment == "after a call":
    call("first")
    patch()
names = [f"step-{number:02}" for number in range(20)]
if kind == "gevent":
    import gevent

    gevent.joinall([gevent.spawn(call, name) for name in names], raise_error=True)
else:
    import eventlet

    list(eventlet.GreenPool().imap(call, names))
call("last")
"""


def calls_of(kind: str, moment: str, env: dict[str, str], folder: Path) -> list[str]:
    """Run the program, and say which steps it has recorded if all went well."""
    command = [sys.executable, "-c", PROGRAM, kind, moment]
    done = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    assert "llmspan" not in done.stderr
    return [*(["first"] if moment == "after a call" else []), "last", *(f"step-{number:02}" for number in range(20))]


@pytest.mark.parametrize("moment", ["before the import", "before the set-up", "after the set-up", "after a call"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_moment_of_patching(kind: str, moment: str, env: dict[str, str], tmp_path: Path) -> None:
    """It does not matter when locks and threads are replaced; the end of the program writes what is left."""
    expected = calls_of(kind, moment, env, tmp_path)
    assert steps_in(tmp_path / "traces.db") == expected


@pytest.mark.parametrize("kind", KINDS)
def test_with_a_spool(kind: str, env: dict[str, str], tmp_path: Path) -> None:
    """Its locks are taken by our own threads only; nothing is left in it."""
    moment, env["LLMSPAN_SPOOL_DIR"] = "after the set-up", str(tmp_path / "spool")
    expected = calls_of(kind, moment, env, tmp_path)
    assert steps_in(tmp_path / "traces.db") == expected
    assert not list((tmp_path / "spool").glob("log-*"))


def _postgres(env: dict[str, str], _: ExitStack) -> Backend:
    env.update(LLMSPAN_BACKENDS="postgres", LLMSPAN_POSTGRES_DSN=postgres.new_schema())
    return PostgresBackend.from_settings(Settings.from_env(postgres_dsn=env["LLMSPAN_POSTGRES_DSN"]))


def _clickhouse(env: dict[str, str], _: ExitStack) -> Backend:
    env.update(LLMSPAN_BACKENDS="clickhouse", LLMSPAN_CLICKHOUSE_DSN=clickhouse.server_dsn())
    return ClickHouseBackend.from_settings(Settings.from_env(clickhouse_dsn=env["LLMSPAN_CLICKHOUSE_DSN"]))


def _sidecar(env: dict[str, str], stack: ExitStack) -> Backend:
    directory = stack.enter_context(short_directory())
    stack.callback(RunningSidecar(directory / "s", SQLiteBackend(directory / "received.db")).stop)
    env.update(LLMSPAN_BACKENDS="sqlite,socket", LLMSPAN_SOCKET=str(directory / "s"))
    return SQLiteBackend(directory / "received.db")


STORES: dict[str, Callable[[dict[str, str], ExitStack], Backend]] = {
    "postgres": _postgres,
    "clickhouse": _clickhouse,
    "sidecar": _sidecar,
}


@pytest.mark.parametrize("moment", ["before the import", "after the set-up"])
@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("kind", KINDS)
def test_stores_on_sockets(kind: str, store: str, moment: str, env: dict[str, str], tmp_path: Path) -> None:
    """Connections are replaced too, and belong to the thread that made them: the worker makes its own."""
    with ExitStack() as stack:
        backend = STORES[store](env, stack)
        stack.callback(backend.shutdown)
        expected = calls_of(kind, moment, env, tmp_path)
        backend.open()
        assert sorted(str(trace.step_id) for trace in Reader(backend).iterate()) == expected


LOGS = """
import logging, sys
kind = sys.argv[1]
if kind == "gevent":
    from gevent import monkey, spawn, sleep

    monkey.patch_all()
else:
    import eventlet
    from eventlet import spawn, sleep

    eventlet.monkey_patch()
import threading
import llmspan
from llmspan._native import is_own_thread
from llmspan.errors import PermanentError
from llmspan.backends.memory import MemoryBackend
from openai import OpenAI


class Refusing(MemoryBackend):
    def write(self, traces):
        raise PermanentError("refused")


class Switching(logging.Handler):
    def emit(self, record):
        assert not is_own_thread()
        sleep(0)
        if "refused record" in record.getMessage():
            print("told")


logging.getLogger().addHandler(Switching())
from llmspan import pipeline

pipeline.shared().add(Refusing())
llmspan.instrument()


def call(_):
    logging.getLogger("app").warning("calling")
    OpenAI().responses.create(model="gpt-5.4", input="What is a trace?")
    logging.getLogger("app").warning("called")


for thread in [spawn(call, n) for n in range(20)]:
    thread.get() if kind == "gevent" else thread.wait()
"""


@pytest.mark.parametrize("kind", KINDS)
def test_log_lines_are_written_by_greenlets(kind: str, env: dict[str, str], tmp_path: Path) -> None:
    """A handler that switches greenlets meets none of our threads, whose locks it could not share; no line is lost."""
    env["LLMSPAN_DEAD_LETTER_DIR"] = str(tmp_path / "dead")
    command = [sys.executable, "-c", LOGS, kind]
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stdout) == (0, "told\n" * 20), done.stderr
