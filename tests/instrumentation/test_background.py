"""Background responses: usage is counted once, however often, and from however many processes, they are fetched."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest

from interaction import Interaction, recording_ids
from llmspan.backends.memory import MemoryBackend
from llmspan.backends.sqlite import SQLiteBackend
from llmspan.metrics import CallMetrics
from llmspan.trace import ProviderTrace
from replay import Pieces, call, client_for, events_of, transport
from signals import INFERENCE, Meters
from streams import RESPONSES, sse
from watching import Watch, watching

CREATED = int(time.time()) - 3_600
COMPLETED = CREATED + 42
OUTPUT = "gen_ai.usage.output_tokens"
DONE = {**RESPONSES.body, "background": True, "created_at": CREATED, "completed_at": COMPLETED}
QUEUED = {**DONE, "status": "queued", "usage": None, "output": [], "completed_at": None}
RUNNING = {**QUEUED, "status": "in_progress"}
STREAM = [
    sse({"type": "response.created", "sequence_number": 0, "response": QUEUED}),
    sse({"type": "response.in_progress", "sequence_number": 1, "response": RUNNING}),
    *RESPONSES.stream[1:-1],
    sse({"type": "response.completed", "sequence_number": 9, "response": DONE}),
]


def server(*replies: Any) -> httpx2.MockTransport:
    """Answers with one reply after the other, bodies as JSON and lists as streams; the last one again and again."""
    waiting = list(replies)

    def answer(_: httpx2.Request) -> httpx2.Response:
        reply = waiting.pop(0) if len(waiting) > 1 else waiting[0]
        if isinstance(reply, list):
            return httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=Pieces(list(reply)))
        return httpx2.Response(200, json=reply)

    return httpx2.MockTransport(answer)


def create(client: Any, **more: Any) -> Any:
    return client.responses.create(**RESPONSES.arguments, background=True, **more)


def fetch(client: Any, **more: Any) -> Any:
    result = client.responses.retrieve("resp_1", **more)
    return list(result) if more.get("stream") else result


def usage_spans(watch: Watch) -> list[str]:
    return [span.name for span in watch.spans if OUTPUT in (span.attributes or {})]


def counted(records: Iterable[ProviderTrace]) -> list[ProviderTrace]:
    return [record for record in records if record.usage.output_tokens is not None]


def test_polling_carries_the_usage_once(watch: Watch) -> None:
    """The first fetch that finds the response over has its usage; those before and after it have none."""
    with client_for("openai", server(QUEUED, QUEUED, RUNNING, DONE, DONE)) as client:
        create(client)
        for _ in range(5):
            fetch(client)
    records = watch.records
    assert [record.usage.output_tokens for record in records] == [None, None, None, 350, None, None]
    fetched = ["fetch_response"] * 2
    assert [record.operation for record in records] == ["chat", *fetched, "chat", *fetched]
    carrier = records[3]
    assert (carrier.usage.input_tokens, carrier.usage.source, carrier.call_type) == (1200, "provider", "background")
    assert (carrier.started_at, carrier.duration_ns) == (CREATED * 10**9, 42 * 10**9)
    assert json.loads(carrier.response_json or "") == DONE
    assert records[4].usage.raw == DONE["usage"]
    assert len({record.id for record in records}) == 6


def test_one_span_of_a_process_has_the_usage(watch: Watch) -> None:
    """It is that of the fetch whose record has it, and it names that record."""
    with client_for("openai", server(QUEUED, DONE)) as client:
        create(client)
        fetch(client)
        fetch(client)
    assert usage_spans(watch) == ["fetch_response"]
    (carrier,) = counted(watch.records)
    span = watch.spans[1]
    assert (span.attributes or {})["llmspan.record.id"] == carrier.id
    assert carrier.span_id == f"{span.context.span_id:016x}"
    assert (span.attributes or {})["gen_ai.usage.input_tokens"] == 1200


@pytest.mark.anyio
async def test_polling_async(watch: Watch) -> None:
    """The async client does the same."""
    async with client_for("openai", server(QUEUED, DONE), is_async=True) as client:
        await create(client)
        for _ in range(3):
            await client.responses.retrieve("resp_1")
    assert len(counted(watch.records)) == len(usage_spans(watch)) == 1


WAYS: dict[str, Any] = {
    "fetched": lambda client: fetch(client),
    "fetched as a stream": lambda client: fetch(client, stream=True),
    "resumed": lambda client: fetch(client, stream=True, starting_after=3),
    "created as a stream": lambda client: list(create(client, stream=True)),
    "raw": lambda client: client.responses.with_raw_response.retrieve("resp_1").parse(),
    "beta": lambda client: client.beta.responses.retrieve("resp_1"),
}


def seen_by_a_process(way: str, times: int = 2) -> list[ProviderTrace]:
    """The records of a process that sees the response end in one way, several times."""
    reply = STREAM if "stream" in way or way == "resumed" else DONE
    with watching() as watch, client_for("openai", server(reply)) as client:
        for _ in range(times):
            WAYS[way](client)
        assert len(usage_spans(watch)) == 1
        return watch.records


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_see_the_end_is_the_same_record(way: str) -> None:
    """Id and time are derived from the response, in every process: stores that know one know them all."""
    (carrier,) = counted(seen_by_a_process(way))
    (other,) = counted(seen_by_a_process("fetched"))
    assert (carrier.id, carrier.started_at) == (other.id, other.started_at)
    assert (carrier.operation, carrier.call_type, carrier.response_id) == ("chat", "background", "resp_1")
    assert carrier.usage == other.usage


@pytest.mark.parametrize("kind", [MemoryBackend, SQLiteBackend])
def test_stores_count_it_once(kind: Any, tmp_path: Path) -> None:
    """However many processes deliver it, a store's sums have it once."""
    store = kind() if kind is MemoryBackend else kind(tmp_path / "x.db")
    store.open()
    for way in WAYS:
        store.write(seen_by_a_process(way))
    (row,) = store.stats([])
    assert (row.input_tokens, row.output_tokens, row.reasoning_tokens) == (1200, 350, 128)
    store.shutdown()


def test_a_stream_that_was_lost_and_resumed(watch: Watch) -> None:
    """The lost stream has no usage, the resumed one has it, and a later poll has none again."""
    broken = httpx2.Response(
        200, headers={"content-type": "text/event-stream"},
        stream=Pieces(STREAM[:4], lambda: httpx2.ReadError("connection reset")),
    )  # fmt: skip
    rest: Sequence[Any] = [httpx2.Response(200, headers=broken.headers, stream=Pieces(STREAM[4:])),
                           httpx2.Response(200, json=DONE)]  # fmt: skip
    answers = iter([broken, *rest])
    with client_for("openai", httpx2.MockTransport(lambda _: next(answers))) as client:
        with pytest.raises(openai.APIConnectionError):
            list(create(client, stream=True))
        fetch(client, stream=True, starting_after=3)
        fetch(client)
    assert [record.status for record in watch.records] == ["error", "ok", "ok"]
    assert [record.usage.output_tokens for record in watch.records] == [None, 350, None]
    assert usage_spans(watch) == ["fetch_response"]


def test_a_stream_that_its_creator_read_counts_there(watch: Watch) -> None:
    """The creating call has the usage if it saw the end, as any stream; a fetch behind it has none."""
    with client_for("openai", server(STREAM, DONE)) as client:
        list(create(client, stream=True))
        fetch(client)
    first, second = watch.records
    assert (first.usage.output_tokens, second.usage.output_tokens) == (350, None)
    assert first.time_to_first_chunk_ns is not None
    assert usage_spans(watch) == ["chat gpt-5-mini"]


def test_several_responses_are_told_apart(watch: Watch) -> None:
    """Each response has its own record."""
    with client_for("openai", server(DONE, {**DONE, "id": "resp_2"}, DONE)) as client:
        for _ in range(3):
            fetch(client)
    assert [record.usage.output_tokens for record in watch.records] == [350, 350, None]
    assert watch.records[0].id != watch.records[1].id


@pytest.mark.parametrize("more", [{"background": False}, {"background": None}, {"background": "true"}])
def test_other_responses_are_counted_by_the_call_that_made_them(more: dict[str, Any], watch: Watch) -> None:
    """A response that did not run in the background is fetched without its usage, as ever."""
    with client_for("openai", server({**DONE, **more})) as client:
        fetch(client)
    record, _ = watch.only()
    assert (record.operation, record.usage.output_tokens, record.call_type) == ("fetch_response", None, None)
    assert usage_spans(watch) == []


@pytest.mark.parametrize("status", ["failed", "incomplete", "cancelled"])
def test_every_end_counts(status: str, watch: Watch) -> None:
    """Tokens are spent by responses that fail, too."""
    with client_for("openai", server({**DONE, "status": status, "completed_at": None})) as client:
        fetch(client)
        fetch(client)
    assert [record.usage.output_tokens for record in watch.records] == [350, None]


@pytest.mark.parametrize(
    "created_at",
    [None, "soon", True, -1, 0, 1, CREATED + 10**6, float(CREATED)],
    ids=["null", "text", "true", "negative", "zero", "one", "in the future", "a float"],  # the same in every process
)
def test_a_time_that_cannot_be_read(created_at: Any, watch: Watch) -> None:
    """Without a usable time the record has that of its call; the usage is counted all the same."""
    with client_for("openai", server({**DONE, "created_at": created_at})) as client:
        client.responses.with_raw_response.retrieve("resp_1")
    (record,) = counted(watch.records)
    assert (record.started_at == CREATED * 10**9) is (created_at == float(CREATED))


def test_metrics_count_it_once(meters: Meters) -> None:
    """The tokens are in the histogram once; how long the response took is in none, as nobody waited for it."""
    with watching(metrics=CallMetrics(meters.provider)) as watch, client_for("openai", server(DONE)) as client:
        fetch(client)
        fetch(client)
        assert len(watch.records) == 2
    points = meters.points()
    assert [point.value for point in points[f"{INFERENCE}usage.output_tokens"]] == [350]
    assert f"{INFERENCE}duration" not in points


PAIRS = [
    pytest.param("responses-stream-background", "responses-stream-resumed", id="own"),
    pytest.param("responses-stream-openai-b99b529a5e", "responses-stream-openai-cba6b2bbfa", id="recorded",
                 marks=[pytest.mark.recordings, pytest.mark.skipif(not recording_ids(), reason="no recordings")]),
]  # fmt: skip


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_a_stream_and_the_stream_that_resumed_it(first: str, second: str) -> None:
    """A background stream, and the stream that resumed it, are one record."""
    ids = set()
    for name in (first, second):
        interaction = Interaction.load(name)
        mock = transport(200, interaction.response["headers"], events_of(interaction.wire))
        with watching() as watch, client_for("openai", mock) as client:
            list(call(client, interaction))
        record, _ = watch.only()
        assert record.usage.input_tokens == interaction.expect["input_tokens_total"]
        assert record.usage.output_tokens == interaction.expect["output_tokens"]
        ids.add((record.id, record.started_at))
    assert len(ids) == 1
