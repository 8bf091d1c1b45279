"""The guarded places that no call to a provider comes by, each made to raise: what is around them goes on."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from breaking import BESIDE, break_place, internal_errors
from llmspan import _guard
from llmspan.backends.memory import MemoryBackend
from llmspan.backends.socket import SocketBackend
from llmspan.errors import PermanentError, RetryableError
from llmspan.otlp import OTLPSpanExporter, SizeLimitedSpanExporter
from llmspan.pipeline.shutdown_hooks import _ExitHooks
from llmspan.span_record import SpanRecord
from records import make_trace
from stores import shutting_down
from stores.sidecar import RunningSidecar, short_directory


class Sent(SpanExporter):
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.spans += spans
        return SpanExportResult.SUCCESS


def spans() -> list[ReadableSpan]:
    """One that is too large, between others."""
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("app")
    made: list[Any] = [tracer.start_span(name, attributes={"text": "x" * 9000 * (name == "b")}) for name in "abc"]
    for span in made:
        span.end()
    return made


def cuts_a_span(when: str) -> None:
    """A span that cannot be cut is sent as it is, as are the others, and the batch has been sent."""
    sent = Sent()
    assert SizeLimitedSpanExporter(sent, max_span_bytes=4000).export(spans()) is SpanExportResult.SUCCESS
    assert [(span.name, len((span.attributes or {})["text"])) for span in sent.spans] == [
        ("a", 0),
        ("b", 9000),
        ("c", 0),
    ]


def makes_an_exporter(when: str) -> None:
    """An exporter that cannot be made fails each batch, raises nothing and can be shut down."""
    exporter = OTLPSpanExporter()
    assert [exporter.export(spans()) for _ in range(2)] == [SpanExportResult.FAILURE] * 2
    assert exporter.force_flush()
    exporter.shutdown()


@contextmanager
def sidecar(store: MemoryBackend) -> Iterator[Callable[[], SocketBackend]]:
    """A sidecar that writes to ``store``, and what makes senders to it."""
    with short_directory() as directory:
        running = RunningSidecar(directory / "s.sock", store)
        try:
            yield lambda: SocketBackend(directory / "s.sock")
        finally:
            assert running.stop()


def talks_to_senders(when: str) -> None:
    """A sender that the sidecar fails is told nothing wrong and sends again, as does the next; each record is there."""
    store = MemoryBackend()
    with sidecar(store) as sender:
        for batch in (["a", "b"], ["c"]):
            with shutting_down(sender()) as backend:
                send(backend, batch, attempts=2)
    assert list(store.ids_with_prefix("", 9)) == ["a", "b", "c"]


def send(backend: SocketBackend, ids: list[str], attempts: int) -> None:
    """Write as a delivery does, which tries again what may be tried again."""
    try:
        backend.open()
        backend.write([make_trace(id=name) for name in ids])
    except RetryableError:
        assert attempts > 1
        send(backend, ids, attempts - 1)


def reads_records(when: str) -> None:
    """A record that the sidecar fails to read is refused, with a reason; those behind it are stored."""
    store = MemoryBackend()
    with sidecar(store) as sender, shutting_down(sender()) as backend:
        backend.open()
        with pytest.raises(PermanentError, match=r"record a: refused .* its log says why"):
            backend.write([make_trace(id=name) for name in "abc"])
    assert list(store.ids_with_prefix("", 9)) == ["b", "c"]


def stored_spans(store: MemoryBackend) -> list[str]:
    return [span.name for span in store.spans(["1" * 32], 9)]


def cleans_spans(when: str) -> None:
    """A span that the sidecar fails to clean is not stored; the one behind it is."""
    store = MemoryBackend()
    with sidecar(store) as sender, shutting_down(sender()) as backend:
        backend.open()
        backend.write_spans([span_record(name) for name in "ab"])
    assert stored_spans(store) == ["b"]


def asks_for_spans(when: str) -> None:
    """A store that fails to say whether it keeps spans is sent none; its records are stored."""
    store = MemoryBackend()
    with sidecar(store) as sender, shutting_down(sender()) as backend:
        send(backend, ["a"], attempts=1)
        assert not backend.keeps_spans
    assert list(store.ids_with_prefix("", 9)) == ["a"]


def span_record(name: str) -> SpanRecord:
    return SpanRecord(trace_id="1" * 32, span_id=f"{ord(name):016x}", name=name, started_at=1, duration_ns=1)


def ends_a_server(when: str) -> None:
    """A uvicorn server that a signal has stopped raises that signal again, whatever becomes of our exit work."""

    class Server:
        """As much of uvicorn's as our hook needs."""

        _captured_signals = (signal.SIGTERM,)

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            yield
            ends.append("raised again")

        async def shutdown(self) -> None:
            pass

    ends: list[str] = []
    _ExitHooks(lambda: ends.append("exit work"), lambda: None).watch_uvicorn(SimpleNamespace(Server=Server))
    with Server().capture_signals():
        pass
    assert ends == (["raised again"] if when == "at once" else ["exit work", "raised again"])


SCENES: dict[str, Callable[[str], None]] = {
    "otlp.cut": cuts_a_span,
    "otlp.exporter": makes_an_exporter,
    "pipeline.exit": ends_a_server,
    "sidecar.record": reads_records,
    "sidecar.sender": talks_to_senders,
    "sidecar.span": cleans_spans,
    "sidecar.spans": asks_for_spans,
}


def test_every_place_has_a_scene() -> None:
    """No place beside the way of a call is left out; commands have none, they say what is wrong and exit."""
    assert SCENES.keys() == BESIDE


@pytest.mark.parametrize("place", sorted(SCENES))
@pytest.mark.parametrize("when", ["at once", "at its end"])
def test_a_place_that_raises(
    place: str, when: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What is around the place does what its scene says; the place is told once, with a traceback, and counted."""
    _guard.reset_error_counts()
    break_place(place, when, monkeypatch, only_first=place.startswith("sidecar"))
    SCENES[place](when)
    failures = _guard.failures()
    _guard.reset_error_counts()
    assert failures == {place: 1}
    assert internal_errors(caplog) == [place]
