"""Message Batches: the batch is a call, each of its results a record, however often and however far they are read."""

from __future__ import annotations

import gzip
import json
from typing import Any

import httpx2
import pytest
import zstandard

from llmspan import semconv
from llmspan.content import ContentPolicy
from llmspan.instrumentation import ContentCapture
from llmspan.messages import INPUT, OUTPUT
from llmspan.metrics import CallMetrics
from replay import Pieces, client_for, split
from signals import INFERENCE, Logs, Meters
from streams import MESSAGES, WORDS
from watching import Watch, watching

BATCH = {
    "id": "msgbatch_1", "type": "message_batch", "processing_status": "ended", "created_at": "2026-11-01T00:00:00Z",
    "ended_at": "2026-11-01T00:10:00.5Z", "expires_at": "2026-11-02T00:00:00Z", "archived_at": None,
    "cancel_initiated_at": None, "results_url": "https://api.anthropic.com/v1/messages/batches/msgbatch_1/results",
    "request_counts": {"processing": 0, "succeeded": 1, "errored": 1, "canceled": 1, "expired": 1},
}  # fmt: skip
ERROR = {"type": "error", "error": {"type": "invalid_request_error", "message": "no"}, "request_id": None}
RESULTS: list[dict[str, Any]] = [
    {"custom_id": "a", "result": {"type": "succeeded", "message": MESSAGES.body}},
    {"custom_id": "b", "result": {"type": "errored", "error": ERROR}},
    {"custom_id": "c", "result": {"type": "canceled"}},
    {"custom_id": "d", "result": {"type": "expired"}},
]
CREATED = 1793491200 * 10**9
TOKENS = f"{INFERENCE}usage.output_tokens"
colours = pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
resources = pytest.mark.parametrize("beta", [False, True], ids=["messages", "beta.messages"])


def zstd_frames(body: bytes) -> bytes:
    return b"".join(zstandard.ZstdCompressor().compress(line) for line in body.splitlines(keepends=True))


#: content-encoding -> how a body is packed
CODINGS = {"": bytes, "gzip": gzip.compress, "none": bytes, "zstd": zstd_frames, "utf-8, GZIP": gzip.compress}


def server(lines: list[dict[str, Any]] = RESULTS, *, coding: str = "", end: bytes = b"\n") -> httpx2.MockTransport:
    body = b"\n".join(json.dumps(line).encode() for line in lines) + end

    def answer(request: httpx2.Request) -> httpx2.Response:
        if not request.url.path.endswith("/results"):
            return httpx2.Response(200, json=BATCH)
        headers = {"content-type": "application/x-jsonl", **({"content-encoding": coding} if coding else {})}
        return httpx2.Response(200, headers=headers, stream=Pieces(split(CODINGS[coding](body))))

    return httpx2.MockTransport(answer)


def batches(client: Any, beta: bool = False) -> Any:
    return (client.beta if beta else client).messages.batches


def check(watch: Watch) -> None:
    *results, fetch = watch.records
    (span,) = watch.spans
    assert [record.status for record in results] == ["ok", "error", "cancelled", "error"]
    assert [record.error_type for record in results] == [None, "invalid_request_error", None, "expired"]
    assert [record.attributes["batch_custom_id"] for record in results] == ["a", "b", "c", "d"]
    first = results[0]
    assert (first.operation, first.api, first.call_type) == ("chat", "messages", "batch")
    assert (first.usage.input_tokens, first.usage.output_tokens) == (32012, 250)
    assert (first.response_id, first.finish_reasons) == ("msg_1", ("end_turn",))
    assert json.loads(first.response_json or "") == MESSAGES.body
    assert first.attributes["batch_id"] == "msgbatch_1"
    assert (first.started_at, first.duration_ns) == (CREATED, 600_500_000_000)
    assert (first.trace_id, first.parent_span_id, first.span_id) == (fetch.trace_id, fetch.span_id, None)
    assert (fetch.operation, fetch.status, fetch.usage.source) == ("fetch_batch_results", "ok", "none")
    assert json.loads(fetch.response_json or "") == {
        "batch_id": "msgbatch_1", "results": {"canceled": 1, "errored": 1, "expired": 1, "succeeded": 1},
    }  # fmt: skip
    assert span.name == "fetch_batch_results"
    assert "gen_ai.usage.input_tokens" not in (span.attributes or {})


@resources
@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("end", [b"", b"\n"])
@pytest.mark.peer_fault("S3")
def test_results(beta: bool, coding: str, end: bytes, watch: Watch) -> None:
    """Each result is a record with the batch's own times; the fetch is one span, without usage."""
    with client_for("anthropic", server(coding=coding, end=end)) as client:
        assert len(list(batches(client, beta).results("msgbatch_1"))) == 4
    check(watch)


@pytest.mark.anyio
@resources
async def test_results_async(beta: bool, watch: Watch) -> None:
    """The same, async."""
    async with client_for("anthropic", server(), is_async=True) as client:
        assert len([result async for result in await batches(client, beta).results("msgbatch_1")]) == 4
    check(watch)


@pytest.mark.parametrize("way", ["raw", "lines"])
def test_results_read_raw(way: str, watch: Watch) -> None:
    """Whoever reads the lines himself is recorded alike."""
    with client_for("anthropic", server()) as client:
        if way == "raw":
            assert len(list(client.messages.batches.with_raw_response.results("msgbatch_1").parse())) == 4
        else:
            with client.messages.batches.with_streaming_response.results("msgbatch_1") as response:
                assert len(list(response.iter_lines())) == 4
    assert [record.attributes.get("batch_custom_id") for record in watch.records] == ["a", "b", "c", "d", None]
    assert watch.records[0].usage.output_tokens == 250


def test_reading_twice_is_one_set_of_records() -> None:
    """Ids and times are the batch's: a store that is given the results again has them already."""
    seen = []
    for _ in range(2):
        with watching() as watch, client_for("anthropic", server()) as client:
            list(client.messages.batches.results("msgbatch_1"))
        seen.append([(record.id, record.started_at) for record in watch.records[:-1]])
    assert seen[0] == seen[1]
    assert len({identity for identity, _ in seen[0]}) == 4


def test_stopping_early_keeps_what_was_read(watch: Watch) -> None:
    """Half of the results read: those are recorded, and the fetch was closed early."""
    body = [{**RESULTS[0], "custom_id": str(number)} for number in range(50)]
    with client_for("anthropic", server(body)) as client:
        results = client.messages.batches.results("msgbatch_1")
        next(results)
        results.close()
    *read, fetch = watch.records
    assert fetch.status == "closed_early"
    assert 1 <= len(read) < 50
    assert read[0].usage.output_tokens == 250


def test_a_large_batch_is_never_held(watch: Watch) -> None:
    """Lines are handed over while the caller reads on; a batch of megabytes is not kept until the end."""
    body = [{**RESULTS[0], "custom_id": str(number)} for number in range(2000)]
    most = 0
    with client_for("anthropic", server(body)) as client:
        for _ in client.messages.batches.results("msgbatch_1"):
            (call,) = watch.observer.open_calls.values() or [None]
            most = max(most, call.body.size if call is not None and call.body is not None else 0)
    *read, fetch = watch.records
    assert len(read) == 2000
    assert most < 300_000
    assert (fetch.response_bytes or 0) > 1_000_000


def test_results_are_of_the_run_that_reads_them(watch: Watch) -> None:
    """The scope around the fetch is the records'; what it says of the call's type stands."""
    import llmspan

    with llmspan.context(run_id="r", call_type="nightly"), client_for("anthropic", server()) as client:
        list(client.messages.batches.results("msgbatch_1"))
    assert {(record.run_id, record.call_type) for record in watch.records} == {("r", "nightly")}


async def read_all(*, is_async: bool) -> None:
    """Fetch the results, and read them to the end."""
    client: Any = client_for("anthropic", server(), is_async=is_async)
    if is_async:
        async with client:
            assert len([result async for result in await client.messages.batches.results("msgbatch_1")]) == 4
    else:
        with client:
            assert len(list(client.messages.batches.results("msgbatch_1"))) == 4


@pytest.mark.anyio
@colours
async def test_results_are_measured_once(is_async: bool, meters: Meters) -> None:
    """Tokens are counted when results are first read, and not again; nobody waited for them, so they have no times."""
    with watching(metrics=CallMetrics(meters.provider, compat="beside")) as watch:
        for _ in range(2):
            await read_all(is_async=is_async)
        assert len(watch.records) == 10
    points = meters.points()
    assert points.keys() == {
        *(INFERENCE + f"usage.{name}" for name in (
            "input_tokens", "output_tokens", "cache_read.input_tokens", "cache_write.input_tokens",
            "reasoning.output_tokens",
        )),
        *(INFERENCE + f"operation.{name}" for name in ("input_tokens", "output_tokens")),
        "gen_ai.client.token.usage", "gen_ai.client.operation.duration",
    }  # fmt: skip
    counted = {dict(point.attributes)["gen_ai.response.model"]: point.value for point in points[TOKENS]
               if "gen_ai.response.model" in point.attributes}  # fmt: skip
    assert counted == {MESSAGES.body["model"]: MESSAGES.output_tokens}
    assert sum(point.value for point in points[TOKENS]) == MESSAGES.output_tokens
    assert [point.count for point in points[INFERENCE + "operation.output_tokens"]] == [1]
    (fetches,) = points["gen_ai.client.operation.duration"]
    assert (fetches.count, fetches.attributes["gen_ai.operation.name"]) == (2, "fetch_batch_results")


def test_results_that_were_left_are_measured_when_they_are_read(meters: Meters) -> None:
    """A second reading that goes further than the first adds what is new."""
    body = [{**RESULTS[0], "custom_id": str(number)} for number in range(50)]
    with watching(metrics=CallMetrics(meters.provider)) as watch, client_for("anthropic", server(body)) as client:
        results = client.messages.batches.results("msgbatch_1")
        next(results)
        results.close()
        assert 2 <= len(watch.records) < 51
        early = meters.sums("usage.output_tokens")["unknown"]
        watch.pending.clear()  # a sink makes each record once
        list(client.messages.batches.results("msgbatch_1"))
        assert len(watch.records) == 51
    assert early < meters.sums("usage.output_tokens")["unknown"] == 50 * MESSAGES.output_tokens


@pytest.mark.anyio
@colours
@pytest.mark.parametrize("keep", [True, False])
async def test_results_have_events(is_async: bool, keep: bool, logs: Logs) -> None:
    """Each result is an event with its content, once, within the fetch's span and whatever stores keep."""
    policy = ContentPolicy(keep=keep)
    with watching(policy=policy, capture=ContentCapture.from_mode("EVENT_ONLY", policy), logger=logs.logger) as watch:
        for _ in range(2):
            await read_all(is_async=is_async)
        records, fetch = watch.records, watch.spans[0].context
    told = [event for event in logs.events if event.attributes["gen_ai.operation.name"] == "chat"]
    assert [event.attributes[semconv.RECORD_ID] for event in told] == [record.id for record in records[:4]]
    first = told[0]
    assert first.event_name == "gen_ai.client.inference.operation.details"
    (output,) = first.attributes[OUTPUT]
    assert [part["content"] for part in output["parts"]] == ["".join(WORDS)]
    assert INPUT not in first.attributes
    assert first.attributes["gen_ai.usage.output_tokens"] == MESSAGES.output_tokens
    assert told[1].attributes["error.type"] == "invalid_request_error"
    assert first.timestamp == CREATED + 600_500_000_000
    assert {(event.trace_id, event.span_id) for event in told} == {(fetch.trace_id, fetch.span_id)}
    fetches = [event for event in logs.events if event.attributes["gen_ai.operation.name"] == "fetch_batch_results"]
    assert len(fetches) == 2


def test_results_that_are_not_there(watch: Watch) -> None:
    """An error instead of results is an error of the fetch, and no result."""
    error = {"type": "error", "error": {"type": "not_found_error", "message": "gone"}}

    def answer(request: httpx2.Request) -> httpx2.Response:
        is_results = request.url.path.endswith("/results")
        return httpx2.Response(404 if is_results else 200, json=error if is_results else BATCH)

    with client_for("anthropic", httpx2.MockTransport(answer)) as client, pytest.raises(Exception, match="gone"):
        client.messages.batches.results("msgbatch_1")
    record, _ = watch.only()
    assert (record.status, record.error_type) == ("error", "not_found_error")
    assert json.loads(record.response_json or "") == error
