"""What runs under Valgrind for ``instructions.py``: each call bare and observed, warm, between marks.

A mark's name is ``surface|chunks|way|thread kind|repetition``: first what the caller's thread did during the call, then
what the other threads did until all was written.
"""

from __future__ import annotations

import gc
import json
import sys
import threading
from collections.abc import Callable

import llmspan
from llmspan import pipeline
from observed import WAYS, Observed, switch
from sdk_calls import surfaces
from valgrind_marks import Marks

#: so that the interpreter has specialised the code, and everything that is made once has been made
_WARM_UNARY, _WARM_STREAM = 30, 12


def main() -> None:
    asked = json.loads(sys.argv[1])
    sys.setswitchinterval(60)  # the worker waits until the caller is through, instead of in the middle of it
    marks = Marks()
    with switch() as observed:
        for surface in surfaces(asked["only"]):
            for chunks in asked["chunks"] if surface.is_stream else (0,):
                call = surface.call(chunks)
                warm = _WARM_STREAM if surface.is_stream else _WARM_UNARY
                for name in asked["stream_ways" if surface.is_stream else "ways"]:
                    _set(observed, name)
                    _count(marks, call, warm, f"{surface.name}|{chunks}|{name}", asked["repeat"])


def _set(observed: Observed, name: str) -> None:
    if name == "bare":
        observed.off()
    else:
        observed.on(next(way for way in WAYS if way.name == name))


def _count(marks: Marks, call: Callable[[], None], warm: int, name: str, repeat: int) -> None:
    for _ in range(warm):
        call()
    llmspan.flush(60)
    gc.collect()
    gc.disable()  # a collection costs whom it happens to come to
    marks.start()
    for n in range(repeat):
        _on_worker(lambda: marks.dump("before"))
        marks.zero()
        call()
        marks.dump(f"{name}|caller|{n}")
        llmspan.flush(60)
        _on_worker(lambda n=n: marks.dump(f"{name}|worker|{n}"))
    marks.stop()
    gc.enable()


def _on_worker(function: Callable[[], None]) -> None:
    """A mark is of the thread that makes it."""
    line, done = pipeline.shared(), threading.Event()
    line.ensure_started()
    line.defer(lambda: (function(), done.set()))
    done.wait()


if __name__ == "__main__":
    main()
