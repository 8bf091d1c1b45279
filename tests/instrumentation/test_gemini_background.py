"""Interactions in the background: what is fetched does not say that it is one, so the calls before it tell."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gemini_server import SDK_WARNINGS, WAYS, Answer, GeminiServer, Way, client_for, event, gemini_server
from gemini_surfaces import INTERACTION, MODEL
from watching import Watch, watching

pytestmark = pytest.mark.filterwarnings(*SDK_WARNINGS)
ASKED = {"model": MODEL, "input": "hi", "background": True}
TIMES = {"created": "2026-11-01T00:00:00Z", "updated": "2026-11-01T00:01:40Z"}
DONE = {**INTERACTION, **TIMES}
RUNNING = {key: value for key, value in DONE.items() if key not in ("steps", "usage")} | {"status": "in_progress"}
CREATED = event({"event_type": "interaction.created", "interaction": RUNNING})
COMPLETED = event({"event_type": "interaction.completed", "interaction": DONE})
LEFT, WHOLE = Answer([CREATED]), Answer([CREATED, COMPLETED, b"data: [DONE]\n\n"])


@pytest.fixture(scope="module")
def running() -> Iterator[GeminiServer]:
    with gemini_server() as server:
        yield server


@pytest.fixture
def server(running: GeminiServer) -> GeminiServer:
    running.reset()
    return running


def create(client: Any, **more: Any) -> None:
    result = client.interactions.create(**ASKED | more)
    if more.get("stream"):
        list(result)


def fetch(client: Any, **more: Any) -> None:
    result = client.interactions.get(id="v1_1", **more)
    if more.get("stream"):
        list(result)


def counted(watch: Watch) -> list[Any]:
    return [record for record in watch.records if record.usage.input_tokens is not None]


@pytest.mark.parametrize("way", WAYS)
def test_polling_carries_the_usage_once(way: Way, server: GeminiServer, watch: Watch) -> None:
    """The first fetch that finds the interaction over has its usage; those before and after it have none."""
    server.answers(*map(Answer.json, (RUNNING, RUNNING, DONE, DONE)))
    client = client_for(server, way)

    async def poll() -> None:
        async with client.aio as owner:
            await owner.interactions.create(**ASKED)
            for _ in range(3):
                await owner.interactions.get(id="v1_1")

    if way == "sync":
        create(client)
        for _ in range(3):
            fetch(client)
    else:
        asyncio.run(poll())
    records = watch.records
    assert [record.usage.input_tokens for record in records] == [None, None, 4, None]
    assert [record.operation for record in records] == [
        "generate_content", "fetch_response", "generate_content", "fetch_response",
    ]  # fmt: skip
    (carrier,) = counted(watch)
    assert (carrier.usage.output_tokens, carrier.call_type, carrier.duration_ns) == (5, "background", 100 * 10**9)
    assert [span.name for span in watch.spans if "gen_ai.usage.input_tokens" in (span.attributes or {})] == [
        "fetch_response"
    ]
    assert records[3].usage.raw == DONE["usage"]


SEEN: dict[str, tuple[list[Answer], Callable[[Any], None]]] = {
    "created and polled": ([Answer.json(RUNNING), Answer.json(DONE)], lambda client: (create(client), fetch(client))),
    "polled": ([Answer.json(RUNNING), Answer.json(DONE)], lambda client: (fetch(client), fetch(client))),
    "streamed": ([WHOLE, Answer.json(DONE)], lambda client: (create(client, stream=True), fetch(client))),
    "resumed": ([LEFT, WHOLE], lambda client: (create(client, stream=True), fetch(client, stream=True))),
}


@pytest.mark.parametrize("name", SEEN)
def test_every_way_to_see_the_end_is_the_same_record(name: str, server: GeminiServer) -> None:
    """Id and time are derived from the interaction, in every process: a store has one row, however many saw it."""

    def seen(name: str) -> Any:
        answers, perform = SEEN[name]
        server.answers(*answers)
        with watching() as watch:
            perform(client_for(server))
            (carrier,) = counted(watch)
            return carrier

    carrier, other = seen(name), seen("polled")
    assert (carrier.id, carrier.started_at, carrier.usage) == (other.id, other.started_at, other.usage)
    assert (carrier.operation, carrier.call_type) == ("generate_content", "background")


def test_an_interaction_that_was_waited_for_is_counted_by_its_call(server: GeminiServer, watch: Watch) -> None:
    """A fetch of it, in this process or another, adds nothing: its numbers are in ``usage.raw`` only."""
    server.answers(Answer.json(DONE))
    client = client_for(server)
    create(client, background=False)
    fetch(client)
    client.interactions.get(id="v1_2")
    assert [record.usage.input_tokens for record in watch.records] == [4, None, None]
    assert watch.records[0].call_type is None
    assert [record.operation for record in watch.records[1:]] == ["fetch_response"] * 2


def usage(input_tokens: int, output_tokens: int) -> dict[str, int]:
    total = input_tokens + output_tokens
    return {"total_input_tokens": input_tokens, "total_output_tokens": output_tokens, "total_tokens": total}


def test_usage_of_a_stream_that_breaks_gives_way_to_that_of_its_end(server: GeminiServer, watch: Watch) -> None:
    """A background stream that reports usage from its first event on is counted once, when it is resumed."""
    created = {"event_type": "interaction.created", "event_id": "e1", "interaction": RUNNING}
    completed = {"event_type": "interaction.completed", "interaction": DONE | {"usage": usage(11, 5000)}}
    broken = event(created | {"metadata": {"usage": usage(11, 0)}})
    server.answers(Answer([broken]), Answer([event(completed), b"data: [DONE]\n\n"]))
    client = client_for(server)
    create(client, stream=True)
    fetch(client, stream=True, last_event_id="e1")
    (carrier,) = counted(watch)
    assert (carrier.usage.input_tokens, carrier.usage.output_tokens) == (11, 5000)
    assert (carrier.usage.source, carrier.call_type) == ("provider", "background")
    assert watch.records[0].usage.raw == usage(11, 0)


def test_usage_of_zero_gives_way_to_that_of_the_end(server: GeminiServer, watch: Watch) -> None:
    """The first of two fetches that find the interaction over has its usage."""
    done = DONE | {"usage": usage(10, 5000)}
    server.answers(*map(Answer.json, (RUNNING | {"usage": usage(0, 0)}, done, done)))
    client = client_for(server)
    create(client)
    fetch(client)
    fetch(client)
    assert [record.usage.output_tokens for record in watch.records] == [None, 5000, None]
    assert [record.usage.source for record in watch.records] == ["none", "provider", "none"]


def test_a_stream_that_was_waited_for_keeps_what_it_reported(server: GeminiServer, watch: Watch) -> None:
    """Its usage until it broke is a lower bound."""
    created = {"event_type": "interaction.created", "interaction": RUNNING, "metadata": {"usage": usage(11, 0)}}
    server.answers(Answer([event(created)]))
    create(client_for(server), stream=True, background=False)
    (record,) = watch.records
    assert (record.usage.input_tokens, record.usage.source) == (11, "partial")
