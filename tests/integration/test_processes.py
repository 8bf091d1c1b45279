"""Process models that people deploy: every record arrives, once, however processes are made and ended.

The programs are those of docs/delivery.md. Where a process is told to go, its store is locked by the test, so that all
its records are still on the way; the lock is let go of only then.
"""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from integration.programs import NO_OTLP, ROOT, environment, run, running, steps_in
from integration.unix_http import PATIENCE, ask, get
from llmspan.demo.server import DemoServer
from polling import until


@pytest.fixture(scope="module")
def provider() -> Iterator[DemoServer]:
    with DemoServer() as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the programs of the documentation."""
    text = (ROOT / "docs" / "delivery.md").read_text()
    for name, body in re.findall(r"```python\n# (\w+\.py)\n(.*?)```", text, re.DOTALL):
        (tmp_path / name).write_text(body)
    return tmp_path


@pytest.fixture
def env(provider: DemoServer, folder: Path) -> dict[str, str]:
    return environment(
        provider,
        folder / "traces.db",
        LLMSPAN_EXIT_TIMEOUT="60",
        PYTHONPATH=str(folder),
        PYTHONUNBUFFERED="1",
        **NO_OTLP,
    )


def steps(folder: Path) -> list[str]:
    return steps_in(folder / "traces.db")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Nobody else can write to the store."""
    connection = sqlite3.connect(folder / "traces.db", isolation_level=None, timeout=PATIENCE)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()


def test_gunicorn_with_preloaded_workers(env: dict[str, str], folder: Path) -> None:
    """Four workers that were forked from one loaded application, told to go by SIGTERM: all records, once."""
    place = folder / "s"
    command = (
        "gunicorn",
        "--preload",
        "-w",
        "4",
        "--bind",
        f"unix:{place}",
        "--graceful-timeout",
        "60",
        "wsgi_app:app",
    )
    with running(*command, env=env, folder=folder) as process:
        until(lambda: get(place, "first"))
        until(lambda: steps(folder) == ["first"])
        names = [f"step-{number:02}" for number in range(40)]
        with locked(folder):
            ask(place, names)
            process.terminate()
            until(lambda: "Handling signal: term" in (folder / "log.txt").read_text())
        process.wait(PATIENCE)
    assert steps(folder) == ["first", *names]


def test_uvicorn_with_reload(env: dict[str, str], folder: Path) -> None:
    """A server that is reloaded, and then told to go by SIGTERM: the records of both lives, once."""
    place = folder / "s"
    command = ("uvicorn", "--reload", "--reload-dir", str(folder), "--uds", str(place), "asgi_app:app")
    with running(*command, env=env, folder=folder) as process:
        until(lambda: get(place, "first"))
        until(lambda: steps(folder) == ["first"])
        one, two = [f"one-{number:02}" for number in range(20)], [f"two-{number:02}" for number in range(20)]
        with locked(folder):
            ask(place, one)
            log = folder / "log.txt"
            program = folder / "asgi_app.py"
            program.write_text(program.read_text() + "\n")
            until(lambda: log.read_text().count("Application shutdown complete") == 1)
        until(lambda: log.read_text().count("Application startup complete") == 2)
        until(lambda: get(place, "second"))
        until(lambda: "second" in steps(folder))
        with locked(folder):
            ask(place, two)
            process.terminate()
            until(lambda: log.read_text().count("Application shutdown complete") == 2)
        process.wait(PATIENCE)
    assert steps(folder) == sorted(["first", "second", *one, *two])


CELERY = """
broker_url = "filesystem://"
broker_transport_options = {"data_folder_in": "queue", "data_folder_out": "queue", "control_folder": "control"}
worker_hijack_root_logger = False
"""


def test_celery_prefork(env: dict[str, str], folder: Path) -> None:
    """Tasks in pool processes, a warm shutdown by SIGTERM: all records, once."""
    for name in ("queue", "control"):
        (folder / name).mkdir()
    (folder / "celeryconfig.py").write_text(CELERY)
    env = {**env, "CELERY_CONFIG_MODULE": "celeryconfig", "C_FORCE_ROOT": "1"}
    names = [f"step-{number:02}" for number in range(20)]

    def send(tasks: list[str]) -> None:
        program = f"import tasks\nfor name in {tasks!r}: tasks.ask.delay(name)"
        subprocess.run([sys.executable, "-c", program], env=env, cwd=folder, check=True, timeout=PATIENCE)

    command = ("celery", "-A", "tasks", "worker", "--pool", "prefork", "-c", "2", "--loglevel", "INFO")
    with running(*command, env=env, folder=folder) as process:
        send(["first"])
        until(lambda: (folder / "traces.db").exists() and steps(folder) == ["first"])
        with locked(folder):
            send(names)
            until(lambda: (folder / "log.txt").read_text().count("succeeded in") == 21)
            process.terminate()
            until(lambda: "Warm shutdown" in (folder / "log.txt").read_text())
        process.wait(PATIENCE)
    assert steps(folder) == ["first", *names]


CHILDREN = """
import multiprocessing, sys
from concurrent.futures import ProcessPoolExecutor
import llmspan
from openai import OpenAI

llmspan.instrument()


def ask(step_id):
    with llmspan.context(step_id=step_id):
        OpenAI().responses.create(model="gpt-5.4", input="What is a trace?")


if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    ask("parent-before")
    children = [context.Process(target=ask, args=(f"child-{n}",)) for n in range(4)]
    for child in children:
        child.start()
    ask("parent-between")
    for child in children:
        child.join()
    with context.Pool(2) as pool:
        pool.map(ask, [f"pool-{n}" for n in range(4)])
        pool.close()
        pool.join()
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        list(pool.map(ask, [f"executor-{n}" for n in range(4)]))
    ask("parent-after")
"""


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_multiprocessing(method: str, env: dict[str, str], folder: Path) -> None:
    """Children, a pool and an executor, however they are started: what they called and what the parent called, once."""
    (folder / "program.py").write_text(CHILDREN)
    done = run(sys.executable, "program.py", method, env=env, cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    expected = [f"{kind}-{n}" for kind in ("child", "pool", "executor") for n in range(4)]
    assert steps(folder) == sorted([*expected, "parent-before", "parent-between", "parent-after"])


OWN_SET_UP = """
import concurrent.futures, multiprocessing, sys
import llmspan
from openai import OpenAI


def ask(step_id):
    llmspan.instrument()
    with llmspan.context(step_id=step_id):
        OpenAI().responses.create(model="gpt-5.4", input="What is a trace?")


if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    child = context.Process(target=ask, args=("child",))
    child.start()
    child.join()
    with concurrent.futures.ProcessPoolExecutor(1, context, initializer=ask, initargs=("initializer",)) as pool:
        pool.submit(len, "").result()
"""


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_children_that_set_themselves_up(method: str, env: dict[str, str], folder: Path) -> None:
    """The parent knows nothing of llmspan: what a child calls before it ends is there all the same."""
    (folder / "program.py").write_text(OWN_SET_UP)
    done = run(sys.executable, "program.py", method, env=env, cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert steps(folder) == ["child", "initializer"]


THREADS = """
import multiprocessing, sys, threading
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import util
import llmspan
from openai import OpenAI

llmspan.instrument()


def ask(step_id, *moments):
    for moment in moments:
        moment.wait()
    with llmspan.context(step_id=step_id):
        OpenAI().responses.create(model="gpt-5.4", input="What is a trace?")


def child():
    leaving = threading.Event()
    util.Finalize(None, leaving.set, exitpriority=-10)  # after ours;
    threading._register_atexit(leaving.set)  # since Python 3.13 the threads are waited for before that
    threading.Thread(target=ask, args=("thread", leaving)).start()
    ThreadPoolExecutor(1).submit(ask, "pool", leaving)
    ask("child")


if __name__ == "__main__":
    process = multiprocessing.get_context(sys.argv[1]).Process(target=child)
    process.start()
    process.join()
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_threads_that_outlive_a_childs_function(method: str, env: dict[str, str], folder: Path) -> None:
    """Python waits for them before the child ends, and so do we: their calls are recorded."""
    (folder / "program.py").write_text(THREADS)
    done = run(sys.executable, "program.py", method, env=env, cwd=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert steps(folder) == ["child", "pool", "thread"]


FORK = """
import os
import llmspan
from openai import OpenAI

llmspan.instrument()
with llmspan.context(step_id="parent"):
    OpenAI().responses.create(model="gpt-5.4", input="What is a trace?")
child = os.fork()
if child == 0:
    with llmspan.context(step_id="child"):
        OpenAI().responses.create(model="gpt-5.4", input="What is a trace?")
else:
    os.waitpid(child, 0)
"""


@pytest.mark.peer_fault("K4")
def test_a_bare_fork(env: dict[str, str], folder: Path) -> None:
    """A child of ``os.fork`` that ends by itself writes its own record, and only that."""
    (folder / "program.py").write_text(FORK)
    subprocess.run([sys.executable, "program.py"], env=env, cwd=folder, timeout=300, check=True)
    assert steps(folder) == ["child", "parent"]
