"""Batches of the Gemini API: the program polls a batch; each result in it is a record, however often it is fetched."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from google.genai.errors import APIError
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import TracerProvider

from gemini_server import (
    BODY,
    JSON_HEADERS,
    SDK_WARNINGS,
    WAYS,
    Answer,
    GeminiServer,
    Way,
    client_for,
    gemini_server,
)
from llmspan import _guard
from llmspan.backends.sqlite import SQLiteBackend
from llmspan.cost import cost_of
from llmspan.instrumentation import Observer, record
from llmspan.instrumentation.google_genai.hooks import PROVIDER as GOOGLE
from llmspan.instrumentation.suppression import suppressed_calls
from llmspan.metrics import CallMetrics
from scripted import pipeline_to
from signals import RESOURCE, Meters
from watching import Watch, watching

pytestmark = pytest.mark.filterwarnings(*SDK_WARNINGS)
MODEL = "gemini-2.5-flash"
CREATED = 1793491200 * 10**9
ERROR = {"code": 3, "message": "Request contains an invalid argument."}
RESULTS: list[dict[str, Any]] = [
    {"response": BODY, "metadata": {"key": "first"}},
    {"error": ERROR, "metadata": {"key": "second"}},
    {"response": BODY},
    {"error": {"code": 1, "message": "cancelled"}},
]
EMBEDDED = {"response": {"embedding": {"values": [0.5, 1.0]}, "tokenCount": 7}}


def batch(results: list[dict[str, Any]] | None, *, key: str = "inlinedResponses", **more: Any) -> dict[str, Any]:
    """A batch as the API answers with it: still running if there are no ``results``."""
    metadata: dict[str, Any] = {
        "@type": "type.googleapis.com/google.ai.generativelanguage.v1main.GenerateContentBatch",
        "model": f"models/{MODEL}", "displayName": "b", "createTime": "2026-11-01T00:00:00.000000000Z",
        "state": "BATCH_STATE_RUNNING", "name": "batches/b1",
    }  # fmt: skip
    if results is None:
        return {"name": "batches/b1", "metadata": metadata}
    output = {key: {"inlinedResponses": results}}
    metadata |= {"state": "BATCH_STATE_SUCCEEDED", "endTime": "2026-11-01T00:10:00.5Z", "output": output, **more}
    return {"name": "batches/b1", "metadata": metadata, "done": True, "response": output}


@pytest.fixture(scope="module")
def running() -> Iterator[GeminiServer]:
    with gemini_server() as server:
        yield server


@pytest.fixture
def server(running: GeminiServer) -> GeminiServer:
    running.reset()
    return running


def fetch(server: GeminiServer, way: Way = "sync", *, times: int = 1, **options: Any) -> list[Any]:
    """What the program gets that fetches the batch so often."""
    made = client_for(server, way)
    if way == "sync":
        config = {"http_options": options} if options else None
        return [made.batches.get(name="batches/b1", config=config) for _ in range(times)]

    async def main() -> list[Any]:
        async with made.aio as owner:
            return [await owner.batches.get(name="batches/b1") for _ in range(times)]

    return asyncio.run(main())


@pytest.mark.parametrize("way", WAYS)
def test_results(way: Way, server: GeminiServer, watch: Watch) -> None:
    """Polls leave nothing; the fetch with results is one span without usage, and each result a record."""
    server.answers(*map(Answer.json, (batch(None), batch(None), batch(RESULTS))))
    got = fetch(server, way, times=3)
    assert [len(one.dest.inlined_responses) if one.dest else 0 for one in got] == [0, 0, 4]
    *results, last = watch.records
    (span,) = watch.spans
    assert [record.status for record in results] == ["ok", "error", "ok", "cancelled"]
    assert [record.error_type for record in results] == [None, "INVALID_ARGUMENT", None, None]
    assert [record.attributes["batch_custom_id"] for record in results] == ["first", "second", "2", "3"]
    assert {record.attributes["batch_id"] for record in results} == {"batches/b1"}
    first = results[0]
    assert (first.operation, first.api, first.call_type, first.request_model) == (
        "generate_content", "generate_content", "batch", MODEL,
    )  # fmt: skip
    assert (first.usage.input_tokens, first.usage.output_tokens, first.usage.reasoning_tokens) == (1200, 350, 300)
    assert (first.service_tier, results[1].service_tier) == ("batch", "batch")
    assert (first.response_id, first.finish_reasons) == ("resp-1", ("STOP",))
    assert json.loads(first.response_json or "") == BODY
    assert results[1].error_message == ERROR["message"]
    assert (first.started_at, first.duration_ns) == (CREATED, 600_500_000_000)
    assert (first.trace_id, first.parent_span_id, first.span_id) == (last.trace_id, last.span_id, None)
    assert (last.operation, last.status, last.usage.source) == ("fetch_batch_results", "ok", "none")
    assert (last.http_status, last.attempts, last.response_id) == (200, 1, "batches/b1")
    assert json.loads(last.response_json or "") == {
        "batch_id": "batches/b1", "results": {"canceled": 1, "errored": 1, "succeeded": 2},
    }  # fmt: skip
    assert span.name == "fetch_batch_results"
    assert span.start_time == last.started_at
    assert "gen_ai.usage.input_tokens" not in (span.attributes or {})


def test_reading_twice_is_one_set_of_records(server: GeminiServer) -> None:
    """Ids and times are the batch's: a store that is given the results again has them already."""
    seen = []
    for _ in range(2):
        server.answers(Answer.json(batch(RESULTS)))
        with watching() as watch:
            fetch(server)
        seen.append([(record.id, record.started_at) for record in watch.records[:-1]])
    assert seen[0] == seen[1]
    assert len({identity for identity, _ in seen[0]}) == 4


def test_metrics_count_a_result_once(server: GeminiServer) -> None:
    """Stores know a result by its id; metrics have it from the first fetch only."""
    meters = Meters()
    server.answers(Answer.json(batch(RESULTS[:1])))
    with watching(metrics=CallMetrics(meters.provider)) as watch:
        fetch(server, times=3)
        assert len(watch.records) == 6
    assert sum(meters.sums("usage.output_tokens").values()) == 350


@pytest.mark.parametrize("key", ["inlinedResponses", "inlinedEmbedContentResponses"])
def test_embeddings(key: str, server: GeminiServer, watch: Watch) -> None:
    """Vectors of a batch are embeddings, with their count of tokens; absent is not zero."""
    without_count = {"response": {"embedding": {"values": [1.0]}}}
    server.answers(Answer.json(batch([EMBEDDED, without_count], key=key, model="models/gemini-embedding-001")))
    fetch(server)
    first, second, _ = watch.records
    assert (first.operation, first.api, first.request_model) == ("embeddings", "embed_content", "gemini-embedding-001")
    assert (first.usage.input_tokens, first.usage.output_tokens, first.status) == (7, None, "ok")
    assert (second.usage.input_tokens, second.status) == (None, "ok")


def test_a_result_costs_what_a_batch_costs(server: GeminiServer, watch: Watch) -> None:
    """The same tokens at the price of batches."""
    pytest.importorskip("genai_prices")
    server.answers(Answer.json(batch(RESULTS[:1])), Answer.json(BODY))
    fetch(server)
    client_for(server).models.generate_content(model=MODEL, contents="hi")
    costs = {record.call_type: cost_of(record).amount for record in watch.records if record.usage.raw}
    assert costs["batch"] is not None
    assert costs[None] is not None
    assert 0 < costs["batch"] < costs[None]  # what is read from a cache has one price for both


@pytest.mark.parametrize(
    "answer",
    [
        Answer.json(batch(None)),
        Answer.json(batch([])),
        Answer.json({**batch(None), "error": {"code": 13, "message": "inlinedResponses"}}),
        Answer.json({"error": {"code": 404, "status": "NOT_FOUND", "message": "no"}}, 404),
        Answer.json({"error": {"code": 503, "status": "UNAVAILABLE", "message": "no"}}, 503),
    ],
    ids=["running", "empty", "failed", "not found", "unavailable"],
)
@pytest.mark.parametrize("way", WAYS)
def test_a_poll_without_results_leaves_nothing(way: Way, answer: Answer, server: GeminiServer, watch: Watch) -> None:
    """Neither a record nor a span, whether the batch is not over, failed, or cannot be fetched."""
    server.answers(answer)
    with contextlib.suppress(APIError):
        fetch(server, way)
    assert (watch.records, watch.spans, watch.observer.open_calls) == ([], [], {})


def test_other_requests_for_batches_leave_nothing(server: GeminiServer, watch: Watch) -> None:
    """Lists, and Vertex AI, whose results are files."""
    server.answers(Answer.json({"operations": [batch(RESULTS)]}))
    list(client_for(server).batches.list())
    server.answers(Answer.json({"name": "projects/1/locations/l/batchPredictionJobs/1", "state": "JOB_STATE_RUNNING"}))
    client_for(server, vertex=True).batches.get(name="projects/1/locations/l/batchPredictionJobs/1")
    assert (watch.records, watch.spans) == ([], [])


def test_polls_where_instrumentation_is_suppressed(server: GeminiServer, watch: Watch) -> None:
    """They are not recorded, and not counted as calls that were lost: most polls have nothing to record."""
    server.answers(Answer.json(batch(None)), Answer.json(batch(RESULTS)))
    before = suppressed_calls()
    with suppress_instrumentation():
        fetch(server, times=2)
    assert (watch.records, suppressed_calls()) == ([], before)


@pytest.mark.parametrize("keys", [("a", "a"), ("1", None), (None, "0")])
def test_results_with_equal_keys(keys: tuple[str | None, str | None], server: GeminiServer, watch: Watch) -> None:
    """A key is the program's own: it may use one twice, or one that is the number of another result."""
    results = [{"response": BODY, **({} if key is None else {"metadata": {"key": key}})} for key in keys]
    server.answers(Answer.json(batch(results)))
    fetch(server)
    first, second, _ = watch.records
    assert first.id != second.id
    assert [record.attributes["batch_custom_id"] for record in (first, second)] == [
        str(at) if key is None else key for at, key in enumerate(keys)
    ]


@pytest.mark.parametrize("tier", [{}, {"serviceTier": "standard"}, {"serviceTier": "STANDARD"}])
def test_the_tier_is_that_of_batches(tier: dict[str, Any], server: GeminiServer, watch: Watch) -> None:
    """Whatever tier the response names, as a call of its own would: it was billed as a part of a batch."""
    response = {**BODY, "usageMetadata": {**BODY["usageMetadata"], **tier}}
    server.answers(Answer.json(batch([{"response": response}])))
    fetch(server)
    assert watch.records[0].service_tier == "batch"


def test_a_response_that_is_an_error(server: GeminiServer, watch: Watch) -> None:
    """A gateway may put the error where the response belongs."""
    server.answers(Answer.json(batch([{"response": {"error": {"code": 429, "message": "no more"}}}])))
    fetch(server)
    result = watch.records[0]
    assert (result.status, result.error_type, result.error_message) == ("error", "429", "no more")


@pytest.mark.parametrize(("count", "tokens"), [(7, 7), ("7", 7), (0, 0), (None, None), ("many", None), (True, None)])
def test_the_count_of_an_embedding(count: Any, tokens: int | None, server: GeminiServer, watch: Watch) -> None:
    """A number, or its digits, as JSON of protocol buffers has them; else it is not reported."""
    server.answers(Answer.json(batch([{"response": {"embedding": {"values": [1.0]}, "tokenCount": count}}])))
    with contextlib.suppress(ValueError):
        fetch(server)
    assert watch.records[0].usage.input_tokens == tokens


@pytest.mark.parametrize("result", [{"response": {**BODY, "responseId": "r" * 2_000}}, {"error": {"code": 3}}])
def test_no_result_is_lost_in_a_queue_that_is_smaller_than_the_batch(
    result: dict[str, Any], server: GeminiServer, tmp_path: Path
) -> None:
    """The worker makes records of some results before the next ones come, as with a stream of them."""
    made = pipeline_to(SQLiteBackend(tmp_path / "traces.db"), queue_max_items=200)
    provider = TracerProvider(resource=RESOURCE, shutdown_on_exit=False)
    hooks = GOOGLE.instrument(Observer(sink=made, tracer=provider.get_tracer("llmspan")))
    try:
        server.answers(Answer.json(batch([result] * 1_000)))
        fetch(server)
        assert made.flush(60)
        assert [(one.accepted, one.delivered, one.dropped) for one in made.status()] == [(1_001, 1_001, {})]
    finally:
        hooks.remove()
        made.close(30)


def test_a_key_that_an_error_repeats_is_masked_without_the_payload_of_the_fetch(
    server: GeminiServer, watch: Watch
) -> None:
    """Where the queue is full, the payload of the fetch goes; what its results are masked with stays."""
    token = "gateway-token-for-team-42-zebra"
    server.answers(Answer.json(batch([{"error": {"code": 7, "message": f"{token} may not"}}])))
    fetch(server, headers={"x-goog-api-key": token})
    assert watch.records  # the deferred steps are done
    result, last = watch.pending
    last.drop_payload()
    assert token not in json.dumps(result.build().to_dict())
    assert "masked" in (result.build().error_message or "")


def test_the_payload_of_a_result_can_be_dropped(server: GeminiServer, watch: Watch) -> None:
    """A full queue keeps the facts."""
    server.answers(Answer.json(batch(RESULTS[:1])))
    fetch(server)
    assert watch.records
    pending = watch.pending[0]
    before = pending.size
    pending.drop_payload()
    record = pending.build()
    assert (record.response_json, record.content, record.usage.input_tokens) == (None, "truncated", 1200)
    assert pending.size < before


def test_a_batch_is_read_by_the_worker_only(
    server: GeminiServer, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch may have a hundred megabytes, which take a second to parse."""
    readers: list[Any] = []
    monkeypatch.setattr(record, "summarize", lambda *args: readers.append(args))
    monkeypatch.setattr(record, "reassemble", lambda *args: readers.append(args))
    server.answers(Answer.json(batch(RESULTS)))
    fetch(server)
    assert len(watch.records) == 5
    assert readers == []


@pytest.mark.parametrize("body", [b'{"metadata": {"output": {"inlinedResponses": {"inlinedResponses": [{"a":', b"oops"])
def test_a_body_that_is_no_json(body: bytes, server: GeminiServer, watch: Watch) -> None:
    """The SDK raises; the record of the fetch says so, and it is no failure of ours."""
    _guard.reset_error_counts()
    nested = b'"inlinedResponses": [' + b'{"a":' * 100_000
    for sent in (body, nested):
        server.answers(Answer([sent], headers=dict(JSON_HEADERS)))
        with contextlib.suppress(Exception):
            fetch(server)
    assert {(one.status, one.response_json is None) for one in watch.records} <= {("error", False)}
    assert _guard.failures() == {}


@pytest.mark.parametrize(
    "results",
    [
        [None, "text", 7, [], {}],
        [{"response": None, "error": None, "metadata": None}],
        [{"response": "text", "error": "text", "metadata": "text"}],
        [{"error": {"code": -1}}, {"error": {"code": "x"}}, {"error": {"code": True}}, {"error": {"code": 99}}],
    ],
)
def test_results_without_a_response(results: list[Any], server: GeminiServer, watch: Watch) -> None:
    """Whatever a gateway sends: the fetch is recorded, and each object in the list is an error."""
    server.answers(Answer([json.dumps(batch(results)).encode()], headers={"Content-Type": "application/json"}))
    with contextlib.suppress(Exception):  # the SDK's own, which cannot parse it either
        fetch(server)
    *errors, last = watch.records
    assert (last.operation, last.status) == ("fetch_batch_results", "ok")
    assert {record.status for record in errors} <= {"error"}


@pytest.mark.parametrize(
    "times",
    [
        {"createTime": "yesterday"},
        {"createTime": 7},
        {"createTime": "0001-01-01T00:00:00Z"},
        {"createTime": "0001-01-01T00:00:00"},
        {"createTime": "2026-11-01T00:00:00"},
        {"createTime": "2026-12-01T00:00:00Z"},
        {"endTime": None},
        {"endTime": "9999-12-31T23:59:59Z"},
    ],
)
def test_times_that_cannot_be_read(times: dict[str, Any], server: GeminiServer, watch: Watch) -> None:
    """Nor be stored, or contradict each other: then a result has the time of its fetch and no duration."""
    server.answers(Answer.json(batch(RESULTS[:1], **times)))
    with contextlib.suppress(ValueError):  # the SDK parses them as well
        fetch(server)
    result, last = watch.records
    assert (result.started_at, result.duration_ns) == (last.started_at, 0)
