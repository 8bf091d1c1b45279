"""Every interaction, replayed through the real SDK with llmspan watching: one span, one exact record.

The expectations of our own interactions were worked out by hand; those of the recorded ones were computed from the raw
bodies with plain JSON parsing, without any SDK and without this project.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest
from anthropic.types import Message
from anthropic.types.beta import BetaMessage
from openai.types import Completion
from openai.types.chat import ChatCompletion
from openai.types.responses import Response
from pydantic import BaseModel, ValidationError

from closing_lines import INTERACTION
from expectations import check
from interaction import Interaction, parameters
from llmspan import _guard
from llmspan.content import ContentPolicy
from llmspan.trace import ProviderTrace
from replay import call, client_of, read, read_async, replay_sync
from watching import watching

pytestmark = [  # the SDKs' own
    pytest.mark.filterwarnings("ignore:The model '.*' is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning"),
]

#: media of any size are kept: every byte is compared
WHOLE = ContentPolicy(max_media_bytes=1 << 40)
MODELS: dict[str, type[BaseModel]] = {
    "chat_completions": ChatCompletion,
    "completions": Completion,
    "responses": Response,
    "messages": Message,
    "beta_messages": BetaMessage,
}


class Way(NamedTuple):
    """How a call is made and read: plainly, or raw and then parsed, or by its lines or bytes."""

    variant: str
    is_async: bool

    @property
    def kind(self) -> str:
        """The closing line that it counts in."""
        colour = "async" if self.is_async else "sync"
        return colour if self.variant == "plain" else f"{colour}, raw and streaming responses"

    @property
    def unread(self) -> bool:
        """Whether the SDK does not read the events."""
        return self.variant in ("lines", "bytes")


#: ``with_raw_response`` and ``.parse()``, ``with_streaming_response`` and each way of its own
RAW = ("parse", "streaming", "lines", "bytes")
WAYS = [Way(variant, is_async) for variant in ("plain", *RAW) for is_async in (False, True)]


def ways_of(name: str) -> list[Way]:
    """The ways in which an interaction is replayed."""
    # what is made by `post` has no variants
    return [way for way in WAYS if way.variant == "plain" or not name.startswith("complete-")]


def replay(interaction: Interaction, variant: str) -> None:
    """Make the call and read it to its end."""
    if variant == "plain":
        replay_sync(interaction)
        return
    with client_of(interaction) as client:
        if variant == "parse":
            read(interaction, call(client, interaction, "with_raw_response").parse())
            return
        with call(client, interaction, "with_streaming_response") as response:
            if variant == "streaming":
                read(interaction, response.parse())
            else:
                for _ in response.iter_lines() if variant == "lines" else response.iter_bytes():
                    pass


async def replay_async(interaction: Interaction, variant: str) -> None:
    """The same, async."""
    async with client_of(interaction, is_async=True) as client:
        if variant == "plain":
            await read_async(interaction, await call(client, interaction))
            return
        if variant == "parse":
            parsed = (await call(client, interaction, "with_raw_response")).parse()
            await read_async(interaction, await parsed if hasattr(parsed, "__await__") else parsed)
            return
        async with call(client, interaction, "with_streaming_response") as response:
            if variant == "streaming":
                await read_async(interaction, await response.parse())
            else:
                async for _ in response.iter_lines() if variant == "lines" else response.iter_bytes():
                    pass


def exception_of(interaction: Interaction, way: Way, runner: asyncio.Runner) -> Exception | None:
    """What the caller gets instead of a result."""
    try:
        if way.is_async:
            runner.run(replay_async(interaction, way.variant))
        else:
            replay(interaction, way.variant)
    except Exception as error:
        return error
    return None


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    """One event loop for all async calls."""
    with asyncio.Runner() as made:
        yield made


class Attempts:
    """The ways of one interaction: each is tried, whichever fail before it, and the closing lines count each."""

    def __init__(self, record_property: Callable[[str, Any], None]) -> None:
        self._record_property = record_property
        self.failures: list[Exception] = []

    @contextmanager
    def of(self, kind: str, name: str) -> Iterator[None]:
        try:
            yield
        except Exception as failure:
            failure.add_note(name)
            self.failures.append(failure)
            self._record_property(INTERACTION, (kind, False))
        else:
            self._record_property(INTERACTION, (kind, True))


@pytest.mark.parametrize("name", parameters())
def test_every_way(name: str, runner: asyncio.Runner, record_property: Callable[[str, Any], None]) -> None:
    """However a call is made and read: one span and one record, equal to what the interaction is known to hold."""
    interaction, attempts = Interaction.load(name), Attempts(record_property)
    with watching(policy=WHOLE) as watch:
        for way in ways_of(name):
            watch.clear()
            with attempts.of(way.kind, f"{way}"):
                error = exception_of(interaction, way, runner)
                check(interaction, watch, error, unread=way.unread)
                assert _guard.failures() == {}
            if way == WAYS[0] and is_stream_of_a_model(name):
                with attempts.of("reassembled", "reassembled"):
                    check_model(interaction, watch.records)
    if attempts.failures:
        raise ExceptionGroup(name, attempts.failures)


def is_stream_of_a_model(name: str) -> bool:
    """Whether what is streamed makes an object of one of the models."""
    return "-stream-" in name and name.partition("-")[0] in MODELS


def check_model(interaction: Interaction, records: list[ProviderTrace]) -> None:
    """A reassembled stream is an object of the SDK's non-streaming model, as strictly as what was sent allows."""
    expect = interaction.expect
    if not expect["is_sse"] or (expect["error"] and not expect["finish_reasons"]):
        assert expect["error"]  # there is nothing to reassemble
        return
    (record,) = records
    response = json.loads(record.response_json or "null")
    model = MODELS[interaction.prefix]
    faults = strict_faults(model, response)
    unexplained = [fault for fault in faults if not interaction.is_loose and not sent_so(fault, interaction)]
    assert unexplained == []
    lenient = model.construct(**response)  # what the SDK itself does with every response: it never validates
    assert lenient.model_dump(exclude_unset=True, warnings=False).keys() >= response.keys()


def strict_faults(model: type[BaseModel], response: Any) -> list[Any]:
    try:
        model.model_validate(response)
    except ValidationError as error:
        return list(error.errors())
    return []


def sent_so(fault: Any, interaction: Interaction) -> bool:
    """Whether strict validation stumbles over what the provider sent (or left out) rather than over our work."""
    if interaction.record_api == "responses":  # the terminal event's response is stored as it came
        terminal = [
            json.loads(line[5:]) for line in interaction.response["body"].splitlines() if line.startswith("data: {")
        ]
        whole = [event["response"] for event in terminal if "response" in event][-1]
        return any(fault["loc"] == other["loc"] for other in strict_faults(Response, whole))
    if interaction.prefix == "messages" and any(mark in interaction.response["body"] for mark in BETA_BLOCKS):
        return True  # blocks that only the beta API's model knows, in an interaction of the plain API
    if fault["type"] == "missing":
        return f'"{fault["loc"][-1]}"' not in interaction.response["body"]
    given = fault["input"]
    if fault["type"] == "literal_error" and given is None:  # a choice that never got a finish reason
        return None in interaction.expect["finish_reasons"]
    if isinstance(given, list):  # Mistral's content is a list of parts, streamed and not
        return interaction.upstream == "mistral"
    return json.dumps(given) in interaction.response["body"]


BETA_BLOCKS = ('"mcp_tool_use"', '"advisor"')
