"""What is done when uvicorn has shut down, where the application that it serves has set us up."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from llmspan.pipeline.shutdown_hooks import _ExitHooks


@pytest.mark.parametrize("signals", [[], [signal.SIGTERM], [signal.SIGINT]], ids=["none", "SIGTERM", "SIGINT"])
def test_what_is_queued_is_written_before_a_signal_is_raised_again(signals: list[signal.Signals]) -> None:
    """The application is imported when the server runs already: then its shutdown is the last that can be hooked.

    A server that its program has stopped ends no process.
    """
    done: list[str] = []

    class Server:
        """As much of uvicorn's as our hook needs."""

        def __init__(self) -> None:
            self._captured_signals = signals

        def capture_signals(self) -> None:
            raise AssertionError("it was entered before")

        async def shutdown(self, sockets: object = None) -> None:
            done.append(f"shut down {sockets}")

    server = Server()
    _ExitHooks(lambda: done.append("end"), lambda: done.append("flush")).watch_uvicorn(SimpleNamespace(Server=Server))
    asyncio.run(server.shutdown(sockets=1))
    assert done == ["shut down 1", *(["flush"] if signals else [])]


def test_the_deadline_of_exit_is_waited_for_once() -> None:
    """Where the set-up came first, the exit work does it all: a store that hangs does not hold up the end twice."""
    done: list[str] = []

    class Server:
        _captured_signals = (signal.SIGTERM,)

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield

        async def shutdown(self) -> None:
            done.append("shut down")

    _ExitHooks(lambda: done.append("end"), lambda: done.append("flush")).watch_uvicorn(SimpleNamespace(Server=Server))
    server = Server()
    with server.capture_signals():
        asyncio.run(server.shutdown())
    assert done == ["shut down", "end"]


def test_a_server_that_has_no_such_methods_is_left_alone() -> None:
    """Of a version that we do not know, the import does not fail."""

    class Server:
        def capture_signals(self) -> None:
            pass

    hooks = _ExitHooks(lambda: None, lambda: None)
    hooks.watch_uvicorn(SimpleNamespace(Server=Server))
    hooks.watch_uvicorn(SimpleNamespace(Server=object))
    assert not hasattr(Server, "shutdown")
