"""Locks, threads and waits that do not depend on what gevent or eventlet have replaced."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from importlib.util import find_spec

import pytest

from llmspan import _native
from llmspan._native import Condition, Event, Lock, SerialExecutor, Thread, cooperative_sleep


def test_functions_run_in_their_order() -> None:
    """Each is called once, by whoever brings it when nobody is inside."""
    executor, called = SerialExecutor(), list[int]()
    for number in range(5):
        executor.execute(lambda number=number: called.append(number))
    assert called == [0, 1, 2, 3, 4]


def test_who_is_inside_does_the_work_of_others() -> None:
    """A second thread returns at once, and the first one calls its function."""
    executor, called, inside, go_on = SerialExecutor(), list[object](), threading.Event(), threading.Event()

    def first() -> None:
        inside.set()
        go_on.wait(30)
        called.append(("first", threading.get_ident()))

    thread = threading.Thread(target=executor.execute, args=[first])
    thread.start()
    inside.wait(30)
    executor.execute(lambda: called.append(("second", threading.get_ident())))
    assert called == []
    go_on.set()
    thread.join()
    assert called == [("first", thread.ident), ("second", thread.ident)]


def test_a_signal_handler_that_comes_in_between() -> None:
    """It interrupts the thread that is inside, and does not wait for it."""
    executor, called = SerialExecutor(), list[str]()
    before = signal.signal(signal.SIGUSR1, lambda *_: executor.execute(lambda: called.append("handler")))
    try:

        def interrupted() -> None:
            signal.raise_signal(signal.SIGUSR1)
            called.append("interrupted")

        executor.execute(interrupted)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert called == ["interrupted", "handler"]


def test_functions_that_came_while_it_was_held() -> None:
    """Whoever kept others out does their work when he leaves, and sees it done when he enters."""
    executor, called = SerialExecutor(), list[int]()
    with executor:
        executor.execute(lambda: called.append(1))
        assert called == []
    assert called == [1]


def test_nothing_is_lost_between_threads() -> None:
    """Many threads at once: every function is called, and never two at a time."""
    executor, total = SerialExecutor(), [0]

    def add() -> None:
        value = total[0]
        time.monotonic()  # where the interpreter may switch
        total[0] = value + 1

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=lambda: [executor.execute(add) for _ in range(2000)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert total == [8000]


def test_a_condition_wakes_all() -> None:
    """All who wait go on, and time that is over ends a wait."""
    condition, done, go = Condition(), list[int](), list[int]()

    def wait() -> None:
        with condition.lock:
            condition.wait_for(lambda: bool(go))
            done.append(1)

    threads = [Thread(wait, "waiting") for _ in range(3)]
    with condition.lock:
        assert not condition.wait_for(lambda: bool(go), 0.001)
        go.append(1)
        condition.notify_all()
    assert all(thread.join(30) for thread in threads)
    assert done == [1, 1, 1]
    assert not condition.is_awaited


def test_a_lock_that_is_held() -> None:
    """It is waited for as long as was said."""
    lock = Lock()
    with lock:
        assert not lock.acquire(0.001)
    assert lock.acquire(0.001)


def test_the_end_of_a_thread() -> None:
    """``join`` says whether it has come, also if the thread failed."""
    go = Event()
    thread = Thread(lambda: go.wait() and None, "llmspan-test")
    assert not thread.join(0.001)
    assert "llmspan-test" in {other.name for other in threading.enumerate()}
    go.set()
    assert thread.join(30)
    assert "llmspan-test" not in {other.name for other in threading.enumerate()}


def test_without_greenlets_nothing_is_polled() -> None:
    """A program that has imported gevent and patched nothing waits as any other."""
    program = "import gevent.monkey; from llmspan import _native; print(_native.cooperative_sleep())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "None\n"
    assert cooperative_sleep() is None


ORIGINALS = """
import sys
if sys.argv[1] == "gevent":
    from gevent import monkey; monkey.patch_all()
elif sys.argv[1] == "eventlet":
    import eventlet; eventlet.monkey_patch()
import _thread
from llmspan import _clock, _native
print(type(_native.allocate_lock()).__module__, _clock.sleep.__module__, end=" ")
print(_native.original_module("select").poll.__name__)
print((_native.cooperative_sleep() or print).__module__)
"""


@pytest.mark.parametrize("kind", ["gevent", "eventlet"])
def test_originals_after_patching(kind: str) -> None:
    """What is imported after the patch has the system's locks, sleep and poll, and the program's sleep to wait with."""
    if find_spec(kind) is None:  # not imported: eventlet would warn of every fork of later tests
        pytest.skip(f"{kind} does not support this Python")
    command = [sys.executable, "-W", "ignore", "-c", ORIGINALS, kind]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines[0] == "_thread time poll"
    assert lines[1].startswith(kind)


def test_a_module_that_is_not_there() -> None:
    """The error names it."""
    with pytest.raises(ImportError, match="no module nowhere"):
        _native.original_module("nowhere")
