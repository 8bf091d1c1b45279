"""What other instrumentations cost in time, in memory and to install, as far as it can be told without a clock."""

from __future__ import annotations

import gc
import sys
import threading
from importlib.metadata import entry_points, requires, version
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON
from packaging.requirements import Requirement
from packaging.version import Version

import llmspan
from llmspan.content import ContentPolicy
from llmspan.instrumentation.body import TRIM_INTERVAL
from llmspan.redaction import Redactor
from replay import client_for, transport
from streams import CHAT, MESSAGES, RESPONSES, Api
from watching import Watch, watching

SSE = {"content-type": "text/event-stream"}
OURS = str(Path(llmspan.__file__).parent)
#: what a chunk costs: the tee and the frame around the SDK's generator are resumed, each once; and where we have asked
#: for the usage of a chat stream, a guarded look whether this is the chunk to keep back
STEPS = {"chat": 4, "responses": 2, "messages": 2}
#: what is done every so often, for so many chunks together: their bytes are counted, and they are joined
STEPS_AT_TIMES = 4
#: so many chunks are looked at, once the first output has come
WINDOW = 10 * TRIM_INTERVAL
apis = pytest.mark.parametrize("api", [CHAT, RESPONSES, MESSAGES], ids=lambda api: api.name)


def long(api: Api) -> list[bytes]:
    """A stream of more than a thousand pieces."""
    words = api.stream[api.first_output : api.first_output + 4]
    return [*api.stream[: api.first_output], *words * 300, *api.stream[api.first_output + 4 :]]


def stream_of(api: Api) -> Any:
    return api.method(client_for(api.provider, transport(200, SSE, long(api))))(**api.arguments, stream=True)


def calls_of_ours(stream: Any, chunks: int) -> int:
    """How often a function of ours is called, or a generator of ours resumed, while so many chunks are read."""
    found: list[str] = []

    def look(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(OURS):
            found.append(frame.f_code.co_qualname)

    before = sys.getprofile()
    gc.disable()  # other tests' streams may be waiting for a collection
    sys.setprofile(look)
    try:
        for _ in islice(stream, chunks):
            pass
    finally:
        sys.setprofile(before)
        gc.enable()
    return len(found)


@pytest.mark.peer_fault("M2")
@apis
def test_a_chunk_is_handed_on_and_nothing_else(api: Api, watch: Watch) -> None:
    """Five peers read, dump or accumulate each chunk again. Ours costs the same few steps, however long it goes on."""
    stream = stream_of(api)
    _, early, _, late = (calls_of_ours(stream, chunks) for chunks in (3 * TRIM_INTERVAL, WINDOW, 300, WINDOW))
    assert early == late
    assert early <= WINDOW * STEPS[api.name] + STEPS_AT_TIMES * WINDOW / TRIM_INTERVAL
    stream.close()


@pytest.mark.peer_fault("M3")
@apis
def test_a_span_that_is_not_sampled_costs_no_more(api: Api) -> None:
    """Traceloop, OpenInference, official: the same work per chunk for spans that nobody will see."""
    found: list[int] = []
    for sampler in (ALWAYS_ON, ALWAYS_OFF):
        with watching(sampler=sampler):
            stream = stream_of(api)
            calls_of_ours(stream, 10)
            found.append(calls_of_ours(stream, WINDOW))
            stream.close()
    sampled, unsampled = found
    assert unsampled <= sampled


@pytest.mark.peer_fault("M4")
@apis
def test_an_open_stream_holds_what_came(api: Api, watch: Watch) -> None:
    """Langfuse, MLflow, LangSmith, Braintrust hold ten times the bytes; ours are the bytes, and a few times."""
    stream = stream_of(api)
    for _ in islice(stream, 1000):
        pass
    (call,) = watch.observer.open_calls.values()
    assert call.body is not None
    assert {type(piece) for piece in call.body.pieces} == {bytes}
    assert sum(map(len, call.body.pieces)) <= sum(map(len, long(api)))
    assert len(call.body.times) < 100
    stream.close()


@pytest.mark.peer_fault("U9")
@apis
def test_payloads_are_not_made_on_the_callers_thread(api: Api) -> None:
    """The official utilities encode all messages while the caller waits; ours are looked at when the record is made."""
    seen: list[int] = []

    def look(value: Any) -> Any:
        seen.append(threading.get_ident())
        return value

    with watching(policy=ContentPolicy(redact=Redactor(function=look))) as watch:
        list(stream_of(api))
        assert seen == []
        worker = threading.Thread(target=lambda: watch.records)
        worker.start()
        worker.join()
    assert seen
    assert threading.get_ident() not in seen


def needed() -> list[Requirement]:
    """What an installation without extras asks for."""
    found = [Requirement(text) for text in requires("llmspan") or ()]
    return [one for one in found if one.marker is None or one.marker.evaluate({"extra": ""})]


@pytest.mark.peer_fault("I1")
def test_nothing_is_kept_out() -> None:
    """OpenLIT bounds the SDKs and Logfire OpenTelemetry from above, and pip refuses what is new."""
    bounds = [bound for text in requires("llmspan") or () for bound in Requirement(text).specifier]
    assert {bound.operator for bound in bounds} == {">="}


@pytest.mark.peer_fault("I2")
def test_nothing_is_asked_for_that_is_new() -> None:
    """Logfire, Braintrust ask for a certifi that mirrors lack. We ask for six packages, none of the newest."""
    names = {"opentelemetry-api", "opentelemetry-sdk", "opentelemetry-instrumentation", "wrapt", "click", "rich"}
    assert {one.name for one in needed()} == names
    newest = {one.name: Version(version(one.name)) for one in needed()}
    assert all(Version(bound.version) < newest[one.name] for one in needed() for bound in one.specifier)


@pytest.mark.peer_fault("K8")
def test_the_instrumentors_names_are_ours_alone() -> None:
    """Official and Traceloop are both called `openai`: who switches one off, switches both off."""
    points = entry_points(group="opentelemetry_instrumentor")
    ours = {point.name for point in points if point.value.startswith("llmspan.")}
    assert ours == {"llmspan_anthropic", "llmspan_google_genai", "llmspan_openai"}
    assert sum(point.name in ours for point in points) == len(ours)
