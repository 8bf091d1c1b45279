"""Ready-made records and backends that do what a script says, for tests of the pipeline."""

from __future__ import annotations

import resource
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from llmspan.backends.memory import MemoryBackend
from llmspan.errors import RetryableError
from llmspan.pipeline import BackendStatus, Pipeline
from llmspan.settings import Settings
from llmspan.trace import ProviderTrace
from records import make_trace


class Ready:
    """A pending record that is ready-made."""

    def __init__(self, trace: ProviderTrace, size: int = 3000) -> None:
        self.trace = trace
        self.size = size
        self.is_payload_dropped = False

    def build(self) -> ProviderTrace:
        return self.trace

    def publish(self, record: ProviderTrace) -> None:
        """Nothing."""

    def drop_payload(self) -> None:
        self.is_payload_dropped = True
        self.size = 100


class Scripted(MemoryBackend):
    """A memory backend whose writes first do what a script says."""

    def __init__(self, *script: Callable[[Sequence[ProviderTrace]], None], place: str = "here") -> None:
        super().__init__()
        self.script = list(script)
        self.place = place
        self.batches: list[int] = []
        self.closed = False

    @property
    def location(self) -> str:
        return self.place

    def write(self, traces: Sequence[ProviderTrace]) -> None:
        self.batches.append(len(traces))
        if self.script:
            self.script.pop(0)(traces)
        super().write(traces)

    def shutdown(self) -> None:
        self.closed = True


class Away(Scripted):
    """A store that is down; it notes what it was asked to take."""

    def __init__(self, place: str = "here") -> None:
        super().__init__(place=place)
        self.asked: list[list[str]] = []

    def write(self, traces: Sequence[ProviderTrace]) -> None:
        self.asked.append([trace.id for trace in traces])
        raise RetryableError("connection refused")


class Noting(Scripted):
    """A store that notes which batches it got."""

    def __init__(self, place: str = "here") -> None:
        super().__init__(place=place)
        self.asked: list[list[str]] = []

    def write(self, traces: Sequence[ProviderTrace]) -> None:
        self.asked.append([trace.id for trace in traces])
        super().write(traces)


def raising(error: Exception) -> Callable[[Sequence[ProviderTrace]], None]:
    def step(_: Sequence[ProviderTrace]) -> None:
        raise error

    return step


def waiting(event: threading.Event, reached: threading.Event | None = None) -> Callable[[Any], None]:
    def step(_: Sequence[ProviderTrace]) -> None:
        if reached is not None:
            reached.set()
        event.wait(30)

    return step


def leave(pipeline: Pipeline) -> None:
    """Close a pipeline whose records still wait, and see its spool closed: the next pipeline is to find it."""
    assert not pipeline.close(0.01)
    assert pipeline.wait_until_spooled(30)  # on a busy machine the worker closes it later


def pipeline_to(*backends: MemoryBackend, **settings: Any) -> Pipeline:
    pipeline = Pipeline()
    pipeline.configure(Settings(**settings))
    for backend in backends:
        assert pipeline.add(backend)
    return pipeline


def identity_holds(status: BackendStatus) -> bool:
    """Every record is in exactly one place, and no place has fewer than none."""
    places = [status.delivered, status.queued, status.spooled, status.dead_lettered, *status.dropped.values()]
    return status.accepted == sum(places) and min(places) >= 0


def only(pipeline: Pipeline) -> BackendStatus:
    """What became of the records of the one backend; every one is accounted for."""
    (status,) = pipeline.status()
    assert identity_holds(status)
    return status


def submit(pipeline: Pipeline, number: int, **fields: Any) -> list[str]:
    traces = [make_trace(**fields) for _ in range(number)]
    for trace in traces:
        pipeline.submit(Ready(trace))
    return [trace.id for trace in traces]


def ids_in(backend: MemoryBackend) -> set[str]:
    return {trace.id for trace in backend.list(limit=100_000).traces}


@contextmanager
def file_limit(size: int) -> Iterator[None]:
    """A disk on which no file grows beyond ``size``."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
