"""Metrics of observed calls: current names, attributes, boundaries; nothing without a provider or a request."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest

from llmspan.metrics import CallMetrics
from llmspan.trace import RecordStatus
from llmspan.usage import Usage
from records import make_trace
from replay import client_for, events_of, transport
from signals import INFERENCE, Meters
from streams import CHAT, MESSAGES, RESPONSES
from watching import watching

SSE = {"content-type": "text/event-stream"}
JSON = {"content-type": "application/json"}
SECONDS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
STATUSES = get_args(RecordStatus)


def stream(api: Any) -> None:
    client = client_for(api.provider, transport(200, SSE, events_of(b"".join(api.stream))))
    for _ in api.method(client)(**api.arguments, stream=True):
        pass


@pytest.mark.peer_fault("U3", "U10", "N11")
def test_a_stream(meters: Meters) -> None:
    """Duration, time to first chunk, tokens as sums with their subsets, and as distributions: one point each."""
    with watching(metrics=CallMetrics(meters.provider)) as watch:
        stream(MESSAGES)
        (record,) = watch.records
    points = meters.points()
    assert points.keys() == {
        INFERENCE + name
        for name in (
            "duration", "time_to_first_chunk", "usage.input_tokens", "usage.output_tokens",
            "usage.cache_read.input_tokens", "usage.cache_write.input_tokens", "usage.reasoning.output_tokens",
            "operation.input_tokens", "operation.output_tokens",
        )
    }  # fmt: skip
    assert {name: meters.sums(name) for name in (
        "usage.input_tokens", "usage.output_tokens", "usage.cache_read.input_tokens", "usage.cache_write.input_tokens",
        "usage.reasoning.output_tokens",
    )} == {
        "usage.input_tokens": {"unknown": 32012}, "usage.output_tokens": {"unknown": 250},
        "usage.cache_read.input_tokens": {"unknown": 30000}, "usage.cache_write.input_tokens": {"unknown": 2000},
        "usage.reasoning.output_tokens": {"unknown": 90},
    }  # fmt: skip
    (duration,) = points[INFERENCE + "duration"]
    assert (duration.count, duration.sum) == (1, record.duration_ns / 1e9)
    assert duration.attributes == {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "anthropic",
        "gen_ai.request.model": record.request_model, "gen_ai.response.model": record.response_model,
        "server.address": "api.anthropic.com", "server.port": 443,
    }  # fmt: skip
    (first,) = points[INFERENCE + "time_to_first_chunk"]
    assert first.sum == (record.time_to_first_chunk_ns or 0) / 1e9
    (tokens,) = points[INFERENCE + "operation.input_tokens"]
    assert (tokens.count, tokens.sum) == (1, 32012)


def test_units_and_boundaries(meters: Meters) -> None:
    """The conventions' units and bucket boundaries."""
    with watching(metrics=CallMetrics(meters.provider, compat="beside"), times_all_chunks=True) as watch:
        stream(MESSAGES)
        assert len(watch.records) == 1
    for name, metric in meters.metrics().items():
        assert metric.unit == ("{token}" if "token" in name else "s")
        for point in metric.data.data_points:
            bounds = getattr(point, "explicit_bounds", None)
            assert bounds is None or tuple(bounds) == (TOKENS if "token" in name else SECONDS)


def test_a_refused_call(meters: Meters) -> None:
    """A failed call counts, with its kind of error; its tokens are a sum of 0 and no distribution."""
    mock = transport(429, JSON, [b'{"error": {"message": "slow down", "code": "rate_limit_exceeded"}}'])
    with watching(metrics=CallMetrics(meters.provider)) as watch:
        with pytest.raises(Exception, match="slow down"):
            CHAT.method(client_for("openai", mock))(**CHAT.arguments)
        assert len(watch.records) == 1
    points = meters.points()
    assert points.keys() == {INFERENCE + name for name in ("duration", "usage.input_tokens", "usage.output_tokens")}
    (duration,) = points[INFERENCE + "duration"]
    assert duration.attributes["error.type"] == "rate_limit_exceeded"
    assert meters.sums("usage.input_tokens") == {"unknown": 0}
    assert all("error.type" not in point.attributes for point in points[INFERENCE + "usage.input_tokens"])


@pytest.mark.parametrize("status", STATUSES)
def test_tokens_of_a_call_that_failed_are_a_sum_only(status: Any, meters: Meters) -> None:
    """What a failed call took is in the sums; the distributions are of calls that did not fail."""
    usage = Usage(input_tokens=10, output_tokens=3, source="provider")
    recorded = CallMetrics(meters.provider)
    recorded.record(make_trace(status=status, usage=usage))
    recorded.record(make_trace(status=status, usage=usage, operation="embeddings"))
    distributions = {
        "gen_ai.client.embeddings.operation.input_tokens", INFERENCE + "operation.input_tokens",
        INFERENCE + "operation.output_tokens",
    }  # fmt: skip
    assert (distributions & meters.points().keys()) == (set() if status in ("error", "incomplete") else distributions)
    assert (meters.sums("usage.input_tokens"), meters.sums("usage.output_tokens")) == ({"unknown": 10}, {"unknown": 3})


def test_a_stream_that_broke_off(meters: Meters) -> None:
    """The usage that a stream began with is in no distribution if the stream ends without its terminal event."""
    with watching(metrics=CallMetrics(meters.provider)) as watch:
        client = client_for("anthropic", transport(200, SSE, MESSAGES.stream[: -MESSAGES.tail]))
        list(client.messages.create(**MESSAGES.arguments, stream=True))
        assert [record.status for record in watch.records] == ["incomplete"]
    assert meters.sums("usage.input_tokens") == {"unknown": MESSAGES.early_input_tokens}
    assert INFERENCE + "operation.input_tokens" not in meters.points()


def test_chunk_times_on_request(meters: Meters) -> None:
    """Time between the pieces of output, one point for each after the first; without the switch, none."""
    with watching(metrics=CallMetrics(meters.provider), times_all_chunks=True) as watch:
        stream(CHAT)
        assert len(watch.records) == 1
    (gaps,) = meters.points()[INFERENCE + "time_per_output_chunk"]
    pieces = len(events_of(b"".join(CHAT.stream)))
    assert gaps.count == pieces - 1 - CHAT.first_output
    with watching(metrics=CallMetrics(meters.provider)) as watch:
        stream(CHAT)
        assert len(watch.records) == 1
    (gaps,) = meters.points()[INFERENCE + "time_per_output_chunk"]
    assert gaps.count == pieces - 1 - CHAT.first_output


def test_service_tier_and_fingerprint_of_openai(meters: Meters) -> None:
    """OpenAI's points tell by which tier and by which of its systems a call was served."""
    events = [piece.replace(b'"created"', b'"system_fingerprint": "fp_1", "service_tier": "flex", "created"')
              for piece in CHAT.stream]  # fmt: skip
    body = {**RESPONSES.body, "service_tier": "priority"}
    with watching(metrics=CallMetrics(meters.provider)) as watch:
        for _ in CHAT.method(client_for("openai", transport(200, SSE, events)))(**CHAT.arguments, stream=True):
            pass
        client_for("openai", transport(200, JSON, [json.dumps(body).encode()])).responses.create(**RESPONSES.arguments)
        assert len(watch.records) == 2
    tier, fingerprint = "openai.response.service_tier", "openai.response.system_fingerprint"
    for name in ("duration", "usage.input_tokens", "operation.output_tokens"):
        attributes = [point.attributes for point in meters.points()[INFERENCE + name]]
        assert {(found[tier], found.get(fingerprint)) for found in attributes} == {("flex", "fp_1"), ("priority", None)}


def test_other_operations(meters: Meters) -> None:
    """Embeddings have metrics of their own; what spends no tokens has a duration only."""
    recorded = CallMetrics(meters.provider)
    recorded.record(make_trace(operation="embeddings"))
    recorded.record(make_trace(operation="fetch_response"))
    assert meters.points().keys() == {
        "gen_ai.client.embeddings.duration", "gen_ai.client.embeddings.operation.input_tokens",
        "gen_ai.client.operation.duration",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("details", "expected"),
    [
        ({}, {"unknown": 10}),
        ({"audio_input_tokens": 0}, {"unknown": 10}),
        ({"audio_input_tokens": 4}, {"audio": 4, "unknown": 6}),
        ({"audio_input_tokens": 4, "text_input_tokens": 6}, {"audio": 4, "text": 6}),
        ({"audio_input_tokens": 40}, {"unknown": 10}),
    ],
)
def test_modalities(details: dict[str, int], expected: dict[str, int], meters: Meters) -> None:
    """As far as the provider tells them apart; the sum over them is always its total."""
    usage = Usage(input_tokens=10, output_tokens=1, details=details, source="provider")
    CallMetrics(meters.provider).record(make_trace(usage=usage))
    assert meters.sums("usage.input_tokens") == expected


def test_zero_is_a_number(meters: Meters) -> None:
    """A success that took no tokens is in the distribution; what was not reported is not, nor a subset of it."""
    recorded = CallMetrics(meters.provider)
    recorded.record(make_trace(usage=Usage(input_tokens=0, cache_read_tokens=0, source="provider")))
    points = meters.points()
    assert points[INFERENCE + "operation.input_tokens"][0].count == 1
    assert INFERENCE + "operation.output_tokens" not in points
    assert meters.sums("usage.cache_read.input_tokens") == {"unknown": 0}
    assert INFERENCE + "usage.reasoning.output_tokens" not in points


def test_replaced_names_on_request(meters: Meters) -> None:
    """The metrics that the conventions had before, beside the current ones."""
    with watching(metrics=CallMetrics(meters.provider, compat="beside")) as watch:
        stream(MESSAGES)
        assert len(watch.records) == 1
    points = meters.points()
    assert {"gen_ai.client.operation.duration", "gen_ai.client.operation.time_to_first_chunk"} <= points.keys()
    tokens = {point.attributes["gen_ai.token.type"]: point.sum for point in points["gen_ai.client.token.usage"]}
    assert tokens == {"input": 32012, "output": 250}


def test_replaced_names_instead(meters: Meters) -> None:
    """Instead of the current metrics, only those that the conventions had before; embeddings had no others either."""
    recorded = CallMetrics(meters.provider, compat="instead")
    with watching(metrics=recorded, times_all_chunks=True) as watch:
        stream(MESSAGES)
        assert len(watch.records) == 1
    recorded.record(make_trace(operation="embeddings", usage=Usage(input_tokens=9, source="provider")))
    recorded.record(make_trace(operation="fetch_response"))
    points = meters.points()
    assert points.keys() == {
        "gen_ai.client.operation.duration", "gen_ai.client.operation.time_to_first_chunk",
        "gen_ai.client.operation.time_per_output_chunk", "gen_ai.client.token.usage",
    }  # fmt: skip
    operations = {point.attributes["gen_ai.operation.name"] for point in points["gen_ai.client.operation.duration"]}
    assert operations == {"chat", "embeddings", "fetch_response"}
    assert sum(point.sum for point in points["gen_ai.client.token.usage"]) == 32012 + 250 + 9


def test_nothing_without_a_provider() -> None:
    """Where nobody has set up metrics, not even an instrument is made."""
    recorded = CallMetrics()
    recorded.record(make_trace())
    assert recorded._histograms == {}
    assert recorded._counters == {}


def test_a_call_that_lost_its_payload_counts(meters: Meters) -> None:
    """Out of room, a call gives up its payload, not its numbers."""
    with watching(metrics=CallMetrics(meters.provider)) as watch:
        stream(CHAT)
        watch.pending[0].drop_payload()
        assert watch.records[0].content == "truncated"
    assert meters.sums("usage.input_tokens") == {"unknown": CHAT.input_tokens}
