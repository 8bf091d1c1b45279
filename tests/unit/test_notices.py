"""Log lines: one per subject and minute, and never on a caller's thread."""

from __future__ import annotations

import logging
import threading

import pytest

from llmspan.pipeline.rate_limited_log import RateLimitedLog
from records import make_trace
from scripted import Ready, Scripted, pipeline_to, waiting


def test_one_line_a_subject_and_minute(caplog: pytest.LogCaptureFixture) -> None:
    """Within a minute a subject is told once; another one is told too."""
    now = [100.0]
    notices = RateLimitedLog(lambda: now[0])
    for moment in (100.0, 130.0, 159.9, 160.0):
        now[0] = moment
        notices.warning("retry", "at %s", moment)
        notices.warning("other", "other at %s", moment)
    assert caplog.messages == ["at 100.0", "other at 100.0", "at 160.0", "other at 160.0"]


def test_losses_add_up_to_what_was_lost(caplog: pytest.LogCaptureFixture) -> None:
    """What was not told within the minute is part of the next line."""
    now = [0.0]
    notices = RateLimitedLog(lambda: now[0])
    for moment, dropped in ((0.0, 0), (1.0, 3), (2.0, 5), (30.0, 9), (62.0, 10), (200.0, 10)):
        now[0] = moment
        notices.report_losses("sqlite", {"queue_full": dropped})
    assert caplog.messages == [
        "llmspan: sqlite: 3 records were dropped (queue_full)",
        "llmspan: sqlite: 7 records were dropped (queue_full)",
    ]


def test_a_log_handler_that_raises_is_the_applications() -> None:
    """A handler that raises costs the line, not the thread that tells."""

    class Broken(logging.Handler):
        def handle(self, record: logging.LogRecord) -> bool:
            raise RuntimeError("a defect of the application's")

    logger, handler = logging.getLogger("llmspan"), Broken()
    logger.addHandler(handler)
    try:
        RateLimitedLog().warning("retry", "a line")
        RateLimitedLog().error("another")
    finally:
        logger.removeHandler(handler)


def test_callers_do_not_log() -> None:
    """Records that a caller pushes out are told by another thread: the application's log handlers may block."""
    threads: set[str] = set()

    class Watching(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            threads.add(threading.current_thread().name)

    gate, reached = threading.Event(), threading.Event()
    pipeline = pipeline_to(Scripted(waiting(gate, reached)), queue_max_items=2)
    logger, handler = logging.getLogger("llmspan"), Watching()
    logger.addHandler(handler)
    try:
        pipeline.submit(Ready(make_trace()))
        assert reached.wait(30)
        for _ in range(50):
            pipeline.submit(Ready(make_trace()))
        gate.set()
        assert pipeline.flush(30)
    finally:
        logger.removeHandler(handler)
    assert pipeline.status()[0].dropped["queue_full"] > 0
    assert threads
    assert threading.current_thread().name not in threads
