"""The summary of a program: every record is in it once, under what became of it."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from llmspan.pipeline.run_summary import RunSummary
from llmspan.pipeline.shutdown_hooks import register_exit_hook
from llmspan.pipeline.statistics import BackendStatus

SPOOL = Path("/spool")


def told(*statuses: BackendStatus) -> str:
    return RunSummary().format(statuses, SPOOL).rpartition(" reasoning); ")[2]


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ({"accepted": 4, "delivered": 4}, "stored in a (x)"),
        ({"accepted": 4, "delivered": 4, "failed_writes": 9}, "stored in a (x)"),
        ({"accepted": 4, "dropped": {"shutdown": 4}}, "a (x): 0 of 4 stored, 4 lost"),
        ({"accepted": 4, "queued": 1, "dropped": {"shutdown": 3}}, "a (x): 0 of 4 stored, 4 lost"),
        ({"accepted": 4, "delivered": 2, "dropped": {"queue_full": 1, "rejected": 1}}, "a (x): 2 of 4 stored, 2 lost"),
        ({"accepted": 4, "spooled": 4}, "a (x): 0 of 4 stored, 4 waiting in /spool"),
        (
            {"accepted": 5, "spooled": 3, "recovered": 1, "dropped": {"spool_full": 2}},
            "a (x): 0 of 5 (1 of earlier programs) stored, 2 lost, 3 waiting in /spool",
        ),
        (
            {"accepted": 2, "delivered": 1, "dead_lettered": 1},
            "a (x): 1 of 2 stored, 1 refused and kept as dead letters",
        ),
        ({"accepted": 2, "delivered": 2, "without_payload": 1}, "a (x): 2 of 2 stored, 1 without payload"),
        ({}, "a (x): 0 of 0 stored"),
    ],
)
def test_what_became_of_the_records(numbers: dict[str, Any], text: str) -> None:
    """A backend that has all of them is where they are stored; of another one it is said what it has, and has not."""
    assert told(BackendStatus("a", "x", **numbers)) == text
    assert told(BackendStatus("b", "y", accepted=4, delivered=4), BackendStatus("a", "x", **numbers)) == (
        f"stored in b (y), {text.removeprefix('stored in ')}"
        if text.startswith("stored")
        else f"stored in b (y); {text}"
    )


def test_nowhere() -> None:
    """Without any backend, nothing is said to be stored."""
    assert told() == "stored nowhere"


def test_a_server_that_a_program_stops_is_not_its_end() -> None:
    """A uvicorn server in a thread, or stopped by the program, does not run what belongs to the end of the process."""
    ends: list[str] = []
    register_exit_hook(lambda: ends.append("end"), lambda: None)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise NotImplementedError

    def serve() -> None:
        server = uvicorn.Server(uvicorn.Config(app, lifespan="off", port=0, log_level="critical"))
        server.should_exit = True
        asyncio.run(server.serve())

    serve()
    thread = threading.Thread(target=serve)
    thread.start()
    thread.join()
    assert ends == []
