"""Wrappers of other instrumentations whose span is open but not current: their frames tell which span is the call's.

The modules here have the names and the shape of the real ones, as far as it is read: ``tests/peers`` has those.
"""

from __future__ import annotations

import asyncio
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import httpx2
import pytest

from foreign_spans import USAGE, call, inside, span_id
from llmspan.instrumentation import is_recorded
from replay import client_for, transport
from streams import CHAT, MESSAGES, json
from watching import Watch

MESSAGE = json.dumps({
    "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": "end_turn",
    "usage": {"input_tokens": 3, "output_tokens": 1},
}).encode()  # fmt: skip
#: how OpenLLMetry wraps ``messages.create``, how both wrap the stream managers, and how Langfuse wraps openai
WRAPPERS = {
    "opentelemetry.instrumentation.anthropic": """
def wrap(tracer, call):
    span = tracer.start_span("anthropic.chat", attributes={"gen_ai.operation.name": "chat"})
    response = call()
    span.end()
    return response
""",
    "opentelemetry.instrumentation.anthropic.streaming": """
class Manager:
    def __init__(self, span, call):
        self._span, self._call = span, call
    def __enter__(self):
        return self._call()

def wrap(tracer, call):
    span = tracer.start_span("anthropic.chat", attributes={"gen_ai.operation.name": "chat"})
    response = Manager(span, call).__enter__()
    span.end()
    return response
""",
    "openinference.instrumentation.anthropic._wrappers": """
from types import SimpleNamespace

class Manager:
    def __init__(self, span, call):
        self._self_with_span, self._call = SimpleNamespace(_span=span), call
    def __enter__(self):
        return self._call()

def wrap(tracer, call):
    span = tracer.start_span("messages.stream", attributes={"openinference.span.kind": "LLM"})
    response = Manager(span, call).__enter__()
    span.end()
    return response
""",
    "langfuse.openai": """
from types import SimpleNamespace

def wrap(tracer, call):
    attributes = {"langfuse.observation.type": "generation"}
    generation = SimpleNamespace(_otel_span=tracer.start_span("generation", attributes=attributes))
    response = call()
    generation._otel_span.end()
    return response
""",
}
ASYNC_WRAPPER = """
async def wrap(tracer, call):
    span = tracer.start_span("anthropic.chat", attributes={"gen_ai.operation.name": "chat"})
    response = await call()
    span.end()
    return response
"""
#: the run of a LangChain model: its span is known to a callback handler, by the id of the run
MODELS = """
def generate(call, run_managers):
    return [_generate_with_cache(call, run_manager=manager) for manager in run_managers]

def _generate_with_cache(call, run_manager):
    return call()

def stream(call, run_manager):
    yield from call()
"""


def imported(patch: pytest.MonkeyPatch, name: str, source: str) -> Any:
    module = ModuleType(name)
    exec(source, vars(module))
    patch.setitem(sys.modules, name, module)
    return module


def handler(patch: pytest.MonkeyPatch, name: str, spans: dict[int, Any]) -> Any:
    """A callback handler that knows the spans of runs, as the named instrumentation has it."""
    module = imported(patch, name, "class Handler: pass")
    made = module.Handler()
    if name.startswith("openinference."):
        made.get_span = spans.get
    else:
        made.spans = {run: SimpleNamespace(span=span) for run, span in spans.items()}
    return made


HANDLERS = pytest.mark.parametrize(
    "handlers",
    ["openinference.instrumentation.langchain._tracer", "opentelemetry.instrumentation.langchain.callback_handler"],
)
LANGCHAIN = "langchain_core.language_models.chat_models"


def embed() -> None:
    body = {"object": "list", "model": "e", "data": [], "usage": {"prompt_tokens": 7, "total_tokens": 7}}
    with client_for("openai", httpx2.MockTransport(lambda _: httpx2.Response(200, json=body))) as client:
        client.embeddings.create(model="e", input="x", encoding_format="float")


@pytest.mark.parametrize("name", WRAPPERS)
def test_the_span_of_a_wrapper_is_the_calls(name: str, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wrapper's span gets the usage and the record its ids; the next call, without a wrapper, has one of ours."""
    module = imported(monkeypatch, name, WRAPPERS[name])
    api = CHAT if "openai" in name else MESSAGES
    module.wrap(watch.tracer_provider.get_tracer("theirs"), lambda: call(api))
    call(api)
    theirs, ours = watch.spans
    assert [(span.attributes or {})[USAGE] for span in (theirs, ours)] == [api.input_tokens] * 2
    assert ours.name == f"chat {api.arguments['model']}"
    assert [record.span_id for record in watch.records] == [span_id(theirs), span_id(ours)]


@pytest.mark.parametrize("name", WRAPPERS)
def test_a_wrapper_below_a_current_span(name: str, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """A current span that stands for the call comes before what is further up; the wrapper's own takes nothing."""
    module = imported(monkeypatch, name, WRAPPERS[name])

    def below() -> None:
        with inside(watch, "current", {"gen_ai.operation.name": "chat"}):
            call(CHAT)

    module.wrap(watch.tracer_provider.get_tracer("theirs"), below)
    current, theirs = watch.spans
    assert [USAGE in (span.attributes or {}) for span in (current, theirs)] == [True, False]
    assert [record.span_id for record in watch.records] == [span_id(current)]


@pytest.mark.parametrize("name", WRAPPERS)
def test_a_second_call_below_a_wrapper(name: str, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two calls below one wrapper: the second one has a span of its own, a child of the wrapper's."""
    module = imported(monkeypatch, name, WRAPPERS[name])
    tracer = watch.tracer_provider.get_tracer("theirs")
    module.wrap(tracer, lambda: [call(CHAT), call(CHAT)])
    ours, theirs = watch.spans
    assert ours.parent is not None
    assert f"{ours.parent.span_id:016x}" == span_id(theirs)
    assert [record.span_id for record in watch.records] == [span_id(theirs), span_id(ours)]


def test_a_span_that_has_ended_before_the_request(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenLLMetry's of ``beta.messages.stream()``, with zeros: it stays as it is, and ours has the usage."""
    ended = WRAPPERS["opentelemetry.instrumentation.anthropic"].replace(
        "response = call()\n    span.end()", f'span.set_attribute("{USAGE}", 0)\n    span.end()\n    response = call()'
    )
    module = imported(monkeypatch, "opentelemetry.instrumentation.anthropic", ended)
    module.wrap(watch.tracer_provider.get_tracer("theirs"), lambda: call(MESSAGES))
    theirs, ours = watch.spans
    assert [(span.attributes or {})[USAGE] for span in (theirs, ours)] == [0, MESSAGES.input_tokens]
    assert [record.span_id for record in watch.records] == [span_id(ours)]
    assert "llmspan.record.id" not in (theirs.attributes or {})


def test_another_operation_below_a_wrapper(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wrapper of ``messages.create`` does not stand for the tokens that are counted below it."""
    name = "opentelemetry.instrumentation.anthropic"
    module = imported(monkeypatch, name, WRAPPERS[name])

    def count() -> None:
        mock = httpx2.MockTransport(lambda _: httpx2.Response(200, json={"input_tokens": 3}))
        with client_for("anthropic", mock, open_telemetry=False) as client:
            client.messages.count_tokens(model="m", messages=MESSAGES.arguments["messages"])

    module.wrap(watch.tracer_provider.get_tracer("theirs"), count)
    assert [span.name for span in watch.spans] == ["count_tokens m", "anthropic.chat"]


def test_wrappers_of_gathered_calls(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three calls at a time, all spans open: each call finds its own."""
    module = imported(monkeypatch, "opentelemetry.instrumentation.anthropic", ASYNC_WRAPPER)
    tracer = watch.tracer_provider.get_tracer("theirs")

    async def gathered() -> None:
        all_sent = asyncio.Barrier(3)

        async def answer(_: httpx2.Request) -> httpx2.Response:
            await all_sent.wait()
            return httpx2.Response(200, content=MESSAGE)

        mock = httpx2.MockTransport(answer)
        async with client_for("anthropic", mock, is_async=True, open_telemetry=False) as client:
            calls = [lambda: client.messages.create(**MESSAGES.arguments)] * 3
            await asyncio.gather(*(module.wrap(tracer, create) for create in calls))

    asyncio.run(gathered())
    assert [span.name for span in watch.spans] == ["anthropic.chat"] * 3
    assert {record.span_id for record in watch.records} == {span_id(span) for span in watch.spans}


@HANDLERS
def test_the_run_of_a_langchain_model(handlers: str, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run's span is known to the handler only; of several that are open, each call takes that of its run."""
    models = imported(monkeypatch, LANGCHAIN, MODELS)
    tracer = watch.tracer_provider.get_tracer("theirs")
    spans = {run: tracer.start_span(f"run {run}") for run in (1, 2, 3)}
    known = handler(monkeypatch, handlers, spans)
    managers = [SimpleNamespace(run_id=run, handlers=[object(), known]) for run in spans]
    models.generate(lambda: call(CHAT), managers[:2])
    list(models.stream(lambda: [call(MESSAGES)], managers[2]))
    for span in spans.values():
        span.end()
    assert [span.name for span in watch.spans] == ["run 1", "run 2", "run 3"]
    assert [record.span_id for record in watch.records] == [span_id(span) for span in spans.values()]


@HANDLERS
def test_embeddings_below_the_run_of_a_model(handlers: str, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a semantic cache asks for below a model's run is not that run's call."""
    models = imported(monkeypatch, LANGCHAIN, MODELS)
    run = watch.tracer_provider.get_tracer("theirs").start_span("run")
    manager = SimpleNamespace(run_id=1, handlers=[handler(monkeypatch, handlers, {1: run})])
    models.generate(embed, [manager])
    run.end()
    assert [(span.name, USAGE in (span.attributes or {})) for span in watch.spans] == [
        ("embeddings e", True), ("run", False),
    ]  # fmt: skip


@HANDLERS
@pytest.mark.parametrize("why", ["unknown run", "ended", "no manager"])
def test_a_run_without_an_open_span(handlers: str, why: str, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that no handler knows, whose span has ended, or that has no callbacks: the call has a span of ours."""
    models = imported(monkeypatch, LANGCHAIN, MODELS)
    run = watch.tracer_provider.get_tracer("theirs").start_span("run")
    known = handler(monkeypatch, handlers, {1: run})
    manager = SimpleNamespace(run_id=2 if why == "unknown run" else 1, handlers=[known])
    run.end()
    models.generate(lambda: call(CHAT), [None if why == "no manager" else manager])
    assert [span.name for span in watch.spans] == ["run", "chat gpt-5-mini"]


LATE = """
import time

def wrap(tracer, call, status="completed"):
    start_time = time.time_ns()
    response = call()
    if status == "completed":
        span = tracer.start_span("openai.response", start_time=start_time)
        span.set_attribute("gen_ai.usage.input_tokens", 3)
        span.set_attributes({"gen_ai.usage.output_tokens": 1, "llm.usage.total_tokens": 4, "gen_ai.request.model": "m"})
        span.end()
    return response
"""
RESPONSE = json.dumps({
    "id": "resp_1", "object": "response", "created_at": 1, "status": "completed", "model": "m", "output": [],
    "usage": {"input_tokens": 3, "output_tokens": 1, "total_tokens": 4},
}).encode()  # fmt: skip


def respond() -> None:
    with client_for("openai", transport(200, {"content-type": "application/json"}, [RESPONSE])) as client:
        client.responses.create(model="m", input="x")


@pytest.mark.parametrize("calls", [1, 2])
def test_a_span_that_is_opened_afterwards_has_no_usage(
    calls: int, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenLLMetry's span of a response comes after the call: it stays, less the usage, which is on ours."""
    module = imported(monkeypatch, "opentelemetry.instrumentation.openai.v1.responses_wrappers", LATE)
    tracer = watch.tracer_provider.get_tracer("theirs")
    for _ in range(calls):
        module.wrap(tracer, respond)
    assert [span.name for span in watch.spans] == ["chat m", "openai.response"] * calls
    assert [USAGE in (span.attributes or {}) for span in watch.spans] == [True, False] * calls
    assert dict(watch.spans[1].attributes or {}) == {"gen_ai.request.model": "m"}
    assert [record.span_id for record in watch.records] == [span_id(span) for span in watch.spans[::2]]
    assert all(is_recorded(span.context) for span in watch.spans[1::2])  # no exporter makes a second record of them


def test_late_spans_of_calls_that_are_not_ours_keep_their_usage(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same tracer's spans of what has no span of ours (a response from a cache) say what they say."""
    module = imported(monkeypatch, "opentelemetry.instrumentation.openai.v1.responses_wrappers", LATE)
    tracer = watch.tracer_provider.get_tracer("theirs")
    module.wrap(tracer, respond, status="incomplete")
    module.wrap(tracer, lambda: None)
    with tracer.start_as_current_span("other") as other:
        other.set_attribute(USAGE, 5)
    assert [(span.name, (span.attributes or {}).get(USAGE)) for span in watch.spans] == [
        ("chat m", 3), ("openai.response", 3), ("other", 5),
    ]  # fmt: skip
