"""The embedded engine and processes: one directory a process, forks, ends. Each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from stores import clickhouse

PRELUDE = """
import multiprocessing, os, sys, threading, time
from llmspan.backends.clickhouse import ClickHouseBackend
from llmspan.errors import LlmspanError
from llmspan.settings import Settings
from llmspan.trace import ProviderTrace

def store(dsn):
    return ClickHouseBackend.from_settings(Settings(clickhouse_dsn=dsn, clickhouse_ttl=None))

def trace(id):
    return ProviderTrace(id=id, provider="p", operation="o", api="a", status="ok", started_at=0, duration_ns=0)

def refusal(use):
    try:
        use()
    except LlmspanError as error:
        return f"{type(error).__name__}: {error}"
    return "no refusal"

def child(function):
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        function()
        sys.exit(0)  # through all exit handlers: that must not hang either
    assert os.waitpid(pid, 0)[1] == 0

dsn = sys.argv[1]
backend = store(dsn)
"""


def run(script: str, dsn: str, *, before: str = "") -> str:
    """What the script prints; a process that hangs fails the test."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", before + PRELUDE + script, dsn],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (done.returncode, done.stdout, done.stderr)
    return done.stdout.strip()


@pytest.fixture
def dsn(tmp_path: Path) -> str:
    return f"chdb://{tmp_path}/chdb"


def test_records_outlive_the_process(dsn, tmp_path):
    """What one process wrote, the next one reads, whether or not the first one closed; the directory is private."""
    run("backend.open(); backend.write([trace('a')]); backend.shutdown()", dsn)
    run("backend.open(); backend.write([trace('b')])", dsn)
    assert run("print(sorted(t.id for t in backend.list().traces))", dsn) == "['a', 'b']"
    assert oct((tmp_path / "chdb").stat().st_mode) == "0o40700"


def test_second_process(dsn):
    """While one process has the directory, another one is told so in a sentence, and may try again later."""
    message = run(
        """
backend.open()
backend.write([trace("a")])
import subprocess
print(subprocess.run([sys.executable, "-c", '''
import sys
from llmspan.backends.clickhouse import ClickHouseBackend
from llmspan.settings import Settings
from llmspan.errors import RetryableError
backend = ClickHouseBackend.from_settings(Settings(clickhouse_dsn=sys.argv[1]))
for use in (backend.open, backend.list, backend.check):
    try:
        use()
    except RetryableError as error:
        print(error)
''', dsn], stdout=subprocess.PIPE, text=True, timeout=60).stdout)
assert backend.get("a")
""",
        dsn,
    )
    lines = message.splitlines()
    assert len(lines) == 3
    reason = "another process has the directory open, and one at a time can; give each process a directory of its own"
    assert set(lines) == {f"ClickHouse {dsn}: {reason}, or use a ClickHouse server"}


def test_second_directory(dsn):
    """A second directory in one process is refused with the reason; a second database in the same one is not."""
    message = run(
        """
backend.open()
other = store(dsn + "/other")
print(refusal(other.open))
beside = store(dsn + "?database=beside")
beside.open(); beside.write([trace("x")])
print(beside.get("x") is not None, backend.get("x") is None)
backend.shutdown(); beside.shutdown()
other.open(); print("open")
""",
        dsn,
    )
    refusal, *rest = message.splitlines()
    assert refusal.startswith(f"SettingsError: LLMSPAN_CLICKHOUSE_DSN={dsn}/other: this process has another engine dir")
    assert refusal.endswith("use one DSN in all of the process, or a ClickHouse server")
    assert rest == ["True True", "open"]


def test_forked_child(dsn):
    """A forked child of a process with an engine gets one clear error, ends as it should, and the parent goes on."""
    message = run(
        """
backend.open()
backend.write([trace("before")])
fresh = store(dsn)
def use():
    for one in (backend, fresh):
        print(refusal(one.open)); print(refusal(lambda: one.write([trace("child")]))); print(refusal(one.list))
    backend.shutdown()
child(use)
backend.write([trace("after")])
print(sorted(t.id for t in backend.list().traces))
""",
        dsn,
    )
    *refusals, ids = message.splitlines()
    assert len(refusals) == 6
    (refusal,) = set(refusals)
    assert refusal.startswith(f"SettingsError: LLMSPAN_CLICKHOUSE_DSN={dsn}: this process is a fork of one that had")
    assert refusal.endswith("; use a ClickHouse server, or make the first call after the fork")
    assert ids == "['after', 'before']"


def test_fork_before_the_first_use(dsn):
    """A child that is forked before the engine was started has it for itself."""
    script = """
def use():
    backend.open(); backend.write([trace("child")]); backend.shutdown()
child(use)
print(backend.get("child") is not None)
"""
    assert run(script, dsn) == "True"


def test_fork_while_others_write(dsn):
    """Forks while threads write and read lose nothing, and no child hangs."""
    script = """
backend.open()
stop = threading.Event()
written = []
def work(name):
    for at in range(10_000):
        if stop.is_set(): return
        backend.write([trace(f"{name}-{at}")]); written.append(f"{name}-{at}")
        backend.list(limit=2)
threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
for thread in threads: thread.start()
for _ in range(5):
    child(lambda: None)
    process = multiprocessing.get_context("fork").Process(target=print, args=("",)); process.start(); process.join()
    assert process.exitcode == 0
stop.set()
for thread in threads: thread.join()
assert sorted(t.id for t in backend.list(limit=10_000).traces) == sorted(written)
print("all there", len(written) > 0)
"""
    assert run(script, dsn).splitlines()[-1] == "all there True"


def test_end_with_work_going_on(dsn):
    """A process that ends without closing, with a daemon thread in the engine, ends with its own code."""
    script = """
backend.open()
begun = threading.Event()
def work():
    at = 0
    while True:
        backend.write([trace(str(at))]); at += 1; begun.set()
threading.Thread(target=work, daemon=True).start()
begun.wait()
"""
    run(script, dsn)


def test_used_when_all_is_over(dsn):
    """An exit handler that runs after the engine was closed for good gets an error, and does not hang."""
    script = """
def late():
    print(refusal(backend.list)); backend.shutdown()
"""
    late = "import atexit\natexit.register(lambda: late())\n"
    message = run(script + "backend.open()", dsn, before=late)
    assert message.startswith("RetryableError: ")
    assert message.endswith("the process is exiting and its engine is closed")


@pytest.mark.parametrize("place", ["/proc/nope", "file/in"])
def test_bad_directory(tmp_path, place):
    """A directory that cannot be made or written to is a matter of the settings, said in a sentence."""
    (tmp_path / "file").touch()
    message = run("print(refusal(backend.open))", f"chdb://{tmp_path / place}")
    assert message.startswith(f"SettingsError: LLMSPAN_CLICKHOUSE_DSN=chdb://{tmp_path / place}: ")
    assert message.endswith("name a directory that this user may write to")
    assert "\n" not in message


@pytest.mark.skipif(clickhouse.SERVER is not None, reason="the front is not the server that was named")
def test_server_and_fork():
    """A child of a process that talks to a server talks to it, too, on connections of its own."""
    script = """
backend.open()
backend.write([trace("before")])
def use():
    backend.write([trace("child")])
    assert backend.get("before")
    backend.shutdown()
child(use)
backend.write([trace("after")])
print(sorted(t.id for t in backend.list().traces))
"""
    assert run(script, clickhouse.server_dsn()) == "['after', 'before', 'child']"
