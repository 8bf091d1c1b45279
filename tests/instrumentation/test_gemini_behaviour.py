"""What is particular to google-genai: requests that the SDK makes by itself, and contexts of streams."""

from __future__ import annotations

import asyncio
import copy
import inspect
import json
import pickle
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any

import pytest
from google.genai import _api_client, chats, models, types
from opentelemetry import trace
from opentelemetry.instrumentation.utils import suppress_instrumentation

import llmspan
from gemini_server import KEY, SDK_WARNINGS, WAYS, Answer, GeminiServer, Way, client_for, event, gemini_server, part
from gemini_surfaces import GEMINI, MODEL
from llmspan.instrumentation import Observer
from llmspan.instrumentation.google_genai.hooks import PROVIDER
from watching import Watch, watching

pytestmark = pytest.mark.filterwarnings(*SDK_WARNINGS)
TURN = {
    "candidates": [{
        "content": {"parts": [{"functionCall": {"name": "weather", "args": {"city": "P"}}}], "role": "model"},
        "finishReason": "STOP", "index": 0,
    }],
    "usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 3, "totalTokenCount": 13},
}  # fmt: skip
LAST = part("sunny", "STOP", usageMetadata={"promptTokenCount": 20, "candidatesTokenCount": 2, "totalTokenCount": 22})


@pytest.fixture(scope="module")
def running() -> Iterator[GeminiServer]:
    with gemini_server() as server:
        yield server


@pytest.fixture
def server(running: GeminiServer) -> GeminiServer:
    running.reset()
    return running


def weather(city: str) -> str:
    """The weather of a city."""
    with trace.get_tracer("app").start_as_current_span("tool"):
        return "sunny"


def run(client: Any, way: Way, path: str, **arguments: Any) -> list[Any]:
    """The results of a call; ``asks`` is current when it is made, ``reads`` when a stream of it is read."""
    tracer = arguments.pop("tracer")

    def method(owner: Any) -> Any:
        resource, name = path.split(".")
        return getattr(owner.chats.create(model=MODEL) if resource == "chats" else getattr(owner, resource), name)

    async def run_async() -> list[Any]:
        try:
            with tracer.start_as_current_span("asks"), llmspan.context(step_id="step-1"):
                result = await method(client.aio)(**arguments)
            with tracer.start_as_current_span("reads"):
                return [chunk async for chunk in result] if path.endswith("_stream") else [result]
        finally:
            await client.aio.aclose()

    if way != "sync":
        return asyncio.run(run_async())
    with tracer.start_as_current_span("asks"), llmspan.context(step_id="step-1"):
        result = method(client)(**arguments)
    with tracer.start_as_current_span("reads"):
        return list(result) if path.endswith("_stream") else [result]


def calls_of(watch: Watch) -> tuple[list[Any], Any]:
    """The spans of calls, and the one that was current when the program made them."""
    named = {span.name: span for span in watch.spans}
    return [span for span in watch.spans if span.name.startswith("generate_content")], named["asks"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("path", ["models.generate_content_stream", "chats.send_message_stream"])
def test_a_stream_is_of_where_it_was_asked_for(path: str, way: Way, server: GeminiServer, watch: Watch) -> None:
    """The SDK sends when the first event is read: the span and the record are of the span and step before that."""
    tracer = watch.tracer_provider.get_tracer("app")
    given = {"message": "hi"} if path.startswith("chats") else GEMINI
    assert len(run(client_for(server, way), way, path, tracer=tracer, **given)) == 4
    (span,), asks = calls_of(watch)
    assert span.parent.span_id == asks.context.span_id
    (record,) = watch.records
    assert (record.step_id, record.parent_span_id) == ("step-1", f"{asks.context.span_id:016x}")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("path", ["models.generate_content", "models.generate_content_stream"])
def test_each_turn_of_function_calling_is_a_call(path: str, way: Way, server: GeminiServer, watch: Watch) -> None:
    """Two requests are two spans and two records, in order, under the caller's span; each has its own usage."""
    stream = path.endswith("_stream")
    server.answers(*(Answer([event(turn)]) if stream else Answer.json(turn) for turn in (TURN, LAST)))
    tracer = watch.tracer_provider.get_tracer("app")
    config = types.GenerateContentConfig(tools=[weather])
    results = run(client_for(server, way), way, path, tracer=tracer, config=config, **GEMINI)
    assert results[-1].text == "sunny"
    spans, asks = calls_of(watch)
    assert [span.parent.span_id for span in spans] == [asks.context.span_id] * 2
    assert [(record.usage.input_tokens, record.usage.output_tokens) for record in watch.records] == [(10, 3), (20, 2)]
    assert len(server.requests) == 2


def test_each_hop_of_a_continued_response_is_a_call(server: GeminiServer, watch: Watch) -> None:
    """The SDK follows continuation tokens by itself and sums the usage: the records add up to what the caller sees."""
    hop = part("a", "CONTINUATION", usageMetadata={"promptTokenCount": 10, "candidatesTokenCount": 3})
    hop["candidates"][0]["continuationToken"] = "dG9rZW4="
    server.answers(Answer.json(hop), Answer.json(hop), Answer.json(LAST))
    response = client_for(server).models.generate_content(**GEMINI)
    usage = response.usage_metadata
    assert usage is not None
    assert len(server.requests) == len(watch.records) == 3
    assert sum(record.usage.input_tokens or 0 for record in watch.records) == usage.prompt_token_count == 40


def test_a_chat_has_the_history_that_it_has_without_us(server: GeminiServer) -> None:
    """Messages, streamed or not, are added to the history in the same order."""

    def talk() -> list[Any]:
        chat = client_for(server).chats.create(model=MODEL)
        chat.send_message("one")
        list(chat.send_message_stream("two"))
        return [content.model_dump() for content in chat.get_history()]

    bare = talk()
    with watching() as watch:
        assert talk() == bare
    assert [record.stream for record in watch.records] == [False, True]


def test_a_span_of_another_instrumentation_stands_for_one_request(server: GeminiServer, watch: Watch) -> None:
    """Above a loop of function calling, a span is used for the first request; the second has one of its own."""
    server.answers(Answer.json(TURN), Answer.json(LAST))
    tracer = watch.tracer_provider.get_tracer("other")
    attributes = {"gen_ai.operation.name": "generate_content"}
    with tracer.start_as_current_span("theirs", attributes=attributes) as theirs:
        client_for(server).models.generate_content(**GEMINI, config=types.GenerateContentConfig(tools=[weather]))
    first, second = watch.records
    own = f"{theirs.get_span_context().span_id:016x}"
    assert (first.span_id, second.parent_span_id) == (own, own)
    assert second.span_id not in (own, None)


#: how OpenLLMetry and OpenInference read a stream: their span is open, and not current
READERS = {
    "opentelemetry.instrumentation.google_generativeai": """
def read(span, response):
    yield from response
""",
    "openinference.instrumentation.google_genai._stream": """
from types import SimpleNamespace

class Stream:
    def __init__(self, span, response):
        self._with_span, self._response = SimpleNamespace(_span=span), response
    def __iter__(self):
        yield from self._response

def read(span, response):
    yield from Stream(span, response)
""",
}


@pytest.mark.parametrize("name", READERS)
def test_a_stream_below_a_span_that_is_not_current(
    name: str, server: GeminiServer, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The span that another instrumentation reads a stream for is the call's, also if it has wrapped the SDK first."""
    module = ModuleType(name)
    exec(READERS[name], vars(module))
    monkeypatch.setitem(sys.modules, name, module)
    attributes = {"gen_ai.operation.name": "generate_content"}
    theirs = watch.tracer_provider.get_tracer("other").start_span("theirs", attributes=attributes)
    list(module.read(theirs, client_for(server).models.generate_content_stream(**GEMINI)))
    theirs.end()
    record, span = watch.only()
    assert span.name == "theirs"
    assert record.span_id == f"{span.context.span_id:016x}"


def test_our_span_is_current_while_a_request_is_sent(server: GeminiServer, watch: Watch) -> None:
    """An HTTP instrumentation makes children of our span; the caller's own span is current again behind it."""
    seen: list[int] = []
    hooks = {"request": [lambda _: seen.append(trace.get_current_span().get_span_context().span_id)]}
    client = client_for(server)
    client._api_client._httpx_client.event_hooks = hooks
    client.models.generate_content(**GEMINI)
    _, span = watch.only()
    assert seen == [span.context.span_id]
    assert not trace.get_current_span().get_span_context().is_valid


@pytest.mark.parametrize("way", WAYS)
def test_a_key_that_an_error_repeats_is_masked(way: Way, server: GeminiServer, watch: Watch) -> None:
    """The API names the key in its error; neither record nor span does."""
    error = {"error": {"code": 400, "message": f"API key {KEY} not valid", "status": "INVALID_ARGUMENT"}}
    server.answers(Answer.json(error, 400))
    tracer = watch.tracer_provider.get_tracer("app")
    with pytest.raises(Exception, match="not valid"):
        run(client_for(server, way), way, "models.generate_content", tracer=tracer, **GEMINI)
    (record,), ((span,), _) = watch.records, calls_of(watch)
    assert record.error_type == "INVALID_ARGUMENT"
    assert KEY not in record.to_json() + json.dumps(dict(span.attributes or {})) + str(span.status.description)


def test_a_suppressed_call_is_not_recorded(server: GeminiServer, watch: Watch) -> None:
    """Also of a stream that is read later: it counts where it was asked for."""
    client = client_for(server)
    with suppress_instrumentation():
        client.models.generate_content(**GEMINI)
        stream = client.models.generate_content_stream(**GEMINI)
    list(stream)
    assert len(server.requests) == 2
    assert (watch.records, watch.spans) == ([], [])


def test_a_server_of_the_request_is_its_endpoint(server: GeminiServer, watch: Watch) -> None:
    """The options of one request may name another server than the client's."""
    client = client_for(server)
    options = types.HttpOptions(base_url=f"http://localhost:{server.server_port}")
    client.models.generate_content(**GEMINI, config=types.GenerateContentConfig(http_options=options))
    record, _ = watch.only()
    assert (record.server_address, record.server_port) == ("localhost", server.server_port)


def test_every_instrumentor_of_ours_can_be_loaded() -> None:
    """What opentelemetry-instrument loads exists: one that does not would end the loading of all that follow."""
    points = [each for each in entry_points(group="opentelemetry_instrumentor") if each.value.startswith("llmspan.")]
    needed = {each.name: tuple(each.load()().instrumentation_dependencies()) for each in points}
    assert needed["llmspan_google_genai"] == ("google-genai >= 1.32",)
    assert len(needed) == 3


def test_public_methods_are_of_the_kinds_that_they_were() -> None:
    """Programs and other instrumentations ask whether a method is a generator function, or a coroutine function."""
    kinds = (inspect.isgeneratorfunction, inspect.iscoroutinefunction, inspect.isfunction, inspect.signature)
    owners = (models.Models, models.AsyncModels, chats.Chat, chats.AsyncChat, _api_client.BaseApiClient)
    names = [(owner, name) for owner in owners for name in vars(owner) if not name.startswith("_")]
    bare = [[kind(getattr(owner, name)) for kind in kinds] for owner, name in names if callable(getattr(owner, name))]
    with watching():
        assert [
            [kind(getattr(owner, name)) for kind in kinds] for owner, name in names if callable(getattr(owner, name))
        ] == bare


STREAM_METHODS = (models.Models, "generate_content_stream"), (chats.Chat, "send_message_stream")


@pytest.mark.usefixtures("watch")
@pytest.mark.parametrize(("owner", "name"), STREAM_METHODS, ids=lambda value: getattr(value, "__name__", value))
def test_a_stream_method_is_copied_and_pickled_as_a_function_is(owner: Any, name: str) -> None:
    """By its name; a bound method goes with a copy of its instance, as Python's own do."""
    function = getattr(owner, name)
    assert copy.copy(function) == copy.deepcopy({"call": function})["call"] == function
    assert copy.copy(vars(owner)[name]) is vars(owner)[name]
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(function, protocol)) == function
    instance = object.__new__(owner)
    bound = getattr(instance, name)
    assert copy.copy(bound).__self__ is instance
    copied = (copy.deepcopy([bound])[0], pickle.loads(pickle.dumps(bound)))
    assert all(type(each) is type(bound) and type(each.__self__) is owner for each in copied)
    assert all(each.__self__ is not instance and each.__func__ == bound.__func__ for each in copied)


def test_everything_is_put_back() -> None:
    """After ``remove`` every attribute is the SDK's own, also when it was patched twice."""
    owners = (
        _api_client.BaseApiClient, _api_client.HttpResponse, models.Models, models.AsyncModels, chats.Chat,
        chats.AsyncChat,
    )  # fmt: skip
    before = [dict(vars(owner)) for owner in owners]
    for _ in range(2):
        with watching() as watch:
            assert [dict(vars(owner)) for owner in owners] != before
            PROVIDER.instrument(Observer(sink=watch, tracer=watch.observer.tracer)).remove()
        assert [dict(vars(owner)) for owner in owners] == before
