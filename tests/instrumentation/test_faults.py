"""Every hook of ours made to raise: the program goes on as if we were not there; one log line, and a count.

The hooks are found in the code: each ``guarded(place, ...)`` of the package is broken in turn, at once and at its end.
A new one is tested as soon as it is there; if :func:`program` does not come by it, the test says so.
"""

from __future__ import annotations

import ast
import functools
import gc
import importlib
import pkgutil
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor

import llmspan
from fault_program import program
from llmspan import _guard, defects, pipeline
from llmspan.content import Policy
from llmspan.errors import RetryableError
from llmspan.exporter import SQLiteSpanExporter
from llmspan.instrumentation import Capture, Observer
from llmspan.instrumentation.anthropic import PROVIDER as ANTHROPIC
from llmspan.instrumentation.openai import PROVIDER as OPENAI
from llmspan.metrics import CallMetrics
from llmspan.pipeline.delivery import Delivery
from llmspan.redaction import Redactor
from llmspan.settings import Settings
from records import make_trace
from scripted import Ready, Scripted, pipeline_to, raising, until

ROOT = Path(__file__).parents[2]
SSE = {"content-type": "text/event-stream"}

#: rooms that no call to a provider comes by: processes and senders of their own
BESIDE = ("llmspan.cli", "llmspan.otlp", "llmspan.sidecar")

#: without these, the usage chunk that we asked for cannot be kept back any more, and reaches the caller
HIDING = {"stream", "stream.hides"}

#: places that note what they have caught themselves -> what raises there
NOTED = {
    "batch.decompress": ("llmspan.instrumentation._batch.decoding", lambda _: _raising(ValueError)),
    "body.decompress": ("llmspan.instrumentation._body._decoder", lambda _: _raising(ValueError)),
    "content.redact": ("llmspan.redaction.Redactor.__call__", lambda *_: _raising(RuntimeError)()),
    "pipeline.delivery": ("llmspan.pipeline.delivery.Delivery._step", lambda delivery: _fails_once(delivery)),
    "pipeline.worker": ("llmspan.pipeline.Pipeline._make_record", lambda *_: _raising(RuntimeError)()),
}


def sites() -> dict[str, set[str]]:
    """Each guarded place in the package, by its name (``*`` for what varies) -> the modules that it is in."""
    found: dict[str, set[str]] = {}
    for info in pkgutil.walk_packages(llmspan.__path__, "llmspan."):
        if info.name.startswith(("llmspan._guard", *BESIDE)) or info.name.endswith("__main__"):
            continue
        source = importlib.util.find_spec(info.name).origin  # type: ignore[union-attr]
        for node in ast.walk(ast.parse(Path(source or "").read_text())):
            if isinstance(node, ast.Call) and (place := _place(node)):
                found.setdefault(place, set()).add(info.name)
    return found


def _place(call: ast.Call) -> str | None:
    """The place that a call to the guard names, directly or by ``partial``."""
    names = [word.id for word in (call.func, *call.args[:1]) if isinstance(word, ast.Name)]
    called = call.func.attr if isinstance(call.func, ast.Attribute) else names[0] if names else ""
    if not (called in ("guarded", "note") or (called == "partial" and "guarded" in names)):
        return None
    for word in call.args:
        if isinstance(word, ast.Constant) and isinstance(word.value, str):
            return word.value
        if isinstance(word, ast.JoinedStr):
            return "".join(part.value if isinstance(part, ast.Constant) else "*" for part in word.values)
    return None


SITES = sites()
_STEP = Delivery._step


class FaultError(Exception):
    """What our hooks are made to raise."""


def break_place(place: str, when: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the function that is guarded at ``place`` raise, at once or when it is done."""
    if place in NOTED:
        monkeypatch.setattr(*NOTED[place])
        return

    def guarded(name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        def broken(*args: Any, **kwargs: Any) -> None:
            if when == "at its end":
                function(*args, **kwargs)
            raise FaultError(place)

        return _guard.guarded(name, broken if fnmatch(name, place) else function, *args, **kwargs)

    for module in SITES[place]:
        monkeypatch.setattr(f"{module}.guarded", guarded)


def _fails_once(delivery: Delivery) -> None:
    delivery._step = functools.partial(_STEP, delivery)  # type: ignore[method-assign]
    raise RuntimeError("broken for a test")


def _raising(kind: type[Exception]) -> Callable[..., None]:
    def raising(*_: Any) -> None:
        raise kind("broken for a test")

    return raising


def observed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The program with all of us around it: hooks, exporter, pipeline, spool; then once more with no room anywhere."""
    seen: list[Any] = []
    spooled = Settings(spool_dir=folder / "spool")
    for settings, native in ((spooled, "suppress"), (Settings(queue_max_bytes=1), "both")):
        line = pipeline.Pipeline()
        line.configure(settings)
        monkeypatch.setattr(pipeline, "shared", lambda line=line: line)
        provider = TracerProvider(shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(SQLiteSpanExporter(str(folder / "traces.db"))))
        observer = Observer(sink=line, tracer=provider.get_tracer("llmspan"), anthropic_native=native)
        observer.policy = Policy(redact=Redactor(function=lambda value: value))
        observer.capture = Capture.of("SPAN_AND_EVENT", Policy())
        observer.logger, observer.metrics = LoggerProvider(shutdown_on_exit=False).get_logger("llmspan"), CallMetrics()
        hooks = [sdk.instrument(observer) for sdk in (OPENAI, ANTHROPIC)]
        gc.freeze()  # collections have to look at the program's objects only
        try:
            seen.append(program())
            with provider.get_tracer("other").start_as_current_span("chat m") as span:
                span.set_attributes({"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"})
        finally:
            for hook in hooks:
                hook.remove()
            line.flush(30)
            gc.collect()  # what was held by calls that had no record yet
            gc.unfreeze()
            line.close(30)
    return seen


def leave_something(spool: Path) -> None:
    """A process that ended while its store was away, and left a record in its spool."""
    gone = Scripted(*[raising(RetryableError("away"))] * 100)
    line = pipeline_to(gone, spool_dir=spool)
    line.accept(Ready(make_trace()))
    until(lambda: line.status()[0].spooled == 1)
    line.close(0.1)


@pytest.fixture(scope="module")
def bare() -> list[Any]:
    """What the program sees without us."""
    return program()


@pytest.mark.parametrize("place", sorted(SITES))
@pytest.mark.parametrize("when", ["at once", "at its end"])
def test_a_hook_that_raises(
    place: str, when: str, bare: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """The program sees what it sees without us; the place is told once, with a traceback, and counted each time."""
    reader = InMemoryMetricReader()
    defects.register(MeterProvider(metric_readers=[reader], shutdown_on_exit=False))
    _guard.forget_failures()
    leave_something(tmp_path / "spool")
    caplog.clear()
    break_place(place, when, monkeypatch)
    for seen in observed(tmp_path, monkeypatch):
        if place not in HIDING:
            assert seen == bare
        assert [one for one in seen if one in bare] == bare
    failures = _guard.failures()
    _guard.forget_failures()
    assert failures, f"no call of program() comes by {place}: add one"
    others = {"batch.decompress"} if place == "body.decompress" else set()  # they share a decoder
    assert all(fnmatch(name, place) for name in failures.keys() - others)
    lines = [record for record in caplog.records if record.name == "llmspan" and "internal error" in record.message]
    assert sorted(record.args[0] for record in lines) == sorted(failures)
    assert all(record.exc_info for record in lines)
    assert all(count >= 1 for count in failures.values())


def test_the_count_is_a_metric() -> None:
    """``llmspan.internal.errors`` says how often each place has failed, to any meter provider."""
    reader = InMemoryMetricReader()
    defects.register(MeterProvider(metric_readers=[reader], shutdown_on_exit=False))
    _guard.forget_failures()
    for error in (FaultError(), FaultError()):
        _guard.note("here", error)
    (metric,) = reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics  # type: ignore[union-attr]
    _guard.forget_failures()
    (point,) = metric.data.data_points
    assert (metric.name, metric.unit) == ("llmspan.internal.errors", "{error}")
    assert (point.attributes, point.value) == ({"llmspan.place": "here"}, 2)


def test_no_place_is_overlooked() -> None:
    """The walk over the code finds the places, and the tables name no others."""
    assert {"request.begin", "stream", "stream.hides", "hooks.*", "body.decompress"} <= SITES.keys()
    assert NOTED.keys() <= SITES.keys()
