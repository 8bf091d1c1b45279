"""Every hook of ours made to raise: the program goes on as if we were not there; one log line, and a count.

The hooks are found in the code: each ``guarded(operation, ...)`` of the package is broken in turn, at once and at its
end. A new one is tested as soon as it is there, in the scenes of the program that come by it; if none does, the test
says so.
"""

from __future__ import annotations

import gc
import importlib
from collections.abc import Callable
from fnmatch import fnmatch
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor

from breaking import GUARDS, NOTED, ON_THE_WAY, SITES, FaultError, break_place, internal_errors
from fault_program import GOOGLE_SCENES, SCENES, program
from gemini_server import SDK_WARNINGS
from llmspan import _guard, pipeline, self_metrics
from llmspan.content import ContentPolicy
from llmspan.errors import RetryableError
from llmspan.estimate import Estimator
from llmspan.exporter import SQLiteSpanExporter
from llmspan.instrumentation import ContentCapture, Observer
from llmspan.instrumentation.anthropic import PROVIDER as ANTHROPIC
from llmspan.instrumentation.google_genai.hooks import PROVIDER as GOOGLE
from llmspan.instrumentation.openai import PROVIDER as OPENAI
from llmspan.lifecycle import _register_own_metrics
from llmspan.metrics import CallMetrics
from llmspan.redaction import Redactor
from llmspan.settings import Settings
from llmspan.span_processor import attach_processor
from polling import until
from records import make_trace
from scripted import Ready, Scripted, pipeline_to, raising
from signals import RESOURCE

pytestmark = pytest.mark.filterwarnings(*SDK_WARNINGS)
#: without these, the usage chunk that we asked for cannot be kept back any more, and reaches the caller
HIDING = {"stream", "stream.hides"}


#: what comes by the places that all calls come by
ORDINARY = [name for name in SCENES if name.endswith(" of chat")]


#: where nothing is flushed, as what was put off for later never happens: the seconds until we do not wait for it
PATIENCE = {"pipeline.defer": 1.0}


def observed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, program: Callable[[], list[Any]], patience: float = 30
) -> list[Any]:
    """The program with all of us around it: hooks, exporter, pipeline, spool; then once more with no room anywhere."""
    seen: list[Any] = []
    spooled = Settings(spool_dir=folder / "spool")
    ways = (spooled, "suppress", SimpleSpanProcessor), (Settings(queue_max_bytes=1), "both", BatchSpanProcessor)
    for settings, native, processor in ways:
        line = pipeline.Pipeline()
        line.configure(settings)
        monkeypatch.setattr(pipeline, "shared", lambda line=line: line)
        provider = TracerProvider(resource=RESOURCE, shutdown_on_exit=False)
        provider.add_span_processor(processor(SQLiteSpanExporter(str(folder / "traces.db"))))
        attach_processor(provider, settings)
        _register_own_metrics(MeterProvider(resource=RESOURCE, shutdown_on_exit=False))
        observer = Observer(sink=line, tracer=provider.get_tracer("llmspan"), anthropic_native_spans=native)
        observer.estimator = Estimator()
        observer.policy = ContentPolicy(redact=Redactor(function=lambda value: value))
        observer.capture = ContentCapture.from_mode("SPAN_AND_EVENT", ContentPolicy())
        observer.logger, observer.metrics = (
            LoggerProvider(resource=RESOURCE, shutdown_on_exit=False).get_logger("llmspan"),
            CallMetrics(),
        )
        hooks = [sdk.instrument(observer) for sdk in (OPENAI, ANTHROPIC, GOOGLE)]
        gc.collect()
        gc.freeze()  # collections have to look at the program's objects only
        try:
            seen.append(program())
            with provider.get_tracer("other").start_as_current_span("chat m") as span:
                span.set_attributes({"gen_ai.operation.name": "chat", "gen_ai.request.model": "m"})
        finally:
            for hook in hooks:
                hook.remove()
            line.flush(patience)
            provider.force_flush()
            gc.collect()  # what was held by calls that had no record yet
            line.close(patience)
            provider.shutdown()
    return seen


class Elsewhere(Scripted):
    """A store of the program's kind, at a place that it has left: what waits for it goes to where it is now."""

    name = "sqlite"


def leave_something(spool: Path) -> None:
    """A process that ended while its store was away, and left a record in its spool."""
    gone = Elsewhere(*[raising(RetryableError("away"))] * 100)
    line = pipeline_to(gone, spool_dir=spool)
    line.submit(Ready(make_trace()))
    until(lambda: line.status()[0].spooled == 1)
    line.close(0.1)


@cache
def bare(names: tuple[str, ...]) -> list[Any]:
    """What the scenes see without us."""
    return program(names)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """The places that each scene comes by, and, without a name, those around all of them."""
    come_by: dict[str, set[str]] = {"": set()}
    now = ""

    def noted(guard: str, name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        come_by[now].add(name)
        return getattr(_guard, guard)(name, function, *args, **kwargs)

    def scene_by_scene() -> list[Any]:
        nonlocal now
        for name, scene in SCENES.items():
            come_by.setdefault(name, set())
            now = name
            scene()
            gc.collect()
            pipeline.shared().flush(30)
        now = ""
        return []

    folder = tmp_path_factory.mktemp("places")
    leave_something(folder / "spool")
    with pytest.MonkeyPatch.context() as patch:
        for module, guard in product(set().union(*SITES.values()), GUARDS):
            if hasattr(importlib.import_module(module), guard):
                patch.setattr(f"{module}.{guard}", partial(noted, guard))
        observed(folder, patch, scene_by_scene)
    return come_by


def scenes_by(place: str, places: dict[str, set[str]]) -> tuple[str, ...]:
    """The scenes that come by a place, and an ordinary call after them."""
    names = [name for name, come_by in places.items() if name and any(fnmatch(one, place) for one in come_by)]
    # what others come by, too, is broken under them
    names = [name for name in names if name not in GOOGLE_SCENES] or names
    is_everywhere = not names or len(names) >= len(SCENES) - len(GOOGLE_SCENES)
    return (*(ORDINARY if is_everywhere else names), "reads_a_response of chat")


@pytest.mark.parametrize("place", sorted(ON_THE_WAY))
@pytest.mark.parametrize("when", ["at once", "at its end"])
@pytest.mark.peer_fault("U5")
def test_a_hook_that_raises(
    place: str, when: str, places: dict[str, set[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    """The program sees what it sees without us; the place is told once, with a traceback, and counted each time."""
    names = scenes_by(place, places)
    expected = bare(names)
    reader = InMemoryMetricReader()
    self_metrics.register(MeterProvider(metric_readers=[reader], resource=RESOURCE, shutdown_on_exit=False))
    _guard.reset_error_counts()
    leave_something(tmp_path / "spool")
    caplog.clear()
    break_place(place, when, monkeypatch)
    for seen in observed(tmp_path, monkeypatch, partial(program, names), PATIENCE.get(place, 30)):
        if place not in HIDING:
            assert seen == expected
        assert [one for one in seen if one in expected] == expected
    failures = _guard.failures()
    _guard.reset_error_counts()
    assert failures, f"no scene comes by {place}: add one"
    assert all(fnmatch(name, place) for name in failures)
    assert sorted(internal_errors(caplog)) == sorted(failures)
    assert all(count >= 1 for count in failures.values())


def test_the_count_is_a_metric() -> None:
    """``llmspan.internal.errors`` says how often each place has failed, to any meter provider."""
    reader = InMemoryMetricReader()
    self_metrics.register(MeterProvider(metric_readers=[reader], resource=RESOURCE, shutdown_on_exit=False))
    _guard.reset_error_counts()
    for error in (FaultError(), FaultError()):
        _guard.report_internal_error("here", error)
    (metric,) = reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics  # type: ignore[union-attr]
    _guard.reset_error_counts()
    (point,) = metric.data.data_points
    assert (metric.name, metric.unit) == ("llmspan.internal.errors", "{error}")
    assert (point.attributes, point.value) == ({"llmspan.place": "here"}, 2)


def test_no_place_is_overlooked() -> None:
    """The walk over the code finds the places, and the tables name no others."""
    assert {"request.begin", "stream", "stream.hides", "hooks.*", "record.decode"} <= ON_THE_WAY
    assert NOTED.keys() <= ON_THE_WAY
