"""Faults of other instrumentations, each reproduced with openai 3.54 and anthropic 2.12: none of them is ours.

Which fault is taken up where is said by marks, and all of them are in ``peer_faults.py``. How a stream may end (where
most peers lose spans) is the matrix of ``test_outcome_matrix``, what they leave out is in ``test_peer_omissions``, and
what they cost in ``test_peer_costs``.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import weakref
from typing import Any

import anthropic
import httpx2
import openai
import pytest
from opentelemetry import trace
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import ReadableSpan

from llmspan.content import ContentPolicy
from replay import Pieces, client_for
from streams import ALL, BETA_MESSAGES, CHAT, MESSAGES, RESPONSES, WORDS, Api, json, sse
from watching import Watch, watching

SSE = {"content-type": "text/event-stream"}
apis = pytest.mark.parametrize("api", ALL, ids=lambda api: api.name)
INPUT, OUTPUT = "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"


class Server:
    """Answers with these events or this body, and keeps what it was sent."""

    def __init__(self, events: list[bytes] | None = None, body: Any = None) -> None:
        self.events = events
        self.body = body
        self.requests: list[httpx2.Request] = []
        self.bodies: list[Pieces] = []

    def respond(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        if self.events is None:
            return httpx2.Response(200, json=self.body)
        self.bodies.append(Pieces(self.events))
        return httpx2.Response(200, headers=SSE, stream=self.bodies[-1])

    def client(self, provider: str, *, is_async: bool = False, **options: Any) -> Any:
        options = {"base_url": "http://local.test/v1", **options}
        return client_for(provider, httpx2.MockTransport(self.respond), is_async=is_async, **options)


def stream_of(api: Api, events: list[bytes] | None = None, **more: Any) -> Any:
    client = Server(api.stream if events is None else events).client(api.provider)
    return api.method(client)(**{**api.arguments, **more}, stream=True)


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


# -- thrown into the program ---------------------------------------------------------------------------------------


@apis
@pytest.mark.peer_fault("R3")
def test_openinference_breaks_next(api: Api, watch: Watch) -> None:
    """OpenInference, LangSmith: ``next(stream)`` and ``for`` over a created stream raise TypeError."""
    stream = stream_of(api)
    next(stream)
    for _ in stream:
        pass
    assert watch.only()[0].status == "ok"


@apis
@pytest.mark.peer_fault("R2")
def test_laminar_breaks_with(api: Api, watch: Watch) -> None:
    """Laminar hands out a bare generator: no ``with``, no ``.response``, no ``.close()``."""
    with stream_of(api) as stream:
        assert stream.response.status_code == 200
    assert watch.only()[0].status == "closed_early"


@apis
@pytest.mark.peer_fault("R4")
def test_openlit_langsmith_braintrust_change_the_type(api: Api, watch: Watch) -> None:
    """OpenLIT, LangSmith, Braintrust: ``isinstance(stream, Stream)`` is false; of others the type is another."""
    assert type(stream_of(api)) is (openai.Stream if api.provider == "openai" else anthropic.Stream)


@apis
@pytest.mark.peer_fault("R2", "N12")
def test_laminar_breaks_iter_lines_and_nobody_counts_it(api: Api, watch: Watch) -> None:
    """Laminar: ``iter_lines()`` raises StreamConsumed. With every other peer it works, and the usage is lost."""
    path = api.path.replace("create", "with_streaming_response.create")
    with api.method(Server(api.stream).client(api.provider), path)(**api.arguments, stream=True) as response:
        assert len(list(response.iter_lines())) >= len(api.stream)
    record, span = watch.only()
    assert (record.usage.input_tokens, record.usage.output_tokens) == (api.input_tokens, api.output_tokens)
    assert (attributes(span)[INPUT], attributes(span)[OUTPUT]) == (api.input_tokens, api.output_tokens)


@pytest.mark.peer_fault("O1")
def test_official_openai_breaks_on_null_indices(watch: Watch) -> None:
    """Official GenAI: ``index: null`` of a gateway is a TypeError out of the caller's loop."""
    odd = [{"index": None, "delta": {"tool_calls": [{"index": None, "id": "c", "function": {"name": "f"}}]}}]
    events = [sse({"id": "x", "object": "chat.completion.chunk", "choices": odd}), *CHAT.stream]
    assert len(list(stream_of(CHAT, events))) == len(CHAT.stream)
    assert watch.only()[0].status == "ok"


@pytest.mark.peer_fault("O1")
def test_official_openai_breaks_on_null_output(watch: Watch) -> None:
    """Official GenAI: a Response whose ``output`` is null is a TypeError in create and retrieve."""
    client = Server(body={**RESPONSES.body, "output": None}).client("openai")
    assert client.responses.create(**RESPONSES.arguments).output is None
    assert client.responses.retrieve("resp_1").output is None
    assert [record.status for record in watch.records] == ["ok", "ok"]


@pytest.mark.peer_fault("R8")
def test_official_anthropic_breaks_on_malformed_usage(watch: Watch) -> None:
    """Official GenAI: usage of the wrong type is a TypeError in the program."""
    client = Server(body={**MESSAGES.body, "usage": {"input_tokens": "many", "output_tokens": 5}}).client("anthropic")
    client.messages.create(**MESSAGES.arguments)
    record, span = watch.only()
    assert (record.usage.input_tokens, record.usage.output_tokens) == (None, 5)
    assert INPUT not in attributes(span)


@pytest.mark.anyio
@apis
@pytest.mark.peer_fault("O5")
async def test_official_leaves_a_coroutine_behind(api: Api, watch: Watch) -> None:
    """Official GenAI: async ``with_streaming_response`` leaves ``parse()`` unawaited and records nothing."""
    path = api.path.replace("create", "with_streaming_response.create")
    client = Server(body=api.body).client(api.provider, is_async=True)
    async with api.method(client, path)(**api.arguments) as response:
        result = response.parse()
        assert inspect.isawaitable(result)
        await result
    assert watch.only()[0].usage.input_tokens == api.input_tokens


@apis
@pytest.mark.peer_fault("O5")
def test_official_reads_the_body_before_the_caller(api: Api, watch: Watch) -> None:
    """Official GenAI: ``with_streaming_response`` has read the whole body before the caller asks for it."""
    server = Server(api.stream)
    path = api.path.replace("create", "with_streaming_response.create")
    with api.method(server.client(api.provider), path)(**api.arguments) as response:
        assert len(server.bodies[0].pieces) == len(api.stream)
        assert not response.is_closed


@pytest.mark.anyio
@pytest.mark.peer_fault("R1")
async def test_langsmith_masks_cancellation(watch: Watch) -> None:
    """LangSmith: a cancelled task ends with a TypeError of the tracer's."""
    begun = asyncio.Event()

    async def read() -> None:
        client = Server(MESSAGES.stream).client("anthropic", is_async=True)
        async for _ in await client.messages.create(**MESSAGES.arguments, stream=True):
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(read())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


# -- the request is changed ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("api", [CHAT, MESSAGES], ids=lambda api: api.name)
@pytest.mark.peer_fault("R5")
def test_six_peers_eat_a_generator(api: Api, watch: Watch) -> None:
    """Traceloop, Laminar, Logfire, Langfuse, Datadog, Braintrust: a generator of messages arrives as ``[]``."""
    server = Server(body=api.body)
    api.method(server.client(api.provider))(**{**api.arguments, "messages": iter(api.arguments["messages"])})
    assert json.loads(server.requests[0].content)["messages"] == api.arguments["messages"]


@apis
@pytest.mark.peer_fault("R6")
def test_three_peers_and_anthropic_send_traceparent(api: Api) -> None:
    """Traceloop, Laminar, MLflow and the Anthropic SDK send internal trace ids to the provider."""
    server = Server(api.stream)
    with watching() as watch, watch.tracer_provider.get_tracer("app").start_as_current_span("mine"):
        api.method(server.client(api.provider))(**api.arguments, stream=True).close()
    assert not {"traceparent", "tracestate", "baggage"} & set(server.requests[0].headers)


@pytest.mark.peer_fault("R7")
def test_datadog_asks_every_server_for_usage(watch: Watch) -> None:
    """Datadog adds ``stream_options`` to every chat stream, also for servers that refuse what they do not know."""
    server = Server(CHAT.stream)
    list(server.client("openai").chat.completions.create(**CHAT.arguments, stream=True))
    assert "stream_options" not in json.loads(server.requests[0].content)


# -- wrong numbers -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("api", [MESSAGES, BETA_MESSAGES], ids=lambda api: api.name)
@pytest.mark.parametrize("how", ["create", "stream", "raw"])
@pytest.mark.peer_fault("N1", "N2", "N3", "N5", "A6", "E6")
def test_anthropic_numbers_of_traceloop_openlit_laminar_datadog(api: Api, how: str, watch: Watch) -> None:
    """Traceloop adds the placeholder (257), OpenLIT leaves cached input out (12), Laminar's helpers say 0; Datadog
    puts all cache writes of a stream into 5 minutes, and LangSmith and Braintrust keep no total of them."""
    client = Server(api.stream).client("anthropic")
    if how == "create":
        list(api.method(client)(**api.arguments, stream=True))
    elif how == "raw":
        path = api.path.replace("create", "with_raw_response.create")
        list(api.method(client, path)(**api.arguments, stream=True).parse())
    else:
        with api.method(client, api.path.replace("create", "stream"))(**api.arguments) as stream:
            stream.get_final_text()
    record, span = watch.only()
    usage = record.usage
    assert (usage.input_tokens, usage.output_tokens, usage.reasoning_tokens) == (32012, 250, 90)
    assert (usage.cache_read_tokens, usage.cache_write_tokens) == (30000, 2000)
    assert (usage.details["cache_write_5m_tokens"], usage.details["cache_write_1h_tokens"]) == (1500, 500)
    assert attributes(span)["anthropic.usage.cache_creation.ephemeral_1h_input_tokens"] == 500


@pytest.mark.parametrize("api", [MESSAGES, BETA_MESSAGES], ids=lambda api: api.name)
@pytest.mark.peer_fault("A3", "N9")
def test_placeholder_is_no_figure(api: Api, watch: Watch) -> None:
    """OpenInference, Logfire, Braintrust, official: an abandoned stream's placeholder of 7 is told as its output."""
    stream = stream_of(api)
    next(stream)
    stream.close()
    record, span = watch.only()
    assert (record.usage.output_tokens, record.usage.source) == (None, "partial")
    assert OUTPUT not in attributes(span)


@pytest.mark.peer_fault("N4")
def test_openlit_and_datadog_invent_usage(watch: Watch) -> None:
    """OpenLIT (4 and 44) and Datadog (1 and 20) guess the usage of a stream that came without."""
    list(stream_of(CHAT, [piece for piece in CHAT.stream if b'"choices": []' not in piece]))
    record, span = watch.only()
    assert (record.status, record.usage.source) == ("ok", "none")
    assert not [name for name in attributes(span) if name.startswith("gen_ai.usage.")]


@pytest.mark.peer_fault("N6")
def test_traceloop_and_laminar_lose_finer_counts(watch: Watch) -> None:
    """Traceloop drops the reasoning tokens of chat streams; it and Laminar the cache writes of OpenAI."""
    list(stream_of(CHAT))
    usage = watch.only()[0].usage
    assert (usage.reasoning_tokens, usage.cache_read_tokens, usage.cache_write_tokens) == (128, 1024, 100)


@pytest.mark.parametrize(("ending", "status"), [("incomplete", "ok"), ("failed", "error")])
@pytest.mark.peer_fault("N7")
def test_ends_of_responses_in_nine_peers(ending: str, status: str, watch: Watch) -> None:
    """OpenInference, OpenLIT, MLflow lose the usage of ``response.incomplete``; nine peers call a failure OK."""
    done = {**RESPONSES.body, "status": ending}
    if ending == "failed":
        done["error"] = {"code": "server_error", "message": "no"}
    events = [*RESPONSES.stream[:-1], sse({"type": f"response.{ending}", "response": done, "sequence_number": 9})]
    list(stream_of(RESPONSES, events))
    record, span = watch.only()
    assert (record.status, record.usage.output_tokens) == (status, 350)
    assert attributes(span)[OUTPUT] == 350
    assert span.status.is_ok is (status == "ok")


@pytest.mark.peer_fault("U4", "N8")
def test_zero_and_null_in_seven_peers(watch: Watch) -> None:
    """Traceloop, OpenLIT, Laminar write 0 for null; official, Logfire and LangSmith nothing for 0."""
    usage = {"input_tokens": 3, "output_tokens": 0, "cache_read_input_tokens": None, "cache_creation_input_tokens": 0}
    Server(body={**MESSAGES.body, "usage": usage}).client("anthropic").messages.create(**MESSAGES.arguments)
    record, span = watch.only()
    assert (record.usage.output_tokens, record.usage.cache_read_tokens, record.usage.cache_write_tokens) == (0, None, 0)
    assert attributes(span)[OUTPUT] == 0
    assert attributes(span)["gen_ai.usage.cache_write.input_tokens"] == 0
    assert "gen_ai.usage.cache_read.input_tokens" not in attributes(span)


@pytest.mark.peer_fault("A5")
def test_everybody_counts_anthropic_twice(watch: Watch) -> None:
    """Traceloop, OpenInference, OpenLIT, official: beside the SDK's own span theirs doubles every sum."""
    client = Server(MESSAGES.stream).client(
        "anthropic", open_telemetry={"tracer_provider": watch.tracer_provider, "propagation": False}
    )
    list(client.messages.create(**MESSAGES.arguments, stream=True))
    assert sum(attributes(span).get(INPUT, 0) for span in watch.spans) == 32012


@pytest.mark.peer_fault("A2")
def test_official_anthropic_is_poisoned(watch: Watch) -> None:
    """Official GenAI: after one malformed stream no later one in the process has usage, id or model."""
    list(stream_of(MESSAGES, [MESSAGES.stream[4], *MESSAGES.stream]))  # a delta of a block that was not started
    list(stream_of(MESSAGES))
    _, good = watch.records
    assert (good.usage.output_tokens, good.response_id) == (250, "msg_1")


@pytest.mark.parametrize("encoding", ["float", "base64"])
@pytest.mark.peer_fault("O6", "O7")
def test_official_embeddings(encoding: str, watch: Watch) -> None:
    """Official GenAI: raw embeddings have no usage, and base64 ones a dimension that is a string's length."""
    vector = "AAAAPwAAgD4=" if encoding == "base64" else [0.5, 0.25]
    body = {"object": "list", "model": "e", "data": [{"object": "embedding", "index": 0, "embedding": vector}]}
    client = Server(body={**body, "usage": {"prompt_tokens": 9, "total_tokens": 9}}).client("openai")
    client.embeddings.with_raw_response.create(model="e", input="a", encoding_format=encoding)
    record, span = watch.only()
    assert (record.usage.input_tokens, attributes(span)[INPUT]) == (9, 9)
    assert attributes(span).get("gen_ai.embeddings.dimension.count") in (None, 2)


# -- spans that are lost or say something else ---------------------------------------------------------------------


@pytest.mark.peer_fault("O2")
def test_official_helper_span_waits_for_the_collector(watch: Watch) -> None:
    """Official GenAI: leaving ``chat.completions.stream()`` early leaves its span open until a collection."""
    gc.disable()
    try:
        with Server(CHAT.stream).client("openai").chat.completions.stream(**CHAT.arguments) as stream:
            next(iter(stream))
        (span,) = watch.exporter.get_finished_spans()
    finally:
        gc.enable()
    assert span.status.is_unset


@pytest.mark.parametrize("api", [MESSAGES, BETA_MESSAGES], ids=lambda api: api.name)
@pytest.mark.peer_fault("A1")
def test_official_context_leak(api: Api, watch: Watch) -> None:
    """Official GenAI: the span stays current between ``create`` and the end; other spans become its children."""
    tracer = watch.tracer_provider.get_tracer("app")
    stream = stream_of(api)
    with tracer.start_as_current_span("other") as other:
        assert getattr(other, "parent", None) is None
    list(stream)
    assert trace.get_current_span() is trace.INVALID_SPAN


@pytest.mark.peer_fault("E10")
def test_logfire_ends_before_the_first_token(watch: Watch) -> None:
    """Logfire's span of a stream ends before the first chunk: its duration is not the call's."""
    stream = stream_of(CHAT)
    assert watch.spans == []
    list(stream)
    record, span = watch.only()
    assert (span.end_time or 0) - (span.start_time or 0) == record.duration_ns


@pytest.mark.peer_fault("C4")
def test_mlflow_loses_calls_with_odd_tools(watch: Watch) -> None:
    """MLflow: a tool whose parameters have no ``properties`` costs the span; its Anthropic streams have no usage."""
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    Server(body=CHAT.body).client("openai").chat.completions.create(**CHAT.arguments, tools=tools)
    record, span = watch.only()
    assert (record.status, span.end_time is not None) == ("ok", True)


@pytest.mark.parametrize("api", [CHAT, RESPONSES, MESSAGES], ids=lambda api: api.name)
@pytest.mark.peer_fault("S7")
def test_langsmith_braintrust_lose_derived_clients(api: Api, watch: Watch) -> None:
    """LangSmith, Braintrust: a client from ``with_options()`` is not observed."""
    client = Server(body=api.body).client(api.provider).with_options(timeout=3)
    api.method(client)(**api.arguments)
    assert watch.only()[0].usage.input_tokens == api.input_tokens


# -- attributes, content, memory -----------------------------------------------------------------------------------


@pytest.mark.peer_fault("C1")
def test_openinference_evicts_the_first_messages(watch: Watch) -> None:
    """OpenInference: 200 messages push the first 70 out of a span's 128 attributes; the record has all."""
    messages = [{"role": "user", "content": f"message {number}"} for number in range(200)]
    Server(body=CHAT.body).client("openai").chat.completions.create(model="m", messages=messages)
    record, span = watch.only()
    assert json.loads(record.request_json or "")["messages"] == messages
    assert len(attributes(span)) < 64
    assert span.dropped_attributes == 0


@pytest.mark.peer_fault("C2")
def test_three_peers_add_an_event_per_chunk(watch: Watch) -> None:
    """Traceloop, Laminar, MLflow: one span event a chunk, of which a span keeps 128."""
    list(stream_of(CHAT))
    _, span = watch.only()
    assert (len(span.events), span.dropped_events) == (0, 0)


@pytest.mark.peer_fault("C3")
def test_openlit_and_langfuse_invent_parameters(watch: Watch) -> None:
    """OpenLIT, Langfuse write parameters that nobody gave; Traceloop and MLflow the SDK's ``Omit`` objects."""
    Server(body=CHAT.body).client("openai").chat.completions.create(**CHAT.arguments, temperature=openai.omit)
    _, span = watch.only()
    given = {name for name in attributes(span) if name.startswith("gen_ai.request.")}
    assert given == {"gen_ai.request.model"}


@pytest.mark.peer_fault("O4", "O8", "S4")
def test_official_misses_what_openai_says(watch: Watch) -> None:
    """Official GenAI: no API type, port, fingerprint or effort; provider ``openai`` whoever answers."""
    events = [piece.replace(b'"created"', b'"system_fingerprint": "fp_1", "created"') for piece in CHAT.stream]
    for base_url in ("https://api.openai.com/v1", "https://api.deepseek.com"):
        client = Server(events).client("openai", base_url=base_url)
        list(client.chat.completions.create(**CHAT.arguments, stream=True, reasoning_effort="low"))
    found, elsewhere = (attributes(span) for span in watch.spans)
    assert found["openai.api.type"] == "chat_completions"
    assert found["openai.response.system_fingerprint"] == "fp_1"
    assert found["gen_ai.request.reasoning.level"] == "low"
    assert (elsewhere["gen_ai.provider.name"], elsewhere["server.port"]) == ("deepseek", 443)


@pytest.mark.peer_fault("O9")
def test_official_loses_reasoning_and_custom_tools(watch: Watch) -> None:
    """Official GenAI: ``reasoning_content`` and custom tool calls of a stream are in no output."""
    tool = {"index": 0, "id": "c", "type": "custom", "custom": {"name": "grep", "input": "needle"}}
    deltas = [{"reasoning_content": "because"}, {"tool_calls": [tool]}]
    chunks = [{"id": "x", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": d}]} for d in deltas]
    list(stream_of(CHAT, [*map(sse, chunks), *CHAT.stream]))
    response = watch.only()[0].response_json or ""
    assert "because" in response
    assert "needle" in response


@pytest.mark.peer_fault("M1")
def test_five_peers_keep_every_chunk(watch: Watch) -> None:
    """MLflow, Langfuse, LangSmith, Braintrust, Datadog keep each chunk's object until the end, a megabyte a stream."""
    stream = stream_of(CHAT)
    chunk = weakref.ref(next(stream))
    next(stream)
    gc.collect()
    assert chunk() is None


@pytest.mark.peer_fault("O3")
def test_official_buffers_what_it_may_not_keep() -> None:
    """Official GenAI keeps all text in memory although it may show none of it; what we hold has a limit."""
    filler = sse({"id": "x", "object": "chat.completion.chunk", "choices": [{"delta": {"content": "a" * 50_000}}]})
    with watching(policy=ContentPolicy(keep=False, max_bytes=1024)) as watch:
        list(stream_of(CHAT, [*[filler] * 100, *CHAT.stream]))
        (pending,) = watch.pending
        assert pending.size < 2 * 1024 * 1024
        assert pending.build().usage.output_tokens == 350


@pytest.mark.parametrize("api", [CHAT, MESSAGES], ids=lambda api: api.name)
@pytest.mark.peer_fault("C8")
def test_partial_content_is_kept(api: Api, watch: Watch) -> None:
    """OpenLIT, Laminar, MLflow lose what had come when a stream breaks; Traceloop and LangSmith half of the time."""
    events = api.stream[: api.first_output + 2]
    list(stream_of(api, events))
    text = json.dumps(json.loads(watch.only()[0].response_json or ""), ensure_ascii=False)
    assert "".join(WORDS[:2]) in text


# -- housekeeping --------------------------------------------------------------------------------------------------


@pytest.mark.peer_fault("H1")
def test_traceloop_and_openlit_stay() -> None:
    """Traceloop, OpenLIT: ``uninstrument()`` leaves the SDK wrapped, and calls are recorded for ever."""
    kinds = (openai._base_client.SyncAPIClient, openai._base_client.BaseClient, openai.Stream)
    before = [dict(vars(kind)) for kind in kinds]
    with watching() as watch:
        list(stream_of(CHAT))
    list(stream_of(CHAT))
    assert len(watch.records) == 1
    assert [dict(vars(kind)) for kind in kinds] == before


@apis
@pytest.mark.peer_fault("U7")
def test_four_peers_ignore_suppression(api: Api, watch: Watch) -> None:
    """Langfuse, OpenLIT, MLflow, official: ``suppress_instrumentation()`` changes nothing."""
    with suppress_instrumentation():
        list(stream_of(api))
    assert (watch.spans, watch.records) == ([], [])
